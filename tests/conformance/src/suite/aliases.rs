//! Topic aliases: MQTT 5.0 section 3.3.2.3.4.

use tidegate_tests::wire::{Client, Property, Publish};

use super::kit::{alias_maximum, publish, subscribe};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_3_2_7_the_servers_memory_of_aliases_ends_with_the_connection)
        .mqtt5(&["3.3.2-7"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_3_2_7_a_servers_own_aliases_begin_anew_with_each_connection)
        .mqtt5(&["3.3.2-7"])
        .interplay("aliases across resume")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"resumed")
                .altered("an alias alone for its topic", |frame| {
                    frame.remove_property(0x23);
                    frame.add_property(&Property::TopicAlias(1));
                    frame.set_topic("");
                }),
        ),
    test!(mqtt5_3_3_2_8_a_server_does_not_use_alias_0)
        .mqtt5(&["3.3.2-8"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"again")
                .altered("alias 0", |frame| {
                    frame.remove_property(0x23);
                    frame.add_property(&Property::TopicAlias(0));
                }),
        ),
    test!(mqtt5_3_3_2_8_alias_0_ends_the_connection)
        .mqtt5(&["3.3.2-8", "4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_3_2_11_a_server_keeps_to_the_clients_maximum_and_to_its_topics)
        .mqtt5(&["3.3.2-11", "3.1.2-26"])
        .fault(Fault::server(packet::PUBLISH).nth(2).altered(
            "an alias above the maximum",
            |frame| {
                frame.remove_property(0x23);
                frame.add_property(&Property::TopicAlias(4));
            },
        )),
    test!(mqtt5_3_3_2_11_a_client_without_a_maximum_is_sent_no_alias)
        .mqtt5(&["3.3.2-11", "3.1.2-27"])
        .fault(Fault::server(packet::PUBLISH).altered("an alias", |frame| {
            frame.add_property(&Property::TopicAlias(1));
        })),
    test!(mqtt5_3_3_2_12_every_alias_up_to_the_maximum_is_accepted)
        .mqtt5(&["3.3.2-12"])
        .fault(
            Fault::client(packet::PUBLISH).altered("an alias above the maximum", |frame| {
                frame.set_property(&Property::TopicAlias(u16::MAX));
            }),
        ),
    test!(mqtt5_3_3_2_12_an_alias_stands_for_the_topic_that_it_was_last_set_to)
        .mqtt5(&["3.3.2-12"])
        .regression(&["topic alias reused for another topic"])
        .fault(
            Fault::client(packet::PUBLISH)
                .only(|frame| frame.payload() == b"sets 1 anew")
                .altered("no alias", |frame| frame.remove_property(0x23)),
        ),
    test!(mqtt5_3_3_2_an_alias_above_the_maximum_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_3_2_an_alias_that_was_never_set_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
];

fn aliased(topic: &str, text: &str, alias: u16) -> Publish {
    let message = Publish::new(topic, text).qos(1);
    message.with(Property::TopicAlias(alias))
}

/// Ends a test that needs aliases where the server accepts none.
#[track_caller]
fn needs_aliases(case: &Case, client: &Client) -> u16 {
    match alias_maximum(client) {
        0 => case.does_not_apply("the server announces no Topic Alias Maximum"),
        maximum => maximum,
    }
}

fn mqtt5_3_3_2_7_the_servers_memory_of_aliases_ends_with_the_connection(case: &Case) {
    let topic = case.topic("forgets");
    let connect = case.lasting("forgets");
    let mut client = case.open(&connect);
    needs_aliases(case, &client);
    publish(&mut client, &aliased(&topic, "sets", 1));
    publish(&mut client, &aliased("", "uses", 1));
    // Not by DISCONNECT: this has to be well where the server's closing is not seen.
    client.vanish();
    let mut client = case.open(&connect);
    client.send_publish(&aliased("", "of another connection", 1).id(9));
    client.expect_error();
}

fn mqtt5_3_3_2_7_a_servers_own_aliases_begin_anew_with_each_connection(case: &Case) {
    let topic = case.topic("anew");
    let connect = case.lasting("anew").with(Property::TopicAliasMaximum(5));
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("anew");
    for text in ["first", "second"] {
        publish(&mut sender, &Publish::new(&topic, text).qos(1));
        receiver.receive();
    }
    receiver.disconnect();
    publish(&mut sender, &Publish::new(&topic, "resumed").qos(1));
    let message = case.open(&connect).receive();
    assert_eq!(
        message.topic, topic,
        "the first message of a connection has its topic's name"
    );
}

fn mqtt5_3_3_2_8_a_server_does_not_use_alias_0(case: &Case) {
    let topic = case.topic("zero");
    let connect = case.connect("zero").with(Property::TopicAliasMaximum(5));
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("zero");
    for text in ["once", "again", "and again"] {
        publish(&mut sender, &Publish::new(&topic, text).qos(1));
        assert_ne!(receiver.receive().alias(), Some(0));
    }
}

fn mqtt5_3_3_2_8_alias_0_ends_the_connection(case: &Case) {
    let mut client = case.client("zero");
    client.send_publish(&aliased(&case.topic("zero"), "x", 0).id(1));
    client.expect_error();
}

fn mqtt5_3_3_2_11_a_server_keeps_to_the_clients_maximum_and_to_its_topics(case: &Case) {
    let root = case.topic("outbound");
    let connect = case.connect("outbound");
    let mut receiver = case.open(&connect.with(Property::TopicAliasMaximum(3)));
    subscribe(case, &mut receiver, &format!("{root}/#"), 1);
    let mut sender = case.client("outbound");
    let mut aliases = vec![None; 4];
    for number in 0..60 {
        // Two topics come often, ten come now and then.
        let leaf = if number % 3 == 0 {
            number % 10 + 2
        } else {
            number % 2
        };
        let topic = format!("{root}/{leaf}");
        publish(&mut sender, &Publish::new(&topic, &topic).qos(1));
        let message = receiver.receive();
        let alias = message.alias();
        assert!(alias.unwrap_or(1) <= 3, "above the maximum: {message:?}");
        let meant = match (message.topic.as_str(), alias) {
            ("", alias) => aliases[usize::from(alias.unwrap_or(0))].clone(),
            (topic, None) => Some(topic.to_owned()),
            (topic, Some(alias)) => {
                aliases[usize::from(alias)] = Some(topic.to_owned());
                Some(topic.to_owned())
            }
        };
        assert_eq!(meant.as_deref(), Some(topic.as_str()), "{message:?}");
    }
}

fn mqtt5_3_3_2_11_a_client_without_a_maximum_is_sent_no_alias(case: &Case) {
    let topic = case.topic("none");
    for connect in [
        case.connect("none"),
        case.connect("none").with(Property::TopicAliasMaximum(0)),
    ] {
        let mut client = case.open(&connect);
        subscribe(case, &mut client, &topic, 1);
        for _ in 0..3 {
            publish(&mut client, &Publish::new(&topic, "x").qos(1));
            assert_eq!(client.receive().alias(), None);
        }
    }
}

fn mqtt5_3_3_2_12_every_alias_up_to_the_maximum_is_accepted(case: &Case) {
    let root = case.topic("every");
    let mut receiver = case.client("every");
    subscribe(case, &mut receiver, &format!("{root}/#"), 1);
    let mut sender = case.client("every");
    let maximum = needs_aliases(case, &sender);
    // All of them while they are few; of many the ends and some between.
    let aliases: Vec<u16> = match maximum {
        ..=64 => (1..=maximum).collect(),
        _ => vec![1, 2, 63, 64, maximum / 2, maximum - 1, maximum],
    };
    for alias in &aliases {
        let topic = format!("{root}/{alias}");
        publish(&mut sender, &aliased(&topic, &topic, *alias));
        assert_eq!(receiver.receive().topic, topic);
    }
    for alias in &aliases {
        let topic = format!("{root}/{alias}");
        publish(&mut sender, &aliased("", &topic, *alias));
        assert_eq!(receiver.receive().topic, topic, "alias {alias}");
    }
}

fn mqtt5_3_3_2_12_an_alias_stands_for_the_topic_that_it_was_last_set_to(case: &Case) {
    let root = case.topic("reset");
    let (first, second) = (format!("{root}/1"), format!("{root}/2"));
    let mut receiver = case.client("reset");
    subscribe(case, &mut receiver, &first, 1);
    subscribe(case, &mut receiver, &second, 1);
    let mut sender = case.client("reset");
    needs_aliases(case, &sender);
    for (topic, text, meant) in [
        (first.as_str(), "sets 1", &first),
        ("", "uses 1", &first),
        (&second, "sets 1 anew", &second),
        ("", "uses 1 anew", &second),
        (&first, "sets 1 back", &first),
        ("", "uses 1 again", &first),
    ] {
        publish(&mut sender, &aliased(topic, text, 1));
        let message = receiver.receive();
        assert_eq!((message.text().as_str(), &message.topic), (text, meant));
    }
}

fn mqtt5_3_3_2_an_alias_above_the_maximum_ends_the_connection(case: &Case) {
    let mut client = case.client("above");
    let maximum = alias_maximum(&client);
    let Some(above) = maximum.checked_add(1) else {
        case.does_not_apply("the server accepts every alias there is");
    };
    client.send_publish(&aliased(&case.topic("above"), "x", above).id(1));
    client.expect_error();
}

fn mqtt5_3_3_2_an_alias_that_was_never_set_ends_the_connection(case: &Case) {
    let mut client = case.client("unset");
    client.send_publish(&aliased("", "x", 1).id(1));
    client.expect_error();
}

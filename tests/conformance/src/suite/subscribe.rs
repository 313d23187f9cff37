//! SUBSCRIBE and SUBACK: MQTT 3.1.1 and 5.0 sections 3.8 and 3.9; overlapping subscriptions (5.0
//! section 3.3.4, 3.1.1 section 3.3.5).

use tidegate_tests::wire::{
    Connect, Event, Packet, Property, Publish, Subscribe, Version, frame, options, patience,
};

use super::kit::{
    Retained, granted, needs_qos, needs_shared, needs_wildcards, nothing_before, publish, speaks,
    subscribe, subscribe_as, until, window,
};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

/// Reason codes of SUBACK in MQTT 5 (table 3-8), and before it (3.1.1 section 3.9.3).
const CODES: &[u8] = &[
    0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
];
const CODES_OF_3: &[u8] = &[0, 1, 2, 0x80];

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_8_1_1_other_flags_of_subscribe_end_the_connection)
        .mqtt3(&["3.8.1-1"])
        .mqtt5(&["3.8.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_8_3_1_a_filter_that_is_not_utf_8_ends_the_connection)
        .mqtt3(&["3.8.3-1"])
        .mqtt5(&["3.8.3-1"])
        .fault(Fault::never_closes()),
    test!(mqtt3_3_8_3_2_a_filter_with_a_wildcard_is_refused_or_works)
        .mqtt3(&["3.8.3-2"])
        .level3("A filter with a wildcard is refused or works.")
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt_3_8_3_2_a_subscribe_without_a_filter_ends_the_connection)
        .mqtt3(&["3.8.3-3"])
        .mqtt5(&["3.8.3-2"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_8_3_3_no_local_keeps_a_clients_own_messages_from_it)
        .mqtt5(&["3.8.3-3"])
        .fault(
            Fault::client(packet::SUBSCRIBE)
                .nth(1)
                .altered("no No Local", |frame| {
                    if let Some(options) = frame.body.last_mut() {
                        *options &= !options::NO_LOCAL;
                    }
                }),
        ),
    test!(mqtt5_3_8_3_3_no_local_goes_by_client_identifier)
        .mqtt5(&["3.8.3-3"])
        .fault(
            Fault::client(packet::SUBSCRIBE)
                .nth(1)
                .altered("no No Local", |frame| {
                    if let Some(options) = frame.body.last_mut() {
                        *options &= !options::NO_LOCAL;
                    }
                }),
        ),
    test!(mqtt5_3_8_3_4_no_local_on_a_shared_subscription_ends_the_connection)
        .mqtt5(&["3.8.3-4"])
        .interplay("$share with No Local")
        .fault(Fault::never_closes()),
    test!(mqtt_3_8_3_5_reserved_bits_of_the_options_end_the_connection)
        .mqtt3(&["3.8.3-4"])
        .mqtt5(&["3.8.3-5"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_8_3_qos_3_in_the_options_ends_the_connection)
        .mqtt3(&["3.8.3-4"])
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_8_3_1_retain_handling_3_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_8_4_1_subscribe_is_answered_with_a_suback_of_its_identifier)
        .mqtt3(&["3.8.4-1", "3.8.4-2"])
        .mqtt5(&["3.8.4-1", "3.8.4-2"])
        .level3("SUBSCRIBE is answered with a SUBACK of its identifier.")
        .fault(
            Fault::server(packet::SUBACK).altered("another identifier", |frame| {
                frame.set_id(frame.id() ^ 0x4000);
            }),
        ),
    test!(mqtt_3_8_4_3_a_second_subscription_replaces_the_first)
        .mqtt3(&["3.8.4-3"])
        .mqtt5(&["3.8.4-3"])
        .level3("A second subscription to a filter replaces the first.")
        .fault(
            Fault::server(packet::PUBLISH)
                .nth(1)
                .altered("the QoS of the first", |frame| frame.set_qos(1)),
        ),
    test!(mqtt5_3_8_4_3_a_second_subscription_has_its_own_identifier)
        .mqtt5(&["3.8.4-3"])
        .fault(Fault::client(packet::SUBSCRIBE).nth(2).altered(
            "the identifier of the first",
            |frame| {
                frame.set_property(&Property::SubscriptionId(1));
            },
        )),
    test!(mqtt5_3_8_4_3_a_second_subscription_has_its_own_options)
        .mqtt5(&["3.8.4-3"])
        .fault(Fault::client(packet::SUBSCRIBE).nth(2).altered(
            "the options of the first",
            |frame| {
                if let Some(options) = frame.body.last_mut() {
                    *options |= options::NO_LOCAL;
                }
            },
        )),
    test!(mqtt_3_8_4_4_replacing_brings_the_retained_message_again)
        .mqtt3(&["3.8.4-3"])
        .mqtt5(&["3.8.4-4", "3.3.1-9"])
        .level3("A second subscription brings the retained message again.")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt_3_8_4_4_replacing_loses_no_message)
        .mqtt3(&["3.8.4-3"])
        .mqtt5(&["3.8.4-4"])
        .level3("Replacing a subscription loses no message.")
        .fault(Fault::server(packet::PUBLISH).nth(40)),
    test!(mqtt_3_8_4_5_each_filter_of_a_subscribe_is_a_subscription)
        .mqtt3(&["3.8.4-4"])
        .mqtt5(&["3.8.4-5"])
        .level3("Each filter of a SUBSCRIBE is a subscription, with one SUBACK for all.")
        .fault(Fault::server(packet::PUBLISH).nth(3)),
    test!(mqtt_3_8_4_6_each_filter_has_a_code)
        .mqtt3(&["3.8.4-5"])
        .mqtt5(&["3.8.4-6", "3.8.4-7"])
        .level3("Each filter has a code.")
        .fault(
            Fault::server(packet::SUBACK).altered("a code less", |frame| {
                frame.body.pop();
            }),
        ),
    test!(mqtt_3_8_4_8_the_lower_qos_of_published_and_granted_holds)
        .mqtt3(&["3.8.4-6"])
        .mqtt5(&["3.8.4-8"])
        .level3("The lower QoS of published and granted holds.")
        .regression(&["delivered QoS higher than published"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"1 for 2")
                .altered("the QoS granted", |frame| frame.set_qos(2)),
        ),
    test!(mqtt_3_8_4_8_versions_agree_on_the_delivered_qos)
        .at(&Version::ALL)
        .interplay("publishers and subscribers of different versions")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"2 for 1")
                .altered("another QoS", |frame| frame.set_qos(0)),
        ),
    test!(mqtt_3_9_3_1_the_codes_are_in_the_order_of_the_filters)
        .mqtt3(&["3.9.3-1"])
        .mqtt5(&["3.9.3-1"])
        .level3("The codes of SUBACK are in the order of the filters.")
        .fault(
            Fault::server(packet::SUBACK).altered("the codes turned round", |frame| {
                let codes: Vec<u8> = frame.payload().iter().rev().copied().collect();
                frame.set_codes(&codes);
            }),
        ),
    test!(mqtt_3_9_3_2_each_code_is_one_of_the_list)
        .mqtt3(&["3.9.3-2"])
        .mqtt5(&["3.9.3-2"])
        .fault(
            Fault::server(packet::SUBACK)
                .nth(1)
                .altered("a code that is reserved", |frame| {
                    frame.set_codes(&[3, 3, 3]);
                }),
        ),
    test!(mqtt_3_3_4_2_overlapping_subscriptions_deliver_at_the_highest_qos)
        .mqtt3(&["3.3.5-1"])
        .mqtt5(&["3.3.4-2"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"x")
                .altered("the lowest QoS", |frame| frame.set_qos(0)),
        ),
    test!(mqtt5_3_3_4_3_each_matching_subscription_is_named_by_its_identifier)
        .mqtt5(&["3.3.4-3", "3.3.4-4", "3.3.4-5"])
        .regression(&["three subscription identifiers in one PUBLISH"])
        .fault(
            Fault::server(packet::PUBLISH).altered("one identifier for all", |frame| {
                frame.remove_property(0x0B);
                frame.add_property(&Property::SubscriptionId(1));
            }),
        ),
    test!(mqtt5_3_3_4_5_a_subscription_without_an_identifier_names_none)
        .mqtt5(&["3.3.4-3"])
        .fault(Fault::server(packet::PUBLISH).altered(
            "an identifier that was not given",
            |frame| {
                frame.add_property(&Property::SubscriptionId(9));
            },
        )),
    test!(mqtt5_3_8_2_1_2_subscription_identifier_0_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
];

/// The bytes of a SUBSCRIBE to one filter.
fn bytes(case: &Case, first: u8, filter: &[u8], options: u8) -> Vec<u8> {
    let mut body = vec![0, 9];
    if case.is_v5() {
        body.push(0);
    }
    body.extend_from_slice(&(filter.len() as u16).to_be_bytes());
    body.extend_from_slice(filter);
    body.push(options);
    frame(first, &body)
}

fn mqtt_3_8_1_1_other_flags_of_subscribe_end_the_connection(case: &Case) {
    let topic = case.topic("flags");
    for flags in [0, 1, 3, 8, 15] {
        let mut client = case.client("flags");
        client.send(&bytes(case, packet::SUBSCRIBE | flags, topic.as_bytes(), 0));
        client.expect_error();
    }
}

fn mqtt_3_8_3_1_a_filter_that_is_not_utf_8_ends_the_connection(case: &Case) {
    let mut client = case.client("bytes");
    client.send(&bytes(case, 0x82, &[0xC3, 0x28], 0));
    client.expect_error();
}

fn mqtt3_3_8_3_2_a_filter_with_a_wildcard_is_refused_or_works(case: &Case) {
    let root = case.topic("wild");
    let mut granted = false;
    for filter in ["+", "#", "+/b", "a/#"] {
        let mut client = case.client("wild");
        let filter = format!("{root}/{filter}");
        let answer = client.subscribe_with(&[(&filter, 1)], &[]);
        assert_eq!(answer.codes.len(), 1);
        if answer.codes[0] == 0x80 {
            continue;
        }
        granted = true;
        let topic = filter.replace('+', "a").replace('#', "b");
        publish(&mut client, &Publish::new(&topic, "x").qos(1));
        assert_eq!(client.receive().topic, topic, "{filter} was granted");
    }
    if granted && case.version() == Version::V311 {
        case.does_not_apply("the server has filters with wildcards");
    }
}

fn mqtt_3_8_3_2_a_subscribe_without_a_filter_ends_the_connection(case: &Case) {
    let mut client = case.client("empty");
    let body: &[u8] = if case.is_v5() { &[0, 9, 0] } else { &[0, 9] };
    client.send(&frame(0x82, body));
    client.expect_error();
}

fn mqtt5_3_8_3_3_no_local_keeps_a_clients_own_messages_from_it(case: &Case) {
    let topic = case.topic("local");
    let (mut own, mut other) = (case.client("own"), case.client("other"));
    subscribe(case, &mut own, &topic, 1 | options::NO_LOCAL);
    publish(&mut own, &Publish::new(&topic, "own").qos(1));
    publish(&mut other, &Publish::new(&topic, "foreign").qos(1));
    nothing_before(&mut own, "foreign");
}

fn mqtt5_3_8_3_3_no_local_goes_by_client_identifier(case: &Case) {
    let topic = case.topic("again");
    let connect = case.lasting("again");
    let mut first = case.open(&connect);
    subscribe(case, &mut first, &topic, 1 | options::NO_LOCAL);
    first.disconnect();
    // Another connection of the same client.
    let mut second = case.open(&connect);
    publish(&mut second, &Publish::new(&topic, "own").qos(1));
    publish(&mut case.client("end"), &Publish::new(&topic, "end").qos(1));
    nothing_before(&mut second, "end");
}

fn mqtt5_3_8_3_4_no_local_on_a_shared_subscription_ends_the_connection(case: &Case) {
    let mut client = case.client("shared");
    needs_shared(case, &client);
    let filter = format!("$share/group/{}", case.topic("shared"));
    client.send(&bytes(case, 0x82, filter.as_bytes(), 1 | options::NO_LOCAL));
    client.expect_error();
}

fn mqtt_3_8_3_5_reserved_bits_of_the_options_end_the_connection(case: &Case) {
    let topic = case.topic("bits");
    // MQTT 5 gave a meaning to four of them.
    let bits: &[u8] = if case.is_v5() {
        &[0x40, 0x80]
    } else {
        &[0x04, 0x08, 0x10, 0x20, 0x40, 0x80]
    };
    for bit in bits {
        let mut client = case.client("bits");
        client.send(&bytes(case, 0x82, topic.as_bytes(), 1 | bit));
        client.expect_error();
    }
}

fn mqtt_3_8_3_qos_3_in_the_options_ends_the_connection(case: &Case) {
    let mut client = case.client("three");
    client.send(&bytes(case, 0x82, case.topic("three").as_bytes(), 3));
    client.expect_error();
}

fn mqtt5_3_8_3_1_retain_handling_3_ends_the_connection(case: &Case) {
    let mut client = case.client("handling");
    client.send(&bytes(case, 0x82, case.topic("handling").as_bytes(), 0x30));
    client.expect_error();
}

fn mqtt_3_8_4_1_subscribe_is_answered_with_a_suback_of_its_identifier(case: &Case) {
    let mut client = case.client("answers");
    for id in [1, 255, 256, 65_535] {
        let packet = Subscribe {
            id,
            properties: Vec::new(),
            filters: vec![(case.topic("answers"), 0)],
        };
        client.send(&packet.encode(case.version()));
        let answered = client.expect("SUBACK", |packet| match packet {
            Packet::SubAck(answer) => Some(answer.id),
            _ => None,
        });
        assert_eq!(answered, id);
    }
}

fn mqtt_3_8_4_3_a_second_subscription_replaces_the_first(case: &Case) {
    let topic = case.topic("replace");
    let mut client = case.client("replace");
    subscribe(case, &mut client, &topic, 1);
    subscribe(case, &mut client, &topic, 0);
    publish(&mut client, &Publish::new(&topic, "x").qos(1));
    assert_eq!(client.receive().qos, 0, "the second one granted QoS 0");
    subscribe(case, &mut client, &topic, 1);
    publish(&mut client, &Publish::new(&topic, "end").qos(1));
    // Two subscriptions might have brought it twice.
    nothing_before(&mut client, "end");
}

fn mqtt5_3_8_4_3_a_second_subscription_has_its_own_identifier(case: &Case) {
    let topic = case.topic("replace");
    let mut client = case.client("replace");
    subscribe_as(case, &mut client, &topic, 1, 1);
    subscribe_as(case, &mut client, &topic, 1, 2);
    publish(&mut client, &Publish::new(&topic, "x").qos(1));
    assert_eq!(client.receive().subscription_ids(), [2]);
    subscribe(case, &mut client, &topic, 1);
    publish(&mut client, &Publish::new(&topic, "x").qos(1));
    assert_eq!(client.receive().subscription_ids(), [0; 0]);
}

fn mqtt5_3_8_4_3_a_second_subscription_has_its_own_options(case: &Case) {
    let topic = case.topic("options");
    let mut client = case.client("options");
    let first = options::NO_LOCAL | options::RETAIN_AS_PUBLISHED;
    subscribe(case, &mut client, &topic, 1 | first);
    subscribe(case, &mut client, &topic, 1);
    publish(&mut client, &Publish::new(&topic, "own").qos(1));
    assert_eq!(client.receive().text(), "own");
}

fn mqtt_3_8_4_4_replacing_brings_the_retained_message_again(case: &Case) {
    let topic = case.topic("again");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut client = case.client("again");
    for _ in 0..2 {
        subscribe(case, &mut client, &topic, 1);
        let message = client.receive();
        assert_eq!((message.text().as_str(), message.retain), ("kept", true));
    }
}

fn mqtt_3_8_4_4_replacing_loses_no_message(case: &Case) {
    let topic = case.topic("stream");
    let mut receiver = case.client("stream");
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("stream");
    // The subscription is replaced again and again while messages stream in.
    let ids: Vec<u16> = (1..=100).collect();
    let together = window(&sender, 100);
    let mut came = Vec::new();
    for batch in ids.chunks(usize::from(together)) {
        let mut bytes = Vec::new();
        for id in batch {
            let message = Publish::new(&topic, id.to_string()).qos(1).id(*id);
            bytes.extend(message.encode(case.version()));
        }
        sender.send(&bytes);
        for part in batch.chunks(10) {
            subscribe(case, &mut receiver, &topic, 1);
            came.extend(receiver.receive_texts(part.len()));
        }
        batch.iter().for_each(|id| drop(sender.await_puback(*id)));
    }
    let expected: Vec<String> = ids.iter().map(u16::to_string).collect();
    assert_eq!(came, expected);
}

fn mqtt_3_8_4_5_each_filter_of_a_subscribe_is_a_subscription(case: &Case) {
    let root = case.topic("many");
    let topics = ["a", "b", "c"].map(|leaf| format!("{root}/{leaf}"));
    let filters = [0, 1, 2].map(|index| (topics[index].as_str(), index as u8));
    let mut client = case.client("many");
    let answer = client.subscribe_with(&filters, &[]);
    granted(case, &answer, &[0, 1, 2]);
    for (topic, qos) in filters {
        publish(&mut client, &Publish::new(topic, topic).qos(2));
        let message = client.receive();
        assert_eq!((message.topic.as_str(), message.qos), (topic, qos));
    }
    client.expect_nothing();
}

fn mqtt_3_8_4_6_each_filter_has_a_code(case: &Case) {
    let root = case.topic("codes");
    let topics: Vec<String> = (0..10).map(|leaf| format!("{root}/{leaf}")).collect();
    for count in [1, 2, 10] {
        let filters: Vec<(&str, u8)> = (0..count)
            .map(|index: usize| (topics[index].as_str(), (index % 3) as u8))
            .collect();
        let answer = case.client("codes").subscribe_with(&filters, &[]);
        assert_eq!(answer.codes.len(), count, "{answer:?}");
        for (code, (_, asked)) in answer.codes.iter().zip(filters) {
            assert!(*code <= asked || *code >= 0x80, "QoS {asked}: {code:#04x}");
        }
    }
}

/// Each QoS published and granted, from one version to another.
#[track_caller]
fn lower(case: &Case, from: Version, to: Version) {
    let mut sender = case.open(&Connect::new(from, &case.topic("from")));
    let mut receiver = case.open(&Connect::new(to, &case.topic("to")));
    needs_qos(case, &sender, 2);
    for granted in 0..=2 {
        let topic = case.topic("lower");
        subscribe(case, &mut receiver, &topic, granted);
        for published in 0..=2 {
            let text = format!("{published} for {granted}");
            publish(&mut sender, &Publish::new(&topic, &text).qos(published));
            let message = receiver.receive();
            assert_eq!(message.text(), text);
            assert_eq!(message.qos, published.min(granted), "published {text}");
        }
    }
}

fn mqtt_3_8_4_8_the_lower_qos_of_published_and_granted_holds(case: &Case) {
    lower(case, case.version(), case.version());
}

fn mqtt_3_8_4_8_versions_agree_on_the_delivered_qos(case: &Case) {
    let mut others = Version::ALL.to_vec();
    others.retain(|other| *other != case.version() && speaks(case, *other));
    if others.is_empty() {
        case.does_not_apply("the server speaks no other version");
    }
    for other in others {
        lower(case, case.version(), other);
    }
}

fn mqtt_3_9_3_1_the_codes_are_in_the_order_of_the_filters(case: &Case) {
    let root = case.topic("order");
    let topics = ["a", "b", "c"].map(|leaf| format!("{root}/{leaf}"));
    let filters = [(0, 2), (1, 0), (2, 1)].map(|(index, qos)| (topics[index].as_str(), qos));
    let mut client = case.client("order");
    // A server may grant less than was asked for, but 0 is 0.
    let most = client.subscribe_with(&[(&root, 2)], &[]).codes[0];
    assert!(most <= 2, "{most:#04x}");
    let answer = client.subscribe_with(&filters, &[]);
    assert_eq!(answer.codes, [2, 0, 1].map(|asked: u8| asked.min(most)));
}

fn mqtt_3_9_3_2_each_code_is_one_of_the_list(case: &Case) {
    let list = if case.is_v5() { CODES } else { CODES_OF_3 };
    let root = case.topic("codes");
    let topics = ["a", "b", "c"].map(|leaf| format!("{root}/{leaf}"));
    let filters = [0, 1, 2].map(|index| (topics[index].as_str(), index as u8));
    let answer = case.client("codes").subscribe_with(&filters, &[]);
    assert!(
        answer.codes.iter().all(|code| list.contains(code)),
        "{answer:?}"
    );
    // One that a server may well refuse: deeper than any use of it, and no shared subscription.
    let deep = vec!["d"; 300].join("/");
    for filter in [deep.as_str(), "$share//no-group"] {
        let mut client = case.client("codes");
        client.send(&bytes(case, 0x82, filter.as_bytes(), 1));
        if let Event::Packet(Packet::SubAck(answer)) = client.next(patience()) {
            assert!(list.contains(&answer.codes[0]), "{filter}: {answer:?}");
        }
    }
}

fn mqtt_3_3_4_2_overlapping_subscriptions_deliver_at_the_highest_qos(case: &Case) {
    let root = case.topic("overlap");
    let mut client = case.client("overlap");
    needs_wildcards(case, &client);
    for (filter, qos) in [("/a", 0), ("/#", 2), ("/+", 1)] {
        subscribe(case, &mut client, &format!("{root}{filter}"), qos);
    }
    let topic = format!("{root}/a");
    publish(&mut client, &Publish::new(&topic, "x").qos(2));
    publish(&mut client, &Publish::new(&topic, "end").qos(2));
    // One copy at the highest QoS; further ones at most one for each of the other subscriptions. Order
    // is promised for each QoS only, so what follows the first end counts, too.
    let mut copies: Vec<Publish> = until(&mut client, "end");
    for packet in client.fence() {
        if let Packet::Publish(message) = packet {
            client.acknowledge(&message);
            copies.push(message);
        }
    }
    copies.retain(|message| message.text() == "x");
    let mut copies: Vec<u8> = copies.iter().map(|message| message.qos).collect();
    copies.sort_unstable();
    assert_eq!(copies.last(), Some(&2), "the QoS of each copy: {copies:?}");
    let mut rest = [0, 1].iter();
    let others = &copies[..copies.len() - 1];
    assert!(
        others.iter().all(|qos| rest.any(|granted| granted == qos)),
        "a copy too many: {copies:?}"
    );
}

fn mqtt5_3_3_4_3_each_matching_subscription_is_named_by_its_identifier(case: &Case) {
    let root = case.topic("ids");
    let mut client = case.client("ids");
    needs_wildcards(case, &client);
    // One byte, two, three and four on the wire.
    let ids = [1, 128, 16_384, 268_435_455];
    for (filter, id) in ["/a", "/+", "/#", "/a/#"].into_iter().zip(ids) {
        subscribe_as(case, &mut client, &format!("{root}{filter}"), 1, id);
    }
    // One that matches and has none, one that does not match.
    subscribe(case, &mut client, &format!("{root}/+/#"), 1);
    subscribe_as(case, &mut client, &format!("{root}/b"), 1, 7);
    let topic = format!("{root}/a");
    for text in ["x", "end"] {
        publish(&mut client, &Publish::new(&topic, text).qos(1));
    }
    // A single copy names them all; of several each names its own.
    let messages = until(&mut client, "end");
    if messages.len() > 1 {
        assert!(
            messages
                .iter()
                .all(|message| message.subscription_ids().len() <= 1),
            "{messages:?}"
        );
    }
    let mut named: Vec<u32> = messages
        .iter()
        .flat_map(Publish::subscription_ids)
        .collect();
    named.sort_unstable();
    assert_eq!(named, ids, "{messages:?}");
}

fn mqtt5_3_3_4_5_a_subscription_without_an_identifier_names_none(case: &Case) {
    let topic = case.topic("none");
    let mut client = case.client("none");
    subscribe(case, &mut client, &topic, 1);
    subscribe_as(case, &mut client, &case.topic("other"), 1, 5);
    publish(&mut client, &Publish::new(&topic, "x").qos(1));
    assert_eq!(client.receive().subscription_ids(), [0; 0]);
}

fn mqtt5_3_8_2_1_2_subscription_identifier_0_ends_the_connection(case: &Case) {
    let mut client = case.client("zero");
    let topic = case.topic("zero");
    let mut body = vec![0, 9, 2, 0x0B, 0, 0, topic.len() as u8];
    body.extend_from_slice(topic.as_bytes());
    body.push(0);
    client.send(&frame(0x82, &body));
    client.expect_error();
}

//! Retained messages: MQTT 3.1.1 and 5.0 section 3.3.1.3.

use std::thread;

use tidegate_tests::wire::{Client, Connect, Property, Publish, Version, options};

use super::kit::{
    Retained, needs_retained, needs_wildcards, nothing_before, number, publish, resumed, speaks,
    subscribe, subscribe_as,
};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::frame::Frame;
use crate::test::{Test, test};

/// RETAIN cleared.
const CLEARED: fn(&mut Frame) = |frame| frame.first &= !1;

/// RETAIN set.
const SET: fn(&mut Frame) = |frame| frame.first |= 1;

/// Retain handling 0, whatever was asked for.
const SENT_ALWAYS: fn(&mut Frame) = |frame| {
    if let Some(options) = frame.body.last_mut() {
        *options &= !0x30;
    }
};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_3_1_5_a_retained_message_waits_for_subscribers)
        .mqtt3(&["3.3.1-5", "3.3.1-6"])
        .mqtt5(&["3.3.1-5", "3.3.1-9"])
        .level3("A retained message waits for subscribers.")
        .fault(
            Fault::client(packet::PUBLISH)
                .nth(1)
                .altered("RETAIN cleared", CLEARED),
        ),
    test!(mqtt_3_3_1_5_a_newer_retained_message_replaces_the_older)
        .mqtt3(&["3.3.1-5", "3.3.1-6"])
        .mqtt5(&["3.3.1-5"])
        .level3("A newer retained message replaces the older.")
        .fault(
            Fault::client(packet::PUBLISH)
                .nth(2)
                .altered("RETAIN cleared", CLEARED),
        ),
    test!(mqtt_3_3_1_5_a_retained_message_keeps_its_qos)
        .mqtt3(&["3.3.1-5"])
        .mqtt5(&["3.3.1-5"])
        .level3("A retained message keeps its QoS.")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"at 1")
                .altered("another QoS", |frame| frame.set_qos(0)),
        ),
    test!(mqtt_3_3_1_5_a_retained_message_of_qos_0_displaces_the_older)
        .mqtt3(&["3.3.1-7"])
        .mqtt5(&["3.3.1-5"])
        .level3("A retained message of QoS 0 displaces the older.")
        .fault(
            Fault::client(packet::PUBLISH)
                .nth(2)
                .altered("RETAIN cleared", CLEARED),
        ),
    test!(mqtt_3_3_1_8_what_is_sent_for_a_subscription_has_retain)
        .mqtt3(&["3.3.1-8"])
        .mqtt5(&["3.3.1-9"])
        .level3("What is sent for a subscription has RETAIN.")
        .fault(Fault::server(packet::PUBLISH).altered("RETAIN cleared", CLEARED)),
    test!(mqtt_3_3_1_12_what_is_forwarded_has_no_retain)
        .mqtt3(&["3.3.1-9"])
        .mqtt5(&["3.3.1-12"])
        .level3("What is forwarded to a subscription has no RETAIN.")
        .fault(Fault::server(packet::PUBLISH).altered("RETAIN set", SET)),
    test!(mqtt5_3_3_1_13_retain_as_published_keeps_the_flag)
        .mqtt5(&["3.3.1-13"])
        .fault(Fault::server(packet::PUBLISH).altered("RETAIN cleared", CLEARED)),
    test!(mqtt5_3_3_1_13_retain_as_published_sets_no_flag)
        .mqtt5(&["3.3.1-13"])
        .fault(Fault::server(packet::PUBLISH).altered("RETAIN set", SET)),
    test!(mqtt_3_3_1_6_an_empty_payload_removes_the_retained_message)
        .mqtt3(&["3.3.1-10", "3.3.1-11"])
        .mqtt5(&["3.3.1-6", "3.3.1-7"])
        .level3("An empty payload removes the retained message.")
        .fault(
            Fault::client(packet::PUBLISH)
                .nth(2)
                .altered("RETAIN cleared", CLEARED),
        ),
    test!(mqtt_3_3_1_6_an_empty_payload_is_delivered_to_those_who_are_there)
        .mqtt3(&["3.3.1-10"])
        .mqtt5(&["3.3.1-6"])
        .level3("An empty payload is delivered to those who are there.")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt_3_3_1_8_a_message_without_retain_leaves_the_retained_one_alone)
        .mqtt3(&["3.3.1-12"])
        .mqtt5(&["3.3.1-8"])
        .level3("A message without RETAIN leaves the retained one alone.")
        .fault(
            Fault::client(packet::PUBLISH)
                .nth(2)
                .altered("RETAIN set", SET),
        ),
    test!(mqtt_3_3_1_8_a_message_without_retain_is_not_kept)
        .mqtt3(&["3.3.1-12"])
        .mqtt5(&["3.3.1-8"])
        .level3("A message without RETAIN is not kept.")
        .fault(
            Fault::client(packet::PUBLISH)
                .nth(1)
                .altered("RETAIN set", SET),
        ),
    test!(mqtt_3_3_1_9_wildcards_find_every_retained_message_that_matches)
        .mqtt3(&["3.3.1-6"])
        .mqtt5(&["3.3.1-9"])
        .level3("Wildcards find every retained message that matches.")
        .regression(&["wildcard subscriber that misses retained messages"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"=a/b/c")
                .nth(3),
        ),
    test!(mqtt5_3_3_1_9_retain_handling_0_sends_at_each_subscribe)
        .mqtt5(&["3.3.1-9"])
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt5_3_3_1_10_retain_handling_1_sends_to_a_new_subscription)
        .mqtt5(&["3.3.1-10"])
        .fault(
            Fault::client(packet::SUBSCRIBE).altered("retain handling 2", |frame| {
                if let Some(options) = frame.body.last_mut() {
                    *options = *options & !0x30 | 0x20;
                }
            }),
        ),
    test!(mqtt5_3_3_1_10_retain_handling_1_sends_nothing_to_one_that_was_there)
        .mqtt5(&["3.3.1-10"])
        .fault(
            Fault::client(packet::SUBSCRIBE)
                .nth(2)
                .altered("retain handling 0", SENT_ALWAYS),
        ),
    test!(mqtt5_3_3_1_10_a_subscription_of_a_resumed_session_was_there)
        .mqtt5(&["3.3.1-10"])
        .interplay("retain handling 1 across resume")
        .fault(
            Fault::client(packet::SUBSCRIBE)
                .nth(2)
                .altered("retain handling 0", SENT_ALWAYS),
        ),
    test!(mqtt5_3_3_1_11_retain_handling_2_sends_nothing)
        .mqtt5(&["3.3.1-11"])
        .fault(Fault::client(packet::SUBSCRIBE).altered("retain handling 0", SENT_ALWAYS)),
    test!(mqtt5_3_3_2_a_retained_message_keeps_its_properties)
        .mqtt5(&[
            "3.3.2-4", "3.3.2-15", "3.3.2-16", "3.3.2-17", "3.3.2-18", "3.3.2-20",
        ])
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("no user properties", |frame| frame.remove_property(0x26)),
        ),
    test!(mqtt5_3_3_4_a_retained_message_names_the_subscription_that_brought_it)
        .mqtt5(&["3.3.4-3"])
        .fault(
            Fault::server(packet::PUBLISH).altered("no subscription identifier", |frame| {
                frame.remove_property(0x0B);
            }),
        ),
    test!(mqtt_3_3_1_5_versions_agree_on_retained_messages)
        .at(&Version::ALL)
        .interplay("retained messages of publishers of another version")
        .fault(
            Fault::server(packet::PUBLISH)
                .nth(2)
                .altered("RETAIN cleared", CLEARED),
        ),
    test!(mqtt_3_8_4_the_retained_value_never_follows_a_newer_live_one)
        .at(&Version::ALL)
        .interplay("a subscribe in the middle of a stream of retained messages")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.first & 1 == 0)
                .nth(2)
                .altered("an older value", |frame| frame.set_payload(b"0")),
        ),
];

fn mqtt_3_3_1_5_a_retained_message_waits_for_subscribers(case: &Case) {
    let topic = case.topic("waits");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    for _ in 0..2 {
        let mut receiver = case.client("waits");
        subscribe(case, &mut receiver, &topic, 1);
        let message = receiver.receive();
        assert_eq!((message.text().as_str(), &message.topic), ("kept", &topic));
    }
}

/// What a new subscriber receives: the retained message and one published now, of another client, so that
/// no order is promised between the two; sorted.
#[track_caller]
fn with_a_live_one(receiver: &mut Client, topic: &str) -> Vec<String> {
    publish(receiver, &Publish::new(topic, "live").qos(1));
    let mut came = receiver.receive_texts(2);
    receiver.expect_nothing();
    came.sort_unstable();
    came
}

fn mqtt_3_3_1_5_a_newer_retained_message_replaces_the_older(case: &Case) {
    let topic = case.topic("newer");
    let messages = ["old", "new"].map(|text| Publish::new(&topic, text));
    let _retained = Retained::new(case, &messages);
    let mut receiver = case.client("newer");
    subscribe(case, &mut receiver, &topic, 1);
    assert_eq!(with_a_live_one(&mut receiver, &topic), ["live", "new"]);
}

fn mqtt_3_3_1_5_a_retained_message_keeps_its_qos(case: &Case) {
    let root = case.topic("qos");
    let message = |qos: u8| Publish::new(&format!("{root}/{qos}"), format!("at {qos}")).qos(qos);
    let _retained = Retained::new(case, &[message(1), message(2)]);
    let mut receiver = case.client("qos");
    for (kept, granted) in [(1, 2), (2, 2), (1, 0), (2, 1)] {
        subscribe(case, &mut receiver, &format!("{root}/{kept}"), granted);
        assert_eq!(receiver.receive().qos, kept.min(granted));
    }
}

fn mqtt_3_3_1_5_a_retained_message_of_qos_0_displaces_the_older(case: &Case) {
    let topic = case.topic("zero");
    let mut sender = case.client("zero");
    needs_retained(case, &sender);
    let _retained = Retained::of(case, &[&topic]);
    publish(&mut sender, &Publish::new(&topic, "old").qos(1).retain());
    publish(&mut sender, &Publish::new(&topic, "new").retain());
    // An acknowledgement that stands behind it.
    publish(&mut sender, &Publish::new(&topic, "not retained").qos(1));
    let mut receiver = case.client("zero");
    subscribe(case, &mut receiver, &topic, 1);
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    let text = receiver.receive().text();
    // It should be kept itself, but a server is free to forget it.
    assert!(
        ["new", "live"].contains(&text.as_str()),
        "{text} was retained"
    );
}

fn mqtt_3_3_1_8_what_is_sent_for_a_subscription_has_retain(case: &Case) {
    let topic = case.topic("flag");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut receiver = case.client("flag");
    subscribe(case, &mut receiver, &topic, 1);
    let message = receiver.receive();
    assert_eq!((message.text().as_str(), message.retain), ("kept", true));
}

fn mqtt_3_3_1_12_what_is_forwarded_has_no_retain(case: &Case) {
    let topic = case.topic("cleared");
    let mut receiver = case.client("cleared");
    subscribe(case, &mut receiver, &topic, 1);
    let _retained = Retained::new(case, &[Publish::new(&topic, "live")]);
    let message = receiver.receive();
    assert_eq!((message.text().as_str(), message.retain), ("live", false));
}

fn mqtt5_3_3_1_13_retain_as_published_keeps_the_flag(case: &Case) {
    let topic = case.topic("kept");
    let mut receiver = case.client("kept");
    subscribe(
        case,
        &mut receiver,
        &topic,
        1 | options::RETAIN_AS_PUBLISHED,
    );
    let _retained = Retained::new(case, &[Publish::new(&topic, "live")]);
    let message = receiver.receive();
    assert_eq!((message.text().as_str(), message.retain), ("live", true));
}

fn mqtt5_3_3_1_13_retain_as_published_sets_no_flag(case: &Case) {
    let topic = case.topic("unset");
    let mut receiver = case.client("unset");
    subscribe(
        case,
        &mut receiver,
        &topic,
        1 | options::RETAIN_AS_PUBLISHED,
    );
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    assert!(!receiver.receive().retain);
}

fn mqtt_3_3_1_6_an_empty_payload_removes_the_retained_message(case: &Case) {
    let topic = case.topic("removed");
    let mut sender = case.client("removed");
    needs_retained(case, &sender);
    let _retained = Retained::of(case, &[&topic]);
    publish(&mut sender, &Publish::new(&topic, "kept").qos(1).retain());
    publish(&mut sender, &Publish::new(&topic, "").qos(1).retain());
    let mut receiver = case.client("removed");
    subscribe(case, &mut receiver, &topic, 1);
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    // Neither the message nor the empty one that removed it.
    nothing_before(&mut receiver, "live");
}

fn mqtt_3_3_1_6_an_empty_payload_is_delivered_to_those_who_are_there(case: &Case) {
    let topic = case.topic("passed");
    let mut receiver = case.client("passed");
    needs_retained(case, &receiver);
    subscribe(case, &mut receiver, &topic, 1);
    let _retained = Retained::of(case, &[&topic]);
    for text in ["kept", ""] {
        publish(&mut receiver, &Publish::new(&topic, text).qos(1).retain());
    }
    publish(&mut receiver, &Publish::new(&topic, "end").qos(1));
    let came: Vec<(String, bool)> = (0..3)
        .map(|_| receiver.receive())
        .map(|message| (message.text(), message.retain))
        .collect();
    let expected = ["kept", "", "end"].map(|text| (text.to_owned(), false));
    assert_eq!(came, expected);
}

fn mqtt_3_3_1_8_a_message_without_retain_leaves_the_retained_one_alone(case: &Case) {
    let topic = case.topic("alone");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut sender = case.client("alone");
    publish(&mut sender, &Publish::new(&topic, "other").qos(1));
    publish(&mut sender, &Publish::new(&topic, "").qos(1));
    let mut receiver = case.client("alone");
    subscribe(case, &mut receiver, &topic, 1);
    assert_eq!(with_a_live_one(&mut receiver, &topic), ["kept", "live"]);
}

fn mqtt_3_3_1_8_a_message_without_retain_is_not_kept(case: &Case) {
    let topic = case.topic("passing");
    let _retained = Retained::of(case, &[&topic]);
    publish(
        &mut case.client("passing"),
        &Publish::new(&topic, "x").qos(1),
    );
    let mut receiver = case.client("passing");
    subscribe(case, &mut receiver, &topic, 1);
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    nothing_before(&mut receiver, "live");
}

fn mqtt_3_3_1_9_wildcards_find_every_retained_message_that_matches(case: &Case) {
    let root = case.topic("tree");
    let names = [
        "a", "a/b", "a/b/c", "a//c", "", "x/b", "x/b/c", "x/$y", "z/",
    ];
    // An empty payload would remove: the name comes after a sign.
    let messages: Vec<Publish> = names
        .iter()
        .map(|name| Publish::new(&format!("{root}/{name}"), format!("={name}")))
        .collect();
    let _retained = Retained::new(case, &messages);
    let filters: [(&str, &[&str]); 9] = [
        ("/#", &names),
        ("/a/#", &["a", "a/b", "a/b/c", "a//c"]),
        ("/+", &["a", ""]),
        ("/+/b", &["a/b", "x/b"]),
        ("/+/+", &["a/b", "x/b", "x/$y", "z/"]),
        ("/+/+/c", &["a/b/c", "a//c", "x/b/c"]),
        ("/a/b", &["a/b"]),
        ("/x/+", &["x/b", "x/$y"]),
        ("/none/#", &[]),
    ];
    for (filter, expected) in filters {
        let mut receiver = case.client("tree");
        needs_wildcards(case, &receiver);
        subscribe(case, &mut receiver, &format!("{root}{filter}"), 1);
        let mut found = receiver.receive_texts(expected.len());
        receiver.expect_nothing();
        found.sort_unstable();
        let mut expected: Vec<String> = expected.iter().map(|name| format!("={name}")).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
    }
}

fn mqtt5_3_3_1_9_retain_handling_0_sends_at_each_subscribe(case: &Case) {
    let topic = case.topic("always");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut receiver = case.client("always");
    for _ in 0..3 {
        subscribe(case, &mut receiver, &topic, 1);
        assert_eq!(receiver.receive().text(), "kept");
    }
}

fn mqtt5_3_3_1_10_retain_handling_1_sends_to_a_new_subscription(case: &Case) {
    let topic = case.topic("new");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut receiver = case.client("new");
    subscribe(case, &mut receiver, &topic, 1 | options::RETAINED_IF_NEW);
    assert_eq!(receiver.receive().text(), "kept");
    // One that was ended is new when it comes again.
    receiver.unsubscribe(&[&topic]);
    subscribe(case, &mut receiver, &topic, 1 | options::RETAINED_IF_NEW);
    assert_eq!(receiver.receive().text(), "kept");
}

fn mqtt5_3_3_1_10_retain_handling_1_sends_nothing_to_one_that_was_there(case: &Case) {
    let topic = case.topic("there");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut receiver = case.client("there");
    subscribe(case, &mut receiver, &topic, 1 | options::RETAINED_IF_NEW);
    assert_eq!(receiver.receive().text(), "kept");
    subscribe(case, &mut receiver, &topic, 1 | options::RETAINED_IF_NEW);
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    nothing_before(&mut receiver, "live");
}

fn mqtt5_3_3_1_10_a_subscription_of_a_resumed_session_was_there(case: &Case) {
    let topic = case.topic("resumed");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let connect = case.lasting("resumed");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1 | options::RETAINED_IF_NEW);
    assert_eq!(receiver.receive().text(), "kept");
    receiver.expect_nothing();
    receiver.disconnect();
    let mut receiver = case.open(&connect);
    resumed(&receiver);
    subscribe(case, &mut receiver, &topic, 1 | options::RETAINED_IF_NEW);
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    nothing_before(&mut receiver, "live");
}

fn mqtt5_3_3_1_11_retain_handling_2_sends_nothing(case: &Case) {
    let topic = case.topic("never");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut receiver = case.client("never");
    subscribe(case, &mut receiver, &topic, 1 | options::NO_RETAINED);
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    nothing_before(&mut receiver, "live");
}

fn mqtt5_3_3_2_a_retained_message_keeps_its_properties(case: &Case) {
    let topic = case.topic("properties");
    let sent = [
        Property::PayloadFormat(1),
        Property::user("b", "1"),
        Property::ContentType("text/plain".into()),
        Property::user("a", "2"),
        Property::ResponseTopic("answers".into()),
        Property::CorrelationData(vec![1, 0, 2]),
        Property::user("b", "0"),
    ];
    let message = sent
        .iter()
        .cloned()
        .fold(Publish::new(&topic, "kept"), Publish::with);
    let _retained = Retained::new(case, &[message]);
    let mut receiver = case.client("properties");
    subscribe(case, &mut receiver, &topic, 1);
    let received = receiver.receive().properties;
    for property in &sent {
        assert!(
            received.contains(property),
            "{property:?} was lost: {received:?}"
        );
    }
    let users: Vec<&Property> = received
        .iter()
        .filter(|property| matches!(property, Property::User(..)))
        .collect();
    assert_eq!(users, [&sent[1], &sent[3], &sent[6]]);
}

fn mqtt5_3_3_4_a_retained_message_names_the_subscription_that_brought_it(case: &Case) {
    let topic = case.topic("brought");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut receiver = case.client("brought");
    subscribe_as(case, &mut receiver, &topic, 1, 5);
    assert_eq!(receiver.receive().subscription_ids(), [5]);
}

fn mqtt_3_3_1_5_versions_agree_on_retained_messages(case: &Case) {
    let mut others = Version::ALL.to_vec();
    others.retain(|other| *other != case.version() && speaks(case, *other));
    if others.is_empty() {
        case.does_not_apply("the server speaks no other version");
    }
    for other in others {
        let topic = case.topic("agree");
        let _retained = Retained::of(case, &[&topic]);
        let mut sender = case.open(&Connect::new(other, &case.topic("sender")));
        needs_retained(case, &sender);
        for (text, qos) in [("old", 1), ("new", 2)] {
            publish(&mut sender, &Publish::new(&topic, text).qos(qos).retain());
        }
        publish(&mut sender, &Publish::new(&topic, "passing").qos(1));
        let mut receiver = case.client("agree");
        subscribe(case, &mut receiver, &topic, 1);
        let message = receiver.receive();
        assert_eq!(
            (message.text().as_str(), message.qos, message.retain),
            ("new", 1, true),
            "published by {other:?}"
        );
    }
}

fn mqtt_3_8_4_the_retained_value_never_follows_a_newer_live_one(case: &Case) {
    let topic = case.topic("newest");
    let _retained = Retained::new(case, &[Publish::new(&topic, "0")]);
    let mut sender = case.client("newest");
    // Subscribes at many moments of a stream of retained values: the numbers only go up.
    thread::scope(|scope| {
        let stream = scope.spawn(|| {
            for number in 1..=400 {
                publish(
                    &mut sender,
                    &Publish::new(&topic, number.to_string()).qos(1).retain(),
                );
            }
        });
        while !stream.is_finished() {
            let mut receiver = case.client("newest");
            subscribe(case, &mut receiver, &topic, 1);
            let mut last = 0;
            for _ in 0..4 {
                let next = number(&receiver.receive());
                assert!(next >= last, "{next} came after {last}");
                last = next;
                if last == 400 {
                    break;
                }
            }
        }
    });
}

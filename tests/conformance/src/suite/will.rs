//! Wills: MQTT 5.0 sections 3.1.2.5 to 3.1.2.7 and 3.1.3.2; MQTT 3.1.1 section 3.1.2.5. Their delay is a
//! subject of its own.

use tidegate_tests::wire::{Packet, Property, Publish, Will};

use super::kit::{Retained, needs_qos, needs_retained, nothing_before, subscribe};
use super::raw::{
    RawConnect, ends, flag, no_will_before, nothing_published, refuses, set_flags, vanishes,
    watcher,
};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_1_2_8_the_will_of_a_client_that_vanishes_is_published)
        .mqtt3(&["3.1.2-8", "3.1.2-9"])
        .mqtt5(&["3.1.2-7", "3.1.2-8", "3.1.2-9", "3.1.2-12"])
        .level3("the will of a client that vanishes is published, at its QoS")
        .fault(
            Fault::client(packet::CONNECT)
                .only(|frame| frame.body.ends_with(b"gone"))
                .altered("another Will QoS", |frame| {
                    set_flags(frame, 3 * flag::WILL_QOS_1, false);
                }),
        ),
    test!(mqtt_3_1_2_8_a_breach_of_the_protocol_leaves_the_will)
        .mqtt3(&["3.1.2-8"])
        .mqtt5(&["3.1.2-8"])
        .level3("a breach of the protocol leaves the will")
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt_3_1_2_8_a_half_closed_connection_has_ended)
        .mqtt3(&["3.1.2-8"])
        .mqtt5(&["3.1.2-8"])
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt_3_1_2_8_a_takeover_leaves_the_will)
        .mqtt3(&["3.1.2-8"])
        .mqtt5(&["3.1.2-8"])
        .level3("a takeover leaves the will")
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt_3_1_2_8_the_client_itself_hears_its_will_when_it_is_back)
        .mqtt3(&["3.1.2-8", "3.1.2-5"])
        .mqtt5(&["3.1.2-8", "4.5.0-1"])
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt_3_1_2_9_the_wills_fields_are_there)
        .mqtt3(&["3.1.2-9"])
        .mqtt5(&["3.1.2-9"])
        .fault(
            Fault::client(packet::CONNECT).altered("no Will Flag", |frame| {
                set_flags(frame, flag::WILL | (3 * flag::WILL_QOS_1), false);
            }),
        ),
    test!(mqtt_3_1_2_9_no_wills_fields_without_the_flag)
        .mqtt3(&["3.1.2-11"])
        .mqtt5(&["3.1.4-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_2_10_a_will_is_published_once)
        .mqtt3(&["3.1.2-10"])
        .mqtt5(&["3.1.2-10"])
        .level3("a will is published once")
        .fault(Fault::server(packet::PUBLISH).nth(1).doubled()),
    test!(mqtt_3_1_2_11_no_will_qos_without_the_flag)
        .mqtt3(&["3.1.2-11", "3.1.2-13"])
        .mqtt5(&["3.1.2-11"])
        .fault(
            Fault::client(packet::CONNECT).altered("a Will QoS of 0", |frame| {
                set_flags(frame, 3 * flag::WILL_QOS_1, false);
            }),
        ),
    test!(mqtt_3_1_2_12_a_will_qos_of_3_is_refused)
        .mqtt3(&["3.1.2-14"])
        .mqtt5(&["3.1.2-12"])
        .fault(
            Fault::client(packet::CONNECT).altered("a Will QoS of 1", |frame| {
                set_flags(frame, 2 * flag::WILL_QOS_1, false);
            }),
        ),
    test!(mqtt_3_1_2_13_no_will_retain_without_the_flag)
        .mqtt3(&["3.1.2-11", "3.1.2-15"])
        .mqtt5(&["3.1.2-13"])
        .fault(
            Fault::client(packet::CONNECT).altered("Will Retain 0", |frame| {
                set_flags(frame, flag::WILL_RETAIN, false);
            }),
        ),
    test!(mqtt3_3_1_2_12_no_will_without_the_flag)
        .mqtt3(&["3.1.2-12"])
        .level3("no will without the flag")
        .fault(Fault::server(packet::PUBLISH).nth(1).followed(
            "a will that nobody has left",
            |frame| {
                let mut will = frame.clone();
                will.set_payload(b"will");
                will.bytes()
            },
        )),
    test!(mqtt_3_1_2_14_a_will_is_not_retained_unless_it_says_so)
        .mqtt3(&["3.1.2-16"])
        .mqtt5(&["3.1.2-14"])
        .level3("a will is not retained unless it says so")
        .fault(
            Fault::client(packet::CONNECT)
                .only(|frame| frame.body.ends_with(b"gone"))
                .altered("Will Retain", |frame| {
                    set_flags(frame, flag::WILL_RETAIN, true);
                }),
        ),
    test!(mqtt_3_1_2_15_a_retained_will_is_retained)
        .mqtt3(&["3.1.2-17"])
        .mqtt5(&["3.1.2-15"])
        .level3("a retained will is retained")
        .fault(
            Fault::client(packet::CONNECT)
                .only(|frame| frame.body.ends_with(b"gone"))
                .altered("Will Retain 0", |frame| {
                    set_flags(frame, flag::WILL_RETAIN, false);
                }),
        ),
    test!(mqtt_3_1_3_a_will_topic_that_is_no_topic_name_is_refused)
        .mqtt3(&["4.7.1-1", "4.7.3-1"])
        .mqtt5(&["4.7.0-1", "4.7.3-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_3_a_will_may_be_empty)
        .mqtt3(&["3.1.2-9"])
        .mqtt5(&["3.1.2-9"])
        .level3("a will may be empty")
        .fault(
            Fault::server(packet::PUBLISH).altered("a payload", |frame| frame.set_payload(b"x")),
        ),
    test!(mqtt_3_1_2_15_an_empty_retained_will_removes_what_was_retained)
        .mqtt3(&["3.1.2-17"])
        .mqtt5(&["3.1.2-15"])
        .fault(
            Fault::client(packet::CONNECT)
                .only(|frame| frame.body.ends_with(b"\0\0"))
                .altered("Will Retain 0", |frame| {
                    set_flags(frame, flag::WILL_RETAIN, false);
                }),
        ),
    test!(mqtt5_3_1_3_2_a_property_of_another_packet_in_a_will_is_refused)
        .mqtt5(&["3.1.4-1", "4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_1_3_2_a_wills_properties_are_passed_on)
        .mqtt5(&["3.1.2-9"])
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("no content type", |frame| frame.remove_property(0x03)),
        ),
    test!(mqtt5_3_1_3_10_user_properties_of_a_will_keep_their_order)
        .mqtt5(&["3.1.3-10"])
        .fault(
            Fault::server(packet::PUBLISH).altered("the first user property last", |frame| {
                let at = frame
                    .body
                    .windows(4)
                    .position(|four| four == b"\x26\0\x01b");
                if let Some(at) = at {
                    // Seven bytes each: the first three are turned round.
                    frame.body[at..at + 21].rotate_left(7);
                }
            }),
        ),
];

fn mqtt_3_1_2_8_the_will_of_a_client_that_vanishes_is_published(case: &Case) {
    for qos in 0..=2 {
        let topic = case.topic("vanishes");
        let mut watcher = case.client("watcher");
        needs_qos(case, &watcher, qos);
        subscribe(case, &mut watcher, &topic, 2);
        vanishes(
            case,
            case.connect("doomed"),
            Will::new(&topic, "gone").qos(qos),
        );
        let message = watcher.receive();
        assert_eq!((message.text().as_str(), message.qos), ("gone", qos));
    }
}

fn mqtt_3_1_2_8_a_breach_of_the_protocol_leaves_the_will(case: &Case) {
    let topic = case.topic("error");
    let mut watcher = watcher(case, &topic);
    let connect = case.connect("error").will(Will::new(&topic, "erred"));
    let mut client = case.open(&connect);
    client.send(&[0x00, 0x00]);
    ends(&mut client, "packet type 0");
    assert_eq!(watcher.receive().text(), "erred");
}

fn mqtt_3_1_2_8_a_half_closed_connection_has_ended(case: &Case) {
    if case.transport().is_websocket() {
        case.does_not_apply("WebSocket knows no half-close");
    }
    let topic = case.topic("half");
    let mut watcher = watcher(case, &topic);
    let connect = case.connect("half").will(Will::new(&topic, "half"));
    let mut client = case.open(&connect);
    client.half_close();
    client.expect_close();
    assert_eq!(watcher.receive().text(), "half");
}

fn mqtt_3_1_2_8_a_takeover_leaves_the_will(case: &Case) {
    let topic = case.topic("takeover");
    let mut watcher = watcher(case, &topic);
    let connect = case.connect("takeover");
    let _old = case.open(&connect.clone().will(Will::new(&topic, "taken over")));
    let _new = case.open(&connect);
    assert_eq!(watcher.receive().text(), "taken over");
    nothing_published(&mut watcher, &topic);
}

fn mqtt_3_1_2_8_the_client_itself_hears_its_will_when_it_is_back(case: &Case) {
    let topic = case.topic("itself");
    let lasting = case.lasting("itself");
    let mut client = case.open(&lasting.clone().will(Will::new(&topic, "mine").qos(1)));
    subscribe(case, &mut client, &topic, 1);
    client.vanish();
    let mut client = case.open(&lasting);
    assert_eq!(client.receive().text(), "mine");
}

fn mqtt_3_1_2_9_the_wills_fields_are_there(case: &Case) {
    let id = case.topic("fields");
    let whole = RawConnect::of(case)
        .flags(flag::CLEAN | flag::WILL)
        .field(id.as_bytes());
    // Without the will's properties, where there are some, nothing else can be there, either.
    refuses(case, &whole.clone().bytes(), "no topic and no payload");
    let whole = if case.is_v5() {
        let whole = whole.bytes_more(&[0]);
        refuses(case, &whole.clone().bytes(), "properties alone");
        whole
    } else {
        whole
    };
    refuses(case, &whole.field(id.as_bytes()).bytes(), "a topic alone");
}

fn mqtt_3_1_2_9_no_wills_fields_without_the_flag(case: &Case) {
    let id = case.topic("surplus");
    let connect = RawConnect::of(case)
        .field(id.as_bytes())
        .will(id.as_bytes(), b"gone");
    refuses(case, &connect.bytes(), "a will without its flag");
}

fn mqtt_3_1_2_10_a_will_is_published_once(case: &Case) {
    let topic = case.topic("once");
    let mut watcher = watcher(case, &topic);
    let connect = case.connect("once");
    vanishes(case, connect.clone(), Will::new(&topic, "gone"));
    assert_eq!(watcher.receive().text(), "gone");
    // The next connection has none, however it ends.
    case.open(&connect.resume()).vanish();
    no_will_before(case, &mut watcher, &topic);
}

/// A CONNECT with these flags beside Clean Start, and no more in its payload than a client identifier.
#[track_caller]
fn flags_are_refused(case: &Case, flags: u8, what: &str) {
    let connect = RawConnect::of(case).flags(flag::CLEAN | flags);
    refuses(
        case,
        &connect.field(case.topic("flags").as_bytes()).bytes(),
        what,
    );
}

fn mqtt_3_1_2_11_no_will_qos_without_the_flag(case: &Case) {
    flags_are_refused(case, flag::WILL_QOS_1, "Will QoS 1 without a will");
    flags_are_refused(case, 2 * flag::WILL_QOS_1, "Will QoS 2 without a will");
}

fn mqtt_3_1_2_12_a_will_qos_of_3_is_refused(case: &Case) {
    let topic = case.topic("three");
    let connect = RawConnect::of(case)
        .flags(flag::CLEAN | flag::WILL | (3 * flag::WILL_QOS_1))
        .field(topic.as_bytes())
        .will(topic.as_bytes(), b"gone");
    refuses(case, &connect.bytes(), "Will QoS 3");
}

fn mqtt_3_1_2_13_no_will_retain_without_the_flag(case: &Case) {
    flags_are_refused(case, flag::WILL_RETAIN, "Will Retain without a will");
}

fn mqtt3_3_1_2_12_no_will_without_the_flag(case: &Case) {
    let topic = case.topic("none");
    let mut watcher = watcher(case, &topic);
    // The connection before had a will, and took it away.
    let connect = case.connect("none");
    case.open(&connect.clone().will(Will::new(&topic, "will")))
        .disconnect();
    case.open(&connect).vanish();
    let will = Will::new(&topic, "fence");
    case.open(&case.connect("fence").will(will)).vanish();
    nothing_before(&mut watcher, "fence");
    watcher.expect_nothing();
}

fn mqtt_3_1_2_14_a_will_is_not_retained_unless_it_says_so(case: &Case) {
    let topic = case.topic("live");
    let mut live = watcher(case, &topic);
    vanishes(case, case.connect("live"), Will::new(&topic, "gone"));
    assert_eq!(live.receive().text(), "gone");
    let mut late = watcher(case, &topic);
    let retained = late.fence();
    // If there is one after all, it does not stay.
    live.publish(&Publish::new(&topic, "").qos(1).retain());
    let retained = retained
        .iter()
        .any(|packet| matches!(packet, Packet::Publish(_)));
    assert!(!retained, "the will was retained");
}

fn mqtt_3_1_2_15_a_retained_will_is_retained(case: &Case) {
    let topic = case.topic("retained");
    let mut live = watcher(case, &topic);
    needs_retained(case, &live);
    let _cleared = Retained::of(case, &[&topic]);
    let will = Will::new(&topic, "gone").qos(1).retain();
    vanishes(case, case.connect("retained"), will);
    let message = live.receive();
    assert_eq!(
        (message.text().as_str(), message.retain),
        ("gone", false),
        "live"
    );
    let message = watcher(case, &topic).receive();
    assert_eq!(
        (message.text().as_str(), message.retain),
        ("gone", true),
        "later"
    );
}

fn mqtt_3_1_3_a_will_topic_that_is_no_topic_name_is_refused(case: &Case) {
    for topic in ["a/#", "+/b", ""] {
        let connect = case.connect("bad").will(Will::new(topic, "x"));
        refuses(case, &connect.encode(), topic);
    }
}

fn mqtt5_3_1_3_2_a_wills_properties_are_passed_on(case: &Case) {
    let topic = case.topic("properties");
    let mut watcher = watcher(case, &topic);
    let properties = [
        Property::PayloadFormat(1),
        Property::ContentType("text/plain".into()),
        Property::ResponseTopic("answers".into()),
        Property::CorrelationData(vec![0, 1, 255]),
    ];
    let will = properties
        .iter()
        .cloned()
        .fold(Will::new(&topic, "last"), Will::with);
    let will = will
        .with(Property::MessageExpiry(100))
        .with(Property::WillDelay(0));
    vanishes(case, case.connect("properties"), will);
    let message = watcher.receive();
    for property in &properties {
        assert!(
            message.properties.contains(property),
            "{property:?}: {message:?}"
        );
    }
    assert!(matches!(message.expiry(), Some(98..=100)), "{message:?}");
    // The delay is for the server, not for the message: the decoder takes no such property.
}

fn mqtt5_3_1_3_10_user_properties_of_a_will_keep_their_order(case: &Case) {
    let topic = case.topic("users");
    let mut watcher = watcher(case, &topic);
    let pairs: Vec<Property> = [("b", "1"), ("a", "2"), ("b", "0"), ("a", "2")]
        .map(|(name, value)| Property::user(name, value))
        .to_vec();
    let will = pairs
        .iter()
        .cloned()
        .fold(Will::new(&topic, "last"), Will::with);
    vanishes(case, case.connect("users"), will);
    let message = watcher.receive();
    let user = |property: &&Property| matches!(property, Property::User(..));
    let users: Vec<Property> = message.properties.iter().filter(user).cloned().collect();
    assert_eq!(users, pairs);
}

fn mqtt_3_1_3_a_will_may_be_empty(case: &Case) {
    let topic = case.topic("empty");
    let mut watcher = watcher(case, &topic);
    vanishes(case, case.connect("empty"), Will::new(&topic, ""));
    assert_eq!(watcher.receive().payload, b"");
}

fn mqtt_3_1_2_15_an_empty_retained_will_removes_what_was_retained(case: &Case) {
    let topic = case.topic("removes");
    let _cleared = Retained::new(case, &[Publish::new(&topic, "online")]);
    let mut live = watcher(case, &topic);
    assert_eq!(live.receive().text(), "online");
    vanishes(
        case,
        case.connect("removes"),
        Will::new(&topic, "").retain(),
    );
    assert_eq!(live.receive().payload, b"", "live");
    watcher(case, &topic).expect_nothing();
}

fn mqtt5_3_1_3_2_a_property_of_another_packet_in_a_will_is_refused(case: &Case) {
    for property in [
        Property::TopicAlias(1),
        Property::SubscriptionId(1),
        Property::SessionExpiry(1),
        Property::ReceiveMaximum(1),
        Property::ReasonString("r".into()),
    ] {
        let what = format!("a will with {property:?}");
        let will = Will::new("t", "x").with(property);
        refuses(case, &case.connect("other").will(will).encode(), &what);
    }
}

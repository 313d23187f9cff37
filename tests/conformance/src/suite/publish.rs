//! PUBLISH: MQTT 3.1.1 and 5.0 section 3.3.

use tidegate_tests::wire::{Connect, Event, Packet, Property, Publish, Version, frame, patience};

use super::kit::{needs_qos, publish, speaks, subscribe, told};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_3_1_2_a_qos_0_message_has_no_dup)
        .mqtt3(&["3.3.1-2", "4.3.1-1"])
        .mqtt5(&["3.3.1-2", "4.3.1-1"])
        .level3("QoS 0 is sent without DUP.")
        .fault(Fault::server(packet::PUBLISH).altered("DUP set", |frame| frame.first |= 0x08)),
    test!(mqtt_3_3_1_3_dup_is_not_passed_on)
        .mqtt3(&["3.3.1-3"])
        .mqtt5(&["3.3.1-3"])
        .level3("DUP of a publisher is not passed on.")
        .fault(Fault::server(packet::PUBLISH).altered("DUP set", |frame| frame.first |= 0x08)),
    test!(mqtt_3_3_1_4_qos_3_ends_the_connection)
        .mqtt3(&["3.3.1-4"])
        .mqtt5(&["3.3.1-4"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_3_2_1_a_topic_name_that_is_not_utf_8_ends_the_connection)
        .mqtt3(&["3.3.2-1"])
        .mqtt5(&["3.3.2-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_3_2_2_a_wildcard_in_a_topic_name_ends_the_connection)
        .mqtt3(&["3.3.2-2", "4.7.1-1"])
        .mqtt5(&["3.3.2-2", "4.7.0-1"])
        .regression(&["wildcard in a topic name"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_3_2_4_the_payload_format_is_passed_on)
        .mqtt5(&["3.3.2-4"])
        .fault(
            Fault::server(packet::PUBLISH).altered("another payload format", |frame| {
                frame.set_property(&Property::PayloadFormat(0));
            }),
        ),
    test!(mqtt5_3_3_2_13_a_response_topic_that_is_not_utf_8_ends_the_connection)
        .mqtt5(&["3.3.2-13"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_3_2_14_a_wildcard_in_a_response_topic_ends_the_connection)
        .mqtt5(&["3.3.2-14"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_3_2_15_the_response_topic_is_passed_on)
        .mqtt5(&["3.3.2-15"])
        .fault(
            Fault::server(packet::PUBLISH).altered("another response topic", |frame| {
                frame.set_property(&Property::ResponseTopic("where/to/Answer".into()));
            }),
        ),
    test!(mqtt5_3_3_2_16_the_correlation_data_are_passed_on)
        .mqtt5(&["3.3.2-16"])
        .fault(
            Fault::server(packet::PUBLISH).altered("other correlation data", |frame| {
                frame.set_property(&Property::CorrelationData(vec![0, 255]));
            }),
        ),
    test!(mqtt5_3_3_2_17_user_properties_are_passed_on)
        .mqtt5(&["3.3.2-17"])
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("no user properties", |frame| frame.remove_property(0x26)),
        ),
    test!(mqtt5_3_3_2_18_user_properties_keep_their_order)
        .mqtt5(&["3.3.2-18"])
        .fault(Fault::server(packet::PUBLISH).altered(
            "the user properties in another order",
            |frame| {
                frame.remove_property(0x26);
                for (name, value) in [("a", "3"), ("b", "1"), ("a", "2")] {
                    frame.add_property(&Property::user(name, value));
                }
            },
        )),
    test!(mqtt5_3_3_2_19_a_content_type_that_is_not_utf_8_ends_the_connection)
        .mqtt5(&["3.3.2-19"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_3_2_20_the_content_type_is_passed_on)
        .mqtt5(&["3.3.2-20"])
        .fault(
            Fault::server(packet::PUBLISH).altered("another content type", |frame| {
                frame.set_property(&Property::ContentType("text/plain".into()));
            }),
        ),
    test!(mqtt5_3_3_2_properties_are_passed_on_together)
        .mqtt5(&[
            "3.3.2-4", "3.3.2-15", "3.3.2-16", "3.3.2-17", "3.3.2-18", "3.3.2-20",
        ])
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("no correlation data", |frame| frame.remove_property(0x09)),
        ),
    test!(mqtt3_3_3_2_properties_do_not_reach_clients_before_mqtt_5)
        .at(&[Version::V31, Version::V311])
        .interplay("properties of MQTT 5 and subscribers of older versions")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.version != Version::V5)
                .altered("a property length in front of the payload", |frame| {
                    let payload = [&[0], frame.payload()].concat();
                    frame.set_payload(&payload);
                }),
        ),
    test!(mqtt_3_3_3_payloads_of_any_length_arrive_whole)
        .at(&Version::ALL)
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload().len() == 16_384)
                .altered("a byte of the payload lost", |frame| {
                    frame.body.pop();
                }),
        ),
    test!(mqtt_3_3_4_1_each_qos_has_its_answer)
        .mqtt3(&["3.3.4-1"])
        .mqtt5(&["3.3.4-1"])
        .level3("QoS 0 has no answer, QoS 1 PUBACK, QoS 2 PUBREC.")
        .fault(
            Fault::server(packet::PUBACK)
                .altered("the type of PUBREC", |frame| frame.first = packet::PUBREC),
        ),
    test!(mqtt3_3_3_5_2_a_publish_that_is_not_permitted_is_acknowledged_or_ends_the_connection)
        .mqtt3(&["3.3.5-2"])
        .level3("A PUBLISH that is not permitted is acknowledged or ends the connection.")
        .fault(Fault::server(packet::PUBACK)),
];

fn mqtt_3_3_1_2_a_qos_0_message_has_no_dup(case: &Case) {
    let topic = case.topic("zero");
    let mut client = case.client("zero");
    subscribe(case, &mut client, &topic, 0);
    needs_qos(case, &client, 1);
    for qos in [0, 1] {
        publish(&mut client, &Publish::new(&topic, "x").qos(qos));
        let message = client.receive();
        assert_eq!((message.qos, message.dup), (0, false), "published at {qos}");
    }
}

fn mqtt_3_3_1_3_dup_is_not_passed_on(case: &Case) {
    let topic = case.topic("dup");
    let mut client = case.client("dup");
    subscribe(case, &mut client, &topic, 2);
    for qos in [1, 2] {
        publish(
            &mut client,
            &Publish::new(&topic, "sent as a duplicate").qos(qos).dup(),
        );
        assert!(!client.receive().dup, "DUP was passed on");
    }
}

fn mqtt_3_3_1_4_qos_3_ends_the_connection(case: &Case) {
    let mut client = case.client("three");
    let mut bytes = Publish::new(&case.topic("three"), "x")
        .qos(2)
        .id(1)
        .encode(case.version());
    bytes[0] |= 0x06;
    client.send(&bytes);
    client.expect_error();
}

fn mqtt_3_3_2_1_a_topic_name_that_is_not_utf_8_ends_the_connection(case: &Case) {
    // A continuation byte is missing; an overlong form; one that stands alone.
    for name in [[0xC3, 0x28], [0xC0, 0xAF], [0x61, 0x80]] {
        let mut client = case.client("bytes");
        let mut body = vec![0, 2, name[0], name[1]];
        if case.is_v5() {
            body.push(0);
        }
        client.send(&frame(packet::PUBLISH, &body));
        client.expect_error();
    }
}

fn mqtt_3_3_2_2_a_wildcard_in_a_topic_name_ends_the_connection(case: &Case) {
    let root = case.topic("wild");
    for name in ["+", "#", "a/+/b", "a#", "+a"] {
        let mut client = case.client("wild");
        client.send_publish(&Publish::new(&format!("{root}/{name}"), "x"));
        client.expect_error();
    }
}

/// Two subscribers of different QoS receive these properties as they were published.
#[track_caller]
fn passes_on(case: &Case, properties: &[Property]) {
    let topic = case.topic("properties");
    let mut receivers = [0, 1].map(|qos| {
        let mut receiver = case.client("reads");
        subscribe(case, &mut receiver, &topic, qos);
        receiver
    });
    let mut message = Publish::new(&topic, "ünïcode").qos(1);
    message.properties = properties.to_vec();
    publish(&mut case.client("writes"), &message);
    for receiver in &mut receivers {
        let received = receiver.receive();
        // What is the server's to set is not asked for here.
        let kept: Vec<Property> = received
            .properties
            .into_iter()
            .filter(|property| !matches!(property, Property::TopicAlias(_)))
            .collect();
        assert_eq!(kept, properties);
    }
}

fn mqtt5_3_3_2_4_the_payload_format_is_passed_on(case: &Case) {
    passes_on(case, &[Property::PayloadFormat(1)]);
}

fn mqtt5_3_3_2_15_the_response_topic_is_passed_on(case: &Case) {
    passes_on(case, &[Property::ResponseTopic("where/to/answer".into())]);
}

fn mqtt5_3_3_2_16_the_correlation_data_are_passed_on(case: &Case) {
    passes_on(case, &[Property::CorrelationData(vec![0, 255, 1, 0])]);
}

fn mqtt5_3_3_2_17_user_properties_are_passed_on(case: &Case) {
    passes_on(case, &[Property::user("name ü", "value ß")]);
    passes_on(case, &[Property::user("", "")]);
}

fn mqtt5_3_3_2_18_user_properties_keep_their_order(case: &Case) {
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("a", "1")];
    passes_on(
        case,
        &pairs.map(|(name, value)| Property::user(name, value)),
    );
}

fn mqtt5_3_3_2_20_the_content_type_is_passed_on(case: &Case) {
    passes_on(case, &[Property::ContentType("text/plain; ü".into())]);
}

fn mqtt5_3_3_2_properties_are_passed_on_together(case: &Case) {
    let sent = [
        Property::user("b", "1"),
        Property::ContentType("text/plain; ü".into()),
        Property::user("a", "2"),
        Property::PayloadFormat(1),
        Property::CorrelationData(vec![0, 255, 1, 0]),
        Property::user("b", "3"),
        Property::ResponseTopic("where/to/answer".into()),
        Property::user("", ""),
        Property::user("a", "2"),
    ];
    let users = |properties: &[Property]| -> Vec<Property> {
        let user = |property: &&Property| matches!(property, Property::User(..));
        properties.iter().filter(user).cloned().collect()
    };
    for qos in 0..=2 {
        let topic = case.topic("together");
        let mut client = case.client("together");
        subscribe(case, &mut client, &topic, qos);
        let mut message = Publish::new(&topic, "x").qos(qos);
        message.properties = sent.to_vec();
        publish(&mut client, &message);
        let received = client.receive().properties;
        for property in &sent {
            assert!(received.contains(property), "{property:?} was lost");
        }
        assert_eq!(received.len(), sent.len(), "{received:?}");
        // Only user properties have an order.
        assert_eq!(users(&received), users(&sent));
    }
}

/// A PUBLISH with a property of these bytes ends the connection.
#[track_caller]
fn ends_with_property(case: &Case, property: &[u8]) {
    let topic = case.topic("property");
    let mut client = case.client("property");
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.push(property.len() as u8);
    body.extend_from_slice(property);
    client.send(&frame(packet::PUBLISH, &body));
    client.expect_error();
}

fn mqtt5_3_3_2_13_a_response_topic_that_is_not_utf_8_ends_the_connection(case: &Case) {
    ends_with_property(case, &[0x08, 0, 2, 0xC3, 0x28]);
}

fn mqtt5_3_3_2_14_a_wildcard_in_a_response_topic_ends_the_connection(case: &Case) {
    for topic in [*b"a/+", *b"a/#"] {
        ends_with_property(case, &[&[0x08, 0, 3], &topic[..]].concat());
    }
}

fn mqtt5_3_3_2_19_a_content_type_that_is_not_utf_8_ends_the_connection(case: &Case) {
    ends_with_property(case, &[0x03, 0, 2, 0xC3, 0x28]);
}

fn mqtt3_3_3_2_properties_do_not_reach_clients_before_mqtt_5(case: &Case) {
    if !speaks(case, Version::V5) {
        case.does_not_apply("the server does not speak MQTT 5.0");
    }
    let topic = case.topic("older");
    let mut older = case.client("older");
    subscribe(case, &mut older, &topic, 1);
    let message = Publish::new(&topic, "plain")
        .qos(1)
        .with(Property::user("name", "value"))
        .with(Property::MessageExpiry(100));
    let mut newer = case.open(&Connect::v5(&case.topic("newer")));
    publish(&mut newer, &message);
    assert_eq!(older.receive().text(), "plain");
}

fn mqtt_3_3_3_payloads_of_any_length_arrive_whole(case: &Case) {
    let topic = case.topic("sizes");
    let mut client = case.client("sizes");
    subscribe(case, &mut client, &topic, 1);
    let most = told(&client, |property| match property {
        Property::MaximumPacketSize(size) => Some(*size as usize),
        _ => None,
    });
    let most = most.unwrap_or(usize::MAX).saturating_sub(200);
    // Around the steps of the remaining length and of usual buffers. Before MQTT 5 a server cannot say
    // how much it takes.
    let sizes = [0, 1, 100, 127, 128, 8_191, 16_383, 16_384];
    for size in sizes.into_iter().filter(|size| *size <= most) {
        let payload: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        publish(&mut client, &Publish::new(&topic, &payload).qos(1));
        assert!(client.receive().payload == payload, "{size} bytes");
    }
}

fn mqtt_3_3_4_1_each_qos_has_its_answer(case: &Case) {
    let topic = case.topic("answers");
    let mut client = case.client("answers");
    needs_qos(case, &client, 2);
    client.send_publish(&Publish::new(&topic, "x"));
    client.expect_nothing();
    client.send_publish(&Publish::new(&topic, "x").qos(1).id(513));
    client.expect("PUBACK of 513", |packet| match packet {
        Packet::PubAck(ack) if ack.id == 513 => Some(()),
        _ => None,
    });
    client.send_publish(&Publish::new(&topic, "x").qos(2).id(65_535));
    client.expect("PUBREC of 65535", |packet| match packet {
        Packet::PubRec(ack) if ack.id == 65_535 => Some(()),
        _ => None,
    });
}

fn mqtt3_3_3_5_2_a_publish_that_is_not_permitted_is_acknowledged_or_ends_the_connection(
    case: &Case,
) {
    // No client is the source of the server's own topics; where it may be, it is acknowledged, too.
    let mut client = case.client("denied");
    let message = Publish::new("$SYS/broker/version", "feigned").qos(1).id(9);
    client.send_publish(&message);
    match client.next(patience()) {
        Event::Packet(Packet::PubAck(ack)) => assert_eq!(ack.id, 9),
        Event::Closed => {}
        other => panic!("PUBACK or the end expected: {other:?}"),
    }
}

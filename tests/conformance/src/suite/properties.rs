//! Properties: MQTT 5.0 section 2.2.2.

use std::slice;

use tidegate_tests::wire::{Connect, Packet, Property, Publish, Version, Will, frame};

use super::kit::{publish, subscribe};
use super::raw::{RawConnect, breaks, refuses};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

const CLOSE_HIDDEN: Fault = Fault::never_closes();

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_2_2_2_2_an_unknown_property_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_2_2_2_2_a_property_of_another_packet_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_2_2_2_2_a_property_twice_in_connect_is_refused)
        .mqtt5(&["4.13.1-1", "3.1.4-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_2_2_2_2_a_property_twice_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_2_2_2_2_a_property_twice_in_a_will_is_refused)
        .mqtt5(&["4.13.1-1", "3.1.4-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_3_1_2_11_values_that_do_not_exist_are_refused)
        .mqtt5(&["4.13.1-1", "3.1.4-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_2_2_2_1_a_length_beyond_the_packet_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_2_2_2_1_a_property_cut_short_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_2_2_2_2_user_properties_may_repeat_everywhere)
        .at(&[Version::V5])
        .fault(
            Fault::client(packet::SUBSCRIBE).answered("DISCONNECT 0x82", |_| vec![0xE0, 1, 0x82]),
        ),
    test!(mqtt5_2_2_2_2_properties_come_in_any_order)
        .at(&[Version::V5])
        .fault(
            Fault::server(packet::PUBLISH).altered("no correlation data", |frame| {
                frame.remove_property(0x09);
            }),
        ),
    test!(mqtt5_3_1_2_11_every_property_of_connect_is_taken)
        .mqtt5(&["3.1.4-5"])
        .fault(Fault::server(packet::CONNACK).altered("0x82", |frame| frame.set_code(0x82))),
];

/// A CONNECT with these bytes as its properties.
fn connect(case: &Case, properties: &[u8]) -> Vec<u8> {
    let connect = RawConnect::of(case).properties(properties);
    connect.field(case.topic("properties").as_bytes()).bytes()
}

/// A PUBLISH of QoS 1, so that taking it would be seen, with these bytes as its properties.
fn publish_with(properties: &[u8]) -> Vec<u8> {
    let mut body = b"\0\x0Aproperties\0\x01".to_vec();
    body.push(properties.len() as u8);
    body.extend_from_slice(properties);
    frame(0x32, &body)
}

fn subscribe_with(properties: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, properties.len() as u8];
    body.extend_from_slice(properties);
    body.extend_from_slice(b"\0\x01t\0");
    frame(0x82, &body)
}

fn unsubscribe_with(properties: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, properties.len() as u8];
    body.extend_from_slice(properties);
    body.extend_from_slice(b"\0\x01t");
    frame(0xA2, &body)
}

/// PUBREL, the one acknowledgement that is answered though nothing is under way, or another.
fn ack_with(first: u8, properties: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, 0, properties.len() as u8];
    body.extend_from_slice(properties);
    frame(first, &body)
}

fn bytes_of(properties: &[Property]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for property in properties {
        property.write(&mut bytes);
    }
    bytes
}

fn mqtt5_2_2_2_2_an_unknown_property_ends_the_connection(case: &Case) {
    // Within the range of those there are, beyond it, and in two bytes.
    for id in [
        &[0x00, 0][..],
        &[0x04, 0],
        &[0x2B, 0],
        &[0x7F, 0],
        &[0x81, 0x01, 0],
    ] {
        refuses(case, &connect(case, id), "CONNECT");
        breaks(case, &publish_with(id), "PUBLISH");
        breaks(case, &subscribe_with(id), "SUBSCRIBE");
        breaks(case, &unsubscribe_with(id), "UNSUBSCRIBE");
        breaks(case, &ack_with(0x62, id), "PUBREL");
    }
}

fn mqtt5_2_2_2_2_a_property_of_another_packet_ends_the_connection(case: &Case) {
    let connect_has = [
        Property::PayloadFormat(1),
        Property::TopicAlias(1),
        Property::SubscriptionId(1),
        Property::WillDelay(1),
        Property::AssignedClientId("id".into()),
        Property::ServerKeepAlive(1),
        Property::MaximumQos(1),
        Property::ReasonString("r".into()),
    ];
    for property in connect_has {
        let what = format!("CONNECT with {property:?}");
        refuses(case, &connect(case, &bytes_of(&[property])), &what);
    }
    for property in [
        Property::SessionExpiry(1),
        Property::ReceiveMaximum(1),
        Property::ReasonString("r".into()),
        Property::WillDelay(1),
        Property::AuthenticationMethod("m".into()),
    ] {
        let what = format!("PUBLISH with {property:?}");
        breaks(case, &publish_with(&bytes_of(&[property])), &what);
    }
    for property in [Property::TopicAlias(1), Property::MessageExpiry(1)] {
        let what = format!("SUBSCRIBE with {property:?}");
        breaks(case, &subscribe_with(&bytes_of(&[property])), &what);
    }
    for property in [
        Property::SubscriptionId(1),
        Property::ReasonString("r".into()),
    ] {
        let what = format!("UNSUBSCRIBE with {property:?}");
        breaks(case, &unsubscribe_with(&bytes_of(&[property])), &what);
    }
    for property in [Property::TopicAlias(1), Property::SessionExpiry(1)] {
        let what = format!("PUBREL with {property:?}");
        breaks(case, &ack_with(0x62, &bytes_of(&[property])), &what);
    }
}

fn mqtt5_2_2_2_2_a_property_twice_in_connect_is_refused(case: &Case) {
    for property in [
        Property::SessionExpiry(1),
        Property::ReceiveMaximum(9),
        Property::MaximumPacketSize(900),
        Property::TopicAliasMaximum(9),
        Property::RequestResponseInformation(1),
        Property::RequestProblemInformation(1),
        Property::AuthenticationMethod("m".into()),
    ] {
        let what = format!("{property:?} twice");
        refuses(
            case,
            &connect(case, &bytes_of(&[property.clone(), property])),
            &what,
        );
    }
}

fn mqtt5_2_2_2_2_a_property_twice_ends_the_connection(case: &Case) {
    for property in [
        Property::PayloadFormat(1),
        Property::MessageExpiry(9),
        Property::ContentType("t".into()),
        Property::ResponseTopic("t".into()),
        Property::CorrelationData(b"d".to_vec()),
    ] {
        let what = format!("{property:?} twice");
        breaks(
            case,
            &publish_with(&bytes_of(&[property.clone(), property])),
            &what,
        );
    }
    let reason = [
        Property::ReasonString("r".into()),
        Property::ReasonString("r".into()),
    ];
    breaks(
        case,
        &ack_with(0x62, &bytes_of(&reason)),
        "two reasons in PUBREL",
    );
}

fn mqtt5_2_2_2_2_a_property_twice_in_a_will_is_refused(case: &Case) {
    for property in [
        Property::WillDelay(1),
        Property::PayloadFormat(1),
        Property::MessageExpiry(9),
        Property::ContentType("t".into()),
        Property::ResponseTopic("t".into()),
        Property::CorrelationData(b"d".to_vec()),
    ] {
        let what = format!("{property:?} twice");
        let will = Will::new("properties", "x")
            .with(property.clone())
            .with(property);
        refuses(case, &case.connect("twice").will(will).encode(), &what);
    }
}

fn mqtt5_3_1_2_11_values_that_do_not_exist_are_refused(case: &Case) {
    for property in [
        Property::ReceiveMaximum(0),
        Property::MaximumPacketSize(0),
        Property::RequestResponseInformation(2),
        Property::RequestProblemInformation(2),
    ] {
        refuses(
            case,
            &connect(case, &bytes_of(slice::from_ref(&property))),
            &format!("{property:?}"),
        );
    }
}

fn mqtt5_2_2_2_1_a_length_beyond_the_packet_ends_the_connection(case: &Case) {
    breaks(case, &frame(0x32, b"\0\x01t\0\x01\x64\x01\0"), "PUBLISH");
    breaks(
        case,
        &frame(0x32, b"\0\x01t\0\x01\x80"),
        "PUBLISH that ends in the length",
    );
    breaks(case, &frame(0x82, b"\0\x01\x64\0\x01t\0"), "SUBSCRIBE");
    breaks(case, &frame(0x62, b"\0\x01\0\x05"), "PUBREL");
}

fn mqtt5_2_2_2_1_a_property_cut_short_ends_the_connection(case: &Case) {
    // The length ends within a property, though the packet goes on.
    breaks(
        case,
        &frame(0x32, b"\0\x01t\0\x01\x02\x02\0\0\0\0x"),
        "an integer",
    );
    breaks(
        case,
        &frame(0x32, b"\0\x01t\0\x01\x03\x03\0\x04text"),
        "a string",
    );
    breaks(
        case,
        &frame(0x32, b"\0\x01t\0\x01\x01\x01payload"),
        "a byte",
    );
    breaks(case, &publish_with(b"\x26\0\x01n"), "half a pair");
}

fn mqtt5_2_2_2_2_user_properties_may_repeat_everywhere(case: &Case) {
    let topic = case.topic("users");
    let users = [
        Property::user("a", "1"),
        Property::user("a", "1"),
        Property::user("", ""),
    ];
    let connect = users
        .iter()
        .cloned()
        .fold(case.connect("users"), Connect::with);
    let mut client = case.open(&connect);
    let granted = client.subscribe_with(&[(&topic, 1)], &users);
    assert!(granted.codes[0] < 3, "{granted:?}");
    let message = Publish::new(&topic, "x").qos(1).id(9);
    let message = users.iter().cloned().fold(message, Publish::with);
    client.send_publish(&message);
    client.await_puback(9);
    assert_eq!(client.receive().properties, users);
    client.send(&unsubscribe_with(&bytes_of(&users)));
    client.expect("UNSUBACK", |packet| match packet {
        Packet::UnsubAck(answer) => Some(answer.id),
        _ => None,
    });
    client.disconnect_with(0, &users);
}

fn mqtt5_2_2_2_2_properties_come_in_any_order(case: &Case) {
    let topic = case.topic("any");
    let mut client = case.client("any");
    subscribe(case, &mut client, &topic, 0);
    let mut properties = vec![
        Property::ContentType("t".into()),
        Property::user("n", "v"),
        Property::CorrelationData(b"d".to_vec()),
        Property::PayloadFormat(1),
        Property::ResponseTopic("r".into()),
    ];
    for _ in 0..2 {
        properties.reverse();
        let message = Publish::new(&topic, "x");
        let message = properties.iter().cloned().fold(message, Publish::with);
        publish(&mut client, &message);
        let message = client.receive();
        for property in &properties {
            assert!(
                message.properties.contains(property),
                "{property:?}: {message:?}"
            );
        }
    }
}

fn mqtt5_3_1_2_11_every_property_of_connect_is_taken(case: &Case) {
    let small = [
        Property::SessionExpiry(0),
        Property::ReceiveMaximum(1),
        Property::TopicAliasMaximum(0),
        Property::RequestResponseInformation(0),
        Property::RequestProblemInformation(0),
    ];
    let large = [
        Property::SessionExpiry(1),
        Property::ReceiveMaximum(u16::MAX),
        Property::MaximumPacketSize(u32::MAX),
        Property::TopicAliasMaximum(u16::MAX),
        Property::RequestResponseInformation(1),
        Property::RequestProblemInformation(1),
    ];
    for properties in [small.as_slice(), &large] {
        let connect = properties.iter().cloned();
        let connect = connect.fold(case.connect("every"), Connect::with);
        case.open(&connect).expect_nothing();
    }
}

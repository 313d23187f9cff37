//! PUBLISH and its acknowledgements (MQTT 5.0 sections 3.3 to 3.7, 4.3 and 4.6) where the gateway has a
//! choice or is told by its configuration. What the specification asks for is in the conformance suite.

use tidegate_tests::wire::{
    Ack, Client, Connect, Packet, Property, Publish, Version, code, disconnect, options,
};
use tidegate_tests::{Gateway, unique};

/// A clean client of MQTT 5.
#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("publish")).open(gateway.mqtt())
}

#[test]
fn mqtt5_3_7_2_1_a_pubrel_without_its_publish_is_answered_so() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    client.send_pubrel(&Ack::new(4711));
    assert_eq!(client.await_pubcomp(4711).code, code::ID_NOT_FOUND);
}

#[test]
fn mqtt_4_6_0_2_acknowledgements_come_in_the_order_of_the_publishes() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("order")).open(gateway.mqtt());
        let mut bytes = Vec::new();
        for id in 1..=200 {
            let message = Publish::new("order/t", "x").qos(1 + (id % 2) as u8).id(id);
            bytes.extend(message.encode(version));
        }
        client.send(&bytes);
        let (mut acknowledged, mut received) = (Vec::new(), Vec::new());
        for packet in client.fence() {
            match packet {
                Packet::PubAck(ack) => acknowledged.push(ack.id),
                Packet::PubRec(ack) => received.push(ack.id),
                other => panic!("{other:?}"),
            }
        }
        while acknowledged.len() + received.len() < 200 {
            let (kind, id) = client.expect("PUBACK or PUBREC", |packet| match packet {
                Packet::PubAck(ack) => Some((1, ack.id)),
                Packet::PubRec(ack) => Some((2, ack.id)),
                _ => None,
            });
            if kind == 1 {
                &mut acknowledged
            } else {
                &mut received
            }
            .push(id);
        }
        assert_eq!(
            acknowledged,
            (1..=200).filter(|id| id % 2 == 0).collect::<Vec<u16>>()
        );
        assert_eq!(
            received,
            (1..=200).filter(|id| id % 2 == 1).collect::<Vec<u16>>()
        );
    }
}

#[test]
fn mqtt_3_3_3_large_payloads_arrive_whole() {
    let gateway = Gateway::start();
    let topic = unique("sizes");
    let mut client = client(&gateway);
    client.subscribe(&topic, 1);
    // Smaller ones are in the conformance suite; these only a server with such a limit has to take.
    for size in [65_535, 65_536, 200_000, 900_000] {
        let payload: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        client.publish(&Publish::new(&topic, &payload).qos(1));
        assert!(client.receive().payload == payload, "{size} bytes");
    }
}

#[test]
fn mqtt5_3_3_2_an_alias_above_the_maximum_is_refused() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    let announced = client
        .connack()
        .properties
        .iter()
        .find_map(|property| match property {
            Property::TopicAliasMaximum(value) => Some(*value),
            _ => None,
        });
    let above = announced.unwrap_or(0) + 1;
    client.send_publish(&Publish::new("alias/t", "x").with(Property::TopicAlias(above)));
    assert_eq!(client.expect_disconnect().code, code::ALIAS_INVALID);
}

#[test]
fn mqtt5_3_3_2_an_alias_that_was_never_set_is_a_protocol_error() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    client.send_publish(&Publish::new("", "x").with(Property::TopicAlias(1)));
    let code = client.expect_disconnect().code;
    assert!(
        [code::PROTOCOL_ERROR, code::ALIAS_INVALID].contains(&code),
        "{code:#04x}"
    );
}

#[test]
fn mqtt5_3_1_2_26_a_client_that_offers_aliases_is_given_some() {
    let gateway = Gateway::start();
    let topic = unique("offered");
    let connect = Connect::v5(&unique("offers")).with(Property::TopicAliasMaximum(1));
    let mut client = connect.open(gateway.mqtt());
    client.subscribe(&topic, 1);
    let names = ["first", "second"].map(|text| {
        client.publish(&Publish::new(&topic, text).qos(1));
        let message = client.receive();
        (message.topic.clone(), message.alias())
    });
    assert_eq!(names, [(topic, Some(1)), (String::new(), Some(1))]);
}

#[test]
fn mqtt5_4_9_qos_0_passes_by_a_full_window() {
    let gateway = Gateway::start();
    let topic = unique("window");
    let connect = Connect::v5(&unique("window")).with(Property::ReceiveMaximum(1));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    for (text, qos) in [("first", 1), ("second", 1), ("passes by", 0)] {
        sender.publish(&Publish::new(&topic, text).qos(qos));
    }
    let first = receiver.expect_publish();
    assert_eq!(receiver.expect_publish().text(), "passes by");
    receiver.acknowledge(&first);
    assert_eq!(receiver.receive().text(), "second");
}

#[test]
fn mqtt5_3_3_4_7_a_client_that_exceeds_the_receive_maximum_is_disconnected() {
    let Some(gateway) = Gateway::configured("[limits]\nreceive_maximum = 4") else {
        return;
    };
    let mut client = client(&gateway);
    // QoS 2 without PUBREL stays open; the fifth is one too many.
    for id in 1..=4 {
        client.send_publish(&Publish::new("window/t", "x").qos(2).id(id));
        client.await_pubrec(id);
    }
    client.expect_nothing();
    client.send_publish(&Publish::new("window/t", "x").qos(2).id(5));
    assert_eq!(client.expect_disconnect().code, code::RECEIVE_MAXIMUM);
}

#[test]
fn mqtt5_3_2_2_15_the_announced_maximum_packet_size_is_exact() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_packet_size = 2000") else {
        return;
    };
    let topic = unique("exact");
    let mut client = client(&gateway);
    client.subscribe(&topic, 1);
    let of_size = |size: usize| {
        let empty = Publish::new(&topic, "")
            .qos(1)
            .id(9)
            .encode(Version::V5)
            .len();
        // One byte more: from 128 bytes on the remaining length takes two.
        let message = Publish::new(&topic, vec![b'x'; size - empty - 1])
            .qos(1)
            .id(9);
        assert_eq!(message.encode(Version::V5).len(), size);
        message
    };
    client.publish(&of_size(2000));
    assert_eq!(client.receive().payload.len(), of_size(2000).payload.len());
    client.send_publish(&of_size(2001));
    assert_eq!(client.expect_disconnect().code, code::TOO_LARGE);
}

#[test]
fn mqtt3_a_packet_beyond_the_maximum_closes_the_connection() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_packet_size = 2000") else {
        return;
    };
    let mut client = Connect::v311(&unique("large")).open(gateway.mqtt());
    client.send_publish(&Publish::new("t", vec![b'x'; 2_000]));
    client.expect_close();
}

#[test]
fn mqtt_a_client_that_publishes_and_leaves_is_heard_to_the_end() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("leaves");
        let mut receiver = client(&gateway);
        receiver.subscribe(&topic, 0);
        let mut sender = Connect::new(version, &unique("leaves")).open(gateway.mqtt());
        let mut bytes: Vec<u8> = (0..500)
            .flat_map(|number| Publish::new(&topic, number.to_string()).encode(version))
            .collect();
        bytes.extend(if version == Version::V5 {
            disconnect(0, &[])
        } else {
            vec![0xE0, 0]
        });
        sender.send(&bytes);
        sender.expect_close();
        let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        assert_eq!(receiver.receive_texts(500), expected, "{version:?}");
    }
}

#[test]
fn mqtt_4_7_2_1_clients_may_not_feign_the_servers_own_topics() {
    let gateway = Gateway::start();
    let mut watcher = client(&gateway);
    watcher.subscribe("$SYS/broker/version", options::NO_RETAINED);
    let mut client = client(&gateway);
    let answer = client.publish(&Publish::new("$SYS/broker/version", "feigned").qos(1));
    // Refused or swallowed, the value is not believed.
    assert!(
        answer == 0 || answer >= 0x80 || answer == code::NO_SUBSCRIBERS,
        "{answer:#04x}"
    );
    for packet in watcher.fence() {
        let Packet::Publish(message) = packet else {
            continue;
        };
        assert_ne!(message.text(), "feigned");
    }
}

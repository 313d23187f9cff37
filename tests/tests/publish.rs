//! PUBLISH and its acknowledgements: MQTT 5.0 sections 3.3 to 3.7, 4.3 and 4.6; the same sections of
//! MQTT 3.1.1.

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
fn mqtt_4_3_the_delivered_qos_is_the_lower_of_published_and_granted() {
    let gateway = Gateway::start();
    for from in Version::ALL {
        for to in Version::ALL {
            let mut sender = Connect::new(from, &unique("from")).open(gateway.mqtt());
            let mut receiver = Connect::new(to, &unique("to")).open(gateway.mqtt());
            for granted in 0..=2 {
                let topic = unique("lower");
                receiver.subscribe(&topic, granted);
                for published in 0..=2 {
                    let text = format!("{published} for {granted}");
                    sender.publish(&Publish::new(&topic, &text).qos(published));
                    let message = receiver.receive();
                    assert_eq!(message.text(), text, "{from:?} to {to:?}");
                    assert_eq!(
                        message.qos,
                        published.min(granted),
                        "{from:?} to {to:?}: {text}"
                    );
                    assert!(!message.dup && !message.retain, "{message:?}");
                    assert_eq!(message.topic, topic);
                }
            }
        }
    }
}

#[test]
fn mqtt_3_3_1_3_dup_is_not_passed_on() {
    let gateway = Gateway::start();
    let topic = unique("dup");
    let mut client = client(&gateway);
    client.subscribe(&topic, 2);
    for qos in [1, 2] {
        client.publish(&Publish::new(&topic, "sent as a duplicate").qos(qos).dup());
        assert!(!client.receive().dup);
    }
}

#[test]
fn mqtt_4_3_3_a_qos2_message_sent_twice_is_delivered_once() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("once");
        let mut receiver = client(&gateway);
        receiver.subscribe(&topic, 2);
        let mut sender = Connect::new(version, &unique("twice")).open(gateway.mqtt());
        let message = Publish::new(&topic, "once").qos(2).id(77);
        sender.send_publish(&message);
        assert_eq!(sender.await_pubrec(77).code, 0);
        sender.send_publish(&message.clone().dup());
        assert_eq!(
            sender.await_pubrec(77).code,
            0,
            "{version:?}: a duplicate is acknowledged"
        );
        sender.send_pubrel(&Ack::new(77));
        sender.await_pubcomp(77);
        // The identifier is free again: the same one is a new message now.
        sender.publish(&Publish::new(&topic, "twice").qos(2).id(77));
        assert_eq!(receiver.receive_texts(2), ["once", "twice"], "{version:?}");
        receiver.expect_nothing();
    }
}

#[test]
fn mqtt_4_3_3_a_qos2_message_survives_a_reconnect_between_pubrec_and_pubrel() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let (id, topic) = (unique("replay"), unique("replay/t"));
        let mut receiver = client(&gateway);
        receiver.subscribe(&topic, 2);
        let connect = Connect::lasting(version, &id);
        let message = Publish::new(&topic, "once").qos(2).id(5);
        let mut sender = connect.open(gateway.mqtt());
        sender.send_publish(&message);
        sender.await_pubrec(5);
        sender.vanish();

        let mut sender = connect.open(gateway.mqtt());
        sender.send_publish(&message.clone().dup());
        assert_eq!(sender.await_pubrec(5).code, 0, "{version:?}");
        sender.send_pubrel(&Ack::new(5));
        assert_eq!(sender.await_pubcomp(5).code, 0, "{version:?}");
        assert_eq!(receiver.receive().text(), "once");
        receiver.expect_nothing();
    }
}

#[test]
fn mqtt5_3_7_2_1_a_pubrel_without_its_publish_is_answered_so() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    client.send_pubrel(&Ack::new(4711));
    assert_eq!(client.await_pubcomp(4711).code, code::ID_NOT_FOUND);
}

#[test]
fn mqtt3_4_3_3_a_pubrel_without_its_publish_is_completed() {
    let gateway = Gateway::start();
    let mut client = Connect::v311(&unique("stray")).open(gateway.mqtt());
    client.send_pubrel(&Ack::new(4711));
    client.await_pubcomp(4711);
}

#[test]
fn mqtt5_3_4_2_1_no_matching_subscribers_is_success() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    for qos in [1, 2] {
        let code = client.publish(&Publish::new(&unique("nobody"), "x").qos(qos));
        // 0x10 may be sent, need not be.
        assert!([0, code::NO_SUBSCRIBERS].contains(&code), "{code:#04x}");
    }
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
fn mqtt_4_6_0_5_a_topic_keeps_its_order_at_every_qos() {
    let gateway = Gateway::start();
    for qos in 0..=2 {
        let topic = unique("ordered");
        let (mut sender, mut receiver) = (client(&gateway), client(&gateway));
        receiver.subscribe(&topic, qos);
        let expected: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        for text in &expected {
            sender.publish(&Publish::new(&topic, text).qos(qos));
        }
        assert_eq!(receiver.receive_texts(300), expected);
    }
}

#[test]
fn mqtt_3_3_3_empty_and_large_payloads_arrive_whole() {
    let gateway = Gateway::start();
    let topic = unique("sizes");
    let mut client = client(&gateway);
    client.subscribe(&topic, 1);
    // Around the steps of the remaining length and of usual buffers.
    for size in [
        0, 1, 100, 127, 128, 16_300, 16_384, 65_535, 65_536, 200_000, 900_000,
    ] {
        let payload: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        client.publish(&Publish::new(&topic, &payload).qos(1));
        assert!(client.receive().payload == payload, "{size} bytes");
    }
}

#[test]
fn mqtt5_3_3_2_properties_arrive_unaltered_and_in_order() {
    let gateway = Gateway::start();
    for qos in 0..=2 {
        let topic = unique("properties");
        let mut client = client(&gateway);
        client.subscribe(&topic, qos);
        let sent = vec![
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
        let mut message = Publish::new(&topic, "ünïcode").qos(qos);
        message.properties.clone_from(&sent);
        client.publish(&message);
        let received = client.receive();
        let users = |properties: &[Property]| -> Vec<Property> {
            let user = |property: &&Property| matches!(property, Property::User(..));
            properties.iter().filter(user).cloned().collect()
        };
        // 3.3.2-17 and -18 hold the user properties to their order; the others have none.
        assert_eq!(users(&received.properties), users(&sent));
        assert_eq!(
            received.properties.len(),
            sent.len(),
            "{:?}",
            received.properties
        );
        for property in &sent {
            assert!(
                received.properties.contains(property),
                "{property:?} was lost"
            );
        }
    }
}

#[test]
fn mqtt5_3_3_2_properties_do_not_reach_older_clients() {
    let gateway = Gateway::start();
    let topic = unique("older");
    let mut older = Connect::v311(&unique("older")).open(gateway.mqtt());
    older.subscribe(&topic, 1);
    let message = Publish::new(&topic, "plain")
        .qos(1)
        .with(Property::user("name", "value"));
    client(&gateway).publish(&message.with(Property::MessageExpiry(100)));
    assert_eq!(older.receive().payload, b"plain");
}

#[test]
fn mqtt5_3_3_2_12_an_alias_stands_for_its_topic_until_it_is_set_anew() {
    let gateway = Gateway::start();
    let (first, second) = (unique("alias/1"), unique("alias/2"));
    let mut receiver = client(&gateway);
    receiver.subscribe(&first, 1);
    receiver.subscribe(&second, 1);
    let mut sender = client(&gateway);
    let aliased = |topic: &str, text: &str, alias| {
        Publish::new(topic, text)
            .qos(1)
            .with(Property::TopicAlias(alias))
    };
    for message in [
        aliased(&first, "sets 1", 1),
        aliased("", "uses 1", 1),
        aliased(&second, "sets 2", 2),
        aliased("", "uses 1 again", 1),
        aliased(&second, "sets 1 to another topic", 1),
        aliased("", "uses 1 anew", 1),
        aliased("", "uses 2", 2),
    ] {
        sender.publish(&message);
    }
    let expected = [&first, &first, &second, &first, &second, &second, &second];
    for topic in expected {
        assert_eq!(receiver.receive().topic, *topic);
    }
    // The receiver did not ask for aliases, so it was given none (its decoder would not know them).
    receiver.expect_nothing();
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
fn mqtt5_3_3_2_7_aliases_do_not_outlive_the_connection() {
    let gateway = Gateway::start();
    let connect = Connect::lasting(Version::V5, &unique("forgets"));
    let mut client = connect.open(gateway.mqtt());
    client.publish(
        &Publish::new("alias/t", "x")
            .qos(1)
            .with(Property::TopicAlias(1)),
    );
    client.disconnect();
    let mut client = connect.open(gateway.mqtt());
    client.send_publish(&Publish::new("", "x").with(Property::TopicAlias(1)));
    assert!(client.expect_disconnect().code >= 0x80);
}

#[test]
fn mqtt5_3_1_2_26_outbound_aliases_keep_to_the_clients_maximum_and_to_their_topics() {
    let gateway = Gateway::start();
    let root = unique("outbound");
    let connect = Connect::v5(&unique("aliases")).with(Property::TopicAliasMaximum(3));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&format!("{root}/#"), 1);
    let mut sender = client(&gateway);
    let mut aliases = vec![None; 4];
    let mut saved = 0;
    for number in 0..120 {
        // Two topics come often, ten come now and then.
        let topic = format!(
            "{root}/{}",
            if number % 3 == 0 {
                number % 10 + 2
            } else {
                number % 2
            }
        );
        sender.publish(&Publish::new(&topic, &topic).qos(1));
        let message = receiver.receive();
        let alias = message.alias();
        assert!(alias.unwrap_or(1) <= 3, "{message:?}");
        let resolved = match (message.topic.as_str(), alias) {
            ("", alias) => {
                saved += 1;
                aliases[usize::from(alias.unwrap_or(0))].clone()
            }
            (topic, None) => Some(topic.to_owned()),
            (topic, Some(alias)) => {
                aliases[usize::from(alias)] = Some(topic.to_owned());
                Some(topic.to_owned())
            }
        };
        assert_eq!(resolved.as_deref(), Some(topic.as_str()), "{message:?}");
    }
    assert!(
        saved > 0,
        "the gateway assigns aliases to a client that offers them"
    );
}

#[test]
fn mqtt5_3_3_4_9_no_more_than_the_clients_receive_maximum_is_in_flight() {
    let gateway = Gateway::start();
    for qos in [1, 2] {
        let topic = unique("window");
        let connect = Connect::v5(&unique("window")).with(Property::ReceiveMaximum(3));
        let mut receiver = connect.open(gateway.mqtt());
        receiver.subscribe(&topic, 2);
        let mut sender = client(&gateway);
        for number in 0..10 {
            sender.publish(&Publish::new(&topic, number.to_string()).qos(qos));
        }
        let mut open: Vec<Publish> = (0..3).map(|_| receiver.expect_publish()).collect();
        receiver.expect_nothing();
        // 3.3.4-10: what is not acknowledged holds back nothing else.
        sender.publish(&Publish::new(&topic, "qos 0"));
        let mut texts: Vec<String> = open.iter().map(Publish::text).collect();
        let mut unhindered = 0;
        // Each acknowledgement makes room for one.
        while let Some(message) = open.pop() {
            receiver.acknowledge(&message);
            for packet in receiver.fence() {
                match packet {
                    Packet::Publish(message) if message.qos == 0 => unhindered += 1,
                    Packet::Publish(message) => {
                        texts.push(message.text());
                        open.push(message);
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(open.len() <= 3, "{open:?}");
        }
        assert_eq!(
            texts,
            (0..10).map(|number| number.to_string()).collect::<Vec<_>>()
        );
        assert_eq!(unhindered, 1, "QoS 0 is outside the window");
    }
}

#[test]
fn mqtt5_4_9_qos2_keeps_its_place_in_the_window_until_pubcomp() {
    let gateway = Gateway::start();
    let topic = unique("pubcomp");
    let connect = Connect::v5(&unique("pubcomp")).with(Property::ReceiveMaximum(1));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 2);
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "first").qos(2));
    sender.publish(&Publish::new(&topic, "second").qos(2));
    let first = receiver.expect_publish();
    receiver.send_pubrec(&Ack::new(first.id));
    assert_eq!(receiver.expect_pubrel().id, first.id);
    receiver.expect_nothing();
    receiver.send_pubcomp(&Ack::new(first.id));
    assert_eq!(receiver.receive().text(), "second");
}

#[test]
fn mqtt5_4_9_a_pubrec_that_refuses_frees_its_place() {
    let gateway = Gateway::start();
    let topic = unique("refusal");
    let connect = Connect::v5(&unique("refusal")).with(Property::ReceiveMaximum(1));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 2);
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "first").qos(2));
    sender.publish(&Publish::new(&topic, "second").qos(2));
    let first = receiver.expect_publish();
    receiver.send_pubrec(&Ack::new(first.id).code(code::UNSPECIFIED));
    // No PUBREL follows a refusal: the next packet is the next message.
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
fn mqtt5_3_1_2_24_a_message_beyond_the_clients_maximum_packet_size_is_not_sent() {
    let gateway = Gateway::start();
    for qos in 0..=2 {
        let topic = unique("small");
        let whole = Publish::new(&topic, [b'x'; 40])
            .qos(qos)
            .id(1)
            .encode(Version::V5)
            .len();
        let size = Property::MaximumPacketSize(whole as u32);
        let mut receiver = Connect::v5(&unique("small"))
            .with(size)
            .open(gateway.mqtt());
        receiver.subscribe(&topic, qos);
        let mut sender = client(&gateway);
        sender.publish(&Publish::new(&topic, [b'y'; 41]).qos(qos));
        sender.publish(&Publish::new(&topic, [b'x'; 40]).qos(qos));
        // The one that fits exactly comes; the other is discarded as if it had been sent (-25).
        assert_eq!(receiver.receive().payload, [b'x'; 40], "QoS {qos}");
        receiver.expect_nothing();
    }
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
fn mqtt_2_2_1_packet_identifiers_in_flight_are_all_different() {
    let gateway = Gateway::start();
    let topic = unique("ids");
    let mut receiver = Connect::v311(&unique("ids")).open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    for number in 0..15 {
        sender.publish(&Publish::new(&topic, number.to_string()).qos(1));
    }
    let mut ids: Vec<u16> = (0..15).map(|_| receiver.expect_publish().id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 15);
}

#[test]
fn mqtt_2_2_1_packet_identifiers_come_round_after_65535() {
    let gateway = Gateway::start();
    let topic = unique("round");
    let mut receiver = client(&gateway);
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    // One message stays unacknowledged: its identifier may not be used again meanwhile.
    sender.publish(&Publish::new(&topic, "held").qos(1));
    let held = receiver.expect_publish();
    let mut seen = 0;
    for round in 0..700u32 {
        let mut bytes = Vec::new();
        for id in 1..=100 {
            bytes.extend(
                Publish::new(&topic, round.to_string())
                    .qos(1)
                    .id(id)
                    .encode(Version::V5),
            );
        }
        sender.send(&bytes);
        let mut acks = Vec::new();
        for _ in 0..100 {
            let message = receiver.expect_publish();
            assert_ne!(message.id, held.id, "after {seen} messages");
            acks.extend(Ack::new(message.id).encode(0x40, Version::V5));
            seen += 1;
        }
        receiver.send(&acks);
        (1..=100).for_each(|id| drop(sender.await_puback(id)));
    }
    assert_eq!(seen, 70_000);
}

#[test]
fn mqtt5_3_4_an_acknowledgement_may_carry_a_reason_and_properties() {
    let gateway = Gateway::start();
    let topic = unique("reasons");
    let mut client = client(&gateway);
    client.subscribe(&topic, 2);
    let reason = |id| Ack {
        id,
        code: 0,
        properties: vec![
            Property::ReasonString("fine".into()),
            Property::user("a", "b"),
        ],
    };
    client.publish(&Publish::new(&topic, "1").qos(1));
    let message = client.expect_publish();
    client.send_puback(&reason(message.id));
    client.publish(&Publish::new(&topic, "2").qos(2));
    let message = client.expect_publish();
    client.send_pubrec(&reason(message.id));
    client.expect_pubrel();
    client.send_pubcomp(&reason(message.id));
    client.expect_nothing();
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

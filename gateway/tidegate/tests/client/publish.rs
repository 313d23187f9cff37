//! What `tidegate pub` sends.

use tidegate_bus::{QoS, TopicName};
use tidegate_mqtt::codec::{Ack, Packet, Property, Version};

use crate::script::{Gateway, VERSIONS, block, id, publish_id};

#[test]
fn a_message_is_published_in_every_version() {
    for (name, version) in VERSIONS {
        let gateway = Gateway::listen();
        let client = gateway.client(&["pub", "-V", name, "-t", "a/b", "-m", "hi", "-r"]);
        let mut peer = gateway.connected(version, |packet| {
            let Packet::Connect(connect) = packet else {
                unreachable!()
            };
            assert_eq!(connect.version, version);
            assert!(connect.clean_start);
            assert_eq!(connect.keep_alive, 60);
            assert!(connect.client_id.starts_with("tidegate-") && connect.client_id.len() <= 23);
            assert_eq!(
                (connect.user_name, connect.password, connect.will),
                (None, None, None)
            );
        });
        peer.receive(|packet| {
            let Packet::Publish(publish) = packet else {
                panic!("{packet:?}")
            };
            assert_eq!(publish.topic, Some(TopicName::new("a/b").unwrap()));
            assert_eq!(publish.payload, b"hi");
            assert_eq!((publish.qos, publish.retain), (QoS::AtMostOnce, true));
        });
        peer.expect_goodbye();
        assert_eq!(client.succeeds(), "");
    }
}

#[test]
fn acknowledged_messages_are_carried_to_their_end() {
    for (name, version) in VERSIONS {
        let gateway = Gateway::listen();
        let client = gateway.client(&["pub", "-V", name, "-t", "t", "-m", "x", "-q", "1"]);
        let mut peer = gateway.connected(version, |_| {});
        let packet_id = peer.receive(publish_id);
        peer.send(&Packet::PubAck(Ack::success(packet_id)));
        peer.expect_goodbye();
        client.succeeds();

        let client = gateway.client(&["pub", "-V", name, "-t", "t", "-m", "x", "-q", "2"]);
        let mut peer = gateway.connected(version, |_| {});
        let packet_id = peer.receive(publish_id);
        peer.send(&Packet::PubRec(Ack::success(packet_id)));
        peer.receive(|packet| assert_eq!(*packet, Packet::PubRel(Ack::success(packet_id))));
        peer.send(&Packet::PubComp(Ack::success(packet_id)));
        peer.expect_goodbye();
        client.succeeds();
    }
}

#[test]
fn every_property_of_a_message_is_sent() {
    let gateway = Gateway::listen();
    let client = gateway.client(&[
        "pub",
        "-t",
        "t",
        "--null",
        "--content-type",
        "text/plain",
        "--response-topic",
        "answers",
        "--correlation-data",
        "7",
        "--user-property",
        "b=1",
        "--user-property",
        "a=2=3",
        "--message-expiry",
        "1h",
        "--payload-format",
        "utf8",
    ]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.receive(|packet| {
        let Packet::Publish(publish) = packet else {
            panic!("{packet:?}")
        };
        assert_eq!(publish.payload, b"");
        assert_eq!(
            publish.properties.iter().collect::<Vec<_>>(),
            [
                Property::PayloadFormatIndicator(1),
                Property::MessageExpiryInterval(3600),
                Property::ContentType("text/plain"),
                Property::ResponseTopic("answers"),
                Property::CorrelationData(b"7"),
                Property::UserProperty("b", "1"),
                Property::UserProperty("a", "2=3"),
            ]
        );
    });
    peer.expect_goodbye();
    client.succeeds();
}

#[test]
fn a_topic_alias_replaces_the_topic_after_the_first_message() {
    let gateway = Gateway::listen();
    let arguments = ["pub", "-t", "t", "-m", "x", "-n", "3", "--topic-alias", "2"];
    let client = gateway.client(&arguments);
    let limits = block(&[Property::TopicAliasMaximum(2)]);
    let mut peer = gateway.connected_with(Version::V5, &limits, |_| {});
    for topic in [Some("t"), None, None] {
        peer.receive(|packet| {
            let Packet::Publish(publish) = packet else {
                panic!("{packet:?}")
            };
            assert_eq!(publish.topic.map(TopicName::as_str), topic);
            assert_eq!(publish.properties.topic_alias(), Some(id(2)));
        });
    }
    peer.expect_goodbye();
    client.succeeds();

    let client = gateway.client(&arguments);
    let limits = block(&[Property::TopicAliasMaximum(1)]);
    let _peer = gateway.connected_with(Version::V5, &limits, |_| {});
    client.fails(2, "topic alias 2 is too high: the gateway takes 1");
}

#[test]
fn what_the_gateway_cannot_do_is_not_tried() {
    for (limit, arguments, text) in [
        (
            Property::MaximumQos(QoS::AtMostOnce),
            ["-m", "x", "-q1"],
            "QoS 1 is too high",
        ),
        (
            Property::RetainAvailable(false),
            ["-m", "x", "-r"],
            "does not retain",
        ),
        (
            Property::MaximumPacketSize(20.try_into().unwrap()),
            ["-m", "a message of some length", "-q0"],
            "takes packets of 20 bytes",
        ),
    ] {
        let gateway = Gateway::listen();
        let client = gateway.client(&[&["pub", "-t", "t"], &arguments[..]].concat());
        let _peer = gateway.connected_with(Version::V5, &block(&[limit]), |_| {});
        client.fails(2, text);
    }
}

#[test]
fn the_receive_maximum_of_the_gateway_is_kept() {
    let gateway = Gateway::listen();
    let client = gateway.client(&["pub", "-t", "t", "-m", "x", "-q", "1", "-n", "6"]);
    let limits = block(&[Property::ReceiveMaximum(id(2))]);
    let mut peer = gateway.connected_with(Version::V5, &limits, |_| {});
    for _ in 0..3 {
        let first = peer.receive(publish_id);
        let second = peer.receive(publish_id);
        assert_ne!(first, second);
        peer.assert_quiet();
        peer.send(&Packet::PubAck(Ack::success(second)));
        peer.send(&Packet::PubAck(Ack::success(first)));
    }
    peer.expect_goodbye();
    client.succeeds();
}

#[test]
fn each_line_of_standard_input_is_a_message() {
    let gateway = Gateway::listen();
    let mut client = gateway.client(&["pub", "-t", "t", "-l", "-q", "1"]);
    client.input("one\n\nthree");
    let mut peer = gateway.connected(Version::V5, |_| {});
    for line in ["one", "", "three"] {
        let packet_id = peer.receive(|packet| {
            let Packet::Publish(publish) = packet else {
                panic!("{packet:?}")
            };
            assert_eq!(publish.payload, line.as_bytes());
            publish.packet_id.unwrap()
        });
        peer.send(&Packet::PubAck(Ack::success(packet_id)));
    }
    peer.expect_goodbye();
    client.succeeds();
}

#[test]
fn a_payload_comes_from_a_file_or_from_all_of_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("payload");
    std::fs::write(&path, b"\x00\xff\n").unwrap();
    let gateway = Gateway::listen();
    let from_file = gateway.client(&["pub", "-t", "t", "-f", path.to_str().unwrap()]);
    let payload = |packet: &Packet<'_>| match packet {
        Packet::Publish(publish) => publish.payload.to_vec(),
        other => panic!("{other:?}"),
    };
    let mut peer = gateway.connected(Version::V5, |_| {});
    assert_eq!(peer.receive(payload), b"\x00\xff\n");
    peer.expect_goodbye();
    from_file.succeeds();

    let mut from_input = gateway.client(&["pub", "-t", "t", "-s"]);
    from_input.input("a\nb\n");
    let mut peer = gateway.connected(Version::V5, |_| {});
    assert_eq!(peer.receive(payload), b"a\nb\n");
    peer.expect_goodbye();
    from_input.succeeds();

    gateway
        .client(&["pub", "-t", "t", "-f", "/nonexistent"])
        .fails(1, "/nonexistent cannot be read");
}

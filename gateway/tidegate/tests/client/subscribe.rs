//! What `tidegate sub` asks for, answers and prints.

use serde_json::{Value, json};
use tidegate_bus::QoS;
use tidegate_mqtt::codec::{
    Ack, Packet, Properties, Property, PropertyBlock, ReasonCode, ReasonCodes, RetainHandling,
    SubAck, Version,
};

use crate::script::{Gateway, VERSIONS, block, id, message};

#[test]
fn the_connection_is_as_the_options_say() {
    let gateway = Gateway::listen();
    let client = gateway.client(&[
        "sub",
        "-t",
        "t",
        "-n",
        "1",
        "-i",
        "me",
        "-u",
        "user",
        "-P",
        "secret",
        "-k",
        "9",
        "-c",
        "--session-expiry",
        "never",
        "--receive-maximum",
        "3",
        "--maximum-packet-size",
        "1000",
        "--topic-alias-maximum",
        "4",
        "--will-topic",
        "w",
        "--will-payload",
        "gone",
        "--will-qos",
        "2",
        "--will-retain",
        "--will-delay",
        "5",
        "--will-message-expiry",
        "6",
        "--will-payload-format",
        "utf8",
        "--will-content-type",
        "c",
        "--will-response-topic",
        "r",
        "--will-correlation-data",
        "d",
        "--will-user-property",
        "k=v",
    ]);
    let mut peer = gateway.connected(Version::V5, |packet| {
        let Packet::Connect(connect) = packet else {
            unreachable!()
        };
        assert_eq!((connect.client_id, connect.keep_alive), ("me", 9));
        assert!(!connect.clean_start);
        assert_eq!(connect.user_name, Some("user"));
        assert_eq!(connect.password, Some(&b"secret"[..]));
        assert_eq!(
            connect.properties.iter().collect::<Vec<_>>(),
            [
                Property::SessionExpiryInterval(u32::MAX),
                Property::ReceiveMaximum(id(3)),
                Property::MaximumPacketSize(1000.try_into().unwrap()),
                Property::TopicAliasMaximum(4),
            ]
        );
        let will = connect.will.unwrap();
        assert_eq!((will.topic.as_str(), will.payload), ("w", &b"gone"[..]));
        assert_eq!((will.qos, will.retain), (QoS::ExactlyOnce, true));
        assert_eq!(
            will.properties.iter().collect::<Vec<_>>(),
            [
                Property::WillDelayInterval(5),
                Property::PayloadFormatIndicator(1),
                Property::MessageExpiryInterval(6),
                Property::ContentType("c"),
                Property::ResponseTopic("r"),
                Property::CorrelationData(b"d"),
                Property::UserProperty("k", "v"),
            ]
        );
    });
    peer.subscribed();
    // The second uses the alias that the first introduced.
    let introduces = block(&[Property::TopicAlias(id(4))]);
    peer.send(&message("t", b"first", QoS::AtMostOnce, 0, &introduces));
    peer.expect_goodbye();
    assert_eq!(client.succeeds(), "first\n");
}

#[test]
fn a_subscription_is_as_the_options_say() {
    let gateway = Gateway::listen();
    let client = gateway.client(&[
        "sub",
        "-t",
        "a/+",
        "-t",
        "b/#",
        "-q",
        "2",
        "--no-local",
        "--retain-as-published",
        "--retain-handling",
        "2",
        "--subscription-id",
        "300",
        "-C",
        "1",
        "-v",
    ]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    let packet_id = peer.receive(|packet| {
        let Packet::Subscribe(subscribe) = packet else {
            panic!("{packet:?}")
        };
        let properties: Vec<_> = subscribe.properties.iter().collect();
        assert_eq!(properties, [Property::SubscriptionIdentifier(300)]);
        let filters: Vec<_> = subscribe.filters.iter().collect();
        assert_eq!(
            filters
                .iter()
                .map(|(filter, _)| *filter)
                .collect::<Vec<_>>(),
            ["a/+", "b/#"]
        );
        for (_, options) in filters {
            assert_eq!(options.qos, QoS::ExactlyOnce);
            assert!(options.no_local && options.retain_as_published);
            assert_eq!(options.retain_handling, RetainHandling::from_u8(2).unwrap());
        }
        subscribe.packet_id
    });
    peer.send(&Packet::SubAck(SubAck {
        packet_id,
        properties: Properties::EMPTY,
        reasons: ReasonCodes::new(&[ReasonCode::GrantedQos2, ReasonCode::GrantedQos1]),
    }));
    peer.send(&message(
        "a/b",
        b"hi",
        QoS::AtMostOnce,
        0,
        &PropertyBlock::new(),
    ));
    peer.expect_goodbye();
    assert_eq!(client.succeeds(), "a/b hi\n");
}

#[test]
fn a_share_is_part_of_every_filter() {
    let gateway = Gateway::listen();
    let client = gateway.client(&["sub", "--share", "g", "-t", "a", "-t", "b", "-n", "1"]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.receive(|packet| {
        let Packet::Subscribe(subscribe) = packet else {
            panic!("{packet:?}")
        };
        let filters: Vec<_> = subscribe.filters.iter().map(|(filter, _)| filter).collect();
        assert_eq!(filters, ["$share/g/a", "$share/g/b"]);
    });
    drop(peer);
    client.fails(1, "the gateway closed the connection");
}

#[test]
fn json_lines_have_everything() {
    let gateway = Gateway::listen();
    let client = gateway.client(&["sub", "-t", "#", "--json", "-n", "3"]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.subscribed();
    let properties = block(&[
        Property::UserProperty("k", "v"),
        Property::SubscriptionIdentifier(1),
        Property::SubscriptionIdentifier(2),
        Property::SubscriptionIdentifier(3),
    ]);
    let nothing = PropertyBlock::new();
    peer.send(&message("a", b"text", QoS::AtMostOnce, 0, &properties));
    peer.send(&message("b", &[0xff], QoS::AtLeastOnce, 5, &nothing));
    peer.send(&message("c", b"", QoS::AtMostOnce, 0, &nothing));
    peer.receive(|packet| assert_eq!(*packet, Packet::PubAck(Ack::success(id(5)))));
    peer.expect_goodbye();
    let stdout = client.succeeds();
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["topic"], "a");
    assert_eq!(lines[0]["payload"], "text");
    assert_eq!(
        lines[0]["properties"],
        json!({"user_properties": [["k", "v"]]})
    );
    assert_eq!(lines[0]["subscription_identifiers"], json!([1, 2, 3]));
    assert!(lines[0]["received"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines[1]["payload_base64"], "/w==");
    assert_eq!(lines[1]["qos"], 1);
    assert_eq!(lines[2]["payload"], "");
}

#[test]
fn a_message_of_qos_2_is_printed_once_and_carried_to_its_end() {
    for (name, version) in VERSIONS {
        let gateway = Gateway::listen();
        let client = gateway.client(&["sub", "-V", name, "-t", "t", "-q", "2", "-n", "2"]);
        let mut peer = gateway.connected(version, |_| {});
        peer.subscribed();
        let nothing = PropertyBlock::new();
        let first = message("t", b"one", QoS::ExactlyOnce, 7, &nothing);
        for _ in 0..2 {
            peer.send(&first);
            peer.receive(|packet| assert_eq!(*packet, Packet::PubRec(Ack::success(id(7)))));
        }
        peer.send(&Packet::PubRel(Ack::success(id(7))));
        peer.receive(|packet| assert_eq!(*packet, Packet::PubComp(Ack::success(id(7)))));
        // A release that is owed from an earlier connection.
        peer.send(&Packet::PubRel(Ack::success(id(9))));
        peer.receive(|packet| assert!(matches!(packet, Packet::PubComp(_)), "{packet:?}"));

        peer.send(&message("t", b"two", QoS::ExactlyOnce, 7, &nothing));
        peer.receive(|packet| assert_eq!(*packet, Packet::PubRec(Ack::success(id(7)))));
        // Past the count nothing is taken, so that the session keeps it.
        peer.send(&message("t", b"three", QoS::AtLeastOnce, 8, &nothing));
        peer.send(&Packet::PubRel(Ack::success(id(7))));
        peer.receive(|packet| assert_eq!(*packet, Packet::PubComp(Ack::success(id(7)))));
        peer.expect_goodbye();
        assert_eq!(client.succeeds(), "one\ntwo\n");
    }
}

#[test]
fn a_topic_alias_of_the_gateway_stands_for_its_topic() {
    let gateway = Gateway::listen();
    let client = gateway.client(&[
        "sub",
        "-t",
        "#",
        "-v",
        "-n",
        "2",
        "--topic-alias-maximum",
        "1",
    ]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.subscribed();
    let alias = block(&[Property::TopicAlias(id(1))]);
    peer.send(&message("a/b", b"1", QoS::AtMostOnce, 0, &alias));
    peer.send(&message("", b"2", QoS::AtMostOnce, 0, &alias));
    peer.expect_goodbye();
    assert_eq!(client.succeeds(), "a/b 1\na/b 2\n");

    let client = gateway.client(&["sub", "-t", "#"]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.subscribed();
    peer.send(&message("a/b", b"1", QoS::AtMostOnce, 0, &alias));
    client.fails(1, "topic alias 1 is above the maximum");
}

#[test]
fn an_idle_client_keeps_its_connection_alive() {
    let gateway = Gateway::listen();
    let client = gateway.client(&["sub", "-t", "t", "-n", "1"]);
    // The server's keep alive goes before the client's own.
    let limits = block(&[Property::ServerKeepAlive(1)]);
    let mut peer = gateway.connected_with(Version::V5, &limits, |_| {});
    peer.subscribed();
    peer.receive(|packet| assert_eq!(*packet, Packet::PingReq));
    peer.send(&Packet::PingResp);
    peer.send(&message(
        "t",
        b"hi",
        QoS::AtMostOnce,
        0,
        &PropertyBlock::new(),
    ));
    peer.expect_goodbye();
    assert_eq!(client.succeeds(), "hi\n");
}

#[test]
fn debug_tells_what_happens() {
    let gateway = Gateway::listen();
    let client = gateway.client(&["sub", "-t", "t", "-n", "1", "--debug"]);
    let properties = block(&[Property::AssignedClientIdentifier("given")]);
    let mut peer = gateway.connected_with(Version::V5, &properties, |_| {});
    peer.subscribed();
    peer.send(&message(
        "t",
        b"hi",
        QoS::AtMostOnce,
        0,
        &PropertyBlock::new(),
    ));
    peer.expect_goodbye();
    let ended = client.end();
    assert_eq!(
        ended.stderr,
        "connected with a new session, client identifier given\n\
         subscribed to t: Granted QoS 2\n"
    );
}

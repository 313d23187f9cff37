//! EMQX's own client with MQTT over QUIC, flowsdk, against the gateway: MQTT 5 over TLS 1.3 with ALPN `mqtt`, and the
//! gateway's certificate verified. flowsdk runs as a process (`tests/flowsdk-peer`).
//!
//! Here is the client that flowsdk tells applications to use, with all of MQTT on one stream; in [`streams`] is its
//! engine with several, with early data and with another address. Its QUIC is quinn's, as in the gateway and in the
//! tests' own client, so a mistake that quinn makes on both sides is not seen here; what is flowsdk's is MQTT, when
//! what is said on which stream, and how connections begin and end. A QUIC that is not quinn's is aioquic's, in
//! `tests/interop/python/test_quic.py`.

#![expect(
    clippy::unwrap_used,
    reason = "the peer is part of a test: what fails in it fails the test"
)]

mod peer;
mod streams;

use serde_json::json;
use tidegate_tests::certificates::{Authority, write};
use tidegate_tests::wire::{Client, Connect, PATIENCE, Publish, code};
use tidegate_tests::{Gateway, Noise, unique};

use peer::{Message, Setup};

/// A client over TCP that is the tests' own, subscribed to this at QoS 2.
#[track_caller]
fn neighbour(gateway: &Gateway, filter: &str) -> Client {
    let mut neighbour = Connect::v5(&unique("neighbour")).open(gateway.mqtt());
    neighbour.subscribe(filter, 2);
    neighbour
}

#[test]
fn mqtt_4_3_messages_go_both_ways_at_every_qos() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let (there, here) = (unique("there"), unique("here"));
    let mut neighbour = neighbour(&gateway, &format!("{here}/#"));
    let mut peer = Setup::client(&gateway, &unique("flowsdk")).start();
    assert!(!peer.connect(), "a session that nobody has left");
    for qos in 0..=2 {
        peer.subscribe(&format!("{there}/{qos}"), qos, None);
    }
    for number in 0..30_u8 {
        let (granted, payload) = (number % 3, vec![number, 0, 0xff]);
        // What is granted is the most that comes.
        let topic = format!("{there}/{granted}");
        neighbour.publish(&Publish::new(&topic, &payload).qos(2));
        let right = Message {
            topic,
            payload: payload.clone(),
            qos: granted,
            dup: false,
            stream: None,
        };
        assert_eq!(peer.receive(), right);

        let topic = format!("{here}/{granted}");
        peer.publish(&topic, &payload, granted, None);
        let message = neighbour.receive();
        assert_eq!((message.topic, message.payload), (topic, payload));
        assert_eq!((message.qos, message.dup), (granted, false));
    }
    peer.expect_nothing();
    neighbour.expect_nothing();
    peer.disconnect();
}

#[test]
fn payloads_of_up_to_a_megabyte_arrive_whole_in_both_directions() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let (there, here) = (unique("there"), unique("here"));
    let mut neighbour = neighbour(&gateway, &here);
    let mut peer = Setup::client(&gateway, &unique("flowsdk")).start();
    peer.connect();
    peer.subscribe(&there, 2, None);
    for (qos, length) in [(0, 100_000), (1, 100_000), (2, 100_000), (1, 1_000_000)] {
        let payload = Noise::new(length as u64).bytes(length);
        neighbour.publish(&Publish::new(&there, &payload).qos(qos));
        let message = peer.receive();
        assert_eq!(message.qos, qos);
        assert!(message.payload == payload, "{length} bytes to flowsdk");
        peer.publish(&here, &payload, qos, None);
        let message = neighbour.receive();
        assert_eq!(message.qos, qos);
        assert!(message.payload == payload, "{length} bytes of flowsdk");
    }
    peer.disconnect();
}

#[test]
fn mqtt5_3_1_2_11_2_what_came_meanwhile_waits_in_the_session() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let (topic, id) = (unique("meanwhile"), unique("flowsdk"));
    let mut neighbour = neighbour(&gateway, &unique("nothing"));
    let mut peer = Setup::client(&gateway, &id).lasting().start();
    assert!(!peer.connect(), "a session that nobody has left");
    peer.subscribe(&topic, 1, None);
    for round in 0..2 {
        peer.disconnect();
        for number in 0..10_u8 {
            neighbour.publish(&Publish::new(&topic, [round, number]).qos(1));
        }
        assert!(peer.connect(), "the session is gone");
        for number in 0..10 {
            let message = peer.receive();
            assert_eq!((message.payload, message.qos), (vec![round, number], 1));
        }
        peer.expect_nothing();
    }
    peer.disconnect();
}

#[test]
fn mqtt_3_10_4_1_nothing_comes_after_unsuback() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let (topic, other) = (unique("topic"), unique("other"));
    let mut neighbour = neighbour(&gateway, &unique("nothing"));
    let mut peer = Setup::client(&gateway, &unique("flowsdk")).start();
    peer.connect();
    peer.subscribe(&topic, 1, None);
    peer.subscribe(&other, 1, None);
    neighbour.publish(&Publish::new(&topic, "before").qos(1));
    assert_eq!(peer.receive().payload, b"before");
    peer.unsubscribe(&topic, None);
    neighbour.publish(&Publish::new(&topic, "after").qos(1));
    neighbour.publish(&Publish::new(&other, "other").qos(1));
    assert_eq!(peer.receive().payload, b"other");
    peer.expect_nothing();
    peer.disconnect();
}

#[test]
fn mqtt_3_12_4_1_flowsdk_keeps_its_connection_alive_by_itself() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("alive");
    let mut neighbour = neighbour(&gateway, &unique("nothing"));
    let mut peer = Setup::client(&gateway, &unique("flowsdk"))
        .keep_alive(1)
        .start();
    peer.connect();
    peer.subscribe(&topic, 0, None);
    // Each is a second after the one before, so that the gateway would have ended the connection after the second.
    for _ in 0..3 {
        peer.await_event("pong");
    }
    neighbour.publish(&Publish::new(&topic, "here"));
    assert_eq!(peer.receive().payload, b"here");
    peer.disconnect();
}

#[test]
fn mqtt5_3_14_2_1_flowsdk_hears_why_the_gateway_ends_its_connection() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let id = unique("flowsdk");
    let mut first = Setup::client(&gateway, &id).start();
    first.connect();
    let mut second = Setup::client(&gateway, &id).start();
    second.connect();
    let ended = first.await_event("disconnected");
    assert_eq!(ended["code"], json!(code::TAKEN_OVER), "{ended}");
    gateway.signal("TERM");
    let ended = second.await_event("disconnected");
    assert_eq!(ended["code"], json!(code::SHUTTING_DOWN), "{ended}");
    let mut gateway = gateway;
    assert!(gateway.wait(PATIENCE).success());
}

#[test]
fn rfc8446_4_4_2_4_flowsdk_refuses_a_certificate_that_it_does_not_trust() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let file = gateway.directory().join("other.crt");
    write(&file, &Authority::new("Another authority").pem());
    let setup = Setup::client(&gateway, &unique("flowsdk"));
    let mut peer = setup.trusting(&file).start();
    peer.tell(&json!({ "command": "connect" }));
    let what = peer.await_failure();
    assert!(what.contains("certificate"), "{what}");
}

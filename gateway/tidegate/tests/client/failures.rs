//! How both end when something is wrong.

use std::io::Write;
use std::process::Command;

use tidegate_bus::QoS;
use tidegate_mqtt::codec::{
    Ack, ConnAck, Disconnect, Packet, Properties, Property, PropertyBlock, ReasonCode, ReasonCodes,
    SubAck, Version,
};

use crate::script::{Gateway, block, message, publish_id};

#[test]
fn a_refusal_names_its_reason() {
    let gateway = Gateway::listen();
    let explanation = block(&[Property::ReasonString("not today")]);
    let refusal = |reason| {
        Packet::ConnAck(ConnAck {
            session_present: false,
            reason,
            properties: explanation.as_properties(),
        })
    };
    let client = gateway.client(&["pub", "-t", "t", "-m", "x"]);
    let mut peer = gateway.accept(Version::V5);
    peer.receive(|_| ());
    peer.send(&refusal(ReasonCode::Banned));
    client.fails(
        3,
        "the gateway refused the connection: Banned (0x8a): not today",
    );

    let client = gateway.client(&["sub", "-t", "t", "-V", "3.1.1"]);
    let mut peer = gateway.accept(Version::V3_1_1);
    peer.receive(|_| ());
    peer.send(&refusal(ReasonCode::NotAuthorized));
    client.fails(
        3,
        "the gateway refused the connection: Not authorized (0x87)",
    );

    for qos in ["1", "2"] {
        let client = gateway.client(&["pub", "-t", "t", "-m", "x", "-q", qos]);
        let mut peer = gateway.connected(Version::V5, |_| {});
        let packet_id = peer.receive(publish_id);
        let ack = Ack {
            packet_id,
            reason: ReasonCode::QuotaExceeded,
            properties: explanation.as_properties(),
        };
        peer.send(&match qos {
            "1" => Packet::PubAck(ack),
            _ => Packet::PubRec(ack),
        });
        peer.expect_goodbye();
        client.fails(
            3,
            "the gateway refused a message to t: Quota exceeded (0x97): not today",
        );
    }
}

#[test]
fn a_filter_that_is_refused_is_named() {
    let gateway = Gateway::listen();
    let answer = |reasons: &[ReasonCode]| {
        let client = gateway.client(&["sub", "-t", "a", "-t", "b", "-n", "1"]);
        let mut peer = gateway.connected(Version::V5, |_| {});
        let packet_id = peer.receive(|packet| match packet {
            Packet::Subscribe(subscribe) => subscribe.packet_id,
            other => panic!("{other:?}"),
        });
        peer.send(&Packet::SubAck(SubAck {
            packet_id,
            properties: Properties::EMPTY,
            reasons: ReasonCodes::new(reasons),
        }));
        (client, peer)
    };
    let (client, _peer) = answer(&[ReasonCode::NotAuthorized, ReasonCode::NotAuthorized]);
    client.fails(3, "the gateway refused the filter b: Not authorized (0x87)");

    let (client, mut peer) = answer(&[ReasonCode::NotAuthorized, ReasonCode::Success]);
    peer.send(&message(
        "b",
        b"hi",
        QoS::AtMostOnce,
        0,
        &PropertyBlock::new(),
    ));
    peer.expect_goodbye();
    let ended = client.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hi\n"));
    assert!(
        ended
            .stderr
            .contains("refused the filter a: Not authorized"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_disconnect_names_its_reason() {
    let gateway = Gateway::listen();
    let client = gateway.client(&["sub", "-t", "t"]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.subscribed();
    peer.send(&Packet::Disconnect(Disconnect::with_reason(
        ReasonCode::SessionTakenOver,
    )));
    client.fails(3, "the gateway disconnected: Session taken over (0x8e)");
}

#[test]
fn nonsense_from_the_gateway_is_named() {
    let gateway = Gateway::listen();
    let client = gateway.client(&["sub", "-t", "t"]);
    let mut peer = gateway.accept(Version::V5);
    peer.receive(|_| ());
    peer.stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .unwrap();
    client.fails(1, "the gateway sent a packet that is not valid");

    let client = gateway.client(&["sub", "-t", "t"]);
    let mut peer = gateway.accept(Version::V5);
    peer.receive(|_| ());
    peer.send(&Packet::PingResp);
    client.fails(
        1,
        "the gateway broke the protocol: PINGRESP came before CONNACK",
    );
}

#[test]
fn time_limits_end_what_does_not_end() {
    let gateway = Gateway::listen();
    // Without a number of messages the time is how long to listen.
    let client = gateway.client(&["sub", "-t", "t", "-W", "100ms"]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.subscribed();
    peer.expect_goodbye();
    assert_eq!(client.succeeds(), "");

    let client = gateway.client(&["sub", "-t", "t", "-W", "100ms", "-n", "1"]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.subscribed();
    peer.expect_goodbye();
    client.fails(4, "it was not done in time");

    let client = gateway.client(&["pub", "-t", "t", "-m", "x", "-q", "1", "-W", "100ms"]);
    let mut peer = gateway.connected(Version::V5, |_| {});
    peer.receive(publish_id);
    client.fails(4, "it was not done in time");
}

#[test]
fn nobody_there_is_said() {
    let gateway = Gateway::listen();
    let address = gateway.address();
    let client = gateway.client(&["pub", "-t", "t", "-m", "x"]);
    drop(gateway);
    let ended = client.end();
    // Either nobody listens any more, or the connection was never accepted.
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    drop(ended);
    let gone = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args([
            "pub",
            "-t",
            "t",
            "-m",
            "x",
            "--url",
            &format!("mqtt://{address}"),
        ])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(1));
    let text = String::from_utf8(gone.stderr).unwrap();
    assert!(
        text.contains(&format!("mqtt://{address} cannot be reached: ")),
        "{text}"
    );
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (arguments, text) in [
        (&["pub", "-t", "t"][..], "required"),
        (
            &["pub", "-t", "t", "-m", "x", "--null"],
            "cannot be used with",
        ),
        (&["pub", "-t", "t/#", "-m", "x"], "no wildcard"),
        (
            &["pub", "-t", "t", "-m", "x", "-q", "3"],
            "must be 0, 1 or 2",
        ),
        (
            &["pub", "-t", "t", "-m", "x", "--url", "http://a"],
            "nothing speaks http",
        ),
        (
            &["pub", "-t", "t", "-m", "x", "--will-qos", "1"],
            "--will-topic",
        ),
        (
            &[
                "pub",
                "-t",
                "t",
                "-m",
                "x",
                "-V",
                "3.1.1",
                "--content-type",
                "a",
            ],
            "--content-type needs MQTT 5",
        ),
        (
            &["pub", "-t", "t", "-m", "x", "-V", "3.1", "-P", "p"],
            "a password needs a user name",
        ),
        (
            &["pub", "-t", "t", "-m", "x", "--user-property", "a"],
            "KEY=VALUE",
        ),
        (&["pub", "-t", "t", "-m", "x", "-c"], "--id"),
        (&["sub"], "--topic"),
        (&["sub", "-t", "a/#/b"], "#"),
        (&["sub", "-t", "a", "--share", "a/b"], "group"),
        (
            &["sub", "-t", "a", "--share", "g", "--no-local"],
            "cannot be used with",
        ),
        (&["sub", "-t", "a", "--subscription-id", "0"], "1..="),
        (
            &[
                "sub",
                "-t",
                "a",
                "-V",
                "3.1.1",
                "--no-local",
                "--session-expiry",
                "1",
            ],
            "--session-expiry, --no-local needs MQTT 5",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(text), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_over_every_scheme() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let clients = ["mqtt", "mqtts", "ws", "wss", "quic"].map(|scheme| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(["pub", "-t", "t", "-m", "x", "--url"])
            .arg(format!("{scheme}://{address}"))
            .stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    });
    for client in clients {
        let output = client.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the gateway did not answer"), "{said}");
    }
}

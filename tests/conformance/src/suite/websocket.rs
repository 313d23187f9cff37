//! MQTT in WebSocket: MQTT 5.0 and 3.1.1 chapter 6. Frame by frame, and so without TLS.

use std::net::SocketAddr;

use tidegate_tests::Transport;
use tidegate_tests::websocket::{Frame, RawWebSocket, Upgrade, frame, message, opcode};
use tidegate_tests::wire::Publish;

use super::raw::RawConnect;
use crate::case::Case;
use crate::fault::Fault;
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_6_0_0_1_a_text_frame_ends_the_connection)
        .mqtt3(&["6.0.0-1"])
        .mqtt5(&["6.0.0-1"])
        .fault(Fault::bytes_of_client(
            "a text frame made a binary one",
            |bytes| {
                let text = bytes.first() == Some(&(LAST | opcode::TEXT));
                if text {
                    bytes[0] = LAST | opcode::BINARY;
                }
                text
            },
        )),
    test!(mqtt_6_0_0_1_the_server_sends_binary_frames)
        .mqtt3(&["6.0.0-1"])
        .mqtt5(&["6.0.0-1"])
        .fault(Fault::bytes_of_server(
            "a binary frame made a text one",
            |bytes| {
                let binary = bytes.first() == Some(&(LAST | opcode::BINARY));
                if binary {
                    bytes[0] = LAST | opcode::TEXT;
                }
                binary
            },
        )),
    test!(mqtt_6_0_0_2_a_packet_may_come_in_many_frames)
        .mqtt3(&["6.0.0-2"])
        .mqtt5(&["6.0.0-2"])
        .fault(Fault::bytes_of_client(
            "frames of a byte dropped",
            |bytes| {
                let one = bytes.starts_with(&[LAST | opcode::BINARY, 0x81]);
                if one {
                    bytes.clear();
                }
                one
            },
        )),
    test!(mqtt_6_0_0_2_a_message_may_come_in_many_frames)
        .mqtt3(&["6.0.0-2"])
        .mqtt5(&["6.0.0-2"])
        .fault(Fault::bytes_of_client(
            "what begins with a part of a message dropped",
            |bytes| {
                let part = bytes.first() == Some(&opcode::BINARY);
                if part {
                    bytes.clear();
                }
                part
            },
        )),
    test!(mqtt_6_0_0_2_a_frame_may_hold_several_packets)
        .mqtt3(&["6.0.0-2"])
        .mqtt5(&["6.0.0-2"])
        .fault(Fault::bytes_of_server(
            "nothing behind the CONNACK",
            |bytes| {
                // Frames of answers to pings: two bytes in a binary frame, or more of them.
                let pings = bytes.windows(2).any(|two| two == PONG);
                if pings {
                    let kept = bytes.windows(2).position(|two| two[0] == 0x20);
                    bytes.truncate(kept.map_or(0, |at| at.saturating_sub(2)));
                }
                pings
            },
        )),
    test!(mqtt_6_0_0_4_the_subprotocol_is_mqtt)
        .mqtt3(&["6.0.0-4"])
        .mqtt5(&["6.0.0-4"])
        .fault(Fault::bytes_of_server("another subprotocol", |bytes| {
            let head = String::from_utf8_lossy(bytes).to_ascii_lowercase();
            let at = head.find("sec-websocket-protocol: mqtt");
            if let Some(at) = at {
                let end = at + "sec-websocket-protocol: mqtt".len();
                bytes[end - 4..end].copy_from_slice(b"chat");
            }
            at.is_some()
        })),
];

/// The first byte of a frame that ends its message.
const LAST: u8 = 0x80;
/// PINGREQ and PINGRESP.
const PING: [u8; 2] = [0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];

/// Where WebSocket is spoken without TLS.
#[track_caller]
fn plain(case: &Case) -> SocketAddr {
    match case.transport() {
        Transport::Ws => case.server().address(),
        Transport::Wss => case.does_not_apply("frames are looked at without TLS only"),
        Transport::Tcp | Transport::Tls | Transport::Quic => {
            case.does_not_apply("there is no WebSocket here")
        }
    }
}

fn connect(case: &Case) -> Vec<u8> {
    RawConnect::of(case)
        .field(case.topic("frames").as_bytes())
        .bytes()
}

/// A WebSocket on which a client is connected.
#[track_caller]
fn connected(case: &Case) -> RawWebSocket {
    let mut socket = RawWebSocket::open(plain(case));
    socket.send(&message(opcode::BINARY, &connect(case)));
    socket.expect_connack();
    socket
}

/// The server must end the connection, with a farewell of MQTT or of WebSocket or without one.
#[track_caller]
fn ends(socket: &mut RawWebSocket) {
    while let Some(frame) = socket.next_frame() {
        let Frame {
            opcode: kind,
            payload,
            ..
        } = frame;
        match kind {
            opcode::CLOSE => {
                // Some servers wait for the answer to their close frame.
                let _ = socket.try_send(&message(opcode::CLOSE, &payload));
            }
            opcode::BINARY if payload.first() == Some(&0xE0) => {}
            _ => panic!("the connection was to end, but this came: {payload:02x?}"),
        }
    }
}

/// What the server sends, however it is cut into messages, up to this end.
#[track_caller]
fn up_to(socket: &mut RawWebSocket, end: &[u8]) -> Vec<u8> {
    let mut answers = socket.expect_message();
    while !answers.ends_with(end) {
        answers.extend(socket.expect_message());
    }
    answers
}

fn mqtt_6_0_0_1_a_text_frame_ends_the_connection(case: &Case) {
    let mut socket = connected(case);
    socket.send(&message(opcode::TEXT, &PING));
    ends(&mut socket);
    // As the first of all.
    let mut socket = RawWebSocket::open(plain(case));
    socket.send(&message(opcode::TEXT, b"hello"));
    ends(&mut socket);
}

fn mqtt_6_0_0_1_the_server_sends_binary_frames(case: &Case) {
    // What is awaited here is a binary message.
    let mut socket = connected(case);
    socket.send(&message(opcode::BINARY, &PING));
    assert_eq!(socket.expect_message(), PONG);
}

fn mqtt_6_0_0_2_a_packet_may_come_in_many_frames(case: &Case) {
    let mut socket = RawWebSocket::open(plain(case));
    for piece in connect(case).chunks(7) {
        socket.send(&message(opcode::BINARY, piece));
    }
    socket.expect_connack();
    for byte in PING {
        socket.send(&message(opcode::BINARY, &[byte]));
    }
    assert_eq!(socket.expect_message(), PONG);
    let packet = Publish::new(&case.topic("pieces"), "x".repeat(900))
        .qos(1)
        .id(1);
    for piece in packet.encode(case.version()).chunks(10) {
        socket.send(&message(opcode::BINARY, piece));
    }
    assert_eq!(socket.expect_message()[0], 0x40, "PUBACK");
}

fn mqtt_6_0_0_2_a_message_may_come_in_many_frames(case: &Case) {
    let mut socket = connected(case);
    let packet = Publish::new(&case.topic("parts"), "x".repeat(900))
        .qos(1)
        .id(1);
    let packet = packet.encode(case.version());
    let pieces: Vec<&[u8]> = packet.chunks(100).collect();
    let mut bytes = frame(opcode::BINARY, pieces[0]);
    for piece in &pieces[1..] {
        bytes.extend(frame(opcode::CONTINUATION, piece));
    }
    // An empty frame may end it.
    bytes.extend(message(opcode::CONTINUATION, &[]));
    socket.send(&bytes);
    assert_eq!(socket.expect_message()[0], 0x40, "PUBACK");
}

fn mqtt_6_0_0_2_a_frame_may_hold_several_packets(case: &Case) {
    let mut socket = RawWebSocket::open(plain(case));
    let mut packets = connect(case);
    packets.extend(PING);
    packets.extend(PING);
    socket.send(&message(opcode::BINARY, &packets));
    let answers = up_to(&mut socket, &[PONG, PONG].concat());
    assert_eq!(answers[0], 0x20, "CONNACK");
    // One and a half, and the other half with the next.
    let mut half = PING.to_vec();
    half.push(PING[0]);
    socket.send(&message(opcode::BINARY, &half));
    let mut rest = vec![PING[1]];
    rest.extend(PING);
    socket.send(&message(opcode::BINARY, &rest));
    let mut count = 0;
    while count < 3 {
        count += socket.expect_message().len() / PONG.len();
    }
}

fn mqtt_6_0_0_4_the_subprotocol_is_mqtt(case: &Case) {
    let server = plain(case);
    for offered in ["mqtt", "chat, mqtt", "mqtt, chat"] {
        let mut socket = RawWebSocket::dial(server);
        let upgrade = Upgrade::to(server).set("Sec-WebSocket-Protocol", offered);
        socket.send(upgrade.text().as_bytes());
        let answer = socket.expect_head();
        assert_eq!(answer.status, 101, "{offered}: {answer:?}");
        let chosen = answer.header("Sec-WebSocket-Protocol");
        assert_eq!(chosen, Some("mqtt"), "of {offered}");
    }
}

//! MQTT over WebSocket, byte by byte: RFC 6455 and MQTT 5.0 chapter 6.
//!
//! How a WebSocket is opened is in `upgrade`; what is the same over every transport is in `transports`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::websocket::{RawWebSocket, frame, header, message, opcode, unmasked};
use tidegate_tests::wire::{Client, Connect, Publish, Version};
use tidegate_tests::{Gateway, Noise, Server, Transport, eventually, unique};

/// The first byte of a frame that ends its message.
const LAST: u8 = 0x80;
/// PINGREQ and PINGRESP.
const PING: [u8; 2] = [0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];

/// A WebSocket on which an MQTT 5 client is connected.
#[track_caller]
fn connected(server: &Server) -> RawWebSocket {
    let mut socket = RawWebSocket::open(server.address());
    socket.send(&message(
        opcode::BINARY,
        &Connect::v5(&unique("raw")).encode(),
    ));
    socket.expect_connack();
    socket
}

// ---- frames ----

#[test]
fn mqtt_6_0_0_1_a_text_frame_closes_with_1003() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let mut socket = RawWebSocket::open(server.address());
    socket.send(&message(opcode::TEXT, b"hello"));
    socket.expect_close(1003);
    let mut socket = connected(&server);
    socket.send(&message(opcode::TEXT, &PING));
    socket.expect_close(1003);
}

#[test]
fn rfc6455_5_1_a_frame_that_is_not_masked_closes_with_1002() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let mut socket = connected(&server);
    socket.send(&unmasked(LAST | opcode::BINARY, &PING));
    socket.expect_close(1002);
}

#[test]
fn rfc6455_5_2_and_5_5_frames_against_the_rules_close_with_1002() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let cases: [(&str, Vec<u8>); 10] = [
        (
            "RSV1 without an extension",
            frame(0xC0 | opcode::BINARY, &PING),
        ),
        ("RSV3", frame(0x90 | opcode::BINARY, &PING)),
        ("opcode 3", message(3, &PING)),
        ("opcode 11", message(11, &PING)),
        ("a fragmented ping", frame(opcode::PING, b"x")),
        ("a ping of 126 bytes", message(opcode::PING, &[0; 126])),
        (
            "a continuation of nothing",
            message(opcode::CONTINUATION, &PING),
        ),
        (
            "a message within a message",
            [
                frame(opcode::BINARY, &PING[..1]),
                message(opcode::BINARY, &PING),
            ]
            .concat(),
        ),
        ("a close frame of one byte", message(opcode::CLOSE, &[3])),
        (
            "a close code that may not be sent",
            message(opcode::CLOSE, &1005_u16.to_be_bytes()),
        ),
    ];
    let mut witness = Connect::v5(&unique("witness")).open(&server);
    for (what, bytes) in cases {
        eprintln!("{what}");
        let mut socket = connected(&server);
        socket.send(&bytes);
        socket.expect_close(1002);
    }
    witness.expect_nothing();
}

#[test]
fn rfc6455_5_2_lengths_that_are_not_the_shortest_or_beyond_63_bits_are_refused() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    for length in [&[0xFE, 0, 2][..], &[0xFF, 0x80, 0, 0, 0, 0, 0, 0, 2]] {
        let mut socket = connected(&server);
        let mut bytes = vec![LAST | opcode::BINARY];
        bytes.extend_from_slice(length);
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        bytes.extend_from_slice(&PING);
        socket.send(&bytes);
        let closing = socket.next_frame().and_then(|frame| frame.close_code());
        assert!(
            matches!(closing, Some(1002 | 1009)),
            "{length:02x?}: {closing:?}"
        );
    }
}

#[test]
fn mqtt_6_0_0_2_one_packet_may_come_in_a_hundred_frames() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let topic = unique("hundred");
    let mut receiver = Connect::v5(&unique("in")).open(&server);
    receiver.subscribe(&topic, 1);
    let payload = "x".repeat(900);
    let packet = Publish::new(&topic, &payload)
        .qos(1)
        .id(1)
        .encode(Version::V5);
    let pieces: Vec<&[u8]> = packet.chunks(packet.len().div_ceil(100)).collect();
    assert!(pieces.len() > 90, "{}", pieces.len());

    // A hundred messages of one frame.
    let mut sender = connected(&server);
    pieces
        .iter()
        .for_each(|piece| sender.send(&message(opcode::BINARY, piece)));
    assert_eq!(sender.expect_message()[0], 0x40, "PUBACK");
    assert_eq!(receiver.receive().text(), payload);

    // One message of a hundred frames, empty ones among them.
    let mut bytes = frame(opcode::BINARY, pieces[0]);
    for piece in &pieces[1..] {
        bytes.extend(frame(opcode::CONTINUATION, piece));
        bytes.extend(frame(opcode::CONTINUATION, &[]));
    }
    bytes.extend(message(opcode::CONTINUATION, &[]));
    sender.send(&bytes);
    assert_eq!(sender.expect_message()[0], 0x40, "PUBACK");
    assert_eq!(receiver.receive().text(), payload);

    // The same, each byte a segment of its own.
    for byte in &bytes[..bytes.len().min(2_000)] {
        sender.send(std::slice::from_ref(byte));
    }
    sender.send(&bytes[bytes.len().min(2_000)..]);
    assert_eq!(sender.expect_message()[0], 0x40, "PUBACK");
    assert_eq!(receiver.receive().text(), payload);
}

#[test]
fn mqtt_6_0_0_2_a_packet_is_handled_before_its_message_ends() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    // A message that never ends is a stream of packets like any other.
    let mut socket = RawWebSocket::open(server.address());
    socket.send(&frame(
        opcode::BINARY,
        &Connect::v5(&unique("endless")).encode(),
    ));
    socket.expect_connack();
    for _ in 0..50 {
        socket.send(&frame(opcode::CONTINUATION, &PING));
        assert_eq!(socket.expect_message(), PONG);
    }
}

#[test]
fn mqtt_6_0_0_2_a_hundred_packets_may_come_in_one_frame() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let topic = unique("one");
    let mut receiver = Connect::v5(&unique("in")).open(&server);
    receiver.subscribe(&topic, 0);
    let mut sender = RawWebSocket::open(server.address());
    let mut packets = Connect::v5(&unique("joined")).encode();
    for number in 0..100 {
        packets.extend(Publish::new(&topic, number.to_string()).encode(Version::V5));
    }
    packets.extend(PING);
    sender.send(&message(opcode::BINARY, &packets));
    let expected: Vec<String> = (0..100).map(|number: u8| number.to_string()).collect();
    assert_eq!(receiver.receive_texts(100), expected);
    // However the answers are cut into messages.
    let mut answers = sender.expect_message();
    while !answers.ends_with(&PONG) {
        answers.extend(sender.expect_message());
    }
    assert_eq!(answers[0], 0x20);
}

#[test]
fn rfc6455_5_5_2_pings_are_answered_between_the_fragments_of_a_message() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let mut socket = connected(&server);
    socket.send(&message(opcode::PING, b"before"));
    let pong = socket.expect_frame();
    assert_eq!(
        (pong.opcode, pong.payload.as_slice()),
        (opcode::PONG, &b"before"[..])
    );
    socket.send(&frame(opcode::BINARY, &PING[..1]));
    for number in 0..20_u8 {
        let payload = vec![number; usize::from(number) * 6];
        socket.send(&message(opcode::PING, &payload));
        let pong = socket.expect_frame();
        assert_eq!((pong.opcode, pong.payload), (opcode::PONG, payload));
    }
    // A pong that nobody asked for means nothing (5.5.3).
    socket.send(&message(opcode::PONG, b"unasked"));
    socket.send(&message(opcode::CONTINUATION, &PING[1..]));
    assert_eq!(socket.expect_message(), PONG);
}

#[test]
fn a_flood_of_pings_takes_no_memory() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let before = gateway.resident_bytes();
    let mut witness = Connect::v5(&unique("witness")).open(&server);
    let mut flood = connected(&server);
    // It reads no pong. The server may answer some, slow it down or end it, but not hoard.
    let pings: Vec<u8> = message(opcode::PING, &[7; 125]).repeat(500);
    let end = Instant::now() + Duration::from_secs(3);
    let writer = thread::spawn(move || {
        let mut sent = 0;
        while sent < 64 << 20 && Instant::now() < end && flood.try_send_within(&pings, end) {
            sent += pings.len();
        }
        flood
    });
    while !writer.is_finished() {
        witness.expect_nothing();
        thread::sleep(Duration::from_millis(20));
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    drop(writer.join());
}

#[test]
fn a_frame_beyond_the_limit_closes_with_1009_before_its_payload_is_sent() {
    let more = "[listeners.ws]\nmax_packet_size = \"4KiB\"\n\
                [listeners.ws.websocket]\nmax_frame_size = \"8KiB\"\nmax_message_size = \"16KiB\"";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let mut witness = Connect::v5(&unique("witness")).open(&server);
    for length in [8 * 1024 + 1, 1 << 20, 1 << 40, (1 << 63) - 1] {
        let mut socket = connected(&server);
        // The header with its mask, and nothing of the payload.
        let header = header(LAST | opcode::BINARY, true, length);
        socket.send(&[&header[..], &[1, 2, 3, 4]].concat());
        socket.expect_close(1009);
    }
    // The largest frame is taken, full of pings.
    let mut socket = connected(&server);
    socket.send(&message(opcode::BINARY, &PING.repeat(4 * 1024)));
    let mut answers = 0;
    while answers < 8 * 1024 {
        answers += socket.expect_message().len();
    }
    // So is a message of frames up to its limit, and no further.
    socket.send(&frame(opcode::BINARY, &PING.repeat(4 * 1024)));
    socket.send(&frame(opcode::CONTINUATION, &PING.repeat(4 * 1024 - 1)));
    socket.send(&frame(opcode::CONTINUATION, &PING));
    socket.send(&frame(opcode::CONTINUATION, &PING[..1]));
    socket.expect_close(1009);
    witness.expect_nothing();
}

#[test]
fn mqtt_3_1_2_24_a_packet_beyond_the_limit_is_refused_as_over_tcp() {
    let more = "[listeners.ws]\nmax_packet_size = \"4KiB\"";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let mut client = Connect::v5(&unique("large")).open(&server);
    client.send_publish(&Publish::new("t", vec![0; 5_000]));
    client.expect_end(tidegate_tests::wire::code::TOO_LARGE);
}

#[test]
fn rfc6455_5_5_1_a_close_is_answered_with_its_code() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut socket = connected(&server);
        let mut body = code.to_be_bytes().to_vec();
        body.extend_from_slice("auf Wiedersehen ü".as_bytes());
        socket.send(&message(opcode::CLOSE, &body));
        let answer = socket.expect_frame();
        assert_eq!(answer.opcode, opcode::CLOSE);
        assert!(
            matches!(answer.close_code(), Some(answered) if answered == code || answered == 1000)
        );
        socket.expect_end();
    }
    let mut socket = connected(&server);
    socket.send(&message(opcode::CLOSE, &[]));
    assert_eq!(socket.expect_frame().opcode, opcode::CLOSE);
    socket.expect_end();
}

#[test]
fn mqtt_3_1_2_5_a_close_without_disconnect_publishes_the_will() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let topic = unique("will");
    let mut watcher = Connect::v5(&unique("watcher")).open(&server);
    watcher.subscribe(&topic, 1);
    let will = tidegate_tests::wire::Will::new(&topic, "gone").qos(1);
    let mut socket = RawWebSocket::open(server.address());
    let connect = Connect::v5(&unique("doomed")).will(will).encode();
    socket.send(&message(opcode::BINARY, &connect));
    socket.expect_connack();
    // A browser that closes a tab closes its WebSocket well and sends no MQTT packet.
    socket.send(&message(opcode::CLOSE, &1001_u16.to_be_bytes()));
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn after_mqtts_disconnect_the_websocket_is_closed_with_1000() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let mut socket = connected(&server);
    socket.send(&message(opcode::BINARY, &[0xE0, 0]));
    socket.expect_close(1000);
}

// ---- bad input ----

#[test]
fn garbage_in_frames_and_instead_of_frames_disturbs_nobody() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let witness = scope.spawn(|| witness(&server, &over));
        let writers: Vec<_> = (1..=4_u64)
            .map(|number| {
                let server = &server;
                scope.spawn(move || {
                    let mut noise = Noise::new(0x2545_F491_4F6C_DD1D ^ number);
                    for _ in 0..60 {
                        garbage(server, &mut noise);
                    }
                })
            })
            .collect();
        let writers: Vec<_> = writers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Relaxed);
        let seen = witness.join();
        assert!(writers.iter().all(Result::is_ok), "a writer failed");
        assert!(seen.is_ok_and(|seen| seen > 0), "the witness saw nothing");
    });
    eventually("all connections are gone", || {
        gateway.metric("tidegate_listener_connections", &["listener=\"ws\""]) == 0.0
    });
}

/// One connection of garbage: in the handshake, as frames, or as MQTT within frames.
fn garbage(server: &Server, noise: &mut Noise) {
    let length = 1 + noise.below(600);
    let bytes = noise.bytes(length);
    let mut socket = match noise.below(4) {
        0 => {
            let mut socket = RawWebSocket::dial(server.address());
            // Behind an end of headers, so that there is something to answer.
            let _ = socket.try_send(&[&bytes[..], b"\r\n\r\n"].concat());
            socket
        }
        1 => {
            let mut socket = RawWebSocket::open(server.address());
            let _ = socket.try_send(&bytes);
            socket
        }
        2 => {
            let mut socket = connected(server);
            let _ = socket.try_send(&frame(bytes[0], &bytes));
            socket
        }
        _ => {
            let mut socket = connected(server);
            let _ = socket.try_send(&message(opcode::BINARY, &bytes));
            socket
        }
    };
    // Some are left to the server to end, if it wants to; most vanish.
    if noise.below(3) > 0 {
        let _ = socket.is_quiet(Duration::from_millis(5));
    }
    socket.cut();
}

/// A client that goes on all the time; how many messages it saw.
#[track_caller]
fn witness(server: &Server, over: &AtomicBool) -> u32 {
    let topic = unique("witness");
    let mut client = Connect::v5(&unique("witness")).open(server);
    client.subscribe(&topic, 1);
    let mut seen = 0;
    while !over.load(Ordering::Relaxed) {
        client.publish(&Publish::new(&topic, seen.to_string()).qos(1));
        assert_eq!(client.receive().text(), seen.to_string());
        seen += 1;
    }
    client.disconnect();
    seen
}

#[test]
fn tls_on_the_plain_port_is_closed_and_the_log_says_why() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let mut witness = Connect::v5(&unique("witness")).open(&server);
    let encrypted = gateway.listener("wss", Transport::Wss);
    for _ in 0..50 {
        let wrong = encrypted.clone().at(server.address());
        assert!(wrong.connect().is_err(), "there is no TLS here");
    }
    witness.expect_nothing();
    eventually("a hint in the log", || gateway.output().contains("TLS"));
    let hints = gateway.output();
    let hints = hints
        .lines()
        .filter(|line| line.contains("TLS") && line.contains("ws"));
    let hints = hints.count();
    assert!((1..10).contains(&hints), "50 mistakes made {hints} lines");
}

#[test]
fn mqtt_without_websocket_is_closed() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.address("ws");
    for version in Version::ALL {
        let mut client = Client::dial(server, version);
        client.send(&Connect::new(version, &unique("plain")).encode());
        // Perhaps with an answer in HTTP, which a person may read in a trace.
        let mut said = Vec::new();
        while let Some(bytes) = client.next_raw() {
            said.extend(bytes);
        }
        assert!(
            said.is_empty() || said.starts_with(b"HTTP/1.1 400"),
            "{said:02x?}"
        );
    }
}

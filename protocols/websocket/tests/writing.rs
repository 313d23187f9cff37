//! What the gateway sends: data frames, pongs between them, the close frame at the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Writes all of it, however little goes at once.
fn write_all(socket: &mut tidegate_websocket::WebSocket<Wire>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        if let Poll::Ready(written) = write_once(socket, bytes) {
            let written = written.unwrap();
            assert!(written > 0);
            bytes = &bytes[written..];
        }
    }
}

fn written(poll: Poll<std::io::Result<usize>>) -> usize {
    match poll {
        Poll::Ready(written) => written.unwrap(),
        Poll::Pending => panic!("there is room"),
    }
}

// ---- data frames ---------------------------------------------------------------------------------

#[test]
fn a_write_is_one_binary_frame_without_a_mask() {
    for vectored in [true, false] {
        for len in [1, 2, 125, 126, 127, 300, 65_535] {
            let (wire, mut socket) = wired();
            wire.with(|wire| wire.vectored = vectored);
            let payload = pattern(len);
            assert_eq!(written(write_once(&mut socket, &payload)), len);
            assert_eq!(wire.sent(), answer(FIN | BINARY, &payload), "{len}");
        }
    }
}

#[test]
fn a_write_of_nothing_is_no_frame() {
    let (wire, mut socket) = wired();
    assert_eq!(written(write_once(&mut socket, b"")), 0);
    assert!(wire.sent().is_empty());
}

#[test]
fn a_long_write_is_several_frames() {
    let (wire, mut socket) = wired();
    let payload = pattern(150_000);
    write_all(&mut socket, &payload);
    let frames: Vec<u8> = payload
        .chunks(65_535)
        .flat_map(|part| answer(FIN | BINARY, part))
        .collect();
    assert_eq!(wire.sent(), frames);
}

#[test]
fn a_frame_that_has_begun_keeps_its_length() {
    let (wire, mut socket) = wired();
    // The header and three bytes; what is offered next is the rest of the frame and then more.
    wire.with(|wire| wire.writes = [Some(2 + 3)].into());
    assert_eq!(written(write_once(&mut socket, b"0123456789")), 3);
    assert_eq!(written(write_once(&mut socket, b"3456789 and more")), 7);
    assert_eq!(written(write_once(&mut socket, b" and more")), 9);
    let frames = [
        answer(FIN | BINARY, b"0123456789"),
        answer(FIN | BINARY, b" and more"),
    ];
    assert_eq!(wire.sent(), frames.concat());
}

#[test]
fn a_frame_of_which_nothing_has_left_has_no_length_yet() {
    let (wire, mut socket) = wired();
    wire.with(|wire| wire.writes = [None].into());
    assert!(write_once(&mut socket, b"much more is offered").is_pending());
    assert_eq!(written(write_once(&mut socket, b"another")), 7);
    assert_eq!(wire.sent(), answer(FIN | BINARY, b"another"));
}

#[test]
fn a_frame_is_whole_when_one_byte_goes_at_a_time() {
    for vectored in [true, false] {
        let (wire, mut socket) = wired();
        wire.with(|wire| {
            wire.vectored = vectored;
            wire.writes = [None, Some(1), Some(1), None]
                .into_iter()
                .cycle()
                .take(4_000)
                .collect();
        });
        wire.send(frame(FIN | PING, b"ping"));
        assert!(read_once(&mut socket, 100).is_pending());
        let (first, second) = (pattern(500), pattern(3));
        write_all(&mut socket, &first);
        write_all(&mut socket, &second);
        while flush_once(&mut socket).is_pending() {}
        let frames = [
            answer(FIN | PONG, b"ping"),
            answer(FIN | BINARY, &first),
            answer(FIN | BINARY, &second),
        ];
        assert_eq!(wire.sent(), frames.concat());
    }
}

#[test]
fn a_write_that_fails_says_so() {
    let (wire, mut socket) = wired();
    wire.with(|wire| wire.broken = true);
    assert!(matches!(write_once(&mut socket, b"x"), Poll::Ready(Err(_))));
}

// ---- pongs ---------------------------------------------------------------------------------------

#[test]
fn rfc6455_5_5_3_a_pong_has_the_payload_of_its_ping_and_is_flushed() {
    for payload in [&b""[..], b"?", &[9; 125]] {
        let (wire, mut socket) = wired();
        wire.send(frame(FIN | PING, payload));
        assert!(read_once(&mut socket, 4_096).is_pending());
        assert_eq!(wire.sent(), answer(FIN | PONG, payload));
        assert_eq!(wire.with(|wire| wire.flushed), 1);
        assert!(read_once(&mut socket, 4_096).is_pending());
        assert_eq!(wire.with(|wire| wire.flushed), 1, "once is enough");
    }
}

#[test]
fn a_ping_before_payload_in_one_read_is_answered_at_once() {
    let (wire, mut socket) = wired();
    wire.send([frame(FIN | PING, b"?"), binary(b"payload")].concat());
    assert!(matches!(read_once(&mut socket, 4_096), Poll::Ready(Ok(read)) if read == b"payload"));
    assert_eq!(wire.sent(), answer(FIN | PONG, b"?"));
}

#[test]
fn rfc6455_5_5_3_of_pings_that_wait_only_the_latest_is_answered() {
    let (wire, mut socket) = wired();
    // The first pong has begun when the next pings come.
    wire.with(|wire| wire.writes = [Some(1), None, None, None, None].into());
    for ping in [b"1", b"2", b"3", b"4"] {
        wire.send(frame(FIN | PING, ping));
    }
    assert!(read_once(&mut socket, 4_096).is_pending());
    wire.with(|wire| wire.writes.clear());
    assert!(read_once(&mut socket, 4_096).is_pending());
    let pongs = [answer(FIN | PONG, b"1"), answer(FIN | PONG, b"4")];
    assert_eq!(wire.sent(), pongs.concat());
}

#[test]
fn rfc6455_5_4_a_pong_waits_for_the_end_of_a_frame_that_is_half_written() {
    let (wire, mut socket) = wired();
    let payload = pattern(10_000);
    wire.with(|wire| wire.writes = [Some(4 + 5_000), None].into());
    assert_eq!(written(write_once(&mut socket, &payload)), 5_000);
    wire.send(frame(FIN | PING, b"?"));
    assert!(read_once(&mut socket, 4_096).is_pending());
    assert!(write_once(&mut socket, &payload[5_000..]).is_pending());
    assert!(matches!(flush_once(&mut socket), Poll::Ready(Ok(()))));
    assert_eq!(wire.sent(), answer(FIN | BINARY, &payload)[..4 + 5_000]);
    assert_eq!(written(write_once(&mut socket, &payload[5_000..])), 5_000);
    assert_eq!(written(write_once(&mut socket, b"next")), 4);
    let rest = [
        &payload[5_000..],
        &answer(FIN | PONG, b"?"),
        &answer(FIN | BINARY, b"next"),
    ];
    assert_eq!(wire.sent(), rest.concat());
}

#[test]
fn a_pong_that_waits_is_sent_by_a_flush_or_by_a_read() {
    for by_flush in [true, false] {
        let (wire, mut socket) = wired();
        wire.with(|wire| wire.writes = [None].into());
        wire.send(frame(FIN | PING, b"?"));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        // Before it waits for input it has tried to write, and is woken when it can.
        assert!(poll_read(&mut socket, &mut Context::from_waker(&waker), 4_096).is_pending());
        assert!(wire.sent().is_empty());
        wire.with(|wire| wire.waker.take()).unwrap().wake();
        assert_eq!(woken.count(), 1);
        if by_flush {
            assert!(matches!(flush_once(&mut socket), Poll::Ready(Ok(()))));
        } else {
            assert!(read_once(&mut socket, 4_096).is_pending());
        }
        assert_eq!(wire.sent(), answer(FIN | PONG, b"?"));
        assert_eq!(wire.with(|wire| wire.flushed), 1);
    }
}

#[test]
fn a_flush_of_a_pong_that_has_to_wait_is_tried_again() {
    let (wire, mut socket) = wired();
    wire.with(|wire| wire.stuck_flush = true);
    wire.send(frame(FIN | PING, b"?"));
    assert!(read_once(&mut socket, 4_096).is_pending());
    assert_eq!(wire.sent(), answer(FIN | PONG, b"?"));
    wire.with(|wire| wire.stuck_flush = false);
    assert!(read_once(&mut socket, 4_096).is_pending());
    assert_eq!(wire.with(|wire| wire.flushed), 1);
}

#[test]
fn a_pong_that_cannot_be_sent_does_not_end_reading() {
    let (wire, mut socket) = wired();
    wire.with(|wire| wire.broken = true);
    wire.send(frame(FIN | PING, b"?"));
    wire.send(binary(b"the last words"));
    wire.end();
    assert_eq!(
        read_all(&mut socket, 4_096),
        (b"the last words".to_vec(), End::Closed)
    );
    assert!(matches!(write_once(&mut socket, b"x"), Poll::Ready(Err(_))));
}

// ---- the close frame -----------------------------------------------------------------------------

#[test]
fn a_shutdown_sends_the_close_frame_1000_and_shuts_the_stream_down() {
    let (wire, mut socket) = wired();
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    assert_eq!(wire.sent(), answer(FIN | CLOSE, &1000_u16.to_be_bytes()));
    assert!(wire.with(|wire| wire.shut));
    assert!(matches!(write_once(&mut socket, b"x"), Poll::Ready(Err(_))));
    // Once is enough, and no pong comes behind it.
    wire.send(frame(FIN | PING, b"?"));
    assert!(read_once(&mut socket, 4_096).is_pending());
    assert!(matches!(flush_once(&mut socket), Poll::Ready(Ok(()))));
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    assert!(wire.sent().is_empty());
}

#[test]
fn after_a_shutdown_the_client_is_read_until_its_close_frame() {
    let (wire, mut socket) = wired();
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    wire.send(binary(b"was on its way"));
    wire.send(frame(FIN | CLOSE, &close_body(1000, b"")));
    assert_eq!(
        read_all(&mut socket, 4_096),
        (b"was on its way".to_vec(), End::Closed)
    );
    assert_eq!(
        wire.sent(),
        answer(FIN | CLOSE, &1000_u16.to_be_bytes()),
        "one close frame only"
    );
}

#[test]
fn rfc6455_5_5_1_a_close_frame_is_the_end_and_is_answered_with_its_code() {
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999,
    ] {
        let (wire, mut socket) = wired();
        let close = frame(FIN | CLOSE, &close_body(code, "Adiós".as_bytes()));
        wire.send([binary(b"good"), close, binary(b"late")].concat());
        assert_eq!(
            read_all(&mut socket, 4_096),
            (b"good".to_vec(), End::Closed)
        );
        assert_eq!(socket.violation(), None);
        assert!(matches!(write_once(&mut socket, b"x"), Poll::Ready(Err(_))));
        assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
        assert_eq!(wire.sent(), answer(FIN | CLOSE, &code.to_be_bytes()));
    }
}

#[test]
fn rfc6455_5_5_1_a_close_frame_without_a_code_is_answered_without_one() {
    let (wire, mut socket) = wired();
    wire.send(frame(FIN | CLOSE, b""));
    assert_eq!(read_all(&mut socket, 4_096), (Vec::new(), End::Closed));
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    assert_eq!(wire.sent(), answer(FIN | CLOSE, b""));
}

#[test]
fn a_close_frame_may_come_inside_a_fragmented_message() {
    let (wire, mut socket) = wired();
    wire.send(
        [
            frame(BINARY, b"half"),
            frame(FIN | CLOSE, &close_body(1001, b"")),
        ]
        .concat(),
    );
    assert_eq!(
        read_all(&mut socket, 4_096),
        (b"half".to_vec(), End::Closed)
    );
}

#[test]
fn a_frame_that_is_half_written_can_be_completed_after_the_clients_close_frame() {
    let (wire, mut socket) = wired();
    wire.with(|wire| wire.writes = [Some(2 + 1)].into());
    assert_eq!(written(write_once(&mut socket, b"frame")), 1);
    wire.send(frame(FIN | CLOSE, &close_body(1000, b"")));
    assert_eq!(read_all(&mut socket, 4_096), (Vec::new(), End::Closed));
    assert_eq!(written(write_once(&mut socket, b"rame and no more")), 4);
    assert!(matches!(
        write_once(&mut socket, b" and no more"),
        Poll::Ready(Err(_))
    ));
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    let frames = [
        answer(FIN | BINARY, b"frame"),
        answer(FIN | CLOSE, &1000_u16.to_be_bytes()),
    ];
    assert_eq!(wire.sent(), frames.concat());
}

#[test]
fn a_close_frame_is_not_put_into_a_frame_that_is_half_written() {
    let (wire, mut socket) = wired();
    wire.with(|wire| wire.writes = [Some(2 + 1)].into());
    assert_eq!(written(write_once(&mut socket, b"frame")), 1);
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    assert_eq!(wire.sent(), answer(FIN | BINARY, b"frame")[..3]);
    assert!(wire.with(|wire| wire.shut));
    assert!(matches!(
        write_once(&mut socket, b"rame"),
        Poll::Ready(Err(_))
    ));
}

#[test]
fn a_close_frame_waits_for_the_end_of_a_pong_and_takes_the_place_of_the_next() {
    let (wire, mut socket) = wired();
    wire.with(|wire| wire.writes = [Some(1), None, None].into());
    wire.send(frame(FIN | PING, b"1"));
    wire.send(frame(FIN | PING, b"2"));
    assert!(read_once(&mut socket, 4_096).is_pending());
    wire.with(|wire| wire.writes = [Some(1), None].into());
    assert!(shut_down_once(&mut socket).is_pending());
    assert!(!wire.with(|wire| wire.shut));
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    let frames = [
        answer(FIN | PONG, b"1"),
        answer(FIN | CLOSE, &1000_u16.to_be_bytes()),
    ];
    assert_eq!(wire.sent(), frames.concat());
    assert!(wire.with(|wire| wire.shut));
}

// ---- a pipe with no room -------------------------------------------------------------------------

#[tokio::test]
async fn a_client_that_reads_slowly_gets_every_byte_in_frames() {
    let (mut client, server) = tokio::io::duplex(64);
    let upgrading = async {
        tidegate_websocket::Upgrader::new(tidegate_websocket::Settings::default())
            .upgrade(server, LOOPBACK)
            .await
            .unwrap()
    };
    let asking = async {
        client.write_all(good_request().as_bytes()).await.unwrap();
        read_head(&mut client).await
    };
    let (mut socket, _) = tokio::join!(upgrading, asking);
    let payload = pattern(100_000);
    let expected: Vec<u8> = payload
        .chunks(65_535)
        .flat_map(|part| answer(FIN | BINARY, part))
        .chain(answer(FIN | CLOSE, &1000_u16.to_be_bytes()))
        .collect();
    let writing = async {
        socket.write_all(&payload).await.unwrap();
        socket.flush().await.unwrap();
        socket.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let reading = client.read_to_end(&mut read);
    let ((), read_len) = tokio::join!(writing, reading);
    assert_eq!(read_len.unwrap(), expected.len());
    assert_eq!(read, expected);
}

// ---- any wire ------------------------------------------------------------------------------------

/// Cuts what the gateway has sent into frames.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            len => (usize::from(*len), rest),
        };
        let (payload, behind) = rest.split_at(len);
        frames.push((*first, payload));
        bytes = behind;
    }
    assert!(bytes.is_empty());
    frames
}

proptest! {
    #[test]
    fn frames_are_whole_however_the_wire_takes_them_and_whenever_pings_come(
        vectored in any::<bool>(),
        writes in prop::collection::vec(prop::option::weighted(0.7, 1_usize..200), 0..200),
        offers in prop::collection::vec((1_usize..400, any::<bool>()), 1..30),
    ) {
        let (wire, mut socket) = wired();
        wire.with(|wire| {
            wire.vectored = vectored;
            wire.writes = writes.into();
        });
        let payload = pattern(offers.iter().map(|(len, _)| len).sum());
        let mut rest = &payload[..];
        for (n, (len, ping)) in offers.iter().enumerate() {
            if *ping {
                wire.send(frame(FIN | PING, &[n as u8]));
            }
            prop_assert!(read_once(&mut socket, 100).is_pending());
            if let Poll::Ready(written) = write_once(&mut socket, &rest[..rest.len().min(*len)]) {
                rest = &rest[written.unwrap()..];
            }
        }
        write_all(&mut socket, rest);
        while shut_down_once(&mut socket).is_pending() {}

        let sent = wire.sent();
        let mut heard = Vec::new();
        let mut pongs = Vec::new();
        let mut closed = false;
        for (first, payload) in frames(&sent) {
            prop_assert!(!closed, "nothing comes behind the close frame");
            match first & 0x0f {
                BINARY => heard.extend_from_slice(payload),
                PONG => pongs.push(payload[0]),
                CLOSE => closed = true,
                other => panic!("opcode {other}"),
            }
            prop_assert_eq!(first & 0xf0, FIN);
        }
        prop_assert!(closed);
        prop_assert_eq!(heard, payload);
        prop_assert!(pongs.is_sorted_by(|a, b| a < b), "{:?}", pongs);
        prop_assert!(pongs.iter().all(|n| offers[usize::from(*n)].1));
    }
}

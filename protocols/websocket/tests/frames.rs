//! What the client's frames come to: payload, answers, violations.

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
use tidegate_websocket::{Settings, Violation};

/// What becomes of these bytes, which come at once and are the client's last.
fn read(bytes: &[u8]) -> (Vec<u8>, End) {
    let (wire, mut socket) = wired();
    wire.send(bytes);
    wire.end();
    read_all(&mut socket, 4_096)
}

// ---- payload -------------------------------------------------------------------------------------

#[test]
fn mqtt_6_0_0_2_a_payload_over_a_hundred_fragments_with_pings_between_them_is_one_stream() {
    let payload = pattern(5_000);
    let mut bytes = Vec::new();
    for (n, part) in payload.chunks(50).enumerate() {
        let opcode = if n == 0 { BINARY } else { CONTINUATION };
        let fin = if n == 99 { FIN } else { 0 };
        bytes.extend(frame(fin | opcode, part));
        bytes.extend(frame(FIN | PING, format!("ping {n}").as_bytes()));
        bytes.extend(frame(FIN | PONG, b"unasked"));
    }
    let (wire, mut socket) = wired();
    wire.send(bytes);
    wire.end();
    assert_eq!(read_all(&mut socket, 64 << 10), (payload, End::Closed));
    // They came in one read: only the latest is answered (RFC 6455 section 5.5.3).
    assert_eq!(wire.sent(), answer(FIN | PONG, b"ping 99"));
}

#[test]
fn mqtt_6_0_0_2_a_hundred_frames_in_one_read_are_one_stream() {
    let payload = pattern(3_000);
    let bytes: Vec<u8> = payload.chunks(30).flat_map(binary).collect();
    let (wire, mut socket) = wired();
    wire.send(bytes);
    let Poll::Ready(Ok(read)) = read_once(&mut socket, 64 << 10) else {
        panic!("there is payload");
    };
    assert_eq!(read, payload);
}

#[test]
fn lengths_of_every_form_are_read() {
    for len in [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536, 200_000] {
        let payload = pattern(len);
        let bytes = [binary(&payload), binary(b"next")].concat();
        let expected = [&payload[..], b"next"].concat();
        assert_eq!(read(&bytes), (expected, End::Closed), "{len}");
    }
}

#[test]
fn bytes_that_come_one_by_one_are_read() {
    let payload = pattern(300);
    let (wire, mut socket) = wired();
    for byte in [
        binary(&payload[..130]),
        frame(FIN | PING, b"?"),
        binary(&payload[130..]),
    ]
    .concat()
    {
        wire.send([byte]);
    }
    wire.end();
    assert_eq!(read_all(&mut socket, 4_096), (payload, End::Closed));
    assert_eq!(wire.sent(), answer(FIN | PONG, b"?"));
}

#[test]
fn a_buffer_of_one_byte_is_enough() {
    let payload = pattern(70_000);
    let (wire, mut socket) = wired();
    wire.send([binary(&payload), frame(FIN | PING, b"?"), binary(b"next")].concat());
    wire.end();
    let expected = [&payload[..], b"next"].concat();
    assert_eq!(read_all(&mut socket, 1), (expected, End::Closed));
}

#[test]
fn what_is_in_a_buffer_already_stays_there() {
    let (wire, mut socket) = wired();
    wire.send([frame(FIN | PONG, b"x"), binary(b"payload")].concat());
    let mut bytes = [0; 64];
    let mut buf = tokio::io::ReadBuf::new(&mut bytes);
    buf.put_slice(b"before ");
    let cx = &mut Context::from_waker(Waker::noop());
    let read = tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut socket), cx, &mut buf);
    assert!(read.is_ready());
    assert_eq!(buf.filled(), b"before payload");
}

#[test]
fn a_read_without_payload_is_not_the_end() {
    let (wire, mut socket) = wired();
    wire.send(frame(FIN | BINARY, b""));
    wire.send(frame(FIN | PING, b""));
    wire.send(header(FIN | BINARY, 2));
    assert!(read_once(&mut socket, 100).is_pending());
    wire.send(frame(FIN | BINARY, b"ab")[6..].to_vec());
    assert!(matches!(read_once(&mut socket, 100), Poll::Ready(Ok(read)) if read == b"ab"));
}

#[test]
fn an_end_without_a_close_frame_is_an_end() {
    assert_eq!(read(b""), (Vec::new(), End::Closed));
    let half = &binary(b"half of it")[..10];
    assert_eq!(read(half), (b"half".to_vec(), End::Closed));
}

#[test]
fn a_flood_of_empty_frames_lets_others_have_their_turn() {
    for flood in [
        frame(CONTINUATION, b""),
        frame(FIN | PING, b"?"),
        frame(FIN | PONG, b"!"),
    ] {
        let (wire, mut socket) = wired();
        wire.send(frame(BINARY, b""));
        for _ in 0..10_000 {
            wire.send(flood.clone());
        }
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        for turn in 1..=1_000 {
            let before = wire.with(|wire| wire.reads);
            assert!(poll_read(&mut socket, &mut Context::from_waker(&waker), 4_096).is_pending());
            assert_eq!(woken.count(), turn, "it asks for its next turn");
            assert!(wire.with(|wire| wire.reads) - before <= 8);
        }
    }
}

#[test]
fn a_socket_is_small() {
    let size = size_of::<tidegate_websocket::WebSocket<u64>>() - size_of::<u64>();
    println!("a WebSocket takes {size} bytes beside its stream");
    assert!(size <= 96, "{size}");
}

// ---- violations ----------------------------------------------------------------------------------

/// The payload before these bytes is read, then reading fails once with this violation; what comes
/// later is thrown away, nothing more is sent but a close frame with the code.
fn breaks(settings: &Settings, bytes: &[u8], violation: Violation, code: u16) {
    let (wire, mut socket) = wired_with(settings.clone());
    wire.send([&binary(b"good")[..], bytes, &binary(b"late")].concat());
    assert!(matches!(read_once(&mut socket, 4_096), Poll::Ready(Ok(read)) if read == b"good"));
    assert_eq!(socket.violation(), Some(violation));
    let Poll::Ready(Err(error)) = read_once(&mut socket, 4_096) else {
        panic!("{violation:?} is no error");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let source = error.get_ref().and_then(|source| source.downcast_ref());
    assert_eq!(source, Some(&violation));
    assert_eq!(violation.close_code(), code, "{violation:?}");

    assert!(read_once(&mut socket, 4_096).is_pending());
    wire.send(binary(b"later still"));
    wire.end();
    let Poll::Ready(Ok(thrown_away)) = read_once(&mut socket, 4_096) else {
        panic!("what comes is read");
    };
    assert!(!thrown_away.is_empty());
    assert!(thrown_away.iter().all(|byte| *byte == 0));
    assert!(matches!(read_once(&mut socket, 4_096), Poll::Ready(Ok(end)) if end.is_empty()));

    assert!(matches!(
        write_once(&mut socket, b"no"),
        Poll::Ready(Err(_))
    ));
    assert!(wire.sent().is_empty());
    assert!(matches!(shut_down_once(&mut socket), Poll::Ready(Ok(()))));
    assert_eq!(wire.sent(), answer(FIN | CLOSE, &code.to_be_bytes()));
    assert!(wire.with(|wire| wire.shut));
    assert_eq!(socket.violation(), Some(violation));
}

fn violates(bytes: &[u8], violation: Violation, code: u16) {
    breaks(&Settings::default(), bytes, violation, code);
}

#[test]
fn mqtt_6_0_0_1_a_text_frame_closes_with_1003() {
    violates(&frame(FIN | TEXT, b"text"), Violation::Text, 1003);
    violates(&frame(TEXT, b""), Violation::Text, 1003);
}

#[test]
fn rfc6455_5_1_a_frame_without_a_mask_closes_with_1002() {
    violates(&[FIN | BINARY, 1, b'x'], Violation::Unmasked, 1002);
    violates(&[FIN | PING, 0], Violation::Unmasked, 1002);
}

#[test]
fn rfc6455_5_2_a_reserved_bit_closes_with_1002() {
    for bit in [0x40, 0x20, 0x10] {
        violates(
            &frame(FIN | bit | BINARY, b"x"),
            Violation::ReservedBits,
            1002,
        );
        violates(
            &frame(FIN | bit | PING, b"x"),
            Violation::ReservedBits,
            1002,
        );
    }
}

#[test]
fn rfc6455_5_2_an_unknown_opcode_closes_with_1002() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        violates(
            &frame(FIN | opcode, b""),
            Violation::UnknownOpcode(opcode),
            1002,
        );
    }
}

#[test]
fn rfc6455_5_5_a_control_frame_in_fragments_closes_with_1002() {
    for opcode in [CLOSE, PING, PONG] {
        violates(&frame(opcode, b""), Violation::FragmentedControl, 1002);
    }
}

#[test]
fn rfc6455_5_5_a_control_frame_over_125_bytes_closes_with_1002() {
    for opcode in [CLOSE, PING, PONG] {
        violates(
            &frame(FIN | opcode, &[0; 126]),
            Violation::LongControl,
            1002,
        );
    }
}

#[test]
fn rfc6455_5_4_a_continuation_of_nothing_closes_with_1002() {
    violates(
        &frame(FIN | CONTINUATION, b"x"),
        Violation::LoneContinuation,
        1002,
    );
    violates(
        &frame(CONTINUATION, b"x"),
        Violation::LoneContinuation,
        1002,
    );
}

#[test]
fn rfc6455_5_4_a_new_message_inside_a_fragmented_one_closes_with_1002() {
    let bytes = [frame(BINARY, b""), binary(b"x")].concat();
    violates(&bytes, Violation::InterruptedMessage, 1002);
}

#[test]
fn rfc6455_5_2_a_length_in_more_bytes_than_it_needs_closes_with_1002() {
    let short = [&[FIN | BINARY, 0x80 | 126, 0, 125][..], &KEY, &[0; 125]].concat();
    violates(&short, Violation::LengthNotMinimal, 1002);
    let long = [
        &[FIN | BINARY, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff][..],
        &KEY,
    ]
    .concat();
    violates(&long, Violation::LengthNotMinimal, 1002);
}

#[test]
fn rfc6455_5_2_a_length_beyond_63_bits_closes_with_1002() {
    let bytes = header(FIN | BINARY, 1 << 63);
    violates(&bytes, Violation::LengthOutOfRange, 1002);
}

#[test]
fn a_frame_over_the_limit_closes_with_1009_before_its_payload_comes() {
    let settings = Settings {
        max_frame_bytes: 1_000,
        ..Settings::default()
    };
    let (wire, mut socket) = wired_with(settings.clone());
    wire.send(binary(&[7; 1_000]));
    wire.send(header(FIN | BINARY, 1_001));
    assert!(matches!(read_once(&mut socket, 4_096), Poll::Ready(Ok(read)) if read.len() == 1_000));
    assert!(matches!(read_once(&mut socket, 4_096), Poll::Ready(Err(_))));
    assert_eq!(socket.violation(), Some(Violation::FrameTooLarge));

    breaks(
        &settings,
        &header(FIN | BINARY, 1_001),
        Violation::FrameTooLarge,
        1009,
    );
    violates(
        &header(FIN | BINARY, (1 << 63) - 1),
        Violation::FrameTooLarge,
        1009,
    );
}

#[test]
fn a_message_over_the_limit_closes_with_1009() {
    let settings = Settings {
        max_message_bytes: 1_000,
        ..Settings::default()
    };
    let begin = frame(BINARY, b"");
    let bytes = [&begin[..], &header(FIN | CONTINUATION, 1_001)].concat();
    breaks(&settings, &bytes, Violation::MessageTooLarge, 1009);

    let (wire, mut socket) = wired_with(settings);
    for _ in 0..3 {
        // Each is a message of its own, up to the limit.
        wire.send(
            [
                frame(BINARY, &[1; 500]),
                frame(FIN | CONTINUATION, &[2; 500]),
            ]
            .concat(),
        );
    }
    wire.send([frame(BINARY, &[1; 500]), frame(CONTINUATION, &[2; 500])].concat());
    wire.send(frame(FIN | CONTINUATION, &[3; 1]));
    let (read, end) = read_all(&mut socket, 10_000);
    assert_eq!((read.len(), end), (4_000, End::Failed(1009)));
    assert_eq!(socket.violation(), Some(Violation::MessageTooLarge));
}

#[test]
fn rfc6455_5_5_1_a_close_frame_with_half_a_code_closes_with_1002() {
    violates(&frame(FIN | CLOSE, &[3]), Violation::CloseBody, 1002);
}

#[test]
fn rfc6455_7_4_a_close_code_that_may_not_be_sent_closes_with_1002() {
    for code in [
        0,
        999,
        1004,
        1005,
        1006,
        1015,
        1016,
        1100,
        2000,
        2999,
        5000,
        u16::MAX,
    ] {
        let bytes = frame(FIN | CLOSE, &code.to_be_bytes());
        violates(&bytes, Violation::CloseCode(code), 1002);
    }
}

#[test]
fn rfc6455_5_5_1_a_close_reason_that_is_not_utf_8_closes_with_1007() {
    let bytes = frame(FIN | CLOSE, &close_body(1000, &[0xc3, 0x28]));
    violates(&bytes, Violation::CloseReason, 1007);
}

// ---- any bytes -----------------------------------------------------------------------------------

/// A frame that may be good and may be not.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        10 => Just(FIN | BINARY),
        5 => Just(BINARY),
        10 => Just(CONTINUATION),
        5 => Just(FIN | CONTINUATION),
        5 => Just(FIN | PING),
        3 => Just(FIN | PONG),
        1 => Just(FIN | CLOSE),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 100..300),
        1 => Just(vec![0x03, 0xe8]),
    ];
    (first, payload).prop_map(|(first, payload)| frame(first, &payload))
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(any_frame(), 0..12).prop_map(|frames| frames.concat()),
        (
            prop::collection::vec(any_frame(), 0..6),
            prop::collection::vec(any::<u8>(), 0..50)
        )
            .prop_map(|(frames, rest)| [frames.concat(), rest].concat()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_come_to_the_same_however_they_are_split(
        bytes in any_bytes(),
        cuts in prop::collection::vec(1_usize..40, 1..20),
        room in 1_usize..80,
    ) {
        let (wire, mut socket) = wired();
        wire.send(&bytes[..]);
        wire.end();
        let whole = (read_all(&mut socket, 4_096), socket.violation());

        let (wire, mut socket) = wired();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, behind) = rest.split_at(rest.len().min(*cut));
            wire.send(part);
            rest = behind;
        }
        wire.end();
        let split = (read_all(&mut socket, room), socket.violation());
        prop_assert_eq!(whole, split);
    }
}

//! Any bytes as a stream of CoAP messages: no panic; cut anywhere, a message is incomplete until its last byte, and says
//! how long it is; nothing longer than the limit is waited for; what is taken is what `coap-lite` finds in it, and is
//! written back to the same; a signal is written back to the same signal.

#![allow(clippy::expect_used, reason = "a finding is a panic")]

use coap_lite::Packet;
use tidegate_coap::codec::{Code, Frame, FrameError, Signal, Split, Token, Writer, split};

/// The longest head of a message, token included.
const HEAD: usize = 14;

/// Runs one input: two bytes for the longest message, then the stream.
///
/// # Panics
///
/// At a finding.
pub fn run(data: &[u8]) {
    let Some((most, mut rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let most = u16::from_be_bytes(*most).into();
    loop {
        match split(rest, most) {
            Ok(Split::Frame(frame)) => {
                assert!(frame.len <= most);
                cut(&rest[..frame.len], most);
                check(&frame, &rest[..frame.len]);
                rest = &rest[frame.len..];
            }
            Ok(Split::Incomplete(needed)) => {
                assert!(needed > rest.len() && needed <= most.max(HEAD));
                return;
            }
            Err(FrameError::TooLong { len, .. }) => {
                assert!(len > most as u64);
                // The head is enough to tell.
                assert!(split(&rest[..rest.len().min(HEAD)], most).is_err());
                return;
            }
            Err(_) => return,
        }
    }
}

/// Before its last byte it is incomplete, and never says that it is longer than it is.
fn cut(whole: &[u8], most: usize) {
    for end in 0..whole.len() {
        let needed = match split(&whole[..end], most) {
            Ok(Split::Incomplete(needed)) => needed,
            other => panic!("{end} of {}: {other:?}", whole.len()),
        };
        assert!(end < needed && needed <= whole.len());
        assert!(end < HEAD || needed == whole.len());
    }
}

fn check(frame: &Frame<'_>, bytes: &[u8]) {
    let mut written = Vec::new();
    let mut writer = Writer::frame(&mut written, frame.code, frame.token);
    for option in frame.options.iter() {
        writer.option(option.number, option.value);
    }
    writer.payload(frame.payload);
    // Only one way of writing it is the shortest, but any is allowed.
    assert!(written.len() <= bytes.len());
    let again = whole(&written);
    assert_eq!((again.code, again.token), (frame.code, frame.token));
    assert_eq!(again.payload, frame.payload);
    assert!(again.options.iter().eq(frame.options.iter()));
    compare(frame, bytes);
    if frame.code.is_signal()
        && let Ok(signal) = Signal::read(frame)
    {
        check_signal(&signal, frame.token);
    }
}

/// The same message in a datagram.
fn compare(frame: &Frame<'_>, bytes: &[u8]) {
    if frame.code == Code::EMPTY {
        return;
    }
    let extended = match bytes[0] >> 4 {
        13 => 1,
        14 => 2,
        15 => 4,
        _ => 0,
    };
    let mut datagram = vec![0x40 | bytes[0] & 0x0F, frame.code.0, 0, 0];
    datagram.extend_from_slice(&bytes[2 + extended..]);
    let theirs = Packet::from_bytes(&datagram).expect("it takes more than we do");
    assert_eq!(theirs.get_token(), frame.token.as_bytes());
    assert_eq!(theirs.payload, frame.payload);
    let values = theirs.options().map(|(_, values)| values.len());
    assert_eq!(values.sum::<usize>(), frame.options.iter().count());
}

fn check_signal(signal: &Signal<'_>, token: Token) {
    let mut written = Vec::new();
    signal.write(token, &mut written);
    let frame = whole(&written);
    assert_eq!((frame.code, frame.token), (signal.code(), token));
    let again = Signal::read(&frame).expect("what is written is read");
    let mut twice = Vec::new();
    again.write(token, &mut twice);
    assert_eq!(written, twice);
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match split(bytes, usize::MAX).expect("what is written is read") {
        Split::Frame(frame) if frame.len == bytes.len() => frame,
        other => panic!("{other:?}"),
    }
}

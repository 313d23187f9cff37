//! Messages over a byte stream (RFC 8323 section 3.2): their length stands before them, and they have neither type nor
//! identifier, because what carries them loses and repeats nothing.

use super::{Code, FormatError, Options, Token, body};

/// A message, borrowed from the bytes that were read.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What is asked, what became of it, or a signal.
    pub code: Code,
    /// What a response names its request by.
    pub token: Token,
    /// In the order of their numbers.
    pub options: Options<'a>,
    /// Empty when there is none.
    pub payload: &'a [u8],
    /// Bytes of all of it: the next one begins behind them.
    pub len: usize,
}

/// What the bytes of a stream begin with.
#[derive(Clone, Copy, Debug)]
pub enum Split<'a> {
    /// A part of a message. It has so many bytes at least, and exactly so many once its length can be read.
    Incomplete(usize),
    /// A whole one.
    Frame(Frame<'a>),
}

/// Why bytes are no messages. What comes behind them cannot be read, either: the connection is over (RFC 8323
/// section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Told from its first bytes, before the rest of it is waited for.
    #[error("a message of {len} bytes is longer than {most} (RFC 8323 section 5.3.1)")]
    TooLong {
        /// Bytes of the message.
        len: u64,
        /// Bytes that a message may have.
        most: usize,
    },
    /// It is not as a message is.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Reads the message that `bytes` begin with. `most`: bytes that it may have, all of it counted.
pub fn split(bytes: &[u8], most: usize) -> Result<Split<'_>, FrameError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(Split::Incomplete(2));
    };
    let token_len = first & 0x0F;
    if usize::from(token_len) > Token::MAX {
        return Err(FormatError::TokenLength.into());
    }
    let (extended, base) = match first >> 4 {
        13 => (1, FIRST_OF_13),
        14 => (2, FIRST_OF_14),
        15 => (4, FIRST_OF_15),
        small => (0, small.into()),
    };
    let head = 2 + extended;
    let Some(extension) = rest.get(..extended) else {
        return Ok(Split::Incomplete(head + usize::from(token_len)));
    };
    let extension = extension
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    let total = head as u64 + u64::from(token_len) + base + extension;
    let len = usize::try_from(total).ok().filter(|len| *len <= most);
    let Some(len) = len else {
        return Err(FrameError::TooLong { len: total, most });
    };
    let Some(whole) = bytes.get(..len) else {
        return Ok(Split::Incomplete(len));
    };
    let (token, options, payload) = body(token_len, &whole[head..])?;
    Ok(Split::Frame(Frame {
        code: Code(whole[head - 1]),
        token,
        options,
        payload,
        len,
    }))
}

/// The lengths that 13, 14 and 15 begin with, of options and payload together.
const FIRST_OF_13: u64 = 13;
const FIRST_OF_14: u64 = 269;
const FIRST_OF_15: u64 = 65_805;

/// Four bits for a length, and the bytes that follow when they do not suffice.
pub(super) fn encode_len(len: usize) -> (u8, [u8; 4], usize) {
    let len = len as u64;
    // The ends of the ranges are such that the differences fit; more than four bytes no message has.
    let (bits, rest, bytes) = match len {
        0..FIRST_OF_13 => return (len as u8, [0; 4], 0),
        FIRST_OF_13..FIRST_OF_14 => (13, len - FIRST_OF_13, 1),
        FIRST_OF_14..FIRST_OF_15 => (14, len - FIRST_OF_14, 2),
        _ => (15, len - FIRST_OF_15, 4),
    };
    debug_assert!(rest <= u32::MAX.into(), "a message has at most 4 GiB");
    let mut extension = (rest as u32).to_be_bytes();
    extension.rotate_right(bytes);
    (bits, extension, bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it stands")]
mod tests {
    use super::super::Writer;
    use super::*;

    fn frame(token: &[u8], payload: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let writer = Writer::frame(&mut out, Code::CONTENT, Token::new(token).unwrap());
        writer.payload(&vec![7; payload]);
        out
    }

    #[test]
    fn rfc_8323_3_2_each_length_has_its_form() {
        // With the marker before it, a payload is one byte longer.
        for (payload, head) in [
            (0, vec![0x00]),
            (11, vec![0xC0]),
            (12, vec![0xD0, 0]),
            (267, vec![0xD0, 255]),
            (268, vec![0xE0, 0, 0]),
            (65_803, vec![0xE0, 255, 255]),
            (65_804, vec![0xF0, 0, 0, 0, 0]),
            (1_000_000, vec![0xF0, 0, 0x0E, 0x41, 0x34]),
        ] {
            let bytes = frame(b"", payload);
            assert_eq!(&bytes[..head.len()], &head[..], "{payload}");
            assert_eq!(bytes[head.len()], Code::CONTENT.0);
            let Split::Frame(frame) = split(&bytes, bytes.len()).unwrap() else {
                panic!("{payload}");
            };
            assert_eq!((frame.payload.len(), frame.len), (payload, bytes.len()));
        }
    }

    #[test]
    fn rfc_8323_3_2_a_message_that_comes_byte_by_byte_is_whole_with_its_last_one() {
        let bytes = frame(b"token", 300);
        for end in 0..bytes.len() {
            let Split::Incomplete(needed) = split(&bytes[..end], 1 << 20).unwrap() else {
                panic!("{end}");
            };
            assert!(end < needed && needed <= bytes.len(), "{end}: {needed}");
            // The first three bytes say how long it is.
            assert!(end < 3 || needed == bytes.len(), "{end}: {needed}");
        }
        assert!(matches!(split(&bytes, 1 << 20), Ok(Split::Frame(_))));
    }

    #[test]
    fn rfc_8323_5_3_1_what_is_too_long_is_told_before_it_is_here() {
        let bytes = frame(b"t", 65_804);
        let most = bytes.len() - 1;
        let len = bytes.len() as u64;
        let error = FrameError::TooLong { len, most };
        assert_eq!(split(&bytes[..5], most).unwrap_err(), error);
        assert!(matches!(
            split(&bytes[..5], most + 1),
            Ok(Split::Incomplete(_))
        ));
        // The longest that can be said.
        let len = 6 + 65_805 + u64::from(u32::MAX);
        let error = FrameError::TooLong { len, most };
        assert_eq!(split(&[0xF0, 255, 255, 255, 255], most).unwrap_err(), error);
    }

    #[test]
    fn rfc_8323_3_2_tokens_have_at_most_eight_bytes() {
        for token_len in 9..=15 {
            let error = FrameError::Format(FormatError::TokenLength);
            assert_eq!(split(&[token_len], 1_000).unwrap_err(), error);
        }
    }

    #[test]
    fn rfc_8323_3_2_the_example_of_the_specification_is_read() {
        let Split::Frame(frame) = split(&[0x01, 0x43, 0x7f], 1_000).unwrap() else {
            panic!("it is whole");
        };
        assert_eq!(frame.code, Code::VALID);
        assert_eq!(frame.token.as_bytes(), [0x7f]);
        assert_eq!((frame.options.iter().count(), frame.payload.len()), (0, 0));
    }
}

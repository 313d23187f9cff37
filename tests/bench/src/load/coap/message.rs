//! The messages that the load sends and takes (RFC 7252 section 3): as much of them as it needs.

use anyhow::{Result, bail};

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Confirmable = 0,
    NonConfirmable = 1,
    Acknowledgement = 2,
    Reset = 3,
}

/// Methods and responses.
pub(super) mod code {
    pub(in super::super) const EMPTY: u8 = 0;
    pub(in super::super) const GET: u8 = 1;
    pub(in super::super) const PUT: u8 = 3;
    /// 2.04
    pub(in super::super) const CHANGED: u8 = 0x44;
    /// 2.05
    pub(in super::super) const CONTENT: u8 = 0x45;
}

const OBSERVE: u16 = 6;
const URI_PATH: u16 = 11;
const URI_QUERY: u16 = 15;
const MARKER: u8 = 0xFF;

/// What came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) code: u8,
    pub(super) id: u16,
    /// Whether it is a notification.
    pub(super) observe: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let Some((&[first, code, high, low], rest)) = bytes.split_first_chunk() else {
            bail!("the gateway sent {} bytes", bytes.len());
        };
        let kind = match first >> 4 & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        let token = usize::from(first & 0x0F);
        let mut rest = rest.get(token..).unwrap_or_default();
        let (mut number, mut observe) = (0_u16, false);
        while let Some((&head, tail)) = rest.split_first()
            && head != MARKER
        {
            rest = tail;
            number += extended(head >> 4, &mut rest)?;
            let length = usize::from(extended(head & 0x0F, &mut rest)?);
            observe |= number == OBSERVE;
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(Self {
            kind,
            code,
            id: u16::from_be_bytes([high, low]),
            observe,
            payload: rest.get(1..).unwrap_or_default(),
        })
    }
}

/// A delta or a length (section 3.1).
fn extended(nibble: u8, rest: &mut &[u8]) -> Result<u16> {
    match (nibble, *rest) {
        (0..=12, _) => Ok(nibble.into()),
        (13, &[byte, ref tail @ ..]) => {
            *rest = tail;
            Ok(13 + u16::from(byte))
        }
        (14, &[high, low, ref tail @ ..]) => {
            *rest = tail;
            Ok(u16::from_be_bytes([high, low]).saturating_add(269))
        }
        _ => bail!("the gateway sent an option that ends early"),
    }
}

/// A request to a topic, whose identifier stands at its third byte; the payload is still to be appended, with
/// [`with_payload`].
pub(super) fn request(code: u8, topic: &str, queries: &[&str], observe: bool) -> Vec<u8> {
    // Version 1, confirmable, a token of one byte.
    let mut out = vec![0x41, code, 0, 0, 0x7A];
    let mut before = 0;
    let mut option = |number: u16, value: &[u8]| {
        // No delta and no value here is longer than 12 bytes, but for a topic's level.
        let delta = ((number - before) as u8) << 4;
        before = number;
        match value.len() {
            short @ 0..=12 => out.push(delta | short as u8),
            long => out.extend_from_slice(&[delta | 13, (long - 13) as u8]),
        }
        out.extend_from_slice(value);
    };
    if observe {
        option(OBSERVE, &[]);
    }
    option(URI_PATH, b"ps");
    for level in topic.split('/') {
        option(URI_PATH, level.as_bytes());
    }
    for query in queries {
        option(URI_QUERY, query.as_bytes());
    }
    out
}

/// Appends a payload, and says where it begins.
pub(super) fn with_payload(request: &mut Vec<u8>, payload: &[u8]) -> usize {
    request.push(MARKER);
    let start = request.len();
    request.extend_from_slice(payload);
    start
}

/// The acknowledgement of a message.
pub(super) fn acknowledgement(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x60, code::EMPTY, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let mut bytes = request(code::PUT, "bench/a-rather-long-level/0", &["qos=1"], true);
        bytes[2..4].copy_from_slice(&7_u16.to_be_bytes());
        let start = with_payload(&mut bytes, b"21.5");
        assert_eq!(&bytes[start..], b"21.5");
        let read = Message::read(&bytes).unwrap();
        assert_eq!(
            (read.kind, read.code, read.id),
            (Kind::Confirmable, code::PUT, 7)
        );
        assert!(read.observe);
        assert_eq!(read.payload, b"21.5");
    }

    #[test]
    fn what_has_neither_options_nor_payload_is_read() {
        let bytes = acknowledgement(0x1234);
        let read = Message::read(&bytes).unwrap();
        assert_eq!(
            (read.kind, read.code, read.id),
            (Kind::Acknowledgement, code::EMPTY, 0x1234)
        );
        assert!(!read.observe && read.payload.is_empty());
        assert!(Message::read(&[0x40, 1]).is_err());
        assert!(Message::read(&[0x40, 1, 0, 0, 0xD0]).is_err());
    }
}

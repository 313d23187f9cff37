//! Writes messages.

use super::frame::encode_len;
use super::{Code, Kind, Token};

/// Appends one message to a buffer. Options are added in the order of their numbers.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    number: u16,
    /// Of a frame: where it begins, and its options. Its length is known when it is whole.
    frame: Option<(usize, usize)>,
}

impl<'a> Writer<'a> {
    /// Begins a message over UDP.
    pub fn new(out: &'a mut Vec<u8>, kind: Kind, code: Code, id: u16, token: Token) -> Self {
        let token = token.as_bytes();
        out.push(1 << 6 | (kind as u8) << 4 | token.len() as u8);
        out.push(code.0);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(token);
        Self {
            out,
            number: 0,
            frame: None,
        }
    }

    /// Begins a message over TCP. It is whole when [`Self::payload`] was called, with nothing where there is none.
    pub fn frame(out: &'a mut Vec<u8>, code: Code, token: Token) -> Self {
        let start = out.len();
        let token = token.as_bytes();
        out.push(token.len() as u8);
        out.push(code.0);
        out.extend_from_slice(token);
        let frame = Some((start, out.len()));
        Self {
            out,
            number: 0,
            frame,
        }
    }

    /// A message of four bytes: an acknowledgement, a Reset or a ping.
    pub fn empty(out: &mut Vec<u8>, kind: Kind, id: u16) {
        Writer::new(out, kind, Code::EMPTY, id, Token::default());
    }

    /// Adds an option. Its number is not below that of the one before, its value below 65,805 bytes.
    pub fn option(&mut self, number: u16, value: &[u8]) -> &mut Self {
        debug_assert!(number >= self.number, "options are in their order");
        let delta = number.saturating_sub(self.number);
        self.number = number;
        let head = self.out.len();
        self.out.push(0);
        let high = self.extend(delta.into());
        let low = self.extend(value.len() as u32);
        self.out[head] = high << 4 | low;
        self.out.extend_from_slice(value);
        self
    }

    /// Adds an option that is a number, in as few bytes as it needs (RFC 7252 section 3.2).
    pub fn uint(&mut self, number: u16, value: u32) -> &mut Self {
        let bytes = value.to_be_bytes();
        let zeros = value.leading_zeros() as usize / 8;
        self.option(number, &bytes[zeros..])
    }

    /// Adds the payload, behind all options; nothing when it is empty.
    pub fn payload(self, payload: &[u8]) {
        if let Some((start, options)) = self.frame {
            let marker = usize::from(!payload.is_empty());
            let len = self.out.len() - options + marker + payload.len();
            let (bits, extension, bytes) = encode_len(len);
            self.out[start] |= bits << 4;
            // Moves code, token and options, but never the payload.
            let behind = start + 1..start + 1;
            self.out.splice(behind, extension[..bytes].iter().copied());
        }
        if !payload.is_empty() {
            self.out.push(0xFF);
            self.out.extend_from_slice(payload);
        }
    }

    /// Appends what four bits cannot hold, and gives back those four bits.
    fn extend(&mut self, value: u32) -> u8 {
        match value {
            0..13 => value as u8,
            13..269 => {
                self.out.push((value - 13) as u8);
                13
            }
            _ => {
                let more = value.saturating_sub(269).min(u16::MAX.into()) as u16;
                self.out.extend_from_slice(&more.to_be_bytes());
                14
            }
        }
    }
}

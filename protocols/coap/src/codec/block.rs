//! The value of Block1 and Block2 (RFC 7959 section 2.2).

use super::uint;

/// Which part of a body is meant, or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The place of the block among those of its size, 0 to 1,048,575.
    pub num: u32,
    /// Whether more follow.
    pub more: bool,
    /// The exponent of the size: 0 to 6, for 16 to 1,024 bytes; over a stream 7 as well, for several of 1,024.
    pub szx: u8,
}

/// Why the value of an option is no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// It has more than three bytes.
    Length,
    /// The size exponent 7 is reserved over UDP (RFC 7959) and means BERT over TCP (RFC 8323).
    Reserved,
}

impl Block {
    /// The largest size exponent over UDP.
    pub const MAX_SZX: u8 = 6;

    /// Several blocks of 1,024 bytes in one message, and the last of them shorter: BERT, over streams only (RFC 8323
    /// section 6).
    pub const BERT: u8 = 7;

    /// The largest number.
    pub const MAX_NUM: u32 = (1 << 20) - 1;

    /// Reads the value of an option of a datagram.
    pub fn parse(value: &[u8]) -> Result<Self, BlockError> {
        let block = Self::parse_bert(value)?;
        if block.szx > Self::MAX_SZX {
            return Err(BlockError::Reserved);
        }
        Ok(block)
    }

    /// Reads the value of an option of a message over a stream.
    pub fn parse_bert(value: &[u8]) -> Result<Self, BlockError> {
        let bits = uint(value, 3).ok_or(BlockError::Length)?;
        Ok(Self {
            num: bits >> 4,
            more: bits & 8 != 0,
            szx: bits as u8 & 7,
        })
    }

    /// Its bytes, as a number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.num << 4 | (self.more as u32) << 3 | self.szx as u32
    }

    /// Whether a message has several.
    #[must_use]
    pub const fn is_bert(self) -> bool {
        self.szx == Self::BERT
    }

    /// Bytes of a block: with BERT, of each in the message.
    #[must_use]
    pub const fn size(self) -> usize {
        let szx = if self.is_bert() {
            Self::MAX_SZX
        } else {
            self.szx
        };
        1 << (szx + 4)
    }

    /// The same place of the body in blocks of another size.
    #[must_use]
    pub const fn resized(self, szx: u8) -> Self {
        let resized = Self { szx, ..self };
        let num = (self.start() / resized.size()) as u32;
        let num = if num > Self::MAX_NUM {
            Self::MAX_NUM
        } else {
            num
        };
        Self { num, ..resized }
    }

    /// Where it begins in the body.
    #[must_use]
    pub const fn start(self) -> usize {
        self.num as usize * self.size()
    }

    /// The largest exponent whose blocks have at most `bytes`, 16 at least.
    #[must_use]
    pub fn szx_within(bytes: usize) -> u8 {
        let exponent = bytes.max(16).ilog2() as u8;
        (exponent - 4).min(Self::MAX_SZX)
    }
}

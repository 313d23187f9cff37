//! The value of Block1 and Block2 (RFC 7959 section 2.2).

use super::uint;

/// Which part of a body is meant, or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The place of the block among those of its size, 0 to 1,048,575.
    pub num: u32,
    /// Whether more follow.
    pub more: bool,
    /// The exponent of the size: 0 to 6, for 16 to 1,024 bytes.
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

    /// The largest number.
    pub const MAX_NUM: u32 = (1 << 20) - 1;

    /// Reads the value of an option.
    pub fn parse(value: &[u8]) -> Result<Self, BlockError> {
        let bits = uint(value, 3).ok_or(BlockError::Length)?;
        let block = Self {
            num: bits >> 4,
            more: bits & 8 != 0,
            szx: bits as u8 & 7,
        };
        if block.szx > Self::MAX_SZX {
            return Err(BlockError::Reserved);
        }
        Ok(block)
    }

    /// Its bytes, as a number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.num << 4 | (self.more as u32) << 3 | self.szx as u32
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn size(self) -> usize {
        1 << (self.szx + 4)
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

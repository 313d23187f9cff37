//! Reading the data types of MQTT 5.0 section 1.5 from a packet's body.

use std::num::NonZeroU16;

use super::{DecodeError, PacketType, ReasonCode, varint};

/// What is left of a body or of a part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left.
    #[inline]
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing is left.
    pub(super) const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two Byte Integer (section 1.5.2).
    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four Byte Integer (section 1.5.3).
    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Variable Byte Integer (section 1.5.5).
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, width) = varint::decode(self.rest)?.ok_or(DecodeError::UnexpectedEnd)?;
        self.take(width)?;
        Ok(value)
    }

    /// Binary Data (section 1.5.6).
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// UTF-8 Encoded String (section 1.5.4).
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::StringNotUtf8)?;
        if has_nul(bytes) {
            return Err(DecodeError::StringNul);
        }
        Ok(text)
    }

    /// A Packet Identifier, which is not 0 (MQTT-2.2.1-3, -4).
    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<NonZeroU16, DecodeError> {
        NonZeroU16::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// A Reason Code that `packet` may carry (section 2.4).
    pub(super) fn reason(&mut self, packet: PacketType) -> Result<ReasonCode, DecodeError> {
        let code = self.u8()?;
        ReasonCode::from_u8(code)
            .filter(|reason| reason.is_allowed_in(packet))
            .ok_or(DecodeError::ReasonCodeNotAllowed { packet, code })
    }

    /// The Property Length and the bytes it covers (section 2.2.2).
    #[inline]
    pub(super) fn property_block(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        self.take(len as usize)
            .map_err(|_| DecodeError::PropertyLengthPastPacket)
    }
}

/// Whether a byte is 0. Strings are short: eight bytes at a time beat what the standard library and
/// the vectoriser make of it.
#[inline]
fn has_nul(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.contains(&0);
    };
    let (words, _) = bytes.as_chunks();
    // The last eight bytes cover what the words leave over.
    let found = words
        .iter()
        .fold(zero_bytes(last), |found, word| found | zero_bytes(word));
    found != 0
}

/// Not 0 exactly when one of the bytes is 0: only then does taking 1 from every byte set a high bit
/// that was not set before.
#[inline]
const fn zero_bytes(word: &[u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_ne_bytes(*word);
    word.wrapping_sub(ONES) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_1_5_4_2_nul_is_found_wherever_it_is() {
        for len in 0..40 {
            // Bytes that a borrow could be mistaken for.
            for filler in [0x01, 0x61, 0x7f, 0x80, 0x81, 0xff] {
                let mut bytes = vec![filler; len];
                assert!(!has_nul(&bytes));
                for at in 0..len {
                    bytes[at] = 0;
                    assert!(has_nul(&bytes), "{at} of {len}");
                    bytes[at] = filler;
                }
            }
        }
    }
}

//! What comes from the gateway: messages cut off by the letter of RFC 8323 section 3.2, and read by a codec that is not
//! ours, as datagrams.

use coap_lite::Packet;
use tidegate_coap::codec::{Block, Code, number};

/// A message that came.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) code: Code,
    packet: Packet,
    /// Bytes of it.
    pub(super) len: usize,
}

impl Got {
    /// Cuts a message off.
    pub(super) fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let first = *bytes.first()?;
        let (extended, base) = match first >> 4 {
            13 => (1, 13),
            14 => (2, 269),
            15 => (4, 65_805),
            small => (0, usize::from(small)),
        };
        let extension = bytes.get(1..=extended)?;
        let extension = extension
            .iter()
            .fold(0, |n, byte| n << 8 | usize::from(*byte));
        let token = usize::from(first & 15);
        assert!(token <= 8, "a token of {token} bytes");
        let len = 2 + extended + token + base + extension;
        let whole = bytes.get(..len)?;
        let code = whole[1 + extended];
        let mut datagram = vec![0x40 | first & 15, code, 0, 0];
        datagram.extend_from_slice(&whole[2 + extended..]);
        let packet = Packet::from_bytes(&datagram);
        let packet = packet.unwrap_or_else(|error| panic!("no message: {error:?} {whole:02x?}"));
        bytes.drain(..len);
        Some(Self {
            code: Code(code),
            packet,
            len,
        })
    }

    pub(super) fn token(&self) -> &[u8] {
        self.packet.get_token()
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.packet.payload
    }

    pub(super) fn option(&self, number: u16) -> Option<&[u8]> {
        let mut all = self.packet.options();
        let (_, values) = all.find(|(found, _)| **found == number)?;
        assert_eq!(values.len(), 1, "option {number} is there more than once");
        values.front().map(Vec::as_slice)
    }

    pub(super) fn number(&self, number: u16) -> Option<u32> {
        let value = self.option(number)?;
        Some(value.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    pub(super) fn observe(&self) -> Option<u32> {
        self.number(number::OBSERVE)
    }

    pub(super) fn block2(&self) -> Option<Block> {
        let bits = self.number(number::BLOCK2)?;
        Some(Block {
            num: bits >> 4,
            more: bits & 8 != 0,
            szx: bits as u8 & 7,
        })
    }

    pub(super) fn topic(&self) -> Option<&str> {
        let topic = self.option(number::TOPIC)?;
        Some(std::str::from_utf8(topic).expect("a topic is text"))
    }

    /// Whether it is this body, or the part of it that its Block2 says.
    pub(super) fn is_of(&self, body: &[u8]) -> bool {
        let Some(block) = self.block2() else {
            return self.payload() == body;
        };
        let rest = body.get(block.start()..).unwrap_or_default();
        let is_all = self.payload().len() == rest.len();
        let is_size = match (block.is_bert(), block.more) {
            (false, true) => self.payload().len() == block.size(),
            (false, false) => self.payload().len() <= block.size(),
            (true, true) => {
                !self.payload().is_empty() && self.payload().len().is_multiple_of(1_024)
            }
            (true, false) => true,
        };
        rest.starts_with(self.payload()) && block.more != is_all && is_size
    }
}

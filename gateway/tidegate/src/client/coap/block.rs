//! Parts of bodies (RFC 7959, RFC 8323 section 6).

use tidegate_coap::codec::{Block, uint};

/// The value of Block1 or Block2, as a place in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where the part begins.
    pub(super) start: usize,
    pub(super) more: bool,
    /// The exponent of the size; 7 is BERT: as many blocks of 1,024 bytes as there are.
    pub(super) szx: u8,
}

impl Part {
    /// Blocks as large as they get.
    pub(super) const LARGEST: u8 = Block::MAX_SZX;

    /// `None`: that is no block.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let bits = uint(value, 3)?;
        let szx = bits as u8 & 7;
        Some(Self {
            start: (bits >> 4) as usize * unit(szx),
            more: bits & 8 != 0,
            szx,
        })
    }

    /// The value of the option; `None` beyond the last block that can be numbered.
    pub(super) fn bits(self) -> Option<u32> {
        let number = u32::try_from(self.start / unit(self.szx)).ok()?;
        (number <= Block::MAX_NUM)
            .then(|| number << 4 | u32::from(self.more) << 3 | u32::from(self.szx))
    }

    /// Bytes of a block, of one of several with BERT.
    pub(super) fn size(self) -> usize {
        unit(self.szx)
    }
}

fn unit(szx: u8) -> usize {
    1 << (szx.min(Block::MAX_SZX) + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7959_2_2_a_block_is_a_place_in_the_body() {
        let part = Part::read(&[0x1E]).unwrap();
        assert_eq!((part.start, part.more, part.szx), (1024, true, 6));
        assert_eq!((part.bits(), part.size()), (Some(0x1E), 1024));
        assert_eq!(Part::read(&[]).unwrap().size(), 16);
        assert_eq!(Part::read(&[0, 0, 0, 0]), None);
        let last = Part {
            start: Block::MAX_NUM as usize * 16,
            more: false,
            szx: 0,
        };
        assert_eq!(last.bits(), Some(0xFF_FFF0));
        let beyond = Part {
            start: last.start + 16,
            ..last
        };
        assert_eq!(beyond.bits(), None);
    }

    #[test]
    fn rfc8323_6_bert_counts_in_blocks_of_1024() {
        let part = Part::read(&[0x3F]).unwrap();
        assert_eq!((part.start, part.size()), (3072, 1024));
        assert_eq!(part.bits(), Some(0x3F));
    }
}

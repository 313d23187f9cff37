//! What the client takes (RFC 8323 section 5.3), and messages that keep to it.

use crate::codec::{BASE_MESSAGE_SIZE, Block, Code, Csm, Token, Writer};
use crate::response::{Body, Response};

/// Bytes of a message that the smallest client must take for anything to be said to it: a code and a token.
const LEAST: u32 = 16;

/// Bytes by which the head of a message and its block options may grow with its payload.
const GROWTH: usize = 8;

/// What the client has said that it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a message.
    max_message: u32,
    block_wise: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: BASE_MESSAGE_SIZE,
            block_wise: false,
        }
    }
}

impl Limits {
    /// What it leaves out is as it was.
    pub(super) fn learn(&mut self, csm: Csm) {
        if let Some(size) = csm.max_message_size {
            self.max_message = size.max(LEAST);
        }
        self.block_wise |= csm.block_wise;
    }

    /// Whether it takes a message of so many bytes.
    pub(super) const fn take(self, bytes: usize) -> bool {
        bytes <= self.max_message as usize
    }

    /// The largest blocks: several in a message where the client takes that (sections 5.3.2 and 6).
    const fn most_szx(self) -> u8 {
        if self.block_wise && self.max_message > BASE_MESSAGE_SIZE {
            Block::BERT
        } else {
            Block::MAX_SZX
        }
    }

    /// Appends a response that is no longer than the client takes: whole, or the block of it that was asked for, or
    /// as many of its first blocks as fit. What was chosen stands in `response` then.
    pub(super) fn write(
        self,
        token: Token,
        response: &mut Response,
        asked: Option<Block>,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) {
        let start = out.len();
        let most = self.max_message as usize;
        let mut put = |response: &Response| {
            out.truncate(start);
            response.write(Writer::frame(out, response.code, token), scratch);
            out.len() - start
        };
        if !response.may_be_parted() {
            if put(response) > most {
                response.body = Body::Empty;
                response.content_format = None;
                put(response);
            }
            return;
        }
        if asked.is_none() && response.body_len() < most && put(response) <= most {
            return;
        }
        let first = Block {
            num: 0,
            more: false,
            szx: self.most_szx(),
        };
        let mut block = asked.unwrap_or(first);
        block = block.resized(block.szx.min(self.most_szx()));
        loop {
            response.block2 = Some(block);
            response.blocks = 1;
            let len = put(response);
            if len > most && block.szx > 0 {
                block = block.resized(block.szx - 1);
                continue;
            }
            if len > most {
                // Topic and options alone are more than it takes.
                *response = Response::new(Code::INTERNAL_SERVER_ERROR);
                put(response);
            } else if block.is_bert() {
                response.blocks += most.saturating_sub(len + GROWTH) / block.size();
                if response.blocks > 1 {
                    put(response);
                }
            }
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it stands")]
mod tests {
    use super::*;
    use crate::codec::{Frame, Split, number, split};

    fn limits(max_message: u32, block_wise: bool) -> Limits {
        let mut limits = Limits::default();
        limits.learn(Csm {
            max_message_size: Some(max_message),
            block_wise,
        });
        limits
    }

    /// Writes a part of a body of so many bytes, and tells its block, its bytes and those of the message.
    fn part(limits: Limits, body: usize, asked: Option<Block>) -> (Option<Block>, usize, usize) {
        let mut response = Response::links("x".repeat(body));
        let (mut out, mut scratch) = (vec![1], Vec::new());
        limits.write(
            Token::new(b"token").unwrap(),
            &mut response,
            asked,
            &mut out,
            &mut scratch,
        );
        let Split::Frame(Frame {
            options,
            payload,
            len,
            ..
        }) = split(&out[1..], usize::MAX).unwrap()
        else {
            panic!("it is whole");
        };
        let block = options.first(number::BLOCK2);
        let block = block.map(|value| Block::parse_bert(value).unwrap());
        (block, payload.len(), len)
    }

    #[test]
    fn rfc_8323_5_3_1_no_message_is_longer_than_the_client_takes() {
        for most in (64..4_000).step_by(7) {
            for body in [0, 1, 15, 16, 1_000, 1_024, 1_100, 5_000, 70_000] {
                for block_wise in [false, true] {
                    let (block, bytes, len) = part(limits(most, block_wise), body, None);
                    assert!(len <= most as usize, "{most} {body}: {len}");
                    assert_eq!(block.is_some(), bytes < body, "{most} {body}");
                }
            }
        }
    }

    #[test]
    fn rfc_8323_6_as_many_blocks_go_at_once_as_fit() {
        let limits = limits(10_000, true);
        let (block, bytes, _) = part(limits, 100_000, None);
        let block = block.unwrap();
        assert_eq!((block.num, block.more, block.szx), (0, true, 7));
        assert_eq!(bytes, 9 * 1_024);
        let next = Block { num: 9, ..block };
        assert_eq!(part(limits, 100_000, Some(next)).1, 9 * 1_024);
        // 97 blocks and 672 bytes.
        let last = Block { num: 95, ..block };
        let (block, bytes, _) = part(limits, 100_000, Some(last));
        assert_eq!((block.unwrap().more, bytes), (false, 2 * 1_024 + 672));
    }

    #[test]
    fn rfc_8323_5_3_2_without_a_word_about_blocks_one_goes_at_a_time() {
        let (block, bytes, _) = part(Limits::default(), 5_000, None);
        assert_eq!((block.unwrap().szx, bytes), (6, 1_024));
        let bert = Block {
            num: 2,
            more: false,
            szx: 7,
        };
        let (block, bytes, _) = part(Limits::default(), 5_000, Some(bert));
        let block = block.unwrap();
        assert_eq!((block.num, block.szx, bytes), (2, 6, 1_024));
    }
}

//! Numbers that nobody can foresee: tokens, so that a response cannot be forged by somebody who does not see the
//! request (RFC 7252 section 11.4), and times, so that clients do not repeat themselves in step.

use std::hash::{BuildHasher as _, RandomState};

use tidegate_coap::codec::Token;

/// A keyed hash of a counter; the key is the system's.
#[derive(Debug)]
pub(super) struct Chance {
    key: RandomState,
    count: u64,
}

impl Chance {
    pub(super) fn new() -> Self {
        Self {
            key: RandomState::new(),
            count: 0,
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.key.hash_one(self.count)
    }

    /// One that was not given before, but for a chance of one in 2^64.
    pub(super) fn token(&mut self) -> Token {
        // Eight bytes are a token.
        Token::new(&self.next().to_be_bytes()).unwrap_or_default()
    }
}

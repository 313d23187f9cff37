//! Bodies that come in parts (Block1, RFC 7959 section 2.5): whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidegate_bus::{Charge, MemoryBudget};

use crate::codec::Block;
use crate::duplicates::EXCHANGE_LIFETIME;

/// What a part came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// More is expected.
    Continue,
    /// The body is whole.
    Whole(Vec<u8>),
    /// The parts before are not here (4.08).
    Incomplete,
    /// A part that is not the last has the size that it says (4.00).
    Size,
    /// The body is larger than it may be (4.13).
    TooLarge,
    /// The endpoint has as many bodies under way as it may (4.29).
    TooMany,
    /// There is no room for another (5.03).
    Full,
}

struct Transfer {
    body: Vec<u8>,
    charge: Charge,
    until: Instant,
}

/// The bodies under way at one listener, or of one connection: by endpoint, and by what tells them apart.
pub(crate) struct Transfers<E> {
    open: BTreeMap<(E, u64), Transfer>,
    budget: Arc<MemoryBudget>,
    most: usize,
    most_per_endpoint: usize,
    most_bytes: usize,
}

impl<E: Copy + Ord> Transfers<E> {
    pub(crate) fn new(
        budget: &Arc<MemoryBudget>,
        most: usize,
        most_per_endpoint: usize,
        most_bytes: usize,
    ) -> Self {
        Self {
            open: BTreeMap::new(),
            budget: Arc::clone(budget),
            most,
            most_per_endpoint,
            most_bytes,
        }
    }

    /// Bodies under way.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes one part. `announced`: the size of the body, as the client says.
    pub(crate) fn add(
        &mut self,
        from: E,
        which: u64,
        block: Block,
        payload: &[u8],
        announced: Option<u32>,
        now: Instant,
    ) -> Step {
        let key = (from, which);
        let size = match (block.is_bert(), block.more) {
            (false, true) => payload.len() == block.size(),
            (false, false) => payload.len() <= block.size(),
            // RFC 8323 section 6
            (true, true) => !payload.is_empty() && payload.len().is_multiple_of(block.size()),
            (true, false) => true,
        };
        if !size {
            self.open.remove(&key);
            return Step::Size;
        }
        let end = block.start() + payload.len();
        if end.max(announced.unwrap_or(0) as usize) > self.most_bytes {
            self.open.remove(&key);
            return Step::TooLarge;
        }
        if block.num == 0 {
            return self.begin(key, block, payload, now);
        }
        let Some(transfer) = self.open.get_mut(&key) else {
            return Step::Incomplete;
        };
        if transfer.until <= now || transfer.body.len() != block.start() {
            self.open.remove(&key);
            return Step::Incomplete;
        }
        if !transfer.charge.resize(end) {
            self.open.remove(&key);
            return Step::Full;
        }
        transfer.body.extend_from_slice(payload);
        transfer.until = now + EXCHANGE_LIFETIME;
        if block.more {
            return Step::Continue;
        }
        let whole = self.open.remove(&key);
        whole.map_or(Step::Incomplete, |transfer| Step::Whole(transfer.body))
    }

    /// The first part: one with the same key that is under way begins anew.
    fn begin(&mut self, key: (E, u64), block: Block, payload: &[u8], now: Instant) -> Step {
        self.open.remove(&key);
        if !block.more {
            return Step::Whole(payload.to_vec());
        }
        let of_endpoint = self.open.range((key.0, 0)..=(key.0, u64::MAX)).count();
        if of_endpoint >= self.most_per_endpoint {
            return Step::TooMany;
        }
        if self.open.len() >= self.most {
            self.expire(now);
        }
        if self.open.len() >= self.most {
            return Step::Full;
        }
        let Some(charge) = self.budget.charge(payload.len()) else {
            return Step::Full;
        };
        let transfer = Transfer {
            body: payload.to_vec(),
            charge,
            until: now + EXCHANGE_LIFETIME,
        };
        self.open.insert(key, transfer);
        Step::Continue
    }

    /// Gives up those of an endpoint.
    pub(crate) fn end(&mut self, of: E) {
        let keys = self.open.range((of, 0)..=(of, u64::MAX));
        let keys: Vec<_> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            self.open.remove(&key);
        }
    }

    /// Gives up those of which nothing has come for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.open.retain(|_, transfer| transfer.until > now);
    }
}

//! QoS 2 messages that a client has published and not yet released (MQTT 5.0 section 4.3.3), with the
//! connection that each came on.
//!
//! Clients number their messages upwards and release them in the same order, so a sorted list is
//! appended to at its end and taken from at its beginning; at worst half of it is moved.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use crate::store::Epoch;

/// Room that is made for the first message.
const ROOM: usize = 16;

#[derive(Default)]
pub(crate) struct Receiving {
    /// Sorted by packet identifier.
    #[expect(clippy::box_collection, reason = "most clients never have any")]
    open: Option<Box<VecDeque<(NonZeroU16, Epoch)>>>,
}

impl Receiving {
    /// Adds a message; `false` when its identifier is open already.
    pub(crate) fn insert(&mut self, packet_id: NonZeroU16, epoch: Epoch) -> bool {
        let open = self
            .open
            .get_or_insert_with(|| Box::new(VecDeque::with_capacity(ROOM)));
        if open.back().is_none_or(|last| last.0 < packet_id) {
            open.push_back((packet_id, epoch));
            return true;
        }
        match open.binary_search_by_key(&packet_id, |entry| entry.0) {
            Ok(_) => false,
            Err(at) => {
                open.insert(at, (packet_id, epoch));
                true
            }
        }
    }

    /// Takes a message out and tells the connection it came on.
    pub(crate) fn remove(&mut self, packet_id: NonZeroU16) -> Option<Epoch> {
        let open = self.open.as_mut()?;
        let first = open.front().is_some_and(|first| first.0 == packet_id);
        let (_, epoch) = if first {
            open.pop_front()?
        } else {
            let at = open
                .binary_search_by_key(&packet_id, |entry| entry.0)
                .ok()?;
            open.remove(at)?
        };
        if open.is_empty() {
            self.open = None;
        }
        Some(epoch)
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.len())
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).unwrap()
    }

    #[test]
    fn identifiers_come_and_go_in_any_order_and_each_is_open_once() {
        let mut receiving = Receiving::default();
        // 65,521 is a prime above all of them: every order is another.
        for step in [1, 7, 1_000, 65_520] {
            let ids: Vec<u16> = (1..=2_000_u32)
                .map(|n| (n * step % 65_521) as u16)
                .collect();
            for &n in &ids {
                assert!(receiving.insert(id(n), Epoch(u64::from(n))));
                assert!(!receiving.insert(id(n), Epoch(0)));
            }
            assert_eq!(receiving.len(), 2_000);
            for &n in ids.iter().rev().step_by(2) {
                assert_eq!(receiving.remove(id(n)), Some(Epoch(u64::from(n))));
                assert_eq!(receiving.remove(id(n)), None);
            }
            for &n in ids.iter().step_by(2) {
                assert_eq!(receiving.remove(id(n)), Some(Epoch(u64::from(n))));
            }
            assert_eq!(receiving.len(), 0);
        }
    }
}

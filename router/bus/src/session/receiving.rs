//! QoS 2 messages that a client has published and not yet released (MQTT 5.0 section 4.3.3), with the
//! connection that each came on.
//!
//! Clients number their messages upwards and release them in the same order, so a sorted list is
//! appended to at its end and taken from at its beginning; at worst half of it is moved.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use crate::store::{Epoch, Ticket};

/// Room that is made for the first message.
const ROOM: usize = 16;

/// A QoS 2 PUBLISH with this packet identifier.
#[derive(Clone, Debug)]
pub enum Receive {
    /// It is new.
    New,
    /// The client has published it before and not yet released it: it is acknowledged when the first one
    /// is, and not published again (MQTT-4.3.3-10).
    Repeated(Ticket),
}

struct Open {
    packet_id: NonZeroU16,
    /// The connection it came on.
    epoch: Epoch,
    /// When it is kept.
    ticket: Ticket,
}

#[derive(Default)]
pub(crate) struct Receiving {
    /// Sorted by packet identifier.
    #[expect(clippy::box_collection, reason = "most clients never have any")]
    open: Option<Box<VecDeque<Open>>>,
}

impl Receiving {
    /// Adds a message, unless its identifier is open already.
    pub(crate) fn insert(&mut self, packet_id: NonZeroU16, epoch: Epoch) -> Receive {
        let new = Open {
            packet_id,
            epoch,
            ticket: Ticket::ready(),
        };
        let open = self
            .open
            .get_or_insert_with(|| Box::new(VecDeque::with_capacity(ROOM)));
        if open.back().is_none_or(|last| last.packet_id < packet_id) {
            open.push_back(new);
            return Receive::New;
        }
        match open.binary_search_by_key(&packet_id, |entry| entry.packet_id) {
            Ok(at) => {
                let ticket = open[at].ticket.clone();
                if matches!(ticket.result(), Some(Err(_))) {
                    // The first one was refused: it was never received.
                    open[at] = new;
                    return Receive::New;
                }
                Receive::Repeated(ticket)
            }
            Err(at) => {
                open.insert(at, new);
                Receive::New
            }
        }
    }

    /// A message is kept when `ticket` is complete.
    pub(crate) fn set_ticket(&mut self, packet_id: NonZeroU16, ticket: &Ticket) {
        let Some(open) = self.open.as_mut() else {
            return;
        };
        // Mostly it has just been added at the end.
        let at = match open.back() {
            Some(last) if last.packet_id == packet_id => open.len() - 1,
            _ => match open.binary_search_by_key(&packet_id, |entry| entry.packet_id) {
                Ok(at) => at,
                Err(_) => return,
            },
        };
        open[at].ticket = ticket.clone();
    }

    /// Takes a message out and tells the connection it came on.
    pub(crate) fn remove(&mut self, packet_id: NonZeroU16) -> Option<Epoch> {
        let open = self.open.as_mut()?;
        let first = open
            .front()
            .is_some_and(|first| first.packet_id == packet_id);
        let removed = if first {
            open.pop_front()?
        } else {
            let at = open
                .binary_search_by_key(&packet_id, |entry| entry.packet_id)
                .ok()?;
            open.remove(at)?
        };
        if open.is_empty() {
            self.open = None;
        }
        Some(removed.epoch)
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
    use crate::store::StoreError;

    fn id(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).unwrap()
    }

    #[test]
    fn mqtt_4_3_3_9_one_that_was_refused_is_new_when_it_comes_again() {
        let mut receiving = Receiving::default();
        receiving.insert(id(7), Epoch(1));
        let (ticket, completion) = Ticket::pending();
        receiving.set_ticket(id(7), &ticket);
        let again = receiving.insert(id(7), Epoch(2));
        assert!(matches!(again, Receive::Repeated(waits) if waits.result().is_none()));
        completion.complete(Err(StoreError::Full));
        assert!(matches!(receiving.insert(id(7), Epoch(3)), Receive::New));
        assert_eq!(receiving.remove(id(7)), Some(Epoch(3)));
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
                let first = receiving.insert(id(n), Epoch(u64::from(n)));
                assert!(matches!(first, Receive::New));
                let again = receiving.insert(id(n), Epoch(0));
                assert!(matches!(again, Receive::Repeated(_)));
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

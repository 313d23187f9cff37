//! QoS 2 messages that a client has published and not yet released (MQTT 5.0 section 4.3.3), with the
//! connection that each came on.
//!
//! An identifier belongs to the stream it came on, where a connection has several. One whose stream has ended
//! is adrift: a PUBLISH that says that it is a repetition, or a PUBREL, may take it up from any stream.
//!
//! Clients number their messages upwards and release them in the same order, so a sorted list is
//! appended to at its end and taken from at its beginning; at worst half of it is moved.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use crate::channel::Channel;
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

/// A QoS 2 PUBLISH of a client: its packet identifier, on one of the streams of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The packet identifier.
    pub packet_id: NonZeroU16,
    /// The stream, unless it is the one that the connection has begun on.
    pub channel: Option<Channel>,
}

impl From<NonZeroU16> for Inbound {
    fn from(packet_id: NonZeroU16) -> Self {
        Self {
            packet_id,
            channel: None,
        }
    }
}

/// By packet identifier, then by stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

/// Stands for the stream of those whose stream has ended. No channel has this number.
const ADRIFT: u32 = 1;

impl Key {
    const fn new(packet_id: NonZeroU16, stream: u32) -> Self {
        Self((packet_id.get() as u64) << 32 | stream as u64)
    }

    const fn packet_id(self) -> u64 {
        self.0 >> 32
    }

    const fn stream(self) -> u32 {
        self.0 as u32
    }
}

impl From<Inbound> for Key {
    #[inline]
    fn from(inbound: Inbound) -> Self {
        Self::new(inbound.packet_id, inbound.channel.map_or(0, Channel::get))
    }
}

/// The connection of those that belong to none any more; the epochs of connections are higher.
const NO_CONNECTION: Epoch = Epoch(0);

struct Open {
    key: Key,
    /// The connection it came on.
    epoch: Epoch,
    /// When it is kept.
    ticket: Ticket,
}

#[derive(Default)]
pub(crate) struct Receiving {
    /// Sorted.
    #[expect(clippy::box_collection, reason = "most clients never have any")]
    open: Option<Box<VecDeque<Open>>>,
}

impl Receiving {
    /// Adds a message, unless its identifier is open already. `dup`: the client says that it may be.
    pub(crate) fn insert(&mut self, inbound: Inbound, dup: bool, epoch: Epoch) -> Receive {
        let key = Key::from(inbound);
        let new = Open {
            key,
            epoch,
            ticket: Ticket::ready(),
        };
        let open = self
            .open
            .get_or_insert_with(|| Box::new(VecDeque::with_capacity(ROOM)));
        if open.back().is_none_or(|last| last.key < key) && !dup {
            open.push_back(new);
            return Receive::New;
        }
        let at = match open.binary_search_by_key(&key, |entry| entry.key) {
            Ok(at) => at,
            Err(at) => {
                let Some(adrift) = find_adrift(open, inbound, epoch).filter(|_| dup) else {
                    open.insert(at, new);
                    return Receive::New;
                };
                adopt(open, adrift, key)
            }
        };
        let ticket = open[at].ticket.clone();
        if matches!(ticket.result(), Some(Err(_))) {
            // The first one was refused: it was never received.
            open[at] = new;
            return Receive::New;
        }
        Receive::Repeated(ticket)
    }

    /// A message is kept when `ticket` is complete.
    pub(crate) fn set_ticket(&mut self, inbound: Inbound, ticket: &Ticket) {
        let Some(open) = self.open.as_mut() else {
            return;
        };
        let key = Key::from(inbound);
        // Mostly it has just been added at the end.
        let at = match open.back() {
            Some(last) if last.key == key => open.len() - 1,
            _ => match open.binary_search_by_key(&key, |entry| entry.key) {
                Ok(at) => at,
                Err(_) => return,
            },
        };
        open[at].ticket = ticket.clone();
    }

    /// Takes a message out that came on this stream, and tells the connection it came on.
    pub(crate) fn remove(&mut self, inbound: Inbound) -> Option<Epoch> {
        let open = self.open.as_mut()?;
        let key = Key::from(inbound);
        let first = open.front().is_some_and(|first| first.key == key);
        let removed = if first {
            open.pop_front()?
        } else {
            let at = open.binary_search_by_key(&key, |entry| entry.key).ok()?;
            open.remove(at)?
        };
        if open.is_empty() {
            self.open = None;
        }
        Some(removed.epoch)
    }

    /// Takes a message out that is released on this stream of the connection `epoch`, and tells the connection
    /// it came on. It may have come on a stream that has ended.
    pub(crate) fn release(&mut self, inbound: Inbound, epoch: Epoch) -> Option<Epoch> {
        if let Some(of) = self.remove(inbound) {
            return Some(of);
        }
        let open = self.open.as_mut()?;
        let at = find_adrift(open, inbound, epoch)?;
        let removed = open.remove(at)?;
        if open.is_empty() {
            self.open = None;
        }
        Some(removed.epoch)
    }

    /// Whether a message with this packet identifier is open, on whatever stream.
    pub(crate) fn has(&self, packet_id: NonZeroU16) -> bool {
        let first = Key::new(packet_id, 0);
        let Some(open) = &self.open else {
            return false;
        };
        let at = open.partition_point(|entry| entry.key < first);
        open.get(at)
            .is_some_and(|entry| entry.key.packet_id() == first.packet_id())
    }

    /// A stream of the connection `epoch` has ended: what came on it is adrift. How many that are which took
    /// from the quota of the connection.
    pub(crate) fn set_adrift(&mut self, channel: Channel, epoch: Epoch) -> u32 {
        let mut count = 0;
        self.end_streams(|entry| {
            let ends = entry.key.stream() == channel.get();
            count += u32::from(ends && entry.epoch == epoch);
            ends
        });
        count
    }

    /// The connection has ended, and with it its streams.
    pub(crate) fn end_connection(&mut self) {
        self.end_streams(|entry| Channel::from_u32(entry.key.stream()).is_some());
    }

    fn end_streams(&mut self, mut ends: impl FnMut(&Open) -> bool) {
        let Some(open) = self.open.as_mut() else {
            return;
        };
        let mut any = false;
        for entry in open.iter_mut() {
            if ends(entry) {
                entry.key = Key((entry.key.packet_id() << 32) | u64::from(ADRIFT));
                entry.epoch = NO_CONNECTION;
                any = true;
            }
        }
        if any {
            open.make_contiguous().sort_by_key(|entry| entry.key);
        }
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

/// A message with this packet identifier whose stream has ended, or that came on the one stream of an earlier
/// connection and is taken up on one of several.
fn find_adrift(open: &VecDeque<Open>, inbound: Inbound, epoch: Epoch) -> Option<usize> {
    let find = |stream| {
        let key = Key::new(inbound.packet_id, stream);
        open.binary_search_by_key(&key, |entry| entry.key).ok()
    };
    let adrift = find(ADRIFT);
    adrift.or_else(|| find(0).filter(|at| inbound.channel.is_some() && open[*at].epoch != epoch))
}

/// Puts the message at `at` under another key.
fn adopt(open: &mut VecDeque<Open>, at: usize, key: Key) -> usize {
    let Some(mut adopted) = open.remove(at) else {
        return at;
    };
    adopted.key = key;
    let to = open.partition_point(|entry| entry.key < key);
    open.insert(to, adopted);
    to
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
        receiving.insert(id(7).into(), false, Epoch(1));
        let (ticket, completion) = Ticket::pending();
        receiving.set_ticket(id(7).into(), &ticket);
        let again = receiving.insert(id(7).into(), true, Epoch(2));
        assert!(matches!(again, Receive::Repeated(waits) if waits.result().is_none()));
        completion.complete(Err(StoreError::Full));
        assert!(matches!(
            receiving.insert(id(7).into(), true, Epoch(3)),
            Receive::New
        ));
        assert_eq!(receiving.remove(id(7).into()), Some(Epoch(3)));
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
                let first = receiving.insert(id(n).into(), false, Epoch(u64::from(n)));
                assert!(matches!(first, Receive::New));
                let again = receiving.insert(id(n).into(), false, Epoch(0));
                assert!(matches!(again, Receive::Repeated(_)));
            }
            assert_eq!(receiving.len(), 2_000);
            for &n in ids.iter().rev().step_by(2) {
                assert_eq!(receiving.remove(id(n).into()), Some(Epoch(u64::from(n))));
                assert_eq!(receiving.remove(id(n).into()), None);
            }
            for &n in ids.iter().step_by(2) {
                assert_eq!(receiving.remove(id(n).into()), Some(Epoch(u64::from(n))));
            }
            assert_eq!(receiving.len(), 0);
        }
    }
}

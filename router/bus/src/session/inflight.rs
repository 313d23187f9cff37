//! Acknowledged messages on their way to a client.
//!
//! A packet identifier is a place in a slab plus one. Places are reused oldest first, so that an
//! identifier rests as long as it can, and the slab grows only to the most messages that were ever
//! open at once: a client that never acknowledges one message costs one place, not a span.

use std::num::NonZeroU16;
use std::sync::Arc;

use crate::message::StoredMessage;
use crate::qos::QoS;
use crate::store::SubscriptionIdentifiers;
use crate::subscription::Subscription;

pub(crate) type Identifiers = SubscriptionIdentifiers;

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// PUBLISH sent at QoS 1: PUBACK is awaited.
    Acknowledge,
    /// PUBLISH sent at QoS 2: PUBREC is awaited.
    Receive,
    /// PUBREL sent: PUBCOMP is awaited.
    Complete,
}

/// One open exchange.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Order of sending, kept across reconnects (MQTT-4.6.0-1): its place in the session.
    pub(crate) sequence: u64,
    pub(crate) step: Step,
    pub(crate) retain: bool,
    /// What is sent again after a reconnect; `None` when the session cannot be resumed, or the message is
    /// on disk only.
    pub(crate) message: Option<Arc<StoredMessage>>,
    pub(crate) identifiers: Identifiers,
    /// The shared subscription it came through, when it did.
    pub(crate) shared: Option<Arc<Subscription>>,
    /// It was published on this connection, and took from the window.
    pub(crate) counted: bool,
    /// It is of an earlier connection, and this one has not said anything of it yet.
    pub(crate) owed: bool,
}

impl Flight {
    pub(crate) const fn qos(&self) -> QoS {
        match self.step {
            Step::Acknowledge => QoS::AtLeastOnce,
            Step::Receive | Step::Complete => QoS::ExactlyOnce,
        }
    }
}

#[derive(Debug)]
enum Slot {
    Used(Flight),
    /// The next free place plus one; 0 ends the list.
    Free(u16),
}

#[derive(Debug, Default)]
pub(crate) struct InFlight {
    slots: Vec<Slot>,
    /// First and last free place plus one; 0 when there is none.
    first_free: u16,
    last_free: u16,
    used: u16,
}

impl InFlight {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.used)
    }

    /// Whether an identifier is left (MQTT-2.2.1-3).
    pub(crate) fn has_room(&self) -> bool {
        self.used < u16::MAX
    }

    /// Opens an exchange and gives it an identifier; `None` when all 65,535 are in use.
    pub(crate) fn insert(&mut self, flight: Flight) -> Option<NonZeroU16> {
        let id = match NonZeroU16::new(self.first_free) {
            Some(id) => {
                let slot = &mut self.slots[usize::from(id.get()) - 1];
                // The list names free places only.
                let Slot::Free(next) = *slot else {
                    return None;
                };
                *slot = Slot::Used(flight);
                self.first_free = next;
                if next == 0 {
                    self.last_free = 0;
                }
                id
            }
            None => {
                let id = u16::try_from(self.slots.len() + 1)
                    .ok()
                    .and_then(NonZeroU16::new)?;
                self.slots.push(Slot::Used(flight));
                id
            }
        };
        self.used += 1;
        Some(id)
    }

    pub(crate) fn get_mut(&mut self, id: NonZeroU16) -> Option<&mut Flight> {
        match self.slots.get_mut(usize::from(id.get()) - 1) {
            Some(Slot::Used(flight)) => Some(flight),
            _ => None,
        }
    }

    /// Takes up an exchange that was kept, under its identifier; `false` when that is in use.
    pub(crate) fn restore(&mut self, id: NonZeroU16, flight: Flight) -> bool {
        let at = usize::from(id.get()) - 1;
        while self.slots.len() <= at {
            self.slots.push(Slot::Free(0));
        }
        if matches!(self.slots[at], Slot::Used(_)) {
            return false;
        }
        self.slots[at] = Slot::Used(flight);
        self.used += 1;
        true
    }

    /// Makes the list of free places anew, lowest first, after exchanges were restored.
    pub(crate) fn relink(&mut self) {
        (self.first_free, self.last_free) = (0, 0);
        for (at, slot) in self.slots.iter_mut().enumerate().rev() {
            if let Slot::Free(next) = slot {
                // There are at most 65,535 places.
                let id = at as u16 + 1;
                *next = self.first_free;
                self.first_free = id;
                if self.last_free == 0 {
                    self.last_free = id;
                }
            }
        }
    }

    /// The identifier of the exchange at `place`.
    pub(crate) fn at_place(&self, place: u64) -> Option<NonZeroU16> {
        self.slots
            .iter()
            .zip(1..=u16::MAX)
            .find(|(slot, _)| matches!(slot, Slot::Used(flight) if flight.sequence == place))
            .and_then(|(_, id)| NonZeroU16::new(id))
    }

    /// Every exchange with its identifier.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NonZeroU16, &Flight)> {
        let slots = self.slots.iter().zip(1..=u16::MAX);
        slots.filter_map(|(slot, id)| match slot {
            Slot::Used(flight) => NonZeroU16::new(id).map(|id| (id, flight)),
            Slot::Free(_) => None,
        })
    }

    /// Every exchange.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Used(flight) => Some(flight),
            Slot::Free(_) => None,
        })
    }

    /// Closes an exchange and frees its identifier.
    pub(crate) fn remove(&mut self, id: NonZeroU16) -> Option<Flight> {
        let slot = self.slots.get_mut(usize::from(id.get()) - 1)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Used(flight) = std::mem::replace(slot, Slot::Free(0)) else {
            return None;
        };
        self.free(id);
        Some(flight)
    }

    /// Closes an exchange that has come to `step`, and frees its identifier; whether it took from the
    /// window. `None` when there is none.
    ///
    /// Once for each acknowledgement: the exchange is dropped where it stands, not moved out.
    pub(crate) fn close(&mut self, id: NonZeroU16, step: Step) -> Option<bool> {
        let slot = self.slots.get_mut(usize::from(id.get()) - 1)?;
        let counted = match slot {
            Slot::Used(flight) if flight.step == step => flight.counted,
            _ => return None,
        };
        *slot = Slot::Free(0);
        self.free(id);
        Some(counted)
    }

    /// Puts a place that has just become free at the end of the list.
    fn free(&mut self, id: NonZeroU16) {
        self.used -= 1;
        if self.used == 0 && self.slots.len() > 64 {
            // A burst that has passed gives its memory back; all identifiers are free.
            *self = Self::default();
            return;
        }
        match NonZeroU16::new(self.last_free) {
            Some(last) => self.slots[usize::from(last.get()) - 1] = Slot::Free(id.get()),
            None => self.first_free = id.get(),
        }
        self.last_free = id.get();
    }

    /// Every identifier in use, in the order of sending.
    pub(crate) fn in_order(&self) -> Vec<NonZeroU16> {
        let mut open: Vec<(u64, NonZeroU16)> = self
            .slots
            .iter()
            .zip(1..=u16::MAX)
            .filter_map(|(slot, id)| match slot {
                Slot::Used(flight) => NonZeroU16::new(id).map(|id| (flight.sequence, id)),
                Slot::Free(_) => None,
            })
            .collect();
        open.sort_unstable();
        open.into_iter().map(|(_, id)| id).collect()
    }

    /// A new connection has begun: no exchange has taken from its window (MQTT 5.0 section 4.9), and
    /// all are owed to it.
    pub(crate) fn begin_connection(&mut self) {
        for slot in &mut self.slots {
            if let Slot::Used(flight) = slot {
                flight.counted = false;
                flight.owed = true;
            }
        }
    }

    /// Ends every exchange, in the order of sending.
    pub(crate) fn drain(&mut self) -> Vec<Flight> {
        let order = self.in_order();
        order.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(sequence: u64) -> Flight {
        Flight {
            sequence,
            step: Step::Acknowledge,
            retain: false,
            message: None,
            identifiers: Identifiers::new(),
            shared: None,
            counted: true,
            owed: false,
        }
    }

    #[test]
    fn mqtt_2_2_1_3_an_identifier_is_not_used_twice_and_exhaustion_is_told() {
        let mut flights = InFlight::default();
        let mut seen = std::collections::HashSet::new();
        for n in 0..u64::from(u16::MAX) {
            assert!(flights.has_room());
            assert!(seen.insert(flights.insert(flight(n)).unwrap()));
        }
        assert!(!flights.has_room());
        assert_eq!(flights.insert(flight(0)), None);
        let gap = NonZeroU16::new(300).unwrap();
        assert_eq!(flights.remove(gap).unwrap().sequence, 299);
        assert!(flights.remove(gap).is_none());
        assert_eq!(flights.insert(flight(70_000)), Some(gap));
        assert_eq!(flights.in_order().last(), Some(&gap));
        assert_eq!(flights.drain().len(), 65_535);
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn only_an_exchange_that_has_come_so_far_is_closed() {
        let mut flights = InFlight::default();
        let ids: Vec<_> = (0..2).map(|n| flights.insert(flight(n)).unwrap()).collect();
        flights.get_mut(ids[1]).unwrap().counted = false;
        assert_eq!(flights.close(ids[0], Step::Complete), None);
        assert_eq!(flights.len(), 2);
        assert_eq!(flights.close(ids[0], Step::Acknowledge), Some(true));
        assert_eq!(flights.close(ids[0], Step::Acknowledge), None);
        assert_eq!(flights.close(ids[1], Step::Acknowledge), Some(false));
        assert_eq!(flights.len(), 0);
        assert_eq!(flights.insert(flight(2)), Some(ids[0]));
        assert_eq!(flights.insert(flight(3)), Some(ids[1]));
    }

    #[test]
    fn a_freed_identifier_rests_longest() {
        let mut flights = InFlight::default();
        let ids: Vec<_> = (0..3).map(|n| flights.insert(flight(n)).unwrap()).collect();
        flights.remove(ids[1]);
        flights.remove(ids[0]);
        assert_eq!(flights.insert(flight(3)), Some(ids[1]));
        assert_eq!(flights.insert(flight(4)), Some(ids[0]));
        assert_eq!(flights.insert(flight(5)).unwrap().get(), 4);
    }
}

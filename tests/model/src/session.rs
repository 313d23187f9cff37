//! A session: what outlives a connection (MQTT 5.0 section 4.1).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::connection::Connection;
use super::packet::{Filter, Version, Will};
use super::{Checked, ConnectionId, mismatch};

/// An application message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Whose it is.
    pub(super) from: String,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) expires_at: Option<u64>,
    pub(super) tag: Option<u8>,
    pub(super) is_will: bool,
}

impl Message {
    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A will that is kept.
#[derive(Clone, Debug)]
pub(super) struct KeptWill {
    pub(super) will: Will,
    pub(super) from: String,
    pub(super) delay: u32,
}

impl Will {
    pub(super) fn of(&self, client: &str, version: Version) -> KeptWill {
        let mut will = self.clone();
        if version != Version::V5 {
            will.expiry = None;
            will.delay = 0;
        }
        KeptWill {
            delay: will.delay,
            will,
            from: client.to_owned(),
        }
    }
}

/// A message that is to be delivered.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) message: Rc<Message>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// It was retained when its receiver subscribed.
    pub(super) was_retained: bool,
    /// Subscription Identifiers, sorted.
    pub(super) identifiers: Vec<u32>,
    /// The filters it comes through.
    pub(super) filters: Vec<String>,
    /// Those of one batch come in any order among themselves.
    pub(super) batch: u64,
    /// It need not come.
    pub(super) may_be_left_out: bool,
    /// It could have been sent on a connection that ended before it was seen.
    pub(super) may_be_dup: bool,
}

impl Pending {
    /// Each was taken for the other.
    fn change_places(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.identifiers, &mut other.identifiers);
        std::mem::swap(&mut self.filters, &mut other.filters);
    }

    fn may_be_unseen(&self, qos: u8) -> bool {
        self.may_be_dup && self.qos == qos
    }
}

/// A message that was sent and is not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) id: u16,
    pub(super) pending: Pending,
    /// PUBREC has come, PUBCOMP has not.
    pub(super) released: bool,
    /// It is to be sent again: PUBLISH, or PUBREL.
    pub(super) owed: bool,
    /// PUBLISH was sent on this connection.
    pub(super) counted: bool,
    /// Its Subscription Identifiers have been seen. Before MQTT 5 they are not, and of several messages
    /// that differ in nothing else it may have been another.
    pub(super) told: bool,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) connection: Option<ConnectionId>,
    pub(super) expiry: u32,
    pub(super) ends_at: Option<u64>,
    pub(super) will: Option<KeptWill>,
    pub(super) will_at: Option<u64>,
    /// The will of the connection that was just taken over.
    pub(super) owed_will: Option<KeptWill>,
    pub(super) subscriptions: BTreeMap<String, (Filter, Option<u32>)>,
    /// In the order of sending.
    pub(super) flights: Vec<Flight>,
    /// In the order of coming.
    pub(super) queue: Vec<Pending>,
    /// Messages that went before their Subscription Identifiers were seen: each may have been another that
    /// differs in nothing else.
    pub(super) gone_untold: Vec<Pending>,
    /// Identifiers of QoS 2 messages that the client answered with PUBREC, although it never saw them: they
    /// went out on a connection that ended before it could. PUBREL is what it has seen of them.
    pub(super) released_unseen: BTreeSet<u16>,
    /// QoS 2 messages of the client that are not released.
    pub(super) receiving: BTreeSet<u16>,
}

impl Session {
    /// When something happens to it by itself.
    pub(super) fn times(&self) -> impl Iterator<Item = u64> {
        let waiting = self.queue.iter().filter(|p| !p.may_be_left_out);
        let first = waiting.filter_map(|p| p.message.expires_at).min();
        [self.ends_at, self.will_at, first].into_iter().flatten()
    }

    /// What has expired does not come (MQTT-3.3.2-5), unless its delivery could have begun.
    pub(super) fn expire(&mut self, now: u64) {
        self.queue
            .retain(|pending| pending.may_be_dup || !pending.message.is_expired(now));
        for pending in &mut self.queue {
            pending.may_be_left_out |= pending.message.is_expired(now);
        }
    }

    /// The connection is gone: QoS 0 may go with it (section 4.1).
    pub(super) fn leave(&mut self) {
        for pending in &mut self.queue {
            pending.may_be_dup = true;
            pending.may_be_left_out |= pending.qos == 0;
        }
    }

    /// A new connection: what is in flight is owed again (MQTT-4.4.0-1).
    pub(super) fn resume(&mut self) {
        for flight in &mut self.flights {
            flight.owed = true;
            flight.counted = false;
        }
    }

    /// Whether a message could be in flight that the client has not seen.
    pub(super) fn may_have_unseen(&self, qos: u8) -> bool {
        self.queue.iter().any(|pending| pending.may_be_unseen(qos))
    }

    /// The client has ended such an exchange, without knowing which: one of them does not come again.
    pub(super) fn ended_unseen(&mut self, qos: u8) {
        for pending in &mut self.queue {
            pending.may_be_left_out |= pending.may_be_unseen(qos);
        }
    }

    /// Acknowledged messages that take from the window: at least, at most. Whether an exchange that
    /// goes on from an earlier connection takes from it is not said (section 4.9).
    pub(super) fn open(&self) -> (usize, usize) {
        let counted = self.flights.iter().filter(|flight| flight.counted).count();
        let carried = self
            .flights
            .iter()
            .filter(|flight| !flight.counted && flight.released)
            .count();
        (counted, counted + carried)
    }

    /// The exchange of a message in flight is over.
    pub(super) fn end_flight(&mut self, at: usize) {
        let flight = self.flights.remove(at);
        if !flight.told {
            self.gone_untold.push(flight.pending);
        }
    }

    /// A message in flight, sent again to a client of MQTT 5, turns out to be the one with these
    /// Subscription Identifiers: it changes places with the one that it was taken for.
    pub(super) fn tell_apart(&mut self, flight: usize, identifiers: &[u32]) {
        let mut this = self.flights.remove(flight);
        this.told = true;
        if this.pending.identifiers != identifiers
            && let Some(other) = self.alike(&this.pending, identifiers)
        {
            this.pending.change_places(other);
        }
        self.flights.insert(flight, this);
    }

    /// A message of those that wait, sent to a client of MQTT 5, has these Subscription Identifiers: the
    /// one that has them may have been taken for another before.
    pub(super) fn tell_queue_apart(&mut self, place: usize, identifiers: &[u32]) {
        let mut this = self.queue.remove(place);
        if let Some(other) = self.alike(&this, identifiers) {
            this.change_places(other);
        }
        self.queue.insert(place, this);
    }

    /// A message that differs from this one in nothing but its Subscription Identifiers, and for which this
    /// one may have been taken.
    fn alike(&mut self, this: &Pending, identifiers: &[u32]) -> Option<&mut Pending> {
        let flights = self.flights.iter_mut().filter(|flight| !flight.told);
        flights
            .map(|flight| &mut flight.pending)
            .chain(&mut self.queue)
            .chain(&mut self.gone_untold)
            .find(|other| {
                Rc::ptr_eq(&other.message, &this.message)
                    && (other.qos, other.retain) == (this.qos, this.retain)
                    && other.identifiers == identifiers
            })
    }

    pub(super) fn settled(&self, connection: &Connection) -> Checked {
        let has_room = self.open().1 < connection.window;
        // A PUBREL may wait behind a PUBLISH that waits for the window.
        let owed = self.flights.iter().find(|flight| flight.owed);
        if let Some(flight) = owed.filter(|flight| flight.released || has_room) {
            return mismatch(format!("what is owed was not sent again: {flight:?}"));
        }
        let missing = self
            .queue
            .iter()
            .filter(|pending| !pending.may_be_left_out)
            .find(|pending| pending.qos == 0 || has_room);
        match missing {
            None => Ok(()),
            Some(pending) => mismatch(format!("a message did not come: {pending:?}")),
        }
    }
}

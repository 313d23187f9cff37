//! The connection's side of a session: it takes what is encoded, and hands in what the client has
//! acknowledged, which lets what waits move on.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::delivery::first_step;
use super::inflight::{Flight, Step};
use super::queue::{ITEM_OVERHEAD, Item, Line, Popped};
use super::state::State;
use super::{EndReason, Ended, Outgoing, Received, Shared};
use crate::drops::DropReason;
use crate::qos::QoS;
use crate::store::{Place, SessionChange, Ticket};
use crate::time::Timestamp;

/// Bytes the queue moves to the outbox at once; the rest follows when they are written.
const REFILL_BYTES: usize = 64 << 10;

/// What goes to the client next.
enum Next {
    /// An exchange of an earlier connection, or a new one that had to wait for the engine.
    Exchange(NonZeroU16),
    /// One whose message the engine could not keep.
    Refused(NonZeroU16),
    /// The first message of a line.
    Queued(Line),
}

/// Whether an exchange may go on.
enum Readiness {
    Ready,
    /// The engine does not have it yet.
    Waits(Option<Ticket>),
    /// Its message is on disk only.
    Unloaded,
    /// The engine could not keep it.
    Refused,
}

impl State {
    /// Asks the connection to end, for the first reason there is.
    pub(crate) fn end_connection(&mut self, reason: EndReason) {
        if let Some(link) = &mut self.link {
            link.end.get_or_insert(reason);
        }
    }

    pub(super) fn take_output(
        &mut self,
        shared: &Shared,
        out: &mut Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, Ended> {
        let may_refill = self.refill(shared, now);
        let Some(link) = self.link.as_deref_mut() else {
            return Err(Ended(EndReason::TakenOver));
        };
        let more = link.take(out, &shared.budget) || may_refill;
        link.scheduled = more;
        let counters = &shared.counters;
        for (counter, sent) in counters
            .messages_sent
            .iter()
            .zip(std::mem::take(&mut link.sent))
        {
            counter.add(u64::from(sent));
        }
        counters
            .payload_bytes_sent
            .add(std::mem::take(&mut link.sent_payload));
        // What was encoded before the end goes out before the last packet.
        link.end.map_or(Ok(more), |reason| Err(Ended(reason)))
    }

    /// Whether what was held back may go now; otherwise the connection is woken when it may.
    pub(super) fn is_unblocked_or_wakes(&self, waker: &Mutex<Option<Waker>>) -> bool {
        let blocked = self
            .link
            .as_deref()
            .and_then(|link| link.blocked_on.as_ref());
        blocked.is_some_and(|ticket| {
            let waker = waker.lock();
            waker
                .as_ref()
                .is_some_and(|waker| ticket.poll(waker).is_ready())
        })
    }

    /// The connection knows that there is something to take.
    pub(super) fn schedule(&mut self) {
        if let Some(link) = &mut self.link {
            link.scheduled = true;
        }
    }

    /// What goes next, if anything may.
    fn next_step(&mut self, shared: &Shared) -> Option<Next> {
        if self.holding.is_some() {
            return None;
        }
        let link = self.link.as_deref_mut().filter(|link| link.end.is_none())?;
        let open = link.quota > 0 && self.inflight.has_room();
        let Some(&id) = link.to_send.front() else {
            return self.turn(open);
        };
        let old = link.resuming > 0;
        let Some(flight) = self.inflight.get_mut(id) else {
            return Some(Next::Exchange(id));
        };
        // A PUBREC that came first was answered with the PUBREL.
        if old && !flight.owed {
            return Some(Next::Exchange(id));
        }
        let wait = self
            .durable
            .as_deref()
            .and_then(|durable| durable.waits(id));
        match readiness(shared, flight, wait) {
            Readiness::Refused => Some(Next::Refused(id)),
            // What is sent again goes before everything but QoS 0, which waits for no window.
            Readiness::Ready if old && !open && flight.step != Step::Complete => self.turn(false),
            Readiness::Ready => Some(Next::Exchange(id)),
            // Others may open their exchanges meanwhile, and wait behind it.
            Readiness::Waits(ticket) => {
                link.blocked_on = ticket;
                self.turn(open && !old)
            }
            Readiness::Unloaded => self.turn(false),
        }
    }

    /// The line whose turn it is.
    fn turn(&self, window_open: bool) -> Option<Next> {
        let queue = self.queue.as_deref()?;
        // The engine hears of a message before it hears that it is sent: whoever publishes it wakes the
        // connection when it has.
        let closed = self.durable.as_deref().is_some_and(|durable| {
            !queue.first_is_told()
                || (durable.has_tail() && !queue.stands_before(durable.tail.first.0))
        });
        queue.turn(window_open && !closed).map(Next::Queued)
    }

    /// Moves what may go from the queue to the outbox. `true`: more may go when that is written.
    fn refill(&mut self, shared: &Shared, now: Timestamp) -> bool {
        let mut more = false;
        if let Some(link) = self.link.as_deref_mut() {
            link.blocked_on = None;
        }
        while let Some(next) = self.next_step(shared) {
            let Some(link) = self.link.as_deref_mut() else {
                break;
            };
            if link.outbox.len() >= REFILL_BYTES {
                more = true;
                break;
            }
            match next {
                Next::Exchange(id) => {
                    let old = link.next_exchange();
                    self.send_exchange(shared, id, old, now);
                }
                Next::Refused(id) => {
                    link.next_exchange();
                    self.refuse_exchange(shared, id);
                }
                Next::Queued(line) => {
                    let Some(popped) = self.queue.as_mut().and_then(|queue| queue.pop(line)) else {
                        break;
                    };
                    if !popped.retained {
                        shared.budget.release(ITEM_OVERHEAD);
                    }
                    self.send_queued(shared, popped, now);
                }
            }
        }
        if self.queue.as_ref().is_some_and(|queue| queue.is_empty()) {
            self.queue = None;
        }
        more
    }

    fn send_queued(&mut self, shared: &Shared, popped: Popped, now: Timestamp) {
        let Popped {
            item,
            place,
            retained,
            last_of,
        } = popped;
        let acknowledged = item.qos.is_acknowledged();
        if let Err(reason) = self.send_item(shared, &item, place, retained, now) {
            self.drop_messages(shared, reason, 1);
            if acknowledged && !retained {
                self.note_done(place);
            }
        }
        if acknowledged
            && let Some(subscription) = last_of
            && let Some(durable) = self.keeper()
        {
            durable.note(SessionChange::RetainedSent(subscription.filter().clone()));
        }
    }

    fn send_item(
        &mut self,
        shared: &Shared,
        item: &Item,
        place: u64,
        retained: bool,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        if item.message.is_expired(now) {
            return Err(DropReason::Expired);
        }
        let mut packet_id = None;
        if item.qos.is_acknowledged() {
            let mut waits = false;
            if shared.durable && item.qos == QoS::ExactlyOnce {
                let kept = item.message.kept().and_then(Ticket::result);
                if matches!(kept, Some(Err(_))) {
                    // Its publisher was told so.
                    return Err(DropReason::StoreFailed);
                }
                // The engine has the identifier, too, before a client that comes back can know it.
                waits = kept.is_none() || self.durable.is_some();
            }
            let held = waits || self.link.as_ref().is_some_and(|l| !l.to_send.is_empty());
            let keep = held || self.is_resumable() || item.shared.is_some();
            let flight = Flight {
                sequence: place,
                step: first_step(item.qos),
                retain: item.retain,
                message: keep.then(|| Arc::clone(&item.message)),
                identifiers: item.identifiers.clone(),
                shared: item.shared.clone(),
                counted: true,
                owed: false,
            };
            packet_id = self.inflight.insert(flight);
            if let Some(id) = packet_id {
                self.note_sent(place, id, item, retained);
                if let Some(link) = self.link.as_deref_mut() {
                    link.take_quota();
                    if held {
                        link.to_send.push_back(id);
                    }
                }
                if held {
                    if waits {
                        let ticket = self.tell(shared);
                        if let Some(durable) = self.durable.as_deref_mut() {
                            durable.wait(id, ticket);
                        }
                    }
                    return Ok(());
                }
            }
        }
        let expires_in = item.message.expires_at().map(|at| at.seconds_left(now));
        let message = item.message.as_message();
        let outgoing = Outgoing {
            qos: item.qos,
            retain: item.retain,
            dup: false,
            packet_id,
            subscription_identifiers: &item.identifiers,
            channel: None,
            expires_in,
            place: packet_id.map_or(Place(0), |_| Place(place)),
        };
        self.encode(&message, &outgoing)
            .inspect_err(|_| self.restore_quota_of(packet_id))
    }

    fn restore_quota_of(&mut self, packet_id: Option<NonZeroU16>) {
        if let Some(link) = self.link.as_deref_mut().filter(|_| packet_id.is_some()) {
            link.restore_quota();
        }
    }

    /// The PUBLISH, with DUP when it is of an earlier connection, or the PUBREL that is owed
    /// (MQTT-4.4.0-1).
    fn send_exchange(&mut self, shared: &Shared, id: NonZeroU16, old: bool, now: Timestamp) {
        let Some(flight) = self.inflight.get_mut(id) else {
            return;
        };
        // A PUBREC that came first was answered with the PUBREL.
        if old && !std::mem::take(&mut flight.owed) {
            return;
        }
        if flight.step == Step::Complete {
            if let Some(link) = self.link.as_deref_mut() {
                link.encoder.release(link.outbox.buffer(16), id);
            }
            return;
        }
        let Some(message) = flight.message.clone() else {
            return;
        };
        let takes_quota = !std::mem::replace(&mut flight.counted, true);
        let (qos, retain) = (flight.qos(), flight.retain);
        let place = Place(flight.sequence);
        let identifiers = flight.identifiers.clone();
        // Delivery has begun, so the message is not dropped when it has expired meanwhile
        // (MQTT-3.3.2-5 speaks of messages whose delivery has not).
        let expires_in = message.expires_at().map(|at| at.seconds_left(now));
        if takes_quota && let Some(link) = self.link.as_deref_mut() {
            link.take_quota();
        }
        let outgoing = Outgoing {
            qos,
            retain,
            dup: old,
            packet_id: Some(id),
            subscription_identifiers: &identifiers,
            channel: None,
            expires_in,
            place,
        };
        if let Err(reason) = self.encode(&message.as_message(), &outgoing) {
            self.restore_quota_of(Some(id));
            self.drop_messages(shared, reason, 1);
        }
    }

    /// What the PUBREL of this exchange waits for: `ticket` if its PUBREC was the first and `told`.
    pub(super) fn released_after(&mut self, id: NonZeroU16, ticket: Ticket, told: bool) -> Ticket {
        let Some(durable) = self.durable.as_deref_mut() else {
            return ticket;
        };
        if told {
            durable.wait(id, ticket.clone());
            return ticket;
        }
        durable.waits(id).cloned().unwrap_or(ticket)
    }

    /// Closes an exchange whose message the engine could not keep: its publisher was told so.
    fn refuse_exchange(&mut self, shared: &Shared, id: NonZeroU16) {
        if let Some(flight) = self.inflight.remove(id) {
            if flight.counted {
                self.restore_quota_of(Some(id));
            }
            self.note_closed(id, flight);
            self.drop_messages(shared, DropReason::StoreFailed, 1);
        }
    }

    pub(super) fn acknowledge(
        &mut self,
        shared: &Shared,
        id: NonZeroU16,
        refused: bool,
        now: Timestamp,
    ) -> bool {
        self.close(shared, id, Step::Acknowledge, refused, now)
    }

    pub(super) fn received(
        &mut self,
        shared: &Shared,
        id: NonZeroU16,
        refused: bool,
        now: Timestamp,
    ) -> Received {
        let Some(flight) = self.inflight.get_mut(id) else {
            return Received::Unknown;
        };
        match flight.step {
            Step::Acknowledge => Received::Unknown,
            Step::Receive if refused => {
                self.close(shared, id, Step::Receive, true, now);
                Received::Refused
            }
            Step::Receive => {
                // The client has the message: from here on only the identifier matters.
                flight.step = Step::Complete;
                flight.message = None;
                flight.owed = false;
                let place = Place(flight.sequence);
                if let Some(durable) = self.keeper() {
                    durable.note(SessionChange::Received(place));
                }
                Received::Release
            }
            Step::Complete => {
                flight.owed = false;
                Received::Release
            }
        }
    }

    pub(super) fn complete(&mut self, shared: &Shared, id: NonZeroU16, now: Timestamp) -> bool {
        self.close(shared, id, Step::Complete, false, now)
    }

    /// Closes every exchange up to `place`, however far it has come, and those of which only the end is missing;
    /// how many that were. Nothing moves on before all are closed: one of them could be sent again.
    pub(super) fn acknowledge_through(
        &mut self,
        shared: &Shared,
        place: Place,
        now: Timestamp,
    ) -> usize {
        let mut closed = 0;
        for id in self.inflight.in_order() {
            let Some(flight) = self.inflight.get_mut(id) else {
                continue;
            };
            let step = flight.step;
            if flight.sequence > place.0 && step != Step::Complete {
                continue;
            }
            if step == Step::Receive {
                self.received(shared, id, false, now);
            }
            let last = match step {
                Step::Acknowledge => Step::Acknowledge,
                Step::Receive | Step::Complete => Step::Complete,
            };
            closed += usize::from(self.close_only(id, last));
        }
        if closed > 0 {
            self.move_on(shared, now);
        }
        closed
    }

    /// Closes an exchange that has come to `step` and lets what waited for that go; `false` when there is none.
    fn close(
        &mut self,
        shared: &Shared,
        id: NonZeroU16,
        step: Step,
        refused: bool,
        now: Timestamp,
    ) -> bool {
        if !self.close_only(id, step) {
            return false;
        }
        if refused {
            // MQTT-4.8.2-6: discarded, also when it came through a shared subscription.
            self.drop_messages(shared, DropReason::RefusedByReceiver, 1);
        }
        self.move_on(shared, now);
        true
    }

    #[inline]
    fn close_only(&mut self, id: NonZeroU16, step: Step) -> bool {
        let closed = if self.durable.is_some() {
            self.close_kept(id, step)
        } else {
            self.inflight.close(id, step)
        };
        let Some(counted) = closed else {
            return false;
        };
        if let Some(link) = self.link.as_mut().filter(|_| counted) {
            link.restore_quota();
        }
        true
    }

    #[inline]
    fn move_on(&mut self, shared: &Shared, now: Timestamp) {
        if self.queue.is_some() || self.link.as_ref().is_some_and(|l| !l.to_send.is_empty()) {
            self.refill(shared, now);
        }
    }

    /// As [`super::inflight::InFlight::close`], for an exchange that the engine knows of.
    #[cold]
    #[inline(never)]
    fn close_kept(&mut self, id: NonZeroU16, step: Step) -> Option<bool> {
        self.inflight.get_mut(id).filter(|f| f.step == step)?;
        let flight = self.inflight.remove(id)?;
        let counted = flight.counted;
        self.note_closed(id, flight);
        Some(counted)
    }
}

/// Whether the exchange of `flight` may go on.
fn readiness(shared: &Shared, flight: &Flight, wait: Option<&Ticket>) -> Readiness {
    let mut tickets = [wait, None];
    if flight.step != Step::Complete {
        let Some(message) = &flight.message else {
            // Without an engine there is nothing to send again.
            return if shared.durable {
                Readiness::Unloaded
            } else {
                Readiness::Ready
            };
        };
        if flight.step == Step::Receive && shared.durable {
            match message.kept() {
                // The publish is on its way to the engine; its end wakes the connection.
                None => return Readiness::Waits(None),
                Some(ticket) => tickets[1] = Some(ticket),
            }
        }
    }
    for ticket in tickets.into_iter().flatten() {
        match ticket.result() {
            None => return Readiness::Waits(Some(ticket.clone())),
            Some(Ok(())) => {}
            // The second half of an exchange is not refused.
            Some(Err(_)) if flight.step == Step::Complete => {}
            Some(Err(_)) => return Readiness::Refused,
        }
    }
    Readiness::Ready
}

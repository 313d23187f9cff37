//! The connection's side of a session: it takes what is encoded, and hands in what the client has
//! acknowledged, which lets what waits move on.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::delivery::first_step;
use super::inflight::{Flight, Step};
use super::queue::{ITEM_OVERHEAD, Item, Line};
use super::state::State;
use super::{EndReason, Ended, Received, Shared};
use crate::drops::DropReason;
use crate::time::Timestamp;

/// Bytes the queue moves to the outbox at once; the rest follows when they are written.
const REFILL_BYTES: usize = 64 << 10;

/// What goes to the client next.
enum Next {
    /// An exchange of an earlier connection.
    Again(NonZeroU16),
    /// The first message of a line.
    Queued(Line),
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

    /// What goes next, if anything may.
    fn next_step(&mut self) -> Option<Next> {
        if self.holding.is_some() {
            return None;
        }
        let link = self.link.as_deref().filter(|link| link.end.is_none())?;
        let open = link.quota > 0 && self.inflight.has_room();
        let resend = link.resend.front().copied();
        if let Some(id) = resend {
            if open || !self.is_publish(id) {
                return Some(Next::Again(id));
            }
            // What is sent again goes before everything but QoS 0, which waits for no window.
            return self.queue.as_ref()?.turn(false).map(Next::Queued);
        }
        self.queue.as_ref()?.turn(open).map(Next::Queued)
    }

    /// Moves what may go from the queue to the outbox. `true`: more may go when that is written.
    fn refill(&mut self, shared: &Shared, now: Timestamp) -> bool {
        let mut more = false;
        while let Some(next) = self.next_step() {
            let Some(link) = self.link.as_deref_mut() else {
                break;
            };
            if link.outbox.len() >= REFILL_BYTES {
                more = true;
                break;
            }
            match next {
                Next::Again(id) => {
                    link.resend.pop_front();
                    self.send_again(shared, id, now);
                }
                Next::Queued(line) => {
                    let Some((item, counted)) =
                        self.queue.as_mut().and_then(|queue| queue.pop(line))
                    else {
                        // A list of retained messages was at its end; it is gone now.
                        continue;
                    };
                    if counted {
                        shared.budget.release(ITEM_OVERHEAD);
                    }
                    self.send_queued(shared, item, now);
                }
            }
        }
        if self.queue.as_ref().is_some_and(|queue| queue.is_empty()) {
            self.queue = None;
        }
        more
    }

    fn is_publish(&mut self, id: NonZeroU16) -> bool {
        self.inflight
            .get_mut(id)
            .is_some_and(|flight| flight.step != Step::Complete)
    }

    fn send_queued(&mut self, shared: &Shared, item: Item, now: Timestamp) {
        if item.message.is_expired(now) {
            self.drop_messages(shared, DropReason::Expired, 1);
            return;
        }
        let packet_id = if item.qos.is_acknowledged() {
            let keep = self.is_resumable() || item.shared.is_some();
            let flight = Flight {
                sequence: self.next_sequence(),
                step: first_step(item.qos),
                retain: item.retain,
                message: keep.then(|| Arc::clone(&item.message)),
                identifiers: item.identifiers.clone(),
                shared: item.shared,
                counted: true,
                owed: false,
            };
            self.inflight.insert(flight)
        } else {
            None
        };
        let expires_in = item.message.expires_at().map(|at| at.seconds_left(now));
        let message = item.message.as_message();
        let sent = self.encode(
            &message,
            item.qos,
            item.retain,
            false,
            packet_id,
            &item.identifiers,
            expires_in,
        );
        if let Err(reason) = sent {
            self.drop_messages(shared, reason, 1);
        }
    }

    /// After a resume: the PUBLISH with DUP, or the PUBREL that is owed (MQTT-4.4.0-1).
    fn send_again(&mut self, shared: &Shared, id: NonZeroU16, now: Timestamp) {
        let Some(flight) = self.inflight.get_mut(id) else {
            return;
        };
        // A PUBREC that came first was answered with the PUBREL.
        if !std::mem::take(&mut flight.owed) {
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
        flight.counted = true;
        let (qos, retain) = (flight.qos(), flight.retain);
        let identifiers = flight.identifiers.clone();
        // Delivery has begun, so the message is not dropped when it has expired meanwhile
        // (MQTT-3.3.2-5 speaks of messages whose delivery has not).
        let expires_in = message.expires_at().map(|at| at.seconds_left(now));
        let view = message.as_message();
        let sent = self.encode(&view, qos, retain, true, Some(id), &identifiers, expires_in);
        if let Err(reason) = sent {
            self.drop_messages(shared, reason, 1);
        }
    }

    pub(super) fn acknowledge(
        &mut self,
        shared: &Shared,
        id: NonZeroU16,
        refused: bool,
        now: Timestamp,
    ) -> bool {
        let known = self
            .inflight
            .get_mut(id)
            .is_some_and(|f| f.step == Step::Acknowledge);
        if known {
            self.close(shared, id, refused, now);
        }
        known
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
                self.close(shared, id, true, now);
                Received::Refused
            }
            Step::Receive => {
                // The client has the message: from here on only the identifier matters.
                flight.step = Step::Complete;
                flight.message = None;
                flight.owed = false;
                Received::Release
            }
            Step::Complete => {
                flight.owed = false;
                Received::Release
            }
        }
    }

    pub(super) fn complete(&mut self, shared: &Shared, id: NonZeroU16, now: Timestamp) -> bool {
        let known = self
            .inflight
            .get_mut(id)
            .is_some_and(|f| f.step == Step::Complete);
        if known {
            self.close(shared, id, false, now);
        }
        known
    }

    fn close(&mut self, shared: &Shared, id: NonZeroU16, refused: bool, now: Timestamp) {
        let counted = self
            .inflight
            .remove(id)
            .is_some_and(|flight| flight.counted);
        if refused {
            // MQTT-4.8.2-6: discarded, also when it came through a shared subscription.
            self.drop_messages(shared, DropReason::RefusedByReceiver, 1);
        }
        if let Some(link) = self.link.as_mut().filter(|_| counted) {
            link.restore_quota();
        }
        if self.queue.is_some() || self.link.as_ref().is_some_and(|l| !l.resend.is_empty()) {
            self.refill(shared, now);
        }
    }
}

//! What stands behind a session's lock.

use std::num::NonZeroU16;
use std::sync::Arc;

use hashbrown::HashSet;

use super::inflight::{Flight, Identifiers, InFlight, Step};
use super::link::Link;
use super::queue::{ITEM_OVERHEAD, Item, Line, Queue, Retained};
use super::{Encoder, EndReason, Ended, Orphan, Outgoing, Received, Shared, TooLarge};
use crate::drops::{ClientDrops, DropReason};
use crate::message::{Message, StoredMessage};
use crate::qos::QoS;
use crate::settings::SlowConsumerPolicy;
use crate::store::Epoch;
use crate::subscriber::Delivery;
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::will::Will;

/// Bytes the queue moves to the outbox at once; the rest follows when they are written.
const REFILL_BYTES: usize = 64 << 10;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) epoch: Epoch,
    pub(crate) ended: bool,
    /// Seconds the session has after its connection ends; 0: it ends with it.
    pub(crate) expiry: u32,
    /// When the session ends, while its client is away.
    pub(crate) ends_at: Timestamp,
    /// When its will is due, while its client is away and the will waits.
    pub(crate) will_at: Timestamp,
    pub(crate) link: Option<Box<Link>>,
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) drops: Option<Box<ClientDrops>>,
    /// Identifiers of QoS 2 messages the client has published and not yet released.
    pub(crate) receiving: Option<Box<HashSet<NonZeroU16>>>,
    inflight: InFlight,
    queue: Option<Box<Queue>>,
    sequence: u64,
    /// Where the retained messages of a new subscription will stand, while they are looked up;
    /// live messages wait behind that place.
    holding: Option<u64>,
}

/// What goes to the client next.
enum Next {
    /// An exchange of an earlier connection.
    Again(NonZeroU16),
    /// The first message of a line.
    Queued(Line),
}

/// One message offered to a session.
pub(super) struct Offer<'a> {
    pub(super) message: &'a Message<'a>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Identifiers,
    pub(super) shared: Option<&'a Arc<Subscription>>,
}

/// What a session that ends leaves behind for the bus to see to.
#[derive(Default)]
pub(crate) struct Leftovers {
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) drops: Option<Box<ClientDrops>>,
}

impl State {
    pub(super) fn load(&self) -> u32 {
        let queued = self.queue.as_ref().map_or(0, |q| q.messages());
        (self.inflight.len() + queued) as u32
    }

    pub(crate) fn drop_messages(&mut self, shared: &Shared, reason: DropReason, count: u64) {
        if count > 0 {
            shared.counters.drops.add(reason, count);
            self.drops.get_or_insert_default().add(reason, count);
        }
    }

    /// Whether in-flight messages are sent again one day, so that a copy must be kept.
    const fn is_resumable(&self) -> bool {
        self.expiry > 0
    }

    const fn is_kept(&self, qos: QoS) -> bool {
        qos.is_acknowledged() && self.is_resumable()
    }

    // ---- delivery -------------------------------------------------------------------------

    pub(super) fn offer(&mut self, shared: &Shared, offer: Offer<'_>, now: Timestamp) -> Delivery {
        if self.ended {
            return Delivery::Skipped;
        }
        let line = if offer.qos.is_acknowledged() {
            Line::Acknowledged
        } else {
            Line::Zero
        };
        let may_go = self.may_go_directly(line);
        let Some(link) = self.link.as_deref_mut().filter(|link| link.end.is_none()) else {
            return self.offer_away(shared, offer, now);
        };
        let size = offer.message.size() + 32;
        if !may_go || !link.has_room(size, shared.settings.max_outbox_bytes, &shared.budget) {
            return self.enqueue(shared, offer, now);
        }
        let wake = !std::mem::replace(&mut link.scheduled, true);
        match self.send_new(shared, &offer, now) {
            Ok(()) => Delivery::Sent {
                wake,
                kept: self.is_kept(offer.qos),
            },
            Err(reason) => {
                if wake && let Some(link) = &mut self.link {
                    link.scheduled = false;
                }
                self.drop_messages(shared, reason, 1);
                Delivery::Dropped {
                    reason,
                    wake: false,
                }
            }
        }
    }

    /// Whether a message of `line` may pass by the queue.
    fn may_go_directly(&self, line: Line) -> bool {
        if self.holding.is_some() {
            return false;
        }
        let Some(link) = self.link.as_deref() else {
            return false;
        };
        let window_open = link.quota > 0 && link.resend.is_empty() && self.inflight.has_room();
        let Some(queue) = self.queue.as_deref() else {
            return line == Line::Zero || window_open;
        };
        match line {
            Line::Acknowledged => queue.is_empty() && window_open,
            // QoS 0 passes by messages that wait for the client's acknowledgements.
            Line::Zero => {
                queue.line_is_empty(Line::Zero)
                    && (queue.line_is_empty(Line::Acknowledged) || !window_open)
            }
        }
    }

    /// Encodes a message that nobody has kept yet.
    fn send_new(
        &mut self,
        shared: &Shared,
        offer: &Offer<'_>,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let packet_id = if offer.qos.is_acknowledged() {
            // Kept only when it may be needed again: a session that ends with its connection never
            // sends anything twice, but a shared message may have to go to another member.
            let keep = self.is_resumable() || offer.shared.is_some();
            let message = if keep {
                Some(
                    offer
                        .message
                        .store(&shared.budget)
                        .ok_or(DropReason::MemoryFull)?,
                )
            } else {
                None
            };
            let flight = Flight {
                sequence: self.next_sequence(),
                step: first_step(offer.qos),
                retain: offer.retain,
                message,
                identifiers: offer.identifiers.clone(),
                shared: offer.shared.cloned(),
                counted: true,
            };
            self.inflight.insert(flight)
        } else {
            None
        };
        let expires_in = offer.message.expires_at.map(|at| at.seconds_left(now));
        self.encode(
            offer.message,
            offer.qos,
            offer.retain,
            false,
            packet_id,
            &offer.identifiers,
            expires_in,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one packet")]
    fn encode(
        &mut self,
        message: &Message<'_>,
        qos: QoS,
        retain: bool,
        dup: bool,
        packet_id: Option<NonZeroU16>,
        identifiers: &[u32],
        expires_in: Option<u32>,
    ) -> Result<(), DropReason> {
        // Callers hold a link; without one there is nothing to encode for.
        let Some(link) = self.link.as_deref_mut() else {
            return Ok(());
        };
        link.prepare(message.size());
        let outgoing = Outgoing {
            qos,
            retain,
            dup,
            packet_id,
            subscription_identifiers: identifiers,
            expires_in,
        };
        if let Err(TooLarge) = link.encoder.publish(&mut link.outbox, message, &outgoing) {
            // MQTT-3.1.2-25: as if sending it had been completed.
            if let Some(id) = packet_id {
                self.inflight.remove(id);
            }
            return Err(DropReason::PacketTooLarge);
        }
        if packet_id.is_some() {
            link.quota = link.quota.saturating_sub(1);
        }
        link.sent[qos as usize] += 1;
        link.sent_payload += message.payload.len() as u64;
        Ok(())
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The client is away, or its connection is about to end.
    fn offer_away(&mut self, shared: &Shared, offer: Offer<'_>, now: Timestamp) -> Delivery {
        if offer.shared.is_some() && self.expiry == 0 {
            // Another member takes it.
            return Delivery::Skipped;
        }
        if self.expiry == 0 {
            // The session ends with its connection: nobody will ask for the message.
            self.drop_messages(shared, DropReason::SessionEnded, 1);
            return Delivery::Dropped {
                reason: DropReason::SessionEnded,
                wake: false,
            };
        }
        if !offer.qos.is_acknowledged() && !shared.settings.queue_qos0_while_offline {
            self.drop_messages(shared, DropReason::Offline, 1);
            return Delivery::Dropped {
                reason: DropReason::Offline,
                wake: false,
            };
        }
        self.enqueue(shared, offer, now)
    }

    fn enqueue(&mut self, shared: &Shared, offer: Offer<'_>, now: Timestamp) -> Delivery {
        let ending = self.is_ending();
        if let Err(reason) = self.make_room(shared, offer.message, offer.qos, now) {
            self.drop_messages(shared, reason, 1);
            return Delivery::Dropped {
                reason,
                wake: self.is_ending() && !ending,
            };
        }
        let kept = shared.budget.reserve(ITEM_OVERHEAD).then(|| {
            let message = offer.message.store(&shared.budget);
            if message.is_none() {
                shared.budget.release(ITEM_OVERHEAD);
            }
            message
        });
        let Some(message) = kept.flatten() else {
            self.drop_messages(shared, DropReason::MemoryFull, 1);
            return Delivery::Dropped {
                reason: DropReason::MemoryFull,
                wake: false,
            };
        };
        let kept = self.is_kept(offer.qos);
        let sequence = self.next_sequence();
        let item = Item {
            message,
            qos: offer.qos,
            retain: offer.retain,
            identifiers: offer.identifiers,
            shared: offer.shared.cloned(),
        };
        self.queue.get_or_insert_default().push(sequence, item);
        Delivery::Queued { kept }
    }

    /// Whether a connection is there that is not about to end.
    pub(super) fn is_served(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.end.is_none())
    }

    fn is_ending(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.end.is_some())
    }

    /// Sees to it that one more message fits the queue, by the policy of this bus.
    fn make_room(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        qos: QoS,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let settings = &shared.settings;
        let fits = |queue: Option<&Queue>| {
            queue.is_none_or(|q| {
                q.messages() < settings.max_queued_messages
                    && q.bytes() + message.size() <= settings.max_queued_bytes
            })
        };
        if fits(self.queue.as_deref()) && message.size() <= settings.max_queued_bytes {
            return Ok(());
        }
        let expired = self.queue.as_mut().map_or(0, |queue| queue.purge(now));
        shared.budget.release(expired as usize * ITEM_OVERHEAD);
        self.drop_messages(shared, DropReason::Expired, expired);
        if fits(self.queue.as_deref()) && message.size() <= settings.max_queued_bytes {
            return Ok(());
        }
        let refused = if qos.is_acknowledged() || self.link.is_none() {
            DropReason::QueueFull
        } else {
            DropReason::OutboxFull
        };
        match settings.slow_consumer_policy {
            SlowConsumerPolicy::DropNew => Err(refused),
            SlowConsumerPolicy::DropOld => {
                if message.size() > settings.max_queued_bytes {
                    return Err(refused);
                }
                let mut evicted = 0;
                while !fits(self.queue.as_deref())
                    && self
                        .queue
                        .as_mut()
                        .is_some_and(|queue| queue.evict().is_some())
                {
                    evicted += 1;
                }
                shared.budget.release(evicted as usize * ITEM_OVERHEAD);
                self.drop_messages(shared, DropReason::QueueEvicted, evicted);
                Ok(())
            }
            SlowConsumerPolicy::Disconnect => {
                self.end_connection(EndReason::SlowConsumer);
                Err(refused)
            }
        }
    }

    // ---- the connection's side ------------------------------------------------------------

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
        let more = self.refill(shared, now);
        let Some(link) = self.link.as_deref_mut() else {
            return Err(Ended(EndReason::TakenOver));
        };
        link.outbox_hint = link.outbox.len().min(REFILL_BYTES) as u32;
        if out.is_empty() {
            std::mem::swap(out, &mut link.outbox);
        } else {
            out.append(&mut link.outbox);
        }
        link.outbox = Vec::new();
        link.scheduled = more;
        link.take_charge(&shared.budget);
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
        if flight.step == Step::Complete {
            if let Some(link) = self.link.as_deref_mut() {
                link.prepare(16);
                link.encoder.release(&mut link.outbox, id);
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
                Received::Release
            }
            Step::Complete => Received::Release,
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

    // ---- retained messages of a new subscription --------------------------------------------

    /// From here on live messages wait, until [`Self::release_retained`].
    pub(crate) fn hold(&mut self) {
        self.holding = Some(self.next_sequence());
    }

    /// Lets the retained messages go first and then what has come meanwhile.
    pub(crate) fn release_retained(
        &mut self,
        shared: &Shared,
        messages: Vec<Arc<StoredMessage>>,
        subscription: &Arc<Subscription>,
    ) {
        let Some(sequence) = self.holding.take() else {
            return;
        };
        if messages.is_empty() {
            return;
        }
        let count = messages.len();
        let Some(charge) = shared
            .budget
            .charge(count * size_of::<Arc<StoredMessage>>())
        else {
            self.drop_messages(shared, DropReason::MemoryFull, count as u64);
            return;
        };
        let retained = Retained {
            messages,
            charge,
            subscription: Arc::clone(subscription),
        };
        self.queue
            .get_or_insert_default()
            .push_retained(sequence, retained);
    }

    // ---- coming and going ---------------------------------------------------------------------

    /// Gives the session a connection. What was in flight is sent again, in its order.
    pub(crate) fn attach(
        &mut self,
        epoch: Epoch,
        encoder: Box<dyn Encoder>,
        window: u16,
        patience_millis: u64,
    ) {
        self.epoch = epoch;
        self.holding = None;
        let mut link = Link::new(encoder, window, patience_millis);
        link.resend = self.inflight.in_order().into();
        self.inflight.forget_counts();
        // The connection takes output right after it has attached.
        link.scheduled = true;
        self.link = Some(Box::new(link));
    }

    /// Takes the connection away; what lay encoded for it at QoS 0 is lost.
    pub(crate) fn detach(&mut self, shared: &Shared) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        link.release_charge(&shared.budget);
        let lost = link.encoder.count_unacknowledged(&link.outbox);
        self.drop_messages(shared, DropReason::ConnectionClosed, lost);
        self.holding = None;
    }

    /// Ends the session and gives back what the bus must see to.
    pub(crate) fn end(&mut self, shared: &Shared) -> Leftovers {
        self.detach(shared);
        self.ended = true;
        let mut orphans = Vec::new();
        let mut lost = 0;
        for flight in self.inflight.drain() {
            match (flight.shared, flight.message) {
                // MQTT-4.8.2-5: a QoS 2 message whose delivery has begun goes to nobody else.
                (Some(subscription), Some(message)) if flight.step == Step::Acknowledge => {
                    orphans.push(Orphan {
                        message,
                        subscription,
                    });
                }
                // The client has it; only the end of the exchange is missing.
                _ if flight.step == Step::Complete => {}
                _ => lost += 1,
            }
        }
        for item in self
            .queue
            .take()
            .map(|queue| queue.into_items())
            .unwrap_or_default()
        {
            shared.budget.release(ITEM_OVERHEAD);
            match item.shared {
                Some(subscription) => orphans.push(Orphan {
                    message: item.message,
                    subscription,
                }),
                None => lost += 1,
            }
        }
        self.drop_messages(shared, DropReason::SessionEnded, lost);
        self.receiving = None;
        let subscriptions = std::mem::take(&mut self.subscriptions);
        for subscription in &subscriptions {
            subscription.end();
        }
        Leftovers {
            subscriptions,
            orphans,
            will: self.will.take(),
            drops: self.drops.take(),
        }
    }
}

const fn first_step(qos: QoS) -> Step {
    match qos {
        QoS::ExactlyOnce => Step::Receive,
        QoS::AtMostOnce | QoS::AtLeastOnce => Step::Acknowledge,
    }
}

//! What a session does with a message that is offered to it: encode it for the connection, queue it,
//! or count it as lost.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::durable::share_of;
use super::inflight::{Flight, Identifiers, Step};
use super::queue::{ITEM_OVERHEAD, Item, Line, Queue};
use super::state::State;
use super::{EndReason, Outgoing, Shared, TooLarge};
use crate::channel::{Channel, has_channel, part};
use crate::drops::DropReason;
use crate::message::Message;
use crate::qos::QoS;
use crate::settings::SlowConsumerPolicy;
use crate::store::{Place, QueueEntry, Stage};
use crate::subscriber::Delivery;
use crate::subscription::Subscription;
use crate::time::Timestamp;

/// One message offered to a session.
pub(super) struct Offer<'a> {
    pub(super) message: &'a Message<'a>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Identifiers,
    pub(super) shared: Option<&'a Arc<Subscription>>,
}

impl Offer<'_> {
    /// How the message waits at `place`, for the engine.
    fn entry(&self, place: u64, stage: Stage) -> QueueEntry {
        QueueEntry {
            place: Place(place),
            stage,
            qos: self.qos,
            retain: self.retain,
            identifiers: part(&self.identifiers).1.into(),
            shared: share_of(self.shared),
        }
    }
}

impl State {
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
        let idle = !std::mem::replace(&mut link.scheduled, true);
        // Behind a message that waits for the engine, or waiting itself.
        let held = offer.qos.is_acknowledged()
            && ((shared.durable
                && offer.qos == QoS::ExactlyOnce
                && (offer.message.repeats || self.durable.is_some()))
                || !link.to_send.is_empty());
        let sent = if held {
            self.hold_new(shared, &offer)
        } else {
            self.send_new(shared, &offer, now)
        };
        match sent {
            // Whoever holds has to be woken once the publish is with the engine, to wait for its ticket.
            Ok(()) => Delivery::Sent { wake: idle || held },
            Err(reason) => {
                if idle && let Some(link) = &mut self.link {
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
        let window_open = link.quota > 0 && link.resuming == 0 && self.inflight.has_room();
        let Some(queue) = self.queue.as_deref() else {
            return line == Line::Zero || (window_open && !self.has_tail());
        };
        match line {
            Line::Acknowledged => queue.is_empty() && window_open && !self.has_tail(),
            // QoS 0 passes by messages that wait for the client's acknowledgements.
            Line::Zero => {
                queue.line_is_empty(Line::Zero)
                    && (queue.line_is_empty(Line::Acknowledged) || !window_open)
            }
        }
    }

    /// Opens the exchange of a message that is sent in its turn, when the engine has it.
    #[cold]
    #[inline(never)]
    fn hold_new(&mut self, shared: &Shared, offer: &Offer<'_>) -> Result<(), DropReason> {
        let message = offer
            .message
            .store(&shared.budget)
            .ok_or(DropReason::MemoryFull)?;
        let flight = Flight {
            sequence: self.next_sequence(),
            step: first_step(offer.qos),
            retain: offer.retain,
            message: Some(message),
            identifiers: offer.identifiers.clone(),
            shared: offer.shared.cloned(),
            counted: true,
            owed: false,
        };
        let place = flight.sequence;
        // There is room: the caller has asked.
        let Some(id) = self.inflight.insert(flight) else {
            return Ok(());
        };
        if let Some(link) = self.link.as_deref_mut() {
            link.take_quota();
            link.to_send.push_back(id);
        }
        self.note_delivered(|| offer.entry(place, Stage::Sent(id)));
        Ok(())
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
            // They are for sending it again, or for giving it up with the stream it went out on.
            let identifiers = if keep || has_channel(&offer.identifiers) {
                offer.identifiers.clone()
            } else {
                Identifiers::new()
            };
            let flight = Flight {
                sequence: self.next_sequence(),
                step: first_step(offer.qos),
                retain: offer.retain,
                message,
                identifiers,
                shared: offer.shared.cloned(),
                counted: true,
                owed: false,
            };
            self.inflight.insert(flight)
        } else {
            None
        };
        let expires_in = offer.message.expires_at.map(|at| at.seconds_left(now));
        let outgoing = Outgoing {
            qos: offer.qos,
            retain: offer.retain,
            dup: false,
            packet_id,
            subscription_identifiers: &offer.identifiers,
            channel: None,
            expires_in,
            place: packet_id.map_or(Place(0), |_| Place(self.sequence)),
        };
        self.encode(offer.message, &outgoing)?;
        if let Some(id) = packet_id {
            if let Some(link) = self.link.as_deref_mut() {
                link.take_quota();
            }
            if self.durable.is_some() {
                let place = self.sequence;
                self.note_delivered(|| offer.entry(place, Stage::Sent(id)));
            }
        }
        Ok(())
    }

    // Once for each delivery.
    #[inline(always)]
    pub(super) fn encode(
        &mut self,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), DropReason> {
        if has_channel(outgoing.subscription_identifiers) {
            return self.encode_on_channel(message, outgoing);
        }
        self.encode_as(message, outgoing)
    }

    /// Apart, so that it costs those nothing who have no channels.
    #[cold]
    #[inline(never)]
    fn encode_on_channel(
        &mut self,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), DropReason> {
        let link = self.link.as_deref();
        let Some(chosen) = link.map(|link| link.channels.choose(outgoing)) else {
            return Ok(());
        };
        if let Some(flight) = outgoing.packet_id.and_then(|id| self.inflight.get_mut(id)) {
            // It is sent there, and nowhere else that it could have been.
            let channel = chosen.channel.map(Channel::get).into_iter();
            let identifiers = chosen.subscription_identifiers.iter().copied();
            flight.identifiers = channel.chain(identifiers).collect();
        }
        self.encode_as(message, &chosen)
    }

    #[inline(always)]
    fn encode_as(
        &mut self,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), DropReason> {
        // Callers hold a link; without one there is nothing to encode for.
        let Some(link) = self.link.as_deref_mut() else {
            return Ok(());
        };
        let out = link.outbox.buffer(message.size());
        if let Err(TooLarge) = link.encoder.publish(out, message, outgoing) {
            if let Some(id) = outgoing.packet_id {
                self.close_unsent(id);
            }
            return Err(DropReason::PacketTooLarge);
        }
        link.sent[outgoing.qos as usize] += 1;
        link.sent_payload += message.payload.len() as u64;
        Ok(())
    }

    /// Closes the exchange of a message that is too large for the client, as if sending it had been
    /// completed (MQTT-3.1.2-25).
    #[cold]
    fn close_unsent(&mut self, id: NonZeroU16) {
        if let Some(flight) = self.inflight.remove(id) {
            self.note_closed(id, flight);
        }
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
        if offer.qos.is_acknowledged() && self.goes_to_disk(shared, offer.message) {
            return self.extend_tail(shared, &offer);
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
        let sequence = self.next_sequence();
        if offer.qos.is_acknowledged() {
            self.note_delivered(|| offer.entry(sequence, Stage::Queued));
        }
        let item = Item {
            message,
            qos: offer.qos,
            retain: offer.retain,
            identifiers: offer.identifiers,
            shared: offer.shared.cloned(),
        };
        self.queue.get_or_insert_default().push(sequence, item);
        // A connection that asks before the engine has been told goes on when it has.
        Delivery::Queued {
            wake: self.durable.is_some() && self.link.is_some(),
        }
    }

    /// Whether one more message is left to the engine: there are such already, or the queue has its share
    /// of memory.
    fn goes_to_disk(&mut self, shared: &Shared, message: &Message<'_>) -> bool {
        let queued = self.queue.as_ref().map_or(0, |queue| queue.bytes());
        let Some(durable) = self.keeper() else {
            return false;
        };
        durable.has_tail()
            || queued + message.size() > shared.settings.queue_memory_bytes
            || !shared.budget.has_room(ITEM_OVERHEAD + message.size())
    }

    /// Leaves one more message to the engine, behind those that it has alone.
    fn extend_tail(&mut self, shared: &Shared, offer: &Offer<'_>) -> Delivery {
        // In memory until the engine has it.
        let Some(message) = offer.message.store(&shared.budget) else {
            self.drop_messages(shared, DropReason::MemoryFull, 1);
            return Delivery::Dropped {
                reason: DropReason::MemoryFull,
                wake: false,
            };
        };
        let sequence = self.next_sequence();
        let holding = self.holding.is_some();
        if let Some(durable) = self.keeper() {
            let version = offer.message.retained_version;
            if holding && version > 0 {
                durable.pass_by(offer.message.topic.as_str(), version);
            }
            durable.extend_tail(Place(sequence), message);
        }
        self.note_delivered(|| offer.entry(sequence, Stage::Queued));
        // A connection that has read up to here goes on when the engine has been told.
        Delivery::Queued {
            wake: self.link.is_some(),
        }
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
        let tail = self.durable.as_ref().map_or((0, 0), |durable| {
            (durable.tail.messages as usize, durable.tail.bytes as usize)
        });
        let fits = |queue: Option<&Queue>| {
            let (messages, bytes) = queue.map_or((0, 0), |q| (q.messages(), q.bytes()));
            messages + tail.0 < settings.max_queued_messages
                && bytes + tail.1 + message.size() <= settings.max_queued_bytes
        };
        if fits(self.queue.as_deref()) && message.size() <= settings.max_queued_bytes {
            return Ok(());
        }
        let expired = self.purge_queue(now);
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
                while !fits(self.queue.as_deref()) {
                    let Some((place, item)) = self.queue.as_mut().and_then(|q| q.evict()) else {
                        break;
                    };
                    if item.qos.is_acknowledged() {
                        self.note_done(place);
                    }
                    evicted += 1;
                }
                shared.budget.release(evicted as usize * ITEM_OVERHEAD);
                self.drop_messages(shared, DropReason::QueueEvicted, evicted);
                // The oldest are on disk: they are read when there is room for them.
                if fits(self.queue.as_deref()) {
                    Ok(())
                } else {
                    Err(refused)
                }
            }
            SlowConsumerPolicy::Disconnect => {
                self.end_connection(EndReason::SlowConsumer);
                Err(refused)
            }
        }
    }
}

impl State {
    /// Whether messages wait on disk only.
    fn has_tail(&self) -> bool {
        self.durable
            .as_ref()
            .is_some_and(|durable| durable.has_tail())
    }

    /// Drops what has expired from the part of the queue that is in memory, and tells how many messages
    /// that were.
    fn purge_queue(&mut self, now: Timestamp) -> u64 {
        let Some(queue) = self.queue.as_mut() else {
            return 0;
        };
        let mut gone = Vec::new();
        let expired = queue.purge(now, |place| gone.push(place));
        for place in gone {
            self.note_done(place);
        }
        expired
    }
}

pub(super) const fn first_step(qos: QoS) -> Step {
    match qos {
        QoS::ExactlyOnce => Step::Receive,
        QoS::AtMostOnce | QoS::AtLeastOnce => Step::Acknowledge,
    }
}

//! What a session does with a message that is offered to it: encode it for the connection, queue it,
//! or count it as lost.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::inflight::{Flight, Identifiers, Step};
use super::queue::{ITEM_OVERHEAD, Item, Line, Queue};
use super::state::State;
use super::{EndReason, Outgoing, Shared, TooLarge};
use crate::drops::DropReason;
use crate::message::Message;
use crate::qos::QoS;
use crate::settings::SlowConsumerPolicy;
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
            // They are for sending it again.
            let identifiers = if keep {
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
    pub(super) fn encode(
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
        let outgoing = Outgoing {
            qos,
            retain,
            dup,
            packet_id,
            subscription_identifiers: identifiers,
            expires_in,
        };
        if let Err(TooLarge) =
            link.encoder
                .publish(link.outbox.buffer(message.size()), message, &outgoing)
        {
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
}

pub(super) const fn first_step(qos: QoS) -> Step {
    match qos {
        QoS::ExactlyOnce => Step::Receive,
        QoS::AtMostOnce | QoS::AtLeastOnce => Step::Acknowledge,
    }
}

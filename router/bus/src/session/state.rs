//! What stands behind a session's lock, and how it comes, goes and ends. What it does with messages is
//! in `delivery.rs` and `output.rs`.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::durable::Durable;
use super::inflight::{InFlight, Step};
use super::link::Link;
use super::queue::{ITEM_OVERHEAD, Queue, Retained};
use super::receiving::Receiving;
use super::{Encoder, Orphan, Shared};
use crate::drops::{ClientDrops, DropReason};
use crate::message::StoredMessage;
use crate::store::{Backlog, Epoch};
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::will::Will;

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
    /// Identifiers of QoS 2 messages the client has published and not yet released, with the connection
    /// they came on.
    pub(crate) receiving: Receiving,
    pub(super) inflight: InFlight,
    pub(super) queue: Option<Box<Queue>>,
    pub(super) sequence: u64,
    /// Where the retained messages of a new subscription will stand, while they are looked up;
    /// live messages wait behind that place. Places begin with 1.
    pub(super) holding: Option<NonZeroU64>,
    /// What a durable engine is told, when the session outlives the process.
    pub(crate) durable: Option<Box<Durable>>,
}

/// Places that the retained messages of a new subscription have to themselves: more than there can be.
const RETAINED_PLACES: u64 = 1 << 28;

/// What a session that ends leaves behind for the bus to see to.
#[derive(Default)]
pub(crate) struct Leftovers {
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) drops: Option<Box<ClientDrops>>,
}

impl State {
    /// Messages in flight and queued, those on disk only included.
    pub(super) fn load(&self) -> u32 {
        let on_disk = self.durable.as_ref().map_or(0, |d| d.tail.messages);
        self.load_in_memory() + on_disk as u32
    }

    /// Those that are in memory.
    #[inline]
    pub(super) fn load_in_memory(&self) -> u32 {
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
    pub(super) const fn is_resumable(&self) -> bool {
        self.expiry > 0
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// From here on live messages wait, until [`Self::release_retained`].
    pub(crate) fn hold(&mut self) {
        self.holding = NonZeroU64::new(self.next_sequence());
        self.sequence += RETAINED_PLACES;
    }

    /// Lets the retained messages go first and then what has come meanwhile. `true`: some of them must
    /// not be lost on their way.
    pub(crate) fn release_retained(
        &mut self,
        shared: &Shared,
        messages: Vec<Arc<StoredMessage>>,
        subscription: &Arc<Subscription>,
    ) -> bool {
        let Some(sequence) = self.holding.take() else {
            return false;
        };
        let sequence = sequence.get();
        let durable = self.durable.as_deref_mut();
        let elsewhere = durable.map_or_else(Vec::new, Durable::take_passed_by);
        if messages.is_empty() {
            return false;
        }
        let count = messages.len();
        let Some(charge) = shared
            .budget
            .charge(count * size_of::<Arc<StoredMessage>>())
        else {
            self.drop_messages(shared, DropReason::MemoryFull, count as u64);
            return false;
        };
        let retained = Retained {
            messages,
            charge,
            subscription: Arc::clone(subscription),
        };
        self.queue
            .get_or_insert_default()
            .push_retained(sequence, retained, elsewhere)
    }

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
        link.to_send = self.inflight.in_order().into();
        link.resuming = link.to_send.len();
        self.inflight.begin_connection();
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
        let unsent = link.outbox.buffers();
        let lost = unsent
            .map(|packets| link.encoder.count_unacknowledged(packets))
            .sum();
        self.drop_messages(shared, DropReason::ConnectionClosed, lost);
        self.receiving.end_connection();
        self.holding = None;
    }

    /// Ends the session and gives back what the bus must see to.
    pub(crate) fn end(&mut self, shared: &Shared) -> Leftovers {
        self.detach(shared);
        self.ended = true;
        let mut orphans = Vec::new();
        let mut lost = 0;
        if let Some(durable) = &mut self.durable {
            // What is on disk only goes with the session.
            lost += std::mem::replace(&mut durable.tail, Backlog::EMPTY).messages;
        }
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
        self.receiving.clear();
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

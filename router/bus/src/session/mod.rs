//! Sessions: what the bus keeps of a client beyond its connection (MQTT 5.0 section 4.1).
//!
//! A session is a [`Subscriber`]. Its state stands behind one short mutex: publishers append to its
//! outbox or queue under it, its own connection takes the outbox and hands in acknowledgements.
//!
//! # States
//!
//! ```text
//!            attach (epoch e)                 detach (e), expiry > 0
//!  (new) ───────────────────────▶ connected ─────────────────────────▶ away
//!                                   │  ▲  ▲                              │ │
//!             attach (e' > e), old  │  └──┘                attach (e')   │ │ expiry over,
//!             connection told 0x8E  │  takeover ◀────────────────────────┘ │ clean start
//!                                   │ detach (e), expiry 0; clean start    ▼
//!                                   └───────────────────────────────────▶ ended
//! ```
//!
//! Invariants:
//!
//! 1. Every call of a connection carries its epoch. A call with an epoch that is not the session's
//!    newest changes nothing ([`Fenced`]).
//! 2. An ended session accepts nothing, is in no registry and holds no message; it may still be
//!    named by a worker's cache for some seconds.
//! 3. `scheduled` is set exactly while the connection has been told, or knows, that there is
//!    something to take; only the change from clear to set wakes it.
//! 4. Messages of one QoS leave in the order they were delivered; while anything waits in a line of
//!    the queue, nothing of that line passes it.
//! 5. What is lost is counted, once, with a reason: by [`State::drop_messages`].

mod channels;
mod delivery;
mod durable;
mod inflight;
mod link;
mod outbox;
mod output;
mod paging;
mod queue;
mod receiving;
mod recovery;
mod state;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

pub(crate) use durable::Durable;
pub use link::{Encoder, EndReason, Outgoing, TooLarge};
pub use receiving::{Inbound, Receive};
pub(crate) use state::{Leftovers, State};

use crate::budget::MemoryBudget;
use crate::client_id::ClientId;
use crate::counters::Counters;
use crate::drops::ClientDrops;
use crate::message::{Message, PublisherKey, StoredMessage};
use crate::settings::Settings;
use crate::store::{Epoch, Place, Store, Ticket};
use crate::subscriber::{Delivery, DeliveryContext, Subscriber};
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

/// What all sessions of a bus share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) counters: Counters,
    pub(crate) store: Arc<dyn Store>,
    /// Whether the store is durable.
    pub(crate) durable: bool,
}

/// The caller's connection is no longer the owner of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection no longer owns the session")]
pub struct Fenced;

/// Why a connection cannot take more output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub EndReason);

/// What the client answered to a QoS 2 PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The exchange goes on: PUBREL is to be sent.
    Release,
    /// The client refused the message; the exchange is closed.
    Refused,
    /// No such exchange (MQTT 5: PUBREL with 0x92).
    Unknown,
}

/// What the client's PUBREL stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// A QoS 2 message that came on this connection.
    Here,
    /// One that came on an earlier connection, and takes nothing from this one's quota (MQTT 5.0
    /// section 4.9).
    Before,
    /// None (MQTT 5: PUBCOMP with 0x92).
    Unknown,
}

/// A client's session.
pub struct Session {
    key: u64,
    id: ClientId,
    publisher_key: PublisherKey,
    load: AtomicU32,
    online: AtomicBool,
    /// Milliseconds since the Unix epoch when the client was last heard, for the keep alive.
    last_heard: AtomicU64,
    waker: Mutex<Option<Waker>>,
    state: Mutex<State>,
    shared: Arc<Shared>,
}

/// With the counts of an `Arc` it fits the 256 bytes that allocators have a class for: 100,000 clients have
/// one each. On 32 bits everything is smaller.
const _: () = assert!(size_of::<Session>() <= 240);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(key: u64, id: ClientId, shared: Arc<Shared>) -> Self {
        Self {
            key,
            publisher_key: PublisherKey::of(&id),
            id,
            load: AtomicU32::new(0),
            online: AtomicBool::new(false),
            last_heard: AtomicU64::new(0),
            waker: Mutex::new(None),
            state: Mutex::new(State::default()),
            shared,
        }
    }

    /// Whose session it is.
    pub const fn id(&self) -> &ClientId {
        &self.id
    }

    /// This session as a publisher.
    pub const fn publisher_key(&self) -> PublisherKey {
        self.publisher_key
    }

    /// Whether a connection is attached.
    pub fn is_connected(&self) -> bool {
        self.online.load(Ordering::Relaxed)
    }

    /// Messages of this client that were not delivered, by reason.
    pub fn drops(&self) -> ClientDrops {
        self.state
            .lock()
            .drops
            .as_deref()
            .cloned()
            .unwrap_or_default()
    }

    /// Subscriptions the session has now.
    pub fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.state.lock().subscriptions.clone()
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked {
            session: self,
            state: self.state.lock(),
        }
    }

    pub(crate) fn lock_as(&self, epoch: Epoch) -> Result<Locked<'_>, Fenced> {
        let locked = self.lock();
        if locked.epoch == epoch && locked.link.is_some() {
            Ok(locked)
        } else {
            Err(Fenced)
        }
    }

    pub(crate) fn heard(&self, now: Timestamp) {
        self.last_heard.store(now.as_millis(), Ordering::Relaxed);
    }

    pub(crate) fn last_heard(&self) -> Timestamp {
        Timestamp::from_millis(self.last_heard.load(Ordering::Relaxed))
    }

    /// Replaces the waker of the connection and gives back the one before.
    pub(crate) fn set_waker(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.waker.lock(), waker)
    }

    /// Asks the connection to end. Wakes it.
    pub fn end(&self, reason: EndReason) {
        self.lock().end_connection(reason);
        self.flush();
    }

    /// Moves what is to be written into `out`, which is at a packet boundary. `true`: there is
    /// more, ask again when this is written. Where `out` stays empty the waker is woken as soon as there is
    /// something.
    pub(crate) fn take_output(
        self: &Arc<Self>,
        epoch: Epoch,
        out: &mut Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, Ended> {
        let Ok(mut state) = self.lock_as(epoch) else {
            return Err(Ended(EndReason::TakenOver));
        };
        let mut taken = state.take_output(&self.shared, out, now);
        if !self.shared.durable {
            return taken;
        }
        // What the engine holds back wakes the connection when it may go; what the engine has kept since it was
        // looked at wakes nobody, and goes now.
        while taken.is_ok() && state.is_unblocked_or_wakes(&self.waker) {
            if !out.is_empty() {
                state.schedule();
                taken = Ok(true);
                break;
            }
            taken = state.take_output(&self.shared, out, now);
        }
        let page = state.next_page();
        drop(state);
        if let Some(page) = page {
            self.ask_for(page);
        }
        taken
    }

    pub(crate) fn acknowledge(
        &self,
        epoch: Epoch,
        packet_id: NonZeroU16,
        refused: bool,
        now: Timestamp,
    ) -> Result<bool, Fenced> {
        Ok(self
            .lock_as(epoch)?
            .acknowledge(&self.shared, packet_id, refused, now))
    }

    /// As [`Self::acknowledge`] for several, under one lock; those that were not in flight are taken out
    /// of `packet_ids`.
    pub(crate) fn acknowledge_all(
        &self,
        epoch: Epoch,
        packet_ids: &mut Vec<NonZeroU16>,
        now: Timestamp,
    ) -> Result<(), Fenced> {
        let mut state = self.lock_as(epoch)?;
        packet_ids.retain(|id| state.acknowledge(&self.shared, *id, false, now));
        Ok(())
    }

    pub(crate) fn acknowledge_through(
        &self,
        epoch: Epoch,
        place: Place,
        now: Timestamp,
    ) -> Result<usize, Fenced> {
        Ok(self
            .lock_as(epoch)?
            .acknowledge_through(&self.shared, place, now))
    }

    pub(crate) fn received(
        &self,
        epoch: Epoch,
        packet_id: NonZeroU16,
        refused: bool,
        now: Timestamp,
    ) -> Result<(Received, Ticket), Fenced> {
        let mut state = self.lock_as(epoch)?;
        let received = state.received(&self.shared, packet_id, refused, now);
        let told = !state.is_silent();
        let mut ticket = state.tell(&self.shared);
        if received == Received::Release {
            // PUBREL leaves after the first PUBREC is kept, whichever it answers.
            ticket = state.released_after(packet_id, ticket, told);
        }
        Ok((received, ticket))
    }

    pub(crate) fn complete(
        &self,
        epoch: Epoch,
        packet_id: NonZeroU16,
        now: Timestamp,
    ) -> Result<bool, Fenced> {
        Ok(self.lock_as(epoch)?.complete(&self.shared, packet_id, now))
    }
}

/// A session under its lock. On drop what shared groups look at without the lock is brought up to
/// date: the load, and whether the client is there.
pub(crate) struct Locked<'a> {
    session: &'a Session,
    state: MutexGuard<'a, State>,
}

impl std::ops::Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    // Once for each delivery.
    #[inline(always)]
    fn drop(&mut self) {
        let mut load = self.state.load_in_memory();
        if self.state.durable.is_some() {
            load = self.tell_rest();
        }
        // Most calls change neither, and a line that nobody writes is every core's to read.
        let online = self.state.is_served();
        if self.session.load.load(Ordering::Relaxed) != load {
            self.session.load.store(load, Ordering::Relaxed);
        }
        if self.session.online.load(Ordering::Relaxed) != online {
            self.session.online.store(online, Ordering::Relaxed);
        }
    }
}

impl Locked<'_> {
    #[cold]
    #[inline(never)]
    fn tell_rest(&mut self) -> u32 {
        let _ = self.state.tell(&self.session.shared);
        self.state.load()
    }
}

/// What the matching subscriptions of one subscriber come to.
struct Merged {
    qos: crate::qos::QoS,
    retain_as_published: bool,
    identifiers: inflight::Identifiers,
}

/// Brings the live subscriptions together: the highest QoS, the retain flag as published when one
/// of them asks for it, every identifier. `None` when none is live, or all that are want
/// nothing of this publisher. `standing` are the subscriptions the session has now, by filter.
fn merge(
    subscriptions: &[Arc<Subscription>],
    standing: &[Arc<Subscription>],
    publisher_is_self: bool,
) -> Option<Merged> {
    let mut merged: Option<Merged> = None;
    // Nearly always there is one, and it stands: nothing to go through.
    if let [only] = subscriptions
        && only.is_live()
    {
        add_to(&mut merged, only, publisher_is_self);
        return merged;
    }
    for subscription in subscriptions {
        if subscription.is_live() {
            add_to(&mut merged, subscription, publisher_is_self);
        } else if let Some(successor) = find(standing, subscription.filter())
            && !subscriptions.iter().any(|s| std::ptr::eq(&**s, successor))
        {
            // The client has subscribed anew since the route was found: no message is lost between
            // the two (MQTT-3.8.4-4).
            add_to(&mut merged, successor, publisher_is_self);
        }
    }
    merged
}

fn find<'a>(standing: &'a [Arc<Subscription>], filter: &TopicFilter) -> Option<&'a Subscription> {
    let at = standing.binary_search_by(|s| s.filter().cmp(filter)).ok()?;
    Some(&standing[at])
}

/// As [`find`], to be kept.
fn find_arc(standing: &[Arc<Subscription>], filter: &TopicFilter) -> Option<Arc<Subscription>> {
    let at = standing.binary_search_by(|s| s.filter().cmp(filter)).ok()?;
    Some(Arc::clone(&standing[at]))
}

#[inline]
fn add_to(merged: &mut Option<Merged>, subscription: &Subscription, publisher_is_self: bool) {
    let options = subscription.options();
    if options.no_local && publisher_is_self {
        return;
    }
    let merged = merged.get_or_insert_with(|| Merged {
        qos: options.qos,
        retain_as_published: false,
        identifiers: inflight::Identifiers::new(),
    });
    merged.qos = merged.qos.max(options.qos);
    merged.retain_as_published |= options.retain_as_published;
    // Two subscriptions with one identifier give it twice (MQTT 5.0 section 3.3.4).
    if let Some(identifier) = subscription.identifier() {
        merged.identifiers.push(identifier.get());
    }
    if let Some(channel) = subscription.channel() {
        channels::add_channel(&mut merged.identifiers, channel);
    }
}

impl Subscriber for Session {
    fn key(&self) -> u64 {
        self.key
    }

    fn deliver(
        &self,
        message: &Message<'_>,
        subscriptions: &[Arc<Subscription>],
        context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        let mut state = self.lock();
        let Some(merged) = merge(
            subscriptions,
            &state.subscriptions,
            message.publisher == self.publisher_key(),
        ) else {
            return Delivery::Skipped;
        };
        let offer = delivery::Offer {
            message,
            qos: message.qos.min(merged.qos),
            retain: message.retain && merged.retain_as_published,
            identifiers: merged.identifiers,
            // A shared subscription never comes merged with another.
            shared: subscriptions
                .first()
                .filter(|s| s.filter().share_name().is_some()),
        };
        let delivery = state.offer(&self.shared, offer, context.now);
        if state.durable.is_some() {
            state.leave_reference(context.references);
        }
        delivery
    }

    fn flush(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }

    fn is_kept(&self) -> bool {
        self.lock().keeper().is_some()
    }

    fn is_available(&self) -> bool {
        // A member whose queue is full would only drop what another could take.
        self.is_connected() && (self.load() as usize) < self.shared.settings.max_queued_messages
    }
}

/// A message that must find another member of its shared group.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) message: Arc<StoredMessage>,
    pub(crate) subscription: Arc<Subscription>,
}

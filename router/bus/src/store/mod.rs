//! The bus's view of a durable engine.
//!
//! The bus keeps the working set of every session in memory and tells the engine each change; the
//! engine gives it back after a restart. `docs/design/store.md` has the states and the invariants.
//! Four rules bind every engine:
//!
//! * **Order.** What is told on one thread is kept in that order, and a session's changes are told under
//!   its lock: after a crash an engine has everything up to some point, and nothing behind it.
//! * **Tickets.** A change is asynchronous. Its [`Ticket`] completes when the change is as safe as
//!   the engine makes it; acknowledgements to clients wait for it. Tickets complete in the order of
//!   their changes.
//! * **Fencing.** A client identifier has one owner at a time. [`Store::claim`] returns an epoch higher
//!   than any before. From [`SessionChange::Attached`] with it at the latest, a change that carries
//!   a lower one fails as [`StoreError::Fenced`] and changes nothing. A [`Reference`] names the session
//!   itself, which outlives its connections; one to a session that has ended is passed over.
//! * **Atomicity.** One [`Publication`] is one append: the body, every session that waits for it and
//!   the publisher's packet identifier are all kept or none is.
//!
//! An engine that is not durable ([`Store::is_durable`]) is told nothing but claims, so that pure
//! routing pays for nothing.

mod memory;
mod ticket;

use std::fmt;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use smallvec::SmallVec;

pub use memory::MemoryStore;
pub use ticket::{Completion, Ticket};

use crate::client_id::ClientId;
use crate::message::{Message, StoredMessage};
use crate::qos::QoS;
use crate::subscription::SubscriptionOptions;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

/// Which ownership of a client identifier a change belongs to. Higher is newer, also across restarts; 0
/// is none.
///
/// The epoch that a session was created under is its name in the engine ([`Reference::session`]): no two
/// sessions share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Where a message stands among those of its session. Higher is later; none is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

/// Subscription identifiers of one delivery; mostly none.
pub type SubscriptionIdentifiers = SmallVec<[u32; 2]>;

/// Why the engine did not keep a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A newer owner of the client identifier exists.
    #[error("another connection owns this client identifier now")]
    Fenced,
    /// No room is left.
    #[error("the store is full")]
    Full,
    /// The engine failed.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

/// The answer to a claim.
#[derive(Debug)]
pub struct Claim {
    /// The epoch of this ownership; above that of every claim of the client before, and above 0.
    pub epoch: Epoch,
    /// What was kept of the session, when there is one that is not in memory here.
    pub session: Option<StoredSession>,
}

/// How far the delivery of a kept message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its turn.
    Queued,
    /// PUBLISH may have left under this packet identifier: PUBACK or PUBREC is awaited.
    Sent(NonZeroU16),
    /// PUBREC has come: PUBCOMP is awaited, and the message is needed no more.
    Received(NonZeroU16),
}

/// One message that waits for one session, without the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// Where it stands.
    pub place: Place,
    /// How far it has come.
    pub stage: Stage,
    /// The guarantee it is delivered with: QoS 1 or 2.
    pub qos: QoS,
    /// The retain flag it is delivered with.
    pub retain: bool,
    /// The identifiers of the subscriptions it came through.
    pub identifiers: SubscriptionIdentifiers,
    /// The shared subscription it came through, when it did.
    pub shared: Option<TopicFilter>,
}

/// One session that waits for a message.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Whose session.
    pub client: ClientId,
    /// Which of the client's sessions: the epoch it was created under.
    pub session: Epoch,
    /// How the message waits.
    pub entry: QueueEntry,
}

/// The publish of a QoS 2 message, by which a second PUBLISH with its packet identifier is recognised
/// after a restart.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who published.
    pub client: ClientId,
    /// The publisher's session: the epoch it was created under.
    pub session: Epoch,
    /// The packet identifier of the PUBLISH.
    pub packet_id: NonZeroU16,
}

/// One publish, kept in a single append.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The message.
    pub message: &'a Arc<StoredMessage>,
    /// Every durable session that waits for it.
    pub references: &'a [Reference],
    /// Where it came from, at QoS 2.
    pub origin: Option<&'a Origin>,
}

/// A will as it is kept.
#[derive(Clone, Debug)]
pub struct StoredWill {
    /// What is published.
    pub message: Arc<StoredMessage>,
    /// Seconds between the end of the connection and the publication.
    pub delay: u32,
    /// Seconds between the publication and the message's expiry.
    pub expires_in: Option<u32>,
}

/// A change to one session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SessionChange {
    /// A connection was attached.
    Attached {
        /// The session is new: what was kept of one before is to be forgotten.
        fresh: bool,
        /// Seconds the session has after the connection ends.
        expiry: u32,
        /// What is owed when it does.
        will: Option<StoredWill>,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// To what.
        filter: TopicFilter,
        /// How.
        options: SubscriptionOptions,
        /// Under which identifier.
        identifier: Option<NonZeroU32>,
        /// Its retained messages are on their way, and are looked up again if the process ends
        /// before [`SessionChange::RetainedSent`].
        retained_owed: bool,
    },
    /// The retained messages of a new subscription have all been sent.
    RetainedSent(TopicFilter),
    /// A subscription was ended.
    Unsubscribed(TopicFilter),
    /// A message that waited is sent under this packet identifier. At QoS 2 PUBLISH leaves after the
    /// ticket.
    Sent(Place, NonZeroU16),
    /// The client has received a QoS 2 message: PUBREC. PUBREL leaves after the ticket.
    Received(Place),
    /// The message waits no more: PUBACK, PUBCOMP, a refusal, or it was dropped.
    Done(Place),
    /// The client released a QoS 2 message it had published: PUBREL. PUBCOMP leaves after the
    /// ticket.
    Released(NonZeroU16),
    /// The connection ended.
    Detached {
        /// When the session ends unless the client returns.
        ends_at: Timestamp,
        /// When the will is published unless the client returns; `None`: it is forgotten.
        will_at: Option<Timestamp>,
    },
    /// The will was published.
    WillPublished,
    /// The session ended.
    Ended,
}

/// Whether the client was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A connection was attached when the process ended, at about this time.
    Connected(Timestamp),
    /// It was away.
    Away {
        /// When the session ends.
        ends_at: Timestamp,
        /// When its will is published, if it has one.
        will_at: Timestamp,
    },
}

/// What an engine has kept of a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredSession {
    /// Whose.
    pub client: ClientId,
    /// The epoch it was created under.
    pub session: Epoch,
    /// The newest epoch of it.
    pub epoch: Epoch,
    /// Seconds it has after a connection ends.
    pub expiry: u32,
    /// Whether the client was there.
    pub presence: Presence,
    /// The will, unless it was published.
    pub will: Option<StoredWill>,
    /// Its subscriptions.
    pub subscriptions: Vec<StoredSubscription>,
    /// The packet identifiers of QoS 2 messages received and not yet released.
    pub received: Vec<NonZeroU16>,
    /// What is in flight, in the order of places; [`Stage::Queued`] does not occur.
    pub in_flight: Vec<QueueEntry>,
    /// What waits for its turn.
    pub queued: Backlog,
    /// The highest place that was ever told of.
    pub last_place: Place,
}

impl StoredSession {
    /// A session with nothing in it.
    pub const fn new(client: ClientId, session: Epoch, presence: Presence) -> Self {
        Self {
            client,
            session,
            epoch: session,
            expiry: 0,
            presence,
            will: None,
            subscriptions: Vec::new(),
            received: Vec::new(),
            in_flight: Vec::new(),
            queued: Backlog::EMPTY,
            last_place: Place(0),
        }
    }
}

/// A subscription as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    /// To what.
    pub filter: TopicFilter,
    /// How.
    pub options: SubscriptionOptions,
    /// Under which identifier.
    pub identifier: Option<NonZeroU32>,
    /// Its retained messages had not all been sent.
    pub retained_owed: bool,
}

/// Messages of a session that wait in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The first of them stands here or later.
    pub first: Place,
    /// The last of them stands here or earlier.
    pub last: Place,
    /// How many there are.
    pub messages: u64,
    /// Bytes of topics, properties and payloads.
    pub bytes: u64,
}

impl Backlog {
    /// Nothing waits.
    pub const EMPTY: Self = Self {
        first: Place(0),
        last: Place(0),
        messages: 0,
        bytes: 0,
    };
}

/// Takes what a session's queue holds, entry by entry.
pub trait QueueReader: Send {
    /// The next entry in the order of places. `message` is `None` when the entry needs none any more
    /// ([`Stage::Received`]). [`ControlFlow::Break`] when it was the last that is wanted.
    fn entry(&mut self, entry: QueueEntry, message: Option<Message<'_>>) -> ControlFlow<()>;

    /// Nothing follows. `Ok(true)`: there was nothing more; `Ok(false)`: the reader had enough.
    fn end(self: Box<Self>, result: Result<bool, StoreError>);
}

/// Takes what an engine has kept, at the start.
pub trait Recovery {
    /// A retained message.
    fn retained(&mut self, message: Message<'_>);

    /// A session.
    fn session(&mut self, session: StoredSession);
}

/// A future that an engine may have to wait on.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A durable engine.
pub trait Store: Send + Sync {
    /// Whether what is kept outlives the process.
    fn is_durable(&self) -> bool;

    /// Whether changes can be kept now; otherwise why not. Asked before a message is routed that must
    /// be kept, so that nobody receives what is refused.
    fn accepts(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Gives back everything that was kept, once, before anything else is asked.
    fn recover(&self, _recovery: &mut dyn Recovery) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes the caller the next owner of `client`.
    fn claim<'a>(&'a self, client: &'a ClientId) -> StoreFuture<'a, Claim>;

    /// Keeps a message for everybody who waits for it.
    fn append(&self, publication: &Publication<'_>) -> Ticket;

    /// Keeps the retained message of a topic, or forgets it. Told in the order of the changes of a topic.
    fn retain(&self, topic: &str, message: Option<&Arc<StoredMessage>>) -> Ticket;

    /// Keeps changes of a session, all or none.
    fn change(&self, client: &ClientId, epoch: Epoch, changes: &[SessionChange]) -> Ticket;

    /// Reads what waits for a session from `from` on, as it is after everything that was told before.
    /// Answers on another thread, or at once.
    fn read(&self, client: &ClientId, session: Epoch, from: Place, reader: Box<dyn QueueReader>);
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("durable", &self.is_durable())
            .finish_non_exhaustive()
    }
}

//! The bus's view of a durable engine.
//!
//! The bus keeps the working set of every session in memory and tells the engine each change; the
//! engine gives it back after a restart. Three rules bind every engine:
//!
//! * **Fencing.** A client identifier has one owner at a time. [`Store::claim`] makes the caller the
//!   owner and returns an epoch higher than any before; a change that carries a lower epoch than
//!   the newest claim fails as [`StoreError::Fenced`] and changes nothing.
//! * **Tickets.** A change is asynchronous. Its [`Ticket`] completes when the change is as safe as
//!   the engine makes it; acknowledgements to clients wait for it. Tickets of one session complete
//!   in the order of their changes.
//! * **Atomicity.** One [`Publication`] is one append: the body, every session that waits for it,
//!   the publisher's packet identifier and the retained value are all kept or none is.
//!
//! An engine that is not durable ([`Store::is_durable`]) is told nothing but claims and ends, so that
//! pure routing pays for nothing.

use std::future::Future;
use std::num::{NonZeroU16, NonZeroU32};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::client_id::ClientId;
use crate::message::StoredMessage;
use crate::subscription::SubscriptionOptions;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

/// Which ownership of a client identifier a change belongs to. Higher is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

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

/// What an engine knows about a session when it is claimed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct StoredSession {
    /// Its subscriptions, in the order they were made.
    pub subscriptions: Vec<(TopicFilter, SubscriptionOptions, Option<NonZeroU32>)>,
    /// The packet identifiers of QoS 2 messages received and not yet released.
    pub received: Vec<NonZeroU16>,
}

/// The answer to a claim.
#[derive(Debug)]
pub struct Claim {
    /// The epoch of this ownership; above that of every claim of the client before, and above 0.
    pub epoch: Epoch,
    /// What was kept of the session, when there was one that is not in memory.
    pub session: Option<StoredSession>,
}

/// One session that waits for a message.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Whose session.
    pub client: ClientId,
    /// Under which ownership.
    pub epoch: Epoch,
}

/// One publish, kept in a single append.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The message.
    pub message: &'a Arc<StoredMessage>,
    /// Every durable session that waits for it.
    pub references: &'a [Reference],
    /// The publisher's session and packet identifier, for QoS 2: a second PUBLISH with it after a
    /// restart is a duplicate.
    pub publisher: Option<(&'a ClientId, Epoch, NonZeroU16)>,
    /// Whether the message replaces the retained one of its topic.
    pub retain: bool,
}

/// A change to one session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionChange<'a> {
    /// A connection was attached.
    Attached {
        /// The session is new: what was kept of one before is to be forgotten.
        fresh: bool,
    },
    /// A subscription was made or replaced.
    Subscribed(&'a TopicFilter, SubscriptionOptions, Option<NonZeroU32>),
    /// A subscription was ended.
    Unsubscribed(&'a TopicFilter),
    /// The client acknowledged a message: PUBACK, PUBCOMP, or a refusal.
    Acknowledged(NonZeroU16),
    /// The client has received a QoS 2 message: PUBREC. PUBREL leaves after the ticket.
    Received(NonZeroU16),
    /// The client released a QoS 2 message it had published: PUBREL. PUBCOMP leaves after the
    /// ticket.
    Released(NonZeroU16),
    /// The connection ended; the session has this long.
    Detached {
        /// When the session ends unless the client returns.
        expires_at: Timestamp,
    },
    /// The session ended.
    Ended,
}

/// A future that an engine may have to wait on.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A durable engine.
pub trait Store: Send + Sync {
    /// Whether what is kept outlives the process.
    fn is_durable(&self) -> bool;

    /// Makes the caller the owner of `client`.
    fn claim<'a>(&'a self, client: &'a ClientId) -> StoreFuture<'a, Claim>;

    /// Keeps a message and everything that goes with it.
    fn append(&self, publication: &Publication<'_>) -> Ticket;

    /// Keeps a change of a session.
    fn change(&self, client: &ClientId, epoch: Epoch, change: &SessionChange<'_>) -> Ticket;
}

#[derive(Debug, Default)]
struct TicketState {
    result: Option<Result<(), StoreError>>,
    waker: Option<Waker>,
}

/// The promise that a change is kept. A ready one costs nothing.
#[derive(Clone, Debug)]
pub struct Ticket(TicketKind);

#[derive(Clone, Debug)]
enum TicketKind {
    Ready(Result<(), StoreError>),
    Waiting(Arc<Mutex<TicketState>>),
}

impl Ticket {
    /// The change is kept already.
    pub const fn ready() -> Self {
        Self(TicketKind::Ready(Ok(())))
    }

    /// The change was refused at once.
    pub const fn failed(error: StoreError) -> Self {
        Self(TicketKind::Ready(Err(error)))
    }

    /// A ticket and the means to complete it.
    pub fn pending() -> (Self, Completion) {
        let state = Arc::new(Mutex::new(TicketState::default()));
        (
            Self(TicketKind::Waiting(Arc::clone(&state))),
            Completion(state),
        )
    }

    /// The result when there is one; otherwise `waker` is woken when there is.
    pub fn poll(&self, waker: &Waker) -> Poll<Result<(), StoreError>> {
        match &self.0 {
            TicketKind::Ready(result) => Poll::Ready(result.clone()),
            TicketKind::Waiting(state) => {
                let mut state = state.lock();
                if let Some(result) = &state.result {
                    return Poll::Ready(result.clone());
                }
                if !state.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
                    state.waker = Some(waker.clone());
                }
                Poll::Pending
            }
        }
    }

    /// The result when there is one.
    pub fn result(&self) -> Option<Result<(), StoreError>> {
        match &self.0 {
            TicketKind::Ready(result) => Some(result.clone()),
            TicketKind::Waiting(state) => state.lock().result.clone(),
        }
    }
}

/// Completes a [`Ticket`]. Dropped without a word, the ticket fails: nothing waits for ever.
#[derive(Debug)]
pub struct Completion(Arc<Mutex<TicketState>>);

impl Completion {
    /// Completes the ticket and wakes who waits for it.
    pub fn complete(self, result: Result<(), StoreError>) {
        self.finish(result);
    }

    fn finish(&self, result: Result<(), StoreError>) {
        let waker = {
            let mut state = self.0.lock();
            if state.result.is_some() {
                return;
            }
            state.result = Some(result);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.finish(Err(StoreError::Failed(
            "the store ended before the change was kept".into(),
        )));
    }
}

/// The engine without a disk: it hands out epochs and forgets everything with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// The newest epoch of each client that has a session, and the newest of all.
    epochs: Mutex<(HashMap<ClientId, Epoch>, u64)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }

    fn claim<'a>(&'a self, client: &'a ClientId) -> StoreFuture<'a, Claim> {
        let epoch = {
            let (epochs, last) = &mut *self.epochs.lock();
            *last += 1;
            epochs.insert(client.clone(), Epoch(*last));
            Epoch(*last)
        };
        Box::pin(std::future::ready(Ok(Claim {
            epoch,
            session: None,
        })))
    }

    fn append(&self, publication: &Publication<'_>) -> Ticket {
        let (epochs, _) = &*self.epochs.lock();
        let fenced = publication
            .references
            .iter()
            .any(|r| epochs.get(&r.client) != Some(&r.epoch));
        if fenced {
            Ticket::failed(StoreError::Fenced)
        } else {
            Ticket::ready()
        }
    }

    fn change(&self, client: &ClientId, epoch: Epoch, change: &SessionChange<'_>) -> Ticket {
        let (epochs, _) = &mut *self.epochs.lock();
        if epochs.get(client) != Some(&epoch) {
            return Ticket::failed(StoreError::Fenced);
        }
        if matches!(change, SessionChange::Ended) {
            epochs.remove(client);
        }
        Ticket::ready()
    }
}

//! What the engine is told, as it waits to be written.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use tidegate_bus::{
    ClientId, QueueEntry, StoredMessage, StoredWill, SubscriptionOptions, TopicFilter,
};

/// One change. A session is named by the epoch it was created under.
#[derive(Debug)]
pub(crate) enum Op {
    /// The message of the references that follow.
    Body(Arc<StoredMessage>),
    /// A session waits for the last [`Op::Body`].
    Reference {
        session: u64,
        entry: QueueEntry,
    },
    /// The last [`Op::Body`] came under this packet identifier.
    Origin {
        session: u64,
        packet_id: NonZeroU16,
    },
    Sent {
        session: u64,
        place: u64,
        packet_id: NonZeroU16,
    },
    Received {
        session: u64,
        place: u64,
    },
    Done {
        session: u64,
        place: u64,
    },
    Released {
        session: u64,
        packet_id: NonZeroU16,
    },
    Subscribed {
        session: u64,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
        retained_owed: bool,
    },
    RetainedSent {
        session: u64,
        filter: TopicFilter,
    },
    Unsubscribed {
        session: u64,
        filter: TopicFilter,
    },
    Session {
        client: ClientId,
        session: u64,
        change: Box<Life>,
    },
    Retain {
        topic: Arc<str>,
        message: Option<Arc<StoredMessage>>,
    },
}

/// A change to the life of a session. Rare beside messages, so boxed.
#[derive(Debug)]
pub(crate) enum Life {
    Attached {
        epoch: u64,
        /// The session that this one takes the place of.
        replaces: Option<u64>,
        expiry: u32,
        will: Option<StoredWill>,
    },
    Detached {
        ends_at: u64,
        /// `None`: the will is forgotten.
        will_at: Option<u64>,
    },
    WillPublished,
    Ended,
}

impl Op {
    /// Bytes it holds while it waits, about.
    pub(crate) fn size(&self) -> usize {
        let behind = match self {
            Self::Body(message) => message.size(),
            Self::Retain { topic, message } => {
                topic.len() + message.as_ref().map_or(0, |m| m.size())
            }
            _ => 0,
        };
        size_of::<Self>() + behind
    }

    /// What becomes of the change when its batch failed: a publication is refused and undone, for
    /// it may have reached the disk all the same; anything else is told again.
    pub(crate) fn after_failure(self) -> Option<Self> {
        match self {
            Self::Body(_) => None,
            Self::Reference { session, entry } => Some(Self::Done {
                session,
                place: entry.place.0,
            }),
            Self::Origin { session, packet_id } => Some(Self::Released { session, packet_id }),
            other => Some(other),
        }
    }
}

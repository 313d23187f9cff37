//! What one client asked to receive, and how.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::channel::Channel;
use crate::qos::QoS;
use crate::topic::TopicFilter;

/// When retained messages are sent on SUBSCRIBE (MQTT 5.0 section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    /// On every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only when the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl RetainHandling {
    /// The handling for its number on the wire; 3 is reserved.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Send),
            1 => Some(Self::SendIfNew),
            2 => Some(Self::DoNotSend),
            _ => None,
        }
    }
}

/// Subscription options (MQTT 5.0 section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest guarantee messages are delivered with.
    pub qos: QoS,
    /// Messages of the subscriber itself are not delivered.
    pub no_local: bool,
    /// The retain flag is delivered as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// This QoS, and otherwise what MQTT 3.1.1 has.
    pub const fn with_qos(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }
}

/// One subscription in the index. Replaced, never changed, when the client subscribes anew.
#[derive(Debug)]
pub struct Subscription {
    filter: TopicFilter,
    options: SubscriptionOptions,
    identifier: Option<NonZeroU32>,
    channel: Option<Channel>,
    /// Cleared under the subscriber's lock, where delivery looks at it again: routes found a
    /// moment ago may still name a subscription that has ended.
    live: AtomicBool,
    /// Where the index holds it, so that it is removed without a search. Owned by the index and
    /// touched only under the lock of its shard.
    pub(crate) slot: AtomicU32,
}

impl Subscription {
    /// A live subscription.
    pub const fn new(
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
    ) -> Self {
        Self {
            filter,
            options,
            identifier,
            channel: None,
            live: AtomicBool::new(true),
            slot: AtomicU32::new(u32::MAX),
        }
    }

    /// The same, made on this stream of its connection.
    #[must_use]
    pub const fn on(mut self, channel: Option<Channel>) -> Self {
        self.channel = channel;
        self
    }

    /// What it matches.
    pub const fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// How it wants its messages.
    pub const fn options(&self) -> SubscriptionOptions {
        self.options
    }

    /// The identifier the client gave it (MQTT 5.0 section 3.8.2.1.2).
    pub const fn identifier(&self) -> Option<NonZeroU32> {
        self.identifier
    }

    /// The stream that it was made on, unless that is the one that the connection has begun on.
    pub const fn channel(&self) -> Option<Channel> {
        self.channel
    }

    /// Whether it still stands.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.live.store(false, Ordering::Relaxed);
    }
}

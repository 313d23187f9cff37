//! The drop ledger: every message that is not delivered is counted, per client and per reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The client's queue holds as many messages or bytes as it may; this one was refused.
    QueueFull,
    /// The client's queue was full and this one was the oldest (policy `drop_old`).
    QueueEvicted,
    /// The client does not read and QoS 0 messages no longer fit.
    OutboxFull,
    /// All queues together hold as many bytes as they may.
    MemoryFull,
    /// QoS 0 for a client that is away.
    Offline,
    /// The message expired while it waited (MQTT-3.3.2-5).
    Expired,
    /// The packet is larger than the client accepts (MQTT-3.1.2-24, -25).
    PacketTooLarge,
    /// The session ended with the message still queued or unacknowledged.
    SessionEnded,
    /// The connection closed with the message in its buffer, at QoS 0.
    ConnectionClosed,
    /// No member of the shared group could take it.
    NoSharedMember,
    /// The receiver answered with a reason code of 0x80 or above.
    RefusedByReceiver,
    /// Effects wait in the mailbox beyond its bound, or a message went around too many rules.
    MailboxFull,
    /// The publisher may not publish to this topic.
    NotAuthorized,
    /// As many messages or bytes are retained as may be.
    RetainedFull,
    /// The topic is longer or deeper than the limits allow.
    TopicTooLong,
    /// The engine could not keep it, or not give it back.
    StoreFailed,
    /// A newer state took its place before it was sent, as an observation has it (RFC 7641 section 4.5.2).
    Superseded,
    /// It came through a subscription that its client, which is there, has not observed anew.
    Unobserved,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 18;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::QueueFull,
        Self::QueueEvicted,
        Self::OutboxFull,
        Self::MemoryFull,
        Self::Offline,
        Self::Expired,
        Self::PacketTooLarge,
        Self::SessionEnded,
        Self::ConnectionClosed,
        Self::NoSharedMember,
        Self::RefusedByReceiver,
        Self::MailboxFull,
        Self::NotAuthorized,
        Self::RetainedFull,
        Self::TopicTooLong,
        Self::StoreFailed,
        Self::Superseded,
        Self::Unobserved,
    ];

    /// The reason as metrics and logs name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueEvicted => "queue_evicted",
            Self::OutboxFull => "outbox_full",
            Self::MemoryFull => "memory_full",
            Self::Offline => "offline",
            Self::Expired => "expired",
            Self::PacketTooLarge => "packet_too_large",
            Self::SessionEnded => "session_ended",
            Self::ConnectionClosed => "connection_closed",
            Self::NoSharedMember => "no_shared_member",
            Self::RefusedByReceiver => "refused_by_receiver",
            Self::MailboxFull => "mailbox_full",
            Self::NotAuthorized => "not_authorized",
            Self::RetainedFull => "retained_full",
            Self::TopicTooLong => "topic_too_long",
            Self::StoreFailed => "store_failed",
            Self::Superseded => "superseded",
            Self::Unobserved => "unobserved",
        }
    }
}

/// Counts per reason, shared.
#[derive(Debug, Default)]
pub struct DropCounters([AtomicU64; DropReason::COUNT]);

impl DropCounters {
    pub(crate) fn add(&self, reason: DropReason, count: u64) {
        self.0[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Messages dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// Messages dropped.
    pub fn total(&self) -> u64 {
        DropReason::ALL
            .into_iter()
            .map(|reason| self.get(reason))
            .sum()
    }
}

/// Counts per reason of one client, made at its first drop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientDrops([u64; DropReason::COUNT]);

impl ClientDrops {
    pub(crate) fn add(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Messages dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
            .filter(|(_, n)| *n > 0)
    }
}

//! What the bus counts. Plain numbers; `gateway/api` gives them their names.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::drops::DropCounters;

/// A number on a cache line of its own, so that two workers that count different things do not
/// slow each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Notes the highest value so far.
    pub fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// Counts `n` fewer, for numbers that go both ways.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }
}

/// The numbers of one bus, over all its clients.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are attached to a session now.
    pub connections: Counter,
    /// Most connections at once so far.
    pub connections_peak: Counter,
    /// Sessions now, connected or not.
    pub sessions: Counter,
    /// Connections attached since the start.
    pub connects: Counter,
    /// Sessions that ended because their time was over.
    pub sessions_expired: Counter,
    /// Connections replaced by another with the same client identifier.
    pub takeovers: Counter,
    /// Subscriptions now.
    pub subscriptions: Counter,
    /// Retained messages now.
    pub retained_messages: Counter,
    /// Bytes of retained messages now.
    pub retained_bytes: Counter,
    /// Messages published by clients, by QoS.
    pub messages_received: [Counter; 3],
    /// Messages written to clients, by QoS; retransmissions included.
    pub messages_sent: [Counter; 3],
    /// Bytes of payload published by clients.
    pub payload_bytes_received: Counter,
    /// Bytes of payload written to clients.
    pub payload_bytes_sent: Counter,
    /// Bytes read from clients.
    pub bytes_received: Counter,
    /// Bytes written to clients.
    pub bytes_sent: Counter,
    /// Packets read from clients.
    pub packets_received: Counter,
    /// Messages published to topics that nobody subscribes to.
    pub unmatched: Counter,
    /// Lookups of receivers that a worker's cache answered.
    pub route_cache_hits: Counter,
    /// Lookups that walked the index.
    pub route_cache_misses: Counter,
    /// Messages not delivered, by reason.
    pub drops: DropCounters,
}

impl Counters {
    /// Messages published by clients.
    pub fn received(&self) -> u64 {
        self.messages_received.iter().map(Counter::get).sum()
    }

    /// Messages written to clients.
    pub fn sent(&self) -> u64 {
        self.messages_sent.iter().map(Counter::get).sum()
    }
}

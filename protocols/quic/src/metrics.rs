//! What the connections of one server count. Nothing is counted per packet but those that are dropped: quinn-proto does
//! that, and its figures are looked at once a minute and at the end of each connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::crypto::{EarlyData, Handshake};
use crate::inbox::Full;
use crate::link::Owner;

/// A connection is looked at once in so many ticks.
const TICK: Duration = Duration::from_secs(1);
const TICKS: usize = 60;

/// Upper bounds of round-trip times in seconds, but for the last one, which has none.
pub const RTT_BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// What the connections of one server count.
#[derive(Default)]
pub struct Metrics {
    early_accepted: AtomicU64,
    early_refused: AtomicU64,
    streams: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    connection_full: AtomicU64,
    server_full: AtomicU64,
    /// Paths of all connections that there were, the first of each included.
    paths: AtomicU64,
    connections: AtomicU64,
    moves: AtomicU64,
    rtt: [AtomicU64; RTT_BOUNDS.len() + 1],
    rtt_micros: AtomicU64,
    /// Of connections that were confirmed.
    numbers: AtomicU64,
    open: Open,
}

/// The open connections by their numbers, those of each tick apart.
struct Open(Vec<Mutex<BTreeMap<u64, Weak<Observed>>>>);

impl Default for Open {
    fn default() -> Self {
        Self((0..TICKS).map(|_| Mutex::default()).collect())
    }
}

impl Open {
    fn of_tick(&self, tick: u64) -> &Mutex<BTreeMap<u64, Weak<Observed>>> {
        &self.0[(tick % TICKS as u64) as usize]
    }
}

impl Metrics {
    /// Connections whose early data was taken, when they were confirmed.
    #[must_use]
    pub fn early_data_accepted(&self) -> u64 {
        self.early_accepted.load(Relaxed)
    }

    /// Connections whose early data was passed over, when they were confirmed.
    #[must_use]
    pub fn early_data_refused(&self) -> u64 {
        self.early_refused.load(Relaxed)
    }

    /// Streams that clients have opened.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    /// Packets sent, as of the last look at each connection.
    #[must_use]
    pub fn packets_sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Packets of these that were given up for lost.
    #[must_use]
    pub fn packets_lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Datagrams that came and were dropped, by reason: as much waited for their connection as may, or for all
    /// connections.
    #[must_use]
    pub fn datagrams_dropped(&self) -> [(&'static str, u64); 2] {
        [
            ("connection_full", self.connection_full.load(Relaxed)),
            ("listener_full", self.server_full.load(Relaxed)),
        ]
    }

    /// How many times connections have gone on at another address. Each such time quinn-proto begins a path, and
    /// does so for nothing else but a new connection, so it is exact; only while connections begin may it be
    /// late by these.
    #[must_use]
    pub fn migrations(&self) -> u64 {
        // In this order: a connection is counted before its path, so never too many are left.
        let paths = self.paths.load(SeqCst);
        let moves = paths.saturating_sub(self.connections.load(SeqCst));
        // A counter does not go back.
        self.moves.fetch_max(moves, SeqCst).max(moves)
    }

    /// Smoothed round-trip times, how many within each of [`RTT_BOUNDS`] alone and above the last: of each
    /// connection once a minute, and at its end.
    pub fn rtt_buckets(&self) -> impl Iterator<Item = u64> + '_ {
        self.rtt.iter().map(|count| count.load(Relaxed))
    }

    /// Their sum in seconds.
    #[must_use]
    pub fn rtt_sum(&self) -> f64 {
        Duration::from_micros(self.rtt_micros.load(Relaxed)).as_secs_f64()
    }

    pub(crate) fn dropped(&self, full: Full) {
        let counter = match full {
            Full::Connection => &self.connection_full,
            Full::Server => &self.server_full,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, SeqCst);
    }

    pub(crate) fn path(&self) {
        self.paths.fetch_add(1, SeqCst);
    }

    fn confirmed(&self, handshake: Handshake) {
        let counter = match handshake.early_data {
            EarlyData::None => return,
            EarlyData::Accepted => &self.early_accepted,
            EarlyData::Refused => &self.early_refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn round_trip(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let within = RTT_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.rtt[within.unwrap_or(RTT_BOUNDS.len())].fetch_add(1, Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.rtt_micros.fetch_add(micros, Relaxed);
    }

    /// Looks at the connections whose turn it is.
    fn look(&self, tick: u64) {
        let open = self.open.of_tick(tick).lock();
        let due: Vec<Arc<Observed>> = open.values().filter_map(Weak::upgrade).collect();
        // The last holder of a connection takes the lock.
        drop(open);
        for connection in due {
            connection.look();
        }
    }

    /// Looks at all connections in turn for as long as there are these metrics.
    pub(crate) async fn keep_looking(metrics: Weak<Self>) {
        for tick in 0.. {
            tokio::time::sleep(TICK).await;
            match metrics.upgrade() {
                Some(metrics) => metrics.look(tick),
                None => return,
            }
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A connection whose figures are looked at, for the last time when this is dropped.
#[derive(Debug)]
pub(crate) struct Observed {
    connection: Arc<Owner>,
    metrics: Arc<Metrics>,
    number: u64,
    seen: Mutex<Seen>,
}

/// What was counted already.
#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    lost: u64,
}

impl Observed {
    /// Of a connection that is confirmed.
    pub(crate) fn new(
        connection: Arc<Owner>,
        handshake: Handshake,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        metrics.confirmed(handshake);
        let number = metrics.numbers.fetch_add(1, Relaxed);
        let observed = Arc::new(Self {
            connection,
            metrics: Arc::clone(metrics),
            number,
            seen: Mutex::default(),
        });
        let mut open = metrics.open.of_tick(number).lock();
        open.insert(number, Arc::downgrade(&observed));
        drop(open);
        observed
    }

    /// The client has opened a stream.
    pub(crate) fn stream(&self) {
        self.metrics.streams.fetch_add(1, Relaxed);
    }

    fn look(&self) {
        let path = self.connection.path();
        {
            let mut seen = self.seen.lock();
            let new =
                |now: u64, before: &mut u64| now.saturating_sub(std::mem::replace(before, now));
            let (sent, lost) = (
                new(path.sent_packets, &mut seen.sent),
                new(path.lost_packets, &mut seen.lost),
            );
            self.metrics.sent.fetch_add(sent, Relaxed);
            self.metrics.lost.fetch_add(lost, Relaxed);
        }
        self.metrics.round_trip(path.rtt);
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.metrics
            .open
            .of_tick(self.number)
            .lock()
            .remove(&self.number);
        self.look();
    }
}

//! What an engine counts. The host reads it and gives it to whoever asks; reading locks nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency histograms, in seconds. What is above the last is counted behind it.
pub const LATENCY_BOUNDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// How long something took.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = LATENCY_BOUNDS.iter().position(|&bound| seconds <= bound);
        self.buckets[bucket.unwrap_or(LATENCY_BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        self.nanos
            .fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How many were counted in each bucket alone; the last one is above every bound.
    pub fn buckets(&self) -> [u64; LATENCY_BOUNDS.len() + 1] {
        std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed))
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// Their sum in seconds.
    pub fn sum(&self) -> f64 {
        self.nanos.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// A number that somebody counts and others read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// What an engine counts since it was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// From the moment an intake is taken to the moment its tickets complete, with the sync.
    pub commit: Latency,
    /// The syncs alone.
    pub sync: Latency,
    /// Intakes that wrote something.
    pub commits: Count,
    /// Intakes that cancelled out, or changed nothing on the disk.
    pub empty_commits: Count,
    /// Changes of all intakes: references, origins, changes of sessions, retained messages.
    pub changes: Count,
    /// Syncs that succeeded.
    pub syncs: Count,
    /// Bytes of keys and values that were handed to the engine.
    pub written_bytes: Count,
    /// Changes that wait to be written, now.
    pub intake_changes: Count,
    /// Their bytes, estimated.
    pub intake_bytes: Count,
    /// References that met their own end before they were written.
    pub cancelled: Count,
    /// Messages of sessions that ended, and records of them, removed afterwards.
    pub swept: Count,
    /// Writes or syncs that failed.
    pub failures: Count,
    /// Times the committer waited for tables to be written or merged.
    pub stalls: Count,
    /// Nanoseconds it waited.
    pub stalled_nanos: Count,
    /// Bytes of journals on the disk, at most a second old.
    pub journal_bytes: Count,
    /// Bytes on the disk, journals included, at most a second old.
    pub disk_bytes: Count,
    /// Records that were found and did not decode, or whose message was missing.
    pub corrupt: Count,
    /// Entries that were read back.
    pub read_entries: Count,
    refusing: AtomicBool,
}

impl Metrics {
    /// Whether changes are kept now.
    pub fn is_accepting(&self) -> bool {
        !self.refusing.load(Ordering::Relaxed)
    }

    pub(crate) fn set_accepting(&self, accepting: bool) {
        self.refusing.store(!accepting, Ordering::Relaxed);
    }
}

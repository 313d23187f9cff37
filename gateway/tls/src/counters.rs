//! What became of handshakes, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Handshakes of one listener since it started.
#[derive(Debug, Default)]
pub struct Counters {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
    timeouts: AtomicU64,
    in_progress: AtomicU64,
}

impl Counters {
    /// Completed with a full handshake.
    #[must_use]
    pub fn full(&self) -> u64 {
        self.full.load(Relaxed)
    }

    /// Completed by resuming an earlier session.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.resumed.load(Relaxed)
    }

    /// Failed for any reason but time: refused by either side, lost, not TLS.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Ran out of time.
    #[must_use]
    pub fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }

    /// Under way now: each holds one of the turns.
    #[must_use]
    pub fn in_progress(&self) -> u64 {
        self.in_progress.load(Relaxed)
    }

    /// One was completed; [`crate::Acceptor`] says so itself, others who shake hands may.
    pub fn completed(&self, resumed: bool) {
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Relaxed);
    }

    /// One failed, or ran out of time.
    pub fn failure(&self, timeout: bool) {
        let counter = if timeout {
            &self.timeouts
        } else {
            &self.failed
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Counted as under way until the guard is dropped.
    pub fn begin(&self) -> InProgress<'_> {
        self.in_progress.fetch_add(1, Relaxed);
        InProgress(&self.in_progress)
    }
}

/// A handshake that is under way, until this is dropped.
#[derive(Debug)]
pub struct InProgress<'a>(&'a AtomicU64);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

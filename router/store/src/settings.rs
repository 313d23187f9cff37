//! What an engine is opened with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// When what was written is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before a ticket completes: what was acknowledged survives a power failure.
    Always,
    /// So long after it was written at the latest. Tickets complete with the write: what was
    /// acknowledged survives the end of the process, but a power failure takes up to this much.
    Interval(Duration),
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Sessions given back so far.
    pub sessions: u64,
    /// Retained, queued and in-flight messages seen so far.
    pub messages: u64,
    /// Estimated part of the work that is done, 0 to 1.
    pub fraction: f64,
    /// Estimated time that is left.
    pub left: Duration,
}

/// Is told how far something has come, a few times a second.
pub type ProgressHook = Arc<dyn Fn(Progress) + Send + std::marker::Sync>;

/// What an engine is opened with.
#[derive(Clone)]
pub struct Settings {
    /// When what was written is forced to the disk.
    pub sync: Sync,
    /// Bytes of blocks that are kept in memory for reading.
    pub cache_bytes: u64,
    /// Bytes of journals at which the oldest is written into tables; at least 64 MiB. A start reads up
    /// to so much again.
    pub journal_bytes: u64,
    /// Bytes of messages that are kept in memory before they are written into a table; twice of it
    /// for queues and twice for bodies is the most.
    pub memtable_bytes: u64,
    /// Bytes that may wait to be written before [`tidegate_bus::Store::accepts`] refuses.
    pub intake_bytes: usize,
    /// Start although batches that were acknowledged are gone.
    pub accept_loss: bool,
    /// Is told how far the start has come.
    pub progress: Option<ProgressHook>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync: Sync::Always,
            cache_bytes: 8 << 20,
            journal_bytes: 128 << 20,
            memtable_bytes: 32 << 20,
            intake_bytes: 256 << 20,
            accept_loss: false,
            progress: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("sync", &self.sync)
            .field("cache_bytes", &self.cache_bytes)
            .field("journal_bytes", &self.journal_bytes)
            .field("memtable_bytes", &self.memtable_bytes)
            .field("intake_bytes", &self.intake_bytes)
            .field("accept_loss", &self.accept_loss)
            .finish_non_exhaustive()
    }
}

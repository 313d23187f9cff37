//! What one listener of CoAP counts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A number that goes up, or one that goes both ways.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds to the value.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

/// Why an observation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The client asked for it (RFC 7641 section 3.6), or observes with the same token anew.
    Asked,
    /// The client answered a notification with Reset.
    Reset,
    /// The client did not acknowledge.
    Timeout,
    /// The client may not, or the listener closed.
    Closed,
    /// The session ended in which it was made.
    Session,
    /// Another connection has taken the session over, or an operator has ended it.
    TakenOver,
}

/// The numbers of one listener.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests, repetitions left out.
    pub requests: Count,
    /// Repetitions of requests, which had no effect.
    pub duplicates: Count,
    /// Responses by class: 2, 4, 5.
    pub responses: [Count; 3],
    /// Datagrams that were no messages, or messages that answer nothing.
    pub ignored: Count,
    /// Messages that were refused with Reset.
    pub rejected: Count,
    /// Confirmable messages that were sent once more.
    pub retransmissions: Count,
    /// Notifications sent: not confirmable, confirmable.
    pub notifications: [Count; 2],
    /// Observations that ended, by [`Cancel`].
    pub cancelled: [Count; 6],
    /// Answers that were made smaller for an address that was not verified.
    pub limited: Count,
    /// Requests refused because a table was full.
    pub full: Count,
    /// Datagrams that could not be sent: the system did not take them, or their session had ended.
    pub unsent: Count,
    /// Observations now.
    pub observations: Count,
    /// Endpoints now that something is kept for.
    pub endpoints: Count,
    /// Requests now that are remembered.
    pub exchanges: Count,
    /// Bodies now that are coming in blocks.
    pub transfers: Count,
}

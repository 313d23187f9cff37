//! What one listener of CoAP counts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::codec::Code;

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

    /// Takes one of `most`, to be given back; `false` when there is none.
    pub(crate) fn take(&self, most: usize) -> bool {
        let before = self.0.fetch_add(1, Relaxed);
        let taken = before < most as u64;
        if !taken {
            self.give_back(1);
        }
        taken
    }

    pub(crate) fn give_back(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
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

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client closed it, or it was lost.
    Lost,
    /// The client released it (RFC 8323 section 5.5).
    Released,
    /// The client aborted it (RFC 8323 section 5.6).
    Aborted,
    /// The client broke the protocol, and heard why.
    Refused,
    /// The client did not answer a ping, or did not begin to speak.
    Silent,
    /// The gateway shuts down.
    ShutDown,
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
    /// Notifications sent: not confirmable, confirmable, over a stream.
    pub notifications: [Count; 3],
    /// Observations that ended, by [`Cancel`].
    pub cancelled: [Count; 6],
    /// Answers that were made smaller for an address that was not verified.
    pub limited: Count,
    /// Connections that ended, by [`Closed`].
    pub closed: [Count; 6],
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

impl Metrics {
    /// Counts a response by its class.
    pub(crate) fn answered(&self, code: Code) {
        let [success, client, server] = &self.responses;
        match code.class() {
            2 => success.add(1),
            4 => client.add(1),
            _ => server.add(1),
        }
    }
}

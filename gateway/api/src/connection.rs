//! One connection of the HTTP side, as far as its requests have to know it: who is at the other end, and whether
//! an event stream is open on it, which lives by rules of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Shared by the server and the request that is under way.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: Option<SocketAddr>,
    since: Instant,
    /// An event stream is open.
    streaming: watch::Sender<bool>,
    /// The client took nothing of its stream, and is cut off.
    given_up: AtomicBool,
    /// By when, in milliseconds from `since`, the stream has to be asked for more.
    due: AtomicU64,
}

impl Connection {
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        Self {
            peer,
            since: Instant::now(),
            streaming: watch::Sender::new(false),
            given_up: AtomicBool::new(false),
            due: AtomicU64::new(0),
        }
    }

    /// Where the client connects from.
    pub(crate) const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// An event stream begins or ends.
    pub(crate) fn set_streaming(&self, streaming: bool) {
        self.streaming.send_replace(streaming);
    }

    /// The stream is asked for more, which happens only while the socket takes what was there before; it will be
    /// asked again within `limit`, or the client takes nothing.
    pub(crate) fn asked(&self, limit: Duration) {
        let due = (self.since.elapsed() + limit).as_millis();
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        self.due.store(due, Ordering::Relaxed);
    }

    /// Whether the client was given up because it took nothing.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Completes when no event stream is open.
    pub(crate) async fn quiet(&self) {
        // The sender lives as long as this does.
        let _ = self
            .streaming
            .subscribe()
            .wait_for(|streaming| !*streaming)
            .await;
    }

    /// Completes when the client of an event stream takes nothing any more.
    pub(crate) async fn stalled(&self) {
        let mut streaming = self.streaming.subscribe();
        loop {
            let _ = streaming.wait_for(|streaming| *streaming).await;
            let due = Duration::from_millis(self.due.load(Ordering::Relaxed));
            let at = self.since + due;
            if at <= Instant::now() {
                self.given_up.store(true, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep_until(at).await;
        }
    }
}

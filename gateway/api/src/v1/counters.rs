//! What the HTTP side counts. Plain numbers; who shows them gives them their names.

use axum::http::StatusCode;
use tidegate_bus::{Counter, EndReason};

/// Why an event stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The client has gone.
    Client,
    /// As many messages are unacknowledged as may be.
    Window,
    /// Another connection uses the client identifier.
    TakenOver,
    /// The client did not take what was sent, or not fast enough.
    Slow,
    /// The gateway shuts down.
    Shutdown,
    /// An operator, or the store, has ended it.
    Other,
}

impl StreamEnd {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Client,
        Self::Window,
        Self::TakenOver,
        Self::Slow,
        Self::Shutdown,
        Self::Other,
    ];

    /// The reason as metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Window => "window",
            Self::TakenOver => "taken_over",
            Self::Slow => "slow",
            Self::Shutdown => "shutdown",
            Self::Other => "other",
        }
    }
}

impl From<EndReason> for StreamEnd {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::TakenOver => Self::TakenOver,
            EndReason::SlowConsumer => Self::Slow,
            EndReason::ServerShuttingDown => Self::Shutdown,
            _ => Self::Other,
        }
    }
}

/// The numbers of the HTTP side.
#[derive(Debug, Default)]
pub struct ApiCounters {
    /// Requests answered, by the first digit of their status, 1 to 5.
    requests: [Counter; 5],
    /// Messages that were acknowledged to whoever published them.
    pub published: Counter,
    /// Messages that were refused.
    pub refused: Counter,
    /// Requests that the access decision did not let in.
    pub refused_access: Counter,
    /// Event streams open now.
    pub streams: Counter,
    /// Event streams opened since the start.
    pub streams_opened: Counter,
    /// Event streams not opened because there are as many as there may be.
    pub streams_refused: Counter,
    ended: [Counter; StreamEnd::ALL.len()],
    /// Messages written to event streams.
    pub events: Counter,
}

impl ApiCounters {
    /// The classes of statuses, each with the requests that were answered so.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .into_iter()
            .zip(self.requests.iter().map(Counter::get))
    }

    /// Why event streams have ended, each with their number.
    pub fn streams_ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        StreamEnd::ALL
            .into_iter()
            .map(|end| (end.as_str(), self.ended[end as usize].get()))
    }

    pub(crate) fn count_request(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(counter) = class.checked_sub(1).and_then(|at| self.requests.get(at)) {
            counter.add(1);
        }
    }

    pub(crate) fn count_end(&self, end: StreamEnd) {
        self.ended[end as usize].add(1);
    }
}

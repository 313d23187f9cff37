//! What all requests of the API share, from the moment the bus is there to the drain.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tidegate_bus::Bus;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::counters::ApiCounters;
use super::problem::Problem;
use super::reason::Reason;

/// More requests than there can be at once.
const MOST_VISITS: u32 = 1 << 24;

/// What an operator decides about the API. Sizes are bytes. All limits are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// Time for a whole body.
    pub body_timeout: Duration,
    /// Most event streams at once.
    pub max_streams: usize,
    /// How often a comment goes out on an event stream on which nothing else does.
    pub stream_keep_alive: Duration,
    /// Time after which a client is given up that takes nothing of its event stream.
    pub stream_write_timeout: Duration,
    /// Largest message, counted as the MQTT packet that it would be.
    pub max_packet_bytes: u32,
    /// How long a drain waits for requests and streams.
    pub drain_timeout: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            body_timeout: Duration::from_secs(30),
            max_streams: 128,
            stream_keep_alive: Duration::from_secs(15),
            stream_write_timeout: Duration::from_secs(60),
            max_packet_bytes: 1 << 20,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Messages over HTTP (`/api/v1`). Clones share it. Until [`Api::begin`] every request is answered 503.
#[derive(Clone, Debug, Default)]
pub struct Api(pub(crate) Arc<Slot>);

#[derive(Debug)]
pub(crate) struct Slot {
    core: OnceLock<Arc<Core>>,
    counters: Arc<ApiCounters>,
    visits: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

/// What a request works with.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) bus: Arc<Bus>,
    pub(crate) settings: ApiSettings,
    pub(crate) counters: Arc<ApiCounters>,
    pub(crate) places: Arc<Semaphore>,
    /// Tells sessions of this process from those of another, where they are not kept.
    pub(crate) incarnation: u64,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            core: OnceLock::new(),
            counters: Arc::default(),
            visits: Arc::new(Semaphore::new(MOST_VISITS as usize)),
            closing: watch::Sender::new(false),
        }
    }
}

impl Api {
    /// From now on requests are answered, over `bus`. Only the first call counts.
    pub fn begin(&self, bus: &Arc<Bus>, settings: ApiSettings) {
        let places = Arc::new(Semaphore::new(settings.max_streams));
        let _ = self.0.core.set(Arc::new(Core {
            bus: Arc::clone(bus),
            settings,
            counters: Arc::clone(&self.0.counters),
            places,
            incarnation: RandomState::new().hash_one(0_u8),
        }));
    }

    /// What it counts.
    pub fn counters(&self) -> &ApiCounters {
        &self.0.counters
    }

    /// Answers new requests 503, ends every event stream with a last event that says why, and waits for the
    /// requests that are under way, within limits.
    pub async fn shut_down(&self) {
        self.0.closing.send_replace(true);
        let limit = self
            .0
            .core
            .get()
            .map_or(Duration::ZERO, |core| core.settings.drain_timeout);
        let all = self.0.visits.acquire_many(MOST_VISITS);
        // What has not ended by then is cut off with its connection.
        let _ = tokio::time::timeout(limit, all).await;
    }
}

/// A request under way. The drain waits for it.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) core: Arc<Core>,
    pub(crate) closing: watch::Receiver<bool>,
    _counted: OwnedSemaphorePermit,
}

impl FromRequestParts<Api> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let slot = &api.0;
        let unavailable = |reason, text: &'static str| {
            Problem::with_reason(StatusCode::SERVICE_UNAVAILABLE, reason, text)
        };
        let closing = slot.closing.subscribe();
        if *closing.borrow() {
            return Err(unavailable(
                Reason::ServerShuttingDown,
                "The gateway shuts down.",
            ));
        }
        let starting =
            "The gateway starts and takes up what was kept; /readyz says when it is done.";
        let core = slot.core.get();
        let core = core.ok_or_else(|| unavailable(Reason::ServerUnavailable, starting))?;
        let counted = Arc::clone(&slot.visits).try_acquire_owned();
        Ok(Self {
            core: Arc::clone(core),
            closing,
            _counted: counted
                .map_err(|_| unavailable(Reason::ServerBusy, "The gateway is busy."))?,
        })
    }
}

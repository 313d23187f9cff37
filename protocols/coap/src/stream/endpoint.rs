//! What the connections of one listener share.

use std::future::Future;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_bus::Bus;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::greeting;
use super::pulses::Pulses;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// Bytes of a message beside its body and its topic: the other options, and the heads of all.
const HEADROOM: usize = 8 << 10;

/// How often those are looked for that are silent, at least and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// One listener's side of CoAP over streams.
pub struct Endpoint {
    pub(super) bus: Arc<Bus>,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pulses: Arc<Pulses>,
    /// What names bodies that come in blocks: nobody outside can make two of them the same.
    pub(super) hasher: RandomState,
}

/// Who is at the other end of a connection, as far as is known before its first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The common name of the certificate it has shown, verified.
    pub certificate_name: Option<Arc<str>>,
}

/// What became of a connection that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// It spoke CoAP, or did not speak.
    Ended,
    /// It spoke something else, as far as that could be told.
    Foreign(&'static str),
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("open", &self.pulses.len())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// For the topics of `bus`.
    #[must_use]
    pub fn new(bus: Arc<Bus>, settings: Settings, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            bus,
            settings,
            metrics,
            pulses: Pulses::new(),
            hasher: RandomState::new(),
        })
    }

    /// Serves a connection until it ends.
    ///
    /// What waits while it is idle is a small task and, in a box, the [`Connection`]; everything else is boxed while it
    /// runs. That is why this is no `async fn`, which would keep room for its arguments.
    pub fn serve<S>(
        self: &Arc<Self>,
        stream: S,
        peer: Peer,
    ) -> impl Future<Output = Served> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let establishing = Box::pin(greeting::establish(Arc::clone(self), stream, peer));
        async move {
            let mut connection: Box<Connection<S>> = match establishing.await {
                Ok(connection) => connection,
                Err(served) => return served,
            };
            let ending = (&mut *connection).await;
            Box::pin(connection.close(ending)).await;
            Served::Ended
        }
    }

    /// Says to a client that it is not served now, and when to come again (RFC 8323 section 5.5).
    pub async fn refuse<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        greeting::refuse(self, stream).await;
    }

    /// Looks after connections that are silent, for as long as it is polled.
    pub async fn keep_time(&self) {
        let Settings {
            ping_interval,
            ping_timeout,
            ..
        } = self.settings;
        let period = (ping_interval.min(ping_timeout) / 4).clamp(LOOK.0, LOOK.1);
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.pulses.look(ping_interval, Instant::now());
            self.metrics.endpoints.set(self.pulses.len() as u64);
        }
    }

    /// Ends every connection: what is under way is answered, and each client hears that the gateway leaves, so many a
    /// second; 0 is no limit. Returns when all are closed.
    pub async fn shut_down(&self, per_second: u32) {
        self.pulses.close();
        let most = match per_second {
            0 => usize::MAX,
            some => (some / 10).max(1) as usize,
        };
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        let mut told = 0;
        // Once more than all: who has left has made room for others in the order.
        while self.pulses.len() > 0 {
            tick.tick().await;
            let woken = self.pulses.wake_some(told, most);
            told = if woken == 0 { 0 } else { told + woken };
            if most == usize::MAX {
                let _ = tokio::time::timeout(LOOK.1, self.pulses.all_left()).await;
            }
        }
    }

    /// Bytes of the longest message that is taken: one with the largest body, and with any topic.
    pub(super) fn max_message_bytes(&self) -> usize {
        self.settings.max_body_bytes + self.bus.settings().max_topic_bytes * 2 + HEADROOM
    }
}

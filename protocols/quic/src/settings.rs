//! What an operator decides about QUIC at one listener.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{IdleTimeout, TransportConfig, VarInt};

use crate::cid::NodeId;
use crate::congestion::Paths;
use crate::metrics::Metrics;

/// When a client must prove its address with another round trip, before anything is kept for it (RFC 9000
/// section 8.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Always.
    Always,
    /// While so many handshakes are under way or more.
    Above(usize),
    /// Never.
    Never,
}

/// What an operator decides about QUIC at one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A connection on which nothing was heard for so long is over. The client may ask for less (RFC 9000
    /// section 10.1).
    pub idle_timeout: Duration,
    /// How often something is sent on a connection on which nothing else is, so that middleboxes do not forget
    /// it; zero: never.
    pub keep_alive_interval: Duration,
    /// How long a handshake may take, and then the client to open the control stream.
    pub handshake_timeout: Duration,
    /// Handshakes under way at a time; further clients are refused.
    pub max_handshakes: usize,
    /// When an address is validated first.
    pub retry: Retry,
    /// Streams that a client may have open beside the control stream.
    pub max_streams: u32,
    /// Bytes of one stream that a client may send before they are read.
    pub stream_receive_window: u32,
    /// The same of all streams of one connection together.
    pub receive_window: u32,
    /// Bytes that are kept for one connection until they are acknowledged.
    pub send_window: u32,
    /// Whether a client may go on from another address.
    pub migration: bool,
    /// Put into connection identifiers.
    pub node_id: Option<NodeId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(120),
            keep_alive_interval: Duration::ZERO,
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 1_024,
            retry: Retry::Above(128),
            max_streams: 16,
            stream_receive_window: 256 << 10,
            receive_window: 1 << 20,
            send_window: 1 << 20,
            migration: true,
            node_id: None,
        }
    }
}

/// Streams of a connection: far more than anybody needs, and fewer than RFC 9000 section 4.6 forbids.
const MOST_STREAMS: u32 = 1 << 20;

impl Settings {
    pub(crate) fn transport(&self, metrics: &Arc<Metrics>) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        // Fits: the configuration has an hour at the most, and the milliseconds of a variable-length integer
        // are enough for more.
        let idle = IdleTimeout::try_from(self.idle_timeout).ok();
        let keep_alive = self.keep_alive_interval;
        transport
            .max_idle_timeout(idle)
            .keep_alive_interval((!keep_alive.is_zero()).then_some(keep_alive))
            // With the control stream.
            .max_concurrent_bidi_streams(VarInt::from_u32(
                self.max_streams.saturating_add(1).min(MOST_STREAMS),
            ))
            // MQTT has no use for them.
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(self.stream_receive_window.into())
            .receive_window(self.receive_window.into())
            .send_window(self.send_window.into())
            .congestion_controller_factory(Arc::new(Paths::new(Arc::clone(metrics))));
        Arc::new(transport)
    }
}

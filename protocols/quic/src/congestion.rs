//! CUBIC (RFC 9438) as quinn has it, which also tells how many paths there were: quinn begins a path for a new
//! connection and for one that goes on at another address, and says so to nobody else.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{
    Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig,
};

use crate::metrics::Metrics;

pub(crate) struct Paths {
    cubic: Arc<CubicConfig>,
    metrics: Arc<Metrics>,
}

impl Paths {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            cubic: Arc::default(),
            metrics,
        }
    }
}

impl ControllerFactory for Paths {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        self.metrics.path();
        Box::new(OfPath {
            cubic: Cubic::new(Arc::clone(&self.cubic), now, mtu),
            metrics: Arc::clone(&self.metrics),
        })
    }
}

struct OfPath {
    cubic: Cubic,
    metrics: Arc<Metrics>,
}

impl Controller for OfPath {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    /// A path to the same host at another port goes on with what is known of the way.
    fn clone_box(&self) -> Box<dyn Controller> {
        self.metrics.path();
        Box::new(Self {
            cubic: self.cubic.clone(),
            metrics: Arc::clone(&self.metrics),
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

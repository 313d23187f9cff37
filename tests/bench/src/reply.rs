//! What the load process answers.

use serde::{Deserialize, Serialize};

/// A line of the load process's standard output. The last is one of the three that end it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What it is doing, in a few words.
    Progress(String),
    /// The figures; the end.
    Measured(Box<Measurement>),
    /// Why the workload does not fit this machine; the end.
    DoesNotFit(String),
    /// What went wrong; the end.
    Failed(String),
}

/// What was measured while it counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Seconds that counted, as they were.
    pub seconds: f64,
    /// Messages that subscribers received.
    pub deliveries: u64,
    /// Processor time of the broker, user and system, in seconds.
    pub broker_cpu: f64,
    /// Processor time of the load process, in seconds.
    pub load_cpu: f64,
    /// Resident memory of the broker at the end, in bytes.
    pub resident: u64,
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came more than once.
    pub duplicated: u64,
    /// Deliveries that came before one sent earlier, to the same subscriber from the same publisher.
    pub out_of_order: u64,
    /// From publisher to subscriber, of all deliveries.
    pub latency: Option<Latency>,
    /// Of a workload that opens connections.
    pub connections: Option<Connections>,
}

/// Quantiles of latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Half came within.
    pub p50: f64,
    /// 99 of 100 came within.
    pub p99: f64,
    /// 999 of 1,000 came within.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// What connections cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// Connections a second, each with handshakes, CONNECT and SUBSCRIBE answered.
    pub rate: f64,
    /// Processor time of the broker for each, in microseconds.
    pub cpu: f64,
    /// Growth of the broker's resident memory for each, in bytes.
    pub bytes: f64,
}

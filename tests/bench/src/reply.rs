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
    /// Of a workload whose messages must be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<Durable>,
    /// Of a workload whose messages wait for clients that are away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Queued>,
    /// Of a workload of sessions whose clients are away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Stored>,
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
    /// Connections a second, each with handshakes and CONNECT answered, and SUBSCRIBE where they stay.
    pub rate: f64,
    /// Processor time of the broker for each, in microseconds.
    pub cpu: f64,
    /// Growth of the broker's resident memory for each, in bytes, where they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
}

/// What was acknowledged because it was kept, and what the disk would allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durable {
    /// Publishes that the broker acknowledged.
    pub acknowledged: u64,
    /// Seconds that this took.
    pub seconds: f64,
    /// Bytes of a publish as it is sent, without its packet identifier: the least that has to be kept.
    pub bytes: u64,
    /// Syncs of the broker meanwhile, if it tells.
    pub syncs: Option<u64>,
    /// What the same disk does with a bare file.
    pub disk: Option<Appends>,
}

/// Appending to a bare file, each time followed by fdatasync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appends {
    /// Syncs a second, with the bytes of one publish each.
    pub single: f64,
    /// Publishes a second, with as many to a sync as the broker had.
    pub grouped: f64,
}

/// What it cost to keep messages for clients that were away, and to hand them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    /// Growth of the broker's files by message, in bytes, if it was told where to have them.
    pub disk: Option<f64>,
    /// Seconds from the first CONNECT of a client that comes back to the first message.
    pub first: f64,
    /// Resident memory of the broker when its clients come back, in bytes.
    pub before: u64,
    /// The most that was seen until they had everything.
    pub peak: u64,
}

/// What sessions cost whose clients are away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Sessions that were made a second, each with CONNECT, SUBSCRIBE and DISCONNECT.
    pub rate: f64,
    /// Growth of the broker's resident memory for each, in bytes.
    pub memory: f64,
    /// The same in the process that was started again.
    pub memory_again: f64,
    /// Growth of the broker's files for each, in bytes.
    pub disk: f64,
    /// Seconds from the start of the new process until the first session was resumed.
    pub restart: f64,
}

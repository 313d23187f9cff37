//! What the load process is asked to do.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One workload at one broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Where the broker speaks MQTT 3.1.1.
    pub v3: SocketAddr,
    /// Where the broker speaks MQTT 5.0; for most brokers the same.
    pub v5: SocketAddr,
    /// The scheme of what carries MQTT there: `mqtt`, `mqtts`, `ws` or `quic`; or `coap`, for pairs and for
    /// those who do nothing. Traffic is not over `ws`; what has clients that are away, or retained messages, is over `mqtt` only.
    pub scheme: String,
    /// The certificate authority of the broker's certificate (PEM), for `mqtts` and `quic`.
    pub authority: Option<PathBuf>,
    /// The broker's process: its processor time and memory are what is measured.
    pub pid: u32,
    /// Where it keeps what must survive it, if it was told where.
    #[serde(default)]
    pub data: Option<PathBuf>,
    /// Where it shows the metrics of the gateway, if it does: they tell its syncs.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// Seconds of load before anything counts.
    pub warm_up: f64,
    /// Seconds that count.
    pub seconds: f64,
    /// What to do.
    pub workload: Workload,
}

/// What to do with a broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Messages from publishers to subscribers.
    Traffic(Traffic),
    /// Connections that are opened and left at once.
    Handshakes(Handshakes),
    /// Connections that do nothing.
    Idle(Idle),
    /// Retained messages, sent to whoever subscribes.
    Retained(Retained),
    /// Messages for sessions whose clients are away, and come back.
    Queues(Queues),
    /// Sessions whose clients are away.
    Sessions(Sessions),
}

impl Workload {
    /// Whether messages are part of it.
    #[must_use]
    pub fn delivers(&self) -> bool {
        !matches!(
            self,
            Self::Handshakes(_) | Self::Idle(_) | Self::Sessions(_)
        )
    }
}

/// Messages from publishers to subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// The protocol's version, for all.
    pub version: Version,
    /// Who receives what.
    pub shape: Shape,
    /// Connections that publish.
    pub publishers: u32,
    /// Connections that subscribe; with [`Shape::Pairs`] as many as publish.
    pub subscribers: u32,
    /// Of publishes and subscriptions: 0, 1 or 2.
    pub qos: u8,
    /// Bytes of payload; at least 20, for publisher, sequence number and time.
    pub payload: u32,
    /// Topics of each publisher, used in turn.
    pub topics: u32,
    /// Subscriptions with wildcards, on connections of their own, that match nothing of the traffic.
    pub idle_filters: u32,
    /// Whether publishes carry the properties of a telemetry client (MQTT 5.0): content type, message
    /// expiry, two user properties.
    pub properties: bool,
    /// Whether the sessions of subscribers outlive their connections: what they wait for must be kept
    /// before it is acknowledged.
    #[serde(default)]
    pub durable: bool,
    /// How fast.
    pub pace: Pace,
}

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V3,
    /// MQTT 5.0.
    #[serde(rename = "5.0")]
    V5,
}

/// Who receives what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The messages of each publisher go to one subscriber of its own.
    Pairs,
    /// Every message goes to every subscriber: fan-in with one subscriber, fan-out with one publisher.
    All,
    /// Every message goes to one of the subscribers, which share a subscription.
    Shared,
}

/// How fast publishers publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Closed loop: this many messages of each publisher are on their way, a message being so until
    /// every receiver has it and, with QoS 1 and 2, its publisher has the last acknowledgement. Nobody
    /// is asked to drop.
    Window(u32),
    /// Open loop: this many messages a second of all publishers together, whatever the broker does.
    /// Latency is counted from when a message should have been sent.
    Rate(u32),
}

/// Connections that are opened and, once they are let in, left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshakes {
    /// The protocol's version.
    pub version: Version,
    /// Clients at a time.
    pub at_once: u32,
}

/// Connections that do nothing: each has one subscription of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// The protocol's version.
    pub version: Version,
    /// Connections when memory is looked at first.
    pub first: u32,
    /// Connections in the end.
    pub connections: u32,
    /// Seconds from the last SUBACK until memory is looked at.
    pub settle: f64,
}

/// Retained messages, sent to whoever subscribes. The same subscriber subscribes again and again, the
/// next time when it has them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retained {
    /// The protocol's version.
    pub version: Version,
    /// Retained messages, each of a topic of its own.
    pub messages: u32,
    /// Of publishes and subscriptions.
    pub qos: u8,
    /// Bytes of payload; at least 20.
    pub payload: u32,
    /// Connections that subscribe.
    pub subscribers: u32,
}

/// Messages for sessions whose clients are away: published at QoS 1 in a closed loop until each publisher
/// has published its share, then the clients come back and receive them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queues {
    /// The protocol's version.
    pub version: Version,
    /// Sessions; every message waits for each of them.
    pub sessions: u32,
    /// Connections that publish.
    pub publishers: u32,
    /// Messages of each publisher.
    pub messages: u64,
    /// Bytes of payload; at least 20.
    pub payload: u32,
    /// Messages of a publisher that are not acknowledged, at most.
    pub window: u32,
}

impl Queues {
    /// Messages of all publishers.
    #[must_use]
    pub fn all_messages(&self) -> u64 {
        self.messages * u64::from(self.publishers)
    }
}

/// Sessions whose clients are away, with one subscription each: what they cost, and how long the broker
/// takes to have them again when it was killed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// The protocol's version.
    pub version: Version,
    /// Sessions when memory and disk are looked at first.
    pub first: u32,
    /// Sessions in the end.
    pub sessions: u32,
    /// Seconds from the last DISCONNECT until memory and disk are looked at.
    pub settle: f64,
}

//! What has happened: reported by the clients as lines of JSON, by the harness of its own acts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When: microseconds of the machine's monotonic clock, which all processes share.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What has happened. A client is named by its client identifier, a message by its number, which no other
/// message has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The gateway is ready.
    Started,
    /// SIGKILL is about to be sent to the gateway.
    Killed,
    /// A client's process was killed and has ended.
    Died {
        /// Who.
        client: String,
    },
    /// CONNACK has come.
    Connected {
        /// Who.
        client: String,
        /// Its Session Present.
        present: bool,
    },
    /// CONNACK has refused the connection.
    TurnedAway {
        /// Who.
        client: String,
        /// Its reason.
        why: String,
    },
    /// A connection has ended, whoever wanted it.
    Lost {
        /// Who.
        client: String,
        /// As far as it is known.
        why: String,
    },
    /// It stays away until it is told to come.
    Left {
        /// Who.
        client: String,
    },
    /// SUBACK has come and granted everything.
    Subscribed {
        /// Who.
        client: String,
        /// Filter and QoS.
        filters: Vec<(String, u8)>,
    },
    /// A message is given to the client's library, which sends it now or, if it is full or cut off, later.
    Sent {
        /// Who.
        client: String,
        /// Which.
        message: u64,
        /// Where.
        topic: String,
        /// How.
        qos: u8,
        /// Whether it is to be retained; without a payload it removes what is.
        retain: bool,
        /// Bytes of its payload.
        size: usize,
        /// CRC-32 of its payload.
        sum: u32,
    },
    /// PUBACK or PUBCOMP has come.
    Acked {
        /// Who.
        client: String,
        /// Which.
        message: u64,
    },
    /// The gateway did not take it.
    Refused {
        /// Who.
        client: String,
        /// Which.
        message: u64,
        /// The reason code.
        reason: u8,
    },
    /// A CONNECT with this will is about to be sent.
    Willed {
        /// Who.
        client: String,
        /// The will.
        message: u64,
        /// Where.
        topic: String,
        /// How.
        qos: u8,
        /// Will Delay Interval in seconds.
        delay: u64,
        /// Bytes of its payload.
        size: usize,
        /// CRC-32 of its payload.
        sum: u32,
    },
    /// A PUBLISH of QoS 2 has come, and its PUBREC is about to be sent: if the client's process is killed
    /// now, the client has lost the message. Only clients whose processes are killed tell it.
    Held {
        /// Who.
        client: String,
        /// Which.
        message: u64,
    },
    /// A message has reached the application: at QoS 2 after PUBREL.
    Arrived {
        /// Who.
        client: String,
        /// Which; none without a payload.
        message: Option<u64>,
        /// Where.
        topic: String,
        /// How.
        qos: u8,
        /// Whether it came with DUP.
        dup: bool,
        /// Whether it came as a retained one.
        retain: bool,
        /// Bytes of its payload.
        size: usize,
        /// CRC-32 of its payload.
        sum: u32,
    },
    /// Somebody has looked which messages are retained.
    Kept {
        /// Before this moment nothing was asked.
        asked: u64,
        /// The message of each topic that has one.
        found: BTreeMap<String, u64>,
    },
}

impl What {
    /// Who has told it or whom it has happened to; nobody if it was the gateway.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        match self {
            Self::Started | Self::Killed | Self::Kept { .. } => None,
            Self::Died { client }
            | Self::Connected { client, .. }
            | Self::TurnedAway { client, .. }
            | Self::Lost { client, .. }
            | Self::Left { client }
            | Self::Subscribed { client, .. }
            | Self::Sent { client, .. }
            | Self::Acked { client, .. }
            | Self::Refused { client, .. }
            | Self::Willed { client, .. }
            | Self::Held { client, .. }
            | Self::Arrived { client, .. } => Some(client),
        }
    }

    /// The message that it is about, if it is about one.
    #[must_use]
    pub fn message(&self) -> Option<u64> {
        match self {
            Self::Sent { message, .. }
            | Self::Acked { message, .. }
            | Self::Refused { message, .. }
            | Self::Willed { message, .. }
            | Self::Held { message, .. } => Some(*message),
            Self::Arrived { message, .. } => *message,
            _ => None,
        }
    }
}

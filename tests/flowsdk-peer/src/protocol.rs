//! What a test and this process say to each other: JSON, one object in a line.
//!
//! A payload is a string of which each character is a byte (U+0000 to U+00FF), so that any bytes pass.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use flowsdk::mqtt_client::{MqttClientOptions, MqttMessage};
use flowsdk::mqtt_serde::mqttv5::will::Will;
use serde::{Deserialize, Serialize};

/// Who connects where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) address: SocketAddr,
    /// The certificates that are trusted, as PEM.
    pub(crate) authority: PathBuf,
    client_id: String,
    /// Otherwise the session lasts for ten minutes and is resumed.
    clean: bool,
    keep_alive: u16,
    /// The topic of a will.
    will: Option<String>,
    /// Whether to keep sessions of TLS, and to send early data with them ([`Mode::Streams`]).
    pub(crate) early_data: bool,
}

impl Options {
    /// For flowsdk.
    pub(crate) fn mqtt(&self) -> MqttClientOptions {
        let mut options = MqttClientOptions::builder()
            .peer(format!("quic://{}", self.address))
            .client_id(&self.client_id)
            .clean_start(self.clean)
            .keep_alive(self.keep_alive);
        if !self.clean {
            options = options.session_expiry_interval(600);
        }
        if let Some(topic) = &self.will {
            options = options.will(Will::new(topic.clone(), b"gone".to_vec(), 1, false));
        }
        options.build()
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    Client,
    Streams,
}

/// What to do. Without a `stream` it is done where flowsdk does it of itself.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    Connect {
        /// What goes with CONNECT, before anything has come ([`Mode::Streams`]).
        #[serde(default)]
        early: Vec<Command>,
    },
    Publish {
        topic: String,
        payload: String,
        qos: u8,
        stream: Option<u64>,
    },
    Subscribe {
        filter: String,
        qos: u8,
        stream: Option<u64>,
    },
    Unsubscribe {
        filter: String,
        stream: Option<u64>,
    },
    Ping,
    Disconnect,
    /// Opens a stream of data; the rest are for [`Mode::Streams`] as well.
    Open,
    /// Finishes our side of a stream.
    Finish {
        stream: u64,
    },
    /// Resets our side of a stream.
    Reset {
        stream: u64,
    },
    /// Goes on from another port.
    Move,
}

/// What has happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    Connected {
        code: u8,
        session_present: bool,
    },
    Subscribed {
        codes: Vec<u8>,
    },
    Unsubscribed {
        codes: Vec<u8>,
    },
    /// A message of QoS 1 or 2 was acknowledged to the end.
    Published {
        qos: u8,
        code: Option<u8>,
    },
    Message {
        topic: String,
        payload: String,
        qos: u8,
        dup: bool,
        stream: Option<u64>,
    },
    Pong,
    /// MQTT is over, by the server's DISCONNECT if there is a code.
    Disconnected {
        code: Option<u8>,
    },
    /// QUIC is over.
    Closed {
        code: Option<u64>,
        by_peer: bool,
        reason: String,
    },
    Opened {
        stream: u64,
    },
    Ended {
        stream: u64,
        by_peer: bool,
    },
    /// As flowsdk calls it.
    EarlyData {
        status: String,
    },
    Moved,
    Failed {
        what: String,
    },
}

impl Event {
    pub(crate) fn failed(error: impl Display) -> Self {
        Self::Failed {
            what: error.to_string(),
        }
    }

    pub(crate) fn message(message: &MqttMessage, stream: Option<u64>) -> Self {
        Self::Message {
            topic: message.topic_name.clone(),
            payload: message.payload.iter().copied().map(char::from).collect(),
            qos: message.qos,
            dup: message.dup,
            stream,
        }
    }

    /// Tells the test.
    pub(crate) fn say(&self) {
        match serde_json::to_string(self) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("{self:?}: {error}"),
        }
    }
}

/// The bytes of a payload.
pub(crate) fn bytes(payload: &str) -> Vec<u8> {
    // The rest of a larger character would be lost, and the test would see it.
    payload.chars().map(|character| character as u8).collect()
}

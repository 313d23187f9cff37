//! Why a client could not do what it was asked for.

use std::io;
use std::path::PathBuf;

use tidegate_coap::codec::Code;
use tidegate_mqtt::codec::{DecodeError, ReasonCode};

use super::coap::Status;
use super::reason::Reason;
use crate::exit::Exit;

/// The end of a client before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The options contradict each other or the protocol.
    #[error("{0}")]
    Usage(String),
    /// What is to be published cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Input { path: PathBuf, error: io::Error },
    /// There is nobody.
    #[error("{url} cannot be reached: {error}")]
    Unreachable { url: String, error: io::Error },
    /// The TLS handshake failed, on either side.
    #[error("{url} cannot be spoken to over TLS: {error}{hint}")]
    Tls {
        url: String,
        error: io::Error,
        hint: &'static str,
    },
    /// The DTLS handshake failed, on either side.
    #[error("{url} cannot be spoken to over DTLS: {error}{hint}")]
    Dtls {
        url: String,
        error: io::Error,
        hint: &'static str,
    },
    /// The answer to what is not TLS is a TLS alert.
    #[error("this port speaks TLS: try mqtts:// or wss://")]
    SpeaksTls,
    /// What is there does not speak MQTT over WebSocket, or not with us.
    #[error("{url} cannot be spoken to over WebSocket: {error}")]
    WebSocket { url: String, error: String },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The connection ended without a word.
    #[error("the gateway closed the connection")]
    Closed,
    /// The gateway no longer answers.
    #[error("the gateway did not answer {0} in time")]
    Silent(&'static str),
    /// The gateway sent what cannot be a packet.
    #[error("the gateway sent a packet that is not valid: {0}")]
    Decode(#[from] DecodeError),
    /// The gateway sent what it may not send now.
    #[error("the gateway broke the protocol: {0}")]
    Protocol(String),
    /// The gateway said no to `what`.
    #[error("the gateway refused {what}: {reason}")]
    Refused { what: String, reason: Reason },
    /// The same, with a response code of CoAP.
    #[error("the gateway refused {what}: {status}")]
    Answered { what: String, status: Status },
    /// The gateway ended the connection.
    #[error("the gateway disconnected: {0}")]
    Disconnected(Reason),
    /// The same, in words.
    #[error("the gateway aborted the connection: {0}")]
    Aborted(String),
    /// The time given with `--timeout` is over.
    #[error("it was not done in time")]
    TimedOut,
}

impl ClientError {
    /// Whether it may be over soon, and worth another attempt.
    pub(crate) fn is_a_loss(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Dtls { .. }
            | Self::WebSocket { .. }
            | Self::Broken(_)
            | Self::Closed
            | Self::Aborted(_)
            | Self::Silent(_) => true,
            Self::Disconnected(reason) => reason.code == ReasonCode::ServerShuttingDown,
            // It shuts down, or has no room for a moment.
            Self::Answered { status, .. } => status.code == Code::SERVICE_UNAVAILABLE,
            _ => false,
        }
    }

    /// What it means to whoever started the client.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused { .. } | Self::Answered { .. } | Self::Disconnected(_) => Exit::Refused,
            Self::TimedOut => Exit::TimedOut,
            Self::Input { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Dtls { .. }
            | Self::SpeaksTls
            | Self::WebSocket { .. }
            | Self::Broken(_)
            | Self::Closed
            | Self::Aborted(_)
            | Self::Silent(_)
            | Self::Decode(_)
            | Self::Protocol(_) => Exit::Failed,
        }
    }
}

//! Why there is no connection, and what is said at the end of one.

use std::time::Duration;

use quinn_proto::{ConnectionError, TransportErrorCode};

/// Application error codes (RFC 9000 section 20.2): those of MQTT 5.0 section 2.4, of which 0 is a normal end.
pub mod code {
    use quinn_proto::VarInt;

    /// The connection is over and nothing is wrong.
    pub const NORMAL: VarInt = VarInt::from_u32(0x00);
    /// What came makes no sense here: no stream in time, or an end without a word.
    pub const PROTOCOL_ERROR: VarInt = VarInt::from_u32(0x82);
    /// The certificate does not hold any more.
    pub const NOT_AUTHORIZED: VarInt = VarInt::from_u32(0x87);
    /// The gateway shuts down.
    pub const SERVER_SHUTTING_DOWN: VarInt = VarInt::from_u32(0x8B);
    /// There are as many connections as there may be.
    pub const QUOTA_EXCEEDED: VarInt = VarInt::from_u32(0x97);
}

/// Why a client that came has no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstablishError {
    /// The handshake was not over in time.
    #[error("the QUIC handshake was not over within {}", humantime(*.limit))]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The handshake was over, but no stream was opened in time.
    #[error("no stream was opened within {}", humantime(*.limit))]
    NoStream {
        /// The limit.
        limit: Duration,
    },
    /// The client went away.
    #[error("the client went away")]
    Lost,
    /// No agreement was found, or the client broke the protocol.
    #[error("the QUIC handshake failed: {0}")]
    Failed(String),
    /// The client's certificate does not hold any more.
    #[error("the client's certificate is refused: {0}")]
    Certificate(rustls::Error),
}

fn humantime(limit: Duration) -> String {
    format!("{limit:?}")
}

impl From<ConnectionError> for EstablishError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionClosed(close) if close.error_code == no_error() => {
                Self::Lost
            }
            ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed => Self::Lost,
            error => Self::Failed(error.to_string()),
        }
    }
}

fn no_error() -> TransportErrorCode {
    TransportErrorCode::NO_ERROR
}

//! Why a connection did not get through its handshake.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::AlertDescription;

/// Why a connection did not get through its handshake. The display is half a sentence for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It took too long.
    #[error("{stage} took longer than {limit:?}")]
    Timeout {
        /// What it was waiting for.
        stage: Stage,
        /// The configured limit.
        limit: Duration,
    },
    /// The client went away.
    #[error("the client went away during the handshake")]
    Lost,
    /// The first bytes are not TLS. The client was sent the alert `unexpected_message`.
    #[error("the client does not speak TLS: {0}")]
    NotTls(Foreign),
    /// The client was refused and told so by an alert.
    #[error("the client was refused: {}", words(.0))]
    Refused(rustls::Error),
    /// The client's certificate was refused when the handshake was already over, and so without an
    /// alert: the connection was closed with `close_notify`. Most often the client resumed a session
    /// whose certificate has expired since; or it was revoked during the handshake.
    #[error("the client was refused after the handshake: {0}")]
    RefusedAfterwards(rustls::Error),
    /// The client refused, and said so by this alert.
    #[error("the client refused with the alert {0:?}")]
    Alert(AlertDescription),
    /// The operating system had something to say about the socket.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

/// How far a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Nothing was received.
    FirstBytes,
    /// Others were first.
    Turn,
    /// The handshake had begun.
    Handshake,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::FirstBytes => "the client's first byte",
            Self::Turn => "a turn among the handshakes under way",
            Self::Handshake => "the handshake",
        })
    }
}

/// What arrives on a port for TLS and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// A CONNECT packet.
    Mqtt,
    /// A request.
    Http,
    /// A PROXY header, version 1 or 2.
    Proxy,
    /// Something else.
    Other,
}

impl Foreign {
    /// What these first bytes are, or `None` if they are TLS: a record of type `handshake` (RFC 8446,
    /// 5.1). Looks at whatever there is, and that may be one byte.
    pub(crate) fn recognize(bytes: &[u8]) -> Option<Self> {
        const METHODS: [&[u8]; 8] = [
            b"GET ",
            b"POST ",
            b"PUT ",
            b"HEAD ",
            b"OPTIONS ",
            b"CONNECT ",
            b"DELETE ",
            b"PATCH ",
        ];
        const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
        match bytes {
            [0x16, ..] => None,
            [0x10, ..] => Some(Self::Mqtt),
            _ if bytes.starts_with(b"PROXY ") || bytes.starts_with(PROXY_2) => Some(Self::Proxy),
            _ if METHODS.iter().any(|method| bytes.starts_with(method)) => Some(Self::Http),
            _ => Some(Self::Other),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Mqtt => "it speaks MQTT without TLS",
            Self::Http => "it speaks HTTP without TLS",
            Self::Proxy => {
                "it begins with a PROXY header, which this listener does not expect \
                 (proxy_networks)"
            }
            Self::Other => "the first bytes are of no known protocol",
        })
    }
}

/// What rustls says, and what it means where that is not plain.
fn words(error: &rustls::Error) -> String {
    use rustls::PeerIncompatible::SignatureAlgorithmsExtensionRequired;
    match error {
        // TLS 1.2 brought the extension (RFC 5246, 7.4.1.4.1), and whoever speaks it sends it.
        rustls::Error::PeerIncompatible(SignatureAlgorithmsExtensionRequired) => {
            "it speaks nothing newer than TLS 1.1".to_owned()
        }
        error => error.to_string(),
    }
}

impl HandshakeError {
    /// Sorts what the handshake ended with.
    pub(crate) fn from_io(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
        };
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            Some(tls) => Self::Refused(tls.clone()),
            None => match error.kind() {
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => {
                    Self::Lost
                }
                _ => Self::Io(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Foreign;

    #[test]
    fn first_bytes_are_recognized() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02"[..], None),
            (b"\x16", None),
            (b"\x10\x0c\x00\x04MQTT", Some(Foreign::Mqtt)),
            (b"GET /mqtt HTTP/1.1\r\n", Some(Foreign::Http)),
            (b"PROXY TCP4 1.2.3.4", Some(Foreign::Proxy)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Some(Foreign::Proxy)),
            (b"P", Some(Foreign::Other)),
            (b"\x80\x2e\x01\x00\x02", Some(Foreign::Other)),
        ] {
            assert_eq!(Foreign::recognize(bytes), expected, "{bytes:?}");
        }
    }
}

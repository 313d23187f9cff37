//! Protocols that are spoken to a WebSocket listener by mistake.

use std::fmt;

/// What the first bytes of a connection look like when they are no HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// A TLS handshake record (RFC 8446 section 5.1): the client means `wss`.
    Tls,
    /// An MQTT CONNECT packet: the client means `mqtt`.
    Mqtt,
    /// A PROXY protocol header, version 1 or 2: a load balancer is in front of a listener that is not
    /// told so.
    Proxy,
    /// Anything else.
    Other,
}

impl Foreign {
    /// Recognizes what is no request of HTTP. `None` while it can be one.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [] => None,
            [0x16] | [0x16, 0x03, ..] => Some(Self::Tls),
            [0x10, ..] => Some(Self::Mqtt),
            _ if bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0") => {
                Some(Self::Proxy)
            }
            [first, ..] if first.is_ascii_alphabetic() => None,
            _ => Some(Self::Other),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS",
            Self::Mqtt => "MQTT without WebSocket",
            Self::Proxy => "a PROXY protocol header",
            Self::Other => "no protocol that is known here",
        })
    }
}

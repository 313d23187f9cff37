//! Protocols that people speak to a listener by mistake.

/// What the first bytes of a connection look like, when they are not MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// A TLS handshake record (RFC 8446 section 5.1).
    Tls,
    /// A request of HTTP.
    Http,
    /// A header of the PROXY protocol.
    Proxy,
}

impl Foreign {
    /// Recognizes what cannot be MQTT.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        const METHODS: [&[u8]; 8] = [
            b"GET ",
            b"POST ",
            b"PUT ",
            b"HEAD ",
            b"DELETE ",
            b"OPTIONS ",
            b"CONNECT ",
            b"PRI * ",
        ];
        const PROXY: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];
        // 0x16 0x03 would be a CONNECT with reserved flags (MQTT-2.1.3-1 of 5.0).
        if bytes.starts_with(&[0x16, 0x03]) {
            Some(Self::Tls)
        } else if METHODS.iter().any(|method| bytes.starts_with(method)) {
            Some(Self::Http)
        } else if PROXY.iter().any(|header| bytes.starts_with(header)) {
            Some(Self::Proxy)
        } else {
            None
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Proxy => "the PROXY protocol",
        }
    }
}

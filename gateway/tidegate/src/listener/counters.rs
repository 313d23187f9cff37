//! What one listener counts.

use tidegate_bus::Counter;

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There are as many as there may be.
    Limit,
    /// They come too fast.
    Rate,
    /// Not from a network that may speak the PROXY protocol.
    ProxyNetwork,
    /// No PROXY header, or one that is not valid.
    ProxyHeader,
    /// Its PROXY header did not come in time.
    ProxyTimeout,
    /// It does not speak TLS.
    NotTls,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The TLS handshake was not done in time.
    TlsTimeout,
    /// It does not ask for MQTT over WebSocket, or may not.
    WebsocketRequest,
    /// Its upgrade request did not come in time.
    WebsocketTimeout,
    /// The QUIC handshake failed, or no stream was opened after it.
    QuicHandshake,
    /// The QUIC handshake was not done in time, or no stream was opened in time.
    QuicTimeout,
    /// It speaks another protocol than MQTT.
    NotMqtt,
    /// It speaks another protocol than CoAP.
    NotCoap,
}

impl Reason {
    pub(crate) const ALL: [Self; 14] = [
        Self::Limit,
        Self::Rate,
        Self::ProxyNetwork,
        Self::ProxyHeader,
        Self::ProxyTimeout,
        Self::NotTls,
        Self::TlsHandshake,
        Self::TlsTimeout,
        Self::WebsocketRequest,
        Self::WebsocketTimeout,
        Self::QuicHandshake,
        Self::QuicTimeout,
        Self::NotMqtt,
        Self::NotCoap,
    ];

    /// Its name in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Rate => "rate",
            Self::ProxyNetwork => "proxy_network",
            Self::ProxyHeader => "proxy_header",
            Self::ProxyTimeout => "proxy_timeout",
            Self::NotTls => "not_tls",
            Self::TlsHandshake => "tls_handshake",
            Self::TlsTimeout => "tls_timeout",
            Self::WebsocketRequest => "websocket_request",
            Self::WebsocketTimeout => "websocket_timeout",
            Self::QuicHandshake => "quic_handshake",
            Self::QuicTimeout => "quic_timeout",
            Self::NotMqtt => "not_mqtt",
            Self::NotCoap => "not_coap",
        }
    }
}

/// The numbers of one listener.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections accepted by the operating system.
    pub(crate) accepted: Counter,
    refused: [Counter; Reason::ALL.len()],
}

impl Counters {
    pub(crate) fn refused(&self, reason: Reason) -> &Counter {
        // A reason is the index of one of them.
        &self.refused[reason as usize]
    }
}

//! What is spoken at a listener.

use std::net::{Ipv4Addr, SocketAddr};

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// MQTT over QUIC.
    Quic,
    /// CoAP over UDP.
    Coap,
    /// CoAP over DTLS, over UDP.
    Coaps,
}

/// Kinds, and so schemes of URLs, that a later version has.
pub(crate) const PLANNED: [&str; 2] = ["coap+tcp", "coaps+tcp"];

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Mqtt,
        Self::Mqtts,
        Self::Ws,
        Self::Wss,
        Self::Quic,
        Self::Coap,
        Self::Coaps,
    ];

    /// The scheme of a URL that leads to such a listener.
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
            Self::Coap => "coap",
            Self::Coaps => "coaps",
        }
    }

    /// The port that a URL means when it names none.
    pub(crate) const fn default_port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws => 8083,
            Self::Wss => 8084,
            Self::Quic => 14567,
            Self::Coap => 5683,
            Self::Coaps => 5684,
        }
    }

    /// Where the listener of this name is when nobody says anything.
    pub(super) fn default_bind(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.default_port()))
    }

    /// Whether TLS is under it.
    pub(crate) const fn has_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Quic)
    }

    /// Whether it is QUIC, over UDP.
    pub(crate) const fn is_quic(self) -> bool {
        matches!(self, Self::Quic)
    }

    /// Whether it is CoAP, over UDP.
    pub(crate) const fn is_coap(self) -> bool {
        matches!(self, Self::Coap | Self::Coaps)
    }

    /// Whether DTLS is under it.
    pub(crate) const fn has_dtls(self) -> bool {
        matches!(self, Self::Coaps)
    }

    /// Whether its port is one of UDP.
    pub(crate) const fn is_udp(self) -> bool {
        self.is_quic() || self.is_coap()
    }

    /// Whether WebSocket is under it.
    pub(crate) const fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

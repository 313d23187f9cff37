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
    /// CoAP over TCP.
    CoapTcp,
    /// CoAP over TLS.
    CoapsTcp,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Mqtt,
        Self::Mqtts,
        Self::Ws,
        Self::Wss,
        Self::Quic,
        Self::Coap,
        Self::Coaps,
        Self::CoapTcp,
        Self::CoapsTcp,
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
            Self::CoapTcp => "coap+tcp",
            Self::CoapsTcp => "coaps+tcp",
        }
    }

    /// The name of the listener that is there when nobody says anything: the scheme, as far as it can be part of the
    /// name of a variable.
    pub(super) const fn listener(self) -> &'static str {
        match self {
            Self::CoapTcp => "coap_tcp",
            Self::CoapsTcp => "coaps_tcp",
            other => other.scheme(),
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
            Self::Coap | Self::CoapTcp => 5683,
            Self::Coaps | Self::CoapsTcp => 5684,
        }
    }

    /// Where the listener of this name is when nobody says anything.
    pub(super) fn default_bind(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.default_port()))
    }

    /// Whether TLS is under it.
    pub(crate) const fn has_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Quic | Self::CoapsTcp)
    }

    /// Whether it is QUIC, over UDP.
    pub(crate) const fn is_quic(self) -> bool {
        matches!(self, Self::Quic)
    }

    /// Whether it is CoAP, whatever carries it.
    pub(crate) const fn is_coap(self) -> bool {
        matches!(self, Self::Coap | Self::Coaps) || self.is_coap_stream()
    }

    /// Whether DTLS is under it.
    pub(crate) const fn has_dtls(self) -> bool {
        matches!(self, Self::Coaps)
    }

    /// Whether it is CoAP over a byte stream (RFC 8323).
    pub(crate) const fn is_coap_stream(self) -> bool {
        matches!(self, Self::CoapTcp | Self::CoapsTcp)
    }

    /// Whether its port is one of UDP.
    pub(crate) const fn is_udp(self) -> bool {
        matches!(self, Self::Quic | Self::Coap | Self::Coaps)
    }

    /// Whether WebSocket is under it.
    pub(crate) const fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

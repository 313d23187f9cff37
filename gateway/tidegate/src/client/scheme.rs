//! What a URL can ask the client to speak.

use crate::config::Kind;

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// MQTT, over what this kind of listener is reached through.
    Mqtt(Kind),
    /// CoAP.
    Coap(CoapScheme),
}

/// CoAP and what is under it (RFC 7252 section 6, RFC 8323 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoapScheme {
    /// UDP.
    Coap,
    /// DTLS.
    Coaps,
    /// TCP.
    CoapTcp,
    /// TLS.
    CoapsTcp,
}

impl CoapScheme {
    const ALL: [Self; 4] = [Self::Coap, Self::Coaps, Self::CoapTcp, Self::CoapsTcp];

    const fn name(self) -> &'static str {
        match self {
            Self::Coap => "coap",
            Self::Coaps => "coaps",
            Self::CoapTcp => "coap+tcp",
            Self::CoapsTcp => "coaps+tcp",
        }
    }

    /// Whether messages are datagrams.
    pub(crate) const fn is_udp(self) -> bool {
        matches!(self, Self::Coap | Self::Coaps)
    }
}

impl Scheme {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        // What a listener of CoAP is, the client knows by itself.
        let is_mqtt = |kind: &Kind| CoapScheme::ALL.iter().all(|it| it.name() != kind.scheme());
        let mqtt = Kind::ALL.into_iter().filter(is_mqtt).map(Self::Mqtt);
        mqtt.chain(CoapScheme::ALL.into_iter().map(Self::Coap))
    }

    /// As it stands in the URL.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mqtt(kind) => kind.scheme(),
            Self::Coap(scheme) => scheme.name(),
        }
    }

    /// The port that a URL means when it names none.
    pub(crate) const fn default_port(self) -> u16 {
        match self {
            Self::Mqtt(kind) => kind.default_port(),
            Self::Coap(CoapScheme::Coap | CoapScheme::CoapTcp) => 5683,
            Self::Coap(CoapScheme::Coaps | CoapScheme::CoapsTcp) => 5684,
        }
    }

    /// The path that a URL means when it names none; `None`: it has no path.
    pub(crate) const fn default_path(self) -> Option<&'static str> {
        match self {
            Self::Coap(_) => Some("/ps"),
            _ if self.has_websocket() => Some("/mqtt"),
            Self::Mqtt(_) => None,
        }
    }

    /// Whether TLS or DTLS is under it.
    pub(crate) const fn has_tls(self) -> bool {
        match self {
            Self::Mqtt(kind) => kind.has_tls(),
            Self::Coap(scheme) => matches!(scheme, CoapScheme::Coaps | CoapScheme::CoapsTcp),
        }
    }

    /// Whether it is QUIC.
    pub(crate) const fn is_quic(self) -> bool {
        matches!(self, Self::Mqtt(kind) if kind.is_quic())
    }

    /// Whether WebSocket is under it.
    pub(crate) const fn has_websocket(self) -> bool {
        matches!(self, Self::Mqtt(kind) if kind.has_websocket())
    }
}

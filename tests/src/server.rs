//! Where a server is and what carries MQTT there: TCP, TLS, WebSocket, WebSocket over TLS, QUIC.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::wire::Stream;

/// What carries MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// QUIC.
    Quic,
}

impl Transport {
    /// All that are over TCP.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// The scheme of a URL with it, which is also the name of the gateway's listener.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
        }
    }

    /// Whether TLS is under it.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss | Self::Quic)
    }

    /// Whether WebSocket is under it.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// An address and how to speak there. Whatever opens a connection takes one, or a plain address, which
/// means TCP.
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) name: String,
    pub(crate) path: String,
}

impl Server {
    /// Where there is no TLS.
    #[must_use]
    pub fn new(transport: Transport, address: SocketAddr) -> Self {
        Self {
            address,
            transport,
            tls: None,
            name: "localhost".to_owned(),
            path: "/mqtt".to_owned(),
        }
    }

    /// With TLS as `config` says.
    #[must_use]
    pub fn trusting(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// With another name than `localhost`: the one that the server's certificate must have.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// With another path than `/mqtt`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The same at another address.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What carries MQTT there.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Opens a connection and completes the handshakes of what carries MQTT.
    ///
    /// # Errors
    ///
    /// What TCP, TLS (as a [`rustls::Error`] inside) or WebSocket say.
    pub fn connect(&self) -> io::Result<Stream> {
        Stream::connect(self)
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::new(Transport::Tcp, address)
    }
}

impl From<&Self> for Server {
    fn from(server: &Self) -> Self {
        server.clone()
    }
}

//! The other side, for test clients: few connections of one process, for which quinn's own drivers do.

mod stream;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connecting, ConnectionError, Endpoint, EndpointConfig, TokioRuntime,
    TransportConfig,
};
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;

use crate::ALPN;
use crate::crypto::EarlyData;
use crate::error::code;

pub use stream::{ClientDataStream, ClientStream};

/// How often something is sent where nothing else is. After a NAT has forgotten the client the gateway cannot reach it
/// before it sends something.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Servers whose sessions are kept.
const SERVERS: usize = 8;
/// How long a ticket is waited for: it comes with the end of the handshake, or not at all.
const TICKET: Duration = Duration::from_secs(2);

/// Why a client has no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No socket could be made, or no stream be opened.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing can be connected to under this name, or TLS 1.3 is not configured.
    #[error("{0}")]
    Usage(String),
    /// The handshake failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Connects to servers, and goes on with earlier sessions of its own where it can. Sessions end with it: rustls
/// gives them to nobody who would write them down.
#[derive(Debug)]
pub struct Dialer {
    config: ClientConfig,
    sessions: Arc<Sessions>,
}

impl Dialer {
    /// `tls` says whom to trust; `early_data` whether [`Self::connect_early`] will be asked for.
    ///
    /// # Errors
    ///
    /// If TLS 1.3 is not configured.
    pub fn new(mut tls: rustls::ClientConfig, early_data: bool) -> Result<Self, ConnectError> {
        let sessions = Arc::<Sessions>::default();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = Resumption::store(Arc::clone(&sessions) as Arc<dyn ClientSessionStore>);
        tls.enable_early_data = early_data;
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| usage(&error))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport());
        Ok(Self { config, sessions })
    }

    /// Connects, and opens the control stream.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> Result<ClientStream, ConnectError> {
        let connection = self.begin(address, name)?.await?;
        Ok(ClientStream::open(connection).await?)
    }

    /// The same, with what is to be said first as early data. Without a session to go on with, a handshake
    /// comes before that and brings one. Where the early data is refused it is sent again after the handshake.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn connect_early(
        &self,
        address: SocketAddr,
        name: &str,
        first: &[u8],
    ) -> Result<(ClientStream, EarlyData), ConnectError> {
        let (connection, accepted) = match self.begin(address, name)?.into_0rtt() {
            Ok(early) => early,
            Err(connecting) => {
                // Of an earlier one.
                let _ = tokio::time::timeout(Duration::ZERO, self.sessions.come.notified()).await;
                let connection = connecting.await?;
                let come = tokio::time::timeout(TICKET, self.sessions.come.notified()).await;
                if come.is_err() {
                    // It gives none: this connection has to do.
                    let mut stream = ClientStream::open(connection).await?;
                    stream.write_all(first).await?;
                    return Ok((stream, EarlyData::None));
                }
                connection.close(code::NORMAL, &[]);
                match self.begin(address, name)?.into_0rtt() {
                    Ok(early) => early,
                    Err(connecting) => {
                        // The ticket is not for early data.
                        let mut stream = ClientStream::open(connecting.await?).await?;
                        stream.write_all(first).await?;
                        return Ok((stream, EarlyData::None));
                    }
                }
            }
        };
        let mut stream = ClientStream::open(connection.clone()).await?;
        // What is more than may be sent early would wait for the handshake, which may refuse it.
        let sent = stream.write_all(first).await;
        if accepted.await {
            sent?;
            return Ok((stream, EarlyData::Accepted));
        }
        if let Some(error) = connection.close_reason() {
            return Err(error.into());
        }
        // Of the refused stream nothing is left but its end, which would end the connection.
        stream.forget();
        let mut stream = ClientStream::open(connection).await?;
        stream.write_all(first).await?;
        Ok((stream, EarlyData::Refused))
    }

    fn begin(&self, address: SocketAddr, name: &str) -> Result<Connecting, ConnectError> {
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local)?;
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            None,
            socket,
            Arc::new(TokioRuntime),
        )?;
        endpoint
            .connect_with(self.config.clone(), address, name)
            .map_err(|error| usage(&error))
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(transport)
}

fn usage(error: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::Usage(error.to_string())
}

/// The sessions of this process, and word of a new one.
#[derive(Debug)]
struct Sessions {
    kept: ClientSessionMemoryCache,
    come: Notify,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            kept: ClientSessionMemoryCache::new(SERVERS),
            come: Notify::new(),
        }
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server)
    }

    // QUIC has TLS 1.3 only.
    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept.insert_tls13_ticket(server, value);
        self.come.notify_one();
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(server)
    }
}

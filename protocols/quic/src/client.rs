//! The other side, for test clients.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportConfig,
};

use crate::ALPN;
use crate::stream::Stream;

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

/// How often something is sent where nothing else is. After a NAT has forgotten the client the gateway cannot reach it
/// before it sends something.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(transport)
}

/// Connects, and opens the control stream. `tls` says whom to trust.
///
/// # Errors
///
/// Why there is no connection.
pub async fn connect(
    address: SocketAddr,
    server_name: &str,
    mut tls: rustls::ClientConfig,
) -> Result<Stream, ConnectError> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let usage = |error: &dyn std::fmt::Display| ConnectError::Usage(error.to_string());
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| usage(&error))?;
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
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    let connecting = endpoint
        .connect_with(config, address, server_name)
        .map_err(|error| usage(&error))?;
    Ok(Stream::open(connecting.await?).await?)
}

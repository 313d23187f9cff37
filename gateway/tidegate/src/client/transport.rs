//! How bytes reach the gateway. Every scheme ends in a byte stream; what runs over it does not know
//! which one it is.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tidegate_quic::{ConnectError, ConnectionError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connection::ANSWER;
use super::error::ClientError;
use super::options::{ConnectArguments, TlsArguments};
use super::streams::TwoStreams;
use super::url::ServerUrl;
use super::websocket;

/// What a handshake that does not begin may mean.
const NO_TLS: &str = "; perhaps this port does not speak TLS";

/// What to do about a certificate that the gateway has made itself.
const OWN_CERTIFICATE: &str =
    "; for a gateway's own certificate give --ca what `tidegate cert export` writes there";

/// A byte stream in both directions.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Opens the stream that the URL's scheme asks for.
pub(crate) async fn open(arguments: &ConnectArguments) -> Result<Box<dyn Transport>, ClientError> {
    match timeout(ANSWER, dial(arguments)).await {
        Ok(opened) => opened,
        Err(_elapsed) => Err(ClientError::Silent("the attempt to connect")),
    }
}

async fn dial(arguments: &ConnectArguments) -> Result<Box<dyn Transport>, ClientError> {
    let url = &arguments.url;
    if !url.kind.has_tls() && arguments.tls.is_given() {
        let scheme = url.kind.scheme();
        return Err(ClientError::Usage(format!(
            "--ca, --cert, --key and --insecure are for TLS; the URL says {scheme}"
        )));
    }
    if arguments.data_stream && !url.kind.is_quic() {
        let scheme = url.kind.scheme();
        return Err(ClientError::Usage(format!(
            "--data-stream is for QUIC; the URL says {scheme}"
        )));
    }
    let unreachable = |error| ClientError::Unreachable {
        url: url.to_string(),
        error,
    };
    let address = (url.host.as_str(), url.port);
    if url.kind.is_quic() {
        let mut found = lookup_host(address).await.map_err(unreachable)?;
        let nowhere = || io::Error::new(ErrorKind::NotFound, "the name has no address");
        let address = found.next().ok_or_else(nowhere).map_err(unreachable)?;
        let control = quic(url, &arguments.tls, address).await?;
        if !arguments.data_stream {
            return Ok(Box::new(control));
        }
        let data = control.open_data().await.map_err(unreachable)?;
        return Ok(Box::new(TwoStreams::new(control, data)));
    }
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    match (url.kind.has_tls(), url.kind.has_websocket()) {
        (false, false) => Ok(Box::new(stream)),
        (false, true) => websocket::open(url, stream).await,
        (true, false) => Ok(Box::new(tls(url, &arguments.tls, stream).await?)),
        (true, true) => {
            let stream = tls(url, &arguments.tls, stream).await?;
            websocket::open(url, stream).await
        }
    }
}

fn tls_config(arguments: &TlsArguments) -> Result<Arc<rustls::ClientConfig>, ClientError> {
    let certificate = arguments.cert.as_deref().zip(arguments.key.as_deref());
    tidegate_tls::client::config(arguments.ca.as_deref(), certificate, arguments.insecure)
        .map_err(|error| ClientError::Usage(error.to_string()))
}

async fn quic(
    url: &ServerUrl,
    arguments: &TlsArguments,
    address: SocketAddr,
) -> Result<tidegate_quic::Stream, ClientError> {
    let config = tls_config(arguments)?;
    let connected = tidegate_quic::connect(address, &url.host, (*config).clone()).await;
    connected.map_err(|error| match error {
        ConnectError::Usage(text) => ClientError::Usage(text),
        error => {
            let hint = match &error {
                // A TLS alert of unknown_ca (RFC 8446 section 6.2), as a code of QUIC.
                ConnectError::Connection(ConnectionError::TransportError(error))
                    if arguments.ca.is_none() && u64::from(error.code) == 0x130 =>
                {
                    OWN_CERTIFICATE
                }
                _ => "",
            };
            ClientError::Tls {
                url: url.to_string(),
                error: io::Error::other(error),
                hint,
            }
        }
    })
}

async fn tls(
    url: &ServerUrl,
    arguments: &TlsArguments,
    stream: TcpStream,
) -> Result<impl Transport + use<>, ClientError> {
    let config = tls_config(arguments)?;
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| ClientError::Usage(format!("{} cannot be a server's name", url.host)))?;
    let connector = TlsConnector::from(Arc::clone(&config));
    connector.connect(name, stream).await.map_err(|error| {
        let hint =
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(
                    rustls::CertificateError::UnknownIssuer,
                )) if arguments.ca.is_none() => OWN_CERTIFICATE,
                Some(rustls::Error::InvalidMessage(_)) => NO_TLS,
                // It has closed at the first bytes.
                None => NO_TLS,
                _ => "",
            };
        ClientError::Tls {
            url: url.to_string(),
            error,
            hint,
        }
    })
}

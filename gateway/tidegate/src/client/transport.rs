//! How bytes reach the gateway. Every scheme ends in a byte stream; what runs over it does not know
//! which one it is.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connection::ANSWER;
use super::error::ClientError;
use super::options::{ConnectArguments, TlsArguments};
use super::url::ServerUrl;
use super::websocket;

/// What a handshake that does not begin may mean.
const NO_TLS: &str = "; perhaps this port does not speak TLS";

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
    let unreachable = |error| ClientError::Unreachable {
        url: url.to_string(),
        error,
    };
    let address = (url.host.as_str(), url.port);
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

async fn tls(
    url: &ServerUrl,
    arguments: &TlsArguments,
    stream: TcpStream,
) -> Result<impl Transport + use<>, ClientError> {
    let certificate = arguments.cert.as_deref().zip(arguments.key.as_deref());
    let config =
        tidegate_tls::client::config(arguments.ca.as_deref(), certificate, arguments.insecure)
            .map_err(|error| ClientError::Usage(error.to_string()))?;
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| ClientError::Usage(format!("{} cannot be a server's name", url.host)))?;
    let connector = TlsConnector::from(Arc::clone(&config));
    connector.connect(name, stream).await.map_err(|error| {
        let hint = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(
                rustls::CertificateError::UnknownIssuer,
            )) if arguments.ca.is_none() => {
                "; for a gateway's own certificate give --ca what `tidegate cert export` writes there"
            }
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

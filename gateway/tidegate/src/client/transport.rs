//! How bytes reach the gateway. Every scheme ends in a byte stream; what runs over it does not know
//! which one it is.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tidegate_quic::{ConnectError, ConnectionError, EarlyData};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connection::ANSWER;
use super::error::ClientError;
use super::options::{ConnectArguments, TlsArguments};
use super::race::race;
use super::scheme::{CoapScheme, Scheme};
use super::streams::TwoStreams;
use super::websocket;

/// What a handshake that does not begin may mean.
const NO_TLS: &str = "; perhaps this port does not speak TLS";

/// What to do about a certificate that the gateway has made itself.
pub(super) const OWN_CERTIFICATE: &str =
    "; for a gateway's own certificate give --ca what `tidegate cert export` writes there";

/// A byte stream in both directions.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Opens streams to one gateway. TLS sessions are kept in it, for the next stream to go on with.
pub(crate) struct Dialer<'a> {
    arguments: &'a ConnectArguments,
    security: Security,
}

enum Security {
    None,
    Tls(Arc<rustls::ClientConfig>),
    Quic(Box<tidegate_quic::Dialer>),
}

impl<'a> Dialer<'a> {
    /// What the URL's scheme asks for.
    pub(crate) fn new(arguments: &'a ConnectArguments) -> Result<Self, ClientError> {
        check(arguments)?;
        let asked = arguments.url.scheme;
        let security = if asked.is_quic() {
            let config = tls_config(&arguments.tls)?;
            let dialer = tidegate_quic::Dialer::new((*config).clone(), arguments.early_data);
            let dialer = dialer.map_err(|error| ClientError::Usage(error.to_string()))?;
            Security::Quic(Box::new(dialer))
        } else if asked.has_tls() {
            let mut config = tls_config(&arguments.tls)?;
            if matches!(asked, Scheme::Coap(_)) {
                // RFC 8323 section 8.2
                Arc::make_mut(&mut config).alpn_protocols = vec![b"coap".to_vec()];
            }
            Security::Tls(config)
        } else {
            Security::None
        };
        Ok(Self {
            arguments,
            security,
        })
    }

    /// Opens the stream. `first` is what will be said first; with early data it was said, and is empty then.
    pub(crate) async fn open(
        &self,
        first: &mut Vec<u8>,
    ) -> Result<Box<dyn Transport>, ClientError> {
        let dialled = dial(self.arguments, &self.security, first);
        match timeout(ANSWER, dialled).await {
            Ok(opened) => opened,
            Err(_elapsed) => Err(ClientError::Silent("the attempt to connect")),
        }
    }
}

/// Refuses options that the URL's scheme has no use for.
pub(crate) fn check(arguments: &ConnectArguments) -> Result<(), ClientError> {
    let scheme = arguments.url.scheme;
    let coap = match scheme {
        Scheme::Coap(scheme) => Some(scheme),
        Scheme::Mqtt(_) => None,
    };
    let is_datagram = coap.is_some_and(CoapScheme::is_udp);
    for (is_given, is_meant, text) in [
        (
            arguments.tls.is_given(),
            scheme.has_tls(),
            "--ca, --cert, --key and --insecure are for TLS",
        ),
        (
            arguments.early_data,
            scheme.is_quic(),
            "--early-data is for QUIC",
        ),
        (
            arguments.data_stream,
            scheme.is_quic(),
            "--data-stream is for QUIC",
        ),
        (
            arguments.coap.ack_timeout.is_some(),
            is_datagram,
            "--ack-timeout is for CoAP over UDP and DTLS",
        ),
        (
            arguments.coap.psk_file.is_some(),
            coap == Some(CoapScheme::Coaps),
            "--psk-file is for coaps",
        ),
    ] {
        if is_given && !is_meant {
            let name = scheme.name();
            return Err(ClientError::Usage(format!("{text}; the URL says {name}")));
        }
    }
    Ok(())
}

async fn dial(
    arguments: &ConnectArguments,
    security: &Security,
    first: &mut Vec<u8>,
) -> Result<Box<dyn Transport>, ClientError> {
    let url = &arguments.url;
    let unreachable = |error| ClientError::Unreachable {
        url: url.to_string(),
        error,
    };
    let address = (url.host.as_str(), url.port);
    if let Security::Quic(dialer) = security {
        let found = lookup_host(address).await.map_err(unreachable)?;
        let addresses: Vec<SocketAddr> = found.collect();
        let control = quic(arguments, dialer, &addresses, first).await?;
        if !arguments.data_stream {
            return Ok(Box::new(control));
        }
        let data = control.open_data().await.map_err(unreachable)?;
        return Ok(Box::new(TwoStreams::new(control, data)));
    }
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    match (security, url.scheme.has_websocket()) {
        (Security::Tls(config), false) => Ok(Box::new(tls(arguments, config, stream).await?)),
        (Security::Tls(config), true) => {
            let stream = tls(arguments, config, stream).await?;
            websocket::open(url, stream).await
        }
        (_, true) => websocket::open(url, stream).await,
        (_, false) => Ok(Box::new(stream)),
    }
}

fn tls_config(arguments: &TlsArguments) -> Result<Arc<rustls::ClientConfig>, ClientError> {
    let certificate = arguments.cert.as_deref().zip(arguments.key.as_deref());
    tidegate_tls::client::config(arguments.ca.as_deref(), certificate, arguments.insecure)
        .map_err(|error| ClientError::Usage(error.to_string()))
}

async fn quic(
    arguments: &ConnectArguments,
    dialer: &tidegate_quic::Dialer,
    addresses: &[SocketAddr],
    first: &mut Vec<u8>,
) -> Result<tidegate_quic::ClientStream, ClientError> {
    let ConnectArguments { url, tls, .. } = arguments;
    let connected = async {
        let address = match addresses {
            // What is said early must not be said to two.
            [only] if arguments.early_data => *only,
            several => {
                let connect = |address| dialer.connect(address, &url.host);
                match race(several, connect).await? {
                    Ok((address, _)) if arguments.early_data => address,
                    Ok((_, stream)) => return Some(Ok((None, stream))),
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        let connected = dialer.connect_early(address, &url.host, first).await;
        Some(connected.map(|(stream, early)| (Some(early), stream)))
    };
    let Some(connected) = connected.await else {
        return Err(ClientError::Unreachable {
            url: url.to_string(),
            error: io::Error::new(ErrorKind::NotFound, "the name has no address"),
        });
    };
    let connected = connected.map(|(early, stream)| {
        if let Some(early) = early {
            first.clear();
            if arguments.debug {
                eprintln!("{}", describe(early));
            }
        }
        stream
    });
    connected.map_err(|error| match error {
        ConnectError::Usage(text) => ClientError::Usage(text),
        error => {
            let hint = match &error {
                // A TLS alert of unknown_ca (RFC 8446 section 6.2), as a code of QUIC.
                ConnectError::Connection(ConnectionError::TransportError(error))
                    if tls.ca.is_none() && u64::from(error.code) == 0x130 =>
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

const fn describe(early: EarlyData) -> &'static str {
    match early {
        EarlyData::Accepted => "CONNECT was sent as early data and accepted",
        EarlyData::Refused => "CONNECT was sent as early data, refused, and sent again",
        EarlyData::None => "the gateway gives no session for early data",
    }
}

/// Whose name the certificate must have.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, ClientError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| ClientError::Usage(format!("{host} cannot be a server's name")))
}

async fn tls(
    arguments: &ConnectArguments,
    config: &Arc<rustls::ClientConfig>,
    stream: TcpStream,
) -> Result<impl Transport + use<>, ClientError> {
    let ConnectArguments { url, tls, .. } = arguments;
    let name = server_name(&url.host)?;
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name, stream).await.map_err(|error| {
        let hint =
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(
                    rustls::CertificateError::UnknownIssuer,
                )) if tls.ca.is_none() => OWN_CERTIFICATE,
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

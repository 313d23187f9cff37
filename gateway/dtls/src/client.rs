//! DTLS for the gateway's own test clients: a sans-I/O client of the crate `dimpl`, which checks no certificates; that is
//! done here.
//!
//! Of the server's certificates the engine hands on the first, so the authority that is trusted must have issued that
//! one. A server that asks for a certificate and is given none is shown one that means nothing, because the engine has no
//! empty one in DTLS 1.2.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dimpl::{Config, Dtls, DtlsCertificate, PskResolver};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tidegate_tls::CertificateFiles;
use tidegate_tls::client::{ClientConfigError, throwaway, verifier};

use crate::credentials::Pair;
use crate::{LoadError, PskKeys};

/// Bytes of a datagram: what every path of IPv6 takes (RFC 8200 section 5), without the headers of IP and UDP.
const MTU: usize = 1280 - 48;

/// Bytes that the engine may have to say at once.
const BUFFER: usize = 1 << 15;

/// What a client shows, and whom it trusts.
pub struct ClientConfig {
    engine: Arc<Config>,
    method: Method,
}

enum Method {
    Psk,
    Certificate {
        own: DtlsCertificate,
        verifier: Arc<dyn ServerCertVerifier>,
    },
}

/// Why a client's configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file is not good.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The authorities are not there.
    #[error(transparent)]
    Roots(#[from] ClientConfigError),
    /// The file of pre-shared keys has none for this identity.
    #[error("{path}: there is no key of the identity {identity} in it")]
    NoKey {
        /// The file.
        path: String,
        /// Who was looked for.
        identity: String,
    },
    /// The file has several keys, and nothing says which one is meant.
    #[error("{path}: there are several keys in it; say which identity is meant")]
    SeveralKeys {
        /// The file.
        path: String,
    },
    /// A certificate of its own could not be made, or the engine does not take what it was given.
    #[error("{0}")]
    Engine(String),
}

/// Why there is no session any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's certificate is not trusted.
    #[error("{0}")]
    Certificate(rustls::Error),
    /// The server refused, with an alert (RFC 8446 section 6).
    #[error("the server refused with the alert {0}")]
    Alert(Alert),
    /// The handshake took too long, or nobody answered.
    #[error("it was not answered in time")]
    Timeout,
    /// The server said goodbye.
    #[error("the server closed the session")]
    Closed,
    /// Anything else.
    #[error("{0}")]
    Engine(dimpl::Error),
}

/// The description of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert(pub u8);

impl Alert {
    /// Whether a server says this to a client whose pre-shared key, or its identity, it does not know (RFC 4279 section 2).
    #[must_use]
    pub const fn may_mean_the_key(self) -> bool {
        matches!(self.0, 20 | 51 | 115)
    }
}

impl std::fmt::Display for Alert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            20 => "bad_record_mac",
            40 => "handshake_failure",
            42 => "bad_certificate",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            other => return write!(f, "{other}"),
        };
        f.write_str(name)
    }
}

struct OneKey(Vec<u8>);

impl PskResolver for OneKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

impl ClientConfig {
    /// With the pre-shared key of `identity` in a file as a listener has one (see [`PskKeys::read`]); without an identity
    /// the only one in it. DTLS 1.2.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn psk(file: &Path, identity: Option<&str>) -> Result<Self, ConfigError> {
        let keys = PskKeys::read(file)?;
        let path = || file.display().to_string();
        let (identity, key) = match identity {
            Some(identity) => keys
                .find(identity.as_bytes())
                .ok_or_else(|| ConfigError::NoKey {
                    path: path(),
                    identity: identity.to_owned(),
                })?,
            None => keys
                .only()
                .ok_or_else(|| ConfigError::SeveralKeys { path: path() })?,
        };
        let resolver = Arc::new(OneKey(key.to_vec()));
        let engine = Config::builder()
            .with_psk_client(identity.as_bytes().to_vec(), resolver)
            .mtu(MTU);
        Ok(Self {
            engine: Arc::new(engine.build().map_err(engine_error)?),
            method: Method::Psk,
        })
    }

    /// With certificates: the server's must be issued by an authority in the PEM file `ca`; without it, by one that the
    /// system trusts; with `insecure`, by anybody. `own` is the client's, ECDSA with P-256 or P-384. DTLS 1.3 and 1.2.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn certificate(
        ca: Option<&Path>,
        own: Option<&CertificateFiles>,
        insecure: bool,
    ) -> Result<Self, ConfigError> {
        let verifier = verifier(ca, insecure)?;
        let own = match own {
            Some(files) => Pair::read(files)?.certificate,
            None => {
                let (certificate, private_key) =
                    throwaway().map_err(|error| ConfigError::Engine(error.to_string()))?;
                DtlsCertificate {
                    certificate,
                    private_key,
                }
            }
        };
        let engine = Config::builder().mtu(MTU);
        Ok(Self {
            engine: Arc::new(engine.build().map_err(engine_error)?),
            method: Method::Certificate { own, verifier },
        })
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where a function of the error is asked for"
)]
fn engine_error(error: dimpl::Error) -> ConfigError {
    ConfigError::Engine(error.to_string())
}

/// One session, and the handshake before it.
pub struct Client {
    dtls: Dtls,
    name: ServerName<'static>,
    verifier: Option<Arc<dyn ServerCertVerifier>>,
    /// Somebody who is trusted has the key: what was sent may be taken for the server's.
    is_verified: bool,
    is_connected: bool,
    due: Option<Instant>,
    buffer: Vec<u8>,
}

/// What a client has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// A datagram for the server.
    Transmit(Vec<u8>),
    /// The handshake is over: data may be sent.
    Connected,
    /// What the server said.
    Data(Vec<u8>),
}

impl Client {
    /// Begins a handshake with the server `name`.
    #[must_use]
    pub fn new(config: &ClientConfig, name: ServerName<'static>, now: Instant) -> Self {
        let engine = Arc::clone(&config.engine);
        let (mut dtls, verifier) = match &config.method {
            Method::Psk => (Dtls::new_12_psk(engine, now), None),
            Method::Certificate { own, verifier } => {
                let dtls = Dtls::new_auto(engine, own.clone(), now);
                (dtls, Some(Arc::clone(verifier)))
            }
        };
        dtls.set_active(true);
        Self {
            dtls,
            name,
            is_verified: verifier.is_none(),
            verifier,
            is_connected: false,
            due: Some(now),
            buffer: vec![0; BUFFER],
        }
    }

    /// Takes a datagram.
    ///
    /// # Errors
    ///
    /// Why there will be no session, or none any more.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) -> Result<(), ClientError> {
        self.dtls.handle_timeout(now).map_err(classified)?;
        self.dtls.handle_packet(datagram).map_err(classified)
    }

    /// Repeats what was lost.
    ///
    /// # Errors
    ///
    /// As [`Client::receive`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        self.dtls.handle_timeout(now).map_err(classified)
    }

    /// Sends data, once there is a session.
    ///
    /// # Errors
    ///
    /// As [`Client::receive`].
    pub fn send(&mut self, plaintext: &[u8]) -> Result<(), ClientError> {
        let sent = self.dtls.send_application_data(plaintext);
        sent.map(drop).map_err(classified)
    }

    /// Says goodbye, if there is anybody to say it to.
    ///
    /// # Errors
    ///
    /// As [`Client::receive`].
    pub fn close(&mut self) -> Result<(), ClientError> {
        self.dtls.close().map_err(classified)
    }

    /// When [`Client::handle_timeout`] is due; known when [`Client::poll`] has nothing more to say.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The next thing to do; `None`: to wait.
    ///
    /// # Errors
    ///
    /// As [`Client::receive`]. Nothing that the server said is handed on before it has shown who it is.
    pub fn poll(&mut self) -> Result<Option<ClientOutput>, ClientError> {
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                dimpl::Output::Packet(datagram) => {
                    return Ok(Some(ClientOutput::Transmit(datagram.to_vec())));
                }
                dimpl::Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                dimpl::Output::PeerCert(certificate) => {
                    if let Some(verifier) = &self.verifier {
                        let certificate = CertificateDer::from(certificate);
                        let (name, now) = (&self.name, UnixTime::now());
                        verifier
                            .verify_server_cert(&certificate, &[], name, &[], now)
                            .map_err(ClientError::Certificate)?;
                        self.is_verified = true;
                    }
                }
                dimpl::Output::Connected => {
                    if !self.is_verified {
                        let none = rustls::Error::NoCertificatesPresented;
                        return Err(ClientError::Certificate(none));
                    }
                    self.is_connected = true;
                    return Ok(Some(ClientOutput::Connected));
                }
                dimpl::Output::ApplicationData(data) if self.is_connected => {
                    return Ok(Some(ClientOutput::Data(data.to_vec())));
                }
                dimpl::Output::CloseNotify => return Err(ClientError::Closed),
                dimpl::Output::Timeout(due) => {
                    self.due = Some(due);
                    return Ok(None);
                }
                _ => {}
            }
        }
    }
}

fn classified(error: dimpl::Error) -> ClientError {
    match error {
        dimpl::Error::SecurityError(dimpl::SecurityError::FatalAlert { description }) => {
            ClientError::Alert(Alert(description))
        }
        dimpl::Error::Timeout(_) => ClientError::Timeout,
        dimpl::Error::ConnectionClosed => ClientError::Closed,
        error => ClientError::Engine(error),
    }
}

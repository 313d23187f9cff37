//! What an operator configures for TLS on a listener.

use std::path::PathBuf;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{LoadError, files, server_config};

/// TLS of one listener, as configured. Only paths: what the files hold may change at any time.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The certificates to choose from by server name (SNI); the first is shown when none fits.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients are asked for a certificate.
    pub client: ClientAuth,
    /// The oldest version spoken.
    pub min_version: MinVersion,
    /// Protocols to agree on (RFC 7301), best first. Empty: the extension is ignored. Otherwise a
    /// client that offers only others is refused, and one that offers none is welcome.
    pub alpn: Vec<Vec<u8>>,
    /// How a client may resume a session instead of a full handshake.
    pub resumption: Resumption,
}

/// How a client may resume an earlier session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumption {
    /// Not at all.
    Off,
    /// With a ticket, which the gateway does not remember.
    Tickets {
        /// Files of keys that several gateways share: the first one makes tickets, all are for reading
        /// them. Without any the gateway makes keys of its own and renews them by itself.
        keys: Vec<PathBuf>,
    },
    /// Once, by what the gateway remembers of it; then a client may send early data (0-RTT). Only for
    /// QUIC: nothing here reads early data over TCP.
    EarlyData {
        /// Sessions that are remembered at the most.
        sessions: usize,
    },
}

impl Resumption {
    /// The files of shared keys.
    #[must_use]
    pub fn ticket_keys(&self) -> &[PathBuf] {
        match self {
            Self::Tickets { keys } => keys,
            Self::Off | Self::EarlyData { .. } => &[],
        }
    }
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, then those of the authorities between it and the root.
    pub chain: PathBuf,
    /// The private key (PKCS #8, PKCS #1 or SEC 1), not encrypted.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// What is in the files now, for whoever does not speak TLS through `rustls`: the chain, at least one, and the
    /// key of its first certificate.
    ///
    /// # Errors
    ///
    /// What is wrong with which file; also if certificate and key are not a pair.
    pub fn read(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), LoadError> {
        let (chain, key) = (files::read(&self.chain)?, files::read(&self.key)?);
        let certified = server_config::certified_key(&self.chain, &chain, &self.key, &key)?;
        Ok((certified.cert, files::key(&self.key, &key)?))
    }
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients are not asked.
    None,
    /// Clients are asked; one that shows none is let in, one that shows a bad one is refused.
    Optional(ClientCa),
    /// Clients without a good certificate are refused.
    Required(ClientCa),
}

impl ClientAuth {
    /// The authorities, if clients are asked at all.
    #[must_use]
    pub fn ca(&self) -> Option<&ClientCa> {
        match self {
            Self::None => None,
            Self::Optional(ca) | Self::Required(ca) => Some(ca),
        }
    }
}

/// Who may issue certificates to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    /// The certificates of the authorities, PEM.
    pub ca: PathBuf,
    /// Their revocation lists, PEM. When given, every certificate of a client's chain below the root
    /// must be covered by a list that has not expired: a certificate whose status cannot be told is
    /// refused.
    pub crl: Option<PathBuf>,
}

/// The oldest TLS version a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

//! Who is at the other end, once the handshake is over.

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, ProtocolVersion};

use crate::x509::Facts;

/// What the handshake told about the client.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its certificate, if it was asked for one and showed it. It has been checked.
    pub certificate: Option<ClientCertificate>,
    /// The server name it asked for, lower case. Chosen by the client: not a proof of anything.
    pub server_name: Option<String>,
    /// The version agreed on.
    pub version: ProtocolVersion,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// A client's certificate in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's common name, if there is exactly one and it holds no control character.
    pub common_name: Option<String>,
    /// The whole subject, for people.
    pub subject: String,
    /// The alternative names, with their kind: `DNS:example.org`, `URI:urn:device:7`.
    pub sans: Vec<String>,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
}

impl Peer {
    /// The error is a certificate that passed its checks and cannot be read.
    pub(crate) fn of(
        connection: &CommonState,
        server_name: Option<String>,
        resumed: bool,
    ) -> Result<Self, rustls::Error> {
        let certificate = connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .map(ClientCertificate::read)
            .transpose()?;
        Ok(Self {
            certificate,
            server_name,
            version: connection
                .protocol_version()
                .unwrap_or(ProtocolVersion::Unknown(0)),
            resumed,
        })
    }
}

impl ClientCertificate {
    /// What a certificate says that was checked.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let facts = Facts::read(der).map_err(|_| {
            rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding)
        })?;
        Ok(facts.into())
    }
}

impl From<Facts> for ClientCertificate {
    fn from(facts: Facts) -> Self {
        Self {
            common_name: facts.common_name,
            subject: facts.subject,
            sans: facts.names.iter().map(ToString::to_string).collect(),
            fingerprint: facts.fingerprint,
        }
    }
}

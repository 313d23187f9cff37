//! What a TLS client of the tests trusts and shows.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ALL_VERSIONS, AlertDescription, ClientConfig, RootCertStore, SupportedProtocolVersion,
};

use crate::certificates::Identity;
use crate::server::Server;
use crate::wire::{PATIENCE, Stream};

/// A TLS client in the making.
#[derive(Clone)]
pub struct TlsClient {
    roots: String,
    identity: Option<Identity>,
    versions: Vec<&'static SupportedProtocolVersion>,
    resumption: bool,
}

impl TlsClient {
    /// Restricts a client to one version of TLS, each in turn.
    pub const ONLY: [fn(Self) -> Self; 2] = [Self::only_1_2, Self::only_1_3];

    /// Trusts the authorities of this PEM and speaks every version; resumes nothing.
    #[must_use]
    pub fn trusting(roots: &str) -> Self {
        Self {
            roots: roots.to_owned(),
            identity: None,
            versions: ALL_VERSIONS.to_vec(),
            resumption: false,
        }
    }

    /// Trusts the authorities of a PEM file.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    #[must_use]
    #[track_caller]
    pub fn trusting_file(file: &Path) -> Self {
        let roots = fs::read_to_string(file);
        let roots = roots.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self::trusting(&roots)
    }

    /// Shows this certificate when it is asked for one.
    #[must_use]
    pub fn showing(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Speaks TLS 1.2 only.
    #[must_use]
    pub fn only_1_2(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    /// Speaks TLS 1.3 only.
    #[must_use]
    pub fn only_1_3(mut self) -> Self {
        self.versions = vec![&TLS13];
        self
    }

    /// Resumes sessions.
    #[must_use]
    pub fn resuming(mut self) -> Self {
        self.resumption = true;
        self
    }

    /// The configuration for rustls, with a provider of its own: the process has no default one.
    ///
    /// # Panics
    ///
    /// If the PEM holds no certificate, or a certificate and its key do not fit.
    #[must_use]
    #[track_caller]
    pub fn build(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.roots) {
            roots
                .add(certificate)
                .unwrap_or_else(|error| panic!("not an authority: {error}"));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap_or_else(|error| panic!("versions: {error}"))
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity {
                certificate, key, ..
            }) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .unwrap_or_else(|error| panic!("key: {error}"));
                builder
                    .with_client_auth_cert(certificates(certificate), key)
                    .unwrap_or_else(|error| panic!("client certificate: {error}"))
            }
        };
        if !self.resumption {
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }
}

#[track_caller]
fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.unwrap_or_else(|error| panic!("certificates: {error}"));
    assert!(!found.is_empty(), "no certificate in {pem:?}");
    found
}

/// The alert with which the server ends a handshake, which in TLS 1.3 may come after the client is done.
///
/// # Panics
///
/// If there is none.
#[must_use]
#[track_caller]
pub fn alert(server: &Server) -> AlertDescription {
    let read = |mut stream: Stream| stream.read(&mut [0; 64], PATIENCE);
    let error = match server.connect().and_then(read) {
        Ok(length) => panic!("an alert expected, {length} bytes came"),
        Err(error) => error,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("an alert expected: {error}"),
    }
}

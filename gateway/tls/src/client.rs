//! TLS for the gateway's own test clients.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::x509;
use crate::{LoadError, files, provider, server_config};

/// Why a client's configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// A file of the caller's is not good.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No CA was given and the system has none that can be used.
    #[error("the system has no certificates of authorities that can be used ({0})")]
    NoSystemRoots(String),
}

/// A client's configuration.
///
/// The server must show a certificate of the authorities in the PEM file `ca`; without it, of those the
/// system trusts; with `insecure`, of anybody, which protects from listeners and not from impostors.
/// `certificate` is the client's own chain and key.
///
/// # Errors
///
/// What is wrong with which file.
pub fn config(
    ca: Option<&Path>,
    certificate: Option<(&Path, &Path)>,
    insecure: bool,
) -> Result<Arc<ClientConfig>, ClientConfigError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(LoadError::from)?;
    let builder = if insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
    } else {
        let roots = match ca {
            Some(path) => roots_of(path)?,
            None => system_roots()?,
        };
        builder.with_root_certificates(roots)
    };
    let config = match certificate {
        Some((chain, key)) => {
            let own =
                server_config::certified_key(chain, &files::read(chain)?, key, &files::read(key)?)?;
            let own = rustls::sign::SingleCertAndKey::from(own);
            builder.with_client_cert_resolver(Arc::new(own))
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Who says whether a server's certificate is good, as in [`config`]; for DTLS, whose engine does not ask by itself.
///
/// # Errors
///
/// What is wrong with the file.
pub fn verifier(
    ca: Option<&Path>,
    insecure: bool,
) -> Result<Arc<dyn ServerCertVerifier>, ClientConfigError> {
    if insecure {
        return Ok(Arc::new(AnyServer));
    }
    let roots = match ca {
        Some(path) => roots_of(path)?,
        None => system_roots()?,
    };
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    // There are roots, and nothing else can be wrong.
    let verifier = builder
        .build()
        .map_err(|error| ClientConfigError::NoSystemRoots(error.to_string()))?;
    Ok(verifier)
}

/// A certificate that means nothing and its key (PKCS #8), both DER: for an engine that has to be given one.
///
/// # Errors
///
/// The system has no randomness.
pub fn throwaway() -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(Vec::new())?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

fn roots_of(path: &Path) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(path, &files::read(path)?)? {
        let outdated = x509::outdated(&certificate);
        roots
            .add(certificate)
            .map_err(|error| LoadError::Certificate {
                path: path.to_owned(),
                reason: outdated.unwrap_or_else(|| error.to_string()),
            })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ClientConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that rustls does not take; the others are enough.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found
            .errors
            .first()
            .map_or("none found".to_owned(), ToString::to_string);
        return Err(ClientConfigError::NoSystemRoots(reason));
    }
    Ok(roots)
}

/// Believes every certificate. That the server has its key is still checked.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

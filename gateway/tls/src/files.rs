//! PEM files, read whole and within a limit, and the DER in them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::LoadError;

/// Revocation lists of large authorities have megabytes; nothing honest has more than this.
const LIMIT: u64 = 32 * 1024 * 1024;

/// The whole file, if it is a regular one and not larger than any that has to do with certificates or keys.
///
/// # Errors
///
/// What is wrong with the file.
pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |error: io::Error| LoadError::Read {
        path: path.to_owned(),
        error,
    };
    // Asked before opening: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(LoadError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
            limit: LIMIT,
        });
    }
    Ok(bytes)
}

/// Whether users other than the owner may read the file.
#[must_use]
pub fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// All certificates of the file; at least one.
pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    all(path, pem, "certificate (-----BEGIN CERTIFICATE-----)")
}

/// All revocation lists of the file; at least one.
pub(crate) fn crls(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    all(path, pem, "revocation list (-----BEGIN X509 CRL-----)")
}

/// The first private key of the file.
pub(crate) fn key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, LoadError> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(missing(
            path,
            pem,
            "private key (-----BEGIN PRIVATE KEY-----)",
        )),
        Err(error) => Err(broken(path, &error)),
    }
}

fn all<T: PemObject>(path: &Path, pem: &[u8], wanted: &'static str) -> Result<Vec<T>, LoadError> {
    let items = T::pem_slice_iter(pem)
        .collect::<Result<Vec<T>, _>>()
        .map_err(|error| broken(path, &error))?;
    if items.is_empty() {
        return Err(missing(path, pem, wanted));
    }
    Ok(items)
}

fn broken(path: &Path, error: &pem::Error) -> LoadError {
    LoadError::Pem {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn missing(path: &Path, pem: &[u8], wanted: &'static str) -> LoadError {
    let contains = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    let hint = if pem.is_empty() {
        Some("it is empty")
    } else if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
        Some("a key in it is encrypted; it must be stored without a passphrase")
    } else if pem.first() == Some(&0x30) {
        Some("it looks like DER; convert it to PEM")
    } else {
        None
    };
    LoadError::Missing {
        path: path.to_owned(),
        wanted,
        hint,
    }
}

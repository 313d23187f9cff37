//! What an identity shows to operators: certificates, expiry, the last reload.

use std::path::Path;
use std::time::SystemTime;

use crate::server_config::{self, Contents};
use crate::x509::{Facts, Name};
use crate::{LoadError, Settings, files};

/// The state of a listener's certificates.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The certificates in use, in the order of the settings.
    pub certificates: Vec<CertificateStatus>,
    /// The subjects of the authorities whose clients are accepted.
    pub client_ca_subjects: Vec<String>,
    /// When the first of the revocation lists expires. From then on clients are refused.
    pub crl_next_update: Option<SystemTime>,
    /// What works and should not stay as it is, such as a certificate that has expired: as of the last
    /// look, which a [`crate::Watcher`] takes every minute. Each is half a sentence that begins with the file's name.
    pub warnings: Vec<String>,
    /// Why the files as they are now are not in use. The certificates are then older than the files.
    pub last_error: Option<String>,
    /// How many times changed files were taken into use.
    pub reloads_succeeded: u64,
    /// How many times changed files were not good.
    pub reloads_failed: u64,
}

impl Status {
    /// What a listener of these settings would have in use, without one: to show it, or to say
    /// beforehand what is wrong. Without a certificate in the settings the rest is checked all the same.
    /// Nothing is made and nothing goes to the log.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn read(settings: &Settings) -> Result<Self, LoadError> {
        server_config::status(settings, &Contents::read(settings)?)
    }
}

/// One certificate in use.
#[derive(Debug, Clone)]
pub struct CertificateStatus {
    /// Its common name, or its first alternative name.
    pub subject: String,
    /// Its alternative names, with their kind: `DNS:example.org`, `IP:127.0.0.1`.
    pub sans: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// Not good before.
    pub not_before: SystemTime,
    /// Not good after.
    pub not_after: SystemTime,
}

impl CertificateStatus {
    /// All certificates of a PEM file, to show them. Says nothing about whether they are in use.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn read(path: &Path) -> Result<Vec<Self>, LoadError> {
        files::certificates(path, &files::read(path)?)?
            .iter()
            .map(|der| {
                let facts = Facts::read(der);
                facts
                    .map(Self::from)
                    .map_err(|reason| LoadError::Certificate {
                        path: path.to_owned(),
                        reason,
                    })
            })
            .collect()
    }
}

impl From<Facts> for CertificateStatus {
    fn from(facts: Facts) -> Self {
        let subject = facts
            .common_name
            .or_else(|| facts.names.first().map(Name::value))
            .unwrap_or(facts.subject);
        Self {
            subject,
            sans: facts.names.iter().map(ToString::to_string).collect(),
            issuer: facts.issuer,
            serial: facts.serial,
            fingerprint: facts.fingerprint,
            not_before: facts.not_before,
            not_after: facts.not_after,
        }
    }
}

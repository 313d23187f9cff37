//! The certificate that the gateway makes for itself at the first start, so that TLS works before
//! anybody has configured it: a local authority (CA) and a certificate for this machine.
//!
//! `ca.crt`, `ca.key`, `localhost.crt` (the certificate, then the CA's) and `localhost.key` in one
//! directory. The CA is for this machine only and says so itself: its name constraints (RFC 5280,
//! 4.2.1.10) permit nothing but `localhost`, the host's name, 127.0.0.0/8 and ::1, so whoever trusts it
//! is not exposed to anything else it might sign.
//!
//! It stays until it expires, whatever becomes of the host's name: a container has another at each
//! start, and its clients have only this CA to know it by. A name that it may not vouch for is left out
//! of the certificate.
//!
//! What it is not: a CA to issue certificates to devices, or anything to be reached from elsewhere.

mod issue;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;

use crate::x509::Facts;
use crate::{CertificateFiles, files, server_config};
use issue::{Authority, Issued};
use store::Store;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Renewed when less than this remains.
const MARGIN: Duration = DAY.saturating_mul(30);

/// Where the local certificates are: made by [`LocalCertificates::ensure`], or only looked for by
/// [`LocalCertificates::find`].
#[derive(Debug, Clone)]
pub struct LocalCertificates {
    directory: PathBuf,
}

/// Why there are no local certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A file or the directory could not be read, made or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why. Part of the text, and for that reason not the error's source as well.
        error: io::Error,
    },
    /// A file of the CA is there and is not what the gateway has put there. Overwriting it might
    /// destroy what somebody needs.
    #[error(
        "{path}: {reason}; put the right file back, or remove ca.crt and ca.key to have the \
         gateway make a new CA, which clients then have to trust"
    )]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Issue(rcgen::Error),
}

impl From<rcgen::Error> for LocalError {
    fn from(error: rcgen::Error) -> Self {
        Self::Issue(error)
    }
}

impl LocalCertificates {
    /// Makes what is missing, damaged, about to expire or for another host. Does nothing if all is
    /// well. Of several processes that do this at the same time one works and the others wait.
    ///
    /// A host name that is no DNS name is left out. So is one that the CA may not vouch for, and the
    /// log says what to do. The CA itself is replaced only when it is about to expire, and the log says
    /// that clients must trust the new one.
    ///
    /// # Errors
    ///
    /// What could not be done with which file.
    pub fn ensure(directory: &Path, host_name: &str, now: SystemTime) -> Result<Self, LocalError> {
        let certificates = Self {
            directory: directory.to_owned(),
        };
        let host_name = issue::host_name(host_name);
        let (authority, _) = certificates.renew(host_name.as_deref(), now)?;
        if let Some(host_name) = host_name
            && !authority.permits(&host_name)
        {
            tracing::warn!(
                host_name,
                ca = %certificates.ca().display(),
                "The host's name is not in the local certificate: the local CA was made for another \
                 name and may not vouch for this one. Configure a certificate, or remove ca.crt and \
                 ca.key and start again to have a CA for this name made, which clients then have to \
                 trust."
            );
        }
        Ok(certificates)
    }

    /// Those of the directory, if they have been made. Makes and changes nothing.
    ///
    /// # Errors
    ///
    /// Whether they are there cannot be told.
    pub fn find(directory: &Path) -> Result<Option<Self>, LocalError> {
        let certificates = Self {
            directory: directory.to_owned(),
        };
        for path in [certificates.ca(), certificates.certificate()] {
            match path.try_exists() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => return Err(LocalError::Io { path, error }),
            }
        }
        Ok(Some(certificates))
    }

    /// The same as [`LocalCertificates::ensure`] later on: to be called once a day. Returns whether
    /// the certificate was renewed; a [`crate::Watcher`] sees that by itself. Blocks.
    ///
    /// # Errors
    ///
    /// What could not be done with which file.
    pub fn renew_if_due(&self, host_name: &str, now: SystemTime) -> Result<bool, LocalError> {
        let host_name = issue::host_name(host_name);
        let (_, renewed) = self.renew(host_name.as_deref(), now)?;
        Ok(renewed)
    }

    /// The CA as it is now, and whether the certificate was renewed.
    fn renew(
        &self,
        host_name: Option<&str>,
        now: SystemTime,
    ) -> Result<(Authority, bool), LocalError> {
        let store = Store::open(&self.directory)?;
        let authority = match Authority::load(&store)? {
            // One from the future was made before the clock went wrong.
            Some(authority) if authority.not_after > now + MARGIN => authority,
            existing => self.make_authority(&store, existing.is_some(), host_name, now)?,
        };
        let authority_key = store.path("ca.key");
        if files::is_open_to_others(&authority_key) {
            tracing::warn!(
                file = %authority_key.display(),
                "The local CA's key can be read by other users, who could pose as this gateway to \
                 whoever trusts the CA; its mode should be 0600."
            );
        }
        // What the CA may not vouch for would make clients refuse the whole certificate.
        let host_name = host_name.filter(|name| authority.permits(name));
        let Some(reason) = self.reason_to_issue(&store, &authority, host_name, now)? else {
            return Ok((authority, false));
        };
        let Issued { chain, key } = issue::leaf(&store, &authority, host_name, now)?;
        // Key first: whoever reads in between sees a pair that does not match and looks again; with
        // the certificate first there would be a moment in which it seems to have been renewed.
        store.put("localhost.key", key.as_bytes(), true)?;
        store.put("localhost.crt", chain.as_bytes(), false)?;
        tracing::info!(
            file = %self.certificate().display(),
            reason,
            "The local certificate was made."
        );
        Ok((authority, true))
    }

    /// The certificate of the CA: what clients have to trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// The certificate, followed by the CA's.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("localhost.crt")
    }

    /// The certificate's key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.join("localhost.key")
    }

    /// Certificate and key for [`crate::Settings`].
    #[must_use]
    pub fn files(&self) -> CertificateFiles {
        CertificateFiles {
            chain: self.certificate(),
            key: self.key(),
        }
    }

    fn make_authority(
        &self,
        store: &Store,
        replaces: bool,
        host_name: Option<&str>,
        now: SystemTime,
    ) -> Result<Authority, LocalError> {
        // If only the certificate is missing, the key is kept.
        let key = match store.get("ca.key")? {
            Some(pem) if !replaces => issue::parse_key(store, &pem)?,
            _ => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        };
        // In this order, so that after a crash in between there is a key without a certificate, which
        // is put right above, and never the certificate of another key.
        store.remove("ca.crt")?;
        store.put("ca.key", key.serialize_pem().as_bytes(), true)?;
        let authority = Authority::make(key, host_name, now)?;
        store.put("ca.crt", authority.pem.as_bytes(), false)?;
        if replaces {
            tracing::warn!(
                file = %self.ca().display(),
                "The local CA was about to expire and was made anew: clients have to trust the new \
                 one."
            );
        } else {
            tracing::info!(
                file = %self.ca().display(),
                "A local CA was made: clients that shall trust this gateway need this file."
            );
        }
        Ok(authority)
    }

    /// Why a new certificate is needed, if one is.
    fn reason_to_issue(
        &self,
        store: &Store,
        authority: &Authority,
        host_name: Option<&str>,
        now: SystemTime,
    ) -> Result<Option<&'static str>, LocalError> {
        let (Some(chain), Some(key)) = (store.get("localhost.crt")?, store.get("localhost.key")?)
        else {
            return Ok(Some("there was none"));
        };
        let Ok(pair) = server_config::certified_key(&self.certificate(), &chain, &self.key(), &key)
        else {
            return Ok(Some("the one there was damaged"));
        };
        let [leaf, ca] = pair.cert.as_slice() else {
            return Ok(Some("the one there was damaged"));
        };
        let Ok(facts) = Facts::read(leaf) else {
            return Ok(Some("the one there was damaged"));
        };
        if ca != &authority.der {
            return Ok(Some("the CA is another"));
        }
        if facts.not_after < now + MARGIN {
            return Ok(Some("the one there was about to expire"));
        }
        if facts.names != issue::names(host_name) {
            return Ok(Some("the one there was for another host"));
        }
        Ok(None)
    }
}

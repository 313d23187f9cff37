//! The certificate that the gateway makes for itself at the first start, so that TLS works before
//! anybody has configured it: a local authority (CA) and a certificate for this machine.
//!
//! `ca.crt`, `ca.key`, `localhost.crt` (the certificate, then the CA's) and `localhost.key` in one
//! directory. The CA is for this machine only and says so itself: its name constraints (RFC 5280,
//! 4.2.1.10) permit nothing but `localhost`, the host's name, 127.0.0.0/8 and ::1, so whoever trusts it
//! is not exposed to anything else it might sign.
//!
//! What it is not: a CA to issue certificates to devices, or anything to be reached from elsewhere.

mod issue;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;

use crate::x509::{Facts, Name};
use crate::{CertificateFiles, server_config};
use issue::{Authority, Issued};
use store::Store;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Renewed when less than this remains.
const MARGIN: Duration = DAY.saturating_mul(30);

/// Where the local certificates are. Made by [`LocalCertificates::ensure`].
#[derive(Debug, Clone)]
pub struct LocalCertificates {
    directory: PathBuf,
    host_name: Option<String>,
}

/// Why there are no local certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A file or the directory could not be read, made or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
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
    Issue(#[from] rcgen::Error),
}

impl LocalCertificates {
    /// Makes what is missing, damaged, about to expire or for another host. Does nothing if all is
    /// well. Of several processes that do this at the same time one works and the others wait.
    ///
    /// A host name that is no DNS name is left out. A CA that does not cover the host's name or is
    /// about to expire is replaced, and the log says that clients must trust the new one.
    ///
    /// # Errors
    ///
    /// What could not be done with which file.
    pub fn ensure(directory: &Path, host_name: &str, now: SystemTime) -> Result<Self, LocalError> {
        let certificates = Self {
            directory: directory.to_owned(),
            host_name: issue::host_name(host_name),
        };
        certificates.renew_if_due(now)?;
        Ok(certificates)
    }

    /// The same later on: to be called once a day. Returns whether the certificate was renewed; a
    /// [`crate::Watcher`] sees that by itself. Blocks.
    ///
    /// # Errors
    ///
    /// What could not be done with which file.
    pub fn renew_if_due(&self, now: SystemTime) -> Result<bool, LocalError> {
        let store = Store::open(&self.directory)?;
        let authority = match Authority::load(&store)? {
            Some(authority) if self.may_stay(&authority, now) => authority,
            existing => self.make_authority(&store, existing.is_some(), now)?,
        };
        let Some(reason) = self.reason_to_issue(&store, &authority, now)? else {
            return Ok(false);
        };
        let Issued { chain, key } =
            issue::leaf(&store, &authority, self.host_name.as_deref(), now)?;
        // Key first: whoever reads in between sees a pair that does not match and looks again; with
        // the certificate first there would be a moment in which it seems to have been renewed.
        store.put("localhost.key", key.as_bytes(), true)?;
        store.put("localhost.crt", chain.as_bytes(), false)?;
        tracing::info!(
            file = %self.certificate().display(),
            reason,
            "The local certificate was made."
        );
        Ok(true)
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

    fn may_stay(&self, authority: &Authority, now: SystemTime) -> bool {
        // A CA from the future is one that was made before the clock went wrong.
        let lasts = authority.not_after > now + MARGIN;
        let covers = self
            .host_name
            .as_ref()
            .is_none_or(|name| authority.permits(name));
        lasts && covers
    }

    fn make_authority(
        &self,
        store: &Store,
        replaces: bool,
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
        let authority = Authority::make(key, self.host_name.as_deref(), now)?;
        store.put("ca.crt", authority.pem.as_bytes(), false)?;
        if replaces {
            tracing::warn!(
                file = %self.ca().display(),
                "The local CA had expired or did not cover this host's name and was made anew: \
                 clients have to trust the new one."
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
        let wanted: Vec<Name> = issue::names(self.host_name.as_deref());
        if facts.names != wanted {
            return Ok(Some("the one there was for another host"));
        }
        Ok(None)
    }
}

//! What a server shows and what it asks for: pre-shared keys, a certificate, authorities of clients; always as the
//! files say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest;
use dimpl::DtlsCertificate;
use dimpl::crypto::{NamedGroup, cert_named_group};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tidegate_tls::{
    CertificateFiles, ClientAuth, Followed, Identity, MinVersion, Outcome, Resumption, Settings,
    Status, is_open_to_others, read_file,
};

use crate::callbacks;
use crate::{LoadError, PskKeys};

/// Where keys and certificates of a listener are.
#[derive(Debug, Clone)]
pub struct CredentialSettings {
    /// Pre-shared keys, if clients may use them.
    pub psk: Option<PskSource>,
    /// What clients with a pre-shared key are told so that they choose the identity (RFC 4279, 5.2).
    pub psk_hint: Option<String>,
    /// The certificate, if clients may ask for one. Only the first of its chain is sent.
    pub certificate: Option<CertificateFiles>,
    /// Whether clients that ask for the certificate must show one themselves. Not [`ClientAuth::Optional`].
    pub client: ClientAuth,
}

/// Where pre-shared keys come from.
#[derive(Debug, Clone)]
pub enum PskSource {
    /// They are these.
    Keys(PskKeys),
    /// They are in a file, one `identity:hexkey` a line, and change with it.
    File(PathBuf),
}

/// A listener's keys and certificates, shared by all servers that work for it.
///
/// Handshakes take one pointer and never wait. A change of the files is taken as a whole or, if anything is wrong with
/// it, not at all; what is established stays.
#[derive(Debug)]
pub struct Credentials {
    listener: String,
    settings: CredentialSettings,
    keys: Option<Arc<ArcSwap<PskKeys>>>,
    identity: Option<Arc<Identity>>,
    pair: ArcSwapOption<Pair>,
    reloads: Mutex<Reloads>,
}

/// What is remembered from one look at the files to the next, beyond what [`Identity`] does.
#[derive(Debug)]
struct Reloads {
    /// What was found in the file of pre-shared keys the last time anybody looked.
    seen: Seen,
    /// What worked then and should not stay as it is, beyond what TLS would say.
    warnings: Vec<String>,
    /// Why the keys as they are now are not in use.
    keys_error: Option<String>,
    /// Why a certificate that is good for TLS is not good for DTLS.
    pair_error: Option<String>,
    keys_succeeded: u64,
    keys_failed: u64,
    pairs_failed: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Digest(Vec<u8>),
    Unreadable(String),
    Nothing,
}

/// The server's certificate and key, and how it signs.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: DtlsCertificate,
    /// RFC 8446, 4.2.3.
    pub(crate) scheme: u16,
}

impl CredentialSettings {
    /// What a listener of these settings would say of the files, without one: what works and should not stay as it is.
    /// Without a certificate in the settings the rest is checked all the same. Nothing goes to the log.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn read(&self) -> Result<Vec<String>, LoadError> {
        self.check()?;
        if let Some(path) = self.psk_file() {
            PskKeys::read(path)?;
        }
        let mut warnings = Status::read(&self.tls())?.warnings;
        if let Some(files) = &self.certificate {
            Pair::read(files)?;
        }
        warnings.extend(self.warnings());
        Ok(warnings)
    }

    /// What is wrong whatever is in the files.
    fn check(&self) -> Result<(), LoadError> {
        if matches!(self.client, ClientAuth::Optional(_)) {
            return Err(LoadError::OptionalClientAuth);
        }
        if self.psk_hint.as_ref().is_some_and(|it| it.len() > 128) {
            return Err(LoadError::Hint);
        }
        Ok(())
    }

    /// The certificates as TLS would have them: it reads and checks them.
    fn tls(&self) -> Settings {
        Settings {
            certificates: self.certificate.iter().cloned().collect(),
            client: self.client.clone(),
            min_version: MinVersion::Tls12,
            alpn: Vec::new(),
            resumption: Resumption::Off,
        }
    }

    fn psk_file(&self) -> Option<&Path> {
        match &self.psk {
            Some(PskSource::File(path)) => Some(path),
            _ => None,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(path) = self.psk_file()
            && is_open_to_others(path)
        {
            let path = path.display();
            warnings.push(format!(
                "{path}: the pre-shared keys can be read by other users; its mode should be 0600"
            ));
        }
        // Who is to verify the certificate has the root anyway.
        if let Some(files) = &self.certificate
            && files
                .read()
                .is_ok_and(|(chain, _)| chain.iter().skip(1).any(|it| !is_root(it)))
        {
            let path = files.chain.display();
            warnings.push(format!(
                "{path}: DTLS clients are sent the first certificate only; they must know who issued it"
            ));
        }
        warnings
    }
}

impl Credentials {
    /// Reads the files for the first time. `listener` is the name for the log.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn load(listener: &str, settings: CredentialSettings) -> Result<Arc<Self>, LoadError> {
        settings.check()?;
        let mut seen = Seen::Nothing;
        let keys = match &settings.psk {
            None => None,
            Some(PskSource::Keys(keys)) => Some(keys.clone()),
            Some(PskSource::File(path)) => {
                let text = read_file(path)?;
                seen = Seen::of(&text);
                Some(PskKeys::parse(path, &text)?)
            }
        };
        let (identity, pair) = match &settings.certificate {
            None => (None, None),
            Some(files) => {
                // First, because what it says is more specific.
                let identity = Identity::load(listener, settings.tls())?;
                (Some(identity), Some(Arc::new(Pair::read(files)?)))
            }
        };
        if keys.is_none() && identity.is_none() {
            return Err(LoadError::NothingConfigured);
        }
        let warnings = settings.warnings();
        for warning in &warnings {
            warn_of(listener, warning);
        }
        Ok(Arc::new(Self {
            listener: listener.to_owned(),
            settings,
            keys: keys.map(|keys| Arc::new(ArcSwap::from_pointee(keys))),
            identity,
            pair: ArcSwapOption::new(pair),
            reloads: Mutex::new(Reloads {
                seen,
                warnings,
                keys_error: None,
                pair_error: None,
                keys_succeeded: 0,
                keys_failed: 0,
                pairs_failed: 0,
            }),
        }))
    }

    /// The listener's name.
    #[must_use]
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Certificates in use, expiry, what should not stay as it is, and reloads: of certificates and of keys together.
    #[must_use]
    pub fn status(&self) -> Status {
        let identity = self.identity.as_ref();
        let mut status = identity.map_or_else(Status::default, |identity| identity.status());
        let reloads = self.reloads.lock();
        status.warnings.extend(reloads.warnings.iter().cloned());
        // What TLS took and DTLS did not was not taken.
        status.reloads_succeeded += reloads.keys_succeeded;
        status.reloads_succeeded -= reloads.pairs_failed;
        status.reloads_failed += reloads.keys_failed + reloads.pairs_failed;
        let errors = [status.last_error.take()].into_iter();
        let errors = errors.chain([reloads.pair_error.clone(), reloads.keys_error.clone()]);
        let errors: Vec<String> = errors.flatten().collect();
        status.last_error = Some(errors.join("; ")).filter(|said| !said.is_empty());
        status
    }

    /// How many pre-shared keys there are.
    #[must_use]
    pub fn psk_len(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.load().len())
    }

    /// Reads all files again and takes what has changed into use if it is good. Blocks for as long as reading takes: not
    /// for asynchronous threads.
    pub fn check(&self) -> Outcome {
        let keys = self.check_keys();
        let certificate = self.check_certificate();
        let warnings = self.check_warnings();
        // The worst of them.
        [
            Outcome::Failed,
            Outcome::Replaced,
            Outcome::Warned,
            Outcome::Unchanged,
        ]
        .into_iter()
        .find(|outcome| [keys, certificate, warnings].contains(outcome))
        .unwrap_or(Outcome::Unchanged)
    }

    fn check_keys(&self) -> Outcome {
        let (Some(path), Some(keys)) = (self.settings.psk_file(), &self.keys) else {
            return Outcome::Unchanged;
        };
        let mut reloads = self.reloads.lock();
        let text = read_file(path);
        let now = match &text {
            Ok(text) => Seen::of(text),
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        if reloads.seen == now {
            return Outcome::Unchanged;
        }
        reloads.keys_error = None;
        reloads.seen = now;
        let read = text.map_err(LoadError::from);
        match read.and_then(|text| PskKeys::parse(path, &text)) {
            Ok(new) => {
                keys.store(Arc::new(new));
                reloads.keys_succeeded += 1;
                tracing::info!(
                    listener = self.listener,
                    "The listener's pre-shared keys have changed and are in use."
                );
                Outcome::Replaced
            }
            Err(error) => {
                self.complain(&error);
                reloads.keys_failed += 1;
                reloads.keys_error = Some(error.to_string());
                Outcome::Failed
            }
        }
    }

    fn check_certificate(&self) -> Outcome {
        let (Some(identity), Some(files)) = (&self.identity, &self.settings.certificate) else {
            return Outcome::Unchanged;
        };
        let outcome = identity.check();
        if outcome == Outcome::Replaced {
            let mut reloads = self.reloads.lock();
            reloads.pair_error = None;
            match Pair::read(files) {
                Ok(pair) => self.pair.store(Some(Arc::new(pair))),
                Err(error) => {
                    self.complain(&error);
                    reloads.pairs_failed += 1;
                    reloads.pair_error = Some(error.to_string());
                    return Outcome::Failed;
                }
            }
        }
        outcome
    }

    /// What is in use may be as it was; the modes of files are not always.
    fn check_warnings(&self) -> Outcome {
        let mut reloads = self.reloads.lock();
        let now = self.settings.warnings();
        if reloads.warnings == now {
            return Outcome::Unchanged;
        }
        let new = now.iter().filter(|it| !reloads.warnings.contains(it));
        new.for_each(|warning| warn_of(&self.listener, warning));
        reloads.warnings = now;
        Outcome::Warned
    }

    fn complain(&self, error: &LoadError) {
        tracing::error!(
            listener = self.listener,
            %error,
            "The listener's keys have changed and cannot be used; those from before stay in use."
        );
    }

    pub(crate) fn keys(&self) -> Option<&Arc<ArcSwap<PskKeys>>> {
        self.keys.as_ref()
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.settings.psk_hint.as_deref()
    }

    pub(crate) fn pair(&self) -> Option<Arc<Pair>> {
        self.pair.load_full()
    }

    pub(crate) fn asks_clients(&self) -> bool {
        self.settings.client != ClientAuth::None
    }

    /// Checks a client's certificate: who issued it, when, for what, and whether it was revoked.
    pub(crate) fn trusts(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        match &self.identity {
            Some(identity) => identity.still_trusts(Some(std::slice::from_ref(certificate))),
            None => Err(rustls::Error::NoCertificatesPresented),
        }
    }
}

/// So that a [`tidegate_tls::Watcher`] calls [`Credentials::check`] when a file has changed.
impl Followed for Credentials {
    fn paths(&self) -> Vec<PathBuf> {
        let tls = self.identity.as_deref().map(Followed::paths);
        let mut paths = tls.unwrap_or_default();
        paths.extend(self.settings.psk_file().map(Path::to_owned));
        paths
    }

    fn check(&self) -> Outcome {
        Self::check(self)
    }

    fn remind(&self) {
        if let Some(identity) = &self.identity {
            Followed::remind(&**identity);
        }
        let reloads = self.reloads.lock();
        for error in [&reloads.pair_error, &reloads.keys_error]
            .into_iter()
            .flatten()
        {
            tracing::error!(
                listener = self.listener,
                error,
                "The listener's keys still cannot be used; those from before stay in use."
            );
        }
    }
}

impl Seen {
    fn of(text: &[u8]) -> Self {
        Self::Digest(digest::digest(&digest::SHA256, text).as_ref().to_vec())
    }
}

impl Pair {
    pub(crate) fn read(files: &CertificateFiles) -> Result<Self, LoadError> {
        let (chain, key) = files.read()?;
        let kind = |found: String| LoadError::KeyKind {
            path: files.chain.clone(),
            found,
        };
        let certificate = chain.into_iter().next();
        let certificate = certificate.ok_or(LoadError::NothingConfigured)?;
        let scheme = match cert_named_group(&certificate) {
            Ok(NamedGroup::Secp256r1) => 0x0403,
            Ok(NamedGroup::Secp384r1) => 0x0503,
            Ok(_) | Err(_) => return Err(kind(algorithm(&certificate))),
        };
        let unusable = |reason: String| LoadError::Key {
            path: files.key.clone(),
            reason,
        };
        let key = key.secret_der().to_vec();
        // The engine takes for granted that this succeeds.
        callbacks::provider()
            .key_provider
            .load_private_key(&key)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            certificate: DtlsCertificate {
                certificate: certificate.to_vec(),
                private_key: key,
            },
            scheme,
        })
    }
}

fn warn_of(listener: &str, warning: &str) {
    tracing::warn!(listener, warning, "The listener's keys need attention.");
}

/// Whether a certificate was issued by its subject.
fn is_root(certificate: &[u8]) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, it)| it.subject().as_raw() == it.issuer().as_raw())
}

/// In words.
fn algorithm(certificate: &[u8]) -> String {
    use x509_parser::prelude::{FromDer, X509Certificate};
    use x509_parser::public_key::PublicKey;
    let parsed = X509Certificate::from_der(certificate);
    let key = parsed.as_ref().ok().map(|(_, it)| it.public_key().parsed());
    match key {
        Some(Ok(PublicKey::RSA(key))) => format!("RSA with {} bits", key.key_size()),
        Some(Ok(PublicKey::EC(_))) => "of another elliptic curve".to_owned(),
        _ => "of another kind".to_owned(),
    }
}

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
    is_open_to_others, read_file,
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
    /// Digest of what was found in the file of pre-shared keys the last time anybody looked.
    seen: Mutex<Seen>,
    /// Why what is in the files now is not in use.
    last_error: Mutex<Option<String>>,
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

impl Credentials {
    /// Reads the files for the first time. `listener` is the name for the log.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn load(listener: &str, settings: CredentialSettings) -> Result<Arc<Self>, LoadError> {
        if matches!(settings.client, ClientAuth::Optional(_)) {
            return Err(LoadError::OptionalClientAuth);
        }
        if settings.psk_hint.as_ref().is_some_and(|it| it.len() > 128) {
            return Err(LoadError::Hint);
        }
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
                let tls = Settings {
                    certificates: vec![files.clone()],
                    client: settings.client.clone(),
                    min_version: MinVersion::Tls12,
                    alpn: Vec::new(),
                    resumption: Resumption::Off,
                };
                // First, because what it says is more specific.
                let identity = Identity::load(listener, tls)?;
                (Some(identity), Some(Arc::new(Pair::read(files)?)))
            }
        };
        if keys.is_none() && identity.is_none() {
            return Err(LoadError::NothingConfigured);
        }
        let credentials = Self {
            listener: listener.to_owned(),
            settings,
            keys: keys.map(|keys| Arc::new(ArcSwap::from_pointee(keys))),
            identity,
            pair: ArcSwapOption::new(pair),
            seen: Mutex::new(seen),
            last_error: Mutex::default(),
        };
        for warning in credentials.warnings() {
            tracing::warn!(listener, warning, "The listener's keys need attention.");
        }
        Ok(Arc::new(credentials))
    }

    /// The listener's name.
    #[must_use]
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Certificates in use and whom they trust, if there are any: to tell about their expiry.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// How many pre-shared keys there are.
    #[must_use]
    pub fn psk_len(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.load().len())
    }

    fn psk_file(&self) -> Option<&Path> {
        match &self.settings.psk {
            Some(PskSource::File(path)) => Some(path),
            _ => None,
        }
    }

    /// What works and should not stay as it is, beyond what [`Identity::status`] says.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(path) = self.psk_file()
            && is_open_to_others(path)
        {
            let path = path.display();
            warnings.push(format!(
                "{path}: the pre-shared keys can be read by other users; its mode should be 0600"
            ));
        }
        if let Some(files) = &self.settings.certificate
            && files.read().is_ok_and(|(chain, _)| chain.len() > 1)
        {
            let path = files.chain.display();
            warnings.push(format!(
                "{path}: DTLS clients are sent the first certificate only; they must know who issued it"
            ));
        }
        warnings
    }

    /// Reads all files again and takes what has changed into use if it is good. Blocks for as long as reading takes: not
    /// for asynchronous threads.
    pub fn check(&self) -> Outcome {
        let keys = self.check_keys();
        let certificate = self.check_certificate();
        // The worse of the two.
        [
            Outcome::Failed,
            Outcome::Replaced,
            Outcome::Warned,
            Outcome::Unchanged,
        ]
        .into_iter()
        .find(|outcome| [keys, certificate].contains(outcome))
        .unwrap_or(Outcome::Unchanged)
    }

    fn check_keys(&self) -> Outcome {
        let (Some(path), Some(keys)) = (self.psk_file(), &self.keys) else {
            return Outcome::Unchanged;
        };
        let mut seen = self.seen.lock();
        let text = read_file(path);
        let now = match &text {
            Ok(text) => Seen::of(text),
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        if *seen == now {
            return Outcome::Unchanged;
        }
        *self.last_error.lock() = None;
        *seen = now;
        let read = text.map_err(LoadError::from);
        match read.and_then(|text| PskKeys::parse(path, &text)) {
            Ok(new) => {
                keys.store(Arc::new(new));
                tracing::info!(
                    listener = self.listener,
                    "The listener's pre-shared keys have changed and are in use."
                );
                Outcome::Replaced
            }
            Err(error) => {
                self.complain(&error);
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
            *self.last_error.lock() = None;
            match Pair::read(files) {
                Ok(pair) => self.pair.store(Some(Arc::new(pair))),
                Err(error) => {
                    self.complain(&error);
                    return Outcome::Failed;
                }
            }
        }
        outcome
    }

    fn complain(&self, error: &LoadError) {
        *self.last_error.lock() = Some(error.to_string());
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
        paths.extend(self.psk_file().map(Path::to_owned));
        paths
    }

    fn check(&self) -> Outcome {
        Self::check(self)
    }

    fn remind(&self) {
        if let Some(identity) = &self.identity {
            Followed::remind(&**identity);
        }
        if let Some(error) = &*self.last_error.lock() {
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

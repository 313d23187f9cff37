//! Which certificate a client is shown: by the server name it asks for (RFC 6066, section 3) and the
//! names in the certificates (RFC 6125, 6.4: exact, or one wildcard in place of the leftmost label).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::x509::Name;

/// All certificates of a listener. Two for one name (say, ECDSA and RSA) may stand side by side: the
/// client is shown the first whose key it can check.
#[derive(Debug)]
pub(crate) struct Resolver {
    default: Arc<CertifiedKey>,
    /// Lower-case name → certificates.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// What follows `*.` → certificates.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Resolver {
    pub(crate) fn new(default: Arc<CertifiedKey>) -> Self {
        Self {
            default,
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        }
    }

    /// Offers `key` for these names, after those that were added before.
    pub(crate) fn add(&mut self, names: &[Name], key: &Arc<CertifiedKey>) {
        for name in names {
            let Name::Dns(name) = name else { continue };
            let name = name.to_ascii_lowercase();
            let keys = match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()),
                None => self.exact.entry(name),
            };
            keys.or_default().push(key.clone());
        }
    }

    fn candidates(&self, server_name: &str) -> &[Arc<CertifiedKey>] {
        let name = server_name.to_ascii_lowercase();
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        self.exact
            .get(&name)
            .or_else(|| self.wildcard.get(parent()?))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = hello
            .server_name()
            .map_or(&[][..], |name| self.candidates(name));
        let fitting = candidates
            .iter()
            .find(|key| key.key.choose_scheme(hello.signature_schemes()).is_some())
            .or(candidates.first())
            .unwrap_or(&self.default);
        Some(fitting.clone())
    }
}

/// The server name of one handshake. rustls tells it to a resolver and, of an unbuffered connection,
/// to nobody else.
#[derive(Debug, Default)]
pub(crate) struct ServerName(Arc<OnceLock<String>>);

impl ServerName {
    /// Lower case.
    pub(crate) fn take(self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// Resolves as another does and notes the server name. Good for one handshake.
#[derive(Debug)]
pub(crate) struct Noting {
    inner: Arc<dyn ResolvesServerCert>,
    name: Arc<OnceLock<String>>,
}

impl Noting {
    /// A configuration of the same content that notes the server name. All that matters beyond one
    /// connection, like tickets, is shared.
    pub(crate) fn server_name(config: &ServerConfig) -> (Arc<ServerConfig>, ServerName) {
        let name = ServerName::default();
        let mut config = config.clone();
        config.cert_resolver = Arc::new(Self {
            inner: config.cert_resolver,
            name: name.0.clone(),
        });
        (Arc::new(config), name)
    }
}

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            // A second ClientHello has the same name, or rustls refuses it (RFC 8446, 4.1.2).
            let _ = self.name.set(name.to_owned());
        }
        self.inner.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }
}

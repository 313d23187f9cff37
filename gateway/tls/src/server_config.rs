//! From the contents of certificate files to a server configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig, version};

use crate::provider::digest;
use crate::resolver::Resolver;
use crate::ticketer::TicketKey;
use crate::tickets::Tickets;
use crate::x509::{self, Facts};
use crate::{
    CertificateStatus, ClientAuth, LoadError, MinVersion, Settings, Status, files, provider,
};

/// Everything the settings name, as read at one time.
pub(crate) struct Contents {
    /// Chain and key of each certificate.
    certificates: Vec<(Vec<u8>, Vec<u8>)>,
    ca: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
    ticket_keys: Vec<Vec<u8>>,
}

impl Contents {
    pub(crate) fn read(settings: &Settings) -> Result<Self, LoadError> {
        let mut certificates = Vec::with_capacity(settings.certificates.len());
        for certificate in &settings.certificates {
            certificates.push((
                files::read(&certificate.chain)?,
                files::read(&certificate.key)?,
            ));
        }
        let ca = settings.client.ca();
        let crl = ca.and_then(|ca| ca.crl.as_deref());
        Ok(Self {
            certificates,
            ca: ca.map(|ca| files::read(&ca.ca)).transpose()?,
            crl: crl.map(files::read).transpose()?,
            ticket_keys: (settings.resumption.ticket_keys().iter())
                .map(|path| files::read(path))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Differs when anything in any file does.
    pub(crate) fn digest(&self) -> Vec<u8> {
        let pairs = self
            .certificates
            .iter()
            .flat_map(|(chain, key)| [chain, key]);
        digest(
            pairs
                .map(|bytes| Some(bytes.as_slice()))
                .chain([self.ca.as_deref(), self.crl.as_deref()])
                .chain(self.ticket_keys.iter().map(|bytes| Some(bytes.as_slice()))),
        )
    }

    /// Differs when what is asked and believed of clients does.
    fn trust_digest(&self, client: &ClientAuth) -> Vec<u8> {
        let asked: &[u8] = match client {
            ClientAuth::None => b"none",
            ClientAuth::Optional(_) => b"optional",
            ClientAuth::Required(_) => b"required",
        };
        digest([Some(asked), self.ca.as_deref(), self.crl.as_deref()])
    }

    fn ticket_keys(&self, settings: &Settings) -> Result<Vec<TicketKey>, LoadError> {
        let paths = settings.resumption.ticket_keys().iter();
        paths
            .zip(&self.ticket_keys)
            .map(|(path, text)| TicketKey::parse(path, text))
            .collect()
    }
}

/// What is swapped as one.
pub(crate) struct Built {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(crate) tickets: Option<Tickets>,
    /// Without what is said of reloads.
    pub(crate) status: Status,
}

/// Builds a configuration. All or nothing.
pub(crate) fn build(
    settings: &Settings,
    contents: &Contents,
    previous: Option<&Tickets>,
) -> Result<Built, LoadError> {
    let (resolver, certificates) = resolver(settings, contents)?;
    let resolver = resolver.ok_or(LoadError::NothingConfigured)?;
    let trust = trust(&settings.client, contents)?;
    let keys = contents.ticket_keys(settings)?;
    let key_warnings = key_warnings(settings, &keys);

    let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
        MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        MinVersion::Tls13 => &[&version::TLS13],
    };
    let verifier = match &trust.verifier {
        Some(verifier) => verifier.clone(),
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols.clone_from(&settings.alpn);
    let tickets = Tickets::keep_or_renew(
        previous,
        &settings.resumption,
        keys,
        contents.trust_digest(&settings.client),
    )?;
    match &tickets {
        Some(tickets) => tickets.apply(&mut config),
        None => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }

    Ok(Built {
        config: Arc::new(config),
        verifier: trust.verifier.clone(),
        tickets,
        status: describe(settings, certificates, trust, key_warnings),
    })
}

/// What a configuration of this would be like. Without certificates it could not be built, and what
/// there is is checked.
pub(crate) fn status(settings: &Settings, contents: &Contents) -> Result<Status, LoadError> {
    let (_, certificates) = resolver(settings, contents)?;
    let trust = trust(&settings.client, contents)?;
    let keys = contents.ticket_keys(settings)?;
    let key_warnings = key_warnings(settings, &keys);
    Ok(describe(settings, certificates, trust, key_warnings))
}

/// What works and should not stay as it is with the keys of tickets.
fn key_warnings(settings: &Settings, keys: &[TicketKey]) -> Vec<String> {
    let mut warnings = Vec::new();
    let paths = settings.resumption.ticket_keys();
    for (at, (path, key)) in paths.iter().zip(keys).enumerate() {
        let shown = path.display();
        if files::is_open_to_others(path) {
            warnings.push(format!(
                "{shown}: the ticket key can be read by other users; its mode should be 0600"
            ));
        }
        if let Some(same) = keys[..at].iter().position(|earlier| earlier.is_same(key)) {
            let same = paths[same].display();
            warnings.push(format!("{shown}: it is the same ticket key as {same}"));
        }
    }
    warnings
}

fn describe(
    settings: &Settings,
    certificates: Vec<CertificateStatus>,
    trust: Trust,
    key_warnings: Vec<String>,
) -> Status {
    let now = SystemTime::now();
    let mut warnings = Vec::new();
    for (files, certificate) in settings.certificates.iter().zip(&certificates) {
        let (chain, key) = (files.chain.display(), files.key.display());
        if certificate.not_after < now {
            warnings.push(format!(
                "{chain}: the certificate has expired; clients will refuse it"
            ));
        }
        if certificate.not_before > now {
            warnings.push(format!(
                "{chain}: the certificate is not valid yet; clients will refuse it"
            ));
        }
        if files::is_open_to_others(&files.key) {
            warnings.push(format!(
                "{key}: the private key can be read by other users; its mode should be 0600"
            ));
        }
    }
    warnings.extend(trust.warnings);
    warnings.extend(key_warnings);
    Status {
        certificates,
        client_ca_subjects: trust.subjects,
        crl_next_update: trust.crl_next_update,
        warnings,
        ..Status::default()
    }
}

/// Nothing to resolve if there is no certificate.
fn resolver(
    settings: &Settings,
    contents: &Contents,
) -> Result<(Option<Resolver>, Vec<CertificateStatus>), LoadError> {
    let mut resolver: Option<Resolver> = None;
    let mut statuses = Vec::with_capacity(settings.certificates.len());
    for (paths, (chain, key)) in settings.certificates.iter().zip(&contents.certificates) {
        let certified = Arc::new(certified_key(&paths.chain, chain, &paths.key, key)?);
        let facts = facts(&paths.chain, certified.end_entity_cert()?)?;
        resolver
            .get_or_insert_with(|| Resolver::new(certified.clone()))
            .add(&facts.names, &certified);
        statuses.push(facts.into());
    }
    Ok((resolver, statuses))
}

/// The chain and the key of its first certificate, if they are a pair.
pub(crate) fn certified_key(
    chain_path: &Path,
    chain: &[u8],
    key_path: &Path,
    key: &[u8],
) -> Result<CertifiedKey, LoadError> {
    let chain = files::certificates(chain_path, chain)?;
    let key = files::key(key_path, key)?;
    let unusable = |error: rustls::Error| LoadError::Key {
        path: key_path.to_owned(),
        reason: error.to_string(),
    };
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(unusable)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // `Unknown` would be a key that cannot tell its public half; all of aws-lc-rs can.
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(LoadError::Mismatch {
            chain: chain_path.to_owned(),
            key: key_path.to_owned(),
        }),
        Err(error) => Err(LoadError::Certificate {
            path: chain_path.to_owned(),
            reason: certified
                .end_entity_cert()
                .ok()
                .and_then(|der| x509::outdated(der))
                .unwrap_or_else(|| reason(&error)),
        }),
    }
}

/// What `rustls` says of a certificate, which it takes for the peer's.
fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(error)) => error.to_string(),
        rustls::Error::InvalidCertificate(error) => error.to_string(),
        error => error.to_string(),
    }
}

fn facts(path: &Path, der: &[u8]) -> Result<Facts, LoadError> {
    Facts::read(der).map_err(|reason| LoadError::Certificate {
        path: path.to_owned(),
        reason,
    })
}

#[derive(Default)]
struct Trust {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    subjects: Vec<String>,
    crl_next_update: Option<SystemTime>,
    warnings: Vec<String>,
}

fn trust(client: &ClientAuth, contents: &Contents) -> Result<Trust, LoadError> {
    let (Some(paths), Some(pem)) = (client.ca(), &contents.ca) else {
        return Ok(Trust::default());
    };
    let mut trust = Trust::default();
    let mut roots = RootCertStore::empty();
    let mut raw_subjects = Vec::new();
    for certificate in files::certificates(&paths.ca, pem)? {
        let facts = facts(&paths.ca, &certificate)?;
        roots
            .add(certificate)
            .map_err(|error| LoadError::Certificate {
                path: paths.ca.clone(),
                reason: reason(&error),
            })?;
        raw_subjects.push((facts.raw_subject, facts.subject.clone()));
        trust.subjects.push(facts.subject);
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if matches!(client, ClientAuth::Optional(_)) {
        builder = builder.allow_unauthenticated();
    }
    if let (Some(path), Some(pem)) = (&paths.crl, &contents.crl) {
        let unusable = |reason: String| LoadError::Crl {
            path: path.clone(),
            reason,
        };
        let lists = files::crls(path, pem)?;
        let mut issuers = Vec::with_capacity(lists.len());
        for list in &lists {
            let (issuer, next_update) = x509::crl(list).map_err(unusable)?;
            issuers.push(issuer);
            trust.crl_next_update = match (trust.crl_next_update, next_update) {
                (Some(first), Some(next)) => Some(first.min(next)),
                (first, next) => first.or(next),
            };
        }
        for (raw, subject) in &raw_subjects {
            if !issuers.contains(raw) {
                trust.warnings.push(format!(
                    "{}: there is no revocation list of {subject} in it; its clients are refused",
                    path.display()
                ));
            }
        }
        if trust
            .crl_next_update
            .is_some_and(|next_update| next_update < SystemTime::now())
        {
            trust.warnings.push(format!(
                "{}: a revocation list has expired; its authority's clients are refused",
                path.display()
            ));
        }
        // The whole chain is checked and a status that is not known is refused: both are the
        // verifier's defaults. That an expired list is refused is not.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
        trust.verifier = Some(
            builder
                .build()
                .map_err(|error| unusable(error.to_string()))?,
        );
    } else {
        trust.verifier = Some(builder.build().map_err(|error| LoadError::Certificate {
            path: paths.ca.clone(),
            reason: error.to_string(),
        })?);
    }
    Ok(trust)
}

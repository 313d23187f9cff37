//! Making the local CA and its one certificate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::store::Store;
use super::{DAY, LocalError};
use crate::provider::fingerprint;
use crate::x509::{Facts, Name};

/// Ten years.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3652);
/// Browsers take no more than 398 days.
const LEAF_LIFE: Duration = DAY.saturating_mul(397);
/// No common name is longer (RFC 5280, appendix A.1, ub-common-name).
const COMMON_NAME: usize = 64;
/// Clocks differ.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// The local CA.
pub(super) struct Authority {
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) not_after: SystemTime,
    permitted: Vec<String>,
    /// Only needed to issue; whoever keeps it elsewhere can, until the certificate is due.
    key: Option<KeyPair>,
}

/// A new certificate, PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Authority {
    /// The CA of the directory, or nothing if its certificate is missing.
    pub(super) fn load(store: &Store) -> Result<Option<Self>, LocalError> {
        let bad = |name: &str, reason: &str| LocalError::Authority {
            path: store.path(name),
            reason: reason.to_owned(),
        };
        let Some(pem) = store.get("ca.crt")? else {
            return Ok(None);
        };
        let pem = String::from_utf8(pem).map_err(|_| bad("ca.crt", "it is not PEM"))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| bad("ca.crt", "there is no certificate in it"))?;
        let facts = Facts::read(&der)
            .map_err(|reason| bad("ca.crt", &format!("the certificate is malformed: {reason}")))?;
        let (_, certificate) = X509Certificate::from_der(&der)
            .map_err(|_| bad("ca.crt", "the certificate is malformed"))?;
        let key = store
            .get("ca.key")?
            .map(|pem| parse_key(store, &pem))
            .transpose()?;
        let public_key = &certificate.public_key().subject_public_key.data;
        if key
            .as_ref()
            .is_some_and(|key| key.public_key_raw() != public_key.as_ref())
        {
            return Err(bad(
                "ca.key",
                "the key does not belong to the certificate in ca.crt",
            ));
        }
        let permitted = permitted(&certificate);
        Ok(Some(Self {
            pem,
            not_after: facts.not_after,
            permitted,
            der,
            key,
        }))
    }

    /// A new CA.
    pub(super) fn make(
        key: KeyPair,
        host_name: Option<&str>,
        now: SystemTime,
    ) -> Result<Self, LocalError> {
        let dns_names: Vec<String> = dns_names(host_name);
        let mut permitted: Vec<GeneralSubtree> = dns_names
            .iter()
            .cloned()
            .map(GeneralSubtree::DnsName)
            .collect();
        permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            IpAddr::from([127, 0, 0, 0]),
            8,
        )));
        permitted.push(GeneralSubtree::IpAddress(CidrSubnet::V6(
            Ipv6Addr::LOCALHOST.octets(),
            [0xff; 16],
        )));

        let mut params = CertificateParams::default();
        params.not_before = (now - GRACE).into();
        params.not_after = (now + AUTHORITY_LIFE).into();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Tidegate");
        // Unique: stores look up a CA by its name, and there may be one of every machine.
        let unique = &fingerprint(key.public_key_raw())[..8];
        let place = host_name.unwrap_or("localhost");
        params
            .distinguished_name
            .push(DnType::CommonName, authority_name(unique, place));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted,
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            not_after: now + AUTHORITY_LIFE,
            permitted: dns_names,
            key: Some(key),
        })
    }

    /// Whether it may issue for this host name (RFC 5280, 4.2.1.10). One without a constraint on DNS
    /// names, which the gateway does not make, may issue for any.
    pub(super) fn permits(&self, name: &str) -> bool {
        self.permitted.is_empty()
            || self.permitted.iter().any(|permitted| {
                name.strip_suffix(permitted.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
    }
}

/// Names people the machine, as far as there is room.
fn authority_name(unique: &str, place: &str) -> String {
    let name = format!("Tidegate local CA {unique} ({place})");
    if name.len() <= COMMON_NAME {
        return name;
    }
    // A host's name is ASCII.
    let cut: String = name.chars().take(COMMON_NAME - 4).collect();
    format!("{cut}...)")
}

/// The DNS names that a CA's name constraints permit.
fn permitted(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extensions = certificate.extensions().iter();
    extensions
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::NameConstraints(constraints) => {
                constraints.permitted_subtrees.as_ref()
            }
            _ => None,
        })
        .flatten()
        .filter_map(|subtree| match &subtree.base {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// The key of the CA.
pub(super) fn parse_key(store: &Store, pem: &[u8]) -> Result<KeyPair, LocalError> {
    let bad = |reason: String| LocalError::Authority {
        path: store.path("ca.key"),
        reason,
    };
    let pem = std::str::from_utf8(pem).map_err(|_| bad("it is not PEM".to_owned()))?;
    KeyPair::from_pem(pem).map_err(|error| bad(format!("the key cannot be read: {error}")))
}

/// A certificate for this machine, with a key of its own: the serial number is made from the key and
/// must not come twice.
pub(super) fn leaf(
    store: &Store,
    authority: &Authority,
    host_name: Option<&str>,
    now: SystemTime,
) -> Result<Issued, LocalError> {
    let authority_key = authority
        .key
        .as_ref()
        .ok_or_else(|| LocalError::Authority {
            path: store.path("ca.key"),
            reason: "it is missing, and a certificate has to be made".to_owned(),
        })?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.not_before = (now - GRACE).into();
    params.not_after = (now - GRACE + LEAF_LIFE).min(authority.not_after).into();
    params.distinguished_name = DistinguishedName::new();
    let common_name = host_name.filter(|name| name.len() <= COMMON_NAME);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name.unwrap_or("localhost"));
    params.subject_alt_names = names(host_name)
        .into_iter()
        .map(|name| match name {
            Name::Ip(address) => Ok(SanType::IpAddress(address)),
            other => other.value().try_into().map(SanType::DnsName),
        })
        .collect::<Result<_, rcgen::Error>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(&authority.der, authority_key)?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Issued {
        chain: format!("{}{}", certificate.pem(), authority.pem),
        key: key.serialize_pem(),
    })
}

/// All names of this machine's certificate.
pub(super) fn names(host_name: Option<&str>) -> Vec<Name> {
    let mut names: Vec<Name> = dns_names(host_name).into_iter().map(Name::Dns).collect();
    names.push(Name::Ip(Ipv4Addr::LOCALHOST.into()));
    names.push(Name::Ip(Ipv6Addr::LOCALHOST.into()));
    names
}

fn dns_names(host_name: Option<&str>) -> Vec<String> {
    let host_name = host_name
        .filter(|name| *name != "localhost")
        .map(str::to_owned);
    ["localhost".to_owned()]
        .into_iter()
        .chain(host_name)
        .collect()
}

/// The host's name in lower case if it is one by the letter (RFC 1123, 2.1): browsers and libraries
/// differ on what else they refuse in a certificate.
pub(super) fn host_name(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only would be an address.
    let is_address = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (name.len() <= 253 && !is_address && name.split('.').all(is_label)).then_some(name)
}

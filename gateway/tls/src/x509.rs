//! What people read in a certificate: names, serial number, validity. Says nothing about trust.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use crate::provider::{fingerprint, hex};

/// One certificate in words.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) subject: String,
    pub(crate) common_name: Option<String>,
    pub(crate) names: Vec<Name>,
    pub(crate) issuer: String,
    pub(crate) serial: String,
    pub(crate) fingerprint: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// The subject as encoded, to compare with an issuer.
    pub(crate) raw_subject: Vec<u8>,
}

/// One subject alternative name (RFC 5280, 4.2.1.6) of a kind that is of use here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Dns(String),
    Ip(IpAddr),
    Uri(String),
    Email(String),
}

impl Name {
    /// Without its kind.
    pub(crate) fn value(&self) -> String {
        match self {
            Self::Dns(name) | Self::Uri(name) | Self::Email(name) => name.clone(),
            Self::Ip(address) => address.to_string(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => write!(formatter, "DNS:{name}"),
            Self::Ip(address) => write!(formatter, "IP:{address}"),
            Self::Uri(uri) => write!(formatter, "URI:{uri}"),
            Self::Email(address) => write!(formatter, "email:{address}"),
        }
    }
}

impl Facts {
    /// Reads a certificate; the error is in words.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("there are bytes after its end".to_owned());
        }
        let names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension
                .value
                .general_names
                .iter()
                .filter_map(name)
                .collect(),
            Ok(None) => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        Ok(Self {
            subject: certificate.subject().to_string(),
            common_name: common_name(&certificate),
            names,
            issuer: certificate.issuer().to_string(),
            serial: hex(certificate.raw_serial()),
            fingerprint: fingerprint(der),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
            raw_subject: certificate.subject().as_raw().to_vec(),
        })
    }
}

/// In words, what `rustls` cannot use a certificate for because of its version (RFC 5280, 4.1.2.1).
pub(crate) fn outdated(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let version = certificate.version();
    (version != X509Version::V3).then(|| {
        let version = version.0.saturating_add(1);
        format!("it is X.509 version {version}; TLS needs version 3 (make it with extensions)")
    })
}

/// Who signed a revocation list (as encoded) and when the next one is due.
pub(crate) fn crl(der: &[u8]) -> Result<(Vec<u8>, Option<SystemTime>), String> {
    let (_, crl) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
    Ok((crl.issuer().as_raw().to_vec(), crl.next_update().map(time)))
}

/// The common name, if there is exactly one and it is plain text: which of two is meant nobody can
/// say, and a name that hides something is nobody's name.
fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    (names.next().is_none() && !name.is_empty() && !name.chars().any(char::is_control))
        .then(|| name.to_owned())
}

fn name(name: &GeneralName<'_>) -> Option<Name> {
    match name {
        GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
        GeneralName::URI(uri) => Some(Name::Uri((*uri).to_owned())),
        GeneralName::RFC822Name(address) => Some(Name::Email((*address).to_owned())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|bytes| Name::Ip(bytes.into())),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| Name::Ip(bytes.into())),
            _ => None,
        },
        _ => None,
    }
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    let moment = if time.timestamp() < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}

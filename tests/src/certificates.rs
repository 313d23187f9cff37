//! Certificates for tests: authorities, what they issue, and lists of what they revoked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const DAY: Duration = Duration::from_secs(24 * 3600);

static SERIAL: AtomicU64 = AtomicU64::new(1_000);

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, or a chain that begins with it.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
    serial: u64,
}

impl Identity {
    /// The first certificate as it goes over the wire (DER).
    ///
    /// # Panics
    ///
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .unwrap_or_else(|error| panic!("not a certificate: {error}"))
    }

    /// Writes `STEM.crt` and `STEM.key` and returns where they are.
    ///
    /// # Panics
    ///
    /// If they cannot be written.
    #[track_caller]
    pub fn write(&self, directory: &Path, stem: &str) -> (PathBuf, PathBuf) {
        let certificate = directory.join(format!("{stem}.crt"));
        let key = directory.join(format!("{stem}.key"));
        write(&certificate, &self.certificate);
        write(&key, &self.key);
        (certificate, key)
    }
}

/// Writes a file of a test.
///
/// # Panics
///
/// If it cannot be written.
#[track_caller]
pub fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Request {
    common_name: String,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    from: SystemTime,
    until: SystemTime,
}

impl Request {
    /// A server of these names and addresses, valid from yesterday for thirty days.
    #[must_use]
    pub fn server(names: &[&str]) -> Self {
        Self::new(names[0], names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client whose common name is this.
    #[must_use]
    pub fn client(name: &str) -> Self {
        Self::new(name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn new(common_name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Self {
        let now = SystemTime::now();
        Self {
            common_name: common_name.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usage,
            from: now - DAY,
            until: now + 30 * DAY,
        }
    }

    /// Over since yesterday.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.from = SystemTime::now() - 3 * DAY;
        self.until = SystemTime::now() - DAY;
        self
    }

    /// Valid from tomorrow.
    #[must_use]
    pub fn not_yet_valid(mut self) -> Self {
        self.from = SystemTime::now() + DAY;
        self
    }

    /// Valid for so many days from now.
    #[must_use]
    pub fn days(mut self, days: u32) -> Self {
        self.until = SystemTime::now() + DAY * days;
        self
    }

    /// Signs itself.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn self_signed(&self) -> Identity {
        let (key, serial) = (key(), next_serial());
        let certificate = self.params(serial).self_signed(&key);
        let certificate = certificate.unwrap_or_else(|error| panic!("certificate: {error}"));
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    fn params(&self, serial: u64) -> CertificateParams {
        let mut params = CertificateParams::new(self.names.clone())
            .unwrap_or_else(|error| panic!("names of a certificate: {error}"));
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name.as_str());
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![self.usage.clone()];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = self.from.into();
        params.not_after = self.until.into();
        params
    }
}

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// One that signs itself.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from(next_serial()));
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + 365 * DAY).into();
        let issuer = CertifiedIssuer::self_signed(params, key());
        Self {
            issuer: issuer.unwrap_or_else(|error| panic!("authority: {error}")),
        }
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn issue(&self, request: &Request) -> Identity {
        let (key, serial) = (key(), next_serial());
        let certificate = request.params(serial).signed_by(&key, &self.issuer);
        let certificate = certificate.unwrap_or_else(|error| panic!("certificate: {error}"));
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    /// A list that revokes these.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn revoke(&self, identities: &[&Identity]) -> String {
        let now = SystemTime::now();
        let revoked = identities.iter().map(|identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: (now - DAY / 2).into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: (now - DAY / 2).into(),
            next_update: (now + 30 * DAY).into(),
            crl_number: SerialNumber::from(next_serial()),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer)
            .and_then(|list| list.pem())
            .unwrap_or_else(|error| panic!("revocation list: {error}"))
    }
}

fn next_serial() -> u64 {
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

#[track_caller]
fn key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|error| panic!("key: {error}"))
}

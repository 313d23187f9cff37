//! What those show each other who speak DTLS and TLS.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;

/// The key of pump-7.
pub(super) const KEY: &str = "0123456789abcdef";

/// An authority, a server's certificate for 127.0.0.1, a client's, one of another authority, and keys.
pub(super) struct House {
    directory: TempDir,
}

impl House {
    pub(super) fn new() -> Self {
        let house = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            house.write(name, &ca.pem());
            ca
        };
        let (server, client) = (
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        let (other, ca) = (authority("other.pem"), authority("ca.pem"));
        for (name, subject, usage, ca) in [
            ("server", "127.0.0.1", server, &ca),
            ("client", "meter-7", client.clone(), &ca),
            ("stranger", "meter-7", client, &other),
        ] {
            let mut params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, ca).unwrap();
            house.write(&format!("{name}.crt"), &certificate.pem());
            house.write(&format!("{name}.key"), &key.serialize_pem());
        }
        let hexadecimal: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let wrong = "00".repeat(16);
        house.write(
            "keys",
            &format!("# pumps\npump-7:{hexadecimal}\nnobody:{wrong}\n"),
        );
        house.write("key", &format!("pump-7:{hexadecimal}\n"));
        house
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The path as an argument.
    pub(super) fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

//! The certificate of the first start: made once, kept, renewed when due, and good for this machine
//! only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

#[path = "support/log.rs"]
mod log;
mod support;

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use log::Log;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use support::*;
use tidegate_tls::local::{LocalCertificates, LocalError};
use tidegate_tls::{CertificateStatus, Status};

const HOST: &str = "Gateway-1";
const FILES: [&str; 4] = ["ca.crt", "ca.key", "localhost.crt", "localhost.key"];

fn now() -> SystemTime {
    SystemTime::now()
}

fn ensure(directory: &Path) -> LocalCertificates {
    LocalCertificates::ensure(directory, HOST, now()).unwrap()
}

fn contents(directory: &Path) -> Vec<Vec<u8>> {
    FILES
        .iter()
        .map(|name| fs::read(directory.join(name)).unwrap())
        .collect()
}

fn status(certificates: &LocalCertificates) -> CertificateStatus {
    let status = Status::read(&settings(vec![certificates.files()])).unwrap();
    status.certificates[0].clone()
}

fn verify(arguments: &[&str]) -> Result<String, String> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let output = openssl_blocking(&arguments, "");
    if output.status.success() {
        Ok(text(&output))
    } else {
        Err(text(&output))
    }
}

#[test]
fn the_first_start_makes_files_that_only_the_owner_can_use() {
    let folder = Folder::new();
    let directory = folder.path("data").join("tls");
    let certificates = ensure(&directory);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("ca.key")), 0o600);
    assert_eq!(mode(&certificates.key()), 0o600);
    let mut left: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            ".lock",
            "ca.crt",
            "ca.key",
            "localhost.crt",
            "localhost.key"
        ]
    );

    let status = status(&certificates);
    assert_eq!(
        status.sans,
        ["DNS:localhost", "DNS:gateway-1", "IP:127.0.0.1", "IP:::1"]
    );
    // The chain: what is shown, then the authority.
    let chain = CertificateStatus::read(&certificates.certificate()).unwrap();
    let authority = CertificateStatus::read(&certificates.ca()).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1].fingerprint, authority[0].fingerprint);
    assert!(
        status.issuer.contains(&authority[0].subject),
        "{}",
        status.issuer
    );
    let life = status.not_after.duration_since(status.not_before).unwrap();
    assert!(life <= 398 * DAY && life > 396 * DAY, "{life:?}");
}

#[test]
fn later_starts_change_nothing() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    ensure(&directory);
    let before = contents(&directory);
    for _ in 0..3 {
        let certificates = ensure(&directory);
        assert!(!certificates.renew_if_due(HOST, now() + 300 * DAY).unwrap());
    }
    // A clock that has not been set yet is no reason to make everything anew.
    LocalCertificates::ensure(&directory, "gateway-1", SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(contents(&directory), before);
}

#[test]
fn a_certificate_about_to_expire_is_renewed_by_the_same_authority() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    let certificates = ensure(&directory);
    let (before, serial) = (contents(&directory), status(&certificates).serial);
    assert!(certificates.renew_if_due(HOST, now() + 370 * DAY).unwrap());
    let after = contents(&directory);
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2], after[2]);
    assert_ne!(before[3], after[3]);
    let status = status(&certificates);
    assert!(status.not_after > now() + 760 * DAY);
    // RFC 5280, 4.1.2.2: unique for each certificate of an authority.
    assert_ne!(status.serial, serial);
    assert!(!certificates.renew_if_due(HOST, now() + 370 * DAY).unwrap());
}

#[test]
fn a_damaged_or_missing_certificate_is_made_again() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    ensure(&directory);
    let before = contents(&directory);
    for name in ["localhost.crt", "localhost.key"] {
        let path = directory.join(name);
        fs::write(&path, "nonsense").unwrap();
        status(&ensure(&directory));
        fs::remove_file(&path).unwrap();
        status(&ensure(&directory));
    }
    // The key of another certificate: what a crash between two renames leaves.
    fs::write(
        directory.join("localhost.key"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    status(&ensure(&directory));
    assert_eq!(contents(&directory)[..2], before[..2]);
}

#[test]
fn a_name_that_the_authority_may_vouch_for_comes_into_the_certificate() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    ensure(&directory);
    let before = contents(&directory);
    let sub = LocalCertificates::ensure(&directory, "a.gateway-1", now()).unwrap();
    assert!(status(&sub).sans.contains(&"DNS:a.gateway-1".to_owned()));
    assert_eq!(contents(&directory)[..2], before[..2]);
}

#[test]
fn another_host_name_leaves_the_authority_that_clients_trust() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    ensure(&directory);
    let before = contents(&directory);
    // As a container has it that starts again and again.
    let log = Log::of("host_name=\"c0ffee");
    let mut second = None;
    for host_name in ["c0ffee000001", "c0ffee000002", "c0ffee000003"] {
        let certificates = LocalCertificates::ensure(&directory, host_name, now()).unwrap();
        let said = log.next();
        assert!(said.contains(host_name), "{said}");
        assert!(said.contains("remove ca.crt and ca.key"), "{said}");
        assert_eq!(contents(&directory)[..2], before[..2], "{host_name}");
        assert_eq!(
            status(&certificates).sans,
            ["DNS:localhost", "IP:127.0.0.1", "IP:::1"]
        );
        assert!(!certificates.renew_if_due(host_name, now()).unwrap());
        log.nothing_within(Duration::ZERO);
        // What is wanted is what may be had: nothing is made a second time.
        let made = second.get_or_insert_with(|| contents(&directory));
        assert_eq!(&contents(&directory), made, "{host_name}");
        let (ca, leaf) = (certificates.ca(), certificates.certificate());
        let name = ["-verify_hostname", "localhost"];
        let verified = [
            "verify",
            "-x509_strict",
            "-CAfile",
            str(&ca),
            name[0],
            name[1],
        ];
        verify(&[&verified[..], &[str(&leaf)]].concat()).unwrap();
    }
    // The name from before comes back with the host that has it.
    let back = ensure(&directory);
    assert!(status(&back).sans.contains(&"DNS:gateway-1".to_owned()));
    // What the log says to do.
    for name in ["ca.crt", "ca.key"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    let other = LocalCertificates::ensure(&directory, "other", now()).unwrap();
    assert!(status(&other).sans.contains(&"DNS:other".to_owned()));
    assert_ne!(contents(&directory)[..2], before[..2]);
}

#[test]
fn an_authority_without_constraints_may_vouch_for_any_name() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    ensure(&directory);
    let (pem, key) = {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    fs::write(directory.join("ca.crt"), &pem).unwrap();
    fs::write(directory.join("ca.key"), key).unwrap();
    let certificates = LocalCertificates::ensure(&directory, "other", now()).unwrap();
    assert!(status(&certificates).sans.contains(&"DNS:other".to_owned()));
    assert_eq!(fs::read_to_string(certificates.ca()).unwrap(), pem);
}

#[test]
fn looking_for_it_makes_nothing() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    let find = || LocalCertificates::find(&directory).unwrap();
    assert!(find().is_none());
    assert!(!directory.exists());
    let made = ensure(&directory);
    let before = contents(&directory);
    assert_eq!(find().unwrap().files(), made.files());
    assert_eq!(contents(&directory), before);
    fs::remove_file(made.certificate()).unwrap();
    assert!(find().is_none());
    // Something in the way is not the same as nothing there.
    let error = LocalCertificates::find(&made.ca()).unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with(str(&made.ca())), "{said}");
    assert!(error.source().is_none(), "told once: {error:?}");
}

#[test]
fn rfc5280_a_1_ub_common_name_long_host_names_fit() {
    let label = "x".repeat(63);
    for host_name in [label.clone(), [label.as_str(); 3].join(".")] {
        let folder = Folder::new();
        let directory = folder.path("tls");
        let made = LocalCertificates::ensure(&directory, &host_name, now()).unwrap();
        let leaf = status(&made);
        let ca = CertificateStatus::read(&made.ca()).unwrap().remove(0);
        for name in [&leaf.subject, &ca.subject] {
            assert!(name.len() <= 64, "{name}");
        }
        assert!(
            ca.subject.starts_with("Tidegate local CA "),
            "{}",
            ca.subject
        );
        assert!(ca.subject.contains("(xxx"), "{}", ca.subject);
        assert!(leaf.sans.contains(&format!("DNS:{host_name}")));
    }
}

#[test]
fn rfc1123_2_1_what_is_no_host_name_is_left_out() {
    for name in [
        "",
        "bad_name",
        "-a",
        "a-",
        "a..b",
        "10.0.0.1",
        "münchen",
        "localhost",
        "LOCALHOST.",
    ] {
        let folder = Folder::new();
        let directory = folder.path("tls");
        let made = LocalCertificates::ensure(&directory, name, now()).unwrap();
        assert_eq!(
            status(&made).sans,
            ["DNS:localhost", "IP:127.0.0.1", "IP:::1"],
            "{name}"
        );
    }
}

#[test]
fn an_authority_about_to_expire_is_made_anew() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    let certificates = ensure(&directory);
    let before = contents(&directory);
    assert!(certificates.renew_if_due(HOST, now() + 3640 * DAY).unwrap());
    assert_ne!(contents(&directory)[..2], before[..2]);
}

#[test]
fn an_authority_that_is_not_understood_is_never_overwritten() {
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (name, text) in [
        ("ca.key", "nonsense"),
        ("ca.key", other.as_str()),
        ("ca.crt", "nonsense"),
        (
            "ca.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
    ] {
        let folder = Folder::new();
        let directory = folder.path("tls");
        ensure(&directory);
        fs::write(directory.join(name), text).unwrap();
        let before = contents(&directory);
        let error = LocalCertificates::ensure(&directory, "other", now()).unwrap_err();
        assert!(matches!(error, LocalError::Authority { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with(str(&directory.join(name))),
            "{error}"
        );
        assert_eq!(contents(&directory), before);
    }
}

#[test]
fn a_lost_part_of_the_authority_is_handled() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    ensure(&directory);
    let key = fs::read(directory.join("ca.key")).unwrap();
    // The certificate: made again with the key that is there.
    fs::remove_file(directory.join("ca.crt")).unwrap();
    status(&ensure(&directory));
    assert_eq!(fs::read(directory.join("ca.key")).unwrap(), key);
    // The key: not needed until a certificate is due.
    fs::remove_file(directory.join("ca.key")).unwrap();
    let certificates = ensure(&directory);
    let error = certificates
        .renew_if_due(HOST, now() + 370 * DAY)
        .unwrap_err();
    assert!(error.to_string().contains("ca.key"), "{error}");
}

#[test]
fn starts_at_the_same_time_end_with_files_that_fit() {
    for _ in 0..5 {
        let folder = Folder::new();
        let directory = folder.path("tls");
        let barrier = Arc::new(Barrier::new(8));
        // Threads stand for processes: the lock belongs to the open file.
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (directory, barrier) = (directory.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    let certificates = ensure(&directory);
                    status(&certificates).fingerprint
                })
            })
            .collect();
        let mut fingerprints: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        fingerprints.dedup();
        assert_eq!(
            fingerprints.len(),
            1,
            "all should have the same certificate"
        );
    }
}

#[test]
fn rfc5280_openssl_finds_nothing_wrong_with_it() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    let certificates = ensure(&directory);
    let (ca, leaf) = (certificates.ca(), certificates.certificate());
    for (option, name) in [
        ("-verify_hostname", "localhost"),
        ("-verify_hostname", "gateway-1"),
        ("-verify_ip", "127.0.0.1"),
        ("-verify_ip", "::1"),
    ] {
        verify(&[
            "verify",
            "-x509_strict",
            "-check_ss_sig",
            "-purpose",
            "sslserver",
            "-CAfile",
            str(&ca),
            option,
            name,
            str(&leaf),
        ])
        .unwrap();
    }
    let wrong = [
        "verify",
        "-CAfile",
        str(&ca),
        "-verify_hostname",
        "other",
        str(&leaf),
    ];
    verify(&wrong).unwrap_err();

    let ca = verify(&["x509", "-in", str(&ca), "-noout", "-text"]).unwrap();
    for expected in [
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        "X509v3 Name Constraints: critical",
        "DNS:localhost",
        "DNS:gateway-1",
        "IP:127.0.0.0/255.0.0.0",
        "ASN1 OID: prime256v1",
    ] {
        assert!(ca.contains(expected), "{expected} in {ca}");
    }
    let leaf = verify(&["x509", "-in", str(&leaf), "-noout", "-text"]).unwrap();
    for expected in [
        "CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature",
        "X509v3 Extended Key Usage: \n                TLS Web Server Authentication",
    ] {
        assert!(leaf.contains(expected), "{expected} in {leaf}");
    }
}

#[test]
fn rfc5280_4_2_1_10_whoever_trusts_it_is_not_exposed_to_other_names() {
    let folder = Folder::new();
    let directory = folder.path("tls");
    let certificates = ensure(&directory);
    let ca_pem = fs::read(certificates.ca()).unwrap();
    let ca = CertificateDer::from_pem_slice(&ca_pem).unwrap();
    let key = KeyPair::from_pem(&fs::read_to_string(directory.join("ca.key")).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&ca, &key).unwrap();
    for name in ["example.org", "192.0.2.1", "::2", "notlocalhost"] {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = (now() + 90 * DAY).into();
        params.use_authority_key_identifier_extension = true;
        let forged = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        let path = folder.write("forged.crt", &forged.pem());
        let error =
            verify(&["verify", "-CAfile", str(&certificates.ca()), str(&path)]).unwrap_err();
        assert!(
            error.contains("permitted subtree violation"),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn rustls_and_openssl_clients_connect_by_every_name() {
    let folder = Folder::new();
    let certificates = ensure(&folder.path("tls"));
    let server = Server::start(settings(vec![certificates.files()])).await;
    let ca = certificates.ca();
    let config = tidegate_tls::client::config(Some(&ca), None, false).unwrap();
    for name in ["localhost", "gateway-1", "127.0.0.1", "::1"] {
        connect(server.address, &config, name).await.unwrap();
    }
    connect(server.address, &config, "other").await.unwrap_err();
    let address = server.address.to_string();
    let arguments = [
        "s_client",
        "-connect",
        &address,
        "-CAfile",
        str(&ca),
        "-verify_return_error",
        "-x509_strict",
        "-verify_hostname",
        "localhost",
        "-brief",
    ];
    let output = openssl(&arguments, "").await;
    assert!(
        text(&output).contains("Verification: OK"),
        "{}",
        text(&output)
    );
}

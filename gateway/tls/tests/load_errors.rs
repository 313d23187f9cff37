//! Every mistake with files is told by the name of the file and in words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::error::Error as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use rcgen::KeyPair;
use support::*;
use tidegate_tls::{CertificateFiles, ClientAuth, Identity, LoadError, Status, client};

fn load(certificate: CertificateFiles, client: ClientAuth) -> Result<(), LoadError> {
    let mut settings = settings(vec![certificate]);
    settings.client = client;
    Identity::load("mqtts", settings).map(|_| ())
}

/// The message, which begins with the file's name and contains these words.
fn assert_says(result: Result<(), LoadError>, file: &std::path::Path, words: &str) {
    let error = result.unwrap_err();
    // Whoever prints an error with its sources has the whole story already.
    assert!(error.source().is_none(), "{error:?}");
    let message = error.to_string();
    assert!(
        message.starts_with(str(file)),
        "{message} should begin with {}",
        file.display()
    );
    assert!(message.contains(words), "{message} should contain {words}");
}

#[test]
fn mistakes_with_certificate_and_key_are_told() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let good = folder.write_pair("good", &authority.issue(Leaf::server(&["localhost"])));
    load(good.clone(), ClientAuth::None).unwrap();
    let other = folder.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = folder.write("encrypted.key", encrypted);
    let damaged = folder.write(
        "damaged.crt",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let broken = folder.write("broken.crt", "-----BEGIN CERTIFICATE-----\n!!!!\n");
    let bad_key = folder.write(
        "bad.key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let empty = folder.write("empty", "");
    let der = folder.path("cert.der");
    fs::write(&der, authority.der()).unwrap();
    let (missing, directory) = (folder.path("missing"), folder.0.path().to_owned());

    for (chain, words) in [
        (&missing, "there is no such file"),
        (&directory, "not a regular file"),
        (
            &empty,
            "there is no certificate (-----BEGIN CERTIFICATE-----) in it (it is empty)",
        ),
        (&der, "convert it to PEM"),
        (&good.key, "there is no certificate"),
        (&damaged, "malformed"),
        (&broken, "the PEM encoding is broken"),
    ] {
        let files = CertificateFiles {
            chain: chain.clone(),
            key: good.key.clone(),
        };
        assert_says(load(files, ClientAuth::None), chain, words);
    }
    for (key, words) in [
        (&missing, "there is no such file"),
        (&directory, "not a regular file"),
        (&good.chain, "there is no private key"),
        (&encrypted, "without a passphrase"),
        (&bad_key, "the private key cannot be used"),
        (&other, "does not belong to the first certificate in"),
    ] {
        let files = CertificateFiles {
            chain: good.chain.clone(),
            key: key.clone(),
        };
        assert_says(load(files, ClientAuth::None), key, words);
    }
    // The authority's certificate first: the usual way to get a chain wrong.
    let leaf = fs::read_to_string(&good.chain).unwrap();
    let reversed = folder.write("reversed.crt", &format!("{}{leaf}", authority.pem()));
    let files = CertificateFiles {
        chain: reversed,
        key: good.key.clone(),
    };
    assert_says(
        load(files, ClientAuth::None),
        &good.key,
        "the first certificate in",
    );

    assert!(matches!(
        Identity::load("mqtts", settings(Vec::new())),
        Err(LoadError::NothingConfigured)
    ));
}

#[test]
fn mistakes_with_authorities_and_lists_are_told() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let good = folder.write_pair("good", &authority.issue(Leaf::server(&["localhost"])));
    let ca = folder.write("ca.crt", &authority.pem());
    let missing = folder.path("missing");
    let bad = folder.write(
        "bad.crl",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    );
    for (path, words) in [
        (&missing, "there is no such file"),
        (&good.key, "there is no certificate"),
    ] {
        let client = ClientAuth::Required(client_ca(path.clone(), None));
        assert_says(load(good.clone(), client), path, words);
    }
    for (path, words) in [
        (&missing, "there is no such file"),
        (&ca, "there is no revocation list"),
        (&bad, "a revocation list in it cannot be used"),
    ] {
        let client = ClientAuth::Optional(client_ca(ca.clone(), Some(path.clone())));
        assert_says(load(good.clone(), client), path, words);
    }
}

#[test]
fn rfc5280_4_1_2_1_a_certificate_of_version_1_is_told() {
    let folder = Folder::new();
    let key = folder.write("old.key", &KeyPair::generate().unwrap().serialize_pem());
    let (request, chain) = (folder.path("old.csr"), folder.path("old.crt"));
    let openssl = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        text(&openssl_blocking(&arguments, ""))
    };
    let (key_path, request) = (str(&key), str(&request));
    openssl(&[
        "req", "-new", "-key", key_path, "-subj", "/CN=old", "-out", request,
    ]);
    // Without extensions it is version 1.
    let sign = ["x509", "-req", "-in", request, "-signkey", key_path, "-out"];
    openssl(&[&sign[..], &[str(&chain)]].concat());
    let made = openssl(&["x509", "-in", str(&chain), "-noout", "-text"]);
    assert!(made.contains("Version: 1 "), "{made}");
    let files = CertificateFiles {
        chain: chain.clone(),
        key,
    };
    let words = "it is X.509 version 1; TLS needs version 3 (make it with extensions)";
    assert_says(load(files, ClientAuth::None), &chain, words);
}

#[test]
fn what_works_and_should_not_stay_is_told() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let (now, names) = (SystemTime::now(), ["localhost"]);
    let files = |name: &str, not_before, not_after, mode| {
        let files = folder.write_pair(
            name,
            &authority.issue(Leaf {
                not_before,
                not_after,
                ..Leaf::server(&names)
            }),
        );
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        files
    };
    let (past, soon) = (now - DAY, now + DAY);
    let good = files("good", past, soon, 0o600);
    let certificates = vec![
        good.clone(),
        files("over", now - 2 * DAY, past, 0o400),
        files("early", soon, now + 2 * DAY, 0o600),
        files("open", past, soon, 0o640),
    ];
    let ca = folder.write(
        "ca.crt",
        &(authority.pem() + &Authority::new("other").pem()),
    );
    let crl = folder.write("old.crl", &authority.crl(&[], past));
    let mut all = settings(certificates);
    all.client = ClientAuth::Optional(client_ca(ca.clone(), Some(crl)));
    let expected = [
        "over.crt: the certificate has expired; clients will refuse it",
        "early.crt: the certificate is not valid yet; clients will refuse it",
        "open.key: the private key can be read by other users; its mode should be 0600",
        "old.crl: there is no revocation list of CN=other in it; its clients are refused",
        "old.crl: a revocation list has expired; its authority's clients are refused",
    ];
    let expected = expected.map(|end| format!("{}/{end}", str(folder.0.path())));
    assert_eq!(Status::read(&all).unwrap().warnings, expected);
    let identity = Identity::load("mqtts", all).unwrap();
    assert_eq!(identity.status().warnings, expected);

    let mut fine = settings(vec![good]);
    let crl = folder.write("new.crl", &authority.crl(&[], soon));
    let ca = folder.write("ca.crt", &authority.pem());
    fine.client = ClientAuth::Required(client_ca(ca, Some(crl)));
    assert_eq!(Status::read(&fine).unwrap().warnings, [""; 0]);
}

#[test]
fn warnings_are_those_of_the_files_in_use() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let pair = |not_after| {
        let pair = authority.issue(Leaf {
            not_before: SystemTime::now() - 2 * DAY,
            not_after,
            ..Leaf::server(&["localhost"])
        });
        let files = folder.write_pair("server", &pair);
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        files
    };
    let files = pair(SystemTime::now() - DAY);
    let identity = Identity::load("mqtts", settings(vec![files])).unwrap();
    assert_eq!(identity.status().warnings.len(), 1);
    pair(SystemTime::now() + DAY);
    identity.check();
    assert_eq!(identity.status().warnings, [""; 0]);
    assert_eq!(identity.status().reloads_succeeded, 1);
}

#[test]
fn what_is_asked_of_clients_is_checked_without_a_certificate() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let ca = folder.write("ca.crt", &authority.pem());
    let bad = folder.write("bad", "nonsense");
    let read = |ca, crl| {
        let mut settings = settings(Vec::new());
        settings.client = ClientAuth::Optional(client_ca(ca, crl));
        Status::read(&settings)
    };
    let status = read(ca.clone(), None).unwrap();
    assert_eq!(status.client_ca_subjects.len(), 1);
    let words = "there is no certificate";
    assert_says(read(bad.clone(), None).map(|_| ()), &bad, words);
    let words = "there is no revocation list";
    assert_says(read(ca, Some(bad.clone())).map(|_| ()), &bad, words);
}

#[test]
fn a_file_of_another_user_is_told() {
    // Tests may run as root, who may read everything.
    let error = LoadError::Read {
        path: "/etc/x.key".into(),
        error: io::ErrorKind::PermissionDenied.into(),
    };
    assert_eq!(
        error.to_string(),
        "/etc/x.key: it may not be read by this user"
    );
}

#[test]
fn a_client_is_told_as_well() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let pair = folder.write_pair("client", &authority.issue(Leaf::client("me")));
    let ca = folder.write("ca.crt", &authority.pem());
    client::config(Some(&ca), Some((&pair.chain, &pair.key)), false).unwrap();
    let error = client::config(Some(&pair.key), None, false).unwrap_err();
    assert!(
        error.to_string().contains("there is no certificate"),
        "{error}"
    );
    let error = client::config(Some(&ca), Some((&pair.chain, &ca)), false).unwrap_err();
    assert!(
        error.to_string().contains("there is no private key"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_checks_the_server_unless_told_not_to() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let ca = folder.write("ca.crt", &authority.pem());
    let stranger = folder.write("stranger.crt", &Authority::new("stranger").pem());
    let mut settings = settings(vec![files]);
    settings.client = ClientAuth::Required(client_ca(ca.clone(), None));
    let own = folder.write_pair("client", &authority.issue(Leaf::client("me")));
    let own = Some((own.chain.as_path(), own.key.as_path()));
    let mut server = Server::start(settings).await;
    for (ca, insecure, name, welcome) in [
        (&ca, false, "localhost", true),
        (&ca, false, "other", false),
        (&stranger, false, "localhost", false),
        (&stranger, true, "other", true),
    ] {
        let config = client::config(Some(ca), own, insecure).unwrap();
        let result = connect(server.address, &config, name).await;
        assert_eq!(result.is_ok(), welcome, "{name} {insecure}");
        let peer = server.result().await;
        let told = peer.ok().and_then(|peer| peer.certificate?.common_name);
        assert_eq!(told.as_deref() == Some("me"), welcome);
    }
}

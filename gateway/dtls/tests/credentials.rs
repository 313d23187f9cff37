//! Keys and certificates: what is refused at the start, and what changes while sessions go on.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{
    Authority, CLIENT, Client, Event, House, KEY, Wire, address, client_named, server_named,
};
use tidegate_dtls::{
    CredentialSettings, Credentials, Failure, LoadError, Method, PskSource, Settings,
};
use tidegate_tls::{ClientAuth, ClientCa, Outcome, Watcher};

/// What is said without a listener is what one says.
fn problem(settings: CredentialSettings) -> String {
    let said = settings.read().map(|_| ());
    let said = said.map_err(|error| error.to_string());
    match Credentials::load("coaps", settings) {
        Ok(_) => {
            assert_eq!(said, Ok(()));
            "none".to_owned()
        }
        Err(error) => {
            assert_eq!(said, Err(error.to_string()));
            error.to_string()
        }
    }
}

#[test]
fn what_cannot_be_used_is_told_at_the_start() {
    let house = House::new();
    let mut nothing = house.settings.clone();
    (nothing.psk, nothing.certificate) = (None, None);
    let nothing = Credentials::load("coaps", nothing).unwrap_err().to_string();
    assert!(nothing.contains("neither pre-shared keys nor a certificate"));

    let mut optional = house.settings.clone();
    optional.client = ClientAuth::Optional(ClientCa {
        ca: house.folder.path("ca.pem"),
        crl: None,
    });
    assert!(problem(optional).contains("\"optional\" is not possible"));

    let mut missing = house.settings.clone();
    missing.psk = Some(PskSource::File(house.folder.path("psk")));
    assert!(problem(missing).ends_with("psk: there is no such file"));

    let mut hint = house.settings.clone();
    hint.psk_hint = Some("x".repeat(129));
    assert!(problem(hint).contains("hint"));

    let mut no_ca = house.settings.clone();
    no_ca.client = ClientAuth::Required(ClientCa {
        ca: house.folder.path("none.pem"),
        crl: None,
    });
    assert!(problem(no_ca).contains("none.pem: there is no such file"));
}

#[test]
fn rfc8422_5_3_a_certificate_with_rsa_or_another_curve_is_refused_at_the_start() {
    let house = House::new();
    let folder = &house.folder;
    for (name, arguments, expected) in [
        (
            "rsa",
            &["-newkey", "rsa:2048"][..],
            "its key is RSA with 2048 bits",
        ),
        (
            "p521",
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"],
            "its key is of another elliptic curve",
        ),
        (
            "ed25519",
            &["-newkey", "ed25519"],
            "its key is of another kind",
        ),
    ] {
        let Some(openssl) = support::socket::program("openssl") else {
            return;
        };
        let chain = folder.path(&format!("{name}.crt"));
        let key = folder.path(&format!("{name}.key"));
        let mut command = std::process::Command::new(openssl);
        command
            .args(["req", "-x509", "-nodes", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(arguments)
            .args(["-out", chain.to_str().unwrap()])
            .args(["-keyout", key.to_str().unwrap()]);
        let made = support::socket::run(&mut command);
        assert!(made.status.success(), "{made:?}");
        let mut settings = house.settings.clone();
        settings.certificate = Some(tidegate_tls::CertificateFiles { chain, key });
        let problem = problem(settings);
        assert!(problem.contains(expected), "{problem}");
        assert!(problem.contains("P-256 or P-384"), "{problem}");
    }
}

#[test]
fn rfc8422_5_1_1_a_certificate_of_p384_works_in_both_versions() {
    let house = House::mutual();
    let mut subject = server_named("localhost");
    subject.algorithm = &rcgen::PKCS_ECDSA_P384_SHA384;
    let leaf = house.authority.issue(&subject);
    house.folder.write_leaf("server", &leaf);
    let mut wire = house.wire(Settings::default());
    subject.usage = client_named("").usage;
    let leaf = house.authority.issue(&subject);
    let mut twelve = Client::certificate12(address("127.0.0.1:1"), &leaf, wire.now);
    assert_eq!(twelve.connect(&mut wire).2, Method::Certificate12);
    let mut thirteen = Client::certificate13(address("127.0.0.1:2"), &leaf, wire.now);
    assert_eq!(thirteen.connect(&mut wire).2, Method::Certificate13);
}

#[test]
fn a_listener_with_keys_only_and_one_with_a_certificate_only_refuse_the_other_clients() {
    let house = House::new();
    let leaf = house.authority.issue(&client_named("p"));
    let mut keys_only = House::new();
    keys_only.settings.certificate = None;
    let mut wire = keys_only.wire(Settings::default());
    let mut client = Client::certificate12(address(CLIENT), &leaf, wire.now);
    client.talk(&mut wire);
    assert!(!client.connected && client.error.is_some());
    Client::psk(address(CLIENT), "device", KEY, wire.now).connect(&mut wire);
    assert_eq!(wire.failures(Failure::NoCommonSuite), 1);

    let mut certificate_only = House::new();
    certificate_only.settings.psk = None;
    let mut wire = certificate_only.wire(Settings::default());
    let mut client = Client::psk(address(CLIENT), "device", KEY, wire.now);
    client.talk(&mut wire);
    assert!(!client.connected && client.error.is_some());
    assert_eq!(wire.failures(Failure::NoCommonSuite), 1);
    Client::certificate12(address(CLIENT), &leaf, wire.now).connect(&mut wire);
}

fn can_connect(wire: &mut Wire, port: u16, identity: &str, key: &[u8]) -> bool {
    let peer = address(&format!("127.0.0.1:{port}"));
    let mut client = Client::psk(peer, identity, key, wire.now);
    client.talk(wire);
    wire.events();
    client.connected
}

#[test]
fn pre_shared_keys_follow_their_file_and_sessions_go_on() {
    let mut house = House::new();
    let (first, second) = ("11".repeat(16), "22".repeat(16));
    let file = house.folder.write("psk", &format!("a:{first}\n"));
    house.settings.psk = Some(PskSource::File(file.clone()));
    let credentials = house.credentials();
    assert!(credentials.status().warnings.is_empty());
    assert_eq!(credentials.check(), Outcome::Unchanged);
    let mut wire = Wire::new(Settings::default(), credentials.clone());
    let mut client = Client::psk(address(CLIENT), "a", &[0x11; 16], wire.now);
    let (session, ..) = client.connect(&mut wire);

    house
        .folder
        .write("psk", &format!("a:{second}\nb:{first}\n"));
    assert!(
        can_connect(&mut wire, 1, "a", &[0x11; 16]),
        "not yet looked"
    );
    assert_eq!(credentials.check(), Outcome::Replaced);
    assert_eq!(credentials.psk_len(), 2);
    assert!(!can_connect(&mut wire, 2, "a", &[0x11; 16]));
    assert!(can_connect(&mut wire, 3, "a", &[0x22; 16]));
    assert!(can_connect(&mut wire, 4, "b", &[0x11; 16]));
    assert!(client.is_served(&mut wire, session));

    let status = credentials.status();
    assert_eq!((status.reloads_succeeded, status.reloads_failed), (1, 0));

    // One bad line, and all is as it was.
    house.folder.write("psk", &format!("c:{second}\nb:1\n"));
    assert_eq!(credentials.check(), Outcome::Failed);
    let status = credentials.status();
    assert_eq!((status.reloads_succeeded, status.reloads_failed), (1, 1));
    assert!(status.last_error.unwrap().contains("line 2"));
    assert_eq!(credentials.check(), Outcome::Unchanged);
    assert!(can_connect(&mut wire, 5, "b", &[0x11; 16]));
    assert!(!can_connect(&mut wire, 6, "c", &[0x22; 16]));
    fs::remove_file(&file).unwrap();
    assert_eq!(credentials.check(), Outcome::Failed);
    assert!(can_connect(&mut wire, 7, "b", &[0x11; 16]));
}

#[test]
fn a_watcher_takes_new_keys_into_use_by_itself() {
    let mut house = House::new();
    let key = "11".repeat(16);
    house.settings.psk = Some(PskSource::File(
        house.folder.write("psk", &format!("a:{key}")),
    ));
    let credentials = house.credentials();
    let (sender, outcomes) = std::sync::mpsc::channel();
    let watched = vec![credentials.clone()];
    let watcher = Watcher::start(watched, move |_, outcome| {
        let _ = sender.send(outcome);
    });
    let watcher = watcher.unwrap();
    house.folder.write("psk", &format!("a:{key}\nb:{key}"));
    let patience = std::time::Duration::from_secs(20);
    assert_eq!(outcomes.recv_timeout(patience), Ok(Outcome::Replaced));
    assert_eq!(credentials.psk_len(), 2);
    drop(watcher);
}

#[test]
fn keys_that_others_can_read_are_warned_of() {
    let mut house = House::new();
    let file = house
        .folder
        .write("psk", &format!("a:{}\n", "11".repeat(16)));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    house.settings.psk = Some(PskSource::File(file.clone()));
    let credentials = house.credentials();
    let warnings = credentials.status().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("its mode should be 0600"),
        "{warnings:?}"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(credentials.check(), Outcome::Warned);
    assert!(credentials.status().warnings.is_empty());
    assert_eq!(credentials.check(), Outcome::Unchanged);
}

#[test]
fn a_chain_with_something_between_is_warned_of_because_only_its_first_certificate_is_sent() {
    let house = House::new();
    let leaf = house.authority.issue(&server_named("localhost"));
    house.folder.write_leaf("server", &leaf);
    // Who is to verify the certificate has the root anyway.
    let chain = format!("{}{}", leaf.pem, house.authority.pem());
    house.folder.write("server.crt", &chain);
    assert!(house.credentials().status().warnings.is_empty());
    let between = house.authority.issue(&server_named("between"));
    let chain = format!("{}{}", leaf.pem, between.pem);
    house.folder.write("server.crt", &chain);
    let warnings = house.credentials().status().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("the first certificate only"),
        "{warnings:?}"
    );
}

#[test]
fn certificates_and_authorities_follow_their_files_and_sessions_go_on() {
    let house = House::mutual();
    let credentials = house.credentials();
    let mut wire = Wire::new(Settings::default(), credentials.clone());
    let leaf = house.authority.issue(&client_named("before"));
    let mut client = Client::certificate13(address(CLIENT), &leaf, wire.now);
    let (session, ..) = client.connect(&mut wire);

    let successor = Authority::new("successor");
    let server = successor.issue(&server_named("localhost"));
    house.folder.write_leaf("server", &server);
    house.folder.write("ca.pem", &successor.pem());
    assert_eq!(credentials.check(), Outcome::Replaced);
    assert!(client.is_served(&mut wire, session));

    let mut refused = Client::certificate12(address("127.0.0.1:2"), &leaf, wire.now);
    refused.talk(&mut wire);
    assert!(!refused.connected);
    assert_eq!(wire.failures(Failure::CertificateIssuer), 1);
    let leaf = successor.issue(&client_named("after"));
    let mut welcome = Client::certificate12(address("127.0.0.1:3"), &leaf, wire.now);
    welcome.talk(&mut wire);
    assert!(welcome.connected);
    let shown = welcome.server_certificate.as_ref();
    assert_eq!(shown, Some(&server.dtls.certificate));
    assert!(matches!(wire.events()[..], [Event::Established(..)]));

    let status = credentials.status();
    assert_eq!((status.reloads_succeeded, status.reloads_failed), (1, 0));
    assert_eq!(status.certificates.len(), 1);

    house.folder.write("server.key", "nonsense");
    assert_eq!(credentials.check(), Outcome::Failed);
    let status = credentials.status();
    assert_eq!((status.reloads_succeeded, status.reloads_failed), (1, 1));
    assert!(status.last_error.unwrap().contains("server.key"));
    Client::certificate12(address("127.0.0.1:4"), &leaf, wire.now).connect(&mut wire);
}

#[test]
fn an_error_names_the_file_and_the_line() {
    let mut house = House::new();
    let file = house.folder.write("psk", "\n# fine\nbroken\n");
    house.settings.psk = Some(PskSource::File(file.clone()));
    match Credentials::load("coaps", house.settings) {
        Err(LoadError::Psk { path, line, .. }) => assert_eq!((path, line), (file, 3)),
        other => panic!("{other:?}"),
    }
}

//! Client certificates: who is let in, and which alert the others get.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::time::{Duration, SystemTime};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, ClientConnection, HandshakeKind};
use support::*;
use tidegate_tls::{ClientAuth, HandshakeError, Outcome, Settings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The authority of server and clients, and the files of a server that knows it.
struct Setup {
    authority: Authority,
    folder: Folder,
    settings: Settings,
}

fn setup(auth: impl FnOnce(tidegate_tls::ClientCa) -> ClientAuth, crl: Option<&str>) -> Setup {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let ca = folder.write("clients.crt", &authority.pem());
    let crl = crl.map(|text| folder.write("clients.crl", text));
    let mut settings = settings(vec![files]);
    settings.client = auth(client_ca(ca, crl));
    Setup {
        authority,
        folder,
        settings,
    }
}

fn with_crl(setup: &mut Setup, auth: impl FnOnce(tidegate_tls::ClientCa) -> ClientAuth, crl: &str) {
    let crl = setup.folder.write("clients.crl", crl);
    setup.settings.client = auth(client_ca(setup.folder.path("clients.crt"), Some(crl)));
}

#[tokio::test]
async fn a_required_certificate_is_told_in_words() {
    let setup = setup(ClientAuth::Required, None);
    let mut leaf = Leaf::client("sensor-7");
    leaf.names = &["sensor-7.example.org", "127.0.0.1"];
    let device = setup.authority.issue(leaf);
    let mut server = Server::start(setup.settings.clone()).await;
    for version in [&TLS12, &TLS13] {
        let config = client(roots(&[&setup.authority]), &[version], Some(&device));
        for resumed in [false, true] {
            connect(server.address, &config, "localhost").await.unwrap();
            let peer = server.result().await.unwrap();
            assert_eq!(peer.resumed, resumed);
            let certificate = peer.certificate.unwrap();
            assert_eq!(certificate.common_name.as_deref(), Some("sensor-7"));
            assert_eq!(
                certificate.sans,
                ["DNS:sensor-7.example.org", "IP:127.0.0.1"]
            );
            assert!(
                certificate.subject.contains("CN=sensor-7"),
                "{}",
                certificate.subject
            );
            assert_eq!(certificate.fingerprint.len(), 64);
        }
    }
    let path = setup.folder.write("device.crt", &device.chain);
    let arguments = [
        "x509",
        "-in",
        str(&path),
        "-noout",
        "-fingerprint",
        "-sha256",
    ];
    let expected = text(&openssl(&arguments, "").await);
    let expected = expected
        .trim()
        .rsplit('=')
        .next()
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    let config = client(roots(&[&setup.authority]), &[&TLS13], Some(&device));
    connect(server.address, &config, "localhost").await.unwrap();
    let certificate = server.result().await.unwrap().certificate.unwrap();
    assert_eq!(certificate.fingerprint, expected);
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_bad() {
    let setup = setup(ClientAuth::Optional, None);
    let mut server = Server::start(setup.settings.clone()).await;
    let device = setup.authority.issue(Leaf::client("device"));
    let stranger = Authority::new("stranger").issue(Leaf::client("device"));
    for version in [&TLS12, &TLS13] {
        let without = client(roots(&[&setup.authority]), &[version], None);
        connect(server.address, &without, "localhost")
            .await
            .unwrap();
        assert_eq!(server.result().await.unwrap().certificate, None);
        let with = client(roots(&[&setup.authority]), &[version], Some(&device));
        connect(server.address, &with, "localhost").await.unwrap();
        assert!(server.result().await.unwrap().certificate.is_some());
        let bad = client(roots(&[&setup.authority]), &[version], Some(&stranger));
        let refused = connect(server.address, &bad, "localhost").await;
        assert_eq!(alert(refused), AlertDescription::UnknownCA);
        assert!(server.result().await.is_err());
    }
}

#[tokio::test]
async fn rfc8446_6_2_every_reason_for_a_refusal_has_its_alert() {
    let mut setup = setup(ClientAuth::Required, None);
    let stranger = Authority::new("stranger");
    let revoked = setup.authority.issue(Leaf::client("revoked"));
    let crl = setup
        .authority
        .crl(&[&revoked], SystemTime::now() + 30 * DAY);
    with_crl(&mut setup, ClientAuth::Required, &crl);
    let mut server = Server::start(setup.settings.clone()).await;

    let past = SystemTime::now() - DAY;
    let expired = Leaf {
        not_before: past - DAY,
        not_after: past,
        ..Leaf::client("expired")
    };
    let early = Leaf {
        not_before: SystemTime::now() + DAY,
        ..Leaf::client("early")
    };
    let wrong = Leaf {
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        ..Leaf::client("server")
    };
    // Signed by nobody but itself.
    let itself = rcgen::generate_simple_self_signed(vec!["device".to_owned()]).unwrap();
    let itself = Pair {
        chain: itself.cert.pem(),
        key: itself.signing_key.serialize_pem(),
        serial: 1.into(),
    };
    let cases = [
        ("none", None, AlertDescription::CertificateRequired),
        (
            "stranger",
            Some(stranger.issue(Leaf::client("x"))),
            AlertDescription::UnknownCA,
        ),
        ("self-signed", Some(itself), AlertDescription::UnknownCA),
        (
            "expired",
            Some(setup.authority.issue(expired)),
            AlertDescription::CertificateExpired,
        ),
        (
            "early",
            Some(setup.authority.issue(early)),
            AlertDescription::CertificateExpired,
        ),
        (
            "revoked",
            Some(revoked),
            AlertDescription::CertificateRevoked,
        ),
        (
            "usage",
            Some(setup.authority.issue(wrong)),
            AlertDescription::UnsupportedCertificate,
        ),
    ];
    for version in [&TLS12, &TLS13] {
        for (what, pair, expected) in &cases {
            let config = client(roots(&[&setup.authority]), &[version], pair.as_ref());
            let refused = connect(server.address, &config, "localhost").await;
            assert_eq!(alert(refused), *expected, "{what} {version:?}");
            let result = server.result().await;
            assert!(
                matches!(result, Err(HandshakeError::Refused(_))),
                "{what} {result:?}"
            );
        }
        let good = setup.authority.issue(Leaf::client("good"));
        let config = client(roots(&[&setup.authority]), &[version], Some(&good));
        connect(server.address, &config, "localhost").await.unwrap();
        server.result().await.unwrap();
    }
    assert_eq!(server.acceptor.counters().failed(), 2 * cases.len() as u64);
}

#[tokio::test]
async fn openssl_clients_see_the_alerts() {
    let mut setup = setup(ClientAuth::Required, None);
    let revoked = setup.authority.issue(Leaf::client("revoked"));
    let good = setup.authority.issue(Leaf::client("good"));
    let crl = setup
        .authority
        .crl(&[&revoked], SystemTime::now() + 30 * DAY);
    with_crl(&mut setup, ClientAuth::Required, &crl);
    let mut server = Server::start(setup.settings.clone()).await;
    let address = server.address.to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        for (pair, expected) in [
            (None, "alert number 116"),
            (Some(&revoked), "alert certificate revoked"),
            (Some(&good), "CONNECTED"),
        ] {
            let files = pair.map(|pair| setup.folder.write_pair("client", pair));
            let mut arguments = vec!["s_client", "-connect", &address, version, "-ign_eof"];
            if let Some(files) = &files {
                arguments.extend(["-cert", str(&files.chain), "-key", str(&files.key)]);
            }
            let welcome = expected == "CONNECTED";
            if welcome {
                // The others must read on until they are told.
                arguments.retain(|argument| *argument != "-ign_eof");
            }
            let text = text(&openssl(&arguments, "").await);
            assert!(text.contains(expected), "{version} {text}");
            assert_eq!(server.result().await.is_ok(), welcome);
        }
    }
}

#[tokio::test]
async fn rfc5280_6_3_an_expired_list_or_none_of_this_authority_refuses_its_clients() {
    let mut setup = setup(ClientAuth::Required, None);
    let device = setup.authority.issue(Leaf::client("device"));
    let other = Authority::new("other");
    let later = SystemTime::now() + 30 * DAY;
    for (crl, welcome) in [
        (setup.authority.crl(&[], later), true),
        (setup.authority.crl(&[], SystemTime::now() - DAY), false),
        (other.crl(&[], later), false),
        (
            format!(
                "{}{}",
                other.crl(&[], later),
                setup.authority.crl(&[], later)
            ),
            true,
        ),
    ] {
        with_crl(&mut setup, ClientAuth::Required, &crl);
        let server = Server::start(setup.settings.clone()).await;
        let config = client(roots(&[&setup.authority]), &[&TLS13], Some(&device));
        let result = connect(server.address, &config, "localhost").await;
        if welcome {
            result.unwrap();
        } else {
            assert_eq!(alert(result), AlertDescription::UnknownCA);
        }
        assert!(server.identity.status().crl_next_update.is_some());
    }
}

#[tokio::test]
async fn a_certificate_revoked_between_two_handshakes_does_not_resume() {
    let mut setup = setup(ClientAuth::Required, None);
    let device = setup.authority.issue(Leaf::client("device"));
    let later = SystemTime::now() + 30 * DAY;
    let crl = setup.authority.crl(&[], later);
    with_crl(&mut setup, ClientAuth::Required, &crl);
    for version in [&TLS12, &TLS13] {
        setup
            .folder
            .write("clients.crl", &setup.authority.crl(&[], later));
        let mut server = Server::start(setup.settings.clone()).await;
        let config = client(roots(&[&setup.authority]), &[version], Some(&device));
        connect(server.address, &config, "localhost").await.unwrap();
        server.result().await.unwrap();
        connect(server.address, &config, "localhost").await.unwrap();
        assert!(server.result().await.unwrap().resumed);

        setup
            .folder
            .write("clients.crl", &setup.authority.crl(&[&device], later));
        assert_eq!(server.identity.check(), Outcome::Replaced);
        // The client still has its ticket; the server has forgotten the key to it.
        let refused = connect(server.address, &config, "localhost").await;
        assert_eq!(alert(refused), AlertDescription::CertificateRevoked);
        match server.result().await {
            Err(HandshakeError::Refused(rustls::Error::InvalidCertificate(error))) => {
                assert_eq!(error, CertificateError::Revoked);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_revoked_during_a_handshake_is_refused_when_it_is_over() {
    let mut setup = setup(ClientAuth::Required, None);
    let device = setup.authority.issue(Leaf::client("device"));
    let later = SystemTime::now() + 30 * DAY;
    let crl = setup.authority.crl(&[], later);
    with_crl(&mut setup, ClientAuth::Required, &crl);
    let crl = setup.folder.path("clients.crl");
    for resume in [false, true] {
        std::fs::write(&crl, setup.authority.crl(&[], later)).unwrap();
        let mut server = Server::start(setup.settings.clone()).await;
        let config = client(roots(&[&setup.authority]), &[&TLS13], Some(&device));
        if resume {
            connect(server.address, &config, "localhost").await.unwrap();
            server.result().await.unwrap();
        }
        let name = "localhost".try_into().unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        // The server has answered with the keys, authorities and lists as they were.
        stream.peek(&mut [0]).await.unwrap();
        std::fs::write(&crl, setup.authority.crl(&[&device], later)).unwrap();
        assert_eq!(server.identity.check(), Outcome::Replaced);

        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let kind = tokio::task::spawn_blocking(move || {
            while connection.is_handshaking() {
                connection.complete_io(&mut stream).unwrap();
            }
            // Until the server closes.
            while connection.wants_read() && connection.read_tls(&mut stream).unwrap() > 0 {
                connection.process_new_packets().unwrap();
            }
            connection.handshake_kind()
        });
        match server.result().await {
            Err(HandshakeError::RefusedAfterwards(rustls::Error::InvalidCertificate(error))) => {
                assert_eq!(error, CertificateError::Revoked);
            }
            other => panic!("{other:?}"),
        }
        let expected = if resume {
            HandshakeKind::Resumed
        } else {
            HandshakeKind::Full
        };
        assert_eq!(kind.await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn a_certificate_that_expired_between_two_handshakes_does_not_resume() {
    let setup = setup(ClientAuth::Required, None);
    // Whole seconds are all that a certificate can say.
    let not_after = SystemTime::now() + Duration::from_secs(3);
    let device = setup.authority.issue(Leaf {
        not_after,
        ..Leaf::client("device")
    });
    let mut server = Server::start(setup.settings.clone()).await;
    let configs = [&TLS12, &TLS13]
        .map(|version| client(roots(&[&setup.authority]), &[version], Some(&device)));
    for config in &configs {
        connect(server.address, config, "localhost").await.unwrap();
        server.result().await.unwrap();
    }
    // It is time itself that is awaited here.
    let expiry = not_after
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    tokio::time::sleep(expiry + Duration::from_millis(1100)).await;
    for config in &configs {
        // The ticket is good, so the handshake succeeds, and then the connection ends.
        let error = connect(server.address, config, "localhost")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
        match server.result().await {
            Err(HandshakeError::RefusedAfterwards(rustls::Error::InvalidCertificate(error))) => {
                assert!(
                    matches!(error, CertificateError::ExpiredContext { .. }),
                    "{error}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn tickets_outlive_a_new_server_certificate_and_not_a_new_client_authority() {
    let setup = setup(ClientAuth::Required, None);
    let device = setup.authority.issue(Leaf::client("device"));
    let mut server = Server::start(setup.settings.clone()).await;
    let config = client(roots(&[&setup.authority]), &[&TLS13], Some(&device));
    connect(server.address, &config, "localhost").await.unwrap();
    server.result().await.unwrap();

    let renewed = setup.authority.issue(Leaf::server(&["localhost"]));
    setup.folder.write_pair("server", &renewed);
    assert_eq!(server.identity.check(), Outcome::Replaced);
    let stream = connect(server.address, &config, "localhost").await.unwrap();
    assert_eq!(
        stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    server.result().await.unwrap();

    let both = format!("{}{}", setup.authority.pem(), Authority::new("more").pem());
    setup.folder.write("clients.crt", &both);
    assert_eq!(server.identity.check(), Outcome::Replaced);
    let stream = connect(server.address, &config, "localhost").await.unwrap();
    assert_eq!(
        stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Full)
    );
    assert_eq!(server.identity.status().client_ca_subjects.len(), 2);
}

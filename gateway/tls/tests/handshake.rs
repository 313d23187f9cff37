//! Versions, key exchange, choice of certificate, resumption: against rustls and openssl.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::time::SystemTime;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind, NamedGroup, ProtocolVersion};
use support::*;
use tidegate_tls::{HandshakeError, MinVersion};

#[tokio::test]
async fn both_versions_are_spoken_and_told() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let mut server = Server::start(settings(vec![files])).await;
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = client(roots(&[&authority]), &[version], None);
        connect(server.address, &config, "localhost").await.unwrap();
        let peer = server.result().await.unwrap();
        assert_eq!(peer.version, expected);
        assert_eq!(peer.server_name.as_deref(), Some("localhost"));
        assert!(!peer.resumed);
        assert_eq!(peer.certificate, None);
    }
    assert_eq!(server.acceptor.counters().full(), 2);
    assert_eq!(server.acceptor.counters().in_progress(), 0);
}

#[tokio::test]
async fn rfc8446_6_2_an_older_version_than_the_minimum_is_refused_with_protocol_version() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let mut settings = settings(vec![files]);
    settings.min_version = MinVersion::Tls13;
    let mut server = Server::start(settings).await;
    let old = client(roots(&[&authority]), &[&TLS12], None);
    let refused = connect(server.address, &old, "localhost").await;
    assert_eq!(alert(refused), AlertDescription::ProtocolVersion);
    assert!(matches!(
        server.result().await,
        Err(HandshakeError::Refused(_))
    ));
    let new = client(roots(&[&authority]), &[&TLS13], None);
    connect(server.address, &new, "localhost").await.unwrap();
}

#[tokio::test]
async fn the_hybrid_key_exchange_is_preferred_and_the_classic_ones_remain() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let server = Server::start(settings(vec![files])).await;
    let config = client(roots(&[&authority]), &[&TLS13], None);
    let stream = connect(server.address, &config, "localhost").await.unwrap();
    let group = stream
        .get_ref()
        .1
        .negotiated_key_exchange_group()
        .unwrap()
        .name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);

    for group in ["X25519", "P-256", "P-384"] {
        let address = server.address.to_string();
        let arguments = ["s_client", "-connect", &address, "-groups", group, "-brief"];
        let output = openssl(&arguments, "").await;
        assert!(
            text(&output).contains("CONNECTION ESTABLISHED"),
            "{group}: {}",
            text(&output)
        );
    }
}

#[tokio::test]
async fn openssl_speaks_1_2_and_1_3_and_not_1_1() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let ca = folder.write("ca.crt", &authority.pem());
    let mut server = Server::start(settings(vec![files])).await;
    let address = server.address.to_string();
    for (option, expected) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let output = openssl(
            &[
                "s_client",
                "-connect",
                &address,
                option,
                "-brief",
                "-CAfile",
                str(&ca),
                "-verify_return_error",
                "-verify_hostname",
                "localhost",
            ],
            "",
        )
        .await;
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains(&format!("Protocol version: {expected}")),
            "{text}"
        );
        assert!(text.contains("Verification: OK"), "{text}");
        server.result().await.unwrap();
    }
    let old = [
        "s_client",
        "-connect",
        &address,
        "-tls1_1",
        "-cipher",
        "ALL:@SECLEVEL=0",
    ];
    let output = openssl(&old, "").await;
    assert!(!output.status.success());
    // Its ClientHello lacks an extension as well, and that is what rustls complains about first.
    assert!(
        text(&output).contains("alert handshake failure"),
        "{}",
        text(&output)
    );
    let error = server.result().await.unwrap_err().to_string();
    assert!(
        error.ends_with("it speaks nothing newer than TLS 1.1"),
        "{error}"
    );
}

#[tokio::test]
async fn rfc6066_3_the_certificate_is_chosen_by_the_server_name() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let default = authority.issue(Leaf::server(&["localhost"]));
    let exact = authority.issue(Leaf::server(&["Broker.Example.ORG", "10.0.0.1"]));
    let wild = authority.issue(Leaf::server(&["*.example.org"]));
    let certificates = vec![
        folder.write_pair("default", &default),
        folder.write_pair("exact", &exact),
        folder.write_pair("wild", &wild),
    ];
    let mut server = Server::start(settings(certificates)).await;
    let any = tidegate_tls::client::config(None, None, true).unwrap();
    for (name, expected) in [
        ("localhost", &default),
        ("broker.example.org", &exact),
        ("BROKER.example.org", &exact),
        ("other.example.org", &wild),
        ("a.b.example.org", &default),
        ("example.org", &default),
        ("unknown.example", &default),
        // Not sent in the handshake (RFC 6066: no literal addresses).
        ("10.0.0.1", &default),
    ] {
        let stream = connect(server.address, &any, name).await.unwrap();
        // The session may be resumed; the client then tells the certificate of the first time.
        assert!(shown(&stream) == der(expected), "{name}");
        let expected_name = (name != "10.0.0.1").then(|| name.to_lowercase());
        assert_eq!(server.result().await.unwrap().server_name, expected_name);
    }
}

#[tokio::test]
async fn of_two_certificates_for_a_name_the_client_is_shown_one_it_can_check() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let ecdsa = authority.issue(Leaf::server(&["localhost"]));
    // rcgen makes no RSA keys fast; openssl does.
    let (key, chain) = (folder.path("rsa.key"), folder.path("rsa.crt"));
    let made = openssl(
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(&key),
            "-out",
            str(&chain),
        ],
        "",
    )
    .await;
    assert!(made.status.success(), "{}", text(&made));
    let rsa = tidegate_tls::CertificateFiles { chain, key };
    let certificates = vec![folder.write_pair("ecdsa", &ecdsa), rsa];
    let server = Server::start(settings(certificates)).await;
    let address = server.address.to_string();
    for (algorithms, expected) in [
        ("ECDSA+SHA256", "Signature type: ECDSA"),
        ("RSA-PSS+SHA256", "Signature type: RSA-PSS"),
    ] {
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-servername",
            "localhost",
            "-sigalgs",
            algorithms,
            "-brief",
        ];
        let text = text(&openssl(&arguments, "").await);
        assert!(text.contains(expected), "{algorithms}: {text}");
    }
}

#[tokio::test]
async fn rfc7301_3_2_an_offer_of_unknown_protocols_is_refused_and_no_offer_is_welcome() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let mut settings = settings(vec![files]);
    settings.alpn = vec![b"mqtt".to_vec()];
    let server = Server::start(settings).await;
    let silent = client(roots(&[&authority]), &[&TLS13], None);
    connect(server.address, &silent, "localhost").await.unwrap();
    let mut fitting = (*silent).clone();
    fitting.alpn_protocols = vec![b"h2".to_vec(), b"mqtt".to_vec()];
    let stream = connect(server.address, &fitting.into(), "localhost")
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"mqtt"[..]));
    let mut other = (*silent).clone();
    other.alpn_protocols = vec![b"h2".to_vec()];
    let refused = connect(server.address, &other.into(), "localhost").await;
    assert_eq!(alert(refused), AlertDescription::NoApplicationProtocol);
}

#[tokio::test]
async fn sessions_are_resumed_in_both_versions_and_counted() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let mut server = Server::start(settings(vec![files])).await;
    for version in [&TLS12, &TLS13] {
        let config = client(roots(&[&authority]), &[version], None);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = connect(server.address, &config, "localhost").await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
            let peer = server.result().await.unwrap();
            assert_eq!(peer.resumed, expected == HandshakeKind::Resumed);
        }
    }
    assert_eq!(server.acceptor.counters().full(), 2);
    assert_eq!(server.acceptor.counters().resumed(), 2);
}

#[tokio::test]
async fn openssl_resumes_in_both_versions() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let mut server = Server::start(settings(vec![files])).await;
    let address = server.address.to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = folder.path(&format!("session{version}"));
        // The echo of the line comes after the tickets; `-ign_eof` waits for the server's end, which
        // comes when the input has ended ("Q" ends s_client when it is a line of its own).
        for (option, resumed) in [("-sess_out", false), ("-sess_in", true)] {
            let arguments = [
                "s_client",
                "-connect",
                &address,
                version,
                option,
                str(&session),
            ];
            let output = s_client_until_echo(&arguments).await;
            assert!(output.contains("hello"), "{output}");
            assert_eq!(
                server.result().await.unwrap().resumed,
                resumed,
                "{version} {output}"
            );
        }
    }
}

/// Sends a line, waits for its echo, then ends the input.
async fn s_client_until_echo(arguments: &[&str]) -> String {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    tokio::task::spawn_blocking(move || {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"hello\n").unwrap();
        let mut seen = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            seen.push_str(&line);
            seen.push('\n');
            if line == "hello" {
                input.write_all(b"Q\n").unwrap();
            }
        }
        child.wait().unwrap();
        seen
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn without_resumption_no_ticket_is_given() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let mut settings = settings(vec![files]);
    settings.resumption = tidegate_tls::Resumption::Off;
    let server = Server::start(settings).await;
    for version in [&TLS12, &TLS13] {
        let config = client(roots(&[&authority]), &[version], None);
        for _ in 0..2 {
            let stream = connect(server.address, &config, "localhost").await.unwrap();
            assert_eq!(
                stream.get_ref().1.handshake_kind(),
                Some(HandshakeKind::Full)
            );
            assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
        }
    }
}

#[tokio::test]
async fn rfc8446_6_2_a_client_that_does_not_trust_the_server_is_reported_with_its_alert() {
    let authority = Authority::new("CA");
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let self_signed = Pair {
        chain: own.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
        serial: 1.into(),
    };
    let expired = Leaf {
        not_before: SystemTime::now() - 3 * DAY,
        not_after: SystemTime::now() - DAY,
        ..Leaf::server(&["localhost"])
    };
    for (what, pair, expected) in [
        (
            "of another authority",
            Authority::new("stranger").issue(Leaf::server(&["localhost"])),
            AlertDescription::UnknownCA,
        ),
        ("self-signed", self_signed, AlertDescription::UnknownCA),
        (
            "expired",
            authority.issue(expired),
            AlertDescription::CertificateExpired,
        ),
        // The RFC has no alert for names; this is the one that rustls sends.
        (
            "of another name",
            authority.issue(Leaf::server(&["other.example"])),
            AlertDescription::BadCertificate,
        ),
    ] {
        let folder = Folder::new();
        let files = folder.write_pair("server", &pair);
        let mut server = Server::start(settings(vec![files])).await;
        // In TLS 1.2 it is RFC 5246 section 7.2.2, with the same numbers.
        for version in [&TLS12, &TLS13] {
            let config = client(roots(&[&authority]), &[version], None);
            let refused = connect(server.address, &config, "localhost").await;
            assert!(refused.is_err(), "{what}, {version:?}");
            match server.result().await {
                Err(HandshakeError::Alert(alert)) => {
                    assert_eq!(alert, expected, "{what}, {version:?}");
                }
                other => panic!("{what}, {version:?}: {other:?}"),
            }
        }
    }
}

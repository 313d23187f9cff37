//! TLS at the listeners: versions, names, resumption, and what is not TLS. RFC 8446, RFC 5246, RFC 6066;
//! MQTT 5.0 section 5.4.
//!
//! Certificates of clients are in `client_certificates`; how those of the listeners come and are renewed
//! is in `certificates`.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{AlertDescription, HandshakeKind, NamedGroup, ProtocolVersion};
use tidegate_tests::certificates::{Authority, Request, write};
use tidegate_tests::wire::{Client, Connect, PATIENCE, Publish, Stream, Version};
use tidegate_tests::{
    Noise, Place, Server, TlsClient, Transport, alert, eventually, has_program, run,
    run_without_input, tidegate, unique,
};

#[track_caller]
fn handshake(server: &Server) -> Stream {
    let stream = server.connect();
    stream.unwrap_or_else(|error| panic!("no handshake: {error}"))
}

#[track_caller]
fn version(server: &Server) -> Option<ProtocolVersion> {
    handshake(server)
        .tls()
        .and_then(|tls| tls.protocol_version())
}

// ---- versions and cryptography ----

#[test]
fn tls_1_3_and_1_2_are_spoken_and_nothing_older() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    assert_eq!(
        version(&place.server(|tls| tls)),
        Some(ProtocolVersion::TLSv1_3)
    );
    let old = place.server(TlsClient::only_1_2);
    assert_eq!(version(&old), Some(ProtocolVersion::TLSv1_2));
    if !has_program("openssl") {
        return;
    }
    for (option, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = run_without_input(
            &mut place.openssl(&[option, "-brief"]),
            Duration::from_secs(20),
        )
        .said;
        assert!(
            said.contains(&format!("Protocol version: {shown}")),
            "{said}"
        );
        assert!(said.contains("Verification: OK"), "{said}");
    }
    // Security level 0 lets OpenSSL offer what it otherwise would not.
    for option in ["-tls1", "-tls1_1"] {
        let outcome = place.s_client(&[option, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!outcome.status.success());
        // These offer no signature algorithms either, which may be what is told.
        let told = ["alert protocol version", "alert handshake failure"];
        assert!(
            told.iter().any(|told| outcome.said.contains(told)),
            "{}",
            outcome.said
        );
    }
}

#[test]
fn min_version_1_3_refuses_1_2() {
    let Some(place) = Place::start("min_version = \"1.3\"", |_| {}) else {
        return;
    };
    assert_eq!(
        version(&place.server(|tls| tls)),
        Some(ProtocolVersion::TLSv1_3)
    );
    let old = place.server(TlsClient::only_1_2);
    assert_eq!(alert(&old), AlertDescription::ProtocolVersion);
    if has_program("openssl") {
        let outcome = place.s_client(&["-tls1_2"]);
        assert!(
            outcome.said.contains("alert protocol version"),
            "{}",
            outcome.said
        );
    }
}

#[test]
fn the_key_exchange_is_hybrid_post_quantum_where_the_client_can() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    let stream = handshake(&place.server(|tls| tls));
    let group = stream
        .tls()
        .and_then(|tls| tls.negotiated_key_exchange_group());
    assert_eq!(
        group.map(rustls::crypto::SupportedKxGroup::name),
        Some(NamedGroup::X25519MLKEM768)
    );
}

#[test]
fn weak_ciphers_are_refused() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    if !has_program("openssl") {
        return;
    }
    for cipher in ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"] {
        let cipher = format!("{cipher}:@SECLEVEL=0");
        let outcome = place.s_client(&["-tls1_2", "-cipher", &cipher]);
        assert!(!outcome.status.success());
        assert!(
            outcome.said.contains("alert handshake failure"),
            "{}",
            outcome.said
        );
    }
}

#[test]
fn rfc8446_6_1_the_end_is_told_by_close_notify() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    for only in TlsClient::ONLY {
        let server = place.server(only);
        let mut stream = handshake(&server);
        let connect = Connect::v5(&unique("farewell")).encode();
        let write = stream.write(&[&connect[..], &[0xE0, 0]].concat());
        write.unwrap_or_else(|error| panic!("not sent: {error}"));
        // Without close_notify rustls says UnexpectedEof: the end could be an attacker's.
        loop {
            match stream.read(&mut [0; 64], PATIENCE) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => panic!("the end was not told: {error}"),
            }
        }
    }
}

// ---- names ----

#[test]
fn rfc6066_3_the_certificate_is_chosen_by_the_name_that_the_client_asks_for() {
    let more = "certificates.other.cert = \"DIR/other.crt\"\n\
                certificates.other.key = \"DIR/other.key\"\n\
                certificates.wild.cert = \"DIR/wild.crt\"\n\
                certificates.wild.key = \"DIR/wild.key\"";
    let second = Authority::new("Second authority");
    let place = Place::start(more, |files| {
        let other = Request::server(&["other.example"]);
        second.issue(&other).write(files, "other");
        let wild = Request::server(&["*.wild.example"]);
        second.issue(&wild).write(files, "wild");
    });
    let Some(place) = place else {
        return;
    };
    let both = format!("{}{}", place.authority.pem(), second.pem());
    let server = Server::new(Transport::Tls, place.address());
    let server = server.trusting(TlsClient::trusting(&both).build());
    for name in [
        "localhost",
        "127.0.0.1",
        "other.example",
        "OTHER.example",
        "a.wild.example",
    ] {
        let server = server.clone().named(name);
        Connect::v5(&unique("sni")).open(&server).expect_nothing();
    }
    // Whoever names nobody known gets the first one, and may refuse it.
    for name in ["nobody.example", "a.b.wild.example"] {
        let error = server.clone().named(name).connect().map(drop);
        let error = error.map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.contains("not valid for name")));
    }
    if has_program("openssl") {
        for (name, subject) in [
            ("other.example", "CN = other.example"),
            ("b.wild.example", "CN = *.wild.example"),
            ("nobody.example", "CN = localhost"),
        ] {
            let said = s_client_named(place.address(), name);
            let found = said
                .lines()
                .any(|line| line.starts_with("subject=") && line.contains(subject));
            assert!(found, "{name}: {said}");
        }
    }
}

/// What `openssl s_client` says of a server whose certificate it does not check.
#[track_caller]
fn s_client_named(address: SocketAddr, name: &str) -> String {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &address.to_string()])
        .args(["-servername", name]);
    run_without_input(&mut command, Duration::from_secs(20)).said
}

#[test]
fn the_test_client_refuses_a_certificate_of_another_authority() {
    let Some(place) = Place::start("", |files| {
        write(
            &files.join("elsewhere.crt"),
            &Authority::new("Elsewhere").pem(),
        );
    }) else {
        return;
    };
    let ca = place.files.path().join("ca.crt");
    write(&ca, &place.authority.pem());
    let elsewhere = place.files.path().join("elsewhere.crt");
    let port = place.address().port();
    let publish = |ca: Option<&Path>, more: &[&str]| {
        let url = format!("mqtts://localhost:{port}");
        let mut command = Command::new(tidegate());
        command.args(["pub", "--url", &url, "-t", "t", "-m", "x", "-q", "1"]);
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        run(command.args(more), Duration::from_secs(20))
    };
    let right = publish(Some(&ca), &[]);
    assert!(right.status.success(), "{}", right.said);
    let stranger = publish(Some(&elsewhere), &[]);
    assert!(!stranger.status.success(), "{}", stranger.said);
    assert!(
        stranger.said.to_lowercase().contains("certificate"),
        "{}",
        stranger.said
    );
    let insecure = publish(None, &["--insecure"]);
    assert!(insecure.status.success(), "{}", insecure.said);
}

#[test]
fn the_test_client_refuses_a_certificate_of_another_name() {
    let authority = Authority::new("Test authority");
    let Some(place) = Place::start("", |files| {
        let names = Request::server(&["other.example"]);
        authority.issue(&names).write(files, "server");
        write(&files.join("ca.crt"), &authority.pem());
    }) else {
        return;
    };
    let ca = place.files.path().join("ca.crt");
    let mut command = Command::new(tidegate());
    let url = format!("mqtts://localhost:{}", place.address().port());
    command
        .args(["sub", "--url", &url, "-t", "t", "-n", "1", "--ca"])
        .arg(&ca);
    let outcome = run(&mut command, Duration::from_secs(20));
    assert!(!outcome.status.success(), "{}", outcome.said);
    assert!(outcome.said.contains("name"), "{}", outcome.said);
}

// ---- resumption ----

#[test]
fn sessions_are_resumed() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    for only in TlsClient::ONLY {
        // One configuration: it keeps the tickets.
        let server = place.server(|tls| only(tls).resuming());
        assert_eq!(kind(&server), Some(HandshakeKind::Full));
        for _ in 0..3 {
            assert_eq!(
                kind(&server),
                Some(HandshakeKind::Resumed),
                "{:?}",
                version(&server)
            );
        }
    }
    let handshakes = |kind: &str| {
        let labels = ["listener=\"mqtts\"", &format!("kind=\"{kind}\"")];
        place
            .gateway
            .metric("tidegate_tls_handshakes_total", &labels)
    };
    assert_eq!((handshakes("full"), handshakes("resumed")), (2.0, 6.0));
    if has_program("openssl") {
        for version in ["-tls1_2", "-tls1_3"] {
            resumes_with_openssl(&place, version);
        }
    }
}

/// Connects and exchanges MQTT, so that TLS 1.3's tickets are there; how the handshake was.
#[track_caller]
fn kind(server: &Server) -> Option<HandshakeKind> {
    let mut client = Connect::v5(&unique("resume")).open(server);
    client.expect_nothing();
    let kind = client.stream().tls().and_then(|tls| tls.handshake_kind());
    client.disconnect();
    kind
}

#[track_caller]
fn resumes_with_openssl(place: &Place, version: &str) {
    let session = place.files.path().join("session.pem");
    let session = session.display().to_string();
    // In TLS 1.3 the tickets come after the handshake: the server ends the connection because of
    // what is not MQTT, and s_client has read them by then.
    let line = |option: &str| {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(
                "printf 'Q\\n\\n' | openssl s_client -ign_eof -connect \"$0\" \"$1\" \"$2\" \"$3\"",
            )
            .args([&place.address().to_string(), version, option, &session]);
        run(&mut command, Duration::from_secs(20)).said
    };
    let first = line("-sess_out");
    assert!(first.contains("New, TLSv1"), "{version}: {first}");
    let second = line("-sess_in");
    assert!(second.contains("Reused, TLSv1"), "{version}: {second}");
}

#[test]
fn resumption_can_be_turned_off() {
    let Some(place) = Place::start("resumption = \"off\"", |_| {}) else {
        return;
    };
    for only in TlsClient::ONLY {
        let server = place.server(|tls| only(tls).resuming());
        for _ in 0..3 {
            assert_eq!(
                kind(&server),
                Some(HandshakeKind::Full),
                "{:?}",
                version(&server)
            );
        }
    }
}

// ---- what is not TLS ----

#[test]
fn plain_mqtt_on_the_tls_port_gets_an_alert_and_the_log_a_hint_now_and_then() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    let mut witness = Connect::v5(&unique("witness")).open(place.server(|tls| tls));
    for number in 0..1_000_u32 {
        let version = Version::ALL[number as usize % 3];
        let mut client = Client::dial(place.address(), version);
        client.send(&Connect::new(version, "plain").encode());
        // A record of type alert (RFC 8446 section 5.1), fatal, and the end.
        let mut said = Vec::new();
        while let Some(bytes) = client.next_raw() {
            said.extend(bytes);
        }
        assert_eq!(said.first(), Some(&21), "{said:02x?}");
        assert_eq!((said.len(), said.get(5)), (7, Some(&2)), "{said:02x?}");
    }
    witness.expect_nothing();
    let output = place.gateway.output();
    let hints = output
        .lines()
        .filter(|line| line.contains("TLS") && line.contains("mqtts"));
    let hints = hints.count();
    assert!((1..=20).contains(&hints), "{hints} lines: {output}");
    assert!(
        output.lines().count() < 100,
        "1000 mistakes made this log: {output}"
    );
    let labels = ["listener=\"mqtts\"", "reason=\"not_tls\""];
    // The last is counted when it is over, which is after its alert was read.
    eventually("all are counted", || {
        let metric = "tidegate_listener_refused_total";
        place.gateway.metric(metric, &labels) == 1_000.0
    });
}

#[test]
fn rfc8446_6_2_http_on_the_tls_port_gets_unexpected_message_and_the_log_its_name() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    let mut client = Client::dial(place.address(), Version::V5);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut said = Vec::new();
    while let Some(bytes) = client.next_raw() {
        said.extend(bytes);
    }
    // One record of type alert (5.1) with two bytes: fatal, unexpected_message.
    assert_eq!(said.len(), 7, "{said:02x?}");
    assert_eq!((said[0], &said[3..]), (21, &[0, 2, 2, 10][..]));
    let labels = ["listener=\"mqtts\"", "reason=\"not_tls\""];
    // It is counted and logged when it is over, which is after its alert was read.
    eventually("it is counted", || {
        let metric = "tidegate_listener_refused_total";
        place.gateway.metric(metric, &labels) == 1.0
    });
    eventually("a line in the log names what it was", || {
        let output = place.gateway.output();
        let mut lines = output.lines();
        lines.any(|line| line.contains("HTTP without TLS") && line.contains("mqtts"))
    });
}

#[test]
fn tls_on_the_plain_port_is_closed_and_the_log_gets_a_hint() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    let plain = place.gateway.mqtt();
    let mut witness = Connect::v5(&unique("witness")).open(plain);
    let wrong = place.server(|tls| tls).at(plain);
    for _ in 0..50 {
        assert!(wrong.connect().is_err(), "there is no TLS here");
    }
    witness.expect_nothing();
    eventually("a hint in the log", || {
        place.gateway.output().contains("TLS")
    });
    let output = place.gateway.output();
    let hints = output.lines().filter(|line| line.contains("TLS")).count();
    assert!((1..=20).contains(&hints), "{hints} lines: {output}");
}

#[test]
fn half_a_handshake_is_closed_in_time() {
    let Some(place) = Place::start("handshake_timeout = \"700ms\"", |_| {}) else {
        return;
    };
    let mut witness = Connect::v5(&unique("witness")).open(place.server(|tls| tls));
    let hello = client_hello();
    let since = Instant::now();
    let mut clients: Vec<Client> = [&[][..], &hello[..3], &hello[..40], &hello]
        .into_iter()
        .map(|bytes| {
            let mut client = Client::dial(place.address(), Version::V5);
            client.send(bytes);
            client
        })
        .collect();
    // One that sends a byte now and then gains no time by it.
    let slow = TcpStream::connect(place.address());
    let mut slow = slow.unwrap_or_else(|error| panic!("no connection: {error}"));
    for byte in &hello {
        if slow.write_all(std::slice::from_ref(byte)).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        if since.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    for client in &mut clients {
        while client.next_raw().is_some() {}
    }
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(600), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    witness.expect_nothing();
    let labels = ["listener=\"mqtts\"", "reason=\"tls_timeout\""];
    eventually("five are counted", || {
        place
            .gateway
            .metric("tidegate_listener_refused_total", &labels)
            == 5.0
    });
    let going = place.gateway.metric(
        "tidegate_tls_handshakes_in_progress",
        &["listener=\"mqtts\""],
    );
    assert_eq!(going, 0.0);
}

/// A ClientHello of rustls, as it goes over the wire.
#[track_caller]
fn client_hello() -> Vec<u8> {
    let config = TlsClient::trusting(&Authority::new("nobody").pem()).build();
    let name = "localhost".try_into();
    let name = name.unwrap_or_else(|error| panic!("a name: {error}"));
    let mut connection = rustls::ClientConnection::new(config, name)
        .unwrap_or_else(|error| panic!("a connection: {error}"));
    let mut bytes = Vec::new();
    let written = connection.write_tls(&mut bytes);
    written.unwrap_or_else(|error| panic!("a ClientHello: {error}"));
    bytes
}

#[test]
fn handshakes_beyond_the_limit_wait_or_are_refused_and_others_go_on() {
    let more = "max_handshakes = 10\nhandshake_timeout = \"1s\"";
    let Some(place) = Place::start(more, |_| {}) else {
        return;
    };
    let server = place.server(|tls| tls);
    let mut witness = Connect::v5(&unique("witness")).open(&server);
    let hello = client_hello();
    let idle: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::dial(place.address(), Version::V5);
            // Refused ones may be gone already.
            let _ = client.try_send(&hello);
            client
        })
        .collect();
    eventually("the handshakes are under way", || {
        let metric = "tidegate_tls_handshakes_in_progress";
        place.gateway.metric(metric, &["listener=\"mqtts\""]) >= 10.0
    });
    let metric = place.gateway.metric(
        "tidegate_tls_handshakes_in_progress",
        &["listener=\"mqtts\""],
    );
    assert!(metric <= 10.0, "{metric} handshakes at once");
    // Who is connected feels nothing of it, and once they are gone everybody may come.
    witness.expect_nothing();
    let refused = place.gateway.mqtt();
    Connect::v5(&unique("plain")).open(refused).expect_nothing();
    drop(idle);
    eventually("there is room again", || server.connect().is_ok());
    Connect::v5(&unique("late")).open(&server).expect_nothing();
}

#[test]
fn garbage_within_and_around_tls_disturbs_nobody() {
    let Some(place) = Place::start("", |_| {}) else {
        return;
    };
    let server = place.server(|tls| tls);
    let topic = unique("witness");
    let mut witness = Connect::v5(&unique("witness")).open(&server);
    witness.subscribe(&topic, 1);
    let hello = client_hello();
    let mut noise = Noise::new(0x1234_5678_9ABC_DEF1);
    for round in 0..200 {
        let length = 1 + noise.below(500);
        let bytes = noise.bytes(length);
        if round % 2 == 0 {
            // Records that begin well and go on badly.
            let cut = noise.below(hello.len());
            let mut client = Client::dial(place.address(), Version::V5);
            let _ = client.try_send(&[&hello[..cut], &bytes].concat());
            client.vanish();
        } else {
            let mut client = Client::dial(&server, Version::V5);
            client.send(&bytes);
            client.vanish();
        }
        if round % 20 == 0 {
            witness.publish(&Publish::new(&topic, round.to_string()).qos(1));
            assert_eq!(witness.receive().text(), round.to_string());
        }
    }
    eventually("only the witness is left", || {
        let metric = "tidegate_listener_connections";
        place.gateway.metric(metric, &["listener=\"mqtts\""]) == 1.0
    });
}

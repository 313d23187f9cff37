//! How a WebSocket is asked for, granted and refused: RFC 6455 chapter 4, MQTT 5.0 chapter 6, and who
//! may ask.
//!
//! What comes after is in `websocket`.

use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::websocket::{ACCEPT, Answer, RawWebSocket, Upgrade, message, opcode};
use tidegate_tests::wire::{Client, Connect, Version};
use tidegate_tests::{Gateway, Server, Transport, eventually, get, unique};

/// The answer to a request that is not a WebSocket's; the server closes behind it.
#[track_caller]
fn refused(server: &Server, request: &Upgrade) -> Answer {
    let mut socket = RawWebSocket::dial(server.address());
    socket.send(request.text().as_bytes());
    socket.expect_answer()
}

// ---- the handshake ----

#[test]
fn rfc6455_4_2_2_a_websocket_of_mqtt_is_opened() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    let mut socket = RawWebSocket::dial(server.address());
    socket.send(Upgrade::to(server.address()).text().as_bytes());
    let answer = socket.expect_head();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("Sec-WebSocket-Accept"), Some(ACCEPT));
    assert_eq!(answer.header("Sec-WebSocket-Protocol"), Some("mqtt"));
    let upgrade = answer.header("Upgrade").map(str::to_ascii_lowercase);
    assert_eq!(upgrade.as_deref(), Some("websocket"));
    let connection = answer.header("Connection").map(str::to_ascii_lowercase);
    assert_eq!(connection.as_deref(), Some("upgrade"));
    // Nothing was agreed that was not offered.
    assert_eq!(answer.header("Sec-WebSocket-Extensions"), None);
}

#[test]
fn mqtt_6_0_0_3_the_sub_protocol_is_chosen_among_those_offered() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.address("ws");
    for (offered, chosen) in [
        ("mqtt", "mqtt"),
        ("mqttv3.1", "mqttv3.1"),
        ("chat, mqtt", "mqtt"),
        ("chat,mqttv3.1 , other", "mqttv3.1"),
    ] {
        let mut socket = RawWebSocket::dial(server);
        let request = Upgrade::to(server).set("Sec-WebSocket-Protocol", offered);
        socket.send(request.text().as_bytes());
        let answer = socket.expect_head();
        assert_eq!(answer.status, 101, "{offered}: {answer:?}");
        assert_eq!(
            answer.header("Sec-WebSocket-Protocol"),
            Some(chosen),
            "{offered}"
        );
    }
    // Two headers are one list (RFC 9110 section 5.3).
    let mut socket = RawWebSocket::dial(server);
    let request = Upgrade::to(server)
        .set("Sec-WebSocket-Protocol", "chat")
        .add("Sec-WebSocket-Protocol", "mqtt");
    socket.send(request.text().as_bytes());
    let answer = socket.expect_head();
    assert_eq!(
        answer.header("Sec-WebSocket-Protocol"),
        Some("mqtt"),
        "{answer:?}"
    );
}

#[test]
fn mqtt_6_0_0_3_without_a_sub_protocol_of_mqtt_the_handshake_is_refused() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let request = Upgrade::to(server.address());
    for request in [
        request.clone().without("Sec-WebSocket-Protocol"),
        request.clone().set("Sec-WebSocket-Protocol", "chat"),
        // Sub-protocols are compared as they are written (RFC 6455 section 11.5).
        request.clone().set("Sec-WebSocket-Protocol", "mqttt"),
    ] {
        let answer = refused(&server, &request);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(
            answer.body.contains("mqtt"),
            "a person can read why: {answer:?}"
        );
    }
}

#[test]
fn rfc6455_4_2_1_a_request_without_upgrade_is_answered_so_that_a_person_can_read_it() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    // What a browser or curl sends to this port.
    let answer = get(server.address(), "/mqtt");
    assert_eq!(answer.status, 426, "{answer:?}");
    assert!(answer.body.contains("WebSocket"), "{answer:?}");
    let answer = refused(&server, &Upgrade::to(server.address()).without("Upgrade"));
    assert_eq!(answer.status, 426);
    let upgrade = answer.header("Upgrade").map(str::to_ascii_lowercase);
    assert_eq!(
        upgrade.as_deref(),
        Some("websocket"),
        "RFC 9110 section 15.5.22"
    );
    let kind = answer.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{answer:?}");
    let length = answer.header("Content-Length").map(str::parse);
    assert_eq!(length, Some(Ok(answer.body.len())), "{answer:?}");
}

#[test]
fn rfc6455_4_4_another_version_of_websocket_is_told_the_one_that_is_spoken() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let request = Upgrade::to(server.address()).set("Sec-WebSocket-Version", "8");
    let answer = refused(&server, &request);
    assert_eq!(answer.status, 426, "{answer:?}");
    assert_eq!(
        answer.header("Sec-WebSocket-Version"),
        Some("13"),
        "{answer:?}"
    );
}

#[test]
fn requests_that_are_wrong_are_refused_with_their_status() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let good = Upgrade::to(server.address());
    for (what, request, statuses) in [
        (
            "another path",
            good.clone().line("GET /chat HTTP/1.1"),
            &[404][..],
        ),
        (
            "a longer path",
            good.clone().line("GET /mqtt/x HTTP/1.1"),
            &[404],
        ),
        (
            "POST",
            good.clone().line("POST /mqtt HTTP/1.1"),
            &[405, 426],
        ),
        (
            "HTTP/1.0",
            good.clone().line("GET /mqtt HTTP/1.0"),
            &[400, 426, 505],
        ),
        ("no key", good.clone().without("Sec-WebSocket-Key"), &[400]),
        (
            "a short key",
            good.clone().set("Sec-WebSocket-Key", "abc"),
            &[400],
        ),
        ("no host", good.clone().without("Host"), &[400]),
        (
            "no request",
            good.clone().line("\u{1}\u{2} nothing"),
            &[400],
        ),
    ] {
        let answer = refused(&server, &request);
        assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
        assert!(
            !answer.body.trim().is_empty(),
            "{what}: a person can read why"
        );
    }
    Connect::v5(&unique("good")).open(&server).expect_nothing();
}

#[test]
fn the_path_is_the_configured_one() {
    let more = "[listeners.ws.websocket]\npath = \"/devices/mqtt\"";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    assert_eq!(refused(&server, &Upgrade::to(server.address())).status, 404);
    for path in ["/devices/mqtt", "/devices/mqtt?client=1"] {
        let server = server.clone().path(path);
        Connect::v5(&unique("path")).open(&server).expect_nothing();
    }
}

#[test]
fn headers_that_are_too_large_are_refused_before_their_end() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let before = gateway.resident_bytes();
    let good = Upgrade::to(server.address());
    let one = good.clone().add("X-Long", &"x".repeat(100_000));
    let many = (0..2_000).fold(good, |request, _| request.add("X", "y"));
    for request in [one, many] {
        let mut socket = RawWebSocket::dial(server.address());
        // The server may well answer and close before it has taken all of it.
        let _ = socket.try_send(request.text().as_bytes());
        assert_eq!(socket.expect_head().status, 431);
    }
    // A header that never ends takes no memory either.
    let mut socket = RawWebSocket::dial(server.address());
    let mut sent = 0_usize;
    let _ = socket.try_send(b"GET /mqtt HTTP/1.1\r\nX: ");
    while sent < 64 << 20 && socket.try_send(&[b'x'; 65536]).is_ok() {
        sent += 65536;
    }
    assert!(
        sent < 64 << 20,
        "the server read {sent} bytes of one header"
    );
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    Connect::v5(&unique("good")).open(&server).expect_nothing();
}

#[test]
fn a_handshake_that_does_not_end_is_closed_in_time() {
    let more = "[listeners.ws.websocket]\nhandshake_timeout = \"700ms\"";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let server = gateway.address("ws");
    let text = Upgrade::to(server).text();
    let since = Instant::now();
    let mut silent = RawWebSocket::dial(server);
    let mut half = RawWebSocket::dial(server);
    half.send(&text.as_bytes()[..40]);
    let mut slow = RawWebSocket::dial(server);
    assert!(silent.is_quiet(Duration::from_millis(300)));
    // A byte at a time is no excuse.
    for byte in text.as_bytes() {
        if slow.try_send(std::slice::from_ref(byte)).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "it was taken to its end"
        );
        if !slow.is_quiet(Duration::from_millis(1)) {
            break;
        }
    }
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(600), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    half.expect_end_or_answer(408);
    silent.expect_end_or_answer(408);
    eventually("the connections are gone", || {
        gateway.metric("tidegate_listener_connections", &["listener=\"ws\""]) == 0.0
    });
}

#[test]
fn bytes_behind_the_request_are_not_lost() {
    let Some((_gateway, server)) = Gateway::speaking(Transport::Ws) else {
        return;
    };
    // RFC 6455 wants a client to wait for the answer, but a load balancer may join what comes.
    let mut socket = RawWebSocket::dial(server.address());
    let mut bytes = Upgrade::to(server.address()).text().into_bytes();
    bytes.extend(message(
        opcode::BINARY,
        &Connect::v5(&unique("eager")).encode(),
    ));
    socket.send(&bytes);
    assert_eq!(socket.expect_head().status, 101);
    socket.expect_connack();
}

// ---- who may ask ----

#[test]
fn on_loopback_a_foreign_host_or_origin_is_refused() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let good = Upgrade::to(server.address());
    // DNS rebinding: the page's own name leads here.
    let answer = refused(&server, &good.clone().set("Host", "evil.example"));
    assert_eq!(answer.status, 421, "{answer:?}");
    assert!(answer.body.contains("allowed_hosts"), "{answer:?}");
    for (origin, advice) in [
        ("https://evil.example", "allowed_origins"),
        ("http://evil.example:8083", "allowed_origins"),
        ("file://", "allowed_origins"),
        // It could be anybody's; there is nothing to allow.
        ("null", "Serve it over HTTP"),
    ] {
        let answer = refused(&server, &good.clone().add("Origin", origin));
        assert_eq!(answer.status, 403, "{origin}: {answer:?}");
        assert!(answer.body.contains(advice), "{answer:?}");
    }
    // Pages that this machine serves, and programs that send no Origin at all.
    let port = server.address().port();
    for origin in [
        "http://localhost",
        "http://127.0.0.1:3000",
        "https://[::1]:9",
    ] {
        let mut socket = RawWebSocket::dial(server.address());
        let request = good.clone().set("Host", &format!("localhost:{port}"));
        socket.send(request.add("Origin", origin).text().as_bytes());
        assert_eq!(socket.expect_head().status, 101, "{origin}");
    }
}

#[test]
fn a_foreign_host_or_origin_is_refused_under_tls_as_well() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    // TLS alone, to write the request by hand: the certificate proves nothing of the Host.
    let server = gateway.listener("wss", Transport::Tls);
    let good = Upgrade::to(server.address());
    for (request, status) in [
        (good.clone().set("Host", "evil.example"), "421"),
        (good.clone().add("Origin", "https://evil.example"), "403"),
    ] {
        let mut client = Client::dial(&server, Version::V5);
        client.send(request.text().as_bytes());
        let mut answer = Vec::new();
        while let Some(bytes) = client.next_raw() {
            answer.extend(bytes);
        }
        let answer = String::from_utf8_lossy(&answer);
        let start = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&start), "{request:?}: {answer}");
    }
    let mut client = Client::dial(&server, Version::V5);
    client.send(good.text().as_bytes());
    let answer = client.next_raw().unwrap_or_default();
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:02x?}");
}

#[test]
fn hosts_and_origins_are_allowed_by_configuration() {
    let more = "[listeners.ws.websocket]\nallowed_hosts = [\"gate.example\"]\n\
                allowed_origins = [\"https://app.example\"]";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let good = Upgrade::to(server.address());
    let named = good.clone().set("Host", "gate.example:8083");
    let from_app = named.clone().add("Origin", "https://app.example");
    for request in [&named, &from_app, &good] {
        let mut socket = RawWebSocket::dial(server.address());
        socket.send(request.text().as_bytes());
        assert_eq!(socket.expect_head().status, 101, "{request:?}");
    }
    let answer = refused(&server, &good.clone().set("Host", "other.example"));
    assert_eq!(answer.status, 421, "{answer:?}");
    for origin in [
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil",
    ] {
        let answer = refused(&server, &named.clone().add("Origin", origin));
        assert_eq!(answer.status, 403, "{origin}: {answer:?}");
    }
}

#[test]
fn everybody_else_is_undisturbed_by_a_crowd_of_wrong_requests() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = gateway.listener("ws", Transport::Ws);
    let mut witness = Connect::v5(&unique("witness")).open(&server);
    for _ in 0..200 {
        let request = Upgrade::to(server.address()).without("Sec-WebSocket-Protocol");
        assert_eq!(refused(&server, &request).status, 400);
    }
    witness.expect_nothing();
    let labels = ["listener=\"ws\"", "reason=\"websocket_request\""];
    // The last is counted when it is over, which is after its answer was read.
    eventually("all are counted", || {
        gateway.metric("tidegate_listener_refused_total", &labels) == 200.0
    });
    let lines = gateway.output().lines().count();
    assert!(lines < 100, "200 refusals made {lines} lines of log");
}

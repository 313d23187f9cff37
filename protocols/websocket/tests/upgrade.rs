//! The HTTP request before the frames, and every answer to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use tidegate_bus::MemoryBudget;
use tidegate_websocket::{Foreign, Settings, UpgradeError, Upgrader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What is answered to a good request.
async fn answer_to(request: &[u8]) -> String {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    client.write_all(request).await.unwrap();
    Upgrader::new(Settings::default())
        .upgrade(server, LOOPBACK)
        .await
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(request)));
    read_head(&mut client).await
}

/// Refused with this status and these words, in an answer that is whole. Gives the answer's head.
async fn refused_with(settings: Settings, request: &[u8], status: u16, words: &str) -> String {
    let (error, heard) = refused(settings, request).await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
    assert!(body.contains(words), "{heard}");
    assert!(body.ends_with(".\n"), "a sentence: {body:?}");
    let has = |line: &str| head.lines().any(|l| l.eq_ignore_ascii_case(line));
    assert!(has("Content-Type: text/plain; charset=utf-8"), "{head}");
    assert!(has(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(has("Cache-Control: no-store"), "{head}");
    assert!(head.contains("\r\nConnection: close"), "{head}");
    if let UpgradeError::Refused { status: told, text } = &error {
        assert_eq!(told.as_u16(), status);
        assert_eq!(text, body.trim_end());
    }
    head.to_owned()
}

async fn refuses(request: impl AsRef<[u8]>, status: u16, words: &str) -> String {
    refused_with(Settings::default(), request.as_ref(), status, words).await
}

// ---- accepted ------------------------------------------------------------------------------------

#[tokio::test]
async fn rfc6455_4_2_2_a_good_request_is_answered_with_101_and_the_key_of_the_rfc() {
    let answer = answer_to(good_request().as_bytes()).await;
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\
         \r\n"
    );
}

#[tokio::test]
async fn mqtt_6_0_0_4_the_answer_names_the_sub_protocol() {
    for (offered, chosen) in [
        (&["mqtt"][..], "mqtt"),
        (&["mqttv3.1"], "mqttv3.1"),
        (&["mqttv3.1, mqtt"], "mqtt"),
        (&["mqttv3.1", "mqtt"], "mqtt"),
        (&["soap ,\tmqttv3.1"], "mqttv3.1"),
        (&["graphql-ws", "chat,mqtt,superchat"], "mqtt"),
    ] {
        let answer = answer_to(request_with("Sec-WebSocket-Protocol", offered).as_bytes()).await;
        let line = format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n");
        assert!(answer.contains(&line), "{offered:?}: {answer}");
    }
}

#[tokio::test]
async fn a_request_may_be_written_in_other_ways() {
    for request in [
        request_with("Connection", &["keep-alive, Upgrade"]),
        request_with("Connection", &["keep-alive", "upgrade"]),
        request_with("Upgrade", &["WebSocket"]),
        request_with("Upgrade", &["h2c, websocket"]),
        request_with("Content-Length", &["0"]),
        request_with(
            "Sec-WebSocket-Extensions",
            &["permessage-deflate; client_max_window_bits"],
        ),
        good_request().replace("/mqtt ", "/mqtt?token=secret "),
        good_request().replace("/mqtt ", "http://localhost:8083/mqtt "),
        good_request().replace("\r\n", "\n"),
        good_request().replace("Sec-WebSocket-Key: ", "sec-websocket-KEY:   "),
    ] {
        let answer = answer_to(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(
            !answer.contains("Extensions"),
            "none is agreed on: {answer}"
        );
    }
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_is_answered() {
    let (mut client, server) = tokio::io::duplex(1);
    let upgrader = Upgrader::new(Settings::default());
    let upgrading = upgrader.upgrade(server, LOOPBACK);
    let asking = async {
        client.write_all(good_request().as_bytes()).await.unwrap();
        read_head(&mut client).await
    };
    let (upgraded, answer) = tokio::join!(upgrading, asking);
    upgraded.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

#[tokio::test]
async fn frames_that_come_with_the_request_are_not_lost() {
    let payload = pattern(9_000);
    for room in [1, 7, 100, 64 << 10] {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let mut bytes = good_request().into_bytes();
        bytes.extend(payload.chunks(3_000).flat_map(binary));
        bytes.extend(frame(FIN | PING, b"?"));
        bytes.extend(frame(FIN | CLOSE, b""));
        client.write_all(&bytes).await.unwrap();
        let upgrader = Upgrader::new(Settings::default());
        let mut socket = upgrader.upgrade(server, LOOPBACK).await.unwrap();
        let mut read = Vec::new();
        let mut buffer = vec![0; room];
        loop {
            match socket.read(&mut buffer).await.unwrap() {
                0 => break,
                n => read.extend_from_slice(&buffer[..n]),
            }
        }
        assert!(read == payload, "with room for {room}");
        socket.shutdown().await.unwrap();
        let _ = read_head(&mut client).await;
        expect(&mut client, &answer(FIN | PONG, b"?")).await;
        expect(&mut client, &answer(FIN | CLOSE, b"")).await;
    }
}

#[tokio::test]
async fn the_path_is_the_operators() {
    let settings = || Settings {
        path: "/devices/bus".to_owned(),
        ..Settings::default()
    };
    refused_with(
        settings(),
        good_request().as_bytes(),
        404,
        "is at /devices/bus.",
    )
    .await;
    let request = good_request().replace("/mqtt ", "/devices/bus ");
    let (mut client, server) = tokio::io::duplex(4_096);
    client.write_all(request.as_bytes()).await.unwrap();
    Upgrader::new(settings())
        .upgrade(server, LOOPBACK)
        .await
        .unwrap();
}

// ---- refused -------------------------------------------------------------------------------------

#[tokio::test]
async fn a_page_of_a_stranger_is_refused_on_loopback() {
    let request = request_with("Origin", &["https://evil.example"]);
    refuses(request, 403, "Pages of https://evil.example may not").await;
    let request = request_with("Host", &["evil.example:8083"]);
    refuses(
        request,
        421,
        "add it to listeners.NAME.websocket.allowed_hosts",
    )
    .await;
    refuses(request_with("Host", &[]), 400, "Host header").await;
    refuses(
        request_with("Host", &["localhost", "localhost"]),
        400,
        "Host header",
    )
    .await;
}

#[tokio::test]
async fn hosts_and_origins_that_are_allowed_pass() {
    let settings = Settings {
        allowed_hosts: vec!["gate.example".parse().unwrap()],
        allowed_origins: vec!["https://app.example".parse().unwrap()],
        ..Settings::default()
    };
    let request = request_with("Host", &["gate.example"]).replace(
        "Upgrade: websocket",
        "Upgrade: websocket\r\nOrigin: https://app.example",
    );
    let (mut client, server) = tokio::io::duplex(4_096);
    client.write_all(request.as_bytes()).await.unwrap();
    let upgrader = Upgrader::new(settings);
    upgrader.upgrade(server, LOOPBACK).await.unwrap();
    // The same upgrader serves the next connection.
    let (mut client, server) = tokio::io::duplex(4_096);
    client.write_all(request.as_bytes()).await.unwrap();
    upgrader.upgrade(server, LOOPBACK).await.unwrap();
}

#[tokio::test]
async fn another_method_is_405() {
    for method in ["POST", "OPTIONS", "BREW", "get"] {
        let request = good_request().replace("GET", method);
        let head = refuses(request, 405, "GET").await;
        assert!(head.contains("\r\nAllow: GET\r\n"), "{head}");
    }
}

#[tokio::test]
async fn rfc9110_9_3_2_an_answer_to_head_has_no_content() {
    let request = good_request().replace("GET", "HEAD");
    let (error, heard) = refused(Settings::default(), request.as_bytes()).await;
    assert!(matches!(error, UpgradeError::Refused { status, .. } if status == 405));
    assert!(heard.starts_with("HTTP/1.1 405 "), "{heard}");
    assert!(heard.contains("\r\nContent-Length: "), "{heard}");
    assert!(heard.ends_with("\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn another_path_is_404_and_names_the_right_one() {
    for path in ["/", "/mqtt/", "/MQTT", "/mqtt2", "/x/mqtt", "/%6dqtt"] {
        let request = good_request().replace("/mqtt ", &format!("{path} "));
        let words = format!("There is nothing at {path}; MQTT over WebSocket is at /mqtt.");
        refuses(request, 404, &words).await;
    }
}

#[tokio::test]
async fn another_version_of_http_is_505() {
    refuses(
        good_request().replace("HTTP/1.1", "HTTP/1.0"),
        505,
        "HTTP/1.1",
    )
    .await;
    refuses("GET /mqtt HTTP/1.0\r\n\r\n", 505, "HTTP/1.1").await;
    refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1").await;
}

#[tokio::test]
async fn a_request_without_an_upgrade_is_426_and_told_what_this_is() {
    for request in [
        head("GET /mqtt HTTP/1.1", &[("Host", "localhost")]),
        request_with("Upgrade", &[]),
        request_with("Upgrade", &["h2c"]),
        request_with("Upgrade", &["websocket/13"]),
    ] {
        let head = refuses(request, 426, "This is MQTT over WebSocket at /mqtt;").await;
        assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
    }
    for request in [
        request_with("Connection", &[]),
        request_with("Connection", &["close"]),
    ] {
        let head = refuses(request, 426, "A proxy on the way may have taken it away").await;
        assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
    }
}

#[tokio::test]
async fn rfc6455_4_4_another_version_of_websocket_is_426_and_told_the_right_one() {
    for versions in [
        &[][..],
        &["8"],
        &["14"],
        &["13, 8"],
        &["13", "13"],
        &["013"],
    ] {
        let request = request_with("Sec-WebSocket-Version", versions);
        let head = refuses(request, 426, "version 13").await;
        assert!(head.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{head}");
        assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
    }
}

#[tokio::test]
async fn rfc6455_4_2_1_a_key_that_is_not_16_bytes_in_base64_is_400() {
    let good = "dGhlIHNhbXBsZSBub25jZQ==";
    for keys in [
        &[][..],
        &[""],
        &["=="],
        &["dGhlIHNhbXBsZSBub25jZQ"],
        &["dGhlIHNhbXBsZSBub25jZQ="],
        &["dGhlIHNhbXBsZSBub25jZ==="],
        &["dGhlIHNhbXBsZSBub25jZVE="],
        &["dGhlIHNhbXBsZSBub25j Q=="],
        &["dGhlIHNhbXBsZSBub25j-Q=="],
        &["AAAAdGhlIHNhbXBsZSBub25jZQ=="],
        &[good, good],
    ] {
        let request = request_with("Sec-WebSocket-Key", keys);
        refuses(request, 400, "Sec-WebSocket-Key").await;
    }
}

#[tokio::test]
async fn mqtt_6_0_0_3_a_request_that_does_not_offer_mqtt_is_400() {
    for offered in [
        &[][..],
        &[""],
        &["MQTT"],
        &["mqttv5"],
        &["mqttv3.1.1"],
        &["mqtt v3"],
        &["graphql-ws, chat"],
    ] {
        let request = request_with("Sec-WebSocket-Protocol", offered);
        refuses(request, 400, "does not offer the sub-protocol mqtt").await;
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_400() {
    for (name, value) in [
        ("Content-Length", "1"),
        ("Content-Length", "-1"),
        ("Transfer-Encoding", "chunked"),
        ("Transfer-Encoding", "identity"),
    ] {
        refuses(request_with(name, &[value]), 400, "has no body").await;
    }
}

#[tokio::test]
async fn what_is_no_http_behind_its_first_letter_is_400() {
    for request in [
        "Hello there\r\n\r\n",
        "GET\r\n\r\n",
        "GET /mqtt FTP/1.1\r\n\r\n",
        "GET /mqtt HTTPS\r\nHost: localhost HTTP/1.1\r\n\r\n",
        "CONNECT\naccept-version:1.2\n\n\0",
        "GET /mqtt HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /mqtt HTTP/1.1\r\nHost: a\0b\r\n\r\n",
        "GET /mqtt HTTP/1.1\r\n folded: yes\r\n\r\n",
        "GET /mqtt HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET mqtt:/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        refuses(request, 400, "This is no HTTP request: ").await;
    }
}

#[tokio::test]
async fn other_protocols_are_told_by_their_first_bytes() {
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    let connect = [
        0x10, 0x0c, 0x00, 0x04, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0,
    ];
    for (bytes, foreign) in [
        (&hello[..], Foreign::Tls),
        (&hello[..1], Foreign::Tls),
        (&connect, Foreign::Mqtt),
        (&connect[..1], Foreign::Mqtt),
    ] {
        let (error, heard) = refused(Settings::default(), bytes).await;
        assert!(
            matches!(error, UpgradeError::NotHttp { looks_like } if looks_like == foreign),
            "{error:?}"
        );
        assert_eq!(heard, "", "it would not be understood");
    }
    for bytes in [
        &[0x16, 0x04][..],
        &[0],
        b"\r\n",
        b"\x80\x2e",
        b"\xc3\xa9",
        b"{}",
    ] {
        let (error, heard) = refused(Settings::default(), bytes).await;
        let UpgradeError::NotHttp { looks_like } = error else {
            panic!("{error:?}");
        };
        assert_eq!(looks_like, Foreign::Other);
        assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
    }
}

#[tokio::test]
async fn a_proxy_header_that_is_not_expected_is_named() {
    let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 8083\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    for header in [&v1[..], v2] {
        let request = [header, good_request().as_bytes()].concat();
        let (error, heard) = refused(Settings::default(), &request).await;
        let proxy = matches!(
            error,
            UpgradeError::NotHttp {
                looks_like: Foreign::Proxy
            }
        );
        assert!(proxy, "{error:?}");
        assert!(heard.contains("proxy_networks"), "{heard}");
    }
}

// ---- bounds --------------------------------------------------------------------------------------

#[tokio::test]
async fn a_head_of_16_kib_and_64_fields_is_read_and_a_larger_one_is_431() {
    let padded = |len: usize| {
        let empty = request_with("X-Pad", &[""]);
        request_with("X-Pad", &[&"x".repeat(len - empty.len())])
    };
    assert_eq!(padded(16 << 10).len(), 16 << 10);
    answer_to(padded(16 << 10).as_bytes()).await;
    let (error, heard) = refused(Settings::default(), padded((16 << 10) + 1).as_bytes()).await;
    assert!(matches!(error, UpgradeError::TooLarge), "{error:?}");
    assert!(heard.starts_with("HTTP/1.1 431 "), "{heard}");
    refuses(padded(200 << 10), 431, "16 KiB").await;

    let with_fields = |count: usize| {
        let more = vec!["1"; count - FIELDS.len()];
        request_with("X-More", &more)
    };
    answer_to(with_fields(64).as_bytes()).await;
    refuses(with_fields(65), 431, "64 fields").await;
}

#[tokio::test]
async fn an_endless_line_is_431() {
    refuses("G".repeat(20_000), 431, "16 KiB").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_ends_after_the_time_for_all_of_it() {
    let (mut client, server) = tokio::io::duplex(4_096);
    let start = Instant::now();
    let upgrader = Upgrader::new(Settings::default());
    let upgrading = upgrader.upgrade(server, LOOPBACK);
    let dripping = async {
        // A byte a second would take minutes.
        for byte in good_request().bytes() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if client.write_u8(byte).await.is_err() {
                break;
            }
            if start.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        drop(client);
        heard
    };
    let (outcome, heard) = tokio::join!(upgrading, dripping);
    assert!(matches!(outcome, Err(UpgradeError::Timeout)), "{outcome:?}");
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    assert!(
        start.elapsed() <= Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_ends_after_the_time_and_no_longer_than_the_linger() {
    // This client neither reads, nor writes, nor closes.
    let (_client, server) = tokio::io::duplex(16);
    let settings = Settings {
        handshake_timeout: Duration::from_secs(3),
        ..Settings::default()
    };
    let start = Instant::now();
    let outcome = Upgrader::new(settings).upgrade(server, LOOPBACK).await;
    assert!(matches!(outcome, Err(UpgradeError::Timeout)), "{outcome:?}");
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_ends_after_the_time() {
    // The answer does not fit and nobody reads it.
    let (mut client, server) = tokio::io::duplex(64);
    let start = Instant::now();
    let upgrader = Upgrader::new(Settings::default());
    let upgrading = upgrader.upgrade(server, LOOPBACK);
    let request = good_request();
    let asking = client.write_all(request.as_bytes());
    let (outcome, asked) = tokio::join!(upgrading, asking);
    asked.unwrap();
    assert!(matches!(outcome, Err(UpgradeError::Timeout)), "{outcome:?}");
    assert_eq!(start.elapsed().as_secs(), 10);
    // What it has read of the answer is no error in the midst of it.
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
    assert!(!heard.contains("408"), "{heard}");
}

#[tokio::test]
async fn a_client_that_goes_away_is_lost() {
    for request in ["", "GET /mqtt HTTP/1.1\r\nHost: local"] {
        let (mut client, server) = tokio::io::duplex(4_096);
        client.write_all(request.as_bytes()).await.unwrap();
        drop(client);
        let outcome = Upgrader::new(Settings::default())
            .upgrade(server, LOOPBACK)
            .await;
        assert!(matches!(outcome, Err(UpgradeError::Lost)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_client_that_still_writes_when_it_is_refused_is_not_reset() {
    // On a real socket: closed at once, it would answer these bytes with a reset.
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let request = good_request().replace("/mqtt", "/no");
    client.write_all(request.as_bytes()).await.unwrap();
    let upgrader = Upgrader::new(Settings::default());
    let upgrading = upgrader.upgrade(server, LOOPBACK);
    let talking = async {
        client.readable().await.unwrap();
        for _ in 0..6 {
            client.write_all(&[7; 10_000]).await.unwrap();
        }
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        drop(client);
        heard
    };
    let (outcome, heard) = tokio::join!(upgrading, talking);
    assert!(outcome.is_err());
    assert!(heard.starts_with("HTTP/1.1 404 "), "{heard}");
}

#[tokio::test]
async fn a_large_head_is_charged_while_it_is_read_and_refused_where_there_is_no_room() {
    let memory = Arc::new(MemoryBudget::new(20 << 10));
    let upgrader = Upgrader::new(Settings::default()).charging(Arc::clone(&memory));
    let upgrader = Arc::new(upgrader);
    let begin = |head: Vec<u8>| {
        let (client, server) = tokio::io::duplex(64 << 10);
        let upgrader = Arc::clone(&upgrader);
        let upgrading = tokio::spawn(async move { upgrader.upgrade(server, LOOPBACK).await });
        async move {
            let mut client = client;
            client.write_all(&head).await.unwrap();
            (client, upgrading)
        }
    };
    let large = [b"GET /mqtt HTTP/1.1\r\nX: ", &[b'x'; 5_000][..]].concat();
    let (first, upgrading) = begin(large.clone()).await;
    while memory.used() == 0 {
        tokio::task::yield_now().await;
    }
    let (mut second, refused) = begin(large).await;
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(second);
    assert!(refused.await.unwrap().is_err());
    // Small ones need no room.
    let (_third, upgraded) = begin(good_request().into_bytes()).await;
    assert!(upgraded.await.unwrap().is_ok());
    drop(first);
    assert!(upgrading.await.unwrap().is_err());
    assert_eq!(memory.used(), 0);
}

//! What is not TLS, or too slow, or too many: refused, bounded, and no one else is held up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::time::{Duration, Instant};

use rustls::version::TLS13;
use support::*;
use tidegate_tls::{AcceptSettings, Foreign, HandshakeError, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

async fn server(handshake_timeout: Duration, max_handshakes: usize) -> (Authority, Folder, Server) {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let accept = AcceptSettings {
        handshake_timeout,
        max_handshakes,
    };
    let server = Server::with(settings(vec![files]), accept).await;
    (authority, folder, server)
}

/// A ClientHello's record header and nothing of the hello.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00";

#[tokio::test]
async fn rfc8446_5_1_plain_text_is_answered_by_an_alert_and_named() {
    let (_authority, _folder, mut server) = server(PATIENCE, 4).await;
    let connect_packet = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
    for (bytes, expected) in [
        (&connect_packet[..], Foreign::Mqtt),
        (
            b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Foreign::Http,
        ),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Foreign::Proxy),
        // Too short for TLS to make anything of; not waited for.
        (b"\xc0\x00", Foreign::Other),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Ends with a proper end, not with a reset, though the server has read none of it so far.
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 10], "{expected}");
        drop(stream);
        match server.result().await {
            Err(HandshakeError::NotTls(foreign)) => assert_eq!(foreign, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.acceptor.counters().failed(), 4);
}

#[tokio::test]
async fn an_alert_arrives_although_much_was_sent() {
    let (_authority, _folder, mut server) = server(PATIENCE, 4).await;
    // So little room that the server has to take it off the client's hands.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    for _ in 0..1000 {
        stream.write_all(&[b'x'; 1000]).await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.len(), 7);
    drop(stream);
    assert!(server.result().await.is_err());
}

#[tokio::test]
async fn a_client_that_sends_and_never_closes_is_let_go_after_a_while() {
    let (_authority, _folder, mut server) = server(PATIENCE, 4).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let start = Instant::now();
    stream.write_all(b"hello").await.unwrap();
    assert!(matches!(
        server.result().await,
        Err(HandshakeError::NotTls(Foreign::Other))
    ));
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    // The socket is closed: what comes now is answered by a reset.
    let refused = async {
        while stream.write_all(&[0; 1024]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
}

#[tokio::test]
async fn a_silent_client_times_out_and_takes_no_turn() {
    let (authority, _folder, mut server) = server(Duration::from_secs(1), 1).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    // With a single turn this would not get through if the silent client had it.
    let config = client(roots(&[&authority]), &[&TLS13], None);
    connect(server.address, &config, "localhost").await.unwrap();
    server.result().await.unwrap();
    match server.result().await {
        Err(HandshakeError::Timeout { stage, .. }) => assert_eq!(stage, Stage::FirstBytes),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.acceptor.counters().timeouts(), 1);
    assert_eq!(server.acceptor.counters().failed(), 0);
    drop(silent);
}

#[tokio::test]
async fn half_a_handshake_times_out() {
    let (_authority, _folder, mut server) = server(Duration::from_millis(300), 1).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(HALF).await.unwrap();
    match server.result().await {
        Err(HandshakeError::Timeout { stage, .. }) => assert_eq!(stage, Stage::Handshake),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.acceptor.counters().in_progress(), 0);
    assert_eq!(half.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_is_lost_and_not_timed_out() {
    let (_authority, _folder, mut server) = server(PATIENCE, 1).await;
    for bytes in [&b""[..], HALF] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        drop(stream);
        assert!(matches!(server.result().await, Err(HandshakeError::Lost)));
    }
}

/// What a client says first, as it goes over the wire.
fn hello(client: &mut rustls::ClientConnection) -> Vec<u8> {
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

fn client_connection(authority: &Authority) -> rustls::ClientConnection {
    let config = client(roots(&[authority]), &[&TLS13], None);
    rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap()
}

async fn saying(server: &Server, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        clients.push(client);
    }
    clients
}

/// Clients that have said hello, are answered, and say no more.
async fn unfinished(server: &Server, authority: &Authority, count: usize) -> Vec<TcpStream> {
    saying(server, count, &hello(&mut client_connection(authority))).await
}

#[tokio::test]
async fn handshakes_beyond_the_limit_wait_for_their_turn() {
    let (authority, _folder, mut server) = server(PATIENCE, 2).await;
    let first = unfinished(&server, &authority, 2).await;
    wait_until(|| server.acceptor.counters().in_progress() == 2).await;
    let config = client(roots(&[&authority]), &[&TLS13], None);
    let address = server.address;
    let started = Instant::now();
    let third = tokio::spawn(async move { connect(address, &config, "localhost").await });
    let mut most = 0;
    while !third.is_finished() {
        most = most.max(server.acceptor.counters().in_progress());
        tokio::task::yield_now().await;
    }
    third.await.unwrap().unwrap();
    assert_eq!(most, 2, "as many as may be, and no more");
    // The two had their turns for a while, and gave them up long before they were given up.
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    server.result().await.unwrap();
    drop(first);
}

#[tokio::test]
async fn whoever_begins_many_handshakes_and_ends_none_keeps_nobody_out() {
    let (authority, _folder, mut server) = server(PATIENCE, 4).await;
    let many = unfinished(&server, &authority, 20).await;
    let config = client(roots(&[&authority]), &[&TLS13], None);
    for _ in 0..10 {
        connect(server.address, &config, "localhost").await.unwrap();
        server.result().await.unwrap();
    }
    assert_eq!(server.acceptor.counters().timeouts(), 0);
    drop(many);
}

#[tokio::test]
async fn half_a_hello_has_no_turn_however_many_there_are() {
    let (authority, _folder, mut server) = server(PATIENCE, 1).await;
    let config = client(roots(&[&authority]), &[&TLS13], None);
    let mut all = Vec::new();
    for _ in 0..20 {
        // Some are always new: none of them may have the one turn for any time.
        for bytes in [&HALF[..1], HALF] {
            all.extend(saying(&server, 20, bytes).await);
        }
        let started = Instant::now();
        connect(server.address, &config, "localhost").await.unwrap();
        server.result().await.unwrap();
        // With a turn of any length for each they would have had it for minutes.
        assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_takes_its_time_gets_another_turn() {
    let (authority, _folder, mut server) = server(PATIENCE, 1).await;
    let mut slow = client_connection(&authority);
    let hello = hello(&mut slow);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&hello[..10]).await.unwrap();
    let config = client(roots(&[&authority]), &[&TLS13], None);
    // It has no turn while it takes its time, neither in the middle of its hello nor before its last
    // words: another one is through.
    connect(server.address, &config, "localhost").await.unwrap();
    server.result().await.unwrap();
    stream.write_all(&hello[10..]).await.unwrap();
    while slow.is_handshaking() {
        let mut bytes = [0; 4_096];
        let read = stream.read(&mut bytes).await.unwrap();
        slow.read_tls(&mut &bytes[..read]).unwrap();
        slow.process_new_packets().unwrap();
        if slow.is_handshaking() {
            continue;
        }
        connect(server.address, &config, "localhost").await.unwrap();
        server.result().await.unwrap();
    }
    let mut answer = Vec::new();
    while slow.wants_write() {
        slow.write_tls(&mut answer).unwrap();
    }
    stream.write_all(&answer).await.unwrap();
    server.result().await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_turn_has_an_end() {
    let (authority, _folder, mut server) = server(Duration::from_secs(1), 1).await;
    // Each has the one turn for a quarter of a second: not all have one within the second.
    let many = unfinished(&server, &authority, 12).await;
    let mut stages = Vec::new();
    for _ in 0..many.len() {
        match server.result().await {
            Err(HandshakeError::Timeout { stage, .. }) => stages.push(stage),
            other => panic!("{other:?}"),
        }
    }
    assert!(stages.contains(&Stage::Turn), "{stages:?}");
    assert!(stages.contains(&Stage::Handshake), "{stages:?}");
    assert_eq!(server.acceptor.counters().timeouts(), 12);
}

async fn wait_until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

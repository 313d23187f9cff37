//! Listening sockets and their options.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::time::Duration;

use tidegate_tcp::SocketOptions;
use tokio::net::TcpStream;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn reuse_port_lets_two_sockets_listen_at_one_address() {
    let mut options = SocketOptions::new(address("127.0.0.1:0"));
    options.reuse_port = true;
    let first = options.listen().unwrap();
    options.bind = first.local_addr().unwrap();
    let second = options.listen().unwrap();
    options.reuse_port = false;
    assert!(options.listen().is_err(), "the address is taken");
    drop((first, second));
}

#[tokio::test]
async fn rfc3493_5_3_a_socket_of_both_families_takes_ipv4_unless_told_not_to() {
    let mut options = SocketOptions::new(address("[::]:0"));
    let both = options.listen().unwrap();
    let port = both.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port));
    let (client, (_, peer)) = tokio::join!(client, tidegate_tcp::accept(&both, "test"));
    assert_eq!(peer, client.unwrap().local_addr().unwrap());

    options.ipv6_only = true;
    let only = options.listen().unwrap();
    let port = only.local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert!(TcpStream::connect(("::1", port)).await.is_ok());
}

/// How many of `attempts` connections the kernel completes while nobody accepts them, one after the
/// other; the first that is left waiting is the last one.
#[cfg(target_os = "linux")]
async fn completed(backlog: u32, attempts: usize, patience: Duration) -> usize {
    let mut options = SocketOptions::new(address("127.0.0.1:0"));
    options.backlog = backlog;
    let listener = options.listen().unwrap();
    let server = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    while clients.len() < attempts {
        match tokio::time::timeout(patience, TcpStream::connect(server)).await {
            Ok(client) => clients.push(client.unwrap()),
            Err(_) => break,
        }
    }
    clients.len()
}

/// Linux drops what comes when the queue is full and the client goes on asking; other systems refuse,
/// or round the number up.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_backlog_is_how_many_connections_wait_to_be_accepted() {
    // The queue is full when there is one more than the backlog, listen(2) notwithstanding.
    let few = completed(1, 20, Duration::from_secs(2)).await;
    assert!((1..=3).contains(&few), "{few}");
    let all = completed(40, 20, Duration::from_secs(20)).await;
    assert_eq!(all, 20);
}

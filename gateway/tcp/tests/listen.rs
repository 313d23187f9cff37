//! Listening sockets and their options.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::net::SocketAddr;

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

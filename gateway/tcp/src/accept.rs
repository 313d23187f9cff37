//! Accepting connections although the machine may be short of something.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The next connection and the address it comes from, an IPv4 address as such also where a socket of
/// both families accepted it. `TCP_NODELAY` is set: without it a small packet waits for the
/// acknowledgement of the one before.
///
/// A connection that died before it was accepted is passed over; when files or memory run out the
/// loop waits, longer each time, instead of spinning or giving up. `name` is for the log.
///
/// Nothing is lost when this is dropped before it completes.
pub async fn accept(listener: &TcpListener, name: &str) -> (TcpStream, SocketAddr) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if stream.set_nodelay(true).is_ok() {
                    return (stream, canonical(peer));
                }
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, listener = name, ?pause, "No connection can be accepted; waiting.");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

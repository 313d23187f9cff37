//! From a TCP socket to a byte stream whose peer is known: socket options, accepting although the
//! machine may be short of something, and the PROXY protocol (versions 1 and 2) that a load balancer
//! puts before the client's bytes.
//!
//! What it is not: it knows no protocol that runs over TCP, and it does not decide how many may
//! connect.

mod accept;
mod complaints;
mod options;
mod proxy;

pub use accept::accept;
pub use complaints::Complaints;
pub use options::SocketOptions;
pub use proxy::{IpNet, Proxied, ProxyError, ProxyProtocol};

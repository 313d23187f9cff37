//! MQTT over QUIC (RFC 9000): from a UDP socket to byte streams that MQTT is spoken over.
//!
//! A [`Server`] answers handshakes with ALPN `mqtt` and TLS 1.3 and gives back each [`Connection`] when the
//! handshake is confirmed: what came as early data (0-RTT), which anybody may have recorded and sent again, is
//! not looked at before: it waits in the streams that it is for, bounded by their windows. The client opens one
//! bidirectional stream, the control stream, and speaks MQTT on it as over TCP; what carries that is a
//! [`Stream`]. It may open more, each a [`DataStream`], for packets from PUBLISH to UNSUBACK.
//!
//! Clients may change their address at any time (RFC 9000 section 9): the connection is known by its
//! connection identifiers, which can name the node that gave them ([`NodeId`]).
//!
//! Everything that one connection may hold is bounded: by [`Settings`] its streams, windows in both directions
//! and the time in which nothing is heard.

mod cid;
mod client;
mod congestion;
mod connection;
mod crypto;
mod data;
mod driver;
mod endpoint;
mod error;
mod hello;
mod inbox;
mod link;
mod metrics;
mod server;
mod settings;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod waiters;

pub use cid::NodeId;
pub use client::{ClientDataStream, ClientStream, ConnectError, Dialer};
pub use connection::Connection;
pub use crypto::{EarlyData, Handshake};
pub use data::{DataStream, DataStreams};
pub use error::{EstablishError, code};
pub use metrics::{Metrics, RTT_BOUNDS};
pub use quinn_proto::ConnectionError;
pub use server::{Arrival, Keys, Server, TlsConfig};
pub use settings::{Retry, Settings};
pub use socket::bind;
pub use stream::Stream;

/// The protocol's name in the handshake (RFC 7301).
pub const ALPN: &[u8] = b"mqtt";

//! CoAP over byte streams (RFC 8323): TCP, and TLS over it.
//!
//! What carries the bytes loses, repeats and reorders nothing, and has shown that the client is where it says. So there
//! are no types and identifiers, no repetitions, and no address that is to be verified. What there is instead are
//! signals: each end says first what it can do (CSM), asks whether the other is there, and says why it leaves.
//!
//! To follow a request, read `connection.rs` (the bytes), `protocol.rs` (what a message means), `requests.rs` (what a
//! request is answered) `observing.rs` (notifications) and `seats.rs` (observers that have a session). What comes before is in
//! `greeting.rs`.

mod connection;
mod ending;
mod endpoint;
mod greeting;
mod limits;
mod observing;
mod pending;
mod protocol;
mod pulses;
mod requests;
mod scratch;
mod seats;

pub use endpoint::{Endpoint, Peer, Served};

/// The name of the protocol in a TLS handshake (RFC 8323 section 8.2).
pub const ALPN: &[u8] = b"coap";

//! CoAP over TCP (RFC 8323) on loopback: signals, requests, bodies, observations, and what a client may not take.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]
#![allow(unreachable_pub, reason = "one binary")]

mod client;
mod idle;
mod observe;
mod requests;
mod sessions;
mod signals;
#[path = "../support/slow.rs"]
mod slow;

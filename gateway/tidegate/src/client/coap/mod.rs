//! CoAP, as a client of topics speaks it: over UDP and DTLS (RFC 7252), TCP and TLS (RFC 8323), with observations
//! (RFC 7641), bodies in blocks (RFC 7959), Echo (RFC 9175) and problem details (RFC 9290).
//!
//! It is no general client: it knows PUT, DELETE and GET with Observe, one request at a time, no proxies, caches or
//! multicast.
//!
//! `conversation` is what is asked for and told, `call` one request to its end, `observation` what is observed;
//! `carrier` is how messages travel, in `datagrams` with repetitions or in `frames` of a stream; none of them has a socket
//! or a clock. `link` has the socket, `session` the clock, `publish` and `subscribe` are the two commands.

mod arrival;
mod block;
mod call;
mod carrier;
mod chance;
mod conversation;
mod datagrams;
mod draft;
mod frames;
mod link;
mod observation;
mod order;
mod publish;
mod resource;
mod response;
mod secured;
mod session;
mod status;
mod stream;
mod subscribe;

use std::time::Instant;

pub(super) use publish::publish;
pub(super) use status::Status;
pub(super) use subscribe::subscribe;

/// A port can name so many messages in so much time, and no more (RFC 7252 section 4.4).
fn warn_exhausted(until: Instant) {
    let seconds = until.saturating_duration_since(Instant::now()).as_secs() + 1;
    eprintln!(
        "warning: every message identifier was used within 247 seconds; the next is free in {seconds} s"
    );
}

//! The same workloads over CoAP: an endpoint is a socket of UDP, a publish a confirmable PUT, a subscription an
//! observation, a delivery a notification.
//!
//! An endpoint has one message under way (NSTART, RFC 7252 section 4.7), so a publisher's window is one, and nothing is
//! sent at a rate.

mod endpoint;
mod idle;
mod message;
mod traffic;

pub(super) use idle::idle;
pub(super) use traffic::traffic;

/// The scheme of the order.
pub(super) const SCHEME: &str = "coap";

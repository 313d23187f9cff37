//! The tests, a file a subject.

mod aliases;
mod auth;
mod client_id;
mod connack;
mod connect;
mod data;
mod disconnect;
mod errors;
mod expiry;
mod flow;
mod interplay;
mod keep_alive;
mod kit;
mod level3;
mod order;
mod packets;
mod properties;
mod publish;
mod qos1;
mod qos2;
mod raw;
mod redelivery;
mod request_response;
mod retained;
mod session;
mod shared;
mod subscribe;
mod topics;
mod unsubscribe;
mod websocket;
mod will;
mod will_delay;

use crate::test::Test;

const SUBJECTS: &[&[Test]] = &[
    aliases::TESTS,
    auth::TESTS,
    client_id::TESTS,
    connack::TESTS,
    connect::TESTS,
    data::TESTS,
    disconnect::TESTS,
    errors::TESTS,
    expiry::TESTS,
    flow::TESTS,
    interplay::TESTS,
    keep_alive::TESTS,
    level3::TESTS,
    order::TESTS,
    packets::TESTS,
    properties::TESTS,
    publish::TESTS,
    qos1::TESTS,
    qos2::TESTS,
    redelivery::TESTS,
    request_response::TESTS,
    retained::TESTS,
    session::TESTS,
    shared::TESTS,
    subscribe::TESTS,
    topics::TESTS,
    unsubscribe::TESTS,
    websocket::TESTS,
    will::TESTS,
    will_delay::TESTS,
];

/// Every test.
#[must_use]
pub fn tests() -> Vec<&'static Test> {
    SUBJECTS.iter().copied().flatten().collect()
}

//! What an operator decides about one listener of CoAP.

use std::time::Duration;

/// What an address that has not proved that it can receive gets for an answer larger than three times what it sent
/// (RFC 7252 section 11.3, RFC 9175 section 2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unverified {
    /// All of it, once it has answered a ping, as every endpoint does (RFC 7252 section 4.3).
    /// A client that has just begun may not: libcoap answers none in its first quarter of a second.
    Ping,
    /// The first part of it, in blocks so small that they fit: any client that knows RFC 7959 fetches the rest.
    #[default]
    Blocks,
    /// 4.01 with Echo: a client that knows RFC 9175 repeats its request with it.
    Echo,
    /// All of it: for networks in which addresses cannot be forged.
    All,
}

/// Settings of one listener. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Largest body of a message, however many blocks it comes or goes in.
    pub max_body_bytes: usize,
    /// Largest block that is sent: 16, 32, and so on to 1,024.
    pub block_bytes: usize,
    /// Requests that are remembered, so that a repetition has no effect (RFC 7252 section 4.5).
    pub max_exchanges: usize,
    /// Endpoints that something is kept for: observers, and those whom an answer is owed.
    pub max_endpoints: usize,
    /// Observations of all endpoints together.
    pub max_observations: usize,
    /// Observations of one endpoint.
    pub max_observations_per_endpoint: usize,
    /// Messages that wait for one observation.
    pub max_waiting: usize,
    /// Bodies that are coming in blocks, of all endpoints together.
    pub max_transfers: usize,
    /// Bodies that are coming in blocks, of one endpoint.
    pub max_transfers_per_endpoint: usize,
    /// How often an observer is asked to confirm that it lives: a notification is confirmable when the last one was
    /// so long ago, and one who is sent nothing is asked with a ping.
    pub confirm_interval: Duration,
    /// What an address gets that has not proved that it can receive.
    pub unverified: Unverified,
    /// Over a stream: how long a client may take to say what it can do (RFC 8323 section 5.3).
    pub csm_timeout: Duration,
    /// Over a stream: a client that says nothing for so long is asked whether it is there.
    pub ping_interval: Duration,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// Longest client identifier.
    pub max_client_id_bytes: usize,
    /// For how long the session of an observer is kept that does not say it.
    pub session_expiry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            block_bytes: 1_024,
            max_exchanges: 100_000,
            max_endpoints: 1_000_000,
            max_observations: 1_000_000,
            max_observations_per_endpoint: 100,
            max_waiting: 128,
            max_transfers: 1_024,
            max_transfers_per_endpoint: 8,
            confirm_interval: Duration::from_secs(3_600),
            unverified: Unverified::default(),
            csm_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(600),
            ping_timeout: Duration::from_secs(30),
            max_client_id_bytes: 1_024,
            session_expiry: Duration::from_secs(7 * 24 * 3_600),
        }
    }
}

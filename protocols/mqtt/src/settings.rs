//! What an operator decides about MQTT connections.

use std::time::Duration;

/// Limits and defaults of the MQTT adapter. Sizes are bytes. All limits are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Most connections at once over all MQTT listeners.
    pub max_connections: usize,
    /// Most connections at once from one address.
    pub max_connections_per_ip: usize,
    /// New connections a second over all listeners; 0 is no limit. Bursts of one second pass.
    pub max_connect_rate: u32,
    /// Time from accept to a whole CONNECT packet.
    pub connect_timeout: Duration,
    /// Largest packet accepted, fixed header included; announced as Maximum Packet Size.
    pub max_packet_bytes: u32,
    /// Acknowledged publishes of one client that may be open at once, 1 to 65,535; announced as
    /// Receive Maximum.
    pub receive_maximum: u16,
    /// Highest topic alias a client may use; announced as Topic Alias Maximum. 0 is none.
    pub topic_alias_maximum: u16,
    /// Most topic aliases the gateway assigns to one client; the client's own maximum lowers it.
    pub topic_alias_maximum_outbound: u16,
    /// Longest keep alive in seconds; a client that asks for more, or for none, is told this one
    /// (Server Keep Alive). 0 accepts whatever the client asks for.
    pub max_keep_alive: u16,
    /// Session expiry of an MQTT 3.1 or 3.1.1 client that connects with clean session 0.
    pub v3_session_expiry: Duration,
    /// What a client that asks for Response Information is told: this, `/` and its client
    /// identifier. Empty: nothing (MQTT 5.0 section 3.2.2.3.15).
    pub response_information: String,
    /// DISCONNECT packets a second while the gateway shuts down; 0 is no limit.
    pub shutdown_disconnects_per_second: u32,
    /// The longest a shutdown takes before the connections that are left are cut off.
    pub shutdown_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_connections_per_ip: 100_000,
            max_connect_rate: 0,
            connect_timeout: Duration::from_secs(10),
            max_packet_bytes: 1 << 20,
            receive_maximum: 1_024,
            topic_alias_maximum: 64,
            topic_alias_maximum_outbound: 64,
            max_keep_alive: 0,
            v3_session_expiry: Duration::from_secs(7 * 24 * 3600),
            response_information: "response".to_owned(),
            shutdown_disconnects_per_second: 2_000,
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

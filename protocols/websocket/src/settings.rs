//! What an operator may decide about one listener's WebSocket.

use std::time::Duration;

use tidegate_origin::{AllowedHost, AllowedOrigin};

/// How one listener speaks WebSocket.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path of the upgrade request, such as `/mqtt`. A query behind it does not count.
    pub path: String,
    /// Hosts that requests may name, see [`Gate::for_devices`](tidegate_origin::Gate::for_devices).
    pub allowed_hosts: Vec<AllowedHost>,
    /// Origins whose pages may connect.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// How long the upgrade may take from the first byte awaited to the last one sent.
    pub handshake_timeout: Duration,
    /// Longest payload of one frame of the client.
    pub max_frame_bytes: u64,
    /// Longest payload of one message of the client, all its frames together.
    pub max_message_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: "/mqtt".to_owned(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            max_frame_bytes: 16 << 20,
            max_message_bytes: 16 << 20,
        }
    }
}

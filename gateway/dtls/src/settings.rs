//! Bounds of a server.

use std::num::NonZeroU32;
use std::time::Duration;

/// What a server allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Handshakes under way at once. Their clients have shown that they receive at their address.
    pub max_handshakes: usize,
    /// Handshakes that may begin in a second, on average over it. What comes too fast is not answered: the client tries
    /// again.
    pub max_handshake_rate: NonZeroU32,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Addresses with a session or a handshake of one IP address.
    pub max_per_ip: usize,
    /// A handshake takes no longer than this.
    pub handshake_timeout: Duration,
    /// A session ends when nothing has come from its client for so long.
    pub idle_timeout: Duration,
    /// The largest datagram of a handshake that is sent.
    pub mtu: usize,
    /// The largest datagram that is read. Of a handshake up to 16 may be waiting for one that is missing.
    pub max_datagram: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_handshakes: 1_000,
            max_handshake_rate: NonZeroU32::MIN.saturating_add(999),
            max_sessions: 100_000,
            max_per_ip: 100_000,
            handshake_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(24 * 60 * 60),
            mtu: 1_232,
            max_datagram: 4_096,
        }
    }
}

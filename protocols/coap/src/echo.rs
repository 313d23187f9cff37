//! The value of Echo (RFC 9175 section 2.2): who repeats it receives at the address it was sent to, and did so not
//! long ago. Nothing is kept for it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

/// How long a value holds, once or twice this.
const TURN: Duration = Duration::from_secs(60);

const LEN: usize = 12;

pub(crate) struct EchoKey {
    key: hmac::Key,
    started: Instant,
}

impl EchoKey {
    pub(crate) fn new(now: Instant) -> Self {
        let mut secret = [0; 32];
        #[expect(
            clippy::expect_used,
            reason = "without random numbers no process of ours has come this far: TLS needs them first"
        )]
        aws_lc_rs::rand::fill(&mut secret).expect("the system has random numbers");
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            started: now,
        }
    }

    /// The value for an address.
    pub(crate) fn value(&self, to: SocketAddr, now: Instant) -> [u8; LEN] {
        self.at_turn(to, self.turn(now))
    }

    /// Whether a value is one that this address was sent not long ago.
    pub(crate) fn is_good(&self, value: &[u8], from: SocketAddr, now: Instant) -> bool {
        let turn = self.turn(now);
        [turn, turn.wrapping_sub(1)].into_iter().any(|turn| {
            let expected = self.at_turn(from, turn);
            aws_lc_rs::constant_time::verify_slices_are_equal(&expected, value).is_ok()
        })
    }

    fn turn(&self, now: Instant) -> u32 {
        let turns = now.saturating_duration_since(self.started).as_secs() / TURN.as_secs();
        turns as u32
    }

    fn at_turn(&self, address: SocketAddr, turn: u32) -> [u8; LEN] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&turn.to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        context.update(&address.port().to_be_bytes());
        let tag = context.sign();
        let mut value = [0; LEN];
        // SHA-256 has 32 bytes.
        value
            .iter_mut()
            .zip(tag.as_ref())
            .for_each(|(to, from)| *to = *from);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9175_2_2_a_value_is_good_for_its_address_and_a_minute_or_two() {
        let now = Instant::now();
        let echo = EchoKey::new(now);
        let here = SocketAddr::from(([127, 0, 0, 1], 7));
        let there = SocketAddr::from(([127, 0, 0, 1], 8));
        let value = echo.value(here, now);
        assert!(echo.is_good(&value, here, now));
        assert!(echo.is_good(&value, here, now + TURN));
        assert!(!echo.is_good(&value, here, now + TURN * 2));
        assert!(!echo.is_good(&value, there, now));
        assert!(!echo.is_good(&value[..11], here, now) && !echo.is_good(&[], here, now));
    }
}

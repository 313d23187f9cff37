//! Cookies: a client shows that it receives what is sent to its address, and the server remembers nothing until then
//! (RFC 6347, 4.2.1; RFC 9147, 5.1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac};

use crate::hello::{Choice, Hello, body_of};

/// The length of a cookie. The engine takes none of another length.
pub(crate) const COOKIE: usize = 32;

/// A cookie is good for the rest of the period in which it was made, and for the next one.
const PERIOD: Duration = Duration::from_secs(30);

/// A cookie and the extension around it, and some more.
const SLACK: usize = 64;

/// How much of a cookie is the HMAC; the rest is the length of the first hello's padding.
const MAC: usize = COOKIE - 2;

/// That there was no padding. A datagram has not so many bytes.
const NO_PADDING: u16 = u16::MAX;

/// Makes cookies and knows its own.
///
/// A cookie is an HMAC over the address, the time and the hello that had no cookie, or, in DTLS 1.2, that part of it
/// that stays as it was (RFC 6347 section 4.2.1). So a cookie of DTLS 1.3 also
/// proves that this hello was restored, to the byte, from the one that has the cookie; that takes the length of its
/// padding, which stands in the cookie, too.
pub(crate) struct Cookies {
    key: hmac::Key,
    start: Instant,
}

impl Cookies {
    /// `None` if the operating system has no randomness.
    pub(crate) fn new(now: Instant) -> Option<Self> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).ok()?;
        Some(Self { key, start: now })
    }

    /// The cookie for a hello from this address. `scratch` is overwritten.
    pub(crate) fn make(
        &self,
        peer: SocketAddr,
        hello: &Hello<'_>,
        choice: Option<Choice>,
        now: Instant,
        scratch: &mut Vec<u8>,
    ) -> [u8; COOKIE] {
        hello.write_earlier(choice, hello.padding, 0, scratch);
        let mut cookie = [0; COOKIE];
        let (padding, mac) = cookie.split_at_mut(COOKIE - MAC);
        padding.copy_from_slice(&hello.padding.unwrap_or(NO_PADDING).to_be_bytes());
        let period = self.period(now);
        let tag = self.tag(peer, choice, padding, bound(hello, choice, scratch), period);
        mac.copy_from_slice(&tag.as_ref()[..MAC]);
        cookie
    }

    /// Whether it is a cookie of ours for the hello that came before this one, for this address, and not too old. If
    /// so, `scratch` holds the record with that hello.
    pub(crate) fn is_good(
        &self,
        cookie: &[u8; COOKIE],
        peer: SocketAddr,
        hello: &Hello<'_>,
        choice: Option<Choice>,
        now: Instant,
        scratch: &mut Vec<u8>,
    ) -> bool {
        let (padding, mac) = cookie.split_at(COOKIE - MAC);
        let length = padding_of(cookie);
        // No padding makes a hello much longer than the same one with a cookie. Nobody may have us hash more than
        // was sent.
        if length.is_some_and(|length| usize::from(length) > hello.record.len() + SLACK) {
            return false;
        }
        hello.write_earlier(choice, length, 0, scratch);
        let period = self.period(now);
        [Some(period), period.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| {
                let tag = self.tag(peer, choice, padding, bound(hello, choice, scratch), period);
                constant_time::verify_slices_are_equal(mac, &tag.as_ref()[..MAC]).is_ok()
            })
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / PERIOD.as_secs()
    }

    fn tag(
        &self,
        peer: SocketAddr,
        choice: Option<Choice>,
        padding: &[u8],
        hello: &[u8],
        period: u64,
    ) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        let address = match peer.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        context.update(&address.octets());
        context.update(&peer.port().to_be_bytes());
        context.update(&period.to_be_bytes());
        // The suite stands in the request of DTLS 1.3.
        let suite = match choice {
            Some(Choice::Certificate13(suite)) => suite,
            _ => 0,
        };
        context.update(&suite.to_be_bytes());
        if suite != 0 {
            context.update(padding);
        }
        context.update(hello);
        context.sign()
    }
}

/// What a cookie is of in a hello that was written without one.
fn bound<'a>(hello: &Hello<'_>, choice: Option<Choice>, written: &'a [u8]) -> &'a [u8] {
    let body = body_of(written);
    body.get(..hello.bound_len(choice)).unwrap_or(body)
}

/// How long the padding of the first hello was.
pub(crate) fn padding_of(cookie: &[u8; COOKIE]) -> Option<u16> {
    let length = u16::from_be_bytes([cookie[0], cookie[1]]);
    (length != NO_PADDING).then_some(length)
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}

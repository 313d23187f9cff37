//! How messages travel.

use std::time::{Duration, Instant};

use tidegate_coap::codec::Token;

use super::arrival::{Arrival, GaveUp};
use super::chance::Chance;
use super::datagrams::Datagrams;
use super::draft::Draft;
use super::frames::Frames;
use crate::client::error::ClientError;

/// Bytes of a message in a datagram that passes everywhere (RFC 7252 section 4.6).
const LARGEST_DATAGRAM: usize = 1152;

/// Datagrams, or frames of a stream.
#[derive(Debug)]
pub(super) enum Carrier {
    /// UDP and DTLS; with the datagram that came last.
    Datagrams(Box<Datagrams>, Option<Vec<u8>>),
    /// TCP and TLS.
    Frames(Frames),
}

impl Carrier {
    pub(super) fn datagrams(ack_timeout: Duration) -> Self {
        Self::Datagrams(Box::new(Datagrams::new(ack_timeout, Chance::new())), None)
    }

    pub(super) fn frames() -> Self {
        Self::Frames(Frames::new())
    }

    /// Whether requests may be sent.
    pub(super) const fn is_ready(&self) -> bool {
        match self {
            Self::Datagrams(..) => true,
            Self::Frames(frames) => frames.is_ready(),
        }
    }

    /// Whether no more requests may be sent: the gateway wants to end.
    pub(super) const fn is_released(&self) -> bool {
        match self {
            Self::Datagrams(..) => false,
            Self::Frames(frames) => frames.is_released(),
        }
    }

    /// Bytes of a message, at most.
    pub(super) fn largest(&self) -> usize {
        match self {
            Self::Datagrams(..) => LARGEST_DATAGRAM,
            Self::Frames(frames) => frames.largest(),
        }
    }

    /// Whether a message may overtake another.
    pub(super) const fn may_reorder(&self) -> bool {
        matches!(self, Self::Datagrams(..))
    }

    /// Until when nothing may be sent.
    pub(super) fn exhausted_until(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Self::Datagrams(datagrams, _) => datagrams.exhausted_until(now),
            Self::Frames(_) => None,
        }
    }

    /// Sends a request.
    pub(super) fn send(&mut self, draft: &Draft, now: Instant) {
        match self {
            Self::Datagrams(datagrams, _) => datagrams.send(draft, now),
            Self::Frames(frames) => frames.send(draft, now),
        }
    }

    /// Asks whether the gateway is there.
    pub(super) fn ping(&mut self, now: Instant) {
        match self {
            Self::Datagrams(datagrams, _) => datagrams.ping(now),
            Self::Frames(frames) => frames.ping(now),
        }
    }

    /// No response with this token is waited for any more.
    pub(super) fn forget(&mut self, token: Token) {
        match self {
            Self::Datagrams(datagrams, _) => datagrams.forget(token),
            Self::Frames(frames) => frames.forget(token),
        }
    }

    /// Takes what came: a datagram, or some bytes of the stream.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        match self {
            Self::Datagrams(_, came) => *came = Some(bytes.to_vec()),
            Self::Frames(frames) => frames.feed(bytes),
        }
    }

    /// The next thing in what came.
    pub(super) fn arrival(&mut self, now: Instant) -> Result<Option<Arrival>, ClientError> {
        match self {
            Self::Datagrams(datagrams, came) => {
                let came = came.take();
                Ok(came.and_then(|datagram| datagrams.receive(&datagram, now)))
            }
            Self::Frames(frames) => frames.arrival(),
        }
    }

    /// When something must be done although nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Datagrams(datagrams, _) => datagrams.due(),
            Self::Frames(frames) => frames.due(),
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), GaveUp> {
        match self {
            Self::Datagrams(datagrams, _) => datagrams.handle_timeout(now),
            Self::Frames(frames) => frames.handle_timeout(now),
        }
    }

    /// All that has come was taken: who has asked for that hears it.
    pub(super) fn processed(&mut self) {
        match self {
            Self::Datagrams(..) => {}
            Self::Frames(frames) => frames.processed(),
        }
    }

    /// The next bytes for the gateway.
    pub(super) fn output(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Datagrams(datagrams, _) => datagrams.output(),
            Self::Frames(frames) => frames.output(),
        }
    }

    /// The last word, where there is one.
    pub(super) fn goodbye(&mut self) {
        match self {
            Self::Datagrams(..) => {}
            Self::Frames(frames) => frames.goodbye(),
        }
    }
}

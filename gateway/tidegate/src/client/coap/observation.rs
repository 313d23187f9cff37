//! What is observed, from the client's side (RFC 7641 section 3).

use std::time::{Duration, Instant};

use tidegate_coap::codec::Token;

use super::draft::Draft;
use super::order::Order;
use super::response::Response;

/// A response without Max-Age is fresh for so long (RFC 7252 section 5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;

/// How the observation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It is asked for, for the first time.
    Asked,
    /// The gateway tells what happens.
    Observed,
    /// It was refused, or has ended.
    Over,
}

/// What the gateway was asked to promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// The newest state.
    Newest,
    /// Every message (`qos=1`).
    Every,
    /// Every message, and those that are published while nobody observes as well: the observer has a session.
    Kept,
}

/// One filter.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) filter: String,
    promise: Promise,
    /// The registration.
    pub(super) request: Draft,
    pub(super) token: Token,
    pub(super) stand: Stand,
    pub(super) order: Order,
    /// When to register again, because what was told is no longer fresh (section 3.3.1).
    pub(super) refresh: Option<Instant>,
    /// What was told last, so that it is not told again after a registration anew.
    last: Option<(Option<Vec<u8>>, Vec<u8>)>,
}

impl Observation {
    pub(super) fn new(filter: String, mut request: Draft, promise: Promise, token: Token) -> Self {
        request.token = token;
        Self {
            filter,
            promise,
            request,
            token,
            stand: Stand::Asked,
            order: Order::default(),
            refresh: None,
            last: None,
        }
    }

    /// Whether this notification must be told although a newer one was: one that is confirmable comes after the one
    /// before it was acknowledged, and who acknowledges it has it.
    pub(super) fn is_owed(&self, response: &Response) -> bool {
        self.wants_every() && response.confirmable
    }

    /// Whether the newest state is not enough.
    pub(super) fn wants_every(&self) -> bool {
        self.promise != Promise::Newest
    }

    /// Whether a registration anew does no harm. One with wildcards is told once more of everything that is retained,
    /// unless it is of a session, in which that was told.
    pub(super) fn may_be_renewed(&self) -> bool {
        let is_single = !self.filter.contains(['+', '#']);
        self.stand == Stand::Observed && (is_single || self.promise == Promise::Kept)
    }

    /// Something was told of it; `random` spreads the registrations of clients that were told at once.
    pub(super) fn told(&mut self, response: &Response, now: Instant, random: u64) {
        if response.topic.is_some() {
            // How long one of many topics is fresh says nothing of the others.
            return;
        }
        let fresh = response.max_age.unwrap_or(DEFAULT_MAX_AGE);
        // "at least ... a random amount of time between 5 and 15 seconds after" (section 3.3.1).
        let more = Duration::from_millis(5_000 + random % 10_000);
        self.refresh = Some(now + Duration::from_secs(fresh.into()) + more);
    }

    /// Whether `response`, which answers a registration, says something that was not said before.
    pub(super) fn is_news(&self, response: &Response) -> bool {
        // A topic without a value has an empty one.
        !response.payload.is_empty()
            && self
                .last
                .as_ref()
                .is_none_or(|(etag, payload)| match (etag, &response.etag) {
                    (Some(before), Some(now)) => before != now,
                    _ => *payload != response.payload,
                })
    }

    /// It was handed on.
    pub(super) fn remember(&mut self, response: &Response) {
        if response.topic.is_none() {
            self.last = Some((response.etag.clone(), response.payload.clone()));
        }
    }
}

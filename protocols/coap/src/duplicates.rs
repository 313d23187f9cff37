//! Which requests have been here (RFC 7252 section 4.5): by endpoint and message identifier, for as long as one may be
//! repeated. The table is bounded; when it is full new requests are refused, and nothing is forgotten early.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::codec::Kind;
use crate::sessions::Endpoint;

/// How long a confirmable message may be repeated (RFC 7252 section 4.8.2).
pub(crate) const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

/// How long a non-confirmable one may arrive once more.
pub(crate) const NON_LIFETIME: Duration = Duration::from_secs(145);

type Key = (Endpoint, u16);

/// What was answered: an acknowledgement fits without an allocation.
pub(crate) type Answer = SmallVec<[u8; 24]>;

/// Whether a request has been here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    /// It has, and this was the answer, when there was one.
    Before(Option<Answer>),
    /// The table is full.
    Full,
}

/// The requests of one listener.
#[derive(Debug)]
pub(crate) struct Duplicates {
    answers: HashMap<Key, Option<Answer>>,
    /// Those of each kind with their end, in its order.
    confirmable: VecDeque<(Instant, Key)>,
    others: VecDeque<(Instant, Key)>,
    most: usize,
}

impl Duplicates {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            answers: HashMap::new(),
            confirmable: VecDeque::new(),
            others: VecDeque::new(),
            most,
        }
    }

    /// Notes a request.
    pub(crate) fn begin(&mut self, from: Endpoint, id: u16, kind: Kind, now: Instant) -> Seen {
        self.forget(now);
        let key = (from, id);
        if let Some(answer) = self.answers.get(&key) {
            return Seen::Before(answer.clone());
        }
        if self.answers.len() >= self.most {
            return Seen::Full;
        }
        self.answers.insert(key, None);
        match kind {
            Kind::Confirmable => self.confirmable.push_back((now + EXCHANGE_LIFETIME, key)),
            _ => self.others.push_back((now + NON_LIFETIME, key)),
        }
        Seen::New
    }

    /// Notes what the request was answered, if it is one that was noted.
    pub(crate) fn answered(&mut self, from: Endpoint, id: u16, answer: &[u8]) {
        if let Some(place) = self.answers.get_mut(&(from, id)) {
            *place = Some(Answer::from_slice(answer));
        }
    }

    /// Requests that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    fn forget(&mut self, now: Instant) {
        for queue in [&mut self.confirmable, &mut self.others] {
            while let Some((_, key)) = queue.pop_front_if(|(end, _)| *end <= now) {
                self.answers.remove(&key);
            }
        }
        if self.answers.is_empty() && self.answers.capacity() > 1_024 {
            // A burst that has passed gives its memory back.
            self.answers.shrink_to_fit();
            self.confirmable.shrink_to_fit();
            self.others.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn from(port: u16) -> Endpoint {
        (SocketAddr::from(([127, 0, 0, 1], port)), 0)
    }

    #[test]
    fn rfc_7252_4_5_a_request_is_known_by_endpoint_and_identifier_for_its_lifetime() {
        let mut duplicates = Duplicates::new(10);
        let now = Instant::now();
        assert_eq!(
            duplicates.begin(from(1), 7, Kind::Confirmable, now),
            Seen::New
        );
        assert_eq!(
            duplicates.begin(from(2), 7, Kind::Confirmable, now),
            Seen::New
        );
        assert_eq!(
            duplicates.begin(from(1), 8, Kind::NonConfirmable, now),
            Seen::New
        );
        assert_eq!(
            duplicates.begin(from(1), 7, Kind::Confirmable, now),
            Seen::Before(None)
        );
        duplicates.answered(from(1), 7, b"ack");
        let last = now + EXCHANGE_LIFETIME - Duration::from_millis(1);
        assert_eq!(
            duplicates.begin(from(1), 7, Kind::Confirmable, last),
            Seen::Before(Some(Answer::from_slice(b"ack")))
        );
        assert_eq!(
            duplicates.begin(from(1), 8, Kind::NonConfirmable, last),
            Seen::New
        );
        let after = now + EXCHANGE_LIFETIME;
        assert_eq!(
            duplicates.begin(from(1), 7, Kind::Confirmable, after),
            Seen::New
        );
    }

    #[test]
    fn a_full_table_refuses_and_forgets_nothing_early() {
        let mut duplicates = Duplicates::new(2);
        let now = Instant::now();
        for id in [1, 2] {
            assert_eq!(
                duplicates.begin(from(1), id, Kind::Confirmable, now),
                Seen::New
            );
        }
        assert_eq!(
            duplicates.begin(from(1), 3, Kind::Confirmable, now),
            Seen::Full
        );
        assert_eq!(
            duplicates.begin(from(1), 1, Kind::Confirmable, now),
            Seen::Before(None)
        );
        let after = now + EXCHANGE_LIFETIME;
        assert_eq!(
            duplicates.begin(from(1), 3, Kind::Confirmable, after),
            Seen::New
        );
        assert_eq!(duplicates.len(), 1);
    }
}

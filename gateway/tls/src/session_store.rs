//! Sessions that are remembered so that each is resumed once: what early data (0-RTT) needs. A ticket alone
//! can be shown again by anybody who has recorded it, and with it what came in the same packets (RFC 8446
//! section 8.1).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::server::StoresServerSessions;

/// What rustls tells clients of how long such a session is good for.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Octets of one session: without a client's certificate it has some 150, with a chain of them some
/// thousands. A larger one is not remembered.
const LARGEST: usize = 16 << 10;

/// At most so many sessions, of which the oldest goes when there is one more.
pub(crate) struct SessionStore {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// In the order in which they came.
    by_age: BTreeMap<u64, Session>,
    numbers: HashMap<Vec<u8>, u64>,
    next: u64,
    closed: bool,
}

struct Session {
    key: Vec<u8>,
    value: Vec<u8>,
    since: Instant,
}

impl SessionStore {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.lock().numbers.len()
    }

    /// Forgets all of them and takes no more: what they vouch for is not believed any longer.
    pub(crate) fn close(&self) {
        *self.kept.lock() = Kept {
            closed: true,
            ..Kept::default()
        };
    }

    fn put_at(&self, key: Vec<u8>, value: Vec<u8>, now: Instant) -> bool {
        let mut kept = self.kept.lock();
        if kept.closed || value.len() > LARGEST {
            return false;
        }
        kept.remove(&key);
        kept.forget_old(now);
        while kept.numbers.len() >= self.limit {
            if !kept.forget_oldest() {
                return false;
            }
        }
        let number = kept.next;
        kept.next += 1;
        kept.numbers.insert(key.clone(), number);
        let since = now;
        kept.by_age.insert(number, Session { key, value, since });
        true
    }

    fn take_at(&self, key: &[u8], now: Instant) -> Option<Vec<u8>> {
        let mut kept = self.kept.lock();
        kept.forget_old(now);
        kept.remove(key)
    }
}

impl Kept {
    fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let number = self.numbers.remove(key)?;
        self.by_age.remove(&number).map(|session| session.value)
    }

    fn forget_oldest(&mut self) -> bool {
        let oldest = self.by_age.pop_first();
        oldest.is_some_and(|(_, session)| self.numbers.remove(&session.key).is_some())
    }

    fn forget_old(&mut self, now: Instant) {
        let old = |session: &Session| now.saturating_duration_since(session.since) >= LIFETIME;
        while let Some(entry) = self.by_age.first_entry()
            && old(entry.get())
        {
            let session = entry.remove();
            self.numbers.remove(&session.key);
        }
    }
}

impl StoresServerSessions for SessionStore {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(key, value, Instant::now())
    }

    /// For sessions of TLS 1.2, which may be resumed many times; none is spoken where these are kept.
    fn get(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.take_at(key, Instant::now())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    #[test]
    fn rfc8446_8_1_a_session_is_taken_once() {
        let sessions = SessionStore::new(2);
        assert!(sessions.put(key(1), vec![1]));
        assert_eq!(sessions.get(&key(1)), None);
        assert_eq!(sessions.take(&key(1)), Some(vec![1]));
        assert_eq!(sessions.take(&key(1)), None);
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn the_oldest_goes_when_there_is_one_more() {
        let sessions = SessionStore::new(2);
        for number in 0..1_000 {
            assert!(sessions.put(key(number), vec![0; 8]));
            assert!(sessions.len() <= 2);
        }
        assert_eq!(sessions.take(&key(997)), None);
        assert!(sessions.take(&key(998)).is_some());
        assert!(sessions.take(&key(999)).is_some());
        // What was taken leaves nothing behind.
        assert!(sessions.kept.lock().by_age.is_empty());
    }

    #[test]
    fn a_session_put_again_is_one() {
        let sessions = SessionStore::new(2);
        for value in 0..5 {
            assert!(sessions.put(key(1), vec![value]));
        }
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions.take(&key(1)), Some(vec![4]));
    }

    #[test]
    fn a_session_has_an_end() {
        let sessions = SessionStore::new(4);
        let now = Instant::now();
        assert!(sessions.put_at(key(1), vec![1], now));
        assert!(sessions.put_at(key(2), vec![2], now + Duration::from_secs(1)));
        assert_eq!(sessions.take_at(&key(1), now + LIFETIME), None);
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions.take_at(&key(2), now + LIFETIME), Some(vec![2]));
    }

    #[test]
    fn one_that_is_too_large_is_not_remembered() {
        let sessions = SessionStore::new(4);
        assert!(!sessions.put(key(1), vec![0; LARGEST + 1]));
        assert!(sessions.put(key(1), vec![0; LARGEST]));
    }

    #[test]
    fn once_closed_it_is_empty_and_stays_so() {
        let sessions = SessionStore::new(4);
        assert!(sessions.put(key(1), vec![1]));
        sessions.close();
        assert_eq!(sessions.take(&key(1)), None);
        assert!(!sessions.put(key(2), vec![2]));
        assert_eq!(sessions.len(), 0);
    }
}

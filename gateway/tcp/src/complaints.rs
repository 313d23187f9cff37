//! How often the log tells the same thing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// What strangers do wrong at one listener is worth a line, but not a line each: whoever can connect
/// could fill the disk. Of each kind one line in ten seconds is let through; the metrics have the
/// full count.
#[derive(Debug, Default)]
pub struct Complaints {
    /// Kinds are words of the program, so there are few.
    said: Mutex<HashMap<&'static str, Said>>,
}

#[derive(Debug)]
struct Said {
    last: Instant,
    passed_over: u64,
}

impl Complaints {
    /// Whether a line of this kind may be written now; if so, how many were passed over since the
    /// last one.
    pub fn may_say(&self, kind: &'static str) -> Option<u64> {
        self.may_say_at(kind, Instant::now())
    }

    fn may_say_at(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.said.lock();
        let Some(entry) = said.get_mut(kind) else {
            said.insert(
                kind,
                Said {
                    last: now,
                    passed_over: 0,
                },
            );
            return Some(0);
        };
        if now.saturating_duration_since(entry.last) < INTERVAL {
            entry.passed_over += 1;
            return None;
        }
        entry.last = now;
        Some(std::mem::take(&mut entry.passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_in_an_interval_and_the_rest_is_counted() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.may_say_at("a", start), Some(0));
        assert_eq!(complaints.may_say_at("b", start), Some(0));
        for second in 1..10 {
            let now = start + Duration::from_secs(second);
            assert_eq!(complaints.may_say_at("a", now), None);
        }
        assert_eq!(complaints.may_say_at("a", start + INTERVAL), Some(9));
        assert_eq!(complaints.may_say_at("a", start + INTERVAL), None);
        assert_eq!(complaints.may_say_at("b", start + 2 * INTERVAL), Some(0));
    }
}

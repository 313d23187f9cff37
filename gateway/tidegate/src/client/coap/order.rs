//! Which notification is the newer one (RFC 7641 section 3.4).

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// After so long any number is a newer one.
const WINDOW: Duration = Duration::from_secs(128);

/// Topics of which the last number is known, at most.
const MOST: usize = 1 << 16;

/// What was seen of an observation: the newest state of each topic. Of an observation with wildcards each topic has a
/// state of its own, which a later one of another topic does not replace.
#[derive(Debug, Default)]
pub(super) struct Order {
    newest: HashMap<String, (u32, Instant)>,
    /// When those too old to matter are looked for.
    crowd: usize,
}

impl Order {
    /// Whether this notification is newer than all of its topic before; then it is the newest.
    pub(super) fn is_newer(&mut self, topic: &str, number: u32, now: Instant) -> bool {
        if let Some((before, when)) = self.newest.get_mut(topic) {
            let is_newer = now.duration_since(*when) > WINDOW || follows(*before, number);
            if is_newer {
                (*before, *when) = (number, now);
            }
            return is_newer;
        }
        if self.newest.len() >= self.crowd.max(1024) {
            self.newest
                .retain(|_, (_, when)| now.duration_since(*when) <= WINDOW);
            if self.newest.len() >= MOST {
                // Nothing is told apart for a moment; that is better than a memory without bounds.
                self.newest.clear();
            }
            self.crowd = self.newest.len() * 2;
        }
        self.newest.insert(topic.to_owned(), (number, now));
        true
    }

    /// Begins anew: a registration begins with any number.
    pub(super) fn forget(&mut self) {
        self.newest.clear();
    }
}

/// Whether the 24-bit number `later` comes after `before`.
const fn follows(before: u32, later: u32) -> bool {
    let ahead = later.wrapping_sub(before) & 0xFF_FFFF;
    ahead != 0 && ahead < 1 << 23
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7641_3_4_a_notification_that_was_overtaken_is_passed_over() {
        let now = Instant::now();
        let mut order = Order::default();
        for (number, is_newer) in [
            (5, true),
            (5, false),
            (4, false),
            (6, true),
            (0x80_0005, true),
            // Half of all numbers before it, and no more.
            (6, false),
            (5, false),
            (4, true),
            (0xFF_FFFF, false),
            (0x7F_FFFF, true),
            (0xFF_FFFE, true),
            (0, true),
        ] {
            assert_eq!(order.is_newer("a", number, now), is_newer, "{number:x}");
        }
        assert!(!order.is_newer("a", 0, now + WINDOW));
        let late = now + WINDOW + Duration::from_millis(1);
        assert!(order.is_newer("a", 0, late), "after 128 seconds");
    }

    #[test]
    fn each_topic_of_an_observation_with_wildcards_has_its_own_newest() {
        let now = Instant::now();
        let mut order = Order::default();
        assert!(order.is_newer("a", 9, now));
        assert!(order.is_newer("b", 8, now), "a state of another topic");
        assert!(!order.is_newer("a", 8, now));
        for topic in 0..3 * MOST {
            assert!(order.is_newer(&topic.to_string(), 1, now));
        }
        assert!(order.newest.len() <= MOST);
    }
}

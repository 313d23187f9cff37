//! How many handshakes begin in a second. Each costs a signature or a key exchange, and whoever has a real address can
//! begin and give up as many as the network carries.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What may come at once, as the time in which it would come at the average.
const BURST: Duration = Duration::from_secs(1);

/// A bound of how often something happens.
#[derive(Debug)]
pub(crate) struct Rate {
    interval: Duration,
    /// When all that has happened would have happened at the average.
    paid_until: Instant,
}

impl Rate {
    pub(crate) fn new(per_second: NonZeroU32, now: Instant) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.get(),
            paid_until: now,
        }
    }

    /// Whether it may happen now; if so, it does.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let next = self.paid_until.max(now) + self.interval;
        let may = next.saturating_duration_since(now) <= BURST;
        if may {
            self.paid_until = next;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_may_be_in_a_second_at_once_and_then_at_the_average() {
        let start = Instant::now();
        let mut rate = Rate::new(NonZeroU32::new(10).unwrap(), start);
        let taken = |rate: &mut Rate, now| (0..100).filter(|_| rate.take(now)).count();
        assert_eq!(taken(&mut rate, start), 10);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(50)), 0);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(250)), 2);
        assert_eq!(taken(&mut rate, start + Duration::from_secs(60)), 10);
    }
}

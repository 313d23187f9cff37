//! When messages are sent that wait for nobody: the open loop.
//!
//! The n-th message is due at start + n / rate, publishers in turn, whatever the broker does. Latency
//! counts from then, so that a broker that stops the load for a while is charged for every message that
//! would have been sent meanwhile, not for the one that was.

use super::clock::SECOND;

pub(super) struct Schedule {
    start: u64,
    rate: u64,
    publishers: u64,
    /// The message that is due next.
    next: u64,
    /// Messages that were due so far, by publisher.
    due: Vec<u64>,
}

impl Schedule {
    /// So many messages a second of all publishers together.
    pub(super) fn new(start: u64, rate: u32, publishers: u32) -> Self {
        Self {
            start,
            rate: u64::from(rate.max(1)),
            publishers: u64::from(publishers),
            next: 0,
            due: vec![0; publishers as usize],
        }
    }

    fn time(&self, message: u64) -> u64 {
        let (seconds, rest) = (message / self.rate, message % self.rate);
        self.start + seconds * SECOND + rest * SECOND / self.rate
    }

    /// When the next message is due.
    pub(super) fn next_time(&self) -> u64 {
        self.time(self.next)
    }

    /// When a message of a publisher was due.
    #[inline]
    pub(super) fn time_of(&self, publisher: usize, sequence: u64) -> u64 {
        self.time(sequence * self.publishers + publisher as u64)
    }

    /// Takes the message that is due by now; its publisher.
    #[inline]
    pub(super) fn take(&mut self, now: u64) -> Option<usize> {
        if self.next_time() > now {
            return None;
        }
        let publisher = (self.next % self.publishers) as usize;
        self.next += 1;
        self.due[publisher] += 1;
        Some(publisher)
    }

    /// Messages of a publisher that were due so far.
    #[inline]
    pub(super) fn due(&self, publisher: usize) -> u64 {
        self.due[publisher]
    }
}

#[cfg(test)]
mod tests {
    use super::{SECOND, Schedule};

    #[test]
    fn messages_are_due_evenly_and_publishers_take_turns() {
        let start = 5 * SECOND;
        let mut schedule = Schedule::new(start, 3, 2);
        assert_eq!(schedule.take(start - 1), None);
        assert_eq!(schedule.take(start), Some(0));
        assert_eq!(schedule.take(start), None);
        assert_eq!(schedule.next_time(), start + SECOND / 3);
        // Late: all that is due comes at once.
        let late = start + SECOND;
        let taken: Vec<_> = std::iter::from_fn(|| schedule.take(late)).collect();
        assert_eq!(taken, [1, 0, 1]);
        assert_eq!((schedule.due(0), schedule.due(1)), (2, 2));
        assert_eq!(schedule.time_of(0, 1), start + 2 * SECOND / 3);
        assert_eq!(schedule.time_of(1, 1), start + SECOND);
    }

    #[test]
    fn an_hour_of_a_rate_that_divides_no_second_does_not_drift() {
        let schedule = Schedule::new(0, 7_001, 1);
        assert_eq!(schedule.time_of(0, 3_600 * 7_001), 3_600 * SECOND);
    }
}

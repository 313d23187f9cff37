//! Latencies of deliveries, recorded in runs: messages that were sent together mostly come together.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::clock::SECOND;
use crate::reply::Latency;

/// The longest latency that is told apart; what took longer counts as this.
const LONGEST: u64 = 120 * SECOND;
/// Decimal digits that are exact.
const DIGITS: u8 = 3;

pub(super) struct Latencies {
    histogram: Histogram<u64>,
    /// Messages sent within this time count, from and to.
    counts: (u64, u64),
    /// When the messages of the run were sent, and how many there are.
    run: (u64, u64),
}

impl Latencies {
    pub(super) fn new() -> Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Ok(Self {
            histogram: histogram.context("histogram")?,
            counts: (u64::MAX, u64::MAX),
            run: (0, 0),
        })
    }

    /// From now on messages count that were sent at `time` or later.
    pub(super) fn count_from(&mut self, time: u64) {
        self.counts = (time, u64::MAX);
    }

    /// Messages that were sent after `time` do not count.
    pub(super) fn count_to(&mut self, time: u64) {
        self.counts.1 = time;
    }

    /// A message that was sent at this time is there; when, [`Self::end_run`] says.
    #[inline]
    pub(super) fn note(&mut self, sent: u64, now: u64) {
        if self.run.0 == sent {
            self.run.1 += 1;
            return;
        }
        self.end_run(now);
        self.run = (sent, 1);
    }

    /// What was noted came at this time.
    #[inline]
    pub(super) fn end_run(&mut self, now: u64) {
        let (sent, count) = self.run;
        if count > 0 && (self.counts.0..=self.counts.1).contains(&sent) {
            let latency = now.saturating_sub(sent);
            self.histogram.saturating_record_n(latency.max(1), count);
        }
        self.run = (0, 0);
    }

    /// The quantiles; `None` if nothing was recorded.
    pub(super) fn quantiles(&self) -> Option<Latency> {
        if self.histogram.is_empty() {
            return None;
        }
        let at = |quantile| microseconds(self.histogram.value_at_quantile(quantile));
        Some(Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: microseconds(self.histogram.max()),
        })
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn a_message_counts_by_when_it_was_sent() {
        let mut latencies = Latencies::new().unwrap();
        latencies.note(5, 100);
        latencies.end_run(100);
        assert_eq!(latencies.quantiles(), None, "nothing counts yet");
        latencies.count_from(1_000_000);
        latencies.count_to(2_000_000);
        for (sent, now) in [
            (999_999, 1_900_000),
            (1_000_000, 1_001_000),
            (2_000_000, 9_000_000),
            (2_000_001, 9_900_000),
        ] {
            latencies.note(sent, now);
            latencies.end_run(now);
        }
        let latency = latencies.quantiles().unwrap();
        // Three digits are exact.
        assert!((latency.p50 - 1.0).abs() < 0.01, "{latency:?}");
        assert!((latency.max - 7_000.0).abs() < 10.0, "{latency:?}");
    }

    #[test]
    fn messages_sent_together_weigh_as_many() {
        let mut latencies = Latencies::new().unwrap();
        latencies.count_from(1);
        for _ in 0..98 {
            latencies.note(1_000, 2_000);
        }
        latencies.end_run(2_000);
        latencies.note(1_500, 9_500);
        latencies.note(1_500, 9_500);
        latencies.end_run(9_500);
        let latency = latencies.quantiles().unwrap();
        assert!((latency.p50 - 1.0).abs() < 0.01, "{latency:?}");
        assert!((latency.p99 - 8.0).abs() < 0.01, "{latency:?}");
    }
}

//! Time as a parameter: the bus never asks the machine for it.

use std::time::{Duration, Instant, SystemTime};

/// A point in time: milliseconds since the Unix epoch.
///
/// Wall clock, because expiries outlive the process; taken from a [`Clock`] that never runs
/// backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A point that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `millis` after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The point `seconds` later.
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000)))
    }

    /// The point `duration` later.
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as u64))
    }

    /// Milliseconds from `earlier` to here; 0 when `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds from `now` to here, a started one counted; 0 when this point has passed.
    pub const fn seconds_left(self, now: Self) -> u32 {
        let seconds = self.millis_since(now).div_ceil(1_000);
        if seconds > u32::MAX as u64 {
            u32::MAX
        } else {
            seconds as u32
        }
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Now. Never earlier than an answer it gave before.
    fn now(&self) -> Timestamp;
}

/// The machine's clock: the wall clock at start, advanced by the monotonic one, so that a step of
/// the system time expires nothing.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    start_millis: u64,
}

impl SystemClock {
    /// Reads the wall clock once.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            start: Instant::now(),
            start_millis: since_epoch.map_or(0, |d| d.as_millis() as u64),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.start_millis + self.start.elapsed().as_millis() as u64)
    }
}

//! When the gateway is killed.

use std::time::Duration;

use tidegate_tests::Noise;

/// What has happened since the gateway was started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: usize,
    pub(crate) arrived: usize,
    pub(crate) connected: usize,
}

/// The moment of a kill. One that counts something comes at the latest when nothing is left to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After so many acknowledged publishes.
    Acknowledged(usize),
    /// After so many arrivals.
    Arrived(usize),
    /// After so many clients have come back.
    Connected(usize),
    /// So long after the gateway was ready.
    Ready(Duration),
    /// So long after the process was started, ready or not.
    Started(Duration),
    /// When everything has been acknowledged.
    Quiet,
}

impl Moment {
    /// One of a round in which so many publishes are to be sent.
    pub(crate) fn draw(noise: &mut Noise, publishes: usize) -> Self {
        let milliseconds =
            |noise: &mut Noise, most| Duration::from_millis(noise.below(most) as u64);
        match noise.below(20) {
            0..10 => Self::Acknowledged(1 + noise.below(publishes)),
            10..13 => Self::Arrived(1 + noise.below(publishes * 4)),
            13..15 => Self::Connected(1 + noise.below(16)),
            15..18 => Self::Ready(milliseconds(noise, 700)),
            18 => Self::Started(milliseconds(noise, 80)),
            _ => Self::Quiet,
        }
    }

    /// Whether it has come.
    pub(crate) fn has_come(self, counts: Counts, ready: Duration) -> bool {
        match self {
            Self::Acknowledged(number) => counts.acknowledged >= number,
            Self::Arrived(number) => counts.arrived >= number,
            Self::Connected(number) => counts.connected >= number,
            Self::Ready(after) => ready >= after,
            Self::Started(_) => true,
            Self::Quiet => false,
        }
    }

    /// How long nothing needs to be looked at while nothing happens.
    pub(crate) fn rest(self, ready: Duration) -> Option<Duration> {
        match self {
            Self::Ready(after) => Some(after.saturating_sub(ready)),
            _ => None,
        }
    }
}

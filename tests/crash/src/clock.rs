//! The machine's monotonic clock, as the clients read it, too.

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

/// Microseconds.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.num_microseconds());
    // It begins at some moment in the past.
    u64::try_from(now).unwrap_or(0)
}

//! A timer of the event loop, precise to what the kernel's high-resolution timers and a wake-up allow:
//! tens of microseconds, where the timeout of epoll knows whole milliseconds. It sleeps until then, so
//! waiting costs nothing.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use anyhow::{Context, Result};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

pub(super) struct Timer(TimerFd);

impl Timer {
    pub(super) fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags);
        timer.context("timer").map(Self)
    }

    /// Fires at this time, at once if it has passed. Each firing is an edge of its own, so nobody needs
    /// to read it.
    pub(super) fn set(&self, time: u64) -> Result<()> {
        let time = TimeSpec::nanoseconds(time.cast_signed());
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        self.0
            .set(Expiration::OneShot(time), flags)
            .context("timer")
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

//! Time: the monotonic clock, which is also the timer's, and the clocks of processes.

use anyhow::{Context, Result};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use procfs::process::Process;

/// Nanoseconds of a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// Seconds as nanoseconds.
pub(super) fn nanoseconds(seconds: f64) -> u64 {
    // Not negative, and far below what a double holds exactly.
    (seconds.max(0.0) * SECOND as f64) as u64
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}

/// Nanoseconds of the monotonic clock.
#[inline]
pub(super) fn now() -> u64 {
    // Linux always has this clock.
    read(ClockId::CLOCK_MONOTONIC).unwrap_or(0)
}

/// Nanoseconds of processor time that this process has used, user and system.
pub(super) fn own() -> Result<u64> {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: ClockId) -> Result<u64> {
    let time = clock.now()?;
    Ok(time.num_nanoseconds().cast_unsigned())
}

/// The broker's process.
pub(super) struct Broker {
    clock: ClockId,
    process: Process,
}

impl Broker {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).context("the broker's process id")?;
        let clock = clock_getcpuclockid(Pid::from_raw(pid))
            .with_context(|| format!("there is no process {pid}"))?;
        let process = Process::new(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { clock, process })
    }

    /// Nanoseconds of processor time that it has used, user and system, exact to the nanosecond.
    pub(super) fn cpu(&self) -> Result<u64> {
        read(self.clock).context("the broker's process is gone")
    }

    /// Bytes of its resident memory.
    pub(super) fn resident(&self) -> Result<u64> {
        let pages = self.process.statm();
        let pages = pages.context("the broker's process is gone")?.resident;
        Ok(pages * procfs::page_size())
    }
}

/// What something has cost so far, in nanoseconds.
#[derive(Default)]
pub(super) struct Cost {
    pub(super) time: u64,
    pub(super) broker_cpu: u64,
    pub(super) load_cpu: u64,
}

impl Cost {
    /// Does something, which costs more.
    pub(super) fn of<T>(&mut self, broker: &Broker, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = (now(), broker.cpu()?, own()?);
        let done = work()?;
        self.time += now() - began.0;
        self.broker_cpu += broker.cpu()? - began.1;
        self.load_cpu += own()? - began.2;
        Ok(done)
    }
}

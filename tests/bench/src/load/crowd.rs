//! Many things that wait for answers, several at a time.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How many at a time, each on a thread.
pub(super) const AT_ONCE: u32 = 32;
/// How long all may take.
const LONGEST: Duration = Duration::from_secs(300);
/// How often something is said.
const STEP: Duration = Duration::from_secs(1);

/// Does `work` for each number and hands over what comes of it, in the order in which it is done. `each_step`
/// is told how many are done. The first error ends it.
pub(super) fn crowd<T: Send>(
    numbers: Range<u32>,
    work: impl Fn(u32) -> Result<T> + Sync,
    mut take: impl FnMut(T),
    each_step: impl Fn(usize),
) -> Result<()> {
    let next = AtomicU32::new(numbers.start);
    let stopped = AtomicBool::new(false);
    let (sender, done) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (sender, next, stopped, work) = (sender.clone(), &next, &stopped, &work);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || sender.send(work(number)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let taken = take_all(&done, numbers.len(), &mut take, &each_step);
        stopped.store(true, Ordering::Relaxed);
        taken
    })
}

fn take_all<T>(
    done: &mpsc::Receiver<Result<T>>,
    count: usize,
    take: &mut impl FnMut(T),
    each_step: &impl Fn(usize),
) -> Result<()> {
    let end = Instant::now() + LONGEST;
    let mut step = Instant::now();
    let mut taken = 0;
    while taken < count {
        let now = Instant::now();
        if now >= step {
            step += STEP;
            each_step(taken);
        }
        if now >= end {
            bail!("after {LONGEST:?} {taken} of {count} are done");
        }
        match done.recv_timeout(step.saturating_duration_since(now)) {
            Ok(one) => {
                take(one?);
                taken += 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            // A thread ended without a word: it has panicked, which the scope tells.
            Err(RecvTimeoutError::Disconnected) => bail!("no more come"),
        }
    }
    Ok(())
}

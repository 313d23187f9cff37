//! Measures a broker: every case, and every case with its fault.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use tidegate_tests::Transport;

use crate::broker::Broker;
use crate::case::Target;
use crate::results::{Faults, Results};
use crate::runner::{CaseId, Outcome, Verdict, cases, run, run_with_fault};

/// Looks at each case, several at a time, and returns what was found in no particular order.
pub fn each<T: Send>(cases: &[CaseId], jobs: usize, look: impl Fn(CaseId) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = look(*case);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.push(one);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Every case at one instance of a broker.
///
/// # Errors
///
/// If the broker does not start.
pub fn shared(broker: &Broker, jobs: usize) -> Result<Results> {
    let instance = broker.start()?;
    let found = each(&cases(), jobs, |case| {
        (case.to_string(), run(case, instance.target()).shortened())
    });
    Ok(Results {
        broker: broker.name(),
        cases: found.into_iter().collect(),
    })
}

/// Every case at an instance of its own, so that a broker which one test has brought down or confused is
/// judged fairly by the next. Each runs three times, because some brokers differ from run to run.
///
/// # Errors
///
/// If the broker does not start.
pub fn apart(broker: &Broker, jobs: usize) -> Result<Results> {
    let found = each(&cases(), jobs, |case| -> Result<_> {
        let first = alone(broker, case)?;
        for _ in 0..2 {
            let other = alone(broker, case)?;
            if other.verdict != first.verdict {
                let failed = if first.verdict == Verdict::Fail {
                    first
                } else {
                    other
                };
                let verdict = Verdict::Varies;
                return Ok((case.to_string(), Outcome { verdict, ..failed }));
            }
        }
        Ok((case.to_string(), first))
    });
    Ok(Results {
        broker: broker.name(),
        cases: found.into_iter().collect::<Result<BTreeMap<_, _>>>()?,
    })
}

/// A case at an instance of its own.
///
/// # Errors
///
/// If the broker does not start.
pub fn alone(broker: &Broker, case: CaseId) -> Result<Outcome> {
    let instance = broker.start()?;
    Ok(run(case, instance.target()).shortened())
}

/// How often a fault is seeded that did not get to strike: on a machine with much to do a case may end
/// before.
const ATTEMPTS: usize = 3;

/// Whether a case's test notices its fault: what it said then; nothing where there is nothing to notice,
/// because the statement asks nothing of the server.
///
/// # Errors
///
/// Why not, in words.
pub fn catches(case: CaseId, target: &Target) -> Result<String, String> {
    if case.test.fault_at(case.version).is_none() {
        return Err("the test names no fault".to_owned());
    }
    let (outcome, _) = run_with_fault(case, target, false);
    let applies = match outcome.verdict {
        Verdict::Pass => true,
        // It may do so with the fault: one that sends what the server never does, for instance.
        Verdict::DoesNotApply => false,
        Verdict::Fail | Verdict::Varies => {
            return Err(format!(
                "fails through a proxy without a fault: {}",
                outcome.observed
            ));
        }
    };
    for _ in 0..ATTEMPTS {
        match run_with_fault(case, target, true) {
            (outcome, 1..) if outcome.verdict == Verdict::Fail => {
                return Ok(outcome.shortened().observed);
            }
            _ if !applies => return Ok(String::new()),
            (_, 0) => {}
            _ => return Err("the fault struck, and the test passed".to_owned()),
        }
    }
    Err("the fault never struck".to_owned())
}

/// Every fault, at one gateway over TCP; those of frames at another, over WebSocket.
///
/// # Errors
///
/// If the gateway does not start, or a fault is not caught.
pub fn faults(jobs: usize) -> Result<Faults> {
    let instance = Broker::Tidegate(Transport::Tcp).start()?;
    let websocket = Broker::Tidegate(Transport::Ws).start()?;
    let found = each(&cases(), jobs, |case| {
        let over = if case.spoils_frames() {
            &websocket
        } else {
            &instance
        };
        catches(case, over.target())
            .map(|said| (case.to_string(), said))
            .map_err(|why| anyhow::anyhow!("{case}: {why}"))
    });
    let caught: BTreeMap<_, _> = found.into_iter().collect::<Result<_>>()?;
    // Where the test does not apply there is nothing to catch.
    let caught = caught.into_iter().filter(|(_, said)| !said.is_empty());
    Ok(Faults {
        caught: caught.collect(),
    })
}

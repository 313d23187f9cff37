//! What the gateway says about its own health.
//!
//! Three questions, after Kubernetes: is the process alive (only the event loop's heartbeat counts,
//! so that a restart is never the answer to a full disk or an absent peer), may clients be sent to it
//! (its checks), and is its start finished. A drain changes none of them: a gateway that turns
//! unready while it drains loses the flows that it is about to hand over.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The health of one gateway. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<State>);

#[derive(Debug)]
struct State {
    created: Instant,
    /// Milliseconds from `created` to the last heartbeat.
    last_beat: AtomicU64,
    beat_limit: Duration,
    started: AtomicBool,
    checks: Mutex<Vec<(&'static str, Outcome)>>,
}

/// One named check of readiness; whoever knows the answer holds it.
#[derive(Clone)]
pub struct Check {
    health: Health,
    index: usize,
}

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// It serves, but somebody should look.
    Warned(String),
    Failed(String),
}

/// The answer to one of the three questions: each check by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) Vec<(&'static str, Outcome)>);

impl Health {
    /// A gateway that is alive as long as no two heartbeats are further apart than `beat_limit`.
    pub fn new(beat_limit: Duration) -> Self {
        Self(Arc::new(State {
            created: Instant::now(),
            last_beat: AtomicU64::new(0),
            beat_limit,
            started: AtomicBool::new(false),
            checks: Mutex::default(),
        }))
    }

    /// Adds a check that fails with "not yet" until it is told otherwise.
    pub fn check(&self, name: &'static str) -> Check {
        let mut checks = self.0.checks.lock();
        checks.push((name, Outcome::Failed("not yet".to_owned())));
        Check {
            health: self.clone(),
            index: checks.len() - 1,
        }
    }

    /// Says that the event loop still turns.
    pub fn beat(&self) {
        let now = self.0.created.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.0.last_beat.store(now, Ordering::Relaxed);
    }

    /// Beats four times per limit, for as long as the task that runs it is scheduled.
    pub async fn keep_beating(&self) {
        let mut ticks = tokio::time::interval(self.0.beat_limit / 4);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.beat();
        }
    }

    /// Says that everything that belongs to the start has happened.
    pub fn finish_startup(&self) {
        self.0.started.store(true, Ordering::Relaxed);
    }

    pub(crate) fn liveness(&self) -> Answer {
        let last = Duration::from_millis(self.0.last_beat.load(Ordering::Relaxed));
        let age = self.0.created.elapsed().saturating_sub(last);
        let limit = self.0.beat_limit;
        let outcome = if age > limit {
            Outcome::Failed(format!(
                "the last heartbeat is {:.1} s old, more than {:.1} s",
                age.as_secs_f64(),
                limit.as_secs_f64()
            ))
        } else {
            Outcome::Passed
        };
        Answer(vec![("heartbeat", outcome)])
    }

    pub(crate) fn readiness(&self) -> Answer {
        Answer(self.0.checks.lock().clone())
    }

    pub(crate) fn startup(&self) -> Answer {
        let outcome = if self.0.started.load(Ordering::Relaxed) {
            Outcome::Passed
        } else {
            Outcome::Failed("not finished".to_owned())
        };
        Answer(vec![("startup", outcome)])
    }
}

impl Check {
    /// The check holds.
    pub fn pass(&self) {
        self.set(Outcome::Passed);
    }

    /// The check holds, but not for ever: `reason` is for the person who looks at
    /// `/readyz?verbose`. Clients may still be sent here.
    pub fn warn(&self, reason: impl Into<String>) {
        self.set(Outcome::Warned(reason.into()));
    }

    /// The check fails for `reason`, a few words for the person who looks at `/readyz?verbose`.
    pub fn fail(&self, reason: impl Into<String>) {
        self.set(Outcome::Failed(reason.into()));
    }

    fn set(&self, outcome: Outcome) {
        // Checks are never removed, so the index stays good.
        self.health.0.checks.lock()[self.index].1 = outcome;
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, outcome) = &self.health.0.checks.lock()[self.index];
        f.debug_tuple("Check").field(name).field(outcome).finish()
    }
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        !self.0.iter().any(|(_, outcome)| failed(outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn liveness_fails_only_when_the_heartbeat_is_too_old() {
        let health = Health::new(Duration::from_secs(10));
        assert!(health.liveness().is_ok());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(health.liveness().is_ok());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(
            health.liveness().0,
            [(
                "heartbeat",
                Outcome::Failed("the last heartbeat is 10.1 s old, more than 10.0 s".to_owned())
            )]
        );
        health.beat();
        assert!(health.liveness().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_turns_keeps_the_gateway_alive() {
        let health = Health::new(Duration::from_secs(10));
        let beating = tokio::spawn({
            let health = health.clone();
            async move { health.keep_beating().await }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(health.liveness().is_ok());
        beating.abort();
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(!health.liveness().is_ok());
    }

    #[test]
    fn readiness_is_every_check() {
        let health = Health::new(Duration::from_secs(10));
        let listeners = health.check("listeners");
        let store = health.check("store");
        assert!(!health.readiness().is_ok());
        listeners.pass();
        assert!(!health.readiness().is_ok());
        store.pass();
        assert!(health.readiness().is_ok());
        store.fail("the disk is full");
        listeners.warn("one is slow");
        assert_eq!(
            health.readiness().0,
            [
                ("listeners", Outcome::Warned("one is slow".to_owned())),
                ("store", Outcome::Failed("the disk is full".to_owned()))
            ]
        );
        store.pass();
        assert!(health.readiness().is_ok(), "a warning is no failure");
    }

    #[test]
    fn startup_turns_once() {
        let health = Health::new(Duration::from_secs(10));
        assert!(!health.startup().is_ok());
        health.finish_startup();
        assert!(health.startup().is_ok());
    }
}

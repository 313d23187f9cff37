//! What the engine and its threads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tidegate_bus::{Recovery, StoreError};

use crate::intake::{Group, Intake};
use crate::metrics::Metrics;
use crate::settings::ProgressHook;
use crate::tables::Tables;
use crate::walk::{Nobody, Recovered, walk};

/// Changes are kept.
const ACCEPTING: u8 = 0;
/// The disk does not keep up.
const BEHIND: u8 = 1;
/// The disk fails.
const FAILING: u8 = 2;

/// What the engine and its threads share.
pub(crate) struct Core {
    pub(crate) intake: Mutex<Intake>,
    pub(crate) wake: Condvar,
    pub(crate) metrics: Arc<Metrics>,
    /// Readers and backups give up, so that the database can be closed.
    pub(crate) failing: AtomicBool,
    /// The open database. Whoever clones it lets go of it soon: it is closed when nobody has it.
    pub(crate) tables: Mutex<Option<Arc<Tables>>>,
    pub(crate) recovered: Mutex<Recovered>,
    state: AtomicU8,
    walked: AtomicBool,
    walking: Mutex<()>,
    /// Bytes of changes that wait for the disk to come back.
    pub(crate) held: AtomicUsize,
    intake_limit: usize,
    progress: Option<ProgressHook>,
}

impl Core {
    pub(crate) fn new(
        tables: Arc<Tables>,
        recovered: Recovered,
        intake_limit: usize,
        progress: Option<ProgressHook>,
    ) -> Self {
        Self {
            intake: Mutex::default(),
            wake: Condvar::new(),
            metrics: Arc::default(),
            failing: AtomicBool::new(false),
            tables: Mutex::new(Some(tables)),
            recovered: Mutex::new(recovered),
            state: AtomicU8::new(ACCEPTING),
            walked: AtomicBool::new(false),
            walking: Mutex::new(()),
            held: AtomicUsize::new(0),
            intake_limit,
            progress,
        }
    }

    /// Gives everything that was kept to `sink` and lets the committer begin.
    pub(crate) fn walk(&self, sink: &mut dyn Recovery) -> Result<(), StoreError> {
        let _one = self.walking.lock();
        let first = !self.walked.load(Ordering::Acquire);
        let Some(tables) = self.tables.lock().clone() else {
            return Err(StoreError::Failed("the database is closed".into()));
        };
        let walked = walk(&tables, sink, self.progress.as_ref(), &self.metrics)
            .map_err(|error| crate::error::store_error(&error))?;
        drop(tables);
        if !first {
            return Ok(());
        }
        {
            let mut recovered = self.recovered.lock();
            *recovered = Recovered {
                missing_batches: recovered.missing_batches,
                torn_bytes: recovered.torn_bytes,
                ..walked.recovered
            };
        }
        let mut intake = self.intake.lock();
        intake.owners = walked.owners;
        intake.index = Some(walked.index);
        self.walked.store(true, Ordering::Release);
        self.rouse(intake);
        Ok(())
    }

    /// Makes sure that the walk was made, by somebody who asked for what was kept or by nobody.
    pub(crate) fn ready(&self) -> Result<(), StoreError> {
        if self.walked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.walk(&mut Nobody)
    }

    /// Whether changes are kept. One load when they are.
    pub(crate) fn accepts(&self) -> Result<(), StoreError> {
        match self.state.load(Ordering::Relaxed) {
            ACCEPTING => Ok(()),
            BEHIND => Err(StoreError::Failed("the disk does not keep up".into())),
            _ => Err(self
                .intake
                .lock()
                .failing
                .clone()
                .unwrap_or_else(|| StoreError::Failed("the disk failed".into()))),
        }
    }

    /// Whether as much waits for the disk to come back as may.
    pub(crate) fn is_crowded(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.intake_limit
    }

    /// Ends a visit to the intake: wakes the committer if it sleeps.
    pub(crate) fn rouse(&self, mut intake: MutexGuard<'_, Intake>) {
        self.gauge(&intake);
        let asleep = std::mem::take(&mut intake.sleeping);
        drop(intake);
        if asleep {
            self.wake.notify_one();
        }
    }

    fn gauge(&self, intake: &Intake) {
        self.metrics
            .intake_changes
            .set(intake.group.ops.len() as u64);
        self.metrics.intake_bytes.set(intake.group.bytes as u64);
        let state = if intake.failing.is_some() {
            FAILING
        } else if intake.group.bytes > self.intake_limit {
            BEHIND
        } else {
            ACCEPTING
        };
        if self.state.load(Ordering::Relaxed) != state {
            self.state.store(state, Ordering::Relaxed);
            self.metrics.set_accepting(state == ACCEPTING);
        }
    }

    /// Takes the whole intake; `spare` takes its place.
    pub(crate) fn take(&self, intake: &mut Intake, spare: &mut Vec<crate::op::Op>) -> Group {
        let mut group = std::mem::take(&mut intake.group);
        intake.group.ops = std::mem::take(spare);
        group.bytes = 0;
        self.gauge(intake);
        group
    }

    /// From here on publications are refused, or kept again.
    pub(crate) fn set_failing(&self, error: Option<StoreError>) {
        let mut intake = self.intake.lock();
        self.failing.store(error.is_some(), Ordering::Relaxed);
        intake.failing = error;
        self.gauge(&intake);
    }
}

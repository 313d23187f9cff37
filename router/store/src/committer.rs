//! The one thread that writes.
//!
//! It takes the whole intake, makes one batch of it, syncs once and completes the tickets. What it does
//! when the disk fails is in `failure.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tidegate_bus::{Clock, SystemClock};

use crate::core::Core;
use crate::index::Index;
use crate::intake::Group;
use crate::mark::CommitMark;
use crate::op::Op;
use crate::plan::Plan;
use crate::reader::Job;
use crate::settings::{Settings, Sync};
use crate::tables::Tables;
use crate::writer::Writer;

/// A sign of life goes with a batch this often at most.
const ALIVE_WITH_BATCH: Duration = Duration::from_secs(1);
/// A sign of life is written this often when there is nothing else to write.
const ALIVE_IDLE: Duration = Duration::from_secs(10);
/// What nobody waits for is synced after this at the latest.
const UNAWAITED: Duration = Duration::from_secs(1);
const GAUGES_EVERY: Duration = Duration::from_secs(1);
/// Vectors that grew beyond this many operations are not kept.
const SPARE_OPS: usize = 65_536;

/// The one thread that writes.
pub(crate) struct Committer {
    pub(crate) core: Arc<Core>,
    pub(crate) directory: PathBuf,
    pub(crate) settings: Settings,
    /// `None` only while the disk fails.
    pub(crate) tables: Option<Arc<Tables>>,
    pub(crate) mark: CommitMark,
    /// The number of the last batch.
    pub(crate) commit: u64,
    /// The number of the last batch that is on the disk for sure.
    pub(crate) synced: u64,
    /// What is on the disk; `None` before the walk.
    pub(crate) index: Option<Index>,
    plan: Plan,
    writer: Writer,
    spare: Vec<Op>,
    jobs: mpsc::Sender<Job>,
    clock: SystemClock,
    /// `None`: not since the start, and what the last run said is still wanted before the walk.
    told_alive: Option<Instant>,
    told_gauges: Instant,
    started: Instant,
    written_since: Instant,
}

enum Next {
    Group(Group),
    Time,
    Close,
}

impl Committer {
    /// The committer of an open database whose last batch has this number.
    pub(crate) fn new(
        core: Arc<Core>,
        directory: PathBuf,
        settings: Settings,
        mark: CommitMark,
        commit: u64,
        first_body: u64,
        jobs: mpsc::Sender<Job>,
    ) -> Self {
        let now = Instant::now();
        let tables = core.tables.lock().clone();
        let writer = Writer::new(first_body, Arc::clone(&core.metrics));
        Self {
            core,
            directory,
            settings,
            tables,
            mark,
            commit,
            synced: commit,
            index: None,
            plan: Plan::default(),
            writer,
            spare: Vec::new(),
            jobs,
            clock: SystemClock::new(),
            told_alive: None,
            told_gauges: now,
            started: now,
            written_since: now,
        }
    }

    /// Works until the engine is closed and everything it was told is written.
    pub(crate) fn run(mut self) {
        self.gauges();
        loop {
            match self.next() {
                Next::Group(group) => self.group(group),
                Next::Time => self.time(),
                Next::Close => break,
            }
        }
        self.close();
    }

    fn next(&mut self) -> Next {
        let core = Arc::clone(&self.core);
        let mut intake = core.intake.lock();
        loop {
            if let Some(index) = intake.index.take() {
                self.index = Some(index);
            }
            if self.index.is_some() && !intake.group.is_empty() {
                return Next::Group(core.take(&mut intake, &mut self.spare));
            }
            if intake.closing {
                return Next::Close;
            }
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return Next::Time;
            }
            intake.sleeping = true;
            core.wake.wait_until(&mut intake, deadline);
            intake.sleeping = false;
        }
    }

    fn deadline(&self) -> Instant {
        let mut deadline = self.told_alive.unwrap_or(self.started) + ALIVE_IDLE;
        if self.is_sweeping() {
            deadline = self.told_gauges;
        }
        if self.index.is_none() {
            deadline = Instant::now() + ALIVE_IDLE;
        }
        if self.synced < self.commit {
            deadline = deadline.min(self.written_since + self.sync_after());
        }
        deadline
    }

    /// How long after it was written something is synced at the latest.
    const fn sync_after(&self) -> Duration {
        match self.settings.sync {
            Sync::Always => UNAWAITED,
            Sync::Interval(interval) => interval,
        }
    }

    fn is_sweeping(&self) -> bool {
        self.index.as_ref().is_some_and(|i| !i.ended.is_empty())
    }

    fn group(&mut self, mut group: Group) {
        let start = Instant::now();
        let awaited = group.is_awaited();
        match self.apply(&group.ops, awaited) {
            Ok(()) => {
                group.publications.complete(Ok(()));
                group.changes.complete(Ok(()));
                self.core.metrics.commit.observe(start.elapsed());
                self.dispatch(group.reads);
                self.keep(group.ops);
            }
            Err(error) => self.fail(&error, group),
        }
        if self.told_gauges.elapsed() >= GAUGES_EVERY {
            self.gauges();
        }
    }

    /// Keeps the memory of operations that were applied.
    pub(crate) fn keep(&mut self, mut ops: Vec<Op>) {
        ops.clear();
        ops.shrink_to(SPARE_OPS);
        if ops.capacity() > self.spare.capacity() {
            self.spare = ops;
        }
    }

    /// Makes operations part of the disk. Those that nobody waits for are synced with later ones, or some
    /// time after: acknowledgements of clients, which cost a repetition when they are lost.
    pub(crate) fn apply(&mut self, ops: &[Op], awaited: bool) -> fjall::Result<()> {
        // A panic in the engine is a failure of it: all its state is made anew afterwards.
        let write = AssertUnwindSafe(|| {
            self.write(ops)?;
            if awaited && self.settings.sync == Sync::Always && self.synced < self.commit {
                self.sync()?;
            }
            Ok(())
        });
        catch_unwind(write).unwrap_or(Err(fjall::Error::Poisoned))
    }

    fn write(&mut self, ops: &[Op]) -> fjall::Result<()> {
        let (Some(tables), Some(index)) = (&self.tables, &mut self.index) else {
            return Err(fjall::Error::Poisoned);
        };
        let metrics = &self.core.metrics;
        let stalled = tables.wait_for_room()?;
        if !stalled.is_zero() {
            metrics.stalls.add(1);
            metrics.stalled_nanos.add(stalled.as_nanos() as u64);
        }
        self.plan.fold(ops, index, tables)?;
        metrics.cancelled.add(self.plan.cancelled);
        let changes = ops.len() - self.plan.bodies.len();
        metrics.changes.add(changes as u64);
        let alive = self
            .told_alive
            .is_none_or(|at| at.elapsed() >= ALIVE_WITH_BATCH);
        let alive = alive.then(|| self.clock.now().as_millis());
        let number = self.commit + 1;
        let batch = self
            .writer
            .write(tables, &mut self.plan, ops, index, number, alive)?;
        let Some(batch) = batch else {
            metrics.empty_commits.add(1);
            return Ok(());
        };
        if self.synced == self.commit {
            self.written_since = Instant::now();
        }
        batch.commit(metrics)?;
        self.commit = number;
        metrics.commits.add(1);
        if alive.is_some() {
            self.told_alive = Some(Instant::now());
        }
        Ok(())
    }

    /// Forces what was written to the disk, and says how far it is.
    fn sync(&mut self) -> fjall::Result<()> {
        let Some(tables) = &self.tables else {
            return Err(fjall::Error::Poisoned);
        };
        let start = Instant::now();
        tables.sync()?;
        self.core.metrics.sync.observe(start.elapsed());
        self.core.metrics.syncs.add(1);
        self.synced = self.commit;
        if let Err(error) = self.mark.write(self.commit) {
            // The mark only tells of losses; one that is too old tells of fewer.
            tracing::warn!(%error, "The mark of the last batch was not written.");
        }
        Ok(())
    }

    /// What is due by the clock.
    fn time(&mut self) {
        let result = if self.is_sweeping() {
            self.apply(&[], false)
        } else if self.synced < self.commit && self.written_since.elapsed() >= self.sync_after() {
            self.sync()
        } else {
            self.sign_of_life()
        };
        if let Err(error) = result {
            self.fail(&error, Group::default());
        }
        if self.told_gauges.elapsed() >= GAUGES_EVERY {
            self.gauges();
        }
    }

    fn sign_of_life(&mut self) -> fjall::Result<()> {
        let Some(tables) = &self.tables else {
            return Err(fjall::Error::Poisoned);
        };
        if self.index.is_none() {
            return Ok(());
        }
        self.told_alive = Some(Instant::now());
        if self.synced == self.commit {
            self.written_since = Instant::now();
        }
        let now = self.clock.now().as_millis();
        Writer::sign_of_life(tables, self.commit + 1, now).commit(&self.core.metrics)?;
        self.commit += 1;
        Ok(())
    }

    fn dispatch(&self, reads: Vec<crate::intake::Read>) {
        let (Some(tables), Some(index)) = (&self.tables, &self.index) else {
            return;
        };
        for read in reads {
            if !index.is_live(read.session) {
                read.reader.end(Ok(true));
                continue;
            }
            let job = Job {
                tables: Arc::clone(tables),
                snapshot: tables.snapshot(),
                read,
            };
            if let Err(mpsc::SendError(job)) = self.jobs.send(job) {
                job.read.reader.end(Err(closed()));
            }
        }
    }

    pub(crate) fn gauges(&mut self) {
        self.told_gauges = Instant::now();
        if let Some(tables) = &self.tables {
            let metrics = &self.core.metrics;
            metrics.journal_bytes.set(tables.journal_bytes());
            metrics.disk_bytes.set(tables.disk_bytes());
        }
    }

    fn close(&mut self) {
        let Some(tables) = self.tables.clone() else {
            return;
        };
        let closed = self
            .sign_of_life()
            .and_then(|()| self.sync())
            .and_then(|()| tables.sync_all());
        if let Err(error) = closed {
            tracing::error!(
                error = crate::error::describe(&error),
                "The store was not closed in order.",
            );
        }
        *self.core.tables.lock() = None;
    }
}

/// What is said to whoever asks too late.
pub(crate) fn closed() -> tidegate_bus::StoreError {
    tidegate_bus::StoreError::Failed("the store is closed".into())
}

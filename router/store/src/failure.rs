//! When the disk fails.
//!
//! Publications of the failed group and those told since are refused. Changes are kept in memory and told
//! to the disk again when it is back: a client that has acknowledged does not do it twice. Of a topic that is
//! retained again and again the last message is kept, and when all that waits takes as much as may wait
//! for the disk at any time, nobody new is let in: who is there has changes left for what waits for him alone. A
//! poisoned fjall stays poisoned, so the database is closed and opened anew, every second.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use hashbrown::HashMap;
use tidegate_bus::StoreError;

use crate::committer::Committer;
use crate::error::{OpenError, describe, from_io, store_error};
use crate::intake::{Group, Shared};
use crate::journal;
use crate::op::Op;
use crate::tables::{META_COMMIT, Tables};
use crate::walk::{Nobody, walk};

const RETRY_EVERY: Duration = Duration::from_secs(1);
const RELEASE_POLL: Duration = Duration::from_millis(5);
/// A disk that has not this much left is not tried.
const PROBE_BYTES: usize = 1 << 20;

/// What waits for the disk to come back.
#[derive(Default)]
struct Waiting {
    ops: Vec<Op>,
    /// Where in `ops` the retained message of a topic is.
    retained: HashMap<Arc<str>, usize>,
    /// Bytes of `ops`, about.
    bytes: usize,
    tickets: Vec<Shared>,
}

impl Waiting {
    /// Refuses the publications of the group and keeps its changes.
    fn add(&mut self, group: Group, error: &StoreError) {
        group.publications.complete(Err(error.clone()));
        for read in group.reads {
            read.reader.end(Err(error.clone()));
        }
        for op in group.ops.into_iter().filter_map(Op::after_failure) {
            self.push(op);
        }
        self.tickets.push(group.changes);
    }

    fn push(&mut self, op: Op) {
        self.bytes += op.size();
        if let Op::Retain { topic, .. } = &op {
            if let Some(&at) = self.retained.get(topic) {
                self.bytes -= self.ops[at].size();
                self.ops[at] = op;
                return;
            }
            self.retained.insert(Arc::clone(topic), self.ops.len());
        }
        self.ops.push(op);
    }
}

impl Committer {
    /// The group could not be written. Comes back when the disk does, or when the engine is closed.
    pub(crate) fn fail(&mut self, error: &fjall::Error, group: Group) {
        let mut failure = self.failed(error);
        self.core.set_failing(Some(failure.clone()));
        let mut waiting = Waiting::default();
        waiting.add(group, &failure);
        loop {
            let closing = self.pause();
            {
                let core = Arc::clone(&self.core);
                let mut intake = core.intake.lock();
                let group = core.take(&mut intake, &mut Vec::new());
                drop(intake);
                waiting.add(group, &failure);
                core.held.store(waiting.bytes, Ordering::Relaxed);
            }
            let again = self.reopen();
            let again = again.and_then(|()| {
                let applied = self.apply(&waiting.ops, true);
                applied.map_err(|error| self.failed(&error))
            });
            match again {
                Ok(()) => break,
                Err(error) if closing => {
                    waiting
                        .tickets
                        .into_iter()
                        .for_each(|ticket| ticket.complete(Err(error.clone())));
                    self.tables = None;
                    return;
                }
                Err(error) => failure = error,
            }
        }
        self.core.held.store(0, Ordering::Relaxed);
        self.core.set_failing(None);
        waiting
            .tickets
            .into_iter()
            .for_each(|ticket| ticket.complete(Ok(())));
        tracing::info!("The store is written again.");
    }

    /// Counts a failure, says it and gives it to the bus.
    fn failed(&self, error: &fjall::Error) -> StoreError {
        self.core.metrics.failures.add(1);
        tracing::error!(
            directory = %self.directory.display(),
            error = describe(error),
            "The store could not be written; publications that must be kept are refused.",
        );
        match error {
            // A worker of the engine failed first and took its reason along.
            fjall::Error::Poisoned => match probe(&self.directory) {
                Err(error) => from_io(&error),
                Ok(()) => StoreError::Failed("the engine has stopped".into()),
            },
            error => store_error(error),
        }
    }

    /// Waits for the next attempt. Whether the engine is being closed.
    fn pause(&self) -> bool {
        let mut intake = self.core.intake.lock();
        if !intake.closing {
            intake.sleeping = false;
            self.core.wake.wait_for(&mut intake, RETRY_EVERY);
        }
        intake.closing
    }

    /// Cuts off what the failed write has left of its batch. A journal that lacks what was
    /// acknowledged is left as it is: a person has to decide, and a start asks the same.
    fn mend(&self, database: &Path) -> io::Result<()> {
        let inspection = journal::inspect(database)?;
        let missing = inspection.missing(self.synced);
        if missing > 0 {
            return Err(io::Error::other(lost(missing)));
        }
        inspection.breaks.iter().try_for_each(journal::cut)
    }

    /// Closes the database and opens it again.
    fn reopen(&mut self) -> Result<(), StoreError> {
        *self.core.tables.lock() = None;
        if let Some(mut tables) = self.tables.take() {
            // Readers and backups see that the disk fails and let go.
            loop {
                match Arc::try_unwrap(tables) {
                    Ok(last) => break drop(last),
                    Err(shared) => tables = shared,
                }
                thread::sleep(RELEASE_POLL);
            }
        }
        probe(&self.directory).map_err(|error| from_io(&error))?;
        let database = Tables::database_path(&self.directory);
        journal::renew(&database)
            .and_then(|()| self.mend(&database))
            .map_err(|error| from_io(&error))?;
        let tables =
            Tables::open(&self.directory, &self.settings).map_err(|error| match error {
                OpenError::Io { source, .. } => from_io(&source),
                other => StoreError::Failed(other.to_string().into()),
            })?;
        let found = tables.number(META_COMMIT).map_err(|e| store_error(&e))?;
        let found = found.unwrap_or(0);
        if found < self.synced {
            return Err(StoreError::Failed(lost(self.synced - found).into()));
        }
        let walked = walk(&tables, &mut Nobody, None, &self.core.metrics)
            .map_err(|error| store_error(&error))?;
        self.index = Some(walked.index);
        self.commit = found;
        let tables = Arc::new(tables);
        *self.core.tables.lock() = Some(Arc::clone(&tables));
        self.tables = Some(tables);
        Ok(())
    }
}

fn lost(missing: u64) -> String {
    format!("the disk came back without {missing} batches that were acknowledged")
}

/// Whether something can be written and forced to the disk. Cheaper than to open a database on a
/// disk that is still full.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join("probe");
    let written = (|| {
        let mut file = File::create(&path)?;
        file.write_all(&vec![0xa5; PROBE_BYTES])?;
        file.sync_all()
    })();
    let removed = fs::remove_file(&path);
    written.and(removed)
}

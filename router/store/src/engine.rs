//! The engine as the bus sees it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tidegate_bus::{
    Claim, ClientId, Epoch, Place, Publication, QueueReader, Recovery, SessionChange, Store,
    StoreError, StoreFuture, StoredMessage, Ticket,
};

use crate::committer::{Committer, closed};
use crate::core::Core;
use crate::error::OpenError;
use crate::intake::{Intake, Owner, Read};
use crate::lock::DirectoryLock;
use crate::metrics::Metrics;
use crate::op::{Life, Op};
use crate::opening::open;
use crate::reader;
use crate::settings::Settings;
use crate::walk::Recovered;

/// Bits of an epoch, and of the number of a body, that count within one run of the process.
const COUNTER_BITS: u32 = 40;

/// A durable engine in one directory.
pub struct Engine {
    core: Arc<Core>,
    directory: PathBuf,
    boot: u64,
    counter: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Let go after everything else.
    _lock: DirectoryLock,
}

impl Engine {
    /// Opens the store of a directory, which must exist, and makes it when the directory has none.
    ///
    /// What was kept is read by [`Store::recover`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong with the directory; nothing in it has been changed when it was in
    /// use, newer, or had lost something.
    pub fn open(path: impl AsRef<Path>, settings: Settings) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let opened = open(path, &settings)?;
        let core = Arc::new(Core::new(
            Arc::new(opened.tables),
            opened.recovered,
            settings.intake_bytes,
            settings.progress.clone(),
        ));
        let (jobs, queue) = mpsc::channel();
        let committer = Committer::new(
            Arc::clone(&core),
            path.to_owned(),
            settings,
            opened.mark,
            opened.commit,
            (opened.boot << COUNTER_BITS) + 1,
            jobs,
        );
        let reading = Arc::clone(&core);
        let threads = [
            thread::Builder::new()
                .name("store".to_owned())
                .spawn(move || committer.run()),
            thread::Builder::new()
                .name("store-read".to_owned())
                .spawn(move || reader::run(&queue, &reading.failing, &reading.metrics)),
        ];
        let threads = threads.into_iter().collect::<Result<Vec<_>, _>>();
        let threads = threads.map_err(|error| {
            // The one that has started ends.
            core.intake.lock().closing = true;
            core.wake.notify_all();
            OpenError::io(path, error)
        })?;
        Ok(Self {
            core,
            directory: path.to_owned(),
            boot: opened.boot,
            counter: AtomicU64::new(0),
            threads: Mutex::new(threads),
            _lock: opened.lock,
        })
    }

    /// Where the store is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the engine counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.core.metrics)
    }

    /// What the start has found, after [`Store::recover`].
    pub fn recovered(&self) -> Recovered {
        self.core.recovered.lock().clone()
    }

    /// Writes what was told, forces it to the disk and ends the threads. What is told later is refused.
    /// Dropping the engine does the same.
    pub fn close(&self) {
        {
            let mut intake = self.core.intake.lock();
            intake.closing = true;
            self.core.rouse(intake);
        }
        // A thread that waits for the disk to come back looks only at the signal.
        self.core.wake.notify_all();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("A thread of the store has panicked.");
            }
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The intake, when changes can still be told.
    fn intake(&self) -> Result<parking_lot::MutexGuard<'_, Intake>, StoreError> {
        self.core.ready()?;
        let intake = self.core.intake.lock();
        if intake.closing {
            return Err(closed());
        }
        Ok(intake)
    }

    fn try_append(&self, publication: &Publication<'_>) -> Result<Ticket, StoreError> {
        let mut intake = self.intake()?;
        if let Some(error) = &intake.failing {
            return Err(error.clone());
        }
        let group = &mut intake.group;
        if !publication.references.is_empty() {
            group.push(Op::Body(Arc::clone(publication.message)));
        }
        for reference in publication.references {
            group.push(Op::Reference {
                session: reference.session.0,
                entry: reference.entry.clone(),
            });
        }
        if let Some(origin) = publication.origin {
            group.push(Op::Origin {
                session: origin.session.0,
                packet_id: origin.packet_id,
            });
        }
        let ticket = group.publication();
        self.core.rouse(intake);
        Ok(ticket)
    }

    fn try_retain(
        &self,
        topic: &str,
        message: Option<&Arc<StoredMessage>>,
    ) -> Result<Ticket, StoreError> {
        let topic = topic.into();
        let mut intake = self.intake()?;
        intake.group.push(Op::Retain {
            topic,
            message: message.map(Arc::clone),
        });
        let ticket = intake.group.change();
        self.core.rouse(intake);
        Ok(ticket)
    }

    fn try_change(
        &self,
        client: &ClientId,
        epoch: Epoch,
        changes: &[SessionChange],
    ) -> Result<Ticket, StoreError> {
        let mut intake = self.intake()?;
        let mut owner = intake.owners.get(client);
        if owner.is_some_and(|owner| epoch.0 < owner.epoch) {
            return Err(StoreError::Fenced);
        }
        for change in changes {
            let session = owner.map_or(0, |owner| owner.session);
            let Some(op) = translate(client, epoch.0, session, change) else {
                continue;
            };
            match &op {
                Op::Session {
                    session, change, ..
                } if matches!(**change, Life::Attached { .. }) => {
                    let installed = Owner {
                        session: *session,
                        epoch: epoch.0,
                    };
                    intake.owners.set(client, installed);
                    owner = Some(installed);
                }
                Op::Session { change, .. } if matches!(**change, Life::Ended) => {
                    let ended = Owner {
                        session: 0,
                        epoch: epoch.0,
                    };
                    intake.owners.set(client, ended);
                    owner = Some(ended);
                }
                _ => {}
            }
            intake.group.push(op);
        }
        let ticket = intake.group.change();
        self.core.rouse(intake);
        Ok(ticket)
    }
}

/// The change as an operation; `None` when it is to a session that does not exist.
fn translate(client: &ClientId, epoch: u64, session: u64, change: &SessionChange) -> Option<Op> {
    let life = |session, change| Op::Session {
        client: client.clone(),
        session,
        change: Box::new(change),
    };
    if let SessionChange::Attached {
        fresh,
        expiry,
        will,
    } = change
    {
        let begins = *fresh || session == 0;
        let attached = Life::Attached {
            epoch,
            replaces: (begins && session != 0 && session != epoch).then_some(session),
            expiry: *expiry,
            will: will.clone(),
        };
        return Some(life(if begins { epoch } else { session }, attached));
    }
    if session == 0 {
        return None;
    }
    Some(match change {
        SessionChange::Subscribed {
            filter,
            options,
            identifier,
            retained_owed,
        } => Op::Subscribed {
            session,
            filter: filter.clone(),
            options: *options,
            identifier: *identifier,
            retained_owed: *retained_owed,
        },
        SessionChange::RetainedSent(filter) => Op::RetainedSent {
            session,
            filter: filter.clone(),
        },
        SessionChange::Unsubscribed(filter) => Op::Unsubscribed {
            session,
            filter: filter.clone(),
        },
        SessionChange::Sent(place, packet_id) => Op::Sent {
            session,
            place: place.0,
            packet_id: *packet_id,
        },
        SessionChange::Received(place) => Op::Received {
            session,
            place: place.0,
        },
        SessionChange::Done(place) => Op::Done {
            session,
            place: place.0,
        },
        SessionChange::Released(packet_id) => Op::Released {
            session,
            packet_id: *packet_id,
        },
        SessionChange::Detached { ends_at, will_at } => life(
            session,
            Life::Detached {
                ends_at: ends_at.as_millis(),
                will_at: will_at.map(tidegate_bus::Timestamp::as_millis),
            },
        ),
        SessionChange::WillPublished => life(session, Life::WillPublished),
        SessionChange::Ended => life(session, Life::Ended),
        // The bus has learnt to say something this engine does not know.
        other => {
            tracing::error!(change = ?other, "A change to a session is not kept.");
            return None;
        }
    })
}

impl Store for Engine {
    fn is_durable(&self) -> bool {
        true
    }

    fn accepts(&self) -> Result<(), StoreError> {
        self.core.accepts()
    }

    fn recover(&self, recovery: &mut dyn Recovery) -> Result<(), StoreError> {
        self.core.walk(recovery)
    }

    fn claim<'a>(&'a self, _: &'a ClientId) -> StoreFuture<'a, Claim> {
        if self.core.is_crowded() {
            let error = StoreError::Failed("as much waits for the disk as may".into());
            return Box::pin(std::future::ready(Err(error)));
        }
        let number = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(std::future::ready(Ok(Claim {
            epoch: Epoch((self.boot << COUNTER_BITS) | number),
            session: None,
        })))
    }

    fn append(&self, publication: &Publication<'_>) -> Ticket {
        self.try_append(publication).unwrap_or_else(Ticket::failed)
    }

    fn retain(&self, topic: &str, message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.try_retain(topic, message)
            .unwrap_or_else(Ticket::failed)
    }

    fn change(&self, client: &ClientId, epoch: Epoch, changes: &[SessionChange]) -> Ticket {
        self.try_change(client, epoch, changes)
            .unwrap_or_else(Ticket::failed)
    }

    fn read(&self, _: &ClientId, session: Epoch, from: Place, reader: Box<dyn QueueReader>) {
        match self.intake() {
            Ok(mut intake) if intake.failing.is_none() => {
                intake.group.reads.push(Read {
                    session: session.0,
                    from: from.0,
                    reader,
                });
                self.core.rouse(intake);
            }
            Ok(intake) => {
                let error = intake.failing.clone().unwrap_or_else(closed);
                drop(intake);
                reader.end(Err(error));
            }
            Err(error) => reader.end(Err(error)),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("directory", &self.directory)
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

//! Reads queues back, on a thread of its own.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use fjall::{Readable, Snapshot};
use tidegate_bus::{QueueReader, StoreError};

use crate::body::decode_body;
use crate::error::{describe, store_error};
use crate::intake::Read;
use crate::key;
use crate::metrics::Metrics;
use crate::record::{BodyPlace, EntryRecord};
use crate::tables::{Tables, is_damage};
use crate::writer::report;

/// A queue to be read as it is in the snapshot.
pub(crate) struct Job {
    pub(crate) tables: Arc<Tables>,
    pub(crate) snapshot: Snapshot,
    pub(crate) read: Read,
}

/// Answers jobs until there will be no more. Gives up what it does while `failing`, so that the
/// database can be closed.
pub(crate) fn run(jobs: &mpsc::Receiver<Job>, failing: &AtomicBool, metrics: &Metrics) {
    for job in jobs {
        let Job {
            tables,
            snapshot,
            read,
        } = job;
        let Read {
            session,
            from,
            mut reader,
        } = read;
        let result = answer(
            &tables,
            &snapshot,
            (session, from),
            &mut *reader,
            failing,
            metrics,
        );
        // Whoever is answered may wait for the database to be free.
        drop((snapshot, tables));
        reader.end(result);
    }
}

fn answer(
    tables: &Tables,
    snapshot: &Snapshot,
    (session, from): (u64, u64),
    reader: &mut dyn QueueReader,
    failing: &AtomicBool,
    metrics: &Metrics,
) -> Result<bool, StoreError> {
    let range = key::queue(session, from)..=key::queue(session, u64::MAX);
    for guard in snapshot.range(&tables.queue, range) {
        if failing.load(Ordering::Relaxed) {
            return Err(StoreError::Failed("the disk failed meanwhile".into()));
        }
        let (key, value) = guard.into_inner().map_err(|error| {
            if is_damage(&error) {
                report(
                    metrics,
                    "queue",
                    &key::queue(session, from),
                    &describe(&error),
                );
            }
            store_error(&error)
        })?;
        let Some((_, place)) = key::parse_queue(&key) else {
            continue;
        };
        let decoded = EntryRecord::decode(&value)
            .and_then(|(record, rest)| Ok((record.body, rest, record.into_entry(place)?)));
        let (body, rest, entry) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                report(metrics, "queue", &key, &error);
                continue;
            }
        };
        metrics.read_entries.add(1);
        let shared;
        let bytes = match body {
            BodyPlace::Gone => {
                if reader.entry(entry, None).is_break() {
                    return Ok(false);
                }
                continue;
            }
            BodyPlace::Here => rest,
            BodyPlace::Shared(number) => {
                let key = key::body(number);
                match snapshot.get(&tables.bodies, key) {
                    Ok(Some(value)) => {
                        shared = value;
                        &*shared
                    }
                    Ok(None) => {
                        report(metrics, "bodies", &key, &"the body is missing");
                        continue;
                    }
                    Err(error) if is_damage(&error) => {
                        report(metrics, "bodies", &key, &describe(&error));
                        continue;
                    }
                    Err(error) => return Err(store_error(&error)),
                }
            }
        };
        match decode_body(bytes) {
            Ok(message) => {
                if let ControlFlow::Break(()) = reader.entry(entry, Some(message)) {
                    return Ok(false);
                }
            }
            Err(error) => report(metrics, "queue", &key, &error),
        }
    }
    Ok(true)
}

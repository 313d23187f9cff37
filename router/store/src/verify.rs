//! Whether a store that nobody uses is sound.

use std::path::Path;

use fjall::Readable;
use hashbrown::HashMap;

use crate::body::decode_body;
use crate::error::OpenError;
use crate::key;
use crate::metrics::Metrics;
use crate::opening;
use crate::record::{BodyPlace, EntryRecord};
use crate::settings::Settings;
use crate::tables::META_COMMIT;
use crate::walk::{CorruptRecord, Nobody, walk};

/// So many problems are named; the rest is counted.
const NAMED: usize = 100;
const STEPS: u64 = 1_024;

/// What a store holds, and what is wrong with it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// The number of the last batch.
    pub commit: u64,
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions of them.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Entries of queues, also of sessions that have ended and are not swept yet.
    pub entries: u64,
    /// Messages that stand beside their entries.
    pub bodies: u64,
    /// Records that do not read, messages that are missing, messages that nobody waits for.
    pub problems: u64,
    /// The first hundred of them.
    pub named: Vec<CorruptRecord>,
}

/// Opens the store of a directory for itself and reads everything in it. As at a start, the end of a batch
/// that a crash has torn is cut off; nothing else is changed. `progress` is told how many
/// records were read, and about how many there are.
///
/// # Errors
///
/// As of [`crate::Engine::open`]. What is wrong with single records is no error but in the answer.
pub fn verify(
    path: impl AsRef<Path>,
    mut progress: Option<&mut dyn FnMut(u64, u64)>,
) -> Result<Verified, OpenError> {
    let path = path.as_ref();
    let prepared = opening::prepare(path, &Settings::default(), false)?;
    let tables = &prepared.tables;
    let engine = |error| OpenError::engine(path, error);
    let mut verified = Verified {
        commit: tables.number(META_COMMIT).map_err(engine)?.unwrap_or(0),
        ..Verified::default()
    };
    let walked = walk(tables, &mut Nobody, None, &Metrics::default()).map_err(engine)?;
    let recovered = walked.recovered;
    verified.sessions = recovered.sessions;
    verified.subscriptions = recovered.subscriptions;
    verified.retained = recovered.retained;
    verified.problems = recovered.corrupt;
    verified.named = recovered.corrupt_records;
    let total = [&tables.queue, &tables.bodies]
        .iter()
        .map(|keyspace| keyspace.approximate_len() as u64)
        .sum();
    let mut read = 0_u64;
    let mut step = || {
        read += 1;
        if let Some(progress) = &mut progress
            && read.is_multiple_of(STEPS)
        {
            progress(read, total);
        }
    };
    let snapshot = tables.snapshot();
    // By number: how many refer to it.
    let mut referred = HashMap::<u64, u64>::new();
    for guard in snapshot.iter(&tables.queue) {
        step();
        let (key, value) = guard.into_inner().map_err(engine)?;
        verified.entries += 1;
        // An entry that does not read was named by the walk.
        let Ok((record, rest)) = EntryRecord::decode(&value) else {
            continue;
        };
        match record.body {
            BodyPlace::Shared(number) => *referred.entry(number).or_default() += 1,
            BodyPlace::Here if decode_body(rest).is_err() => {
                verified.problem("queue", &key, "the message of the entry does not read");
            }
            BodyPlace::Here | BodyPlace::Gone => {}
        }
    }
    for guard in snapshot.iter(&tables.bodies) {
        step();
        let (key, value) = guard.into_inner().map_err(engine)?;
        verified.bodies += 1;
        if decode_body(&value).is_err() {
            verified.problem("bodies", &key, "the message does not read");
        }
        let number = key.as_ref().try_into().map(u64::from_be_bytes);
        if number.map_or(true, |number| referred.remove(&number).is_none()) {
            verified.problem("bodies", &key, "nobody waits for the message");
        }
    }
    for number in referred.keys() {
        verified.problem("bodies", &key::body(*number), "the message is missing");
    }
    Ok(verified)
}

impl Verified {
    fn problem(&mut self, keyspace: &'static str, key: &[u8], reason: &str) {
        self.problems += 1;
        if self.named.len() < NAMED {
            self.named.push(CorruptRecord {
                keyspace,
                key: key.to_vec(),
                reason: reason.to_owned(),
            });
        }
    }
}

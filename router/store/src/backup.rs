//! A copy of everything as one stream, while the engine runs.
//!
//! The stream: eight bytes `tidegate`, the version of the stream (1) and the format of the store, each as
//! four bytes; then records: one byte for the keyspace (1 to 6, in the order of [`KEYSPACES`]), four bytes for
//! the length of the key and four for the length of the value, key, value; then a zero byte, eight
//! bytes with the number of records, and eight bytes XXH3-64 of everything before. Numbers are
//! big-endian.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::Ordering;

use fjall::Readable;
use xxhash_rust::xxh3::Xxh3;

use crate::engine::Engine;
use crate::error::describe;
use crate::tables::FORMAT;

pub(crate) const MAGIC: [u8; 8] = *b"tidegate";
pub(crate) const STREAM_VERSION: u32 = 1;
/// The keyspaces by their number in the stream, from 1.
pub(crate) const KEYSPACES: [&str; 6] =
    ["meta", "sessions", "state", "queue", "bodies", "retained"];
/// Ends the records.
pub(crate) const END: u8 = 0;
pub(crate) const STEPS: u64 = 1_024;

/// Why a backup was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The stream does not take it.
    #[error("the backup could not be written: {0}")]
    Write(#[source] io::Error),
    /// The store does not read.
    #[error("the store could not be read: {0}")]
    Store(String),
    /// The store is closed, or its disk fails.
    #[error("the store is not open")]
    Closed,
}

struct Summed<W> {
    to: W,
    sum: Xxh3,
}

impl<W: Write> Summed<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.sum.update(bytes);
        self.to.write_all(bytes).map_err(BackupError::Write)
    }
}

impl Engine {
    /// Writes everything that was written so far into `to`, as of one moment, while the engine
    /// goes on. How many records it were. `progress` is told how many were written, and about how many there
    /// are.
    ///
    /// # Errors
    ///
    /// [`BackupError`]. What was written then is no backup, and `restore` refuses it.
    pub fn backup(
        &self,
        to: impl Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<u64, BackupError> {
        let core = self.core();
        let tables = core.tables.lock().clone().ok_or(BackupError::Closed)?;
        let snapshot = tables.snapshot();
        let all = tables.all();
        let total = all.iter().map(|(_, k)| k.approximate_len() as u64).sum();
        let mut out = Summed {
            to: BufWriter::new(to),
            sum: Xxh3::new(),
        };
        out.put(&MAGIC)?;
        out.put(&STREAM_VERSION.to_be_bytes())?;
        out.put(&FORMAT.to_be_bytes())?;
        let mut records = 0_u64;
        for (number, (_, keyspace)) in (1_u8..).zip(all) {
            for guard in snapshot.iter(keyspace) {
                if core.failing.load(Ordering::Relaxed) {
                    return Err(BackupError::Closed);
                }
                let pair = guard.into_inner();
                let (key, value) = pair.map_err(|error| BackupError::Store(describe(&error)))?;
                out.put(&[number])?;
                out.put(&(key.len() as u32).to_be_bytes())?;
                out.put(&(value.len() as u32).to_be_bytes())?;
                out.put(&key)?;
                out.put(&value)?;
                records += 1;
                if records.is_multiple_of(STEPS) {
                    progress(records, total);
                }
            }
        }
        out.put(&[END])?;
        out.put(&records.to_be_bytes())?;
        let sum = out.sum.digest().to_be_bytes();
        out.to.write_all(&sum).map_err(BackupError::Write)?;
        out.to.flush().map_err(BackupError::Write)?;
        progress(records, records);
        Ok(records)
    }
}

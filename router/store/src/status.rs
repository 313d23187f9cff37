//! What can be said of a store from outside, also while it is in use.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::OpenError;
use crate::journal;
use crate::lock::DirectoryLock;
use crate::mark::CommitMark;
use crate::tables::Tables;

/// What can be said of a store from outside.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Whether there is a store.
    pub exists: bool,
    /// Whether a process has it open.
    pub in_use: bool,
    /// The number of the last batch that was forced to the disk, as the mark says.
    pub acknowledged: Option<u64>,
    /// The number of the last whole batch in the journals; `None` when they are empty.
    pub last_in_journals: Option<u64>,
    /// Bytes of batches in the journals.
    pub journal_bytes: u64,
    /// Bytes that make no sense: an unfinished batch, or damage. Means nothing while the store is in use.
    pub broken_bytes: u64,
    /// Bytes of all files of the database, as they are allocated or larger.
    pub disk_bytes: u64,
}

/// Looks at the store of a directory and changes nothing, also while it is in use.
///
/// # Errors
///
/// [`OpenError::Missing`] and [`OpenError::Io`].
pub fn status(path: impl AsRef<Path>) -> Result<Status, OpenError> {
    let path = path.as_ref();
    if !path.is_dir() {
        return Err(OpenError::Missing {
            path: path.to_owned(),
        });
    }
    let io = |error| OpenError::io(path, error);
    let mut status = Status {
        in_use: DirectoryLock::is_held(path),
        acknowledged: CommitMark::read(path).map_err(io)?,
        ..Status::default()
    };
    let database = Tables::database_path(path);
    if !database.is_dir() {
        return Ok(status);
    }
    status.exists = true;
    let inspection = journal::inspect(&database).map_err(io)?;
    status.last_in_journals = inspection.last;
    status.journal_bytes = inspection.bytes;
    status.broken_bytes = inspection.breaks.iter().map(|b| b.bytes).sum();
    status.disk_bytes = size(&database).map_err(io)?;
    Ok(status)
}

fn size(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // A file may go while it is looked at: the store is in use.
        sum += match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path())?,
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(sum)
}

//! What happens before an engine runs: the lock, the journals, the format, the mark, the boot count.

use std::path::Path;

use crate::error::OpenError;
use crate::journal;
use crate::lock::DirectoryLock;
use crate::mark::CommitMark;
use crate::settings::Settings;
use crate::tables::{FORMAT, META_BOOT, META_COMMIT, META_FORMAT, Tables};
use crate::walk::Recovered;

/// The file that fjall writes last when it makes a database.
const FJALL_MARKER: &str = "version";

/// A store that is open and not running.
pub(crate) struct Opened {
    pub(crate) lock: DirectoryLock,
    pub(crate) tables: Tables,
    pub(crate) mark: CommitMark,
    /// The number of the last batch, which has counted this start.
    pub(crate) commit: u64,
    /// How often the store was opened, this time included.
    pub(crate) boot: u64,
    pub(crate) recovered: Recovered,
}

/// A store whose database is open and as it was.
pub(crate) struct Prepared {
    pub(crate) lock: DirectoryLock,
    pub(crate) tables: Tables,
    /// `None`: the store is new.
    pub(crate) format: Option<u32>,
    pub(crate) missing_batches: u64,
    pub(crate) torn_bytes: u64,
}

/// Opens the store of a directory, or makes it.
pub(crate) fn open(path: &Path, settings: &Settings) -> Result<Opened, OpenError> {
    let Prepared {
        lock,
        tables,
        format,
        missing_batches,
        torn_bytes,
    } = prepare(path, settings, true)?;
    let engine = |error| OpenError::engine(path, error);
    let boot = tables.number(META_BOOT).map_err(engine)?.unwrap_or(0) + 1;
    let commit = tables.number(META_COMMIT).map_err(engine)?.unwrap_or(0) + 1;
    let mut batch = tables.batch(3);
    batch.insert(&tables.meta, META_COMMIT, commit.to_be_bytes());
    batch.insert(&tables.meta, META_BOOT, boot.to_be_bytes());
    if format != Some(FORMAT) {
        batch.insert(&tables.meta, META_FORMAT, FORMAT.to_be_bytes());
    }
    batch.commit().map_err(engine)?;
    tables.sync_all().map_err(engine)?;
    let io = |error| OpenError::io(path, error);
    let mut mark = CommitMark::open(path).map_err(io)?;
    mark.write(commit).map_err(io)?;
    let recovered = Recovered {
        missing_batches,
        torn_bytes,
        ..Recovered::default()
    };
    Ok(Opened {
        lock,
        tables,
        mark,
        commit,
        boot,
        recovered,
    })
}

/// Takes the directory and opens its database when nothing that was acknowledged is missing. A database
/// is made only when `create` says so.
pub(crate) fn prepare(
    path: &Path,
    settings: &Settings,
    create: bool,
) -> Result<Prepared, OpenError> {
    let lock = DirectoryLock::take(path)?;
    let io = |error| OpenError::io(path, error);
    let acknowledged = CommitMark::read(path).map_err(io)?.unwrap_or(0);
    let loss = |missing: u64| {
        if !settings.accept_loss {
            return Err(OpenError::Lost {
                path: path.to_owned(),
                missing,
                acknowledged,
            });
        }
        tracing::error!(
            missing,
            "Batches that were acknowledged are gone; going on without them, as told.",
        );
        Ok(())
    };
    let database = Tables::database_path(path);
    let (mut missing_batches, mut torn_bytes) = (0, 0);
    if database.join(FJALL_MARKER).exists() {
        let inspection = journal::inspect(&database).map_err(io)?;
        missing_batches = inspection.missing(acknowledged);
        if missing_batches > 0 {
            loss(missing_batches)?;
        }
        for broken in &inspection.breaks {
            torn_bytes += broken.bytes;
            tracing::warn!(
                journal = %broken.path.display(),
                bytes = broken.bytes,
                "An unfinished batch is cut off the journal.",
            );
            journal::cut(broken).map_err(io)?;
        }
    } else if acknowledged > 0 || !create {
        return Err(OpenError::damaged(path, "there is no database in it"));
    } else if database.exists() {
        // It gets its name when it is whole: something has been taken out of it since.
        return Err(OpenError::damaged(
            path,
            "a part of the database is missing",
        ));
    } else {
        Tables::make(path, settings)?;
    }
    let tables = Tables::open(path, settings)?;
    let format = tables.migrate(path)?;
    let found = tables.number(META_COMMIT);
    let found = found.map_err(|error| OpenError::engine(path, error))?;
    let behind = acknowledged.saturating_sub(found.unwrap_or(0));
    if behind > 0 && missing_batches == 0 {
        loss(behind)?;
    }
    Ok(Prepared {
        lock,
        tables,
        format,
        missing_batches: missing_batches.max(behind),
        torn_bytes,
    })
}

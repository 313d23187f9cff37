//! Why an engine does not start, and what of its failures the bus is told.

use std::io;
use std::path::{Path, PathBuf};

use fjall::LsmError;
use tidegate_bus::StoreError;

/// Why an engine does not open a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory is not there.
    #[error("the directory of the store, {}, does not exist", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// Another process has it, or another engine of this one.
    #[error("the store in {} is in use by another process", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be written or read.
    #[error("the store in {} cannot be used: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was written by a newer gateway.
    #[error(
        "the store in {} has format {found}; this gateway knows up to format {known}",
        path.display()
    )]
    Newer {
        /// Which directory.
        path: PathBuf,
        /// The format on the disk.
        found: u32,
        /// The newest format this engine knows.
        known: u32,
    },
    /// What is on the disk makes no sense.
    #[error("the store in {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which directory.
        path: PathBuf,
        /// What does not.
        reason: String,
    },
    /// Batches that were acknowledged are gone.
    #[error(
        "the store in {} has lost what was acknowledged: {missing} of {acknowledged} batches are missing",
        path.display()
    )]
    Lost {
        /// Which directory.
        path: PathBuf,
        /// How many batches.
        missing: u64,
        /// The number of the last batch that was acknowledged.
        acknowledged: u64,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn engine(path: &Path, error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(source) | fjall::Error::Storage(LsmError::Io(source)) => {
                Self::io(path, source)
            }
            fjall::Error::Locked => Self::InUse {
                path: path.to_owned(),
            },
            other => Self::damaged(path, describe(&other)),
        }
    }
}

/// What failed, without the name of the library's type.
pub(crate) fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => error.to_string(),
        fjall::Error::Storage(error) => format!("{error:?}"),
        fjall::Error::JournalRecovery(error) => format!("the journal does not read: {error:?}"),
        fjall::Error::Poisoned => "an earlier write failed".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The failure as the bus understands it.
pub(crate) fn store_error(error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io)) => from_io(io),
        other => StoreError::Failed(describe(other).into()),
    }
}

/// The failure as the bus understands it.
pub(crate) fn from_io(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Failed(error.to_string().into()),
    }
}

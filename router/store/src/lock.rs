//! One process per directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::OpenError;

const NAME: &str = "lock";

/// Holds a directory for this process until it is dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// Held for its drop only, which lets go.
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of the directory, which must exist.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        if !path.is_dir() {
            return Err(OpenError::Missing {
                path: path.to_owned(),
            });
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(NAME))
            .map_err(|error| OpenError::io(path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(OpenError::io(path, error)),
        }
    }

    /// Lets go and removes what the lock has left in the directory.
    pub(crate) fn remove(self, path: &Path) -> std::io::Result<()> {
        drop(self);
        std::fs::remove_file(path.join(NAME))
    }

    /// Whether somebody holds the directory now.
    pub(crate) fn is_held(path: &Path) -> bool {
        File::open(path.join(NAME))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

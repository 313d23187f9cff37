//! The directory of the local certificates: one process at a time, every file whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::LocalError;

/// The directory, locked against other processes until dropped.
pub(super) struct Store {
    directory: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes the directory (mode 0700) if need be and waits for its lock.
    pub(super) fn open(directory: &Path) -> Result<Self, LocalError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| LocalError::Io { path, error }
        };
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(directory)(error));
            }
            _ => {}
        }
        let path = directory.join(".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        lock.lock().map_err(failed(&path))?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The file's bytes, if it is there.
    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, LocalError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LocalError::Io { path, error }),
        }
    }

    /// Replaces a file as one. A secret one is never readable by others, not even while it is written.
    pub(super) fn put(&self, name: &str, bytes: &[u8], secret: bool) -> Result<(), LocalError> {
        let temporary = self.path(&format!(".{name}.new"));
        let target = self.path(name);
        let write = || -> io::Result<()> {
            // What a process left that was killed here. Nobody else writes: the lock is held.
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(if secret { 0o600 } else { 0o644 })
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &target)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| LocalError::Io {
            path: target.clone(),
            error,
        })
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), LocalError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LocalError::Io { path, error })
            }
            _ => Ok(()),
        }
    }
}

//! A store out of a backup.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::backup::{END, KEYSPACES, MAGIC, STEPS, STREAM_VERSION};
use crate::error::{OpenError, describe};
use crate::lock::DirectoryLock;
use crate::settings::Settings;
use crate::tables::{FORMAT, Tables};

/// Records that are written with one batch.
const BATCH: usize = 1_000;
const LONGEST_KEY: u32 = 65_535;
/// No value is longer than the largest packet with what stands around it.
const LONGEST_VALUE: u32 = 300 << 20;

/// Why a backup was not restored. The directory is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is something in the directory.
    #[error("{} is not empty", .0.display())]
    NotEmpty(std::path::PathBuf),
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream does not read.
    #[error("the backup could not be read: {0}")]
    Read(#[source] io::Error),
    /// It is no backup, or of another version.
    #[error("this is no backup that this gateway knows: {0}")]
    Unknown(String),
    /// It ends too early.
    #[error("the backup is not complete")]
    Truncated,
    /// It is not as it was written.
    #[error("the backup is damaged: {0}")]
    Altered(&'static str),
    /// The store could not be written.
    #[error("the store could not be written: {0}")]
    Write(String),
}

struct Summed<R> {
    from: R,
    sum: Xxh3,
}

impl<R: Read> Summed<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RestoreError> {
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.sum.update(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(RestoreError::Truncated)
            }
            Err(error) => Err(RestoreError::Read(error)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// So many bytes, without trust in their number.
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, RestoreError> {
        let mut bytes = Vec::new();
        let read = (&mut self.from)
            .take(u64::from(length))
            .read_to_end(&mut bytes);
        if read.map_err(RestoreError::Read)? < length as usize {
            return Err(RestoreError::Truncated);
        }
        self.sum.update(&bytes);
        Ok(bytes)
    }
}

/// Makes the store of an empty directory, which must exist, out of a backup. How many records it has.
/// `progress` is told how many were written.
///
/// # Errors
///
/// [`RestoreError`]; the directory is empty again then.
pub fn restore(
    from: impl Read,
    path: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, RestoreError> {
    let path = path.as_ref();
    let io = |error| RestoreError::Open(OpenError::io(path, error));
    if !path.is_dir() {
        return Err(RestoreError::Open(OpenError::Missing {
            path: path.to_owned(),
        }));
    }
    if fs::read_dir(path).map_err(io)?.next().is_some() {
        return Err(RestoreError::NotEmpty(path.to_owned()));
    }
    let lock = DirectoryLock::take(path)?;
    // Beside the place where it is looked for, until it is whole.
    let partial = path.join("restoring");
    let restored = fs::create_dir(&partial)
        .map_err(io)
        .and_then(|()| fill(from, &partial, progress))
        .and_then(|records| {
            fs::rename(Tables::database_path(&partial), Tables::database_path(path))
                .and_then(|()| fs::remove_dir(&partial))
                .and_then(|()| File::open(path)?.sync_all())
                .map_err(io)?;
            Ok(records)
        });
    if restored.is_err() {
        let removed = fs::remove_dir_all(&partial);
        let removed = removed.and_then(|()| DirectoryLock::remove(lock, path));
        if let Err(error) = removed {
            tracing::warn!(%error, "What was restored in part was not removed.");
        }
    }
    restored
}

fn fill(
    from: impl Read,
    partial: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, RestoreError> {
    let mut from = Summed {
        from: BufReader::new(from),
        sum: Xxh3::new(),
    };
    if from.take()? != MAGIC {
        return Err(RestoreError::Unknown("it begins with other bytes".into()));
    }
    let stream = u32::from_be_bytes(from.take()?);
    if stream != STREAM_VERSION {
        return Err(RestoreError::Unknown(format!(
            "its stream has version {stream}, known is {STREAM_VERSION}"
        )));
    }
    let format = u32::from_be_bytes(from.take()?);
    if format > FORMAT {
        return Err(RestoreError::Unknown(format!(
            "its store has format {format}, known is up to {FORMAT}"
        )));
    }
    let write = |error| RestoreError::Write(describe(&error));
    let tables = Tables::open(partial, &Settings::default())?;
    let mut records = 0_u64;
    let mut batch = tables.batch(BATCH);
    loop {
        let [keyspace] = from.take()?;
        if keyspace == END {
            break;
        }
        let all = tables.all();
        debug_assert!(all.iter().map(|(name, _)| *name).eq(KEYSPACES));
        let keyspace = all.get(usize::from(keyspace) - 1);
        let (_, keyspace) = keyspace.ok_or(RestoreError::Altered("a keyspace is not known"))?;
        let key = u32::from_be_bytes(from.take()?);
        let value = u32::from_be_bytes(from.take()?);
        if key == 0 || key > LONGEST_KEY || value > LONGEST_VALUE {
            return Err(RestoreError::Altered("a length makes no sense"));
        }
        let key = from.bytes(key)?;
        let value = from.bytes(value)?;
        batch.insert(keyspace, key, value);
        records += 1;
        if batch.len() == BATCH {
            let full = std::mem::replace(&mut batch, tables.batch(BATCH));
            tables.wait_for_room().map_err(write)?;
            full.commit().map_err(write)?;
        }
        if records.is_multiple_of(STEPS) {
            progress(records);
        }
    }
    if u64::from_be_bytes(from.take()?) != records {
        return Err(RestoreError::Altered("records are missing"));
    }
    let sum = from.sum.digest();
    if u64::from_be_bytes(from.take()?) != sum {
        return Err(RestoreError::Altered("the checksum differs"));
    }
    if from.from.read(&mut [0]).map_err(RestoreError::Read)? > 0 {
        return Err(RestoreError::Altered("something follows its end"));
    }
    batch.commit().map_err(write)?;
    tables.sync_all().map_err(write)?;
    Ok(records)
}

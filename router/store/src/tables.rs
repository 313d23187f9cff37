//! The open database: its keyspaces and what is asked of all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError,
    OwnedWriteBatch, PersistMode, Slice,
};

use crate::error::{OpenError, describe};
use crate::settings::Settings;

/// The newest format this engine knows.
pub(crate) const FORMAT: u32 = 1;

/// Of `meta`: the format of everything else.
pub(crate) const META_FORMAT: &str = "format";
/// Of `meta`: how often the store was opened.
pub(crate) const META_BOOT: &str = "boot";
/// Of `meta`: the number of the batch that wrote it.
pub(crate) const META_COMMIT: &str = "commit";
/// Of `meta`: the last sign of life, in milliseconds since the Unix epoch.
pub(crate) const META_ALIVE: &str = "alive";

/// fjall keeps a writer waiting without asking whether whoever it waits for has failed: once four
/// memtables wait to be written, or thirty runs to be merged. A commit adds two memtables at
/// the most, so that it never comes to that when it starts below these.
const MOST_SEALED: usize = 1;
const MOST_RUNS: usize = 18;
const ROOM_POLL: Duration = Duration::from_millis(2);

/// Changes from one format to the next, by the format they start from.
type Migration = fn(&Tables) -> Result<(), OpenError>;
const MIGRATIONS: &[Migration] = &[];
/// The first format [`MIGRATIONS`] starts from.
const OLDEST: u32 = 1;

/// The open database.
pub(crate) struct Tables {
    db: Database,
    pub(crate) meta: Keyspace,
    pub(crate) sessions: Keyspace,
    pub(crate) state: Keyspace,
    pub(crate) queue: Keyspace,
    pub(crate) bodies: Keyspace,
    pub(crate) retained: Keyspace,
}

impl Tables {
    /// Where the database of a store is.
    pub(crate) fn database_path(directory: &Path) -> PathBuf {
        directory.join("db")
    }

    /// Opens the database of the directory, or makes it.
    pub(crate) fn open(directory: &Path, settings: &Settings) -> Result<Self, OpenError> {
        let path = Self::database_path(directory);
        // fjall asserts what it expects of a directory.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_at(&path, settings)));
        match opened {
            Ok(opened) => opened.map_err(|error| OpenError::engine(directory, error)),
            Err(_) => Err(OpenError::damaged(
                directory,
                "the database does not hold what it should",
            )),
        }
    }

    /// Makes the database elsewhere and gives it its name when all of it is on the disk: fjall opens one whose
    /// making was interrupted in none or in a wrong way.
    pub(crate) fn make(directory: &Path, settings: &Settings) -> Result<(), OpenError> {
        let io = |error| OpenError::io(directory, error);
        let (new, path) = (directory.join("db.new"), Self::database_path(directory));
        if new.exists() {
            std::fs::remove_dir_all(&new).map_err(io)?;
        }
        drop(Self::open_at(&new, settings).map_err(|error| OpenError::engine(directory, error))?);
        let sync = |path: &Path| std::fs::File::open(path)?.sync_all();
        sync(&new.join("keyspaces")).map_err(io)?;
        sync(&new).map_err(io)?;
        std::fs::rename(&new, &path).map_err(io)?;
        sync(directory).map_err(io)
    }

    fn open_at(path: &Path, settings: &Settings) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(settings.cache_bytes)
            .max_journaling_size(settings.journal_bytes.max(64 << 20))
            .worker_threads(2)
            .manual_journal_persist(true)
            // Its checksum is of bytes compressed anew while they are read, which a newer version of the
            // compressor might make differently.
            .journal_compression(CompressionType::None)
            .open()?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(2 << 20);
        let large = || KeyspaceCreateOptions::default().max_memtable_size(settings.memtable_bytes);
        Ok(Self {
            meta: db.keyspace("meta", small)?,
            sessions: db.keyspace("sessions", small)?,
            state: db.keyspace("state", small)?,
            queue: db.keyspace("queue", large)?,
            bodies: db.keyspace("bodies", large)?,
            retained: db.keyspace("retained", small)?,
            db,
        })
    }

    /// All keyspaces, under their names.
    pub(crate) fn all(&self) -> [(&'static str, &Keyspace); 6] {
        [
            ("meta", &self.meta),
            ("sessions", &self.sessions),
            ("state", &self.state),
            ("queue", &self.queue),
            ("bodies", &self.bodies),
            ("retained", &self.retained),
        ]
    }

    /// A number of `meta`.
    pub(crate) fn number(&self, name: &str) -> fjall::Result<Option<u64>> {
        let value = self.meta.get(name)?;
        Ok(value.and_then(|v| v.as_ref().try_into().ok().map(u64::from_be_bytes)))
    }

    /// A value for the committer. One whose block is damaged is reported and taken for missing: the
    /// disk is not failing, and the next attempt would find the same.
    pub(crate) fn get(&self, keyspace: &Keyspace, key: &[u8]) -> fjall::Result<Option<Slice>> {
        match keyspace.get(key) {
            Err(error) if is_damage(&error) => {
                tracing::error!(
                    keyspace = &**keyspace.name(),
                    key = %key.escape_ascii(),
                    error = describe(&error),
                    "A block of the store is damaged; a record is lost.",
                );
                Ok(None)
            }
            other => other,
        }
    }

    /// An empty batch, which is buffered when it is committed.
    pub(crate) fn batch(&self, capacity: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.db.clone(), capacity)
            .durability(Some(PersistMode::Buffer))
    }

    /// A view that does not change.
    pub(crate) fn snapshot(&self) -> fjall::Snapshot {
        self.db.snapshot()
    }

    /// Forces what was written to the disk.
    pub(crate) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncData)
    }

    /// Forces what was written to the disk, with the sizes of files.
    pub(crate) fn sync_all(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncAll)
    }

    /// Waits until a batch can be written without waiting, or the engine fails. How long it took.
    pub(crate) fn wait_for_room(&self) -> fjall::Result<Duration> {
        if self.has_room() {
            return Ok(Duration::ZERO);
        }
        let start = Instant::now();
        while !self.has_room() {
            // Fails when a worker of the engine has.
            self.db.persist(PersistMode::Buffer)?;
            thread::sleep(ROOM_POLL);
        }
        Ok(start.elapsed())
    }

    fn has_room(&self) -> bool {
        self.all().iter().all(|(_, keyspace)| {
            keyspace.sealed_memtable_count() <= MOST_SEALED
                && keyspace.tree.l0_run_count() <= MOST_RUNS
        })
    }

    /// Bytes of journals on the disk.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.db.journal_disk_space().unwrap_or(0)
    }

    /// Bytes on the disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }

    /// Reads the format and brings an older one up to date. `None`: the store is new.
    pub(crate) fn migrate(&self, directory: &Path) -> Result<Option<u32>, OpenError> {
        let engine = |error| OpenError::engine(directory, error);
        let Some(value) = self.meta.get(META_FORMAT).map_err(engine)? else {
            return Ok(None);
        };
        let Some(found) = value.as_ref().try_into().ok().map(u32::from_be_bytes) else {
            return Err(OpenError::damaged(directory, "the format is no number"));
        };
        if found > FORMAT {
            return Err(OpenError::Newer {
                path: directory.to_owned(),
                found,
                known: FORMAT,
            });
        }
        if found < OLDEST {
            return Err(OpenError::damaged(
                directory,
                format!("format {found} never was"),
            ));
        }
        for (from, migration) in (OLDEST..).zip(MIGRATIONS) {
            if from >= found {
                migration(self)?;
            }
        }
        Ok(Some(found))
    }
}

/// Whether what was read is wrong, and not the reading.
pub(crate) const fn is_damage(error: &fjall::Error) -> bool {
    matches!(error, fjall::Error::Storage(inner) if !matches!(inner, LsmError::Io(_)))
}

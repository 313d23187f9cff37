//! What outlives the process: the engine, from the lock on its directory to the last sync.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tidegate_api::Check;
use tidegate_bus::MemoryStore;
use tidegate_store::{Progress, Recovered, Settings};

use crate::config::{Config, Engine, Store};

/// How often the log tells how far the start has come.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How often is looked whether the disk takes writes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where an engine has its files.
pub(crate) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// The engine of a gateway.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// Nothing is kept.
    Memory(Arc<MemoryStore>),
    /// On disk.
    Disk(Arc<tidegate_store::Engine>),
}

impl Kept {
    /// Opens the engine that the configuration names. It may take its time: journals are read again.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let Store {
            engine,
            sync,
            accept_loss,
        } = config.store;
        if engine == Engine::Memory {
            return Ok(Self::Memory(Arc::new(MemoryStore::new())));
        }
        let directory = directory(&config.node.data_dir);
        make(&directory)?;
        let settings = Settings {
            sync,
            accept_loss,
            progress: Some(Arc::new(teller())),
            ..Settings::default()
        };
        let engine = tidegate_store::Engine::open(&directory, settings)?;
        Ok(Self::Disk(Arc::new(engine)))
    }

    pub(crate) fn as_store(&self) -> Arc<dyn tidegate_bus::Store> {
        match self {
            Self::Memory(store) => Arc::clone(store) as _,
            Self::Disk(engine) => Arc::clone(engine) as _,
        }
    }

    /// The engine, when there is one on disk.
    pub(crate) const fn disk(&self) -> Option<&Arc<tidegate_store::Engine>> {
        match self {
            Self::Memory(_) => None,
            Self::Disk(engine) => Some(engine),
        }
    }

    /// Says what the start has found.
    pub(crate) fn tell_recovered(&self) {
        let Some(engine) = self.disk() else { return };
        let Recovered {
            sessions,
            subscriptions,
            retained,
            queued,
            in_flight,
            missing_batches,
            torn_bytes,
            corrupt,
            took,
            ..
        } = engine.recovered();
        tracing::info!(
            sessions,
            subscriptions,
            retained,
            queued,
            in_flight,
            seconds = took.as_secs_f64(),
            "Everything that was kept is back."
        );
        if torn_bytes > 0 {
            tracing::info!(
                bytes = torn_bytes,
                "An unfinished batch was cut off the journal: nothing in it was acknowledged."
            );
        }
        if missing_batches > 0 || corrupt > 0 {
            tracing::error!(
                missing_batches,
                corrupt_records = corrupt,
                "Something that was acknowledged is lost: look at `tidegate data verify`."
            );
        }
    }

    /// Keeps the health check true.
    pub(crate) async fn watch(self, check: Check) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.as_store().accepts() {
                Ok(()) => check.pass(),
                // Clients may still be sent here: QoS 0 flows on, and what waits is delivered.
                Err(error) => check.warn(format!("what must be kept is refused: {error}")),
            }
        }
    }

    /// Writes what is left and closes the files.
    pub(crate) async fn close(self) {
        if let Self::Disk(engine) = self
            && let Err(error) = tokio::task::spawn_blocking(move || engine.close()).await
        {
            tracing::error!(%error, "The store failed while it was closed.");
        }
    }
}

/// Makes the directory of a store, which is for the gateway's own user only.
pub(crate) fn make(directory: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("the directory {} cannot be made", directory.display()))
}

/// Logs how far the start has come, now and then.
fn teller() -> impl Fn(Progress) + Send + Sync {
    let told = Mutex::new(Instant::now());
    move |progress: Progress| {
        let mut told = told.lock();
        if told.elapsed() < TELL_EVERY {
            return;
        }
        *told = Instant::now();
        tracing::info!(
            sessions = progress.sessions,
            messages = progress.messages,
            percent = (progress.fraction * 100.0).round(),
            seconds_left = progress.left.as_secs(),
            "The store is being read."
        );
    }
}

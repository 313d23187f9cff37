//! `[store]`: what outlives the process, and how safely.

use std::time::Duration;

use super::reader::Section;
use super::values::Words;

/// Where sessions, queues and retained messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// On disk, in the data directory.
    Fjall,
    /// Nowhere: they end with the process.
    Memory,
}

/// The section `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// Where things are kept.
    pub(crate) engine: Engine,
    /// When they are forced to the disk.
    pub(crate) sync: tidegate_store::Sync,
    /// Start although something acknowledged is gone.
    pub(crate) accept_loss: bool,
}

const ENGINES: &Words<Engine> = &[("fjall", Engine::Fjall), ("memory", Engine::Memory)];

const SYNCS: &Words<bool> = &[("always", true), ("interval", false)];

pub(crate) fn read(section: &mut Section<'_>, bus: &mut tidegate_bus::Settings) -> Store {
    let engine = section.choice("engine", Engine::Fjall, ENGINES);
    let always = section.choice("sync", true, SYNCS);
    let interval = section.duration(
        "sync_interval",
        Duration::from_millis(100),
        Duration::from_millis(1)..=Duration::from_secs(60),
    );
    bus.queue_memory_bytes = section.size("queue_memory", bus.queue_memory_bytes, 0..=1 << 40);
    Store {
        engine,
        sync: if always {
            tidegate_store::Sync::Always
        } else {
            tidegate_store::Sync::Interval(interval)
        },
        accept_loss: section.boolean("accept_loss", false),
    }
}

//! The durable engine: what the bus must keep, on fjall.
//!
//! [`Engine`] implements [`tidegate_bus::Store`]. `docs/design/store.md` has the states, the invariants and
//! the layout on the disk. It is not a database for anybody else: keys and values are its own.
//!
//! To follow a change, read `engine.rs` (told), `intake.rs` (waiting), `committer.rs` (taken), `plan.rs`
//! (what it comes down to) and `writer.rs` (the batch); `walk.rs` gives everything back at the start.

mod backup;
mod body;
mod committer;
mod core;
mod engine;
mod error;
mod failure;
mod index;
mod intake;
mod journal;
mod key;
mod lock;
mod mark;
mod metrics;
mod op;
mod opening;
mod plan;
mod reader;
mod record;
mod restore;
mod session;
mod settings;
mod status;
mod tables;
mod verify;
mod walk;
mod writer;

pub use backup::BackupError;
pub use engine::Engine;
pub use error::OpenError;
pub use metrics::{Count, LATENCY_BOUNDS, Latency, Metrics};
pub use restore::{RestoreError, restore};
pub use settings::{Progress, ProgressHook, Settings, Sync};
pub use status::{Status, status};
pub use verify::{Verified, verify};
pub use walk::{CorruptRecord, Recovered};

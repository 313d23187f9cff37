//! What a power failure leaves of a store.
//!
//! A process that is killed loses nothing: the kernel still writes what it was given. A power failure
//! loses what was not synced, in any order. This suite records what a real engine does to its files
//! ([`record`], with the shim in `shim.c`), rebuilds the directory as a power failure would have left it, at many
//! moments and in many ways ([`disk`], [`choice`]), opens it with the engine ([`found`]) and holds what is there
//! against what was acknowledged by then ([`history`], [`rules`]).
//!
//! It runs on Linux on x86-64.

pub mod check;
pub mod child;
pub mod choice;
pub mod content;
pub mod disk;
pub mod failure;
pub mod found;
pub mod history;
pub mod log;
pub mod op;
pub mod plan;
pub mod random;
pub mod record;
pub mod rules;
pub mod run;
pub mod shrink;
pub mod state;
pub mod tree;
pub mod workload;

/// Bytes that must be free for a recording and what is rebuilt of it.
const ROOM: u64 = 3 << 30;

/// A directory for what is recorded and rebuilt; in memory where there is room, for there is much of it and
/// none of it is to last.
///
/// # Errors
///
/// When none can be made.
pub fn scratch() -> std::io::Result<tempfile::TempDir> {
    let memory = std::path::Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |s| s.f_bavail * s.f_frsize);
    let mut builder = tempfile::Builder::new();
    builder.prefix("tidegate-power-");
    if room > ROOM {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    }
}

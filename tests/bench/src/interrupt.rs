//! Ctrl-C, SIGTERM and SIGHUP: the run ends with what it has, and no process stays behind.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tidegate_tests::end_processes;

/// The exit code of a program that a signal ended.
const INTERRUPTED: i32 = 130;

static SEEN: AtomicBool = AtomicBool::new(false);

/// Begins to listen to the signals: the first one ends every broker and lets the run end, the second one
/// ends this process at once.
///
/// # Errors
///
/// If the signals cannot be listened to.
pub fn listen() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signals")?;
    thread::spawn(move || {
        for _ in signals.forever() {
            end_processes();
            if SEEN.swap(true, Ordering::Relaxed) {
                process::exit(INTERRUPTED);
            }
        }
    });
    Ok(())
}

/// Whether a signal came.
#[must_use]
pub fn is_interrupted() -> bool {
    SEEN.load(Ordering::Relaxed)
}

//! What the disk under the brokers does with a bare file: the measure of what must be kept.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::reply::{Appends, Durable};

/// How long each figure is measured.
const LASTS: Duration = Duration::from_secs(2);
/// The longest group of publishes, in bytes.
const LARGEST: u64 = 64 << 20;

/// Whether a directory is in memory only, where a sync costs nothing and keeps nothing.
///
/// # Errors
///
/// If the kernel does not say.
pub(crate) fn is_in_memory(directory: &Path) -> Result<bool> {
    let found = statfs(directory).with_context(|| format!("{}", directory.display()))?;
    Ok(found.filesystem_type() == TMPFS_MAGIC)
}

/// Appends, each followed by fdatasync, to a file in the directory: with a publish of `durable` each, and
/// with as many as the broker had for a sync.
///
/// # Errors
///
/// If the file cannot be written.
pub(crate) fn appends(directory: &Path, durable: &Durable) -> Result<Option<Appends>> {
    let Some(syncs) = durable.syncs.filter(|syncs| *syncs > 0) else {
        return Ok(None);
    };
    let group = (durable.acknowledged as f64 / syncs as f64).max(1.0);
    let bytes = (durable.bytes as f64 * group) as u64;
    Ok(Some(Appends {
        single: syncs_a_second(directory, durable.bytes)?,
        grouped: syncs_a_second(directory, bytes.min(LARGEST))? * group,
    }))
}

fn syncs_a_second(directory: &Path, bytes: u64) -> Result<f64> {
    let path = directory.join("bare");
    let named = || format!("{}", path.display());
    let mut file = File::create(&path).with_context(named)?;
    // Fits: at most `LARGEST`.
    let block = vec![b'.'; bytes as usize];
    let began = Instant::now();
    let mut syncs = 0_u32;
    while began.elapsed() < LASTS {
        file.write_all(&block).with_context(named)?;
        file.sync_data().with_context(named)?;
        syncs += 1;
    }
    let took = began.elapsed();
    std::fs::remove_file(&path).with_context(named)?;
    Ok(f64::from(syncs) / took.as_secs_f64())
}

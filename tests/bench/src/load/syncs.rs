//! How often the broker makes sure that what it wrote is on the disk: its own metrics tell.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tidegate_tests::try_get;

/// The metric that counts syncs.
const SYNCS: &str = "tidegate_store_sync_seconds_count";

/// Syncs so far; `None` if the broker does not tell.
pub(super) fn syncs(metrics: Option<SocketAddr>) -> Result<Option<u64>> {
    let Some(address) = metrics else {
        return Ok(None);
    };
    let response = try_get(address, "/metrics");
    let response = response.with_context(|| format!("metrics at {address}"))?;
    let status = response.status;
    ensure!(status == 200, "metrics at {address} answered with {status}");
    let mut lines = response.body.lines();
    let count = lines.find_map(|line| line.strip_prefix(SYNCS)?.trim().parse().ok());
    let count = count.with_context(|| format!("there is no {SYNCS} among the metrics"))?;
    Ok(Some(count))
}

/// Syncs between two looks.
pub(super) fn since(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    after?.checked_sub(before?)
}

//! The counters of the durable engine.

use std::fmt;

use tidegate_store::{LATENCY_BOUNDS, Latency, Metrics};

use super::writer::Writer;

pub(super) fn encode(m: &Metrics, out: &mut Writer<'_>) -> fmt::Result {
    out.gauge(
        "tidegate_store_accepting",
        "Whether what must be kept is accepted now: 1, or 0 while the disk fails",
        u64::from(m.is_accepting()),
    )?;
    histogram(
        out,
        "tidegate_store_commit_seconds",
        "From the moment a batch is taken to the moment it is kept, the sync included",
        &m.commit,
    )?;
    histogram(
        out,
        "tidegate_store_sync_seconds",
        "Duration of a sync",
        &m.sync,
    )?;
    out.counter("tidegate_store_commits", "Batches written", m.commits.get())?;
    out.counter(
        "tidegate_store_changes",
        "Changes told to the store; divided by commits, the size of a batch",
        m.changes.get(),
    )?;
    out.counter(
        "tidegate_store_cancelled",
        "Messages that were acknowledged before they had to be written",
        m.cancelled.get(),
    )?;
    out.counter(
        "tidegate_store_written_bytes",
        "Bytes of keys and values written",
        m.written_bytes.get(),
    )?;
    out.gauge(
        "tidegate_store_queue_changes",
        "Changes that wait to be written now",
        m.intake_changes.get(),
    )?;
    out.gauge(
        "tidegate_store_queue_bytes",
        "Their bytes",
        m.intake_bytes.get(),
    )?;
    out.counter(
        "tidegate_store_stalls",
        "Times the store waited for its tables",
        m.stalls.get(),
    )?;
    out.seconds(
        "tidegate_store_stalled_seconds",
        "How long it waited for them",
        m.stalled_nanos.get() as f64 / 1e9,
    )?;
    out.gauge(
        "tidegate_store_journal_bytes",
        "Bytes of the journals",
        m.journal_bytes.get(),
    )?;
    out.gauge(
        "tidegate_store_disk_bytes",
        "Bytes on disk, journals included",
        m.disk_bytes.get(),
    )?;
    out.counter(
        "tidegate_store_failures",
        "Writes and syncs that failed",
        m.failures.get(),
    )?;
    out.counter(
        "tidegate_store_corrupt_records",
        "Records that could not be read",
        m.corrupt.get(),
    )?;
    out.counter(
        "tidegate_store_read_messages",
        "Queued messages read back from disk",
        m.read_entries.get(),
    )
}

fn histogram(out: &mut Writer<'_>, name: &str, help: &str, latency: &Latency) -> fmt::Result {
    let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(latency.buckets()).collect();
    out.histogram(name, help, latency.sum(), &buckets)
}

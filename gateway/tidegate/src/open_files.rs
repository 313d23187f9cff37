//! Room for connections: each takes one open file, and the usual soft limit is 1,024 of them.

/// Raises the soft limit to the hard one and says so if `wanted` connections still do not fit.
pub(crate) fn raise_limit(wanted: usize) {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => tracing::info!(
            limit,
            wanted,
            "The system allows fewer open files than limits.max_connections; raise its hard limit \
             or connections beyond it are not accepted."
        ),
        Ok(limit) => tracing::debug!(limit, "The limit of open files is raised."),
        Err(error) => tracing::warn!(%error, "The limit of open files cannot be raised."),
    }
}

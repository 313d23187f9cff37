//! The limit of open files: each connection is one.

use crate::order::Workload;

/// Files that are no connections of the workload: standard streams, epoll, timer, and a second one for
/// each handshake under way.
const OTHERS: u64 = 16 + super::crowd::AT_ONCE as u64;

/// Files that a workload needs.
pub(super) fn needed(workload: &Workload) -> u64 {
    let connections = match workload {
        Workload::Traffic(traffic) => {
            let idle = traffic.idle_filters.div_ceil(super::filters::ON_ONE);
            u64::from(traffic.publishers) + u64::from(traffic.subscribers) + u64::from(idle)
        }
        Workload::Handshakes(handshakes) => handshakes.at_once.into(),
        Workload::Idle(idle) => idle.connections.into(),
        Workload::Retained(retained) => 1 + u64::from(retained.subscribers),
        Workload::Queues(queues) => u64::from(queues.publishers) + u64::from(queues.sessions),
        Workload::Sessions(_) => 0,
    };
    connections + OTHERS
}

/// Raises the soft limit; why the workload does not fit, if the hard limit is too low.
pub(super) fn raise(needed: u64) -> Result<(), String> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= needed => Ok(()),
        Ok(limit) => Err(format!(
            "{needed} open files are needed, the hard limit is {limit} (ulimit -Hn)"
        )),
        Err(error) => Err(format!("the limit of open files cannot be raised: {error}")),
    }
}

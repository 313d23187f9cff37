//! Sessions outlive the gateway.

use super::{Rule, Violation};
use crate::ledger::Ledger;

/// Session Present is asked for from the first acknowledgement on: CONNACK alone promises nothing about
/// the disk.
pub(super) fn present(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, session) in &ledger.sessions {
        let Some(first) = session.acknowledgements.first() else {
            continue;
        };
        let absent = session.connections.iter();
        let absent = absent.filter(|(at, present)| at > first && !present);
        found.extend(absent.map(|(at, _)| Violation {
            rule: Rule::SessionIsPresent,
            at: *at,
            message: None,
            client: Some((*client).to_owned()),
            text: format!("{client} came back and the gateway had no session of it"),
        }));
    }
    found
}

//! Exactly once is not twice.

use super::{Rule, Violation};
use crate::ledger::Ledger;

/// Wills are left out: they are published by the gateway, and a crash between that and the note of it
/// repeats them.
pub(super) fn once(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, session) in &ledger.sessions {
        let mut seen = std::collections::HashSet::new();
        for arrival in &session.arrivals {
            let will = ledger.messages.get(&arrival.message);
            let will = will.is_some_and(|message| message.will.is_some());
            if arrival.qos < 2 || arrival.retain || will || seen.insert(arrival.message) {
                continue;
            }
            found.push(Violation {
                rule: Rule::NothingTwice,
                at: arrival.at,
                message: Some(arrival.message),
                client: Some((*client).to_owned()),
                text: format!("{client} received message {} again", arrival.message),
            });
        }
    }
    found
}

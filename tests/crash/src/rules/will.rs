//! The wills of clients that a crash cuts off.

use super::{Rule, Violation};
use crate::ledger::{Ledger, Session};

const SECOND: u64 = 1_000_000;

/// When a crash has cut off this client, and when it came back after that.
fn cut_off(ledger: &Ledger<'_>, session: &Session<'_>) -> Vec<(u64, Option<u64>)> {
    let crashes = ledger.crashes.iter();
    crashes
        .filter(|crash| session.connections.iter().any(|(at, _)| at < crash))
        .map(|crash| {
            let mut later = session.connections.iter().map(|(at, _)| *at);
            (*crash, later.find(|at| at > crash))
        })
        .collect()
}

/// Asked of a will from the first acknowledgement after its CONNACK on. Clients with a will leave in no
/// other way than by a crash here.
pub(super) fn arrived(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, message) in &ledger.messages {
        let Some(owner) = ledger.sessions.get(message.publisher) else {
            continue;
        };
        let Some((connected, _)) = owner.connections.last() else {
            continue;
        };
        let mut proofs = owner.acknowledgements.iter();
        let Some(proof) = proofs.find(|at| *at > connected) else {
            continue;
        };
        let crash = ledger.crashes.iter().find(|crash| *crash > proof);
        let (Some(delay), Some(crash)) = (message.will, crash) else {
            continue;
        };
        for (client, session) in &ledger.sessions {
            let subscribed = session.granted(message.topic, message.sent).is_some();
            if subscribed && !session.counts.contains_key(number) && !session.forgot(*number) {
                found.push(Violation {
                    rule: Rule::WillArrives,
                    at: *crash,
                    message: Some(*number),
                    client: Some((*client).to_owned()),
                    text: format!(
                        "{} was cut off by a crash and did not come back, and {client} never received \
                         its will {number} (delay {delay} s)",
                        message.publisher
                    ),
                });
            }
        }
    }
    found
}

pub(super) fn spared(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, session) in &ledger.sessions {
        for arrival in &session.arrivals {
            let Some(message) = ledger.messages.get(&arrival.message) else {
                continue;
            };
            let (Some(delay), Some(owner)) = (message.will, ledger.sessions.get(message.publisher))
            else {
                continue;
            };
            let allowed = cut_off(ledger, owner).into_iter().any(|(crash, back)| {
                crash < arrival.at && back.is_none_or(|back| back >= crash + delay * SECOND)
            });
            if !allowed {
                found.push(Violation {
                    rule: Rule::WillIsSpared,
                    at: arrival.at,
                    message: Some(arrival.message),
                    client: Some((*client).to_owned()),
                    text: format!(
                        "{client} received will {} of {}, which came back within {delay} s each time",
                        arrival.message, message.publisher
                    ),
                });
            }
        }
    }
    found
}

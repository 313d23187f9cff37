//! First arrivals come in the order of sending.

use std::collections::{HashMap, HashSet};

use super::{Rule, Violation};
use crate::ledger::Ledger;

/// By topic and publisher. All messages of a topic have one QoS here, as the order is one per QoS
/// (section 4.6), and a publisher numbers its messages upwards. What a shared group divides has no order.
pub(super) fn kept(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, session) in &ledger.sessions {
        let (mut seen, mut last) = (HashSet::new(), HashMap::new());
        for arrival in &session.arrivals {
            let Some(message) = ledger.messages.get(&arrival.message) else {
                continue;
            };
            let plain = session.granted(message.topic, u64::MAX).is_some();
            if !plain || message.will.is_some() || arrival.retain || !seen.insert(arrival.message) {
                continue;
            }
            let last = last
                .entry((message.publisher, message.topic))
                .or_insert(arrival.message);
            if *last > arrival.message {
                found.push(Violation {
                    rule: Rule::OrderIsKept,
                    at: arrival.at,
                    message: Some(arrival.message),
                    client: Some((*client).to_owned()),
                    text: format!(
                        "message {} of {} came to {client} for the first time after message {last}, which \
                         was sent later to the same topic",
                        arrival.message, message.publisher
                    ),
                });
            }
            *last = arrival.message.max(*last);
        }
    }
    found
}

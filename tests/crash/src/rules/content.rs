//! What arrives is what was sent, and what is sent is taken.

use super::{Rule, Violation};
use crate::ledger::{Arrival, Ledger, Message, Session};

pub(super) fn kept(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, session) in &ledger.sessions {
        for arrival in &session.arrivals {
            let wrong = match ledger.messages.get(&arrival.message) {
                Some(message) => difference(session, message, arrival),
                None => Some("which nobody has sent".to_owned()),
            };
            found.extend(wrong.map(|wrong| Violation {
                rule: Rule::ContentIsKept,
                at: arrival.at,
                message: Some(arrival.message),
                client: Some((*client).to_owned()),
                text: format!("{client} received message {}, {wrong}", arrival.message),
            }));
        }
    }
    found
}

fn difference(session: &Session<'_>, sent: &Message<'_>, came: &Arrival<'_>) -> Option<String> {
    if came.topic != sent.topic {
        return Some(format!("at {} instead of {}", came.topic, sent.topic));
    }
    if (came.size, came.sum) != (sent.size, sent.sum) {
        return Some(format!(
            "{} bytes with CRC {:08x} instead of {} bytes with CRC {:08x}",
            came.size, came.sum, sent.size, sent.sum
        ));
    }
    // A session has one filter for a topic here.
    let granted = session.granted(sent.topic, came.at)?;
    let right = granted.min(sent.qos);
    (came.qos != right).then(|| format!("at QoS {} instead of {right}", came.qos))
}

pub(super) fn taken(ledger: &Ledger<'_>) -> Vec<Violation> {
    let refused = ledger.messages.iter().filter_map(|(number, message)| {
        let reason = message.refused?;
        Some(Violation {
            rule: Rule::NothingIsRefused,
            at: message.sent,
            message: Some(*number),
            client: Some(message.publisher.to_owned()),
            text: format!("message {number} was refused with reason code {reason:#04x}"),
        })
    });
    refused.collect()
}

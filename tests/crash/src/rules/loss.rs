//! What was acknowledged arrives.

use super::{Rule, Violation};
use crate::ledger::Ledger;

pub(super) fn none(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, session) in &ledger.sessions {
        if session.subscriptions.is_empty() {
            continue;
        }
        for (number, message) in &ledger.messages {
            let Some(acked) = message.acked else {
                continue;
            };
            // Without a payload there is no number to recognize it by.
            if message.size == 0
                || session.granted(message.topic, message.sent).is_none()
                || session.counts.contains_key(number)
                || session.forgot(*number)
            {
                continue;
            }
            found.push(Violation {
                rule: Rule::NothingIsLost,
                at: acked,
                message: Some(*number),
                client: Some((*client).to_owned()),
                text: format!(
                    "{client} has subscribed to {} and never received message {number}, which was \
                     acknowledged to {}",
                    message.topic, message.publisher
                ),
            });
        }
    }
    found
}

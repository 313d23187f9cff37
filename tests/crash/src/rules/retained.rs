//! The retained message of a topic is the last one.

use std::collections::BTreeMap;

use super::{Rule, Violation};
use crate::ledger::{Ledger, Look, Message};

/// At each look: one that was acknowledged before nothing was asked may only be replaced by a later one
/// that was sent. A topic has one publisher here, which numbers its messages upwards.
pub(super) fn last(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut topics: BTreeMap<&str, Vec<(u64, &Message<'_>)>> = BTreeMap::new();
    for (number, message) in &ledger.messages {
        if message.retain {
            topics
                .entry(message.topic)
                .or_default()
                .push((*number, message));
        }
    }
    let mut found = Vec::new();
    for look in &ledger.looks {
        for (topic, messages) in &topics {
            let there = look.found.get(*topic).copied();
            found.extend(wrong(look, messages, there).map(|text| Violation {
                rule: Rule::RetainedIsLast,
                at: look.at,
                message: there.or_else(|| acknowledged(look, messages)),
                client: None,
                text: format!("{topic}: {text}"),
            }));
        }
    }
    found
}

/// The last message that was acknowledged before the look.
fn acknowledged(look: &Look<'_>, messages: &[(u64, &Message<'_>)]) -> Option<u64> {
    let before = messages.iter();
    before
        .filter(|(_, message)| message.acked.is_some_and(|acked| acked < look.asked))
        .map(|(number, _)| *number)
        .next_back()
}

fn wrong(look: &Look<'_>, messages: &[(u64, &Message<'_>)], there: Option<u64>) -> Option<String> {
    let floor = acknowledged(look, messages);
    let mut possible = messages
        .iter()
        .filter(|(number, message)| Some(*number) >= floor && message.sent < look.at);
    match there {
        None if floor.is_none() => None,
        // One without a payload has removed it.
        None => (!possible.any(|(_, message)| message.size == 0)).then(|| {
            format!(
                "nothing is retained, but message {} was acknowledged",
                floor.unwrap_or_default()
            )
        }),
        Some(there) => {
            let fits = possible.any(|(number, message)| *number == there && message.size > 0);
            (!fits).then(|| match floor {
                Some(floor) => format!(
                    "message {there} is retained, but message {floor} is the last that was acknowledged"
                ),
                None => format!("message {there} is retained, which nobody has sent there"),
            })
        }
    }
}

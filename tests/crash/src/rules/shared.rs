//! A shared group as a whole receives each message.

use std::collections::BTreeMap;

use tidegate_model::matches;

use super::{Rule, Violation};
use crate::ledger::{Ledger, Session, Subscription};

/// A member and its subscription.
type Member<'l, 'a> = (&'a str, &'l Session<'a>, &'l Subscription<'a>);

/// The members of each group. A session has no plain subscription beside the shared one here, so what it
/// receives came through the group.
fn groups<'l, 'a>(ledger: &'l Ledger<'a>) -> BTreeMap<(&'a str, &'a str), Vec<Member<'l, 'a>>> {
    let mut groups: BTreeMap<_, Vec<Member<'l, 'a>>> = BTreeMap::new();
    for (client, session) in &ledger.sessions {
        for own in &session.subscriptions {
            if let Some(group) = own.group {
                let members = groups.entry((group, own.filter)).or_default();
                members.push((client, session, own));
            }
        }
    }
    groups
}

pub(super) fn at_least_once(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for ((group, filter), members) in groups(ledger) {
        for (number, message) in &ledger.messages {
            let Some(acked) = message.acked else {
                continue;
            };
            if message.size == 0 || !matches(filter, message.topic) {
                continue;
            }
            let there = members.iter().any(|(.., own)| own.at < message.sent);
            let came = members.iter().any(|(_, session, _)| {
                session.counts.contains_key(number) || session.forgot(*number)
            });
            if there && !came {
                found.push(Violation {
                    rule: Rule::SharedOnce,
                    at: acked,
                    message: Some(*number),
                    client: None,
                    text: format!(
                        "message {number} was acknowledged and reached no member of {group}"
                    ),
                });
            }
        }
    }
    found
}

pub(super) fn at_most_once(ledger: &Ledger<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for ((group, _), members) in groups(ledger) {
        let mut receivers: BTreeMap<u64, &str> = BTreeMap::new();
        for (client, session, _) in members {
            for arrival in &session.arrivals {
                if arrival.qos < 2 {
                    continue;
                }
                // Twice at one member is another rule's.
                let first = *receivers.entry(arrival.message).or_insert(client);
                if first != client {
                    found.push(Violation {
                        rule: Rule::SharedOnce,
                        at: arrival.at,
                        message: Some(arrival.message),
                        client: Some(client.to_owned()),
                        text: format!(
                            "message {} of QoS 2 reached {first} and {client} of {group}",
                            arrival.message
                        ),
                    });
                }
            }
        }
    }
    found
}

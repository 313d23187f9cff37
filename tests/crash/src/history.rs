//! The history of a violation, for people.

use std::fmt::Write;

use crate::event::{Event, What};
use crate::rules::Violation;

/// Lines of one history; more help nobody.
const LINES: usize = 60;

/// Crashes after the violation that are told: in them it may have come to it.
const CRASHES: usize = 2;

/// The round that this time is in, from 1: each ends with a kill.
#[must_use]
pub fn round(events: &[Event], at: u64) -> usize {
    let kills = events.iter();
    1 + kills
        .filter(|event| event.what == What::Killed && event.at < at)
        .count()
}

/// Everything that has happened to the message or, without one, to the client, and to the gateway
/// meanwhile.
#[must_use]
pub fn history(events: &[Event], violation: &Violation) -> String {
    let concerns = |event: &Event| match violation.message {
        Some(message) => event.what.message() == Some(message),
        None => {
            event.what.client() == violation.client.as_deref() && event.what.message().is_none()
        }
    };
    let begin = events.first().map_or(0, |event| event.at);
    let first = events.iter().find(|event| concerns(event));
    let first = first.map_or(0, |event| event.at);
    // What the client and the gateway did from the first of it to a little after the last.
    let last = events.iter().rfind(|event| concerns(event));
    let crashes = events.iter().filter(|event| event.what == What::Killed);
    let after = crashes.filter(|event| event.at > violation.at);
    let after = after.take(CRASHES).last().map_or(0, |event| event.at);
    let last = last
        .map_or(0, |event| event.at)
        .max(violation.at)
        .max(after);
    let around = |event: &Event| {
        let inside = (first..=last).contains(&event.at);
        let own = event.what.client() == violation.client.as_deref();
        let gateway = matches!(event.what, What::Started | What::Killed);
        inside && (gateway || (own && is_presence(&event.what)))
    };
    let before = |event: &Event| {
        let own = event.what.client() == violation.client.as_deref();
        own && matches!(event.what, What::Subscribed { .. })
    };
    let told: Vec<&Event> = events
        .iter()
        .filter(|event| concerns(event) || around(event) || before(event))
        .collect();
    let mut text = String::new();
    for event in told.iter().take(LINES) {
        let seconds = event.at.saturating_sub(begin) as f64 / 1e6;
        // Writing into a string cannot fail.
        let _ = writeln!(text, "    {seconds:10.6} s  {}", line(&event.what));
    }
    if told.len() > LINES {
        let _ = writeln!(text, "    ... and {} more", told.len() - LINES);
    }
    text
}

fn is_presence(what: &What) -> bool {
    matches!(
        what,
        What::Connected { .. } | What::Lost { .. } | What::Left { .. } | What::Died { .. }
    )
}

fn line(what: &What) -> String {
    match what {
        What::Started => "gateway ready".to_owned(),
        What::Killed => "gateway killed".to_owned(),
        What::Died { client } => format!("{client}: its process was killed"),
        What::Connected { client, present } => {
            format!(
                "{client}: connected, session present {}",
                u8::from(*present)
            )
        }
        What::TurnedAway { client, why } => format!("{client}: connection refused: {why}"),
        What::Lost { client, why } => format!("{client}: connection ended: {why}"),
        What::Left { client } => format!("{client}: stays away"),
        What::Subscribed { client, filters } => format!("{client}: SUBACK for {filters:?}"),
        What::Sent {
            client,
            message,
            topic,
            qos,
            retain,
            size,
            ..
        } => format!(
            "{client}: sent {message} to {topic}, QoS {qos}, retain {}, {size} bytes",
            u8::from(*retain)
        ),
        What::Acked { client, message } => format!("{client}: {message} acknowledged"),
        What::Refused {
            client,
            message,
            reason,
        } => format!("{client}: {message} refused, {reason:#04x}"),
        What::Willed {
            client,
            message,
            topic,
            qos,
            delay,
            ..
        } => {
            format!("{client}: connects with will {message} to {topic}, QoS {qos}, delay {delay} s")
        }
        What::Held { client, message } => format!("{client}: {message} taken, PUBREC follows"),
        What::Arrived {
            client,
            message,
            topic,
            qos,
            dup,
            retain,
            size,
            ..
        } => format!(
            "{client}: {} arrived at {topic}, QoS {qos}, DUP {}, retain {}, {size} bytes",
            message.map_or_else(|| "no payload".to_owned(), |message| message.to_string()),
            u8::from(*dup),
            u8::from(*retain)
        ),
        What::Kept { found, .. } => format!("{} topics have a retained message", found.len()),
    }
}

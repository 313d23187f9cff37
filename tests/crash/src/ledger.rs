//! The events by message and by session, for the rules to look at.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_model::matches;

use crate::event::{Event, What};

/// A message that was published, or a will.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) publisher: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) size: usize,
    pub(crate) sum: u32,
    /// When it was given to the client's library, or a CONNECT with it was about to be sent.
    pub(crate) sent: u64,
    pub(crate) acked: Option<u64>,
    pub(crate) refused: Option<u8>,
    /// The delay in seconds if it is a will.
    pub(crate) will: Option<u64>,
}

/// One arrival of a message at a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) at: u64,
    pub(crate) message: u64,
    pub(crate) topic: &'a str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) size: usize,
    pub(crate) sum: u32,
}

/// A subscription that was acknowledged.
#[derive(Debug)]
pub(crate) struct Subscription<'a> {
    pub(crate) at: u64,
    /// The name of its shared group.
    pub(crate) group: Option<&'a str>,
    pub(crate) filter: &'a str,
    pub(crate) qos: u8,
}

/// What has happened to one session.
#[derive(Debug, Default)]
pub(crate) struct Session<'a> {
    pub(crate) subscriptions: Vec<Subscription<'a>>,
    /// Each CONNACK: when, and whether a session was present.
    pub(crate) connections: Vec<(u64, bool)>,
    /// Each SUBACK, PUBACK and PUBCOMP.
    pub(crate) acknowledgements: Vec<u64>,
    /// In the order of their coming, retained copies included.
    pub(crate) arrivals: Vec<Arrival<'a>>,
    /// How often each message has arrived other than as a retained copy.
    pub(crate) counts: HashMap<u64, usize>,
    /// The last time each message was held.
    pub(crate) held: HashMap<u64, u64>,
    /// When its process was killed.
    pub(crate) deaths: Vec<u64>,
    /// Since when and at which QoS it has subscribed to each topic there is, without a group.
    plain: HashMap<&'a str, Vec<(u64, u8)>>,
}

impl Session<'_> {
    /// The QoS at which this topic is subscribed to without a group since before `at`; none if it is not.
    pub(crate) fn granted(&self, topic: &str, at: u64) -> Option<u8> {
        let own = self.plain.get(topic)?.iter();
        own.filter(|(since, _)| *since < at)
            .map(|(_, qos)| *qos)
            .max()
    }

    /// Whether it may have lost this message itself, by the death of its process.
    pub(crate) fn forgot(&self, message: u64) -> bool {
        let held = self.held.get(&message);
        held.is_some_and(|held| self.deaths.iter().any(|death| death > held))
    }
}

/// One look at the retained messages.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    pub(crate) asked: u64,
    pub(crate) at: u64,
    pub(crate) found: &'a BTreeMap<String, u64>,
}

/// Everything that has happened, by what it has happened to.
#[derive(Debug, Default)]
pub(crate) struct Ledger<'a> {
    pub(crate) messages: BTreeMap<u64, Message<'a>>,
    pub(crate) sessions: BTreeMap<&'a str, Session<'a>>,
    /// When the gateway was killed.
    pub(crate) crashes: Vec<u64>,
    pub(crate) looks: Vec<Look<'a>>,
}

impl<'a> Ledger<'a> {
    /// The events have to be in the order of their times.
    pub(crate) fn new(events: &'a [Event]) -> Self {
        let mut ledger = Self::default();
        for event in events {
            ledger.add(event);
        }
        // Topics are few, messages many.
        let topics: BTreeSet<&str> = ledger.messages.values().map(|sent| sent.topic).collect();
        for session in ledger.sessions.values_mut() {
            for own in &session.subscriptions {
                let topics = topics.iter().filter(|topic| matches(own.filter, topic));
                for topic in topics.filter(|_| own.group.is_none()) {
                    let plain = session.plain.entry(*topic).or_default();
                    plain.push((own.at, own.qos));
                }
            }
        }
        ledger
    }

    fn add(&mut self, event: &'a Event) {
        let at = event.at;
        if let Some(client) = event.what.client() {
            let session = self.sessions.entry(client).or_default();
            happened(session, at, &event.what);
        }
        match &event.what {
            What::Killed => self.crashes.push(at),
            What::Kept { asked, found } => self.looks.push(Look {
                asked: *asked,
                at,
                found,
            }),
            What::Sent {
                client,
                message,
                topic,
                qos,
                retain,
                size,
                sum,
            } => {
                let sent = Message {
                    publisher: client,
                    topic,
                    qos: *qos,
                    retain: *retain,
                    size: *size,
                    sum: *sum,
                    sent: at,
                    acked: None,
                    refused: None,
                    will: None,
                };
                self.messages.insert(*message, sent);
            }
            What::Willed {
                client,
                message,
                topic,
                qos,
                delay,
                size,
                sum,
            } => {
                let will = Message {
                    publisher: client,
                    topic,
                    qos: *qos,
                    retain: false,
                    size: *size,
                    sum: *sum,
                    sent: at,
                    acked: None,
                    refused: None,
                    will: Some(*delay),
                };
                self.messages.insert(*message, will);
            }
            What::Acked { message, .. } => {
                if let Some(message) = self.messages.get_mut(message) {
                    message.acked = Some(at);
                }
            }
            What::Refused {
                message, reason, ..
            } => {
                if let Some(message) = self.messages.get_mut(message) {
                    message.refused = Some(*reason);
                }
            }
            _ => {}
        }
    }
}

fn happened<'a>(session: &mut Session<'a>, at: u64, what: &'a What) {
    match what {
        What::Connected { present, .. } => session.connections.push((at, *present)),
        What::Acked { .. } => session.acknowledgements.push(at),
        What::Subscribed { filters, .. } => {
            session.acknowledgements.push(at);
            let granted = filters
                .iter()
                .map(|(filter, qos)| subscription(at, filter, *qos));
            session.subscriptions.extend(granted);
        }
        What::Held { message, .. } => {
            session.held.insert(*message, at);
        }
        What::Died { .. } => session.deaths.push(at),
        What::Arrived {
            message: Some(message),
            topic,
            qos,
            retain,
            size,
            sum,
            ..
        } => {
            if !retain {
                *session.counts.entry(*message).or_default() += 1;
            }
            session.arrivals.push(Arrival {
                at,
                message: *message,
                topic,
                qos: *qos,
                retain: *retain,
                size: *size,
                sum: *sum,
            });
        }
        _ => {}
    }
}

fn subscription(at: u64, filter: &str, qos: u8) -> Subscription<'_> {
    let shared = filter.strip_prefix("$share/");
    let (group, filter) = match shared.and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) => (Some(group), filter),
        None => (None, filter),
    };
    Subscription {
        at,
        group,
        filter,
        qos,
    }
}

//! What an engine holds after so many operations, as lines of text: one by one comparable, together a sum.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::op::{Body, Op};

/// How far an entry has come: not sent, sent, or received, with its packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits.
    Queued,
    /// PUBLISH may have left.
    Sent(u16),
    /// PUBREC has come.
    Received(u16),
}

/// A session.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Its name.
    pub session: u64,
    /// Its newest epoch.
    pub epoch: u64,
    /// Seconds it has.
    pub expiry: u32,
    /// When it ends, and when its will is due, while nobody is attached.
    pub away: Option<(u64, u64)>,
    /// The will.
    pub will: Option<Body>,
    /// Filters.
    pub filters: BTreeSet<String>,
    /// Packet identifiers that were not released.
    pub received: BTreeSet<u16>,
    /// What waits, by place.
    pub queue: BTreeMap<u64, (Stage, Body)>,
    /// The highest place.
    pub last: u64,
}

/// Lines, by what they are about, with their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    lines: BTreeMap<String, String>,
    sum: u64,
}

impl Lines {
    /// Says something, in place of what was said about it.
    pub fn set(&mut self, about: String, what: String) {
        self.remove(&about);
        self.sum = self.sum.wrapping_add(hash(&about, &what));
        self.lines.insert(about, what);
    }

    fn remove(&mut self, about: &str) {
        if let Some(what) = self.lines.remove(about) {
            self.sum = self.sum.wrapping_sub(hash(about, &what));
        }
    }

    fn remove_all(&mut self, prefix: &str) {
        let range = self.lines.range(prefix.to_owned()..);
        let keys: Vec<_> = range
            .map(|(about, _)| about.clone())
            .take_while(|about| about.starts_with(prefix))
            .collect();
        keys.iter().for_each(|about| self.remove(about));
    }

    /// The sum of all lines.
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// All lines.
    pub const fn all(&self) -> &BTreeMap<String, String> {
        &self.lines
    }
}

fn hash(about: &str, what: &str) -> u64 {
    xxh3_64(format!("{about}\0{what}").as_bytes())
}

/// The line of a session.
pub fn session_line(s: &Session) -> (String, String) {
    let presence = match s.away {
        None => "connected".to_owned(),
        Some((ends_at, will_at)) if s.will.is_some() => {
            format!("away until {ends_at}, will at {will_at}")
        }
        Some((ends_at, _)) => format!("away until {ends_at}"),
    };
    let will = s.will.map_or_else(|| "none".to_owned(), Body::text);
    let (session, epoch, expiry) = (s.session, s.epoch, s.expiry);
    let what =
        format!("session {session}, epoch {epoch}, expiry {expiry}, {presence}, will: {will}");
    ("session".to_owned(), what)
}

/// The line of an entry; `None`: without its message.
pub fn entry_line(place: u64, stage: Stage, body: Option<String>) -> (String, String) {
    let body = body.unwrap_or_else(|| "without its message".to_owned());
    (format!("queue {place:012}"), format!("{stage:?}, {body}"))
}

/// What an engine holds after so many operations.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Sessions by client.
    pub sessions: BTreeMap<String, Session>,
    /// Retained messages by topic.
    pub retained: BTreeMap<String, Body>,
    /// The same as lines.
    pub lines: Lines,
}

impl State {
    /// The state after all of `ops`.
    pub fn after<'a>(ops: impl IntoIterator<Item = &'a Op>) -> Self {
        let mut state = Self::default();
        ops.into_iter().for_each(|op| state.apply(op));
        state
    }

    /// Does what was told.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Attach {
                client,
                epoch,
                fresh,
                expiry,
                will,
            } => {
                if *fresh || !self.sessions.contains_key(client) {
                    self.forget(client);
                    let new = Session {
                        session: *epoch,
                        ..Session::default()
                    };
                    self.sessions.insert(client.clone(), new);
                }
                self.session(client, |s| {
                    s.epoch = *epoch;
                    s.expiry = *expiry;
                    s.will = *will;
                    s.away = None;
                });
            }
            Op::Detach {
                client,
                ends_at,
                will_at,
            } => self.session(client, |s| {
                s.away = Some((*ends_at, will_at.unwrap_or(u64::MAX)));
                if will_at.is_none() {
                    s.will = None;
                }
            }),
            Op::WillPublished(client) => self.session(client, |s| s.will = None),
            Op::End(client) => self.forget(client),
            Op::Subscribe(client, filter, owed) => {
                self.session(client, |s| s.filters.insert(filter.clone()));
                self.line(client, &format!("filter {filter}"), Some(owes(*owed)));
            }
            Op::RetainedSent(client, filter) => {
                self.line(client, &format!("filter {filter}"), Some(owes(false)));
            }
            Op::Unsubscribe(client, filter) => {
                self.session(client, |s| s.filters.remove(filter));
                self.line(client, &format!("filter {filter}"), None);
            }
            Op::Publish { body, to, origin } => self.publish(*body, to, origin.as_ref()),
            Op::Sent(client, place, id) => self.stage(client, *place, Stage::Sent(*id)),
            Op::Received(client, place) => {
                let stage = self.sessions.get(client).and_then(|s| s.queue.get(place));
                if let Some((Stage::Sent(id), _)) = stage.copied() {
                    self.stage(client, *place, Stage::Received(id));
                }
            }
            Op::Done(client, place) => {
                self.session(client, |s| s.queue.remove(place));
                self.line(client, &format!("queue {place:012}"), None);
            }
            Op::Released(client, id) => {
                self.session(client, |s| s.received.remove(id));
                self.line(client, &format!("received {id:05}"), None);
            }
            Op::Retain(topic, Some(body)) => {
                self.retained.insert(topic.clone(), *body);
                self.lines.set(format!("retained {topic}"), body.text());
            }
            Op::Retain(topic, None) => {
                self.retained.remove(topic);
                self.lines.remove(&format!("retained {topic}"));
            }
        }
    }

    fn session<T>(&mut self, client: &str, change: impl FnOnce(&mut Session) -> T) {
        if let Some(s) = self.sessions.get_mut(client) {
            change(s);
            let (about, what) = session_line(s);
            self.line(client, &about, Some(what));
        }
    }

    /// Says something about a client, or nothing any more.
    fn line(&mut self, client: &str, about: &str, what: Option<String>) {
        let about = format!("{client} {about}");
        match what {
            Some(what) => self.lines.set(about, what),
            None => self.lines.remove(&about),
        }
    }

    fn forget(&mut self, client: &str) {
        self.sessions.remove(client);
        self.lines.remove_all(&format!("{client} "));
    }

    fn publish(&mut self, body: Body, to: &[crate::op::Waiting], origin: Option<&(String, u16)>) {
        for one in to {
            let stage = one.sent.map_or(Stage::Queued, Stage::Sent);
            self.session(&one.client, |s| {
                s.queue.insert(one.place, (stage, body));
                s.last = s.last.max(one.place);
            });
            let (about, what) = entry_line(one.place, stage, Some(body.text()));
            self.line(&one.client, &about, Some(what));
        }
        if let Some((client, id)) = origin {
            self.session(client, |s| s.received.insert(*id));
            self.line(
                client,
                &format!("received {id:05}"),
                Some("not released".to_owned()),
            );
        }
    }

    fn stage(&mut self, client: &str, place: u64, stage: Stage) {
        let entry = self.sessions.get_mut(client);
        let Some(entry) = entry.and_then(|s| s.queue.get_mut(&place)) else {
            return;
        };
        entry.0 = stage;
        let needed = !matches!(stage, Stage::Received(_));
        let body = needed.then(|| entry.1.text());
        let (about, what) = entry_line(place, stage, body);
        self.line(client, &about, Some(what));
    }
}

/// Whether a subscription owes retained messages, in words.
pub fn owes(owed: bool) -> String {
    let owed = if owed { "owed" } else { "not owed" };
    format!("retained messages {owed}")
}

//! What an engine gives back of a directory.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_bus::{
    ClientId, Epoch, Message, Place, Presence, QueueEntry, QueueReader, Recovery, Stage, Store,
    StoreError, StoredSession,
};
use tidegate_store::{Engine, Settings};

use crate::op::Body;
use crate::state::{self, Lines, entry_line, owes, session_line};

/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// An entry as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEntry {
    /// Where it stands.
    pub place: u64,
    /// How far it has come.
    pub stage: state::Stage,
    /// Its message, in words.
    pub body: Option<String>,
}

/// A session as it was given back.
#[derive(Clone, Debug, Default)]
pub struct FoundSession {
    /// Whose.
    pub client: String,
    /// The session, without its queue.
    pub session: state::Session,
    /// Filters, and whether they owe retained messages.
    pub filters: Vec<(String, bool)>,
    /// What was said to be in flight.
    pub in_flight: Vec<u64>,
    /// How many were said to wait.
    pub queued: u64,
    /// What was read, in the order in which it came.
    pub entries: Vec<FoundEntry>,
}

/// What an engine gives back.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Sessions.
    pub sessions: Vec<FoundSession>,
    /// Retained messages.
    pub retained: Vec<(String, String)>,
    /// An epoch that was given out.
    pub epoch: u64,
    /// What was reported as damaged or missing.
    pub reported: Vec<String>,
}

impl Found {
    /// As lines, which compare with those of a state.
    pub fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        for s in &self.sessions {
            let client = &s.client;
            let mut say = |(about, what): (String, String)| {
                lines.set(format!("{client} {about}"), what);
            };
            say(session_line(&s.session));
            for (filter, owed) in &s.filters {
                say((format!("filter {filter}"), owes(*owed)));
            }
            for id in &s.session.received {
                say((format!("received {id:05}"), "not released".to_owned()));
            }
            for entry in &s.entries {
                say(entry_line(entry.place, entry.stage, entry.body.clone()));
            }
        }
        for (topic, body) in &self.retained {
            lines.set(format!("retained {topic}"), body.clone());
        }
        lines
    }
}

/// Why nothing was given back.
#[derive(Clone, Debug)]
pub struct NotOpened(pub String);

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Opens the engine of a directory and takes what it gives back.
///
/// # Errors
///
/// When the engine does not open, or fails to give back.
pub fn open(directory: &Path, settings: &Settings) -> Result<(Engine, Found), NotOpened> {
    let fail = |what: &str, error: &dyn fmt::Display| NotOpened(format!("{what}: {error}"));
    let engine = Engine::open(directory, settings.clone());
    let engine = engine.map_err(|error| fail("the engine does not open", &error))?;
    let mut found = Found::default();
    let recovered = engine.recover(&mut found);
    recovered.map_err(|error| fail("the engine does not recover", &error))?;
    for s in &mut found.sessions {
        let client = ClientId::new(&s.client).map_err(|error| fail("a client", &error))?;
        s.entries = read(&engine, &client, Epoch(s.session.session))
            .map_err(|error| fail("a queue does not read", &error))?;
    }
    let recovered = engine.recovered();
    for record in &recovered.corrupt_records {
        let (keyspace, key) = (record.keyspace, record.key.escape_ascii());
        let reason = &record.reason;
        let text = format!("a record of {keyspace}, {key}: {reason}");
        found.reported.push(text);
    }
    if recovered.missing_batches > 0 {
        let missing = recovered.missing_batches;
        found
            .reported
            .push(format!("{missing} batches are missing"));
    }
    found.epoch = claim(&engine).map_err(|error| fail("no epoch is given out", &error))?;
    Ok((engine, found))
}

/// A new epoch.
///
/// # Errors
///
/// Those of the engine.
pub fn claim(engine: &Engine) -> Result<u64, StoreError> {
    let client = ClientId::new("any").map_err(|e| StoreError::Failed(e.to_string().into()))?;
    let mut future = engine.claim(&client);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(claim) => claim.map(|claim| claim.epoch.0),
        Poll::Pending => Err(StoreError::Failed("a claim has to wait".into())),
    }
}

fn read(engine: &Engine, client: &ClientId, session: Epoch) -> Result<Vec<FoundEntry>, StoreError> {
    let (out, answer) = mpsc::channel();
    let entries = Vec::new();
    engine.read(client, session, Place(0), Box::new(Reader { entries, out }));
    match answer.recv_timeout(LIMIT) {
        Ok((entries, Ok(true))) => Ok(entries),
        Ok((_, Ok(false))) => Err(StoreError::Failed("it ends too early".into())),
        Ok((_, Err(error))) => Err(error),
        Err(error) => Err(StoreError::Failed(error.to_string().into())),
    }
}

type Answer = (Vec<FoundEntry>, Result<bool, StoreError>);

struct Reader {
    entries: Vec<FoundEntry>,
    out: mpsc::Sender<Answer>,
}

impl QueueReader for Reader {
    fn entry(&mut self, entry: QueueEntry, message: Option<Message<'_>>) -> ControlFlow<()> {
        let stage = match entry.stage {
            Stage::Queued => state::Stage::Queued,
            Stage::Sent(id) => state::Stage::Sent(id.get()),
            Stage::Received(id) => state::Stage::Received(id.get()),
        };
        let body = message.map(|message| Body::describe(message.payload));
        let place = entry.place.0;
        self.entries.push(FoundEntry { place, stage, body });
        ControlFlow::Continue(())
    }

    fn end(self: Box<Self>, result: Result<bool, StoreError>) {
        // Nobody waits any more when it took too long.
        let _ = self.out.send((self.entries, result));
    }
}

impl Recovery for Found {
    fn retained(&mut self, message: Message<'_>) {
        let topic = message.topic.to_string();
        self.retained.push((topic, Body::describe(message.payload)));
    }

    fn session(&mut self, stored: StoredSession) {
        let will = stored.will.as_ref().map(|will| {
            let payload = will.message.as_message().payload;
            let number = payload.first_chunk::<8>().copied();
            Body {
                number: number.map_or(0, u64::from_le_bytes),
                size: payload.len(),
            }
        });
        let away = match stored.presence {
            Presence::Connected(_) => None,
            Presence::Away { ends_at, will_at } => Some((ends_at.as_millis(), will_at.as_millis())),
        };
        let session = state::Session {
            session: stored.session.0,
            epoch: stored.epoch.0,
            expiry: stored.expiry,
            away,
            will,
            received: stored
                .received
                .iter()
                .copied()
                .map(NonZeroU16::get)
                .collect(),
            last: stored.last_place.0,
            ..state::Session::default()
        };
        let filters = stored.subscriptions.iter();
        self.sessions.push(FoundSession {
            client: stored.client.to_string(),
            session,
            filters: filters
                .map(|s| (s.filter.to_string(), s.retained_owed))
                .collect(),
            in_flight: stored.in_flight.iter().map(|e| e.place.0).collect(),
            queued: stored.queued.messages,
            entries: Vec::new(),
        });
    }
}

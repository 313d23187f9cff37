//! Everything that was kept, once over: for the bus, which gets it back, and for the committer, which
//! holds an index of it.

use std::iter::Peekable;
use std::time::{Duration, Instant};

use fjall::{Guard, Readable, Slice};
use tidegate_bus::{
    Backlog, ClientId, Message, Place, QueueEntry, Recovery, Stage, StoredSession,
    StoredSubscription, Timestamp,
};

use crate::body::decode_body;
use crate::index::Index;
use crate::intake::{Owner, Owners};
use crate::key;
use crate::metrics::Metrics;
use crate::record::{BodyPlace, DecodeError, EntryRecord, SubscriptionRecord, filter};
use crate::session::SessionRecord;
use crate::settings::{Progress, ProgressHook};
use crate::tables::{META_ALIVE, Tables};
use crate::writer::report;

/// So many records that do not read are named in [`Recovered`]; the rest is counted.
const NAMED: usize = 100;
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Room is made at once for so many sessions at the most.
const MOST_EXPECTED: usize = 1 << 20;

/// A record that does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptRecord {
    /// Of which keyspace.
    pub keyspace: &'static str,
    /// Its key.
    pub key: Vec<u8>,
    /// What is wrong with it.
    pub reason: String,
}

/// What a start has found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions of them.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages that wait for their turn.
    pub queued: u64,
    /// Messages in flight.
    pub in_flight: u64,
    /// Batches that were acknowledged and are gone; only with [`crate::Settings::accept_loss`].
    pub missing_batches: u64,
    /// Bytes of an unfinished batch that were cut off the journal, which is usual after a crash.
    pub torn_bytes: u64,
    /// Records that do not read.
    pub corrupt: u64,
    /// The first hundred of them.
    pub corrupt_records: Vec<CorruptRecord>,
    /// How long it took.
    pub took: Duration,
}

/// What a walk leaves.
pub(crate) struct Walked {
    pub(crate) index: Index,
    pub(crate) owners: Owners,
    pub(crate) recovered: Recovered,
}

/// Wants nothing back.
pub(crate) struct Nobody;

impl Recovery for Nobody {
    fn retained(&mut self, _: Message<'_>) {}

    fn session(&mut self, _: StoredSession) {}
}

/// Walks over everything and gives it to `sink`.
pub(crate) fn walk(
    tables: &Tables,
    sink: &mut dyn Recovery,
    hook: Option<&ProgressHook>,
    metrics: &Metrics,
) -> fjall::Result<Walked> {
    let total = tables.all().iter().map(|(_, k)| k.approximate_len()).sum();
    let mut walk = Walk {
        index: Index::default(),
        recovered: Recovered::default(),
        metrics,
        meter: Meter::new(hook, total),
    };
    let snapshot = tables.snapshot();
    let alive = tables
        .number(META_ALIVE)?
        .map_or_else(|| Timestamp::from_millis(0), Timestamp::from_millis);
    for guard in snapshot.iter(&tables.retained) {
        let (key, value) = guard.into_inner()?;
        walk.meter.step(&walk.recovered);
        match decode_body(&value) {
            Ok(message) if message.topic.as_str().as_bytes() == &*key => {
                walk.recovered.retained += 1;
                sink.retained(message);
            }
            Ok(_) => walk.corrupt("retained", &key, DecodeError::Malformed),
            Err(error) => walk.corrupt("retained", &key, error),
        }
    }
    // The number counts what was deleted, too.
    let expected = tables.sessions.approximate_len().min(MOST_EXPECTED);
    let mut sessions = Vec::with_capacity(expected);
    for guard in snapshot.iter(&tables.sessions) {
        let (key, value) = guard.into_inner()?;
        walk.meter.step(&walk.recovered);
        let client = std::str::from_utf8(&key).ok();
        let client = client.and_then(|text| ClientId::new(text).ok());
        match (client, SessionRecord::decode(&value)) {
            // Read again in its turn: together the records would be most of what a start needs.
            (Some(client), Ok(record)) => sessions.push((record.session, client)),
            (None, Ok(_)) => walk.corrupt("sessions", &key, DecodeError::Malformed),
            (_, Err(error)) => walk.corrupt("sessions", &key, error),
        }
    }
    let unknown = walk
        .recovered
        .corrupt_records
        .iter()
        .any(|record| record.keyspace == "sessions");
    // In the order of the two keyspaces whose keys begin with the session.
    sessions.sort_unstable_by_key(|(session, _)| *session);
    let mut state = snapshot.iter(&tables.state).peekable_by_session();
    let mut queue = snapshot.iter(&tables.queue).peekable_by_session();
    let mut owners = Owners::with_capacity(sessions.len());
    walk.index.live.reserve(sessions.len());
    for (number, client) in sessions {
        walk.left_before(number, &mut state, &mut queue)?;
        let value = snapshot.get(&tables.sessions, client.as_str())?;
        let record = value.map(|value| SessionRecord::decode(&value));
        // It was there and was read a moment ago, and a snapshot does not change.
        let Some(Ok(record)) = record else { continue };
        let owner = Owner {
            session: record.session,
            epoch: record.epoch,
        };
        owners.set(&client, owner);
        let (mut session, will_lost) = record.to_session(client, alive);
        if will_lost {
            let key = session.client.as_str().as_bytes().to_vec();
            walk.corrupt("sessions", &key, DecodeError::Malformed);
        }
        while let Some((key, value)) = state.next_of(record.session)? {
            walk.meter.step(&walk.recovered);
            if let Err(error) = walk.state(&mut session, &key, &value) {
                walk.corrupt("state", &key, error);
            }
        }
        while let Some((key, value)) = queue.next_of(record.session)? {
            walk.meter.step(&walk.recovered);
            if let Err(error) = walk.entry(&mut session, &key, &value) {
                walk.corrupt("queue", &key, error);
            }
        }
        walk.index.begin(record.session);
        walk.index.reach(record.session, session.last_place.0);
        walk.recovered.sessions += 1;
        walk.recovered.subscriptions += session.subscriptions.len() as u64;
        sink.session(session);
    }
    walk.left_before(u64::MAX, &mut state, &mut queue)?;
    walk.index.counted();
    if unknown && !walk.index.ended.is_empty() {
        tracing::warn!(
            sessions = walk.index.ended.len(),
            "What may belong to sessions that do not read is left where it is.",
        );
        walk.index.spare();
    }
    walk.recovered.took = walk.meter.start.elapsed();
    walk.meter.end(&walk.recovered);
    Ok(Walked {
        index: walk.index,
        owners,
        recovered: walk.recovered,
    })
}

struct Walk<'a> {
    index: Index,
    recovered: Recovered,
    metrics: &'a Metrics,
    meter: Meter<'a>,
}

impl Walk<'_> {
    fn corrupt(&mut self, keyspace: &'static str, key: &[u8], error: DecodeError) {
        report(self.metrics, keyspace, key, &error);
        self.recovered.corrupt += 1;
        if self.recovered.corrupt_records.len() < NAMED {
            self.recovered.corrupt_records.push(CorruptRecord {
                keyspace,
                key: key.to_vec(),
                reason: error.to_string(),
            });
        }
    }

    fn state(
        &mut self,
        session: &mut StoredSession,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), DecodeError> {
        let (_, kind, rest) = key::parse_state(key).ok_or(DecodeError::Malformed)?;
        match kind {
            key::SUBSCRIPTION | key::LONG_SUBSCRIPTION => {
                let record = SubscriptionRecord::decode(value)?;
                let text = match record.filter {
                    Some(text) => text,
                    None => std::str::from_utf8(rest).map_err(|_| DecodeError::Malformed)?,
                };
                session.subscriptions.push(StoredSubscription {
                    filter: filter(text)?,
                    options: record.options()?,
                    identifier: record.identifier,
                    retained_owed: record.retained_owed,
                });
            }
            key::RECEIVED => {
                let id = rest.try_into().map(u16::from_be_bytes).ok();
                let id = id.and_then(std::num::NonZeroU16::new);
                session.received.push(id.ok_or(DecodeError::Malformed)?);
            }
            _ => return Err(DecodeError::Malformed),
        }
        Ok(())
    }

    fn entry(
        &mut self,
        session: &mut StoredSession,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), DecodeError> {
        let (_, place) = key::parse_queue(key).ok_or(DecodeError::Malformed)?;
        session.last_place = session.last_place.max(Place(place));
        let record = self.reference(value)?;
        if record.stage() == Stage::Queued {
            let queued = &mut session.queued;
            if queued.messages == 0 {
                queued.first = Place(place);
            }
            *queued = Backlog {
                first: queued.first,
                last: Place(place),
                messages: queued.messages + 1,
                bytes: queued.bytes + u64::from(record.size),
            };
            self.recovered.queued += 1;
        } else {
            let entry: QueueEntry = record.into_entry(place)?;
            session.in_flight.push(entry);
            self.recovered.in_flight += 1;
        }
        Ok(())
    }

    /// Decodes an entry and counts what it refers to.
    fn reference<'a>(&mut self, value: &'a [u8]) -> Result<EntryRecord<'a>, DecodeError> {
        let (record, _) = EntryRecord::decode(value)?;
        if let BodyPlace::Shared(number) = record.body {
            self.index.count(number);
        }
        Ok(record)
    }

    /// What is in front of a session belongs to sessions that do not exist any more.
    fn left_before<S, Q>(
        &mut self,
        session: u64,
        state: &mut BySession<S>,
        queue: &mut BySession<Q>,
    ) -> fjall::Result<()>
    where
        S: Iterator<Item = Guard>,
        Q: Iterator<Item = Guard>,
    {
        while let Some((key, _)) = state.next_before(session)? {
            self.index.left(session_of(&key));
        }
        while let Some((key, value)) = queue.next_before(session)? {
            self.index.left(session_of(&key));
            if let Err(error) = self.reference(&value) {
                self.corrupt("queue", &key, error);
            }
        }
        Ok(())
    }
}

fn session_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |b| u64::from_be_bytes(*b))
}

/// A keyspace whose keys begin with the session, session by session.
struct BySession<I: Iterator<Item = Guard>> {
    rest: Peekable<PairsOf<I>>,
}

struct PairsOf<I>(I);

impl<I: Iterator<Item = Guard>> Iterator for PairsOf<I> {
    type Item = fjall::Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Guard::into_inner)
    }
}

trait PeekableBySession: Iterator<Item = Guard> + Sized {
    fn peekable_by_session(self) -> BySession<Self> {
        BySession {
            rest: PairsOf(self).peekable(),
        }
    }
}

impl<I: Iterator<Item = Guard>> PeekableBySession for I {}

impl<I: Iterator<Item = Guard>> BySession<I> {
    fn next_if(&mut self, wanted: impl Fn(u64) -> bool) -> fjall::Result<Option<(Slice, Slice)>> {
        let next = self.rest.next_if(|pair| {
            pair.as_ref()
                .map_or(true, |(key, _)| wanted(session_of(key)))
        });
        next.transpose()
    }

    fn next_of(&mut self, session: u64) -> fjall::Result<Option<(Slice, Slice)>> {
        self.next_if(|s| s == session)
    }

    fn next_before(&mut self, session: u64) -> fjall::Result<Option<(Slice, Slice)>> {
        self.next_if(|s| s < session)
    }
}

/// Tells how far it has come, a few times a second.
struct Meter<'a> {
    hook: Option<&'a ProgressHook>,
    total: usize,
    seen: usize,
    start: Instant,
    told: Instant,
}

impl<'a> Meter<'a> {
    fn new(hook: Option<&'a ProgressHook>, total: usize) -> Self {
        let now = Instant::now();
        Self {
            hook,
            total,
            seen: 0,
            start: now,
            told: now,
        }
    }

    fn step(&mut self, recovered: &Recovered) {
        self.seen += 1;
        if self.hook.is_none() || !self.seen.is_multiple_of(1_024) {
            return;
        }
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            self.tell(
                recovered,
                self.seen as f64 / self.total.max(self.seen) as f64,
            );
        }
    }

    fn end(&self, recovered: &Recovered) {
        self.tell(recovered, 1.0);
    }

    fn tell(&self, recovered: &Recovered, fraction: f64) {
        let Some(hook) = self.hook else { return };
        let left = self.start.elapsed().mul_f64((1.0 - fraction) / fraction);
        hook(Progress {
            sessions: recovered.sessions,
            messages: recovered.retained + recovered.queued + recovered.in_flight,
            fraction,
            left,
        });
    }
}

//! From a plan to a batch.

use std::num::NonZeroU16;
use std::sync::Arc;

use fjall::{Guard, Keyspace, OwnedWriteBatch, Slice};
use tidegate_bus::{Stage, StoredMessage};

use crate::body::encode_body;
use crate::index::Index;
use crate::key;
use crate::metrics::Metrics;
use crate::op::Op;
use crate::plan::{Body, Entry, Identifier, Plan, Subscription};
use crate::record::{BodyPlace, EntryRecord, SubscriptionRecord};
use crate::tables::{META_ALIVE, META_COMMIT, Tables, is_damage};

/// A message up to this size stands in the entry of the only session that waits for it.
const LARGEST_INLINE: usize = 1_024;

/// Records of ended sessions that are removed with one batch.
const SLICE: usize = 1_000;

/// To look whether a session has left anything costs as much as so many records.
const LOOK: usize = 8;

/// A batch, and the bytes in it.
pub(crate) struct Batch {
    inner: OwnedWriteBatch,
    bytes: u64,
}

impl Batch {
    fn new(tables: &Tables, capacity: usize, commit: u64) -> Self {
        let mut batch = Self {
            inner: tables.batch(capacity),
            bytes: 0,
        };
        // The first of every batch, by which the journal is checked.
        batch.insert(&tables.meta, META_COMMIT, commit.to_be_bytes());
        batch
    }

    fn insert(&mut self, keyspace: &Keyspace, key: impl Into<Slice>, value: impl Into<Slice>) {
        let (key, value): (Slice, Slice) = (key.into(), value.into());
        self.bytes += (key.len() + value.len()) as u64;
        self.inner.insert(keyspace, key, value);
    }

    fn remove(&mut self, keyspace: &Keyspace, key: impl Into<Slice>) {
        let key: Slice = key.into();
        self.bytes += key.len() as u64;
        self.inner.remove(keyspace, key);
    }

    /// Writes it, without a sync.
    pub(crate) fn commit(self, metrics: &Metrics) -> fjall::Result<()> {
        metrics.written_bytes.add(self.bytes);
        self.inner.commit()
    }
}

/// A batch in the making, and what it is made for.
struct Target<'a> {
    tables: &'a Tables,
    batch: Batch,
    index: &'a mut Index,
}

impl Target<'_> {
    /// An entry needs its message no more; with the last one the body goes.
    fn release(&mut self, body: BodyPlace) {
        if let BodyPlace::Shared(number) = body
            && self.index.release(number)
        {
            self.batch.remove(&self.tables.bodies, key::body(number));
        }
    }
}

/// Makes batches. Keeps its buffers.
pub(crate) struct Writer {
    value: Vec<u8>,
    key: Vec<u8>,
    next_body: u64,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// A writer whose bodies are numbered from here.
    pub(crate) const fn new(next_body: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            value: Vec::new(),
            key: Vec::new(),
            next_body,
            metrics,
        }
    }

    /// A batch that says nothing but that the process lives.
    pub(crate) fn sign_of_life(tables: &Tables, commit: u64, alive: u64) -> Batch {
        let mut batch = Batch::new(tables, 2, commit);
        batch.insert(&tables.meta, META_ALIVE, alive.to_be_bytes());
        batch
    }

    /// The batch of a plan, with a slice of what ended sessions left behind; `None` when nothing
    /// changes. `alive` goes with it when there is one.
    pub(crate) fn write(
        &mut self,
        tables: &Tables,
        plan: &mut Plan,
        ops: &[Op],
        index: &mut Index,
        commit: u64,
        alive: Option<u64>,
    ) -> fjall::Result<Option<Batch>> {
        let mut target = Target {
            tables,
            batch: Batch::new(tables, plan.sorted.len() * 2 + 8, commit),
            index,
        };
        for ((session, place), entry) in &plan.sorted {
            let key = key::queue(*session, *place);
            self.entry(&mut target, &mut plan.bodies, ops, key, *entry)?;
        }
        for ((session, filter), subscription) in &plan.subscriptions {
            key::subscription(*session, filter, &mut self.key);
            self.subscription(&mut target, ops, *subscription)?;
        }
        let batch = &mut target.batch;
        for (&(session, packet_id), identifier) in &plan.identifiers {
            let key = key::received(session, packet_id);
            match identifier {
                Identifier::New | Identifier::Used => batch.insert(&tables.state, key, []),
                Identifier::Free => batch.remove(&tables.state, key),
            }
        }
        for (client, session) in &mut plan.sessions {
            match &mut session.record {
                Some(record) => {
                    let reached = target.index.live.get(&record.session);
                    record.last_place = reached.copied().unwrap_or(0);
                    self.value.clear();
                    record.encode(&mut self.value);
                    batch.insert(&tables.sessions, client.as_str(), self.value.as_slice());
                }
                None if session.on_disk => batch.remove(&tables.sessions, client.as_str()),
                None => {}
            }
        }
        for (topic, op) in &plan.retained {
            match message_of(ops, *op) {
                Some(message) => {
                    self.value.clear();
                    encode_body(&message.as_message(), &mut self.value);
                    batch.insert(&tables.retained, &**topic, self.value.as_slice());
                }
                None => batch.remove(&tables.retained, &**topic),
            }
        }
        self.sweep(&mut target)?;
        let mut batch = target.batch;
        if batch.inner.len() == 1 {
            return Ok(None);
        }
        if let Some(alive) = alive {
            batch.insert(&tables.meta, META_ALIVE, alive.to_be_bytes());
        }
        Ok(Some(batch))
    }

    fn entry(
        &mut self,
        target: &mut Target<'_>,
        bodies: &mut [Body],
        ops: &[Op],
        key: [u8; 16],
        entry: Entry,
    ) -> fjall::Result<()> {
        let Entry::New {
            reference,
            body,
            stage,
        } = entry
        else {
            return self.old_entry(target, key, entry);
        };
        let (Some(Op::Reference { entry, .. }), Some(planned)) =
            (ops.get(reference as usize), bodies.get_mut(body as usize))
        else {
            return Ok(());
        };
        let Some(message) = message_of(ops, planned.op) else {
            return Ok(());
        };
        let size = message.size();
        let body = if matches!(stage, Stage::Received(_)) {
            BodyPlace::Gone
        } else if planned.references == 1 && size <= LARGEST_INLINE {
            BodyPlace::Here
        } else if let Some(number) = planned.number {
            BodyPlace::Shared(number)
        } else {
            let number = self.next_body;
            self.next_body += 1;
            planned.number = Some(number);
            self.value.clear();
            encode_body(&message.as_message(), &mut self.value);
            let bodies = &target.tables.bodies;
            target
                .batch
                .insert(bodies, key::body(number), self.value.as_slice());
            target.index.shared(number, planned.references);
            BodyPlace::Shared(number)
        };
        self.value.clear();
        EntryRecord::new(entry, stage, size as u32, body).encode(&mut self.value);
        if body == BodyPlace::Here {
            encode_body(&message.as_message(), &mut self.value);
        }
        let queue = &target.tables.queue;
        target.batch.insert(queue, key, self.value.as_slice());
        Ok(())
    }

    /// A change to an entry that is on the disk, or is not there any more.
    fn old_entry(
        &mut self,
        target: &mut Target<'_>,
        key: [u8; 16],
        entry: Entry,
    ) -> fjall::Result<()> {
        let tables = target.tables;
        let Some(value) = tables.get(&tables.queue, &key)? else {
            return Ok(());
        };
        let (mut record, mut rest) = match EntryRecord::decode(&value) {
            Ok(decoded) => decoded,
            Err(error) => {
                report(&self.metrics, "queue", &key, &error);
                if matches!(entry, Entry::Done) {
                    target.batch.remove(&tables.queue, key);
                }
                return Ok(());
            }
        };
        match entry {
            Entry::Sent(packet_id) => record.set_stage(Stage::Sent(packet_id)),
            Entry::Received(packet_id) => {
                let Some(packet_id) = packet_id.or_else(|| identifier(record.stage())) else {
                    return Ok(());
                };
                record.set_stage(Stage::Received(packet_id));
                target.release(record.body);
                record.body = BodyPlace::Gone;
                rest = &[];
            }
            Entry::Done => {
                target.release(record.body);
                target.batch.remove(&tables.queue, key);
                return Ok(());
            }
            Entry::New { .. } => return Ok(()),
        }
        self.value.clear();
        record.encode(&mut self.value);
        self.value.extend_from_slice(rest);
        target
            .batch
            .insert(&tables.queue, key, self.value.as_slice());
        Ok(())
    }

    /// A change to the subscription under `self.key`.
    fn subscription(
        &mut self,
        target: &mut Target<'_>,
        ops: &[Op],
        subscription: Subscription,
    ) -> fjall::Result<()> {
        let tables = target.tables;
        let key = self.key.as_slice();
        self.value.clear();
        match subscription {
            Subscription::Ended => {
                target.batch.remove(&tables.state, key);
                return Ok(());
            }
            Subscription::Made { op, retained_owed } => {
                let Some(Op::Subscribed {
                    filter,
                    options,
                    identifier,
                    ..
                }) = ops.get(op as usize)
                else {
                    return Ok(());
                };
                let long = key::is_long(filter).then(|| filter.as_str());
                SubscriptionRecord::new(*options, *identifier, retained_owed, long)
                    .encode(&mut self.value);
            }
            Subscription::RetainedSent => {
                let Some(value) = tables.get(&tables.state, key)? else {
                    return Ok(());
                };
                match SubscriptionRecord::decode(&value) {
                    Ok(mut record) => {
                        record.retained_owed = false;
                        record.encode(&mut self.value);
                    }
                    Err(error) => {
                        report(&self.metrics, "state", key, &error);
                        return Ok(());
                    }
                }
            }
        }
        target
            .batch
            .insert(&tables.state, key, self.value.as_slice());
        Ok(())
    }

    /// Removes a slice of what ended sessions left behind.
    fn sweep(&self, target: &mut Target<'_>) -> fjall::Result<()> {
        let tables = target.tables;
        let mut left = SLICE;
        while let Some(rest) = target.index.ended.front().copied() {
            let range = key::queue(rest.session, rest.from)..=key::queue(rest.session, u64::MAX);
            let mut from = rest.from;
            for guard in tables.queue.range(range).take(left) {
                let Some((key, value)) = undamaged(guard, &self.metrics)? else {
                    break;
                };
                left -= 1;
                if let Ok((record, _)) = EntryRecord::decode(&value) {
                    target.release(record.body);
                }
                from =
                    key::parse_queue(&key).map_or(u64::MAX, |(_, place)| place.saturating_add(1));
                target.batch.remove(&tables.queue, key);
                self.metrics.swept.add(1);
            }
            for guard in tables.state.prefix(rest.session.to_be_bytes()).take(left) {
                let Some((key, _)) = undamaged(guard, &self.metrics)? else {
                    break;
                };
                left -= 1;
                target.batch.remove(&tables.state, key);
                self.metrics.swept.add(1);
            }
            if left == 0 {
                if let Some(front) = target.index.ended.front_mut() {
                    front.from = from;
                }
                return Ok(());
            }
            target.index.ended.pop_front();
            left = left.saturating_sub(LOOK);
            if left == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A key and its value, or `None` and a report when the block is damaged.
fn undamaged(guard: Guard, metrics: &Metrics) -> fjall::Result<Option<fjall::KvPair>> {
    match guard.into_inner() {
        Ok(pair) => Ok(Some(pair)),
        Err(error) if is_damage(&error) => {
            metrics.corrupt.add(1);
            tracing::error!(%error, "A block of the store is damaged; what an ended session left stays.");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

const fn identifier(stage: Stage) -> Option<NonZeroU16> {
    match stage {
        Stage::Queued => None,
        Stage::Sent(packet_id) | Stage::Received(packet_id) => Some(packet_id),
    }
}

/// The message of [`Op::Body`] or [`Op::Retain`].
fn message_of(ops: &[Op], op: u32) -> Option<&Arc<StoredMessage>> {
    match ops.get(op as usize) {
        Some(Op::Body(message)) => Some(message),
        Some(Op::Retain { message, .. }) => message.as_ref(),
        _ => None,
    }
}

/// Says that a record does not decode.
pub(crate) fn report(
    metrics: &Metrics,
    keyspace: &'static str,
    key: &[u8],
    error: &dyn std::fmt::Display,
) {
    metrics.corrupt.add(1);
    tracing::error!(
        keyspace,
        key = %key.escape_ascii(),
        %error,
        "A record of the store does not read.",
    );
}

//! What a session that outlives the process tells the engine, and which of its messages are on disk only.
//!
//! Changes are noted under the session's lock and told before it is given back ([`Durable::tell`]), so
//! that the engine sees them in the order in which memory did.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::Shared;
use super::inflight::{Flight, Step};
use super::queue::Item;
use super::state::State;
use hashbrown::HashMap;

use crate::channel::part;
use crate::client_id::ClientId;
use crate::message::StoredMessage;
use crate::store::{
    Backlog, Epoch, Place, Publication, QueueEntry, Reference, SessionChange, Stage, Store, Ticket,
};
use crate::subscription::Subscription;
use crate::topic::TopicFilter;

/// The durable side of a session. Most sessions are those of clients that are away: what they do not need is in
/// [`Work`].
pub(crate) struct Durable {
    /// The session's name in the engine: the epoch it was created under.
    pub(crate) session: Epoch,
    client: ClientId,
    /// The queue's end that is on disk only.
    pub(super) tail: Backlog,
    /// The first exchange whose message is on disk only.
    pub(super) unloaded: Option<Place>,
    /// A read is under way.
    pub(super) reading: bool,
    /// Subscriptions whose retained messages are to be looked up again, when the client returns.
    #[expect(clippy::box_collection, reason = "most sessions never have any")]
    retained_owed: Option<Box<Vec<TopicFilter>>>,
    /// Made when it is needed, and given back when the client is away and all is told.
    work: Option<Box<Work>>,
}

/// What is under way between a session and the engine.
#[derive(Default)]
struct Work {
    /// What the engine is to be told.
    changes: Vec<SessionChange>,
    /// Retained messages of a new subscription that have begun their way to the client: they are
    /// appended, before the changes.
    appends: Vec<(Arc<StoredMessage>, QueueEntry)>,
    /// How the message that was delivered last waits, for the append of its publish.
    delivered: Option<QueueEntry>,
    /// Messages that joined the tail and of which the engine may not have been told yet, in their order:
    /// places are given under the session's lock, and publishers tell after it.
    joining: VecDeque<(Place, Arc<StoredMessage>)>,
    /// Messages that were acknowledged before the engine was told of them.
    early: Vec<(Place, Arc<StoredMessage>)>,
    /// Changes of the retained tree that went to the tail while the retained messages of a new subscription
    /// were looked up: topic and version.
    passed_by: Vec<(Box<str>, u64)>,
    /// Exchanges of QoS 2 whose next packet leaves after this.
    waits: HashMap<NonZeroU16, Ticket>,
}

impl Work {
    /// Whether nothing is under way.
    fn is_over(&self) -> bool {
        self.is_silent()
            && self.delivered.is_none()
            && self.joining.is_empty()
            && self.early.is_empty()
            && self.passed_by.is_empty()
            && self.waits.is_empty()
    }

    /// Whether there is nothing to tell.
    fn is_silent(&self) -> bool {
        self.changes.is_empty() && self.appends.is_empty()
    }

    /// Notes the end of early messages that the engine has been told of since.
    fn note_told(&mut self) {
        let changes = &mut self.changes;
        self.early.retain(|(place, message)| {
            let told = message.kept().is_some();
            if told {
                changes.push(SessionChange::Done(*place));
            }
            !told
        });
    }

    /// The first message that joined the tail and of which the engine was not told.
    fn first_untold(&mut self) -> Option<Place> {
        while let Some((place, message)) = self.joining.front() {
            if message.kept().is_none() {
                return Some(*place);
            }
            self.joining.pop_front();
        }
        None
    }
}

impl Durable {
    pub(crate) fn new(client: ClientId, session: Epoch) -> Self {
        Self {
            session,
            client,
            tail: Backlog::EMPTY,
            unloaded: None,
            reading: false,
            retained_owed: None,
            work: None,
        }
    }

    /// The retained messages of this subscription are to be looked up again.
    pub(super) fn owe_retained(&mut self, filter: TopicFilter) {
        self.retained_owed.get_or_insert_default().push(filter);
    }

    /// Those subscriptions, which are owed no more.
    pub(crate) fn take_retained_owed(&mut self) -> Vec<TopicFilter> {
        self.retained_owed
            .take()
            .map_or_else(Vec::new, |owed| *owed)
    }

    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// Notes a change.
    pub(crate) fn note(&mut self, change: SessionChange) {
        self.work().changes.push(change);
    }

    pub(super) const fn has_tail(&self) -> bool {
        self.tail.messages > 0
    }

    /// One more message waits on disk only.
    pub(super) fn extend_tail(&mut self, place: Place, message: Arc<StoredMessage>) {
        let size = message.size();
        let work = self.work();
        work.first_untold();
        work.joining.push_back((place, message));
        if self.tail.messages == 0 {
            self.tail.first = place;
        }
        self.tail.last = place;
        self.tail.messages += 1;
        self.tail.bytes += size as u64;
    }

    /// The next packet of the exchange leaves after `ticket`.
    pub(super) fn wait(&mut self, id: NonZeroU16, ticket: Ticket) {
        self.work().waits.insert(id, ticket);
    }

    /// What the next packet of the exchange waits for.
    pub(super) fn waits(&self, id: NonZeroU16) -> Option<&Ticket> {
        self.work.as_ref()?.waits.get(&id)
    }

    /// A change of the retained tree has gone to the tail while retained messages are looked up.
    pub(super) fn pass_by(&mut self, topic: &str, version: u64) {
        self.work().passed_by.push((topic.into(), version));
    }

    /// Those changes.
    pub(super) fn take_passed_by(&mut self) -> Vec<(Box<str>, u64)> {
        let work = self.work.as_mut();
        work.map_or_else(Vec::new, |work| std::mem::take(&mut work.passed_by))
    }

    /// The first message of the tail that the engine may not have been told of: one that is read before it may
    /// come without it.
    pub(super) fn first_untold(&mut self) -> Option<Place> {
        self.work.as_mut()?.first_untold()
    }

    /// A message waits no more, but the engine would hear that before it hears of the message.
    pub(super) fn note_early(&mut self, place: Place, message: Arc<StoredMessage>) {
        self.work().early.push((place, message));
    }

    /// Whether there is nothing to tell.
    fn is_silent(&self) -> bool {
        self.work.as_ref().is_none_or(|work| work.is_silent())
    }

    /// Tells the engine what was noted; the ticket is that of the last of it, `None` if there was nothing.
    fn tell(&mut self, store: &dyn Store, epoch: Epoch) -> Option<Ticket> {
        let work = self.work.as_deref_mut()?;
        let mut ticket = None;
        if !work.early.is_empty() {
            work.note_told();
        }
        for (message, entry) in work.appends.drain(..) {
            let reference = Reference {
                client: self.client.clone(),
                session: self.session,
                entry,
            };
            ticket = Some(store.append(&Publication {
                message: &message,
                references: &[reference],
                origin: None,
            }));
        }
        if !work.changes.is_empty() {
            ticket = Some(store.change(&self.client, epoch, &work.changes));
            work.changes.clear();
            // A burst that has passed gives its memory back.
            work.changes.shrink_to(MOST_KEPT);
        }
        ticket
    }

    /// The client is away: what is not under way takes no memory.
    fn rest(&mut self) {
        if self.work.as_ref().is_some_and(|work| work.is_over()) {
            self.work = None;
        }
    }
}

/// Room for changes that a session keeps between two calls.
const MOST_KEPT: usize = 4;

impl State {
    /// The durable side, when messages for the client are kept: a session without expiry may have one for its
    /// will alone.
    pub(crate) fn keeper(&mut self) -> Option<&mut Durable> {
        if self.expiry == 0 {
            return None;
        }
        self.durable.as_deref_mut()
    }

    /// Tells the engine what was noted; the ticket is that of the last of it.
    pub(crate) fn tell(&mut self, shared: &Shared) -> Ticket {
        let epoch = self.epoch;
        let Some(durable) = self.durable.as_deref_mut() else {
            return Ticket::ready();
        };
        let Some(ticket) = durable.tell(&*shared.store, epoch) else {
            return Ticket::ready();
        };
        if self.link.is_none() {
            durable.rest();
            self.subscriptions.shrink_to_fit();
        }
        ticket
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_silent(&self) -> bool {
        self.durable
            .as_ref()
            .is_none_or(|durable| durable.is_silent())
    }

    /// The message of an exchange waits no more.
    pub(super) fn note_closed(&mut self, id: NonZeroU16, flight: Flight) {
        let Some(durable) = self.durable.as_deref_mut() else {
            return;
        };
        if let Some(work) = &mut durable.work {
            work.waits.remove(&id);
        }
        match flight.message {
            Some(message) if message.kept().is_none() => {
                durable.note_early(Place(flight.sequence), message);
            }
            _ => self.note_done(flight.sequence),
        }
    }

    /// A message at `place` waits no more.
    pub(super) fn note_done(&mut self, place: u64) {
        if let Some(durable) = self.keeper() {
            durable.note(SessionChange::Done(Place(place)));
        }
    }

    /// Notes how a message that has just been delivered waits.
    #[cold]
    #[inline(never)]
    pub(super) fn note_delivered(&mut self, entry: impl FnOnce() -> QueueEntry) {
        if let Some(durable) = self.keeper() {
            durable.work().delivered = Some(entry());
        }
    }

    /// Leaves how the message that was delivered last waits, for the append of its publish.
    #[cold]
    #[inline(never)]
    pub(super) fn leave_reference(&mut self, references: &mut Vec<Reference>) {
        let Some(durable) = self.durable.as_deref_mut() else {
            return;
        };
        let work = durable.work.as_mut();
        if let Some(entry) = work.and_then(|work| work.delivered.take()) {
            references.push(Reference {
                client: durable.client.clone(),
                session: durable.session,
                entry,
            });
        }
    }

    /// Notes that a message which waited is in flight now.
    pub(super) fn note_sent(&mut self, place: u64, id: NonZeroU16, item: &Item, retained: bool) {
        let Some(durable) = self.keeper() else {
            return;
        };
        if retained {
            let mut entry = entry_of(place, Stage::Sent(id), item);
            entry.retain = true;
            durable
                .work()
                .appends
                .push((Arc::clone(&item.message), entry));
        } else {
            durable.note(SessionChange::Sent(Place(place), id));
        }
    }
}

/// How `item` waits at `place`.
pub(super) fn entry_of(place: u64, stage: Stage, item: &Item) -> QueueEntry {
    QueueEntry {
        place: Place(place),
        stage,
        qos: item.qos,
        retain: item.retain,
        // What stream it goes out on is nothing to keep.
        identifiers: part(&item.identifiers).1.into(),
        shared: share_of(item.shared.as_ref()),
    }
}

/// The shared subscription that a message came through, as it is kept.
pub(super) fn share_of(subscription: Option<&Arc<Subscription>>) -> Option<TopicFilter> {
    subscription.map(|subscription| subscription.filter().clone())
}

/// The exchange that was kept as `entry`, without its message.
pub(super) fn flight_of(entry: &QueueEntry, shared: Option<Arc<Subscription>>) -> Flight {
    let step = match entry.stage {
        Stage::Received(_) => Step::Complete,
        Stage::Queued | Stage::Sent(_) => super::delivery::first_step(entry.qos),
    };
    Flight {
        sequence: entry.place.0,
        step,
        retain: entry.retain,
        message: None,
        identifiers: entry.identifiers.clone(),
        shared,
        counted: false,
        owed: true,
    }
}

//! A durable engine in its plainest form: a list of what it was told, of which a beginning is safe. What
//! a crash leaves is any longer beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use tidegate_bus::*;

/// What the engine was told.
#[derive(Clone)]
pub enum Told {
    Append {
        message: Arc<StoredMessage>,
        references: Vec<Reference>,
        origin: Option<Origin>,
    },
    Retain(String, Option<Arc<StoredMessage>>),
    Change(ClientId, Epoch, Vec<SessionChange>),
}

#[derive(Clone)]
struct Kept {
    session: Epoch,
    epoch: Epoch,
    expiry: u32,
    presence: Presence,
    will: Option<StoredWill>,
    subscriptions: BTreeMap<String, StoredSubscription>,
    received: BTreeSet<std::num::NonZeroU16>,
    queue: BTreeMap<Place, (QueueEntry, Option<Arc<StoredMessage>>)>,
    last_place: Place,
}

/// What is on disk.
#[derive(Clone, Default)]
pub struct Disk {
    sessions: BTreeMap<ClientId, Kept>,
    retained: BTreeMap<String, Arc<StoredMessage>>,
    /// When the process is taken to have ended.
    pub until: Timestamp,
}

impl Disk {
    fn apply(&mut self, told: &Told) {
        match told {
            Told::Append {
                message,
                references,
                origin,
            } => {
                // On disk it takes no memory.
                let message = Arc::new(StoredMessage::uncharged(&message.as_message()));
                for Reference {
                    client,
                    session,
                    entry,
                } in references
                {
                    if let Some(kept) = self.session(client, *session) {
                        kept.last_place = kept.last_place.max(entry.place);
                        let item = (entry.clone(), Some(Arc::clone(&message)));
                        let before = kept.queue.insert(entry.place, item);
                        assert!(before.is_none(), "a place is used once");
                    }
                }
                if let Some(origin) = origin
                    && let Some(kept) = self.session(&origin.client, origin.session)
                {
                    kept.received.insert(origin.packet_id);
                }
            }
            Told::Retain(topic, Some(message)) => {
                self.retained.insert(topic.clone(), Arc::clone(message));
            }
            Told::Retain(topic, None) => {
                self.retained.remove(topic);
            }
            Told::Change(client, epoch, changes) => {
                for change in changes {
                    self.change(client, *epoch, change);
                }
            }
        }
    }

    fn session(&mut self, client: &ClientId, session: Epoch) -> Option<&mut Kept> {
        let kept = self.sessions.get_mut(client)?;
        (kept.session == session).then_some(kept)
    }

    fn change(&mut self, client: &ClientId, epoch: Epoch, change: &SessionChange) {
        if let SessionChange::Attached {
            fresh,
            expiry,
            will,
        } = change
        {
            let until = self.until;
            let kept = self.sessions.entry(client.clone()).or_insert_with(|| Kept {
                session: epoch,
                epoch,
                expiry: 0,
                presence: Presence::Connected(until),
                will: None,
                subscriptions: BTreeMap::new(),
                received: BTreeSet::new(),
                queue: BTreeMap::new(),
                last_place: Place(0),
            });
            if *fresh {
                kept.session = epoch;
                kept.subscriptions.clear();
                kept.received.clear();
                kept.queue.clear();
                kept.last_place = Place(0);
            }
            kept.epoch = epoch;
            kept.expiry = *expiry;
            kept.will = will.clone();
            kept.presence = Presence::Connected(until);
            return;
        }
        let Some(kept) = self.sessions.get_mut(client) else {
            return;
        };
        assert_eq!(
            kept.epoch, epoch,
            "{client}: {change:?} is not of the owner"
        );
        match change {
            SessionChange::Subscribed {
                filter,
                options,
                identifier,
                retained_owed,
            } => {
                let subscription = StoredSubscription {
                    filter: filter.clone(),
                    options: *options,
                    identifier: *identifier,
                    retained_owed: *retained_owed,
                };
                let text = filter.as_str().to_owned();
                kept.subscriptions.insert(text, subscription);
            }
            SessionChange::RetainedSent(filter) => {
                if let Some(subscription) = kept.subscriptions.get_mut(filter.as_str()) {
                    subscription.retained_owed = false;
                }
            }
            SessionChange::Unsubscribed(filter) => {
                kept.subscriptions.remove(filter.as_str());
            }
            SessionChange::Sent(place, id) => {
                if let Some((entry, _)) = kept.queue.get_mut(place) {
                    entry.stage = Stage::Sent(*id);
                }
            }
            SessionChange::Received(place) => {
                if let Some((entry, message)) = kept.queue.get_mut(place) {
                    let Stage::Sent(id) = entry.stage else {
                        panic!("{entry:?} was received and never sent");
                    };
                    entry.stage = Stage::Received(id);
                    *message = None;
                }
            }
            SessionChange::Done(place) => {
                kept.queue.remove(place);
            }
            SessionChange::Released(id) => {
                kept.received.remove(id);
            }
            SessionChange::Detached { ends_at, will_at } => {
                kept.presence = Presence::Away {
                    ends_at: *ends_at,
                    will_at: will_at.unwrap_or_default(),
                };
                if will_at.is_none() {
                    kept.will = None;
                }
            }
            SessionChange::WillPublished => kept.will = None,
            SessionChange::Ended => {
                self.sessions.remove(client);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Messages that wait for `client`, by place: topic and payload.
    pub fn queue(&self, client: &str) -> Vec<String> {
        let id = ClientId::new(client).unwrap();
        let queue = self.sessions.get(&id).map(|kept| &kept.queue);
        let entries = queue.into_iter().flat_map(BTreeMap::values);
        entries
            .map(|(entry, message)| {
                let payload = message.as_ref().map_or_else(String::new, |m| {
                    String::from_utf8_lossy(m.as_message().payload).into_owned()
                });
                format!("{:?} {payload}", entry.stage)
            })
            .collect()
    }

    pub fn has_session(&self, client: &str) -> bool {
        self.sessions.contains_key(&ClientId::new(client).unwrap())
    }

    pub fn retained(&self, topic: &str) -> Option<String> {
        let message = self.retained.get(topic)?;
        let payload = message.as_message().payload.to_vec();
        Some(String::from_utf8(payload).unwrap())
    }
}

#[derive(Default)]
struct State {
    disk: Disk,
    /// Told and not safe yet.
    pending: Vec<(Told, Completion)>,
    held: bool,
    refusing: Option<StoreError>,
    epoch: u64,
    reads: usize,
    /// Reads that are answered later, when they are held.
    asked: Vec<(ClientId, Epoch, Place, Box<dyn QueueReader>)>,
    reads_held: bool,
}

/// The engine. Everything is safe at once, unless it is told to hold.
#[derive(Default)]
pub struct DiskStore(Mutex<State>);

impl DiskStore {
    pub fn from_disk(disk: Disk) -> Self {
        let last = disk.sessions.values().map(|kept| kept.epoch.0).max();
        Self(Mutex::new(State {
            disk,
            epoch: last.unwrap_or(0) + 1_000_000,
            ..State::default()
        }))
    }

    /// From now on nothing is safe before [`Self::sync`].
    pub fn hold(&self) {
        self.0.lock().unwrap().held = true;
    }

    /// From now on no read is answered before [`Self::answer_reads`].
    pub fn hold_reads(&self) {
        self.0.lock().unwrap().reads_held = true;
    }

    /// Answers what was asked, from what was told until now.
    pub fn answer_reads(&self) {
        let asked = {
            let state = &mut *self.0.lock().unwrap();
            state.reads_held = false;
            std::mem::take(&mut state.asked)
        };
        for (client, session, from, reader) in asked {
            self.answer(&client, session, from, reader);
        }
    }

    fn answer(
        &self,
        client: &ClientId,
        session: Epoch,
        from: Place,
        mut reader: Box<dyn QueueReader>,
    ) {
        let mut disk = self.crash(usize::MAX);
        let mut whole = true;
        if let Some(kept) = disk.session(client, session) {
            for (entry, message) in kept.queue.range(from..).map(|(_, item)| item) {
                let message = message.as_ref().map(|message| message.as_message());
                if reader.entry(entry.clone(), message) == ControlFlow::Break(()) {
                    whole = false;
                    break;
                }
            }
        }
        reader.end(Ok(whole));
    }

    /// Makes the first `count` of what is pending safe.
    pub fn sync(&self, count: usize) {
        let done: Vec<Completion> = {
            let state = &mut *self.0.lock().unwrap();
            let count = count.min(state.pending.len());
            let safe: Vec<_> = state.pending.drain(..count).collect();
            safe.into_iter()
                .map(|(told, completion)| {
                    state.disk.apply(&told);
                    completion
                })
                .collect()
        };
        for completion in done {
            completion.complete(Ok(()));
        }
    }

    pub fn sync_all(&self) {
        self.sync(usize::MAX);
    }

    /// Refuses publishes that are pending, as a disk that fails does, and keeps the changes.
    pub fn fail_appends(&self, error: &StoreError) {
        let refused: Vec<Completion> = {
            let state = &mut *self.0.lock().unwrap();
            let is_append = |(told, _): &(Told, Completion)| matches!(told, Told::Append { .. });
            let (refused, left): (Vec<_>, Vec<_>) = std::mem::take(&mut state.pending)
                .into_iter()
                .partition(is_append);
            state.pending = left;
            refused
                .into_iter()
                .map(|(_, completion)| completion)
                .collect()
        };
        for completion in refused {
            completion.complete(Err(error.clone()));
        }
    }

    pub fn refuse(&self, error: Option<StoreError>) {
        self.0.lock().unwrap().refusing = error;
    }

    pub fn pending(&self) -> usize {
        self.0.lock().unwrap().pending.len()
    }

    pub fn reads(&self) -> usize {
        self.0.lock().unwrap().reads
    }

    /// What a crash leaves: all that is safe, and `more` of what is not.
    pub fn crash(&self, more: usize) -> Disk {
        let state = self.0.lock().unwrap();
        let mut disk = state.disk.clone();
        for (told, _) in state.pending.iter().take(more) {
            disk.apply(told);
        }
        disk
    }

    fn tell(&self, told: Told) -> Ticket {
        let state = &mut *self.0.lock().unwrap();
        if !state.held {
            assert!(state.pending.is_empty());
            state.disk.apply(&told);
            return Ticket::ready();
        }
        let (ticket, completion) = Ticket::pending();
        state.pending.push((told, completion));
        ticket
    }
}

impl Store for DiskStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn accepts(&self) -> Result<(), StoreError> {
        self.0.lock().unwrap().refusing.clone().map_or(Ok(()), Err)
    }

    fn recover(&self, recovery: &mut dyn Recovery) -> Result<(), StoreError> {
        let disk = self.crash(0);
        for message in disk.retained.values() {
            recovery.retained(message.as_message());
        }
        for (client, kept) in disk.sessions {
            let mut stored = StoredSession::new(client, kept.session, kept.presence);
            if let Presence::Connected(_) = kept.presence {
                stored.presence = Presence::Connected(disk.until);
            }
            stored.epoch = kept.epoch;
            stored.expiry = kept.expiry;
            stored.will = kept.will;
            stored.subscriptions = kept.subscriptions.into_values().collect();
            stored.received = kept.received.into_iter().collect();
            stored.last_place = kept.last_place;
            for (entry, message) in kept.queue.into_values() {
                if entry.stage == Stage::Queued {
                    let queued = &mut stored.queued;
                    if queued.messages == 0 {
                        queued.first = entry.place;
                    }
                    queued.last = entry.place;
                    queued.messages += 1;
                    queued.bytes += message.map_or(0, |m| m.size() as u64);
                } else {
                    stored.in_flight.push(entry);
                }
            }
            recovery.session(stored);
        }
        Ok(())
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        let state = &mut *self.0.lock().unwrap();
        state.epoch += 1;
        let claim = Claim {
            epoch: Epoch(state.epoch),
            session: None,
        };
        Box::pin(std::future::ready(Ok(claim)))
    }

    fn append(&self, publication: &Publication<'_>) -> Ticket {
        self.tell(Told::Append {
            message: Arc::clone(publication.message),
            references: publication.references.to_vec(),
            origin: publication.origin.cloned(),
        })
    }

    fn retain(&self, topic: &str, message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.tell(Told::Retain(topic.to_owned(), message.cloned()))
    }

    fn change(&self, client: &ClientId, epoch: Epoch, changes: &[SessionChange]) -> Ticket {
        self.tell(Told::Change(client.clone(), epoch, changes.to_vec()))
    }

    fn read(&self, client: &ClientId, session: Epoch, from: Place, reader: Box<dyn QueueReader>) {
        {
            let state = &mut *self.0.lock().unwrap();
            state.reads += 1;
            if state.reads_held {
                return state.asked.push((client.clone(), session, from, reader));
            }
        }
        self.answer(client, session, from, reader);
    }
}

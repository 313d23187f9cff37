//! What an intake comes down to: the last word on every key, and nothing for what came and went.

use std::num::NonZeroU16;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use tidegate_bus::{ClientId, Stage, TopicFilter};

use crate::index::Index;
use crate::op::{Life, Op};
use crate::session::{PresenceRecord, SessionRecord, WillRecord};
use crate::tables::Tables;

/// Room for so many is kept from one intake to the next.
const KEPT: usize = 65_536;

/// The last word on an entry. Numbers of operations are positions in the intake.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// It is new.
    New {
        reference: u32,
        body: u32,
        stage: Stage,
    },
    /// It is on the disk and has come so far.
    Sent(NonZeroU16),
    /// It is on the disk and was received; under this packet identifier, or the one that stands there.
    Received(Option<NonZeroU16>),
    /// It is on the disk no more.
    Done,
}

/// The last word on a subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subscription {
    /// It is what this operation says.
    Made { op: u32, retained_owed: bool },
    /// It is on the disk and owes no retained messages.
    RetainedSent,
    /// It is there no more.
    Ended,
}

/// The last word on a packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identifier {
    /// It is in use, and was not before the intake.
    New,
    /// It is in use, and may have been before the intake.
    Used,
    /// It is free.
    Free,
}

/// The last word on a client's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) record: Option<SessionRecord>,
    pub(crate) on_disk: bool,
}

/// A message that somebody waits for.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) op: u32,
    /// How many of the new entries wait for it in the end.
    pub(crate) references: u32,
    /// Its number, once it has one.
    pub(crate) number: Option<u64>,
}

/// What an intake comes down to. Used again and again, so that its tables are not allocated anew.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) bodies: Vec<Body>,
    entries: HashMap<(u64, u64), Entry>,
    /// The entries by session and place, in their order: neighbours in a memtable are found faster.
    pub(crate) sorted: Vec<((u64, u64), Entry)>,
    pub(crate) subscriptions: HashMap<(u64, TopicFilter), Subscription>,
    pub(crate) identifiers: HashMap<(u64, NonZeroU16), Identifier>,
    pub(crate) sessions: HashMap<ClientId, Session>,
    pub(crate) retained: HashMap<Arc<str>, u32>,
    /// References that met their own end.
    pub(crate) cancelled: u64,
}

impl Plan {
    fn clear(&mut self) {
        self.bodies.clear();
        self.bodies.shrink_to(KEPT);
        self.entries.clear();
        self.entries.shrink_to(KEPT);
        self.sorted.clear();
        self.sorted.shrink_to(KEPT);
        self.subscriptions.clear();
        self.identifiers.clear();
        self.sessions.clear();
        self.retained.clear();
        self.cancelled = 0;
    }

    /// Makes this the plan of `ops`.
    pub(crate) fn fold(
        &mut self,
        ops: &[Op],
        index: &mut Index,
        tables: &Tables,
    ) -> fjall::Result<()> {
        self.clear();
        for (number, op) in ops.iter().enumerate() {
            self.add(number as u32, op, index, tables)?;
        }
        // A session may have ended behind them; its entries on the disk are swept.
        let before = self.entries.len();
        self.entries
            .retain(|(session, _), _| index.is_live(*session));
        self.cancelled += (before - self.entries.len()) as u64;
        self.subscriptions
            .retain(|(session, _), _| index.is_live(*session));
        self.identifiers
            .retain(|(session, _), _| index.is_live(*session));
        for entry in self.entries.values() {
            if let Entry::New { body, stage, .. } = entry
                && !matches!(stage, Stage::Received(_))
            {
                self.bodies[*body as usize].references += 1;
            }
        }
        self.sorted
            .extend(self.entries.iter().map(|(key, entry)| (*key, *entry)));
        self.sorted.sort_unstable_by_key(|(key, _)| *key);
        Ok(())
    }

    fn add(
        &mut self,
        number: u32,
        op: &Op,
        index: &mut Index,
        tables: &Tables,
    ) -> fjall::Result<()> {
        match op {
            Op::Body(_) => self.bodies.push(Body {
                op: number,
                references: 0,
                number: None,
            }),
            Op::Reference { session, entry } => {
                if index.reach(*session, entry.place.0) {
                    let new = Entry::New {
                        reference: number,
                        body: self.bodies.len() as u32 - 1,
                        stage: entry.stage,
                    };
                    self.entries.insert((*session, entry.place.0), new);
                }
            }
            Op::Sent {
                session,
                place,
                packet_id,
            } => self.sent(*session, *place, *packet_id),
            Op::Received { session, place } => self.received(*session, *place),
            Op::Done { session, place } => self.done(*session, *place),
            Op::Origin { session, packet_id } => {
                let identifier = self.identifiers.entry((*session, *packet_id));
                identifier
                    .and_modify(|i| {
                        if *i == Identifier::Free {
                            *i = Identifier::Used;
                        }
                    })
                    .or_insert(Identifier::New);
            }
            Op::Released { session, packet_id } => {
                match self.identifiers.entry((*session, *packet_id)) {
                    Slot::Occupied(slot) if *slot.get() == Identifier::New => {
                        slot.remove();
                    }
                    slot => {
                        slot.insert(Identifier::Free);
                    }
                }
            }
            Op::Subscribed {
                session,
                filter,
                retained_owed,
                ..
            } => {
                let made = Subscription::Made {
                    op: number,
                    retained_owed: *retained_owed,
                };
                self.subscriptions.insert((*session, filter.clone()), made);
            }
            Op::RetainedSent { session, filter } => {
                let slot = self.subscriptions.entry((*session, filter.clone()));
                slot.and_modify(|subscription| {
                    if let Subscription::Made { retained_owed, .. } = subscription {
                        *retained_owed = false;
                    }
                })
                .or_insert(Subscription::RetainedSent);
            }
            Op::Unsubscribed { session, filter } => {
                self.subscriptions
                    .insert((*session, filter.clone()), Subscription::Ended);
            }
            Op::Session {
                client,
                session,
                change,
            } => self.live(client, *session, change, index, tables)?,
            Op::Retain { topic, .. } => {
                self.retained.insert(Arc::clone(topic), number);
            }
        }
        Ok(())
    }

    fn sent(&mut self, session: u64, place: u64, packet_id: NonZeroU16) {
        let entry = self.entries.entry((session, place));
        entry
            .and_modify(|entry| match entry {
                Entry::New { stage, .. } => *stage = Stage::Sent(packet_id),
                Entry::Done => {}
                other => *other = Entry::Sent(packet_id),
            })
            .or_insert(Entry::Sent(packet_id));
    }

    fn received(&mut self, session: u64, place: u64) {
        let entry = self.entries.entry((session, place));
        entry
            .and_modify(|entry| match entry {
                Entry::New { stage, .. } => {
                    if let Stage::Sent(packet_id) = *stage {
                        *stage = Stage::Received(packet_id);
                    }
                }
                Entry::Sent(packet_id) => *entry = Entry::Received(Some(*packet_id)),
                Entry::Done | Entry::Received(_) => {}
            })
            .or_insert(Entry::Received(None));
    }

    fn done(&mut self, session: u64, place: u64) {
        match self.entries.entry((session, place)) {
            Slot::Occupied(slot) if matches!(slot.get(), Entry::New { .. }) => {
                slot.remove();
                self.cancelled += 1;
            }
            slot => {
                slot.insert(Entry::Done);
            }
        }
    }

    fn live(
        &mut self,
        client: &ClientId,
        session: u64,
        change: &Life,
        index: &mut Index,
        tables: &Tables,
    ) -> fjall::Result<()> {
        let slot = match self.sessions.entry(client.clone()) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let value = tables.get(&tables.sessions, client.as_str().as_bytes())?;
                // One that does not decode was reported at the start, and its session is not known.
                let record = value.as_ref().map(|v| SessionRecord::decode(v));
                slot.insert(Session {
                    on_disk: value.is_some(),
                    record: record.and_then(Result::ok),
                })
            }
        };
        if let Life::Attached {
            epoch,
            replaces,
            expiry,
            will,
        } = change
        {
            if let Some(old) = replaces {
                index.end(*old);
            }
            index.begin(session);
            slot.record = Some(SessionRecord {
                session,
                epoch: *epoch,
                expiry: *expiry,
                presence: PresenceRecord::Connected,
                last_place: 0,
                will: will.as_ref().map(WillRecord::new),
            });
            return Ok(());
        }
        // A change to a session that was replaced since changes nothing.
        let Some(record) = slot.record.as_mut().filter(|r| r.session == session) else {
            return Ok(());
        };
        match change {
            Life::Attached { .. } => {}
            Life::Detached { ends_at, will_at } => {
                record.presence = PresenceRecord::Away {
                    ends_at: *ends_at,
                    will_at: will_at.unwrap_or(u64::MAX),
                };
                if will_at.is_none() {
                    record.will = None;
                }
            }
            Life::WillPublished => record.will = None,
            Life::Ended => {
                slot.record = None;
                index.end(session);
            }
        }
        Ok(())
    }
}

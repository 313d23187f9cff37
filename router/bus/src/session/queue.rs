//! Messages that wait for one client.
//!
//! Two lines, one number sequence: QoS 0, and QoS 1 and 2. The lower number goes first, so that a
//! client with room receives everything in the order it was routed; when its window is full the
//! QoS 0 line goes on alone. Retained messages of a new subscription stand in the lines as one entry
//! per line, a list of what is stored anyway, and count against no limit.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;

use super::inflight::Identifiers;
use crate::budget::Charge;
use crate::channel::Channel;
use crate::message::StoredMessage;
use crate::qos::QoS;
use crate::subscription::Subscription;
use crate::time::Timestamp;

/// What one waiting message costs beside its shared copy.
pub(crate) const ITEM_OVERHEAD: usize = size_of::<Entry>();

/// One message that waits.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Arc<StoredMessage>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: Identifiers,
    pub(crate) shared: Option<Arc<Subscription>>,
}

/// The retained messages of a new subscription.
pub(crate) struct Retained {
    pub(crate) messages: Vec<Arc<StoredMessage>>,
    pub(crate) charge: Charge,
    pub(crate) subscription: Arc<Subscription>,
}

#[derive(Debug)]
enum Waiting {
    One(Item),
    Retained {
        messages: std::vec::IntoIter<Arc<StoredMessage>>,
        /// How many have gone: the places of the next ones follow that of the entry.
        gone: u64,
        subscription: Arc<Subscription>,
        /// Held for its drop only; shared by the entries of both lines.
        _charge: Arc<Charge>,
    },
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    waiting: Waiting,
}

/// A message whose turn has come.
pub(crate) struct Popped {
    pub(crate) item: Item,
    pub(crate) place: u64,
    /// It was sent as the result of a new subscription, and counted against no limit.
    pub(crate) retained: bool,
    /// The subscription whose last retained message this was.
    pub(crate) last_of: Option<Arc<Subscription>>,
}

/// Which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// QoS 0.
    Zero,
    /// QoS 1 and 2.
    Acknowledged,
}

impl Line {
    const fn of(qos: QoS) -> Self {
        if qos.is_acknowledged() {
            Self::Acknowledged
        } else {
            Self::Zero
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    zero: VecDeque<Entry>,
    acknowledged: VecDeque<Entry>,
    /// Messages, retained ones of new subscriptions left out.
    messages: usize,
    /// Their bytes.
    bytes: usize,
    /// No message expires before this; it may have left meanwhile.
    earliest_expiry: Option<Timestamp>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.zero.is_empty() && self.acknowledged.is_empty()
    }

    pub(crate) fn line_is_empty(&self, line: Line) -> bool {
        match line {
            Line::Zero => self.zero.is_empty(),
            Line::Acknowledged => self.acknowledged.is_empty(),
        }
    }

    pub(crate) const fn messages(&self) -> usize {
        self.messages
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn line(&mut self, line: Line) -> &mut VecDeque<Entry> {
        match line {
            Line::Zero => &mut self.zero,
            Line::Acknowledged => &mut self.acknowledged,
        }
    }

    pub(crate) fn push(&mut self, sequence: u64, item: Item) {
        self.messages += 1;
        self.bytes += item.message.size();
        if let Some(at) = item.message.expires_at() {
            self.earliest_expiry = Some(self.earliest_expiry.map_or(at, |first| first.min(at)));
        }
        let line = Line::of(item.qos);
        self.line(line).push_back(Entry {
            sequence,
            waiting: Waiting::One(item),
        });
    }

    /// As [`Self::push`], for a message that is read back: retained ones of a new subscription may stand
    /// behind it already.
    pub(crate) fn push_back_in(&mut self, sequence: u64, item: Item) {
        let line = self.line(Line::of(item.qos));
        let behind = line.len() - line.partition_point(|entry| entry.sequence < sequence);
        self.push(sequence, item);
        let line = &mut self.acknowledged;
        let last = line.len() - 1;
        for at in (last - behind.min(last)..last).rev() {
            line.swap(at, at + 1);
        }
    }

    /// Whether the engine has been told of the first of the line for QoS 1 and 2.
    pub(crate) fn first_is_told(&self) -> bool {
        match self.acknowledged.front().map(|entry| &entry.waiting) {
            Some(Waiting::One(item)) => item.message.kept().is_some(),
            Some(Waiting::Retained { .. }) | None => true,
        }
    }

    /// Messages of the line for QoS 1 and 2 that stand before `sequence`.
    pub(crate) fn stands_before(&self, sequence: u64) -> bool {
        let front = self.acknowledged.front();
        front.is_some_and(|entry| entry.sequence < sequence)
    }

    /// Entries of the line for QoS 1 and 2.
    pub(crate) fn acknowledged_entries(&self) -> usize {
        self.acknowledged.len()
    }

    /// Lets the retained messages of a new subscription wait before everything that came after
    /// `sequence` was taken.
    ///
    /// One whose topic has changed while it was looked up is left out when a change up to it has
    /// come live meanwhile: its value is among those, or follows live, and before them it would be
    /// newer than what it precedes.
    ///
    /// Those of an earlier subscription with the same filter that are still waiting are replaced: a
    /// client that subscribes again and again lets no more wait than one that does so once.
    /// `elsewhere` are changes that wait on disk only. `true`: some of them are at QoS 1 or 2.
    pub(crate) fn push_retained(
        &mut self,
        sequence: u64,
        retained: Retained,
        elsewhere: Vec<(Box<str>, u64)>,
    ) -> bool {
        let Retained {
            mut messages,
            charge,
            subscription,
        } = retained;
        let filter = subscription.filter();
        for line in [&mut self.zero, &mut self.acknowledged] {
            line.retain(|entry| {
                !matches!(&entry.waiting, Waiting::Retained { subscription, .. }
                    if subscription.filter() == filter)
            });
        }
        let mut live = self.first_changes_after(sequence);
        for (topic, version) in elsewhere {
            let known = live.entry(topic).or_insert(version);
            *known = version.min(*known);
        }
        if !live.is_empty() {
            messages.retain(|message| {
                live.get(message.topic())
                    .is_none_or(|first| *first > message.retained_version())
            });
        }
        let granted = subscription.options().qos;
        let (acknowledged, zero): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|m| m.qos().min(granted).is_acknowledged());
        let owed = !acknowledged.is_empty();
        let charge = Arc::new(charge);
        for (line, messages) in [(Line::Zero, zero), (Line::Acknowledged, acknowledged)] {
            if messages.is_empty() {
                continue;
            }
            let waiting = Waiting::Retained {
                messages: messages.into_iter(),
                gone: 0,
                subscription: Arc::clone(&subscription),
                _charge: Arc::clone(&charge),
            };
            let line = self.line(line);
            let at = line.partition_point(|entry| entry.sequence < sequence);
            line.insert(at, Entry { sequence, waiting });
        }
        owed
    }

    /// For every topic that has changed after `sequence` was taken, the first of its changes.
    fn first_changes_after(&self, sequence: u64) -> HashMap<Box<str>, u64> {
        let mut first: HashMap<Box<str>, u64> = HashMap::new();
        for entry in self.zero.iter().chain(&self.acknowledged) {
            let Waiting::One(item) = &entry.waiting else {
                continue;
            };
            let version = item.message.retained_version();
            if entry.sequence > sequence && version > 0 {
                let known = first.entry(item.message.topic().into()).or_insert(version);
                *known = version.min(*known);
            }
        }
        first
    }

    /// The line whose turn it is, of those that may go.
    pub(crate) fn turn(&self, window_open: bool) -> Option<Line> {
        let zero = self.zero.front().map(|e| (e.sequence, Line::Zero));
        let acknowledged = self
            .acknowledged
            .front()
            .map(|e| (e.sequence, Line::Acknowledged));
        let acknowledged = acknowledged.filter(|_| window_open);
        match (zero, acknowledged) {
            (Some(z), Some(a)) => Some(if a.0 <= z.0 { a.1 } else { z.1 }),
            (one, other) => one.or(other).map(|(_, line)| line),
        }
    }

    /// Takes the first message of `line`.
    pub(crate) fn pop(&mut self, line: Line) -> Option<Popped> {
        let queue = self.line(line);
        let front = queue.front_mut()?;
        if let Waiting::Retained {
            messages,
            gone,
            subscription,
            ..
        } = &mut front.waiting
        {
            let place = front.sequence + *gone;
            *gone += 1;
            let message = messages.next()?;
            let channel = subscription.channel().map(Channel::get);
            let identifier = subscription.identifier().map(NonZeroU32::get);
            // MQTT-3.3.1-8: sent as the result of a new subscription.
            let item = Item {
                qos: message.qos().min(subscription.options().qos),
                message,
                retain: true,
                identifiers: channel.into_iter().chain(identifier).collect(),
                shared: None,
            };
            let last = messages.len() == 0;
            let last_of = last.then(|| Arc::clone(subscription));
            if last {
                queue.pop_front();
            }
            return Some(Popped {
                item,
                place,
                retained: true,
                last_of,
            });
        }
        let Some(Entry {
            sequence,
            waiting: Waiting::One(item),
        }) = queue.pop_front()
        else {
            return None;
        };
        self.messages -= 1;
        self.bytes -= item.message.size();
        Some(Popped {
            item,
            place: sequence,
            retained: false,
            last_of: None,
        })
    }

    /// Takes out the oldest message of all, for a newer one. Retained ones of a new subscription
    /// stay.
    pub(crate) fn evict(&mut self) -> Option<(u64, Item)> {
        let oldest = |line: &VecDeque<Entry>| {
            line.iter()
                .position(|e| matches!(e.waiting, Waiting::One(_)))
                .map(|at| (line[at].sequence, at))
        };
        let zero = oldest(&self.zero).map(|(sequence, at)| (sequence, Line::Zero, at));
        let acknowledged =
            oldest(&self.acknowledged).map(|(sequence, at)| (sequence, Line::Acknowledged, at));
        let (_, line, at) = match (zero, acknowledged) {
            (Some(z), Some(a)) => {
                if a.0 < z.0 {
                    a
                } else {
                    z
                }
            }
            (one, other) => one.or(other)?,
        };
        let Some(Entry {
            sequence,
            waiting: Waiting::One(item),
        }) = self.line(line).remove(at)
        else {
            return None;
        };
        self.messages -= 1;
        self.bytes -= item.message.size();
        Some((sequence, item))
    }

    /// Removes what has expired and tells how many messages that were; the places of those at QoS 1 and 2
    /// are handed to `gone`.
    pub(crate) fn purge(&mut self, now: Timestamp, mut gone: impl FnMut(u64)) -> u64 {
        // A full queue asks for every message; the walk is made only when it finds something.
        if self.earliest_expiry.is_none_or(|first| first > now) {
            return 0;
        }
        let mut earliest: Option<Timestamp> = None;
        let mut purged = 0;
        let (mut messages, mut bytes) = (self.messages, self.bytes);
        for line in [&mut self.zero, &mut self.acknowledged] {
            line.retain(|entry| match &entry.waiting {
                Waiting::One(item) if item.message.is_expired(now) => {
                    purged += 1;
                    if item.qos.is_acknowledged() {
                        gone(entry.sequence);
                    }
                    messages -= 1;
                    bytes -= item.message.size();
                    false
                }
                Waiting::One(item) => {
                    let later = [earliest, item.message.expires_at()];
                    earliest = later.into_iter().flatten().min();
                    true
                }
                Waiting::Retained { .. } => true,
            });
        }
        (self.messages, self.bytes) = (messages, bytes);
        self.earliest_expiry = earliest;
        purged
    }

    /// Everything that waits and counted, in order; for a session that ends.
    pub(crate) fn into_items(self) -> Vec<Item> {
        let mut entries: Vec<Entry> = self.zero.into_iter().chain(self.acknowledged).collect();
        entries.sort_by_key(|entry| entry.sequence);
        let one = |entry: Entry| match entry.waiting {
            Waiting::One(item) => Some(item),
            Waiting::Retained { .. } => None,
        };
        entries.into_iter().filter_map(one).collect()
    }
}

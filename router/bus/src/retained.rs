//! Retained messages (MQTT 5.0 section 3.3.1.3): the last one of each topic.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::message::{Message, PublisherKey, StoredMessage};
use crate::session::Shared;
use crate::store::Ticket;
use crate::time::Timestamp;
use crate::topic::{TopicFilter, TopicName};

const SHARDS: usize = 64;

/// What one level of a topic costs in the tree at most, about: its node, alone in a table of its
/// parent.
const LEVEL_OVERHEAD: usize = 256;

/// What a retained message counts: its bytes and all levels of its topic, as if no other topic shared
/// them.
fn cost(topic: &str, size: usize) -> usize {
    size + topic.split('/').count() * LEVEL_OVERHEAD
}

type Children = HashMap<Box<str>, Node, foldhash::fast::FixedState>;

#[derive(Default)]
struct Node {
    message: Option<Arc<StoredMessage>>,
    children: Option<Box<Children>>,
}

struct Shard {
    root: RwLock<Node>,
    /// No message of the shard expires before this, in milliseconds since the Unix epoch; it may
    /// have been replaced meanwhile. A shard where nothing can have expired is not walked.
    earliest_expiry: AtomicU64,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            root: RwLock::default(),
            earliest_expiry: AtomicU64::new(Timestamp::NEVER.as_millis()),
        }
    }
}

/// A retained message, ordered by its topic.
struct ByTopic(Arc<StoredMessage>);

impl PartialEq for ByTopic {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic() == other.0.topic()
    }
}

impl Eq for ByTopic {}

impl PartialOrd for ByTopic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTopic {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.topic().cmp(other.0.topic())
    }
}

/// As many messages or bytes are retained as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetainedFull;

/// The retained messages of a bus, by topic; sharded by first level.
pub(crate) struct Retained {
    shards: Box<[Shard]>,
    hasher: foldhash::fast::FixedState,
    /// Numbers the changes. Advanced under the lock of the topic's shard.
    version: AtomicU64,
}

impl Retained {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: foldhash::fast::FixedState::default(),
            version: AtomicU64::new(0),
        }
    }

    fn shard(&self, first_level: &str) -> &Shard {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(first_level.as_bytes());
        &self.shards[hasher.finish() as usize % SHARDS]
    }

    fn next_version(&self) -> u64 {
        self.version.fetch_add(1, Relaxed) + 1
    }

    /// Retains a copy of `message` in place of the one before, numbers the change and tells the engine.
    pub(crate) fn set(
        &self,
        message: &mut Message<'_>,
        shared: &Shared,
    ) -> Result<Ticket, RetainedFull> {
        self.put(message, shared, shared.durable)
    }

    /// As [`Self::set`], for a message that the engine gives back.
    pub(crate) fn restore(
        &self,
        message: &mut Message<'_>,
        shared: &Shared,
    ) -> Result<(), RetainedFull> {
        self.put(message, shared, false).map(|_ready| ())
    }

    fn put(
        &self,
        message: &mut Message<'_>,
        shared: &Shared,
        tell: bool,
    ) -> Result<Ticket, RetainedFull> {
        let (settings, counters) = (&shared.settings, &shared.counters);
        let topic = message.topic;
        let size = cost(topic.as_str(), message.size());
        let shard = self.shard(topic.levels().next().unwrap_or_default());
        let mut root = shard.root.write();
        let replaced = get(&root, topic).map_or(0, |old| cost(old.topic(), old.size()));
        // The counters are shared by all shards, so two that grow at once may pass the limit by
        // one message each; the limit is about memory, not about a sum.
        let messages = counters.retained_messages.get() + u64::from(replaced == 0);
        let bytes = counters.retained_bytes.get() + (size as u64).saturating_sub(replaced as u64);
        // The gateway's own figures are few, and are not crowded out by what clients retain.
        let own = message.publisher == PublisherKey::GATEWAY && topic.is_system();
        if !own
            && (messages > settings.max_retained_messages as u64
                || bytes > settings.max_retained_bytes as u64)
        {
            return Err(RetainedFull);
        }
        let node = topic.levels().fold(&mut *root, |node, level| {
            node.children
                .get_or_insert_default()
                .entry(level.into())
                .or_default()
        });
        message.retained_version = self.next_version();
        let kept = Arc::new(StoredMessage::uncharged(message));
        kept.set_kept(&Ticket::ready());
        // Told under the lock: the engine keeps the changes of a topic in their order.
        let ticket = if tell && !own {
            shared.store.retain(topic.as_str(), Some(&kept))
        } else {
            Ticket::ready()
        };
        node.message = Some(kept);
        if let Some(at) = message.expires_at {
            shard.earliest_expiry.fetch_min(at.as_millis(), Relaxed);
        }
        if replaced == 0 {
            counters.retained_messages.add(1);
        }
        counters.retained_bytes.add(size as u64);
        counters.retained_bytes.sub(replaced as u64);
        Ok(ticket)
    }

    /// Forgets the message of a topic (MQTT-3.3.1-6), and numbers the change.
    pub(crate) fn clear(&self, message: &mut Message<'_>, shared: &Shared) -> Ticket {
        let levels: SmallVec<[&str; 16]> = message.topic.levels().collect();
        let mut root = self.shard(levels[0]).root.write();
        message.retained_version = self.next_version();
        match remove(&mut root, &levels) {
            Some(message) => forget(&message, shared),
            // Whoever cleared it before may still wait for the engine.
            None if shared.durable => shared.store.retain(message.topic.as_str(), None),
            None => Ticket::ready(),
        }
    }

    /// The messages `filter` matches, those that have expired left out.
    pub(crate) fn matching(&self, filter: &TopicFilter, now: Timestamp) -> Vec<Arc<StoredMessage>> {
        let mut found = Vec::new();
        self.visit(filter, now, |message| found.push(Arc::clone(message)));
        found
    }

    /// The first `limit` of them behind the topic `after`, in the order of the topics' bytes. Holds no more than
    /// these, however many match.
    pub(crate) fn page(
        &self,
        filter: &TopicFilter,
        now: Timestamp,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Arc<StoredMessage>> {
        let mut first = BinaryHeap::with_capacity(limit.min(1_024) + 1);
        self.visit(filter, now, |message| {
            if after.is_some_and(|after| message.topic() <= after) {
                return;
            }
            let full = first.len() >= limit;
            let is_behind = |last: &ByTopic| last.0.topic() <= message.topic();
            if full && first.peek().is_none_or(is_behind) {
                return;
            }
            first.push(ByTopic(Arc::clone(message)));
            if full {
                first.pop();
            }
        });
        let sorted = first.into_sorted_vec();
        sorted.into_iter().map(|ByTopic(message)| message).collect()
    }

    fn visit(
        &self,
        filter: &TopicFilter,
        now: Timestamp,
        mut found: impl FnMut(&Arc<StoredMessage>),
    ) {
        let levels: SmallVec<[&str; 16]> = filter.levels().collect();
        let mut visit = |message: &Arc<StoredMessage>| {
            if !message.is_expired(now) {
                found(message);
            }
        };
        match levels[0] {
            "+" | "#" => {
                for shard in &self.shards {
                    let root = shard.root.read();
                    for (level, child) in root.children.iter().flat_map(|c| c.iter()) {
                        // MQTT-4.7.2-1
                        if level.starts_with('$') {
                            continue;
                        }
                        if levels[0] == "#" {
                            collect_all(child, &mut visit);
                        } else {
                            collect(child, &levels[1..], &mut visit);
                        }
                    }
                }
            }
            literal => collect(&self.shard(literal).root.read(), &levels, &mut visit),
        }
    }

    /// Forgets what has expired in one of the shards and tells how many messages that were. Called
    /// with a number that goes up, it comes around to every shard.
    pub(crate) fn purge(&self, turn: usize, now: Timestamp, shared: &Shared) -> u64 {
        let shard = &self.shards[turn % SHARDS];
        if shard.earliest_expiry.load(Relaxed) > now.as_millis() {
            return 0;
        }
        // What is retained during the walk lowers it again.
        let never = Timestamp::NEVER.as_millis();
        shard.earliest_expiry.store(never, Relaxed);
        let mut earliest = never;
        let mut expired = Vec::new();
        collect_all(&shard.root.read(), &mut |message| {
            if message.is_expired(now) {
                expired.push(Arc::clone(message));
            } else if let Some(at) = message.expires_at() {
                earliest = earliest.min(at.as_millis());
            }
        });
        shard.earliest_expiry.fetch_min(earliest, Relaxed);
        let mut purged = 0;
        for message in expired {
            let levels: SmallVec<[&str; 16]> = message.topic().split('/').collect();
            let mut root = shard.root.write();
            // It may have been replaced meanwhile.
            let topic = TopicName::trusted(message.topic());
            if get(&root, topic).is_some_and(|now_there| Arc::ptr_eq(now_there, &message)) {
                remove(&mut root, &levels);
                let _ = forget(&message, shared);
                purged += 1;
            }
        }
        purged
    }
}

/// Takes a message that has left the tree off the counters, and tells the engine. Called under the lock of
/// its shard.
fn forget(message: &StoredMessage, shared: &Shared) -> Ticket {
    let counters = &shared.counters;
    counters.retained_messages.sub(1);
    counters
        .retained_bytes
        .sub(cost(message.topic(), message.size()) as u64);
    if shared.durable {
        shared.store.retain(message.topic(), None)
    } else {
        Ticket::ready()
    }
}

fn get<'a>(root: &'a Node, topic: TopicName<'_>) -> Option<&'a Arc<StoredMessage>> {
    let node = topic
        .levels()
        .try_fold(root, |node, level| node.children.as_ref()?.get(level))?;
    node.message.as_ref()
}

/// Removes the message at `levels` and every node that holds nothing afterwards.
fn remove(node: &mut Node, levels: &[&str]) -> Option<Arc<StoredMessage>> {
    let Some((level, rest)) = levels.split_first() else {
        return node.message.take();
    };
    let children = node.children.as_mut()?;
    let child = children.get_mut(*level)?;
    let removed = remove(child, rest);
    if child.message.is_none() && child.children.is_none() {
        children.remove(*level);
        if children.is_empty() {
            node.children = None;
        }
    }
    removed
}

fn collect(node: &Node, levels: &[&str], visit: &mut impl FnMut(&Arc<StoredMessage>)) {
    let Some((level, rest)) = levels.split_first() else {
        if let Some(message) = &node.message {
            visit(message);
        }
        return;
    };
    match *level {
        "#" => collect_all(node, visit),
        "+" => {
            for child in node.children.iter().flat_map(|children| children.values()) {
                collect(child, rest, visit);
            }
        }
        literal => {
            if let Some(child) = node.children.as_ref().and_then(|c| c.get(literal)) {
                collect(child, rest, visit);
            }
        }
    }
}

fn collect_all(node: &Node, visit: &mut impl FnMut(&Arc<StoredMessage>)) {
    if let Some(message) = &node.message {
        visit(message);
    }
    for child in node.children.iter().flat_map(|children| children.values()) {
        collect_all(child, visit);
    }
}

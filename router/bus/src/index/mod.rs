//! The subscription index: which subscribers a topic has.
//!
//! Filters live in tries, one per shard. A filter whose first level is literal lives in the shard of
//! that level; one that begins with a wildcard lives in a shard of its own, so a topic is looked up
//! in two shards. Each shard counts its changes in a *generation*. A worker keeps the receivers of a
//! topic together with the generations of the two shards it looked in (see [`crate::routes`]) and
//! asks again only when one of them has moved: subscriptions elsewhere void nothing here.
//!
//! Invariants:
//!
//! 1. A generation is advanced (release) after the change, before the shard's lock is given back
//!    and so before the SUBACK is queued; a publisher loads it (acquire) before it looks the topic
//!    up. Whoever publishes after a SUBACK was seen therefore finds the subscription.
//! 2. Looking a topic up takes a shard's lock for one walk; subscribing takes it for one insertion.
//!    Neither waits for a socket, a session or a second shard.
//! 3. A subscription knows its slot in its leaf, so that its removal needs no search, also from a
//!    filter that a hundred thousand clients share.

mod groups;
mod trie;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use smallvec::SmallVec;

pub(crate) use groups::{Group, Run};
use trie::Trie;

use crate::subscriber::Subscriber;
use crate::subscription::Subscription;
use crate::topic::TopicName;

/// Shards of literal first levels. A power of two.
const LITERAL_SHARDS: usize = 64;

/// The shard of filters that begin with `+` or `#`.
const WILDCARD_SHARD: usize = LITERAL_SHARDS;

/// A subscriber with one of its subscriptions.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) subscriber: Arc<dyn Subscriber>,
    pub(crate) subscription: Arc<Subscription>,
}

/// A subscriber with every subscription of its that matches a topic.
pub(crate) struct Target {
    pub(crate) subscriber: Arc<dyn Subscriber>,
    pub(crate) subscriptions: SmallVec<[Arc<Subscription>; 1]>,
}

/// Everybody who receives a topic.
#[derive(Default)]
pub(crate) struct Targets {
    pub(crate) plain: Vec<Target>,
    pub(crate) groups: Vec<Group>,
}

impl Targets {
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }

    /// Bytes this takes, about, for the budget of a cache.
    pub(crate) fn size(&self) -> usize {
        let members: usize = self.groups.iter().map(|g| g.members.len()).sum();
        size_of::<Self>()
            + self.plain.len() * size_of::<Target>()
            + self.groups.len() * size_of::<Group>()
            + members * size_of::<Entry>()
    }
}

/// The state of the two shards a topic is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    literal: u64,
    wildcard: u64,
}

#[derive(Default)]
#[repr(align(64))]
struct Shard {
    generation: AtomicU64,
    trie: RwLock<Trie>,
}

/// All subscriptions of the bus.
pub(crate) struct Index {
    shards: Box<[Shard]>,
    hasher: foldhash::fast::FixedState,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..=LITERAL_SHARDS).map(|_| Shard::default()).collect(),
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    fn literal_shard(&self, first_level: &str) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(first_level.as_bytes());
        hasher.finish() as usize % LITERAL_SHARDS
    }

    fn shard_of_pattern(&self, pattern: &str) -> &Shard {
        let first = pattern.split('/').next().unwrap_or_default();
        let shard = match first {
            "+" | "#" => WILDCARD_SHARD,
            literal => self.literal_shard(literal),
        };
        &self.shards[shard]
    }

    /// The shard a topic's literal filters live in: worth remembering beside a cached topic.
    pub(crate) fn shard_of_topic(&self, topic: TopicName<'_>) -> usize {
        self.literal_shard(topic.levels().next().unwrap_or_default())
    }

    /// Whether anything changed where `shard` and the wildcards live. Acquire: see invariant 1.
    #[inline]
    pub(crate) fn generation(&self, shard: usize) -> Generation {
        Generation {
            literal: self.shards[shard].generation.load(Ordering::Acquire),
            wildcard: self.shards[WILDCARD_SHARD]
                .generation
                .load(Ordering::Acquire),
        }
    }

    /// Makes `entry` visible to every publish from now on.
    pub(crate) fn insert(&self, entry: Entry) {
        let subscription = Arc::clone(&entry.subscription);
        let shard = self.shard_of_pattern(subscription.filter().pattern());
        let mut trie = shard.trie.write();
        trie.insert(entry);
        shard.generation.fetch_add(1, Ordering::Release);
    }

    /// Takes a subscription out again; `false` when it was not there.
    pub(crate) fn remove(&self, subscription: &Subscription) -> bool {
        let shard = self.shard_of_pattern(subscription.filter().pattern());
        let mut trie = shard.trie.write();
        let removed = trie.remove(subscription);
        if removed {
            shard.generation.fetch_add(1, Ordering::Release);
        }
        removed
    }

    /// Everybody who receives `topic`, each subscriber once.
    pub(crate) fn lookup(&self, topic: TopicName<'_>) -> Targets {
        let levels: SmallVec<[&str; 16]> = topic.levels().collect();
        let mut found = Vec::new();
        let mut groups = Vec::new();
        let literal = self.literal_shard(levels[0]);
        self.shards[literal]
            .trie
            .read()
            .collect(&levels, &mut found, &mut groups);
        if !topic.is_system() {
            self.shards[WILDCARD_SHARD]
                .trie
                .read()
                .collect(&levels, &mut found, &mut groups);
        }
        Targets {
            plain: merge(found),
            groups,
        }
    }

    /// The members of one shared group, for messages that must find another member.
    pub(crate) fn group(&self, share_name: &str, pattern: &str) -> Option<Group> {
        self.shard_of_pattern(pattern)
            .trie
            .read()
            .group(share_name, pattern)
    }
}

/// Brings the subscriptions of each subscriber together: one delivery with all identifiers
/// (MQTT 5.0 section 3.3.4), not one per overlapping filter.
fn merge(mut found: Vec<Entry>) -> Vec<Target> {
    if found.len() > 1 {
        found.sort_by_key(|entry| entry.subscriber.key());
    }
    let mut targets: Vec<Target> = Vec::with_capacity(found.len());
    for Entry {
        subscriber,
        subscription,
    } in found
    {
        match targets.last_mut() {
            Some(last) if last.subscriber.key() == subscriber.key() => {
                last.subscriptions.push(subscription);
            }
            _ => {
                let subscriptions = SmallVec::from_buf([subscription]);
                targets.push(Target {
                    subscriber,
                    subscriptions,
                });
            }
        }
    }
    targets
}

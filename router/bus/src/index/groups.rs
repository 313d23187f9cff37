//! Shared groups: how one member is chosen (MQTT 5.0 section 4.8.2).

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Entry;
use crate::message::Message;
use crate::settings::SharedStrategy;

/// How many members `least_inflight` looks at, from a starting point that moves: exact for groups
/// up to this size, and never a walk over thousands of members per message.
const LEAST_INFLIGHT_SAMPLE: usize = 64;

/// `least_inflight` stays with its choice, within one batch, until the member has got this part of what
/// it had open more than when it was chosen. Where thousands are open that is a batch for each member, which
/// is woken and written to once for all of it; where there is little to do every message is a choice.
const LEAST_INFLIGHT_SLACK: u32 = 8;

/// What a group remembers between messages; one for all workers.
#[derive(Debug)]
pub(crate) struct GroupState {
    name: Box<str>,
    turn: AtomicU64,
    /// The key of the member that `sticky` stays with; `u64::MAX` before the first.
    sticky: AtomicU64,
}

impl GroupState {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            turn: AtomicU64::new(0),
            sticky: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) as usize
    }
}

/// A group as it was when its topic was looked up.
#[derive(Clone)]
pub(crate) struct Group {
    pub(super) state: Arc<GroupState>,
    pub(crate) members: Box<[Entry]>,
}

/// The last choice of `least_inflight` in this batch of a worker, and for how many messages it holds on.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The address of the group's state: which group it is.
    group: usize,
    at: usize,
    /// The member that was at this place.
    key: u64,
    left: u32,
}

/// The order in which members are offered one message: the strategy's choice, then the others from
/// there, those that can take it first.
pub(crate) struct GroupPick<'a> {
    members: &'a [Entry],
    first: usize,
    /// Offers made so far; from `members.len()` on it is the turn of those that cannot.
    offered: usize,
}

impl Group {
    /// Chooses for `message`. `random` is a fresh random number, `run` the same for all messages of a
    /// batch.
    pub(crate) fn pick(
        &self,
        strategy: SharedStrategy,
        message: &Message<'_>,
        random: u64,
        run: &mut Run,
    ) -> GroupPick<'_> {
        let members = &*self.members;
        let count = members.len();
        let first = match strategy {
            _ if count <= 1 => 0,
            SharedStrategy::RoundRobin => self.state.next_turn() % count,
            SharedStrategy::Random => (random % count as u64) as usize,
            SharedStrategy::Sticky => self.sticky(),
            SharedStrategy::HashTopic => self.highest_hash(message.topic.as_str().as_bytes()),
            SharedStrategy::HashClient => self.highest_hash(&message.publisher.0.to_le_bytes()),
            SharedStrategy::LeastInflight => self.least_inflight(run),
            SharedStrategy::LocalFirst => self.local_first(),
        };
        GroupPick {
            members,
            first,
            offered: 0,
        }
    }

    /// `sticky` moves on only when its member has left or cannot take more.
    fn sticky(&self) -> usize {
        let key = self.state.sticky.load(Ordering::Relaxed);
        let current = self
            .members
            .iter()
            .position(|m| m.subscriber.key() == key && m.subscriber.is_available());
        current.unwrap_or_else(|| {
            let next = self
                .members
                .iter()
                .position(|m| m.subscriber.is_available())
                .unwrap_or(0);
            self.state
                .sticky
                .store(self.members[next].subscriber.key(), Ordering::Relaxed);
            next
        })
    }

    /// Rendezvous hashing: when a member leaves only its own share moves.
    fn highest_hash(&self, value: &[u8]) -> usize {
        let state = foldhash::quality::FixedState::default();
        let score = |member: &Entry| {
            let mut hasher = state.build_hasher();
            hasher.write(value);
            hasher.write_u64(member.subscriber.key());
            hasher.finish()
        };
        let best = self
            .members
            .iter()
            .enumerate()
            .max_by_key(|(_, member)| score(member));
        best.map_or(0, |(at, _)| at)
    }

    fn least_inflight(&self, run: &mut Run) -> usize {
        let group = Arc::as_ptr(&self.state).addr();
        let holds = run.left > 0 && run.group == group;
        let member = self.members.get(run.at).filter(|_| holds);
        if member.is_some_and(|member| member.subscriber.key() == run.key) {
            run.left -= 1;
            return run.at;
        }
        let count = self.members.len();
        // From the one after the last chosen, so that equal ones take turns however many there are.
        let start = self.state.turn.load(Ordering::Relaxed) as usize;
        let mut best = (start % count, u32::MAX);
        for step in 0..count.min(LEAST_INFLIGHT_SAMPLE) {
            let at = start.wrapping_add(step) % count;
            let member = &self.members[at].subscriber;
            if !member.is_available() {
                continue;
            }
            let load = member.load();
            if load < best.1 {
                best = (at, load);
                if load == 0 {
                    break;
                }
            }
        }
        self.state.turn.store(best.0 as u64 + 1, Ordering::Relaxed);
        let open = if best.1 == u32::MAX { 0 } else { best.1 };
        *run = Run {
            group,
            at: best.0,
            key: self.members[best.0].subscriber.key(),
            left: open / LEAST_INFLIGHT_SLACK,
        };
        best.0
    }

    fn local_first(&self) -> usize {
        let turn = self.state.next_turn();
        let here =
            |member: &&Entry| member.subscriber.is_local() && member.subscriber.is_available();
        let count = self.members.iter().filter(here).count();
        let nth = turn.checked_rem(count);
        let local = nth.and_then(|n| {
            let mut local = self
                .members
                .iter()
                .enumerate()
                .filter(|(_, member)| here(member));
            local.nth(n).map(|(at, _)| at)
        });
        local.unwrap_or(turn % self.members.len())
    }
}

impl<'a> Iterator for GroupPick<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let count = self.members.len();
        while self.offered < 2 * count {
            let available = self.offered < count;
            let member = &self.members[(self.first + self.offered) % count];
            self.offered += 1;
            // In the second round everybody, also who was not there a moment ago.
            if !available || member.subscriber.is_available() {
                return Some(member);
            }
        }
        None
    }
}

//! One shard of the index: filters as paths of levels.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::groups::{Group, GroupState};
use super::{Entry, Subscription};

type Children = HashMap<Box<str>, Node, foldhash::fast::FixedState>;

/// One level of a filter.
#[derive(Default)]
struct Node {
    literal: Option<Box<Children>>,
    plus: Option<Box<Node>>,
    /// Filters that end here.
    here: Option<Box<Leaf>>,
    /// Filters that end here with `/#`, which match this level too (MQTT 5.0 section 4.7.1.2).
    below: Option<Box<Leaf>>,
}

/// Everybody with one filter.
#[derive(Default)]
struct Leaf {
    plain: SmallVec<[Entry; 1]>,
    #[expect(clippy::box_collection, reason = "most filters are not shared")]
    groups: Option<Box<Vec<LeafGroup>>>,
}

struct LeafGroup {
    state: Arc<GroupState>,
    members: Vec<Entry>,
}

#[derive(Default)]
pub(super) struct Trie {
    root: Node,
}

impl Trie {
    pub(super) fn insert(&mut self, entry: Entry) {
        let filter = entry.subscription.filter().clone();
        let mut node = &mut self.root;
        let mut levels = filter.levels();
        let leaf = loop {
            node = match levels.next() {
                None => break &mut node.here,
                Some("#") => break &mut node.below,
                Some("+") => node.plus.get_or_insert_default(),
                Some(level) => node
                    .literal
                    .get_or_insert_default()
                    .entry(level.into())
                    .or_default(),
            };
        };
        leaf.get_or_insert_default().insert(entry);
    }

    pub(super) fn remove(&mut self, subscription: &Subscription) -> bool {
        let levels: SmallVec<[&str; 16]> = subscription.filter().levels().collect();
        remove_below(&mut self.root, &levels, subscription)
    }

    pub(super) fn collect(&self, levels: &[&str], plain: &mut Vec<Entry>, groups: &mut Vec<Group>) {
        collect_below(&self.root, levels, &mut |leaf| leaf.collect(plain, groups));
    }

    pub(super) fn group(&self, share_name: &str, pattern: &str) -> Option<Group> {
        let mut node = &self.root;
        let mut levels = pattern.split('/');
        let leaf = loop {
            node = match levels.next() {
                None => break node.here.as_deref()?,
                Some("#") => break node.below.as_deref()?,
                Some("+") => node.plus.as_deref()?,
                Some(level) => node.literal.as_deref()?.get(level)?,
            };
        };
        leaf.groups()
            .iter()
            .find(|g| g.state.name() == share_name)
            .map(LeafGroup::snapshot)
    }
}

/// Visits every leaf whose filter matches. The depth is bounded by the limit on topic levels.
fn collect_below(node: &Node, levels: &[&str], visit: &mut impl FnMut(&Leaf)) {
    if let Some(leaf) = &node.below {
        visit(leaf);
    }
    let Some((level, rest)) = levels.split_first() else {
        if let Some(leaf) = &node.here {
            visit(leaf);
        }
        return;
    };
    if let Some(child) = node
        .literal
        .as_ref()
        .and_then(|children| children.get(*level))
    {
        collect_below(child, rest, visit);
    }
    if let Some(child) = &node.plus {
        collect_below(child, rest, visit);
    }
}

/// Removes `subscription` and every node that holds nothing afterwards.
fn remove_below(node: &mut Node, levels: &[&str], subscription: &Subscription) -> bool {
    let Some((level, rest)) = levels.split_first() else {
        return remove_from(&mut node.here, subscription);
    };
    match *level {
        "#" => remove_from(&mut node.below, subscription),
        "+" => {
            let Some(child) = &mut node.plus else {
                return false;
            };
            let removed = remove_below(child, rest, subscription);
            if child.is_empty() {
                node.plus = None;
            }
            removed
        }
        level => {
            let Some(children) = &mut node.literal else {
                return false;
            };
            let Some(child) = children.get_mut(level) else {
                return false;
            };
            let removed = remove_below(child, rest, subscription);
            if child.is_empty() {
                children.remove(level);
                if children.is_empty() {
                    node.literal = None;
                } else if children.capacity() > 64 && children.len() < children.capacity() / 4 {
                    // A storm of subscriptions that has passed gives its memory back.
                    children.shrink_to_fit();
                }
            }
            removed
        }
    }
}

fn remove_from(leaf: &mut Option<Box<Leaf>>, subscription: &Subscription) -> bool {
    let Some(inner) = leaf else { return false };
    let removed = inner.remove(subscription);
    if inner.plain.is_empty() && inner.groups().is_empty() {
        *leaf = None;
    }
    removed
}

impl Node {
    fn is_empty(&self) -> bool {
        self.literal.is_none() && self.plus.is_none() && self.here.is_none() && self.below.is_none()
    }
}

impl Leaf {
    fn groups(&self) -> &[LeafGroup] {
        self.groups.as_ref().map_or(&[], |groups| groups)
    }

    fn insert(&mut self, entry: Entry) {
        let Some(share_name) = entry.subscription.filter().share_name() else {
            entry
                .subscription
                .slot
                .store(self.plain.len() as u32, Ordering::Relaxed);
            self.plain.push(entry);
            return;
        };
        let groups = self.groups.get_or_insert_default();
        let at = groups.iter().position(|g| g.state.name() == share_name);
        let at = at.unwrap_or_else(|| {
            groups.push(LeafGroup {
                state: Arc::new(GroupState::new(share_name)),
                members: Vec::new(),
            });
            groups.len() - 1
        });
        let group = &mut groups[at];
        entry
            .subscription
            .slot
            .store(group.members.len() as u32, Ordering::Relaxed);
        group.members.push(entry);
    }

    fn remove(&mut self, subscription: &Subscription) -> bool {
        let slot = subscription.slot.load(Ordering::Relaxed) as usize;
        let Some(share_name) = subscription.filter().share_name() else {
            if !is_at(&self.plain, slot, subscription) {
                return false;
            }
            self.plain.swap_remove(slot);
            moved_to(&self.plain, slot);
            return true;
        };
        let Some(groups) = &mut self.groups else {
            return false;
        };
        let Some(at) = groups.iter().position(|g| g.state.name() == share_name) else {
            return false;
        };
        let members = &mut groups[at].members;
        if !is_at(members, slot, subscription) {
            return false;
        }
        members.swap_remove(slot);
        moved_to(members, slot);
        if members.is_empty() {
            groups.swap_remove(at);
            if groups.is_empty() {
                self.groups = None;
            }
        }
        true
    }

    fn collect(&self, plain: &mut Vec<Entry>, groups: &mut Vec<Group>) {
        plain.extend(self.plain.iter().cloned());
        groups.extend(self.groups().iter().map(LeafGroup::snapshot));
    }
}

impl LeafGroup {
    fn snapshot(&self) -> Group {
        Group {
            state: Arc::clone(&self.state),
            members: self.members.clone().into_boxed_slice(),
        }
    }
}

fn is_at(entries: &[Entry], slot: usize, subscription: &Subscription) -> bool {
    entries
        .get(slot)
        .is_some_and(|e| std::ptr::eq(Arc::as_ptr(&e.subscription), subscription))
}

/// After a swap-remove the entry that filled the gap learns its new place.
fn moved_to(entries: &[Entry], slot: usize) {
    if let Some(entry) = entries.get(slot) {
        entry
            .subscription
            .slot
            .store(slot as u32, Ordering::Relaxed);
    }
}

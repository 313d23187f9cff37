//! What was told and acknowledged when: the marks of the workload among the other events.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::log::Event;
use crate::op::Op;
use crate::state::State;

/// What the workload says. Operations count from 1; a state is numbered by the last operation in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// The engine is open and has given back the state of this number.
    Resumed(usize),
    /// An operation is about to be told.
    Told(usize, Op),
    /// An operation shares the ticket of an earlier one: they are kept together.
    Joined(usize, usize),
    /// The ticket of an operation has completed, and with it all before.
    Kept(usize),
    /// An operation was told under an epoch that is not the newest, and was refused.
    Refused(Op),
}

impl Mark {
    /// As it is written.
    ///
    /// # Errors
    ///
    /// Never for these types.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// A state that the engine may have had.
#[derive(Clone, Debug)]
struct Node {
    parent: usize,
    depth: usize,
    op: Option<Op>,
    sum: u64,
    /// The first operation that is kept with it, as far as its ticket says.
    group: usize,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    /// From this event on.
    event: usize,
    told: usize,
    kept: usize,
    epoch: u64,
}

/// What was told and acknowledged when.
#[derive(Clone, Debug)]
pub struct History {
    nodes: Vec<Node>,
    moments: Vec<Moment>,
    /// Operations that were refused, with their event.
    pub refused: Vec<(usize, Op)>,
    /// How often an engine was opened.
    pub boots: usize,
}

/// What may be found after a power failure at one moment.
#[derive(Clone, Debug)]
pub struct Window<'a> {
    /// Everything told.
    pub ops: Vec<&'a Op>,
    /// So many of it were acknowledged.
    pub kept: usize,
    /// The sum of the state after so many operations.
    pub sums: Vec<u64>,
    /// By operation (the first at 0): the number of the first that is kept with it.
    pub groups: Vec<usize>,
    /// The highest epoch that was used.
    pub epoch: u64,
}

impl Window<'_> {
    /// Whether a batch ends after so many operations, as far as is known.
    pub fn is_boundary(&self, number: usize) -> bool {
        self.groups[number..].iter().all(|&group| group > number)
    }
}

impl History {
    /// The history that is in the marks among `events`, after that of `base`, all of which was kept.
    ///
    /// # Errors
    ///
    /// When the marks make no sense.
    pub fn new(base: &[Op], events: &[Event]) -> Result<Self> {
        let mut history = Self {
            nodes: vec![Node {
                parent: 0,
                depth: 0,
                op: None,
                sum: 0,
                group: 0,
            }],
            moments: Vec::new(),
            refused: Vec::new(),
            boots: 0,
        };
        let mut state = State::default();
        let mut now = Moment {
            event: 0,
            told: 0,
            kept: 0,
            epoch: 0,
        };
        for op in base {
            history.tell(&mut now, &mut state, op);
        }
        now.kept = now.told;
        history.moments.push(now);
        for (event, mark) in events.iter().enumerate() {
            let Event::Mark { text } = mark else {
                continue;
            };
            let mark = serde_json::from_slice(text).context("a mark does not read")?;
            now.event = event;
            match mark {
                Mark::Resumed(number) => {
                    now.told = history.ancestor(now.told, number)?;
                    now.kept = now.told;
                    state = State::after(history.chain(now.told));
                    history.boots += 1;
                }
                Mark::Told(number, op) => {
                    history.tell(&mut now, &mut state, &op);
                    let depth = history.nodes[now.told].depth;
                    ensure!(depth == number, "operation {number} is told as {depth}");
                }
                Mark::Joined(number, first) => {
                    let node = history.ancestor(now.told, number)?;
                    history.nodes[node].group = first;
                }
                Mark::Kept(number) => {
                    let node = history.ancestor(now.told, number)?;
                    let later = history.nodes[node].depth > history.nodes[now.kept].depth;
                    now.kept = if later { node } else { now.kept };
                }
                Mark::Refused(op) => history.refused.push((event, op)),
            }
            history.moments.push(now);
        }
        Ok(history)
    }

    fn tell(&mut self, now: &mut Moment, state: &mut State, op: &Op) {
        state.apply(op);
        let depth = self.nodes[now.told].depth + 1;
        self.nodes.push(Node {
            parent: now.told,
            depth,
            op: Some(op.clone()),
            sum: state.lines.sum(),
            group: depth,
        });
        now.told = self.nodes.len() - 1;
        if let Op::Attach { epoch, .. } = op {
            now.epoch = now.epoch.max(*epoch);
        }
    }

    fn ancestor(&self, mut node: usize, depth: usize) -> Result<usize> {
        ensure!(
            depth <= self.nodes[node].depth,
            "operation {depth} was not told"
        );
        while self.nodes[node].depth > depth {
            node = self.nodes[node].parent;
        }
        Ok(node)
    }

    fn path(&self, mut node: usize) -> Vec<usize> {
        let mut path = Vec::with_capacity(self.nodes[node].depth);
        while self.nodes[node].depth > 0 {
            path.push(node);
            node = self.nodes[node].parent;
        }
        path.reverse();
        path
    }

    fn chain(&self, node: usize) -> Vec<&Op> {
        let path = self.path(node).into_iter();
        path.filter_map(|node| self.nodes[node].op.as_ref())
            .collect()
    }

    /// What may be found when the power fails before this event.
    pub fn window(&self, event: usize) -> Window<'_> {
        let after = self.moments.partition_point(|m| m.event < event);
        let now = self.moments[after.max(1) - 1];
        let path = self.path(now.told);
        let sums = path.iter().map(|&node| self.nodes[node].sum);
        Window {
            ops: self.chain(now.told),
            kept: self.nodes[now.kept].depth,
            sums: std::iter::once(self.nodes[0].sum).chain(sums).collect(),
            groups: path.iter().map(|&node| self.nodes[node].group).collect(),
            epoch: now.epoch,
        }
    }

    /// What the workload needs to know to go on: everything told, and how much of it was
    /// acknowledged.
    pub fn end(&self) -> (Vec<Op>, usize) {
        let window = self.window(usize::MAX);
        (window.ops.into_iter().cloned().collect(), window.kept)
    }

    /// How many operations of each kind were told.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for op in self.nodes.iter().filter_map(|node| node.op.as_ref()) {
            let kind = match op {
                Op::Publish { .. } => "publications",
                Op::Retain(..) => "retained",
                Op::Sent(..) | Op::Received(..) | Op::Done(..) | Op::Released(..) => "deliveries",
                _ => "sessions",
            };
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retain(number: u64) -> Op {
        Op::Retain("r".to_owned(), Some(crate::op::Body { number, size: 8 }))
    }

    fn mark(mark: &Mark) -> Event {
        let text = mark.to_bytes().unwrap();
        Event::Mark { text }
    }

    #[test]
    fn a_window_is_from_what_was_acknowledged_to_what_was_told() {
        let events = [
            mark(&Mark::Resumed(0)),
            mark(&Mark::Told(1, retain(1))),
            mark(&Mark::Told(2, retain(2))),
            mark(&Mark::Joined(2, 1)),
            mark(&Mark::Kept(2)),
            mark(&Mark::Told(3, retain(3))),
            mark(&Mark::Resumed(2)),
            mark(&Mark::Told(3, retain(4))),
        ];
        let history = History::new(&[], &events).unwrap();
        let window = history.window(3);
        assert_eq!((window.ops.len(), window.kept), (2, 0));
        assert!(window.is_boundary(0) && !window.is_boundary(1) && window.is_boundary(2));
        let window = history.window(6);
        assert_eq!((window.ops.len(), window.kept), (3, 2));
        let window = history.window(8);
        assert_eq!(window.ops, [&retain(1), &retain(2), &retain(4)]);
        assert_eq!(window.kept, 2);
    }
}

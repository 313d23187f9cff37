//! What was told and not taken yet, and who may tell.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tidegate_bus::{ClientId, Completion, QueueReader, StoreError, Ticket};

use crate::index::Index;
use crate::op::Op;

/// Who owns a client identifier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// The session; 0: it has ended.
    pub(crate) session: u64,
    /// The newest epoch that was told of.
    pub(crate) epoch: u64,
}

/// Clients whose session has ended are remembered so that a late connection of theirs is
/// fenced; this many of them.
const ENDED_KEPT: usize = 65_536;

/// Owners by client.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    map: HashMap<ClientId, Owner>,
    ended: VecDeque<(ClientId, u64)>,
}

impl Owners {
    /// With room for so many.
    pub(crate) fn with_capacity(owners: usize) -> Self {
        Self {
            map: HashMap::with_capacity(owners),
            ended: VecDeque::new(),
        }
    }

    /// The owner of the client identifier, also after its end.
    pub(crate) fn get(&self, client: &ClientId) -> Option<Owner> {
        self.map.get(client).copied()
    }

    /// Installs an owner.
    pub(crate) fn set(&mut self, client: &ClientId, owner: Owner) {
        self.map.insert(client.clone(), owner);
        if owner.session != 0 {
            return;
        }
        self.ended.push_back((client.clone(), owner.epoch));
        if self.ended.len() > ENDED_KEPT
            && let Some((client, epoch)) = self.ended.pop_front()
            && self
                .get(&client)
                .is_some_and(|o| o.session == 0 && o.epoch == epoch)
        {
            self.map.remove(&client);
        }
    }
}

/// A queue to be read.
pub(crate) struct Read {
    pub(crate) session: u64,
    pub(crate) from: u64,
    pub(crate) reader: Box<dyn QueueReader>,
}

/// One ticket for many, made when the first asks.
#[derive(Debug, Default)]
pub(crate) struct Shared(Option<(Option<Ticket>, Completion)>);

impl Shared {
    fn ticket(&mut self) -> Ticket {
        let (ticket, _) = self.0.get_or_insert_with(|| {
            let (ticket, completion) = Ticket::pending();
            (Some(ticket), completion)
        });
        // It is let go only when nobody asks any more.
        ticket.clone().unwrap_or_default()
    }

    /// Whether anybody waits. Nobody asks for it any more.
    fn is_awaited(&mut self) -> bool {
        self.0.as_mut().is_some_and(|(ticket, completion)| {
            *ticket = None;
            completion.is_awaited()
        })
    }

    /// Completes it, if anybody asked for it.
    pub(crate) fn complete(self, result: Result<(), StoreError>) {
        if let Some((_, completion)) = self.0 {
            completion.complete(result);
        }
    }
}

/// What is taken at once.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) ops: Vec<Op>,
    pub(crate) reads: Vec<Read>,
    /// Of publications: they fail at once when the disk does.
    pub(crate) publications: Shared,
    /// Of everything else: it waits for the disk to come back.
    pub(crate) changes: Shared,
    /// Bytes that wait, about.
    pub(crate) bytes: usize,
}

impl Group {
    /// Appends an operation.
    pub(crate) fn push(&mut self, op: Op) {
        self.bytes += op.size();
        self.ops.push(op);
    }

    /// The ticket of what is published now.
    pub(crate) fn publication(&mut self) -> Ticket {
        self.publications.ticket()
    }

    /// The ticket of what is changed now.
    pub(crate) fn change(&mut self) -> Ticket {
        self.changes.ticket()
    }

    /// Whether anybody waits for any of it, after it was taken.
    pub(crate) fn is_awaited(&mut self) -> bool {
        self.publications.is_awaited() | self.changes.is_awaited()
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
            && self.reads.is_empty()
            && self.publications.0.is_none()
            && self.changes.0.is_none()
    }
}

/// What was told and not taken yet, and who may tell. Behind one lock.
#[derive(Default)]
pub(crate) struct Intake {
    pub(crate) group: Group,
    pub(crate) owners: Owners,
    /// From the walk at the start to the committer, which does nothing before.
    pub(crate) index: Option<Index>,
    /// Why publications are refused.
    pub(crate) failing: Option<StoreError>,
    /// The committer sleeps and is to be woken.
    pub(crate) sleeping: bool,
    /// No more will be told.
    pub(crate) closing: bool,
}

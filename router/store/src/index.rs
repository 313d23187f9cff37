//! What the committer holds in memory of what is on the disk.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// What the committer holds in memory of what is on the disk.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The sessions that exist, with the highest place each was told of.
    pub(crate) live: HashMap<u64, u64>,
    /// How many references there are to a body of `bodies`; those with one are not here.
    references: HashMap<u64, u32>,
    /// Sessions that do not exist any more and may have something left.
    pub(crate) ended: VecDeque<Rest>,
}

/// What is left of a session that does not exist any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) session: u64,
    /// Places below are swept already. Where to go on, so that no slice passes over the
    /// tombstones of those before it.
    pub(crate) from: u64,
}

impl Index {
    /// A reference was found on the disk.
    pub(crate) fn count(&mut self, body: u64) {
        *self.references.entry(body).or_insert(0) += 1;
    }

    /// All references were counted.
    pub(crate) fn counted(&mut self) {
        self.references.retain(|_, references| *references > 1);
        self.references.shrink_to_fit();
    }

    /// A body was written that so many wait for.
    pub(crate) fn shared(&mut self, body: u64, references: u32) {
        if references > 1 {
            self.references.insert(body, references);
        }
    }

    /// A reference is gone. Whether it was the last.
    pub(crate) fn release(&mut self, body: u64) -> bool {
        let Some(references) = self.references.get_mut(&body) else {
            return true;
        };
        *references -= 1;
        if *references == 1 {
            self.references.remove(&body);
        }
        false
    }

    /// The session is there from now on.
    pub(crate) fn begin(&mut self, session: u64) {
        self.live.entry(session).or_insert(0);
    }

    /// The session is there no more; what is left of it is swept.
    pub(crate) fn end(&mut self, session: u64) {
        if self.live.remove(&session).is_some() {
            self.left(session);
        }
    }

    /// Leaves what ended sessions have left where it is.
    pub(crate) fn spare(&mut self) {
        self.ended.clear();
    }

    /// Something of a session that does not exist was found.
    pub(crate) fn left(&mut self, session: u64) {
        if self.ended.back().is_none_or(|rest| rest.session != session) {
            self.ended.push_back(Rest { session, from: 0 });
        }
    }

    /// Whether the session exists.
    pub(crate) fn is_live(&self, session: u64) -> bool {
        self.live.contains_key(&session)
    }

    /// Whether the session exists; if it does, it has been told of this place.
    pub(crate) fn reach(&mut self, session: u64, place: u64) -> bool {
        match self.live.get_mut(&session) {
            Some(last) => {
                *last = (*last).max(place);
                true
            }
            None => false,
        }
    }
}

//! What was published, in the order in which the bus has it, and what each connection should have published.

use std::collections::BTreeMap;

use super::ask::room;
use super::gateway::Said;

/// Rooms: one of each connection, and one of somebody else.
pub(super) const ROOMS: usize = 4;

/// The room of whoever is not connected here.
pub(super) const ELSEWHERE: usize = ROOMS - 1;

/// A message, and which of its publisher it is.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) said: Said,
    pub(super) of: usize,
    pub(super) number: usize,
}

#[derive(Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    counts: [usize; ROOMS],
    /// What is retained after all entries.
    pub(super) retained: BTreeMap<String, Vec<u8>>,
}

impl Log {
    pub(super) fn take(&mut self, heard: Vec<Said>) {
        for said in heard {
            let of = (0..ELSEWHERE).find(|of| said.topic.starts_with(&room(*of)));
            let of = of.unwrap_or(ELSEWHERE);
            retain(&mut self.retained, &said);
            self.entries.push(Entry {
                said,
                of,
                number: self.counts[of],
            });
            self.counts[of] += 1;
        }
    }

    /// What this one has published, from its message `from` on.
    pub(super) fn of(&self, room: usize, from: usize) -> impl Iterator<Item = &Said> {
        let its = self.entries.iter().filter(move |entry| entry.of == room);
        its.skip(from).map(|entry| &entry.said)
    }

    pub(super) const fn count_of(&self, room: usize) -> usize {
        self.counts[room]
    }
}

/// What a message does to what is retained.
pub(super) fn retain(retained: &mut BTreeMap<String, Vec<u8>>, said: &Said) {
    if !said.retain {
        return;
    }
    if said.payload.is_empty() {
        retained.remove(&said.topic);
    } else {
        retained.insert(said.topic.clone(), said.payload.clone());
    }
}

/// Whether a filter matches a topic (MQTT 5.0 section 4.7), level by level.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

//! Observations: which messages their clients are told, in which order, and which may be left out.

use super::gateway::MAX_WAITING;
use super::log::{Entry, Log, matches};
use super::wire::Got;

/// An observation, as its client sees it.
pub(super) struct Watch {
    pub(super) token: Vec<u8>,
    pub(super) filter: String,
    /// Its own publisher, and how many messages it had published.
    own: (usize, usize),
    /// Messages of others before this one were published before it was asked for, and those from the second on after it
    /// was answered; what is between may have been.
    others: (usize, Option<usize>),
    /// Nothing is known of what it is told but that it was published: it has a session, or shares with others.
    pub(super) is_loose: bool,
    /// What is retained, topic and payload, and was not told yet; `None`: that is not known.
    first: Option<Vec<(String, Vec<u8>)>>,
    /// What was told last.
    number: Option<u32>,
    /// All before it were told, or are too old.
    cursor: usize,
    /// Messages since all were told.
    backlog: usize,
    /// Topic and payload of what it was told last, whichever message that was.
    last: Option<(String, Vec<u8>)>,
    /// A notification was told in part, and the rest of it was not fetched.
    pub(super) parted: Option<Vec<u8>>,
    /// The last one that was told in part, of which a rest may be asked for.
    pub(super) last_parted: Option<Vec<u8>>,
    /// Its client takes so little that some messages were perhaps left out.
    misses: bool,
    /// Its client has said that it ends.
    pub(super) is_ending: bool,
}

impl Watch {
    pub(super) fn new(token: Vec<u8>, filter: String, own: (usize, usize), log: &Log) -> Self {
        Self {
            token,
            is_loose: filter.starts_with("$share"),
            filter,
            own,
            others: (log.entries.len(), None),
            first: None,
            number: None,
            cursor: 0,
            backlog: 0,
            last: None,
            parted: None,
            last_parted: None,
            misses: false,
            is_ending: false,
        }
    }

    /// Whether its registration was answered, as far as it is known.
    pub(super) const fn has_begun(&self) -> bool {
        self.others.1.is_some()
    }

    /// Whether it takes one of the places of its client.
    pub(super) const fn is_certain(&self) -> bool {
        self.has_begun() && !self.is_loose
    }

    fn has_wildcard(&self) -> bool {
        self.filter.contains(['+', '#'])
    }

    /// Everything that was published is there, and nothing else comes before the registration.
    pub(super) fn begins_calmly(&mut self, log: &Log) {
        if !self.has_wildcard() {
            return;
        }
        let retained = log.retained.iter();
        let first = retained.filter(|(topic, _)| matches(&self.filter, topic));
        let first: Vec<_> = first.map(|(t, p)| (t.clone(), p.clone())).collect();
        self.backlog = first.len();
        self.first = Some(first);
    }

    /// The registration was answered.
    pub(super) fn is_answered(&mut self, log: &Log, number: Option<u32>) {
        self.others.1.get_or_insert(log.entries.len());
        self.number = self.number.or(number);
    }

    /// Places in the log of what it may be told.
    fn candidates<'a>(&'a self, log: &'a Log) -> impl Iterator<Item = usize> + 'a {
        let (own, own_from) = self.own;
        let entries = log.entries.iter().enumerate().skip(self.cursor);
        let its = entries.filter(move |(at, entry)| {
            let is_after = if entry.of == own {
                entry.number >= own_from
            } else {
                *at >= self.others.0
            };
            is_after && matches(&self.filter, &entry.said.topic)
        });
        its.map(|(at, _)| at)
    }

    /// Whether it must be told this, if there is room.
    fn is_owed(&self, log: &Log, at: usize) -> bool {
        log.entries[at].of == self.own.0 || self.others.1.is_some_and(|from| at >= from)
    }

    /// Takes a notification. `tiny`: there may be others that its client could not take.
    pub(super) fn is_told(&mut self, log: &Log, got: &Got, tiny: bool) {
        self.misses |= tiny;
        let number = got.observe().expect("a notification has a number");
        assert!(
            self.number.is_none_or(|before| number > before),
            "{number} after {:?}",
            self.number
        );
        self.number = Some(number);
        if self.has_wildcard() {
            assert!(got.topic().is_some(), "which topic?");
        }
        let block = got.block2();
        let is_part = block.is_some_and(|block| block.more);
        let is_it = |payload: &[u8]| match is_part {
            true => payload.len() > got.payload().len() && payload.starts_with(got.payload()),
            false => payload == got.payload(),
        };
        let is_topic = |topic: &str| got.topic().is_none_or(|named| named == topic);
        if self.is_loose {
            let mut all = log.entries.iter();
            let found = all.any(|entry| is_topic(&entry.said.topic) && is_it(&entry.said.payload));
            assert!(found, "nobody has published {got:?}");
            return;
        }
        let payload = self.find(log, is_topic, is_it);
        let payload = payload.unwrap_or_else(|| panic!("{} is told {got:?}", self.filter));
        self.parted = is_part.then_some(payload);
        self.last_parted.clone_from(&self.parted);
    }

    /// Finds what it was told, and passes over what was left out.
    fn find(
        &mut self,
        log: &Log,
        is_topic: impl Fn(&str) -> bool,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        if let Some(first) = &mut self.first {
            let found = first
                .iter()
                .position(|(t, payload)| is_topic(t) && is_it(payload));
            if let Some(found) = found {
                let found = first.swap_remove(found);
                self.last = Some(found.clone());
                return Some(found.1);
            }
        } else if self.has_wildcard() && self.cursor == 0 {
            // Something that was retained at some time.
            let all = log.entries.iter();
            let mut retained = all.filter(|it| it.said.retain && !it.said.payload.is_empty());
            let found = retained.find(|it| is_topic(&it.said.topic) && is_it(&it.said.payload));
            let is_new = |it: &&Entry| {
                let at = self.candidates(log).next();
                at.is_some_and(|at| std::ptr::eq(*it, &raw const log.entries[at]))
            };
            if let Some(found) = found.filter(|it| !is_new(it)) {
                let payload = found.said.payload.clone();
                self.last = Some((found.said.topic.clone(), payload.clone()));
                return Some(payload);
            }
        }
        let found = self.candidates(log).find(|at| {
            let said = &log.entries[*at].said;
            is_topic(&said.topic) && is_it(&said.payload)
        })?;
        let skipped: Vec<usize> = self.candidates(log).take_while(|at| *at < found).collect();
        let skipped = skipped
            .into_iter()
            .filter(|at| self.is_owed(log, *at))
            .count();
        let left = self.first.as_ref().map_or(0, Vec::len);
        let waiting = self.candidates(log).count() + self.backlog;
        assert!(
            skipped + left == 0 || waiting > MAX_WAITING || self.misses,
            "{}: {skipped} and {left} were left out of {waiting}",
            self.filter
        );
        self.first = self.first.take().map(|_| Vec::new());
        // What was left out was more than may wait.
        self.backlog += skipped + 1;
        self.cursor = found + 1;
        let said = &log.entries[found].said;
        self.last = Some((said.topic.clone(), said.payload.clone()));
        Some(said.payload.clone())
    }

    /// Nothing is under way: what it must be told it was told.
    pub(super) fn is_quiet(&mut self, log: &Log, tiny: bool) {
        self.misses |= tiny;
        self.is_answered(log, None);
        if self.is_loose || self.parted.is_some() {
            return;
        }
        let left: Vec<usize> = self.candidates(log).collect();
        let owed = left.iter().filter(|at| self.is_owed(log, **at)).count();
        let first = self.first.as_ref().map_or(0, Vec::len);
        // Of more than may wait older states of topics have given way to newer ones. Several may be the same, also as one
        // that was retained: then it is not known which was told, but the newest was told last.
        let is_last = |at: &usize| {
            let said = &log.entries[*at].said;
            let last = self.last.as_ref();
            last.is_some_and(|(topic, payload)| *topic == said.topic && *payload == said.payload)
        };
        let has_newest = self.backlog + owed > MAX_WAITING && left.last().is_some_and(is_last);
        assert!(
            owed == 0 || self.misses || has_newest,
            "{} is not told the newest: {left:?}",
            self.filter
        );
        assert!(
            first == 0 || self.backlog > MAX_WAITING || self.misses,
            "{} is not told {first} of what is retained",
            self.filter
        );
        self.first = self.first.take().map(|_| Vec::new());
        self.backlog = 0;
        self.cursor = log.entries.len();
    }
}

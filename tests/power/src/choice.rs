//! What a power failure leaves of what was not synced.

use std::collections::{BTreeMap, BTreeSet};

use crate::content::{Content, PAGE, SECTOR};
use crate::disk::{Data, Disk, Kind, Node, Pending, ROOT, Tree, apply_data, apply_name};
use crate::random::Random;

/// What is left of a change to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it.
    Whole,
    /// These bytes of a write, from and to, in the file.
    Parts(Vec<(u64, u64)>),
}

/// What a power failure leaves of what was not synced; what is not named is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Events whose change to names is left.
    pub names: BTreeSet<usize>,
    /// Events of which something is left in files.
    pub data: BTreeMap<usize, Fate>,
    /// Files that are at least so long, with zeros where nothing else is left.
    pub lengths: BTreeMap<Node, u64>,
}

impl Choice {
    /// Everything is left.
    pub fn everything(disk: &Disk) -> Self {
        let data = disk.data.values().flatten();
        Self {
            names: disk.names.iter().map(|name| name.event).collect(),
            data: data.map(|pending| (pending.event, Fate::Whole)).collect(),
            lengths: BTreeMap::new(),
        }
    }

    /// A choice of the seed.
    pub fn random(disk: &Disk, random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::default(),
            1 => Self::everything(disk),
            _ => {
                let mut choice = Self::default();
                choice.choose_names(disk, random);
                for (node, pending) in &disk.data {
                    choice.choose_data(disk, *node, pending, random);
                }
                choice
            }
        }
    }

    fn choose_names(&mut self, disk: &Disk, random: &mut Random) {
        let events = disk.names.iter().map(|name| name.event);
        let count = disk.names.len() as u64;
        match random.below(if disk.ordered_names { 3 } else { 5 }) {
            0 => self.names.extend(events),
            1 => self
                .names
                .extend(events.take(random.below(count + 1) as usize)),
            2 => {}
            _ => self.names.extend(events.filter(|_| random.once_in(2))),
        }
    }

    fn choose_data(&mut self, disk: &Disk, node: Node, pending: &[Pending], random: &mut Random) {
        let count = pending.len() as u64;
        match random.below(6) {
            0 => {}
            1 => self
                .data
                .extend(pending.iter().map(|p| (p.event, Fate::Whole))),
            2 => {
                for one in pending.iter().filter(|_| random.once_in(2)) {
                    self.data.insert(one.event, Fate::Whole);
                }
            }
            3 => {
                let torn = random.below(count + 1) as usize;
                for one in &pending[..torn] {
                    self.data.insert(one.event, Fate::Whole);
                }
                if let Some(one) = pending[..torn].last() {
                    self.tear(one, random);
                }
            }
            _ => self.choose_pages(pending, random),
        }
        if random.once_in(2) {
            let Kind::File(content) = &disk.durable[node] else {
                return;
            };
            let mut length = content.len();
            for one in pending {
                match &one.what {
                    Data::Write { offset, data } => {
                        length = length.max(offset + data.len() as u64);
                    }
                    Data::SetLength(to) => length = *to,
                    Data::Extend(to) => length = length.max(*to),
                }
            }
            if length > content.len() {
                self.lengths.insert(node, length);
            }
        }
    }

    /// Cuts the write at a sector.
    fn tear(&mut self, one: &Pending, random: &mut Random) {
        if let Data::Write { offset, data } = &one.what {
            let end = offset + data.len() as u64;
            let sectors = end.div_ceil(SECTOR) - offset / SECTOR;
            let cut = (offset / SECTOR + random.below(sectors)) * SECTOR;
            if cut > *offset {
                self.data
                    .insert(one.event, Fate::Parts(vec![(*offset, cut)]));
            } else {
                self.data.remove(&one.event);
            }
        }
    }

    /// Each page is left as it was after some of the writes to it, the last perhaps torn at a sector.
    fn choose_pages(&mut self, pending: &[Pending], random: &mut Random) {
        let mut pages: BTreeMap<u64, Vec<(usize, u64, u64)>> = BTreeMap::new();
        for one in pending {
            match &one.what {
                Data::Write { offset, data } => {
                    let end = offset + data.len() as u64;
                    let mut from = *offset;
                    while from < end {
                        let to = end.min((from / PAGE + 1) * PAGE);
                        let page = pages.entry(from / PAGE).or_default();
                        page.push((one.event, from, to));
                        from = to;
                    }
                }
                _ if random.once_in(2) => drop(self.data.insert(one.event, Fate::Whole)),
                _ => {}
            }
        }
        let mut parts: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
        for writes in pages.values() {
            let kept = random.below(writes.len() as u64 + 1) as usize;
            for (number, &(event, from, to)) in writes[..kept].iter().enumerate() {
                let torn = number + 1 == kept && random.once_in(4);
                let to = if torn { to / SECTOR * SECTOR } else { to };
                if to > from {
                    parts.entry(event).or_default().push((from, to));
                }
            }
        }
        let parts = parts.into_iter();
        self.data.extend(parts.map(|(e, p)| (e, Fate::Parts(p))));
    }

    /// The directory that is left.
    pub fn tree(&self, disk: &Disk) -> Tree {
        let mut directories: BTreeMap<Node, BTreeMap<String, Node>> = BTreeMap::new();
        for (node, kind) in disk.durable.iter().enumerate() {
            if let Kind::Directory(names) = kind {
                directories.insert(node, names.clone());
            }
        }
        for name in disk.names.iter().filter(|n| self.names.contains(&n.event)) {
            let names = directories.entry(name.directory).or_default();
            apply_name(names, &name.what);
        }
        self.tree_at(disk, &directories, ROOT)
    }

    fn tree_at(
        &self,
        disk: &Disk,
        directories: &BTreeMap<Node, BTreeMap<String, Node>>,
        node: Node,
    ) -> Tree {
        match &disk.durable[node] {
            Kind::Directory(_) => {
                let names = directories[&node].iter();
                let below = names
                    .map(|(name, &below)| (name.clone(), self.tree_at(disk, directories, below)));
                Tree::Directory(below.collect())
            }
            Kind::File(content) => {
                let mut content = content.clone();
                for one in disk.data.get(&node).into_iter().flatten() {
                    self.leave(&mut content, one);
                }
                if let Some(length) = self.lengths.get(&node) {
                    content.extend(*length);
                }
                Tree::File(content)
            }
        }
    }

    fn leave(&self, content: &mut Content, one: &Pending) {
        match (self.data.get(&one.event), &one.what) {
            (None, _) => {}
            (Some(Fate::Parts(parts)), Data::Write { offset, data }) => {
                for (from, to) in parts {
                    let range = (from - offset) as usize..(to - offset) as usize;
                    content.write(*from, &data[range]);
                }
            }
            (Some(_), what) => apply_data(content, what),
        }
    }

    /// What is lost, in the order of events.
    pub fn lost(&self, disk: &Disk) -> Vec<Loss> {
        let mut lost = Vec::new();
        for name in &disk.names {
            if !self.names.contains(&name.event) {
                lost.push(Loss::Name(name.event));
            }
        }
        for pending in disk.data.values().flatten() {
            if self.data.get(&pending.event) != Some(&Fate::Whole) {
                lost.push(Loss::Data(pending.event));
            }
        }
        lost
    }

    /// As this, but nothing of `losses` is lost.
    pub fn without(&self, losses: &[Loss]) -> Self {
        let mut choice = self.clone();
        for loss in losses {
            match loss {
                Loss::Name(event) => drop(choice.names.insert(*event)),
                Loss::Data(event) => drop(choice.data.insert(*event, Fate::Whole)),
            }
        }
        choice
    }
}

/// One change of which something is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// A change to a directory, by its event.
    Name(usize),
    /// A change to a file, by its event.
    Data(usize),
}

impl Loss {
    /// In words.
    pub fn describe(self, disk: &Disk, choice: &Choice) -> String {
        match self {
            Self::Name(event) => {
                let found = disk.names.iter().find(|name| name.event == event);
                found.map_or_else(String::new, |name| {
                    let directory = disk.path(name.directory);
                    format!(
                        "event {event}: in directory \"{directory}\": {:?}",
                        name.what
                    )
                })
            }
            Self::Data(event) => {
                let mut all = disk.data.iter();
                let node = all.find(|(_, pending)| pending.iter().any(|p| p.event == event));
                let Some((node, pending)) = node else {
                    return String::new();
                };
                let path = disk.path(*node);
                let found = pending.iter().find(|p| p.event == event);
                let what = match found.map(|p| &p.what) {
                    Some(Data::Write { offset, data }) => {
                        format!("write of {} bytes at {offset}", data.len())
                    }
                    other => format!("{other:?}"),
                };
                let left = match choice.data.get(&event) {
                    None => "all lost".to_owned(),
                    Some(fate) => format!("left: {fate:?}"),
                };
                format!("event {event}: {path}: {what}; {left}")
            }
        }
    }
}

//! The file system: what the process sees, and how much of it has reached the disk for sure.
//!
//! The model is strict. A sync of a file makes durable what was written to it before, with its length, and
//! nothing else; the name of a file is durable after a sync of its directory. `fdatasync` is taken
//! for a sync: it covers the length where that is needed to read the data. What a sync has not covered
//! is in any order: [`crate::choice`] decides.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::content::Content;
use crate::failure::Forget;
use crate::log::Event;

/// A file or directory, whatever its names.
pub type Node = usize;
/// The directory that is recorded.
pub const ROOT: Node = 0;

/// A change to what a file holds, not known to be on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The event.
    pub event: usize,
    /// What it did.
    pub what: Data,
}

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Bytes were written.
    Write {
        /// Where.
        offset: u64,
        /// Which.
        data: Vec<u8>,
    },
    /// The length was set.
    SetLength(u64),
    /// The file is at least so long.
    Extend(u64),
}

/// A change to a directory, not known to be on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingName {
    /// The event.
    pub event: usize,
    /// Of which directory.
    pub directory: Node,
    /// What changed.
    pub what: Name,
}

/// What happened to names of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// The name was given.
    Add(String, Node),
    /// The name was removed.
    Remove(String),
    /// The second name was given to what had the first.
    Move(String, String, Node),
}

/// What something is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A file: what is on the disk for sure.
    File(Content),
    /// A directory: its names that are on the disk for sure.
    Directory(BTreeMap<String, Node>),
}

/// The file system at one moment.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What is on the disk for sure.
    pub durable: Vec<Kind>,
    /// What was done to files and may be on the disk, by file, in its order.
    pub data: BTreeMap<Node, Vec<Pending>>,
    /// What was done to names and may be on the disk, in its order.
    pub names: Vec<PendingName>,
    /// The directories as the process sees them.
    seen: BTreeMap<Node, BTreeMap<String, Node>>,
    open: BTreeMap<i32, Node>,
    syncs: BTreeMap<u64, (Node, usize)>,
    /// Every directory entry is durable with a later sync of anything, as in the journal of ext4.
    pub ordered_names: bool,
}

impl Disk {
    /// A disk with this tree on it, all of it durable.
    pub fn new(tree: &Tree, ordered_names: bool) -> Self {
        let mut disk = Self {
            durable: Vec::new(),
            data: BTreeMap::new(),
            names: Vec::new(),
            seen: BTreeMap::new(),
            open: BTreeMap::new(),
            syncs: BTreeMap::new(),
            ordered_names,
        };
        disk.plant(tree);
        disk
    }

    fn plant(&mut self, tree: &Tree) -> Node {
        let node = self.durable.len();
        match tree {
            Tree::File(content) => self.durable.push(Kind::File(content.clone())),
            Tree::Directory(entries) => {
                self.durable.push(Kind::Directory(BTreeMap::new()));
                let mut names = BTreeMap::new();
                for (name, below) in entries {
                    names.insert(name.clone(), self.plant(below));
                }
                self.seen.insert(node, names.clone());
                self.durable[node] = Kind::Directory(names);
            }
        }
        node
    }

    fn find(&self, path: &str) -> Result<Option<Node>> {
        if path.is_empty() {
            return Ok(Some(ROOT));
        }
        let (directory, name) = self.place(path)?;
        Ok(self.seen[&directory].get(&name).copied())
    }

    /// The directory of a path, and the name in it.
    fn place(&self, path: &str) -> Result<(Node, String)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.find(above)?.filter(|d| self.seen.contains_key(d));
        let directory =
            directory.with_context(|| format!("the directory of {path} is not known"))?;
        Ok((directory, name.to_owned()))
    }

    fn name(&mut self, event: usize, directory: Node, what: Name) {
        if let Some(seen) = self.seen.get_mut(&directory) {
            apply_name(seen, &what);
        }
        self.names.push(PendingName {
            event,
            directory,
            what,
        });
    }

    fn make(&mut self, event: usize, path: &str, kind: Kind) -> Result<Node> {
        let (directory, name) = self.place(path)?;
        let node = self.durable.len();
        if matches!(kind, Kind::Directory(_)) {
            self.seen.insert(node, BTreeMap::new());
        }
        self.durable.push(kind);
        self.name(event, directory, Name::Add(name, node));
        Ok(node)
    }

    fn change(&mut self, event: usize, node: Node, what: Data) {
        let pending = self.data.entry(node).or_default();
        pending.push(Pending { event, what });
    }

    fn opened(&self, fd: i32) -> Result<Node> {
        let node = self.open.get(&fd).copied();
        node.with_context(|| format!("descriptor {fd} is not open"))
    }

    /// What the event does.
    ///
    /// # Errors
    ///
    /// When it cannot be: something was not recorded.
    pub fn apply(&mut self, number: usize, event: &Event) -> Result<()> {
        match event {
            Event::Open {
                fd,
                path,
                create,
                truncate,
            } => {
                let node = match self.find(path)? {
                    Some(node) => node,
                    None if *create => self.make(number, path, Kind::File(Content::default()))?,
                    None => bail!("{path} was opened and is not known"),
                };
                if *truncate {
                    self.change(number, node, Data::SetLength(0));
                }
                self.open.insert(*fd, node);
            }
            Event::Close { fd } => drop(self.open.remove(fd)),
            Event::Duplicate { fd, to } => drop(self.open.insert(*to, self.opened(*fd)?)),
            Event::Write { fd, offset, data } => {
                let (offset, data) = (*offset, data.clone());
                self.change(number, self.opened(*fd)?, Data::Write { offset, data });
            }
            Event::Truncate { fd, length } => {
                self.change(number, self.opened(*fd)?, Data::SetLength(*length));
            }
            Event::Allocate { fd, end } => {
                self.change(number, self.opened(*fd)?, Data::Extend(*end));
            }
            Event::Rename { from, to } => {
                let node = self.find(from)?;
                let node = node.with_context(|| format!("{from} is not known"))?;
                let ((directory, old), (other, new)) = (self.place(from)?, self.place(to)?);
                ensure!(directory == other, "a rename to another directory: {to}");
                self.name(number, directory, Name::Move(old, new, node));
            }
            Event::Link { from, to } => {
                let node = self.find(from)?;
                let node = node.with_context(|| format!("{from} is not known"))?;
                let (directory, name) = self.place(to)?;
                self.name(number, directory, Name::Add(name, node));
            }
            Event::Unlink { path } | Event::RemoveDirectory { path } => {
                ensure!(self.find(path)?.is_some(), "{path} is not known");
                let (directory, name) = self.place(path)?;
                self.name(number, directory, Name::Remove(name));
            }
            Event::MakeDirectory { path } => {
                self.make(number, path, Kind::Directory(BTreeMap::new()))?;
            }
            Event::SyncBegin { fd, token } => {
                self.syncs.insert(*token, (self.opened(*fd)?, number));
            }
            Event::SyncEnd { token } => {
                let sync = self.syncs.remove(token);
                let (node, before) = sync.context("a sync ends that did not begin")?;
                self.synced(node, before);
            }
            Event::Mark { .. } => {}
            Event::Boot => {
                self.open.clear();
                self.syncs.clear();
            }
        }
        Ok(())
    }

    /// Makes durable what was done to a file or directory before an event.
    fn synced(&mut self, node: Node, before: usize) {
        if let Kind::File(content) = &mut self.durable[node]
            && let Some(pending) = self.data.get_mut(&node)
        {
            let covered = pending.partition_point(|p| p.event < before);
            for done in pending.drain(..covered) {
                apply_data(content, &done.what);
            }
        }
        let all = self.ordered_names;
        let covers = |name: &PendingName| (all || name.directory == node) && name.event < before;
        for done in self.names.extract_if(.., |name| covers(name)) {
            if let Kind::Directory(names) = &mut self.durable[done.directory] {
                apply_name(names, &done.what);
            }
        }
    }

    /// The paths that something has, for a report.
    pub fn path(&self, node: Node) -> String {
        self.path_below(ROOT, node)
            .unwrap_or_else(|| format!("a file without a name (number {node})"))
    }

    fn path_below(&self, directory: Node, node: Node) -> Option<String> {
        if directory == node {
            return Some(String::new());
        }
        self.seen
            .get(&directory)?
            .iter()
            .find_map(|(name, &below)| {
                let rest = self.path_below(below, node)?;
                let slash = if rest.is_empty() { "" } else { "/" };
                Some(format!("{name}{slash}{rest}"))
            })
    }
}

/// Does to a file what was done.
pub fn apply_data(content: &mut Content, what: &Data) {
    match what {
        Data::Write { offset, data } => content.write(*offset, data),
        Data::SetLength(length) => content.set_len(*length),
        Data::Extend(length) => content.extend(*length),
    }
}

/// Does to a directory what was done.
pub fn apply_name(names: &mut BTreeMap<String, Node>, what: &Name) {
    match what {
        Name::Add(name, node) => drop(names.insert(name.clone(), *node)),
        Name::Remove(name) => drop(names.remove(name)),
        Name::Move(from, to, node) => {
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
    }
}

/// A directory with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A file.
    File(Content),
    /// A directory.
    Directory(BTreeMap<String, Self>),
}

impl Tree {
    /// An empty directory.
    pub const fn empty() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

impl Disk {
    /// Whether the event is the beginning or end of a sync that is to be taken for not made.
    pub fn forgets(&self, event: &Event, forget: Forget) -> bool {
        let Event::SyncEnd { token } = event else {
            return false;
        };
        let Some((node, _)) = self.syncs.get(token) else {
            return false;
        };
        match forget {
            Forget::Nothing => false,
            Forget::Directories => self.seen.contains_key(node),
            Forget::Journals => self.path(*node).ends_with(".jnl"),
        }
    }
}

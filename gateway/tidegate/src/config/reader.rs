//! Asking the tree what it means: each key is read once, by name, with its default, its type and its
//! range.
//!
//! Why not serde: it stops at the first error and forgets where a value came from. Here every
//! question that is asked also says which keys exist, so that what nobody asked for is unknown, and
//! every answer is recorded with its origin, which is what `tidegate check` prints.

use std::collections::{BTreeMap, BTreeSet};

use super::origin::Origin;
use super::overrides;
use super::problem::Problem;
use super::tree::{Leaf, Node, Raw, Table};

/// How alike a known key must be to be suggested, from 0 to 1.
const ALIKE: f64 = 0.6;

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    /// `section.key`.
    pub(crate) key: String,
    /// The value as TOML; `None` for a key that has no default and was not set.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
}

/// Reads a whole tree, section by section.
#[derive(Debug)]
pub(crate) struct Reader {
    tree: Table,
    problems: Vec<Problem>,
    effective: Vec<Effective>,
    /// The keys of each section, the top level being the section "".
    known: BTreeMap<String, BTreeSet<String>>,
    unknown: Vec<Unknown>,
}

#[derive(Debug)]
struct Unknown {
    section: String,
    key: String,
    origins: BTreeSet<Origin>,
}

/// Reads one section.
#[derive(Debug)]
pub(crate) struct Section<'r> {
    reader: &'r mut Reader,
    path: String,
    table: Table,
}

/// A value that was read, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl Reader {
    /// `problems` are those that were found while the tree was built.
    pub(crate) const fn new(tree: Table, problems: Vec<Problem>) -> Self {
        Self {
            tree,
            problems,
            effective: Vec::new(),
            known: BTreeMap::new(),
            unknown: Vec::new(),
        }
    }

    /// Reads the section `name` with `read`; afterwards every key in it that was not asked for is
    /// unknown.
    pub(crate) fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let table = self.take_table("", name);
        self.enter(name.to_owned(), table, read)
    }

    /// Says that the value of `key` is wrong.
    pub(crate) fn refuse(&mut self, key: &str, value: &str, origin: &Origin, why: &str) {
        self.problems.push(Problem {
            origin: origin.clone(),
            text: format!("{key} = {value}: {why}"),
        });
    }

    /// What is in force and what is wrong.
    pub(crate) fn finish(mut self) -> (Vec<Effective>, Vec<Problem>) {
        let rest = std::mem::take(&mut self.tree);
        self.leave_unknown("", rest);
        for unknown in &self.unknown {
            let name = join(&unknown.section, &unknown.key);
            let nearest = self.nearest(&unknown.section, &unknown.key);
            for origin in &unknown.origins {
                let hint = match (&nearest, origin) {
                    (None, _) => String::new(),
                    (Some(path), Origin::Environment(_)) if path.contains('.') => {
                        format!("; did you mean {}?", overrides::variable(path))
                    }
                    (Some(path), _) => format!("; did you mean {path}?"),
                };
                self.problems.push(Problem {
                    origin: origin.clone(),
                    text: format!("unknown key {name}{hint}"),
                });
            }
        }
        (self.effective, self.problems)
    }

    fn enter<T>(
        &mut self,
        path: String,
        table: Table,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        self.known.entry(path.clone()).or_default();
        let mut section = Section {
            reader: self,
            path,
            table,
        };
        let value = read(&mut section);
        let Section { path, table, .. } = section;
        self.leave_unknown(&path, table);
        value
    }

    fn take_table(&mut self, parent: &str, name: &str) -> Table {
        self.know(parent, name);
        match self.tree.0.remove(name) {
            None => Table::default(),
            Some(entry) => self.expect_table(&join(parent, name), entry),
        }
    }

    fn expect_table(&mut self, path: &str, (_, node): (Origin, Node)) -> Table {
        match node {
            Node::Table(table) => table,
            Node::Leaf(Leaf { raw, origin }) => {
                self.refuse(path, &raw.to_string(), &origin, "is a section, not a value");
                Table::default()
            }
        }
    }

    fn know(&mut self, section: &str, key: &str) {
        let keys = self.known.entry(section.to_owned()).or_default();
        keys.insert(key.to_owned());
    }

    fn leave_unknown(&mut self, section: &str, rest: Table) {
        for (key, (origin, node)) in rest.0 {
            let mut origins = BTreeSet::from([origin]);
            overriding(&node, &mut origins);
            self.unknown.push(Unknown {
                section: section.to_owned(),
                key,
                origins,
            });
        }
    }

    /// The known key that was probably meant: the same one of one other section, or a similar one of
    /// this section.
    fn nearest(&self, section: &str, key: &str) -> Option<String> {
        let mut elsewhere = self.known.iter().filter(|(_, keys)| keys.contains(key));
        if let (Some((elsewhere, _)), None) = (elsewhere.next(), elsewhere.next()) {
            return Some(join(elsewhere, key));
        }
        let alike = |known: &String| strsim::normalized_damerau_levenshtein(known, key);
        let keys = self.known.get(section)?;
        let best = keys.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
        (alike(best) >= ALIKE).then(|| join(section, best))
    }
}

impl Section<'_> {
    /// Reads `key`: `parse` makes the value of what was written or says what it must be, `show`
    /// writes it as TOML. A value that is wrong is reported and `default` stands in for it.
    pub(crate) fn read<T>(
        &mut self,
        key: &str,
        default: T,
        parse: impl FnOnce(&Raw) -> Result<T, String>,
        show: impl FnOnce(&T) -> Option<String>,
    ) -> Found<T> {
        self.reader.know(&self.path, key);
        let path = join(&self.path, key);
        let found = match self.table.0.remove(key) {
            None => Found {
                value: default,
                origin: Origin::Default,
            },
            Some((origin, Node::Table(_))) => {
                self.reader.problems.push(Problem {
                    origin,
                    text: format!("{path} is a value, not a section"),
                });
                return Found {
                    value: default,
                    origin: Origin::Default,
                };
            }
            Some((_, Node::Leaf(Leaf { raw, origin }))) => match parse(&raw) {
                Ok(value) => Found { value, origin },
                Err(why) => {
                    self.reader.refuse(&path, &raw.to_string(), &origin, &why);
                    return Found {
                        value: default,
                        origin,
                    };
                }
            },
        };
        self.reader.effective.push(Effective {
            key: path,
            value: show(&found.value),
            origin: found.origin.clone(),
        });
        found
    }

    /// The keys that are said in this section and were not read yet, with the places of the keys.
    pub(crate) fn keys(&self) -> Vec<(String, Origin)> {
        let entries = self.table.0.iter();
        entries
            .map(|(key, (origin, _))| (key.clone(), origin.clone()))
            .collect()
    }

    /// Reads the section `name` inside this one.
    pub(crate) fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let path = join(&self.path, name);
        let table = match self.table.0.remove(name) {
            None => Table::default(),
            Some(entry) => self.reader.expect_table(&path, entry),
        };
        self.reader.enter(path, table, read)
    }

    /// Passes over the entry `name`, which is wrong as the caller reports.
    pub(crate) fn skip(&mut self, name: &str) {
        self.table.0.remove(name);
    }

    /// Says that something here is wrong, not with one value's text but with what it means.
    pub(crate) fn problem(&mut self, origin: Origin, text: String) {
        self.reader.problems.push(Problem { origin, text });
    }

    /// The section's name, as in `listeners.mqtt`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// The places inside an unknown section that a person does not find by looking at the section: the
/// environment and the flags.
fn overriding(node: &Node, origins: &mut BTreeSet<Origin>) {
    match node {
        Node::Table(Table(entries)) => {
            for (_, node) in entries.values() {
                overriding(node, origins);
            }
        }
        Node::Leaf(Leaf { origin, .. }) => {
            if !matches!(origin, Origin::File { .. } | Origin::Default) {
                origins.insert(origin.clone());
            }
        }
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

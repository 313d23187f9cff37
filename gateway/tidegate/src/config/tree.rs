//! What was said, by whom, before anybody asks what it means.
//!
//! Each source (file, environment, flags) becomes a tree of this kind; laid over one another they are
//! one tree in which every value still knows its origin.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use super::origin::Origin;

/// A value as its source wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// Text without a type, from the environment or a flag: whoever reads it knows the type.
    Untyped(String),
    Text(String),
    /// Wide enough that a number beyond any range still reads as one.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    List(Vec<Self>),
}

/// A value and where it was said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

/// A value or a table of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Leaf(Leaf),
    Table(Table),
}

/// A table's entries by key, each with the place of its key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table(pub(crate) BTreeMap<String, (Origin, Node)>);

impl Table {
    /// Lays `upper` over this table: its values win, whatever they are.
    pub(crate) fn overlay(&mut self, upper: Self) {
        for (key, (origin, node)) in upper.0 {
            match self.0.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert((origin, node));
                }
                Entry::Occupied(mut entry) => match (&mut entry.get_mut().1, node) {
                    (Node::Table(lower), Node::Table(upper)) => lower.overlay(upper),
                    (_, node) => {
                        entry.insert((origin, node));
                    }
                },
            }
        }
    }

    /// Says `raw` at `path`, which has at least one key, over whatever is there.
    pub(crate) fn say(&mut self, path: &[String], raw: Raw, origin: &Origin) {
        let Some((last, sections)) = path.split_last() else {
            return;
        };
        let leaf = Node::Leaf(Leaf {
            raw,
            origin: origin.clone(),
        });
        let upper = Self(BTreeMap::from([(last.clone(), (origin.clone(), leaf))]));
        let upper = sections.iter().rev().fold(upper, |table, key| {
            let entry = (origin.clone(), Node::Table(table));
            Self(BTreeMap::from([(key.clone(), entry)]))
        });
        self.overlay(upper);
    }
}

/// As TOML would have it, so that a message shows what was written.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => toml::Value::from(text.as_str()).fmt(f),
            Self::Untyped(text) | Self::Datetime(text) => text.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Boolean(value) => value.fmt(f),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}

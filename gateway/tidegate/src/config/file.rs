//! The configuration file: TOML 1.0 to a tree in which every value knows its line and column.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::origin::Origin;
use super::problem::Problem;
use super::tree::{Leaf, Node, Raw, Table};

/// Reads and parses the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Table, Vec<Problem>> {
    let name: Arc<str> = path.to_string_lossy().into();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(error) => Err(vec![Problem {
            origin: Origin::Flag("--config".to_owned()),
            text: format!("{name} cannot be read: {error}"),
        }]),
    }
}

/// Parses `text`, which is called `name` in messages. A file with wrong syntax is not looked into:
/// what it means would be a guess.
pub(crate) fn parse(name: &Arc<str>, text: &str) -> Result<Table, Vec<Problem>> {
    let source = Source { name, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(source.table(table.get_ref()));
    }
    let problem = |error: &toml::de::Error| Problem {
        origin: source.origin(error.span().map_or(text.len(), |span| span.start)),
        text: error.message().to_owned(),
    };
    Err(errors.iter().map(problem).collect())
}

struct Source<'a> {
    name: &'a Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: Arc::clone(self.name),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entries = table.iter().map(|(key, value)| {
            let origin = self.origin(key.span().start);
            (key.get_ref().to_string(), (origin, self.node(value)))
        });
        Table(entries.collect::<BTreeMap<_, _>>())
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        match value.get_ref() {
            DeValue::Table(table) => Node::Table(self.table(table)),
            other => Node::Leaf(Leaf {
                raw: raw(other),
                origin: self.origin(value.span().start),
            }),
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            Raw::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
        }
        DeValue::Float(number) => Raw::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Datetime(datetime) => Raw::Datetime(datetime.to_string()),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        // Only inside an array: no list of this configuration holds tables, so whoever reads the
        // list refuses it and shows this.
        DeValue::Table(_) => Raw::Datetime("{...}".to_owned()),
    }
}

//! The environment and the flags: single values over the file's.

use std::ffi::{OsStr, OsString};

use super::origin::Origin;
use super::problem::Problem;
use super::tree::{Raw, Table};

/// What every variable of the gateway's configuration begins with. One underscore is not enough:
/// Kubernetes sets `TIDEGATE_PORT` and the like for a service of that name.
pub(crate) const PREFIX: &str = "TIDEGATE__";

const SEPARATOR: &str = "__";

/// A value that the command line sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    /// `section.key`.
    pub(crate) key: String,
    pub(crate) value: String,
    /// The flag itself, for messages.
    pub(crate) shown: String,
}

/// The variables among `variables` that configure the gateway.
pub(crate) fn environment(
    variables: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
) -> Table {
    let mut table = Table::default();
    for (name, value) in variables {
        let Some(path) = path_of_variable(name) else {
            continue;
        };
        let origin = Origin::Environment(name.to_string_lossy().into_owned());
        let mut refuse = |text: &str| {
            problems.push(Problem {
                origin: origin.clone(),
                text: text.to_owned(),
            });
        };
        if path.len() < 2 || path.iter().any(String::is_empty) {
            refuse("a variable is called TIDEGATE__SECTION__KEY");
        } else if let Some(value) = value.to_str() {
            table.say(&path, Raw::Untyped(value.to_owned()), &origin);
        } else {
            refuse("its value is not UTF-8");
        }
    }
    table
}

/// The flags in their order: a later one wins.
pub(crate) fn flags(flags: &[Flag], problems: &mut Vec<Problem>) -> Table {
    let mut table = Table::default();
    for flag in flags {
        let origin = Origin::Flag(flag.shown.clone());
        let path: Vec<String> = flag
            .key
            .split('.')
            .map(|key| key.trim().to_owned())
            .collect();
        if path.len() < 2 || path.iter().any(String::is_empty) {
            problems.push(Problem {
                origin,
                text: format!("\"{}\" is not of the form section.key", flag.key),
            });
            continue;
        }
        table.say(&path, Raw::Untyped(flag.value.clone()), &origin);
    }
    table
}

/// The variable that sets the key at `path`.
pub(crate) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', SEPARATOR).to_uppercase())
}

fn path_of_variable(name: &OsStr) -> Option<Vec<String>> {
    let name = name.to_string_lossy();
    let rest = name.strip_prefix(PREFIX)?;
    Some(rest.split(SEPARATOR).map(str::to_lowercase).collect())
}

//! Where a value was said.

use std::fmt;
use std::sync::Arc;

/// Where a configured value comes from. The order is that of precedence: later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// A place in the configuration file; line and column count from 1.
    File {
        path: Arc<str>,
        line: usize,
        column: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// A flag, as the command line has it.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

//! The file of counts that is committed beside a bench.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::environment::Environment;

/// Instructions per operation, by case.
pub(crate) type Counts = BTreeMap<String, f64>;

/// What was counted when the baseline was last renewed, and on what.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Baseline {
    pub(super) environment: Environment,
    pub(super) counts: Counts,
}

impl Baseline {
    /// `None` when there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Self::from_text(&text)
                .map(Some)
                .with_context(|| path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.to_text()).with_context(|| path.display().to_string())
    }

    fn from_text(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let environment = Environment::from_json(&value["environment"])
            .context("it does not say where it was counted")?;
        let counts = value["instructions"]
            .as_object()
            .context("it has no instructions")?
            .iter()
            .map(|(case, count)| Some((case.clone(), count.as_f64()?)))
            .collect::<Option<Counts>>()
            .context("a count is no number")?;
        Ok(Self {
            environment,
            counts,
        })
    }

    fn to_text(&self) -> String {
        let counts: Map<String, Value> = self
            .counts
            .iter()
            .map(|(case, count)| (case.clone(), json!((count * 10.0).round() / 10.0)))
            .collect();
        let value = json!({
            "environment": self.environment.to_json(),
            "instructions": counts,
        });
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_to_a_tenth() {
        let environment = Environment {
            processor: "P, family 6, model 1".to_owned(),
            rustc: "rustc 1".to_owned(),
            valgrind: "valgrind-3".to_owned(),
            libc: "glibc 2".to_owned(),
        };
        let counts = Counts::from([("a".to_owned(), 12.345), ("b".to_owned(), 7.0)]);
        let text = Baseline {
            environment: environment.clone(),
            counts,
        }
        .to_text();
        let read = Baseline::from_text(&text).unwrap();
        assert_eq!(read.environment, environment);
        assert_eq!(
            read.counts,
            Counts::from([("a".to_owned(), 12.3), ("b".to_owned(), 7.0)])
        );
    }

    #[test]
    fn a_file_that_lacks_something_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"instructions": {"a": 1.0}}"#,
            r#"{"environment": {"processor": "", "rustc": "", "valgrind": "", "libc": ""}}"#,
            r#"{"environment": {"processor": "", "rustc": "", "valgrind": "", "libc": ""},
                "instructions": {"a": "many"}}"#,
        ] {
            assert!(Baseline::from_text(text).is_err(), "{text}");
        }
    }
}

//! How much was tried by the other two ways of looking for mistakes: fuzzing and the model.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::results::workspace;

/// What the last long runs recorded.
pub struct Figures {
    /// By target.
    fuzz: BTreeMap<String, Target>,
    model: Model,
}

/// The last long random walk, as `cargo xtask model --record` writes it.
#[derive(Deserialize)]
struct Model {
    walks: u64,
    steps: u64,
    seconds: u64,
}

/// A fuzz target's last long run, as `cargo xtask fuzz --record` writes it.
#[derive(Deserialize)]
struct Target {
    executions: u64,
    seconds: u64,
    coverage: u64,
}

impl Figures {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// If a file is missing or is not what was written.
    pub fn read() -> Result<Self> {
        Ok(Self {
            fuzz: read("fuzz/record.json")?,
            model: read("tests/model/record.json")?,
        })
    }

    pub(crate) fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "Fuzzing, the last recorded run of each target (`cargo xtask fuzz --record`), side by side on two cores; what \
             has a finding is not recorded:\n\n| target | executions | minutes | edges covered |\n|---|---|---|---|"
        )?;
        for (name, target) in &self.fuzz {
            let Target {
                executions,
                seconds,
                coverage,
            } = target;
            writeln!(
                out,
                "| `{name}` | {executions} | {} | {coverage} |",
                seconds / 60
            )?;
        }
        let Model {
            walks,
            steps,
            seconds,
        } = self.model;
        writeln!(
            out,
            "\nRandom walks of five clients against the model, over TCP and WebSocket, the last long run \
             (`cargo xtask model --minutes 60 --record`): {walks} walks, {steps} steps, {} minutes; nothing found is \
             open.",
            seconds / 60
        )
    }
}

fn read<T: DeserializeOwned>(file: &str) -> Result<T> {
    let file = workspace().join(file);
    let text = fs::read(&file).with_context(|| format!("{}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))
}

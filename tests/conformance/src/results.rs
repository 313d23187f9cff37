//! What was measured, as files in the tree: the document is made of them, and the tests compare what
//! they see with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::runner::Outcome;

/// How a broker did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// The broker and its version.
    pub broker: String,
    /// By case.
    pub cases: BTreeMap<String, Outcome>,
}

/// The faults that were seeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// By case: what the test said to its fault.
    pub caught: BTreeMap<String, String>,
}

/// Everything that the document is made of.
pub struct Recorded {
    /// The gateway over TCP.
    pub tcp: Results,
    /// The gateway over WebSocket.
    pub ws: Results,
    /// Eclipse Mosquitto.
    pub mosquitto: Results,
    /// rumqttd.
    pub rumqttd: Results,
    /// The seeded faults.
    pub faults: Faults,
}

/// The names of the files.
pub const FILES: [&str; 4] = ["tidegate-tcp", "tidegate-ws", "mosquitto", "rumqttd"];

impl Recorded {
    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// If a file is missing or is not what was written.
    pub fn read() -> Result<Self> {
        let [tcp, ws, mosquitto, rumqttd] = FILES.map(read::<Results>);
        Ok(Self {
            tcp: tcp?,
            ws: ws?,
            mosquitto: mosquitto?,
            rumqttd: rumqttd?,
            faults: read("faults")?,
        })
    }
}

impl Results {
    /// Reads what was recorded as `name`, one of [`FILES`].
    ///
    /// # Errors
    ///
    /// If it is missing or is not what was written.
    pub fn read(name: &str) -> Result<Self> {
        read(name)
    }

    /// Records it as `name`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, name: &str) -> Result<()> {
        write(name, self)
    }
}

impl Faults {
    /// Records them.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self) -> Result<()> {
        write("faults", self)
    }
}

/// The workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    // Two above this package: tests/conformance.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}

fn file(name: &str) -> PathBuf {
    let directory = workspace().join("tests/conformance/results");
    directory.join(name).with_extension("json")
}

fn read<T: DeserializeOwned>(name: &str) -> Result<T> {
    let file = file(name);
    let text = fs::read(&file).with_context(|| format!("{}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))
}

fn write(name: &str, value: &impl Serialize) -> Result<()> {
    let file = file(name);
    let text = format!("{}\n", serde_json::to_string_pretty(value)?);
    fs::write(&file, text).with_context(|| format!("{}", file.display()))
}

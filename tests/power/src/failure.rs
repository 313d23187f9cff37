//! Power failures: when and how, and what is told of one after which a rule does not hold.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::disk::Tree;
use crate::record::Recording;
use crate::rules::Breach;

/// Syncs that are taken for not made, by which the suite shows that it would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forget {
    /// None.
    Nothing,
    /// Those of journals.
    Journals,
    /// Those of directories.
    Directories,
}

/// How directory entries become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Names {
    /// With a sync of their directory; before, in any order.
    Strict,
    /// In their order, with a sync of anything, as with the journals of ext4, XFS and btrfs.
    Ordered,
    /// By turns.
    Both,
}

/// When and how the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Before this event.
    pub event: usize,
    /// Of the choice.
    pub seed: u64,
    /// Directory entries are durable in order, with any sync.
    pub ordered_names: bool,
    /// Syncs that are taken for not made.
    pub forget: Forget,
}

/// A power failure after which a rule does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When and how.
    pub point: Point,
    /// The rules.
    pub breaches: Vec<Breach>,
    /// The fewest losses with which it fails, in words.
    pub losses: Vec<String>,
    /// With these losses only.
    pub breaches_then: Vec<Breach>,
    /// The directory with these losses only.
    pub tree: Tree,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Point {
            event,
            seed,
            ordered_names,
            ..
        } = self.point;
        let names = if ordered_names { "ordered" } else { "strict" };
        writeln!(
            f,
            "power failure before event {event}, choice {seed}, {names} names:"
        )?;
        for breach in &self.breaches {
            writeln!(f, "- {breach}")?;
        }
        writeln!(
            f,
            "fails with these losses, and not without any one of them:"
        )?;
        for loss in &self.losses {
            writeln!(f, "  {loss}")?;
        }
        for breach in &self.breaches_then {
            writeln!(f, "- {breach}")?;
        }
        Ok(())
    }
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Events.
    pub events: usize,
    /// Syncs among them.
    pub syncs: usize,
    /// Changes to directories among them.
    pub names: usize,
    /// Bytes written.
    pub bytes: usize,
    /// Operations told.
    pub operations: usize,
    /// How often an engine was opened.
    pub boots: usize,
    /// Journals that were made and removed, and tables.
    pub files: [usize; 4],
    /// Power failures tried.
    pub points: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [journals, journals_gone, tables, tables_gone] = self.files;
        write!(
            f,
            "{} power failures in {} events ({} syncs, {} names changed, {} MB written) of {} operations \
             and {} starts; {journals} journals made and {journals_gone} removed, {tables} tables made \
             and {tables_gone} removed",
            self.points,
            self.events,
            self.syncs,
            self.names,
            self.bytes / 1_000_000,
            self.operations,
            self.boots,
        )
    }
}

/// Writes a failure down. Where.
///
/// # Errors
///
/// When it cannot be written.
pub fn keep(recording: &Recording, failure: &Failure, below: &Path) -> Result<PathBuf> {
    let name = format!("power-{}-{}", failure.point.event, failure.point.seed);
    let path = below.join(name);
    recording.save(&path)?;
    std::fs::write(path.join("point.json"), serde_json::to_vec(&failure.point)?)?;
    std::fs::write(path.join("report.txt"), failure.to_string())?;
    failure.tree.write(&path.join("store"))?;
    Ok(path)
}

//! A run from its seed to its verdict.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::event::{Event, What};
use crate::gateway::Crash;
use crate::history::{history, round};
use crate::plan::Plan;
use crate::rules::{Rule, Violation};
use crate::run::Run;

/// Histories of one rule that are told.
const TOLD: usize = 2;

/// What a run is made from.
#[derive(Clone, Debug)]
pub struct Program {
    /// Decides what can be decided.
    pub seed: u64,
    /// How often the gateway is killed; 0 is a run without a crash.
    pub kills: u32,
    /// What a kill is.
    pub crash: Crash,
    /// When no further round begins.
    pub until: Option<Instant>,
}

/// What has come of it.
#[derive(Debug)]
pub struct Outcome {
    /// The figures of the run, in one line.
    pub figures: String,
    /// What went wrong; none if nothing did.
    pub failure: Option<String>,
}

impl Program {
    /// Runs it. A failure keeps the data directory, the logs and the events, and says where.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn run(&self) -> Result<Outcome> {
        let started = Instant::now();
        let mut directory = TempDir::with_prefix("tidegate-crash-")?;
        let python = env::var_os("TIDEGATE_CRASH_PYTHON");
        let python = python.map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let plan = Plan::new(self.seed, self.kills);
        let mut run = Run::new(plan, self.crash, directory.path(), python)?;
        let error = run.go(self.kills > 0, self.until).err();
        let (kills, violations) = (run.kills, run.violations());
        let events = run.end();
        let (mut sent, mut arrived) = (0, 0);
        for event in &events {
            match event.what {
                What::Sent { .. } => sent += 1,
                What::Arrived { .. } => arrived += 1,
                _ => {}
            }
        }
        let figures = format!(
            "seed {}: {kills} kills, {sent} messages, {arrived} arrivals, {} s",
            self.seed,
            started.elapsed().as_secs()
        );
        if error.is_none() && violations.is_empty() {
            let failure = None;
            return Ok(Outcome { figures, failure });
        }
        directory.disable_cleanup(true);
        save(&events, directory.path()).context("the events cannot be kept")?;
        let mut text = self.tell(&events, &violations, directory.path());
        if let Some(error) = error {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "it did not come to its end: {error:#}");
        }
        Ok(Outcome {
            figures,
            failure: Some(text),
        })
    }

    fn tell(&self, events: &[Event], violations: &[Violation], directory: &Path) -> String {
        let mut text = format!(
            "the crash run of seed {} failed (cargo xtask crash --seed {} --kills {}{} repeats it)\n\
             data, logs and events are kept in {}\n",
            self.seed,
            self.seed,
            self.kills,
            if self.crash == Crash::Cut {
                " --cut"
            } else {
                ""
            },
            directory.display()
        );
        let mut rules: Vec<Rule> = violations.iter().map(|violation| violation.rule).collect();
        rules.sort();
        rules.dedup();
        for rule in rules {
            let broken = || violations.iter().filter(|violation| violation.rule == rule);
            // Writing into a string cannot fail.
            let _ = writeln!(text, "\n{rule}: {} times", broken().count());
            for violation in broken().take(TOLD) {
                let number = round(events, violation.at);
                let _ = writeln!(text, "  round {number}: {}", violation.text);
                text.push_str(&history(events, violation));
            }
        }
        text
    }
}

fn save(events: &[Event], directory: &Path) -> Result<()> {
    let file = fs::File::create(directory.join("events.jsonl"))?;
    let mut file = std::io::BufWriter::new(file);
    for event in events {
        serde_json::to_writer(&mut file, event)?;
        writeln!(file)?;
    }
    Ok(file.flush()?)
}

//! Recordings: processes under the shim, one after the other on one directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::child::{ENDED, Job};
use crate::disk::{Disk, Tree};
use crate::history::History;
use crate::log::{Event, parse};
use crate::op::Op;
use crate::plan::Plan;

const SHIM: &str = include_str!("../shim.c");

/// What is needed to record.
#[derive(Debug)]
pub struct Recorder {
    shim: PathBuf,
    program: PathBuf,
    scratch: PathBuf,
}

/// What was recorded.
#[derive(Debug)]
pub struct Recording {
    /// What was done.
    pub plan: Plan,
    /// The directory before it.
    pub base: Tree,
    /// What had been told before it, all of it acknowledged.
    pub before: Vec<Op>,
    /// Everything that was done.
    pub events: Vec<Event>,
    /// The same as the shim wrote it, by process.
    logs: Vec<Vec<u8>>,
    /// The directory after it.
    pub end: Option<Tree>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    plan: Plan,
    before: Vec<Op>,
    logs: usize,
}

impl Recorder {
    /// Compiles the shim into `scratch`. `program` is the binary of this crate.
    ///
    /// # Errors
    ///
    /// When there is no C compiler.
    pub fn new(program: &Path, scratch: &Path) -> Result<Self> {
        let source = scratch.join("shim.c");
        fs::write(&source, SHIM)?;
        let shim = scratch.join("shim.so");
        let status = Command::new("cc")
            .args([
                "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o",
            ])
            .args([&shim, &source])
            .status()
            .context("there is no C compiler (cc)")?;
        ensure!(status.success(), "the shim does not compile");
        Ok(Self {
            shim,
            program: program.to_owned(),
            scratch: fs::canonicalize(scratch)?,
        })
    }

    /// Where directories are made.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Carries out a plan, on an empty directory or on `base` with what was told before.
    ///
    /// # Errors
    ///
    /// When a process fails: the engine does what it must not without any power failure.
    pub fn record(&self, plan: &Plan, base: Tree, before: Vec<Op>) -> Result<Recording> {
        let directory = self.scratch.join("recorded");
        base.write(&directory)?;
        let mut recording = Recording {
            plan: plan.clone(),
            base,
            before,
            events: Vec::new(),
            logs: Vec::new(),
            end: None,
        };
        for boot in &plan.boots {
            let (told, kept) = recording.history()?.end();
            let job = Job {
                directory: directory.clone(),
                marks: self.marks(),
                seed: boot.seed,
                operations: boot.operations,
                ballast: boot.ballast,
                window: boot.window,
                memtable_bytes: plan.memtable_bytes,
                careless: plan.careless,
                abort: boot.abort,
                told,
                kept,
            };
            let log = self.boot(&job)?;
            recording.events.push(Event::Boot);
            recording.events.extend(parse(&log)?);
            recording.logs.push(log);
        }
        recording.end = Some(Tree::read(&directory)?);
        fs::remove_dir_all(&directory)?;
        Ok(recording)
    }

    /// A command under the shim: what it does to files below `directory` is recorded in `log`. It must not
    /// start programs itself.
    pub fn command(&self, program: &Path, directory: &Path, log: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_PRELOAD", &self.shim)
            .env("TIDEGATE_POWER_ROOT", directory)
            .env("TIDEGATE_POWER_LOG", log)
            .env("TIDEGATE_POWER_MARKS", self.marks())
            .env_remove("RUST_BACKTRACE");
        command
    }

    /// Where marks are written under the shim.
    pub fn marks(&self) -> PathBuf {
        self.scratch.join("marks")
    }

    fn boot(&self, job: &Job) -> Result<Vec<u8>> {
        let [log, file, output] = ["log", "job.json", "output"].map(|n| self.scratch.join(n));
        fs::write(&file, serde_json::to_vec(job)?)?;
        if log.exists() {
            fs::remove_file(&log)?;
        }
        let out = File::create(&output)?;
        let status = self
            .command(&self.program, &job.directory, &log)
            .arg("child")
            .arg(&file)
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()?;
        let wanted = if job.abort { ENDED } else { 0 };
        let as_told = status.code() == Some(wanted);
        if !as_told {
            let said = fs::read_to_string(&output)?;
            bail!("the recorded process ended with {status}: {said}");
        }
        Ok(fs::read(&log)?)
    }
}

impl Recording {
    /// What was told and acknowledged when.
    ///
    /// # Errors
    ///
    /// When the marks make no sense.
    pub fn history(&self) -> Result<History> {
        History::new(&self.before, &self.events)
    }

    /// The disk before the first event.
    pub fn disk(&self, ordered_names: bool) -> Disk {
        Disk::new(&self.base, ordered_names)
    }

    /// The disk when the power fails before this event.
    ///
    /// # Errors
    ///
    /// When events make no sense.
    pub fn disk_at(&self, event: usize, ordered_names: bool) -> Result<Disk> {
        let mut disk = self.disk(ordered_names);
        for (number, one) in self.events[..event].iter().enumerate() {
            disk.apply(number, one)?;
        }
        Ok(disk)
    }

    /// Writes it down, without the directory after it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        self.base.write(&to.join("base"))?;
        for (number, log) in self.logs.iter().enumerate() {
            fs::write(to.join(format!("{number}.log")), log)?;
        }
        let saved = Saved {
            plan: self.plan.clone(),
            before: self.before.clone(),
            logs: self.logs.len(),
        };
        Ok(fs::write(
            to.join("recording.json"),
            serde_json::to_vec(&saved)?,
        )?)
    }

    /// One that was written down.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn load(from: &Path) -> Result<Self> {
        let saved: Saved = serde_json::from_slice(&fs::read(from.join("recording.json"))?)?;
        let mut events = Vec::new();
        let mut logs = Vec::new();
        for number in 0..saved.logs {
            let log = fs::read(from.join(format!("{number}.log")))?;
            events.push(Event::Boot);
            events.extend(parse(&log)?);
            logs.push(log);
        }
        Ok(Self {
            plan: saved.plan,
            base: Tree::read(&from.join("base"))?,
            before: saved.before,
            events,
            logs,
            end: None,
        })
    }
}

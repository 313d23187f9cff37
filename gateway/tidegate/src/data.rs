//! `tidegate data`: what is kept in the data directory, whether it is sound, and copies of it.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidegate_store::{Engine, OpenError, Settings};

use crate::cli::{DataArguments, DataCommand};
use crate::control;
use crate::exit::Exit;
use crate::store::{directory, make};

pub(crate) fn data(arguments: DataArguments) -> Exit {
    let (DataCommand::Status { config }
    | DataCommand::Verify { config }
    | DataCommand::Backup { config, .. }
    | DataCommand::Restore { config, .. }) = &arguments.command;
    let config = match config.clone().into_sources().load() {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            eprintln!("error: {problems}");
            return Exit::Usage;
        }
    };
    let data_dir = &config.node.data_dir;
    let done = match arguments.command {
        DataCommand::Status { .. } => status(data_dir),
        DataCommand::Verify { .. } => verify(data_dir),
        DataCommand::Backup { file, .. } => backup(data_dir, &file),
        DataCommand::Restore { file, .. } => restore(data_dir, &file),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::Failed
        }
    }
}

fn status(data_dir: &Path) -> anyhow::Result<Exit> {
    let directory = directory(data_dir);
    let status = match tidegate_store::status(&directory) {
        Ok(status) => status,
        Err(OpenError::Missing { .. }) => tidegate_store::Status::default(),
        Err(error) => return Err(error.into()),
    };
    let mut out = io::stdout().lock();
    let mut line = |name: &str, value: String| {
        // A reader that has seen enough closes the pipe; that is no failure.
        let _ = writeln!(out, "{name:<22}{value}");
    };
    line("directory", directory.display().to_string());
    if !status.exists {
        line("store", "none".to_owned());
        return Ok(Exit::Done);
    }
    line(
        "in use",
        if status.in_use { "yes" } else { "no" }.to_owned(),
    );
    line("on disk", ByteSize(status.disk_bytes).to_string());
    line("journals", ByteSize(status.journal_bytes).to_string());
    let number = |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |n| n.to_string());
    line("last acknowledged", number(status.acknowledged));
    line("last in journals", number(status.last_in_journals));
    if !status.in_use && status.broken_bytes > 0 {
        let broken = ByteSize(status.broken_bytes);
        line(
            "not readable",
            format!("{broken} at the end of a journal, as a crash leaves them, or damaged"),
        );
    }
    Ok(Exit::Done)
}

fn verify(data_dir: &Path) -> anyhow::Result<Exit> {
    let bar = Bar::new("records");
    let mut progress = |read, total| bar.set(read, total);
    let verified = tidegate_store::verify(directory(data_dir), Some(&mut progress))?;
    bar.finish();
    let mut out = io::stdout().lock();
    let _ = writeln!(
        out,
        "{} sessions, {} subscriptions, {} retained messages, {} queued or in flight, {} bodies; last \
         batch {}",
        verified.sessions,
        verified.subscriptions,
        verified.retained,
        verified.entries,
        verified.bodies,
        verified.commit
    );
    for record in &verified.named {
        let key = record.key.escape_ascii();
        let _ = writeln!(out, "{} {key}: {}", record.keyspace, record.reason);
    }
    if verified.problems > 0 {
        let _ = writeln!(out, "{} problems.", verified.problems);
        return Ok(Exit::Failed);
    }
    let _ = writeln!(out, "Everything reads.");
    Ok(Exit::Done)
}

/// Of the gateway that runs, or of a store that nobody uses.
fn backup(data_dir: &Path, file: &Path) -> anyhow::Result<Exit> {
    if file.exists() {
        bail!("{} exists already", file.display());
    }
    let partial = partial_of(file);
    let written = write_backup(data_dir, &partial).and_then(|()| {
        fs::rename(&partial, file).with_context(|| format!("{} cannot be made", file.display()))
    });
    if written.is_err() {
        // What there is of it is no backup.
        let _ = fs::remove_file(&partial);
    }
    written?;
    let size = fs::metadata(file).map_or(0, |found| found.len());
    println!("{} written to {}.", ByteSize(size), file.display());
    Ok(Exit::Done)
}

fn partial_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn write_backup(data_dir: &Path, partial: &Path) -> anyhow::Result<()> {
    let directory = directory(data_dir);
    let to = File::create_new(partial)
        .with_context(|| format!("{} cannot be made", partial.display()))?;
    let bar = Bar::new("records");
    if tidegate_store::status(&directory)?.in_use {
        control::ask_for_backup(data_dir, &to, |written, total| bar.set(written, total))?;
    } else {
        let engine = Engine::open(&directory, Settings::default())?;
        engine.backup(&to, &mut |written, total| bar.set(written, total))?;
        engine.close();
    }
    to.sync_all()?;
    bar.finish();
    Ok(())
}

fn restore(data_dir: &Path, file: &Path) -> anyhow::Result<Exit> {
    let from = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let directory = directory(data_dir);
    make(&directory)?;
    let bar = Bar::new("records");
    let reading = io::BufReader::with_capacity(1 << 20, &from);
    let records = tidegate_store::restore(reading, &directory, &mut |written| bar.set(written, 0))?;
    bar.finish();
    println!("{records} records restored to {}.", directory.display());
    Ok(Exit::Done)
}

/// How far it has come, for a person who watches.
struct Bar(ProgressBar);

impl Bar {
    fn new(what: &'static str) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {eta} left");
        // The template above is one that it knows.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// `total` is an estimate; 0: it is not known.
    fn set(&self, done: u64, total: u64) {
        if total > 0 {
            self.0.set_length(total.max(done));
        }
        self.0.set_position(done);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

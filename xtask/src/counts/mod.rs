//! `cargo xtask counts`: how many instructions decode, match, deliver and encode take, counted by
//! callgrind and held against a baseline that is committed beside the benches.
//!
//! A count depends on no load, but on the compiler, the C library and the processor. Where these are not
//! those of the baseline, the parent commit is built and counted in the same run.

mod baseline;
mod callgrind;
mod compare;
mod environment;
mod git;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::test::Place;
use baseline::{Baseline, Counts};
use callgrind::Builder;
use compare::{LIMIT_PERCENT, Row, compare};
use environment::Environment;
use git::Commit;

/// What to count, and what to hold it against.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Writes what was counted as the new baseline and compares nothing
    #[arg(long, conflicts_with = "against")]
    write: bool,
    /// Builds and counts this commit and compares with it, whatever the baseline says
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
}

/// A package whose bench `counts` is counted.
pub(crate) struct Package {
    name: &'static str,
    directory: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "tidegate-bus",
        directory: "router/bus",
    },
    Package {
        name: "tidegate-mqtt",
        directory: "protocols/mqtt",
    },
];

impl Package {
    /// The baseline's path in the tree.
    fn baseline(&self) -> String {
        format!("{}/benches/counts/baseline.json", self.directory)
    }
}

/// Counts; what has grown too much is told by the exit code.
pub(crate) fn run(options: &Options) -> ExitCode {
    match execute(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask counts: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Gives back whether everything is within its limit.
fn execute(options: &Options) -> Result<bool> {
    let place = Place::find()?;
    let valgrind = crate::test::require("valgrind", "valgrind")?;
    let environment = Environment::find(&valgrind)?;
    let builder = Builder::new(&place, valgrind)?;
    println!("{environment}");
    let now = builder.count_tree()?;
    if options.write {
        for (package, counts) in PACKAGES.iter().zip(now) {
            let path = place.root.join(package.baseline());
            let environment = environment.clone();
            Baseline {
                environment,
                counts,
            }
            .write(&path)?;
            println!("{} is written", path.display());
        }
        return Ok(true);
    }

    let baselines = PACKAGES
        .iter()
        .map(|package| Baseline::read(&place.root.join(package.baseline())))
        .collect::<Result<Vec<_>>>()?;
    let of_here = baselines
        .iter()
        .flatten()
        .all(|baseline| baseline.environment == environment);
    let before = Before::find(options, &place.root, &builder, of_here)?;
    println!("\ncompared with {}\n", before.told);
    let mut rows = Vec::new();
    for (at, (package, now)) in PACKAGES.iter().zip(&now).enumerate() {
        let baseline = baselines[at].as_ref().map(|baseline| &baseline.counts);
        let renewed = before.renewed(&place.root, package)?;
        let parent = before.counts.as_ref().and_then(|all| all[at].as_ref());
        rows.extend(compare(baseline, parent, now, renewed));
    }
    print(&rows, before.counts.is_some());
    Ok(rows.iter().all(|row| !row.verdict.fails()))
}

/// What the counts of the tree are held against.
struct Before {
    /// In words.
    told: String,
    /// Counted in this run, by package; `None`: the baseline is what counts.
    counts: Option<Vec<Option<Counts>>>,
    /// From where the baseline counts as renewed when it differs.
    since: Option<Commit>,
}

impl Before {
    fn find(options: &Options, root: &Path, builder: &Builder, of_here: bool) -> Result<Self> {
        if of_here && options.against.is_none() {
            return Ok(Self {
                told: "the baseline".to_owned(),
                counts: None,
                // On a machine like this one the baseline is what was counted when it was renewed.
                since: None,
            });
        }
        let commit = match &options.against {
            Some(name) => {
                Some(Commit::find(root, name)?.with_context(|| format!("there is no {name}"))?)
            }
            None => git::parent(root)?,
        };
        let Some(commit) = commit else {
            return Ok(Self {
                told: format!(
                    "the baseline, {ELSEWHERE}: the parent commit is not here to be counted"
                ),
                counts: None,
                since: None,
            });
        };
        match builder.count_commit(root, &commit) {
            Ok(counts) if counts.iter().any(Option::is_some) => Ok(Self {
                told: format!("commit {}, counted in this run", commit.short()),
                counts: Some(counts),
                since: Some(commit),
            }),
            Ok(_) => Ok(Self {
                told: format!(
                    "the baseline, {ELSEWHERE}: commit {} has no counts",
                    commit.short()
                ),
                counts: None,
                since: Some(commit),
            }),
            Err(error) if options.against.is_none() => Ok(Self {
                told: format!(
                    "the baseline, {ELSEWHERE}: commit {} cannot be counted: {error:#}",
                    commit.short()
                ),
                counts: None,
                since: Some(commit),
            }),
            Err(error) => Err(error),
        }
    }

    /// Whether the package's baseline is another one than before.
    fn renewed(&self, root: &Path, package: &Package) -> Result<bool> {
        let Some(commit) = &self.since else {
            return Ok(false);
        };
        let path = package.baseline();
        let now = std::fs::read(root.join(&path)).ok();
        Ok(commit.file(root, &path)? != now)
    }
}

const ELSEWHERE: &str = "which was counted elsewhere";

fn print(rows: &[Row], with_parent: bool) {
    let parent = if with_parent { "parent" } else { "" };
    println!(
        "{:34} {:>10} {parent:>10} {:>10} {:>8}",
        "instructions per operation", "baseline", "now", "change"
    );
    let figure = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
    for row in rows {
        let parent = if with_parent { row.parent } else { None };
        let change = row.change();
        let change = change.map_or_else(String::new, |percent| format!("{percent:+.1} %"));
        let line = format!(
            "{:34} {:>10} {:>10} {:>10} {change:>8}  {}",
            row.case,
            figure(row.baseline),
            figure(parent),
            figure(row.now),
            row.verdict.in_words()
        );
        println!("{}", line.trim_end());
    }
    if rows.iter().any(|row| row.verdict.fails()) {
        println!(
            "\nNo count may grow by more than {LIMIT_PERCENT} %. Where it is worth it, renew the baseline \
             in the same\nchange: cargo xtask counts --write"
        );
    }
}

/// Where everything of a run is kept.
fn work(place: &Place) -> PathBuf {
    place.target.join("counts")
}

/// Whether all of `counts` are there.
fn complete(counts: &[Option<Counts>]) -> Result<Vec<Counts>> {
    let found: Vec<Counts> = counts.iter().flatten().cloned().collect();
    ensure!(found.len() == counts.len(), "a package has no counts");
    Ok(found)
}

//! `power`: runs for as long as one likes. `cargo xtask power` runs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tidegate_power::disk::Tree;
use tidegate_power::failure::{Forget, Names, Point, keep};
use tidegate_power::plan::Plan;
use tidegate_power::record::{Recorder, Recording};
use tidegate_power::run::Trial;
use tidegate_power::{child, scratch};

/// Of a seed, what was given: the rest tells rounds apart.
const SEED: u64 = (1 << 48) - 1;
/// Points of one recording.
const POINTS: usize = 400;

/// Rebuilds what a power failure would leave of a store, and looks whether anything acknowledged is lost
#[derive(Parser)]
#[command(name = "cargo xtask power", bin_name = "cargo xtask power")]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// How long: recordings with further seeds begin until then. Without it, one recording
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// The seed of the first recording
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// How much one recording does; from 6 on it fills journals
    #[arg(long, value_name = "N", default_value_t = 6)]
    size: u64,
    /// How directory entries become durable
    #[arg(long, value_enum, default_value_t = Names::Both)]
    names: Names,
    /// Where a failure is kept
    #[arg(long, value_name = "DIRECTORY", default_value = "target/power")]
    keep: PathBuf,
    /// Tries a failure again that was kept
    #[arg(long, value_name = "DIRECTORY")]
    again: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// The recorded process
    #[command(hide = true)]
    Child {
        /// What it does
        job: PathBuf,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (&options.part, &options.again) {
        (Some(Part::Child { job }), _) => child::run(job).map(|()| true),
        (None, Some(kept)) => again(kept),
        (None, None) => run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask power: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let minutes = options.minutes.map(|minutes| minutes * 60.0);
    let time = minutes.map(Duration::try_from_secs_f64).transpose();
    let time = time.context("--minutes is a number from 0")?;
    let until = time.map(|time| Instant::now() + time);
    let program = std::env::current_exe()?;
    for seed in options.seed.. {
        let scratch = scratch()?;
        let recorder = Recorder::new(&program, scratch.path())?;
        let (mut base, mut before) = (Tree::empty(), Vec::new());
        // The second goes on from what a power failure has left of the first.
        for round in 0..2_u64 {
            let seed = seed + (round << 48);
            let plan = Plan::new(seed, if round == 0 { options.size } else { 1 });
            let recording = recorder.record(&plan, base, before)?;
            let trial = Trial::new(&recorder, &recording)?;
            let most = if round == 0 { POINTS } else { POINTS / 4 };
            let (points, failure) = trial.run(seed, most, until, options.names, Forget::Nothing)?;
            let mut figures = trial.figures();
            figures.points = points;
            let round = if round == 0 {
                ""
            } else {
                ", after a power failure"
            };
            println!("seed {}{round}: {figures}", seed & SEED);
            let survived = match failure {
                Some(failure) => Err(failure),
                None => trial.survivor(seed, options.names)?,
            };
            match survived {
                Ok(survivor) => (base, before) = survivor,
                Err(failure) => {
                    let kept = keep(&recording, &failure, &options.keep)?;
                    println!("{failure}");
                    println!("kept in {}; again with", kept.display());
                    println!("cargo xtask power --again {}", kept.display());
                    return Ok(false);
                }
            }
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
    Ok(true)
}

fn again(kept: &Path) -> Result<bool> {
    let scratch = scratch()?;
    let recorder = Recorder::new(&std::env::current_exe()?, scratch.path())?;
    let recording = Recording::load(kept)?;
    let point: Point = serde_json::from_slice(&std::fs::read(kept.join("point.json"))?)?;
    let failure = Trial::new(&recorder, &recording)?.again(point)?;
    match &failure {
        Some(failure) => println!("{failure}"),
        None => println!("it does not fail any more"),
    }
    Ok(failure.is_none())
}

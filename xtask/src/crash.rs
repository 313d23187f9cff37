//! `cargo xtask crash`: the gateway is killed at random moments, again and again, and what was acknowledged is
//! held against what arrived (`tests/crash`).

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::seeded::{program, seed};
use crate::test::{Place, python};

/// How long, how often, and from which seed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long: runs with further seeds begin until then. Without it, one run
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// How often the gateway is killed in one run; 0 is a run without a crash
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: u32,
    /// The seed of the first run; a failure names the one that repeats it. Without it, another one each
    /// time
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Cuts all connections instead of killing the gateway, which then has nothing to remember
    #[arg(long)]
    cut: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match execute(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask crash: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(options: &Options) -> Result<ExitCode> {
    let python = python(&Place::find()?).context("there is no environment with paho")?;
    let seed = seed(options.seed);
    let mut command = program("crash", seed);
    command
        .args(["--kills", &options.kills.to_string()])
        .env("TIDEGATE_CRASH_PYTHON", python);
    if let Some(minutes) = options.minutes {
        command.args(["--minutes", &minutes.to_string()]);
    }
    if options.cut {
        command.arg("--cut");
    }
    println!("from seed {seed}");
    let code = command.status()?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

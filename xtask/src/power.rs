//! `cargo xtask power`: the directory of a store is rebuilt as power failures would leave it, and what was
//! acknowledged is held against what the engine then finds (`tests/power`).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::seeded::{program, seed};

/// How long, and from which seed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long: recordings with further seeds begin until then. Without it, one recording
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// The seed of the first recording. Without it, another one each time
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// How much one recording does; from 6 on it fills journals. Without it, 6
    #[arg(long, value_name = "N")]
    size: Option<u64>,
    /// How directory entries become durable: `strict`, `ordered` or `both`. Without it, both by turns
    #[arg(long, value_name = "MODEL")]
    names: Option<String>,
    /// Tries again what has failed and was kept here, and nothing else
    #[arg(long, value_name = "DIRECTORY")]
    again: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match execute(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask power: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(options: &Options) -> Result<ExitCode> {
    let seed = seed(options.seed);
    let mut command = program("power", seed);
    let others = [
        ("--minutes", options.minutes.map(|n| n.to_string())),
        ("--size", options.size.map(|n| n.to_string())),
        ("--names", options.names.clone()),
    ];
    for (name, value) in others {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    }
    if let Some(kept) = &options.again {
        command.arg("--again").arg(kept);
    } else {
        println!("from seed {seed}");
    }
    let code = command.status()?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

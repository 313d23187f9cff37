//! `cargo xtask power`: the directory of a store is rebuilt as power failures would leave it, and what was
//! acknowledged is held against what the engine then finds (`tests/power`).

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

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
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 gives a seed as good as any.
    let seed = options
        .seed
        .unwrap_or_else(|| now.map_or(1, |now| now.as_secs() * 1000));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    // The test profile, as `cargo xtask test` builds it.
    command
        .args(["run", "--quiet", "--profile", "test"])
        .args(["--package", "tidegate-power", "--bin", "power", "--"])
        .args(["--seed", &seed.to_string()]);
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

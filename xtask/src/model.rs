//! `cargo xtask model`: random walks against the model of `tests/model`, for as long as one likes.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long, and from which seed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long it walks
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// The first seed; a failure names the one that repeats it. Without it, another one each time
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Writes the figures into tests/model/record.json, from which docs/conformance.md quotes
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    if !options.minutes.is_finite() || options.minutes < 0.0 {
        eprintln!("cargo xtask model: --minutes is a number from 0");
        return ExitCode::from(2);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 gives a seed as good as any.
    let seed = options
        .seed
        .unwrap_or_else(|| now.map_or(1, |now| now.as_secs() * 1000));
    println!("from seed {seed}, for {} minutes", options.minutes);
    let mut command = Command::new(cargo);
    command
        .args(["test", "--package", "tidegate-tests", "--test", "model"])
        .env("TIDEGATE_MODEL_MINUTES", options.minutes.to_string())
        .env("TIDEGATE_MODEL_SEED", seed.to_string());
    if options.record {
        let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = xtask.parent().unwrap_or(xtask);
        command.env(
            "TIDEGATE_MODEL_RECORD",
            root.join("tests/model/record.json"),
        );
    }
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask model: {error}");
            ExitCode::from(2)
        }
    }
}

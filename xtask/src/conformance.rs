//! `cargo xtask conformance`: the suite of `tests/conformance` against any broker, and the document
//! that it writes.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

/// What the suite's own program is told.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the suite's own program; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds the suite and runs it with the options.
pub(crate) fn run(options: &Options) -> ExitCode {
    match execute(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(options: &Options) -> Result<ExitCode> {
    let cargo = || Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // What starts brokers itself needs them.
    let writes = options.arguments.iter().any(|word| word == "--write");
    let packages: &[&str] = if writes {
        &["tidegate", "tidegate-conformance", "tidegate-rumqttd-peer"]
    } else {
        &["tidegate-conformance"]
    };
    // The test profile, as `cargo xtask test` builds them: the suite is the same program there.
    let mut build = cargo();
    build.args(["build", "--quiet", "--bins", "--profile", "test"]);
    for package in packages {
        build.args(["--package", package]);
    }
    let status = build.status()?;
    ensure!(status.success(), "cargo build ended with {status}");
    let mut run = cargo();
    run.args(["run", "--quiet", "--profile", "test"])
        .args(["--package", "tidegate-conformance", "--bin", "conformance"])
        .arg("--")
        .args(&options.arguments);
    let code = run.status()?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

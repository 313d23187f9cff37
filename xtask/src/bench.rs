//! `cargo xtask bench`: builds the gateway, rumqttd and the benchmark as they are released, and runs the
//! benchmark of `tests/bench`.

use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What the benchmark's own program is told.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the benchmark's own program; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds the benchmark and becomes it.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Err(error) = execute(&options.arguments);
    eprintln!("cargo xtask bench: {error:#}");
    ExitCode::from(2)
}

fn execute(arguments: &[OsString]) -> Result<Infallible> {
    let has = |wanted: &[&str]| {
        let mut words = arguments.iter().map(|word| word.to_string_lossy());
        words.any(|word| {
            let option = word.split_once('=').map_or(&*word, |(option, _)| option);
            wanted.contains(&option)
        })
    };
    let mut packages = vec!["tidegate-bench"];
    if !has(&["--help", "-h", "--list", "--render"]) {
        packages.push("tidegate-rumqttd-peer");
        if !has(&["--tidegate"]) && env::var_os("TIDEGATE_BIN").is_none() {
            packages.push("tidegate");
        }
    }
    let bench = build(&packages)?;
    // Ctrl-C and the exit code are then the benchmark's own.
    let error = Command::new(&bench).args(arguments).exec();
    Err(error).with_context(|| format!("{}", bench.display()))
}

/// Builds packages and says where `bench` is; cargo puts the other programs beside it.
fn build(packages: &[&str]) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--bins"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(
        output.status.success(),
        "cargo build ended with {}",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables =
        messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    let bench = executables.find(|file| file.file_name() == Some(OsStr::new("bench")));
    bench.context("cargo built no executable called bench")
}

//! `cargo xtask test`: every suite of the workspace, whatever it is written in, with one summary.
//!
//! What runners said of failures stands after the table. The last line of the output is `N passed, N failed, N skipped`. A suite that executed nothing has
//! failed; with `CI=true` so has whatever was skipped.

mod crash;
mod failures;
mod node;
mod place;
mod python;
mod report;
mod rust;
mod setup;
mod stream;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

pub(crate) use place::Place;
pub(crate) use python::environment as python;
use report::Report;
pub(crate) use setup::{once, require, want};

/// Suites that are not cargo's test targets.
const UNIT: &str = "unit";
const DOC: &str = "doc";
const PYTHON: &str = "python";
const NODE: &str = "node";
/// One of cargo's test targets, but one that cargo runs only when it is asked for.
const CRASH: &str = "crash";

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs only this suite; may be repeated
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
    /// Lists the suites and runs nothing
    #[arg(long)]
    list: bool,
}

/// Runs the suites; anything but success is told by the exit code, after the summary.
pub(crate) fn run(options: &Options) -> ExitCode {
    let mut report = Report::new(std::env::var("CI").is_ok_and(|value| value == "true"));
    match execute(options, &mut report) {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(error) => report.broken("xtask", &format!("{error:#}")),
    }
    report.print();
    if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Returns whether anything was to be run.
fn execute(options: &Options, report: &mut Report) -> Result<bool> {
    let place = Place::find()?;
    let targets = rust::test_targets(&place).context("cargo does not tell the test targets")?;
    let others = [UNIT, DOC, PYTHON, NODE].map(str::to_owned);
    let known: Vec<&String> = others.iter().chain(&targets).collect();
    if options.list {
        for suite in known {
            println!("{suite}");
        }
        return Ok(false);
    }
    if let Some(unknown) = options.suites.iter().find(|suite| !known.contains(suite)) {
        bail!("there is no suite {unknown}; --list shows them");
    }
    let wanted = |suite: &str| {
        options.suites.is_empty() || options.suites.iter().any(|wanted| wanted == suite)
    };

    // Some of cargo's suites look at TLS, DTLS and HTTP with these, and are compared with the broker.
    want("openssl", "openssl");
    want("coap-client-openssl", "libcoap3-bin");
    want("curl", "curl");
    setup::want_mosquitto();
    // Everything is built before anything is timed by a test.
    let built = rust::build(&place).context("the workspace does not build")?;
    if options.suites.is_empty() {
        rust::all(&place, &built, report)?;
    } else {
        rust::some(&place, &built, &options.suites, report)?;
    }
    if wanted(PYTHON) {
        python::run(&place, &built.gateway, report)?;
    }
    if wanted(NODE) {
        node::run(&place, &built.gateway, report)?;
    }
    if wanted(CRASH) {
        crash::run(&place, &built, report)?;
    }
    Ok(true)
}

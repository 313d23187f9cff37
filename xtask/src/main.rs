//! Developer tasks, run as `cargo xtask TASK`.

mod test;

use std::process::ExitCode;

use clap::Parser;

/// Developer tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Sets up what the tests need, runs all of them and counts.
    Test(test::Options),
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Test(options) => test::run(&options),
    }
}

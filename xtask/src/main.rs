//! Developer tasks, run as `cargo xtask TASK`.

mod bench;
mod conformance;
mod counts;
mod crash;
mod fuzz;
mod model;
mod power;
mod seeded;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Developer tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Compares the gateway with other brokers on this machine
    Bench(bench::Options),
    /// Runs the MQTT conformance suite against a broker, or writes docs/conformance.md
    Conformance(conformance::Options),
    /// Counts instructions and holds them against the baseline, or renews it
    Counts(counts::Options),
    /// Kills the gateway at random moments and looks whether anything acknowledged is lost
    Crash(crash::Options),
    /// Runs the fuzz targets with libFuzzer
    Fuzz(fuzz::Options),
    /// Walks at random against a model of MQTT, over real sockets
    Model(model::Options),
    /// Rebuilds what power failures would leave of a store and looks whether anything acknowledged is lost
    Power(power::Options),
    /// Sets up what the tests need, runs all of them and counts.
    Test(test::Options),
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Bench(options) => bench::run(&options),
        Task::Conformance(options) => conformance::run(&options),
        Task::Counts(options) => counts::run(&options),
        Task::Crash(options) => crash::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Model(options) => model::run(&options),
        Task::Power(options) => power::run(&options),
        Task::Test(options) => test::run(&options),
    }
}

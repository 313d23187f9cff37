//! `crash`: runs for as long as one likes. `cargo xtask crash` sets up what it needs and runs it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tidegate_crash::{Crash, Program};

/// Kills the gateway at random moments and holds what was acknowledged against what arrived
#[derive(Parser)]
#[command(name = "cargo xtask crash", bin_name = "cargo xtask crash")]
struct Options {
    /// How long: runs with further seeds begin until then. Without it, one run
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// How often the gateway is killed in one run; 0 is a run without a crash
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: u32,
    /// Cuts all connections instead of killing the gateway, which then has nothing to remember
    #[arg(long)]
    cut: bool,
    /// The seed of the first run
    #[arg(long, value_name = "SEED")]
    seed: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let minutes = options.minutes.map(|minutes| minutes * 60.0);
    let Ok(time) = minutes.map(Duration::try_from_secs_f64).transpose() else {
        eprintln!("--minutes is a number from 0");
        return ExitCode::from(2);
    };
    let until = time.map(|time| Instant::now() + time);
    for seed in options.seed.. {
        let program = Program {
            seed,
            kills: options.kills,
            crash: if options.cut { Crash::Cut } else { Crash::Kill },
            until,
        };
        match program.run() {
            Ok(outcome) => {
                println!("{}", outcome.figures);
                if let Some(failure) = outcome.failure {
                    println!("{failure}");
                    return ExitCode::FAILURE;
                }
            }
            Err(error) => {
                eprintln!("cargo xtask crash: {error:#}");
                return ExitCode::from(2);
            }
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
    ExitCode::SUCCESS
}

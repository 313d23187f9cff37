//! Random walks of many clients at once over real sockets, against the model of `tests/model`.
//!
//! A walk is a list of actions made from a seed: connects, subscriptions, publishes, acknowledgements in
//! any order, disconnects, resumes. After each action every client looks at everything that it was sent.
//! A walk that fails is shrunk to a short one, which is printed.
//!
//! No time goes by in a walk: delays of wills, expiries and keep alives are in the fuzz target `connection`,
//! whose clock stands still. Shared subscriptions and the Maximum Packet Size are in neither: the model
//! does not know them.
//!
//! Environment:
//! - `TIDEGATE_MODEL_MINUTES`: go on for so long, with a new seed each time; without it, a fixed number of
//!   walks.
//! - `TIDEGATE_MODEL_SEED`: the seed, or the first of them.
//! - `TIDEGATE_MODEL_RECORD`: a file to write the figures into.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod action;
mod walk;

use std::cell::Cell;
use std::env;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tidegate_tests::Gateway;
use tidegate_tests::wire::PATIENCE;

use walk::{Seen, Walk};

/// Walks of one seed.
const WALKS: u32 = 60;

/// How long a walk that is being shrunk waits for what does not come: many of them wait so long.
const SHRINKING: Duration = Duration::from_secs(2);

#[test]
fn every_client_sees_what_the_model_says() {
    let gateway = Gateway::start();
    let minutes: Option<f64> = number("TIDEGATE_MODEL_MINUTES");
    let first: u64 = number("TIDEGATE_MODEL_SEED").unwrap_or(1);
    let started = Instant::now();
    let end = minutes.map(|minutes| started + Duration::from_secs_f64(minutes * 60.0));
    let (walks, steps) = (Cell::new(0_u64), Cell::new(0_u64));
    let (seen, failed) = (Cell::new(Seen::default()), Cell::new(false));
    for seed in first.. {
        let config = Config {
            cases: WALKS,
            failure_persistence: None,
            // Milliseconds.
            max_shrink_time: 180_000,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let result = runner.run(&action::walk(), |actions| {
            walks.set(walks.get() + 1);
            steps.set(steps.get() + actions.len() as u64);
            let patience = if failed.get() { SHRINKING } else { PATIENCE };
            let result = Walk::new(&gateway, patience).run(&actions);
            failed.set(failed.get() || result.is_err());
            seen.set(seen.get().and(result.map_err(TestCaseError::fail)?));
            Ok(())
        });
        if let Err(error) = result {
            panic!("seed {seed} (TIDEGATE_MODEL_SEED={seed} repeats it): {error}");
        }
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
    }
    let (walks, steps) = (walks.get(), steps.get());
    let seen = seen.get().each();
    let seconds = started.elapsed().as_secs();
    // Past the harness, which keeps what a passing test prints.
    let _ = writeln!(
        std::io::stderr(),
        "model: {walks} walks, {steps} steps, {seconds} s; {seen:?}"
    );
    for (what, count) in seen {
        assert!(count > 0, "no walk came to: {what}");
    }
    if let Ok(file) = env::var("TIDEGATE_MODEL_RECORD") {
        let record = serde_json::json!({ "walks": walks, "steps": steps, "seconds": seconds });
        fs::write(&file, format!("{record:#}\n")).unwrap();
    }
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = env::var(variable).ok()?;
    let number = text.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{variable} is no number: {text}")))
}

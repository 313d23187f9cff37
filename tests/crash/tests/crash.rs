//! The short run: the gateway is killed some times, and nothing that was acknowledged is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::io::Write;

use tidegate_crash::{Crash, Program};

fn run(crash: Crash, kills: u32) {
    let program = Program {
        seed: 1,
        kills,
        crash,
        until: None,
    };
    let outcome = program.run().unwrap();
    // Past the harness, which keeps what a passing test prints.
    let _ = writeln!(std::io::stderr(), "crash: {}", outcome.figures);
    if let Some(failure) = outcome.failure {
        panic!("{failure}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_gateway_is_killed() {
    run(Crash::Kill, 12);
}

/// What fails here is not the store: the harness, its clients, or the gateway as it is without a crash.
#[test]
fn nothing_acknowledged_is_lost_when_all_connections_are_cut() {
    run(Crash::Cut, 6);
}

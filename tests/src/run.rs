//! Other programs, with a limit on their time.

use std::env;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and standard error, one after the other.
    pub said: String,
}

/// Runs a program to its end; its standard input stays open and silent.
///
/// # Panics
///
/// If it cannot be started, or does not end within `limit`.
#[must_use]
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    finish(command.stdin(Stdio::piped()), limit)
}

/// Runs a program to its end; its standard input is at its end from the beginning.
///
/// # Panics
///
/// If it cannot be started, or does not end within `limit`.
#[must_use]
#[track_caller]
pub fn run_without_input(command: &mut Command, limit: Duration) -> Outcome {
    finish(command.stdin(Stdio::null()), limit)
}

#[track_caller]
fn finish(command: &mut Command, limit: Duration) -> Outcome {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _input = child.stdin.take();
    let outputs = [
        child.stdout.take().map(|pipe| drain(Box::new(pipe))),
        child.stderr.take().map(|pipe| drain(Box::new(pipe))),
    ];
    let end = Instant::now() + limit;
    let mut late = false;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => panic!("{command:?}: {error}"),
        }
        if !late && Instant::now() >= end {
            late = true;
            // It is waited for in the next round.
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    };
    let texts = outputs.into_iter().flatten();
    let said: String = texts.filter_map(|output| output.join().ok()).collect();
    assert!(!late, "{command:?} still ran after {limit:?}: {said}");
    Outcome { status, said }
}

/// Reads a pipe to its end beside the program, which would stand still if nobody did.
fn drain(mut pipe: Box<dyn Read + Send>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether a program is there that a test needs besides the gateway; says so if not. `cargo xtask test`
/// installs them.
///
/// # Panics
///
/// If it is missing and `CI` is `true`: there a skip is a failure.
#[must_use]
#[track_caller]
pub fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|directory| directory.join(name).is_file());
    if !found {
        let strict = env::var("CI").is_ok_and(|value| value == "true");
        assert!(!strict, "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

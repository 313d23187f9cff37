//! Programs of the suites that begin from a seed, so that what they find repeats.

use std::env;
use std::ffi::OsString;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The seed that was given, or one that nobody had before.
pub(crate) fn seed(given: Option<u64>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 gives a seed as good as any.
    given.unwrap_or_else(|| now.map_or(1, |now| now.as_secs() * 1000))
}

/// The program `name` of the package `tidegate-NAME`, built as `cargo xtask test` builds it, to begin from a seed.
pub(crate) fn program(name: &str, seed: u64) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--profile", "test"])
        .args(["--package", &format!("tidegate-{name}"), "--bin", name])
        .args(["--", "--seed", &seed.to_string()]);
    command
}

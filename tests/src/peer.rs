//! Brokers of other makes that the gateway is compared with: where their programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// The workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    // One above this package: tests.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The mosquitto that is installed: its binary and its version.
#[must_use]
pub fn mosquitto() -> Option<(PathBuf, String)> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian has it where the search path of users does not look.
    let binary = env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join("mosquitto"))
        .find(|file| file.is_file())?;
    // `-h` begins with: mosquitto version 2.0.11
    let output = Command::new(&binary).arg("-h").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text
        .split_whitespace()
        .nth(2)
        .unwrap_or("unknown")
        .to_owned();
    Some((binary, version))
}

/// The binary `rumqttd-peer` beside this program, where cargo puts both, and the version of rumqttd.
///
/// # Errors
///
/// If it is not there.
pub fn rumqttd() -> Result<(PathBuf, String)> {
    let own = env::current_exe()?;
    // A test's executable is in `deps`, one below.
    let candidates = own.ancestors().skip(1).take(2);
    let binary = candidates
        .map(|directory| directory.join("rumqttd-peer"))
        .find(|file| file.is_file());
    match binary {
        Some(binary) => Ok((binary, locked("rumqttd"))),
        None => bail!("no rumqttd-peer beside {}: build it first", own.display()),
    }
}

/// The version of a package that is locked for the workspace.
fn locked(package: &str) -> String {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap_or_default();
    let (_, rest) = lock
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .unwrap_or_default();
    rest.split('"').next().unwrap_or_default().to_owned()
}

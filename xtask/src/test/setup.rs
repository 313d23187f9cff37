//! Makes what a suite needs, once: packages of the system, and directories of pinned packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use super::place::program;
use super::stream;

/// Sees to it that `name` can be run; Debian's `package` has it.
pub(crate) fn require(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(found) = program(name) {
        return Ok(found);
    }
    install(package).with_context(|| format!("{name} is missing"))?;
    program(name).with_context(|| format!("{package} is installed but has no {name}"))
}

/// Sees to it that `name` can be run, if that is possible: the tests that need it skip themselves, and
/// the others of their suite are still worth running.
pub(crate) fn want(name: &str, package: &str) {
    if let Err(error) = require(name, package) {
        println!("{error:#}");
    }
}

/// Sees to it that the broker mosquitto is there, if that is possible. Its package starts it as a
/// service, at the port where the gateway is by default: one that came only for the tests is stopped.
pub(super) fn want_mosquitto() {
    // Not on the search path of users.
    if Path::new("/usr/sbin/mosquitto").is_file() || program("mosquitto").is_some() {
        return;
    }
    match install("mosquitto") {
        Ok(()) if program("systemctl").is_some() => {
            let stop = ["disable", "--now", "mosquitto.service"];
            let stopped =
                as_root("systemctl").and_then(|mut command| stream::check(command.args(stop)));
            if let Err(error) = stopped {
                println!("mosquitto was installed and may run as a service now: {error:#}");
            }
        }
        Ok(()) => {}
        Err(error) => println!("mosquitto is missing: {error:#}"),
    }
}

/// Installs a Debian package if we may.
pub(super) fn install(package: &str) -> Result<()> {
    println!("installing {package}");
    update()?;
    let arguments = ["install", "--yes", "--no-install-recommends", package];
    stream::check(apt_get()?.args(arguments))
        .with_context(|| format!("Debian's {package} cannot be installed"))
}

/// A fresh machine has no lists of packages.
fn update() -> Result<()> {
    static UPDATED: OnceLock<bool> = OnceLock::new();
    let mut apt_get = apt_get()?;
    let updated = *UPDATED.get_or_init(|| stream::check(apt_get.arg("update")).is_ok());
    if updated {
        Ok(())
    } else {
        bail!("apt-get update failed")
    }
}

/// `apt-get`, as root.
fn apt_get() -> Result<Command> {
    program("apt-get").context("there is no apt-get here")?;
    as_root("apt-get")
}

/// A command of root, who we are or may become without a password.
fn as_root(name: &str) -> Result<Command> {
    let says = |command: &mut Command| command.output().ok().filter(|out| out.status.success());
    let root = says(Command::new("id").arg("-u")).is_some_and(|out| out.stdout == b"0\n");
    let mut command = if root {
        Command::new(name)
    } else if says(Command::new("sudo").args(["-n", "true"])).is_some() {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", name]);
        sudo
    } else {
        bail!("packages can be installed by root only");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// Runs `make` unless `directory` was made from the same `pins` before.
pub(crate) fn once(directory: &Path, pins: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = directory.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == pins) {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    make()?;
    fs::write(&stamp, pins)?;
    Ok(())
}

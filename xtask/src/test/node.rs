//! The suites of `tests/interop/node`, run by node's own test runner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::failures::Failures;
use super::place::Place;
use super::report::{Count, Report};
use super::{NODE, setup, stream};

pub(super) fn run(place: &Place, binary: &Path, report: &mut Report) -> Result<()> {
    let (node, modules) = match modules(place) {
        Ok(found) => found,
        Err(error) => {
            report.skipped(NODE, &format!("{error:#}"));
            return Ok(());
        }
    };
    // For the page in a browser: who publishes to it, the browser, and what tells it whom to trust.
    setup::want("mosquitto_pub", "mosquitto-clients");
    setup::want("chromium", "chromium");
    setup::want("certutil", "libnss3-tools");
    setup::want("coap-client-notls", "libcoap3-bin");
    let mut count = Count::default();
    let mut failed = Failures::default();
    let status = stream::lines(
        Command::new(node)
            .args(["--test", "--test-reporter=tap"])
            .current_dir(place.interop(NODE))
            // The modules are not beside the suites: those are under version control.
            .env("NODE_PATH", modules)
            .env("TIDEGATE_BIN", binary),
        |line| {
            read(&mut count, line);
            failed.line(line);
        },
    )?;
    report.said(failed);
    report.ran(NODE, count);
    if !status.success() && !report.has_failure(NODE) {
        report.broken(NODE, &format!("node ended with {status}"));
    }
    Ok(())
}

/// Installs the pinned modules; returns node and the directory of the modules.
fn modules(place: &Place) -> Result<(PathBuf, PathBuf)> {
    let sources = place.interop(NODE);
    let package = fs::read_to_string(sources.join("package.json")).context("package.json")?;
    let lock =
        fs::read_to_string(sources.join("package-lock.json")).context("package-lock.json")?;
    let node = setup::require("node", "nodejs")?;
    let npm = setup::require("npm", "npm")?;
    let directory = place.tools.join(NODE);
    setup::once(&directory, &format!("{package}{lock}"), || {
        fs::write(directory.join("package.json"), &package)?;
        fs::write(directory.join("package-lock.json"), &lock)?;
        let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
        stream::check(Command::new(npm).args(arguments).current_dir(&directory))
    })?;
    Ok((node, directory.join("node_modules")))
}

/// Reads the totals at the end of TAP: `# pass 12`.
fn read(count: &mut Count, line: &str) {
    let mut words = line.strip_prefix("# ").unwrap_or_default().split(' ');
    let (Some(word), Some(number), None) = (words.next(), words.next(), words.next()) else {
        return;
    };
    let Ok(number) = number.parse::<usize>() else {
        return;
    };
    match word {
        "pass" => count.passed += number,
        "fail" | "cancelled" => count.failed += number,
        "skipped" | "todo" => count.skipped += number,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_tap_are_read() {
        let mut count = Count::default();
        for line in [
            "# Subtest: mqtt.js",
            "ok 1 - pass 5",
            "# tests 9",
            "# suites 0",
            "# pass 5",
            "# fail 1",
            "# cancelled 1",
            "# skipped 2",
            "# todo 0",
            "# duration_ms 311.4",
        ] {
            read(&mut count, line);
        }
        assert_eq!(
            count,
            Count {
                passed: 5,
                failed: 2,
                skipped: 2
            }
        );
    }
}

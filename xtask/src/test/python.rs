//! The suites of `tests/interop/python`, run by pytest in an environment of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::failures::Failures;
use super::place::Place;
use super::report::{Count, Report};
use super::{PYTHON, setup, stream};

pub(super) fn run(place: &Place, binary: &Path, report: &mut Report) -> Result<()> {
    let python = match environment(place) {
        Ok(python) => python,
        Err(error) => {
            report.skipped(PYTHON, &format!("{error:#}"));
            return Ok(());
        }
    };
    setup::want("mosquitto_sub", "mosquitto-clients");
    setup::want("openssl", "openssl");
    setup::want("coap-client-notls", "libcoap3-bin");
    setup::want("coap-client-openssl", "libcoap3-bin");
    let mut suites: BTreeMap<String, Count> = BTreeMap::new();
    let mut failed = Failures::default();
    let status = stream::lines(
        Command::new(python)
            .args([
                "-m",
                "pytest",
                "-v",
                "--color=no",
                "-p",
                "no:cacheprovider",
                ".",
            ])
            .current_dir(place.interop(PYTHON))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TIDEGATE_BIN", binary),
        |line| {
            count(&mut suites, line);
            failed.line(line);
        },
    )?;
    report.said(failed);
    if suites.is_empty() {
        report.ran(PYTHON, Count::default());
    }
    for (suite, count) in suites {
        report.ran(&format!("{PYTHON}:{suite}"), count);
    }
    if !status.success() && !report.has_failure(PYTHON) {
        report.broken(PYTHON, &format!("pytest ended with {status}"));
    }
    Ok(())
}

/// Makes the environment with the pinned packages; returns its interpreter.
pub(crate) fn environment(place: &Place) -> Result<PathBuf> {
    let requirements = place.interop(PYTHON).join("requirements.txt");
    let pins = fs::read_to_string(&requirements).context("requirements.txt")?;
    let python = setup::require("python3", "python3")?;
    let directory = place.tools.join(PYTHON);
    let interpreter = directory.join("bin").join("python");
    setup::once(&directory, &pins, || {
        let make = || stream::check(Command::new(&python).args(["-m", "venv"]).arg(&directory));
        if make().is_err() {
            // Debian's python3 comes without what a new environment is filled from.
            setup::install("python3-venv")?;
            make()?;
        }
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ];
        stream::check(Command::new(&interpreter).args(install).arg(&requirements))
    })?;
    Ok(interpreter)
}

/// Counts `test_paho.py::test_name[v5] PASSED [ 10%]` for the suite `paho`.
fn count(suites: &mut BTreeMap<String, Count>, line: &str) {
    let mut words = line.split_whitespace();
    let (Some(test), Some(outcome)) = (words.next(), words.next()) else {
        return;
    };
    let Some((file, _)) = test.split_once(".py::") else {
        return;
    };
    let suite = file.rsplit('/').next().unwrap_or(file);
    let suite = suite.strip_prefix("test_").unwrap_or(suite);
    let one = |passed, failed, skipped| Count {
        passed,
        failed,
        skipped,
    };
    let found = match outcome {
        "PASSED" | "XFAIL" => one(1, 0, 0),
        "FAILED" | "ERROR" | "XPASS" => one(0, 1, 0),
        "SKIPPED" => one(0, 0, 1),
        _ => return,
    };
    suites.entry(suite.to_owned()).or_default().add(found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytests_output_is_counted_by_file() {
        let mut suites = BTreeMap::new();
        for line in [
            "collected 4 items",
            "test_paho.py::test_publish[v5] PASSED     [ 25%]",
            "test_paho.py::test_publish[v311] FAILED   [ 50%]",
            "test_mosquitto.py::test_version[v5] SKIPPED (no mosquitto_sub) [ 75%]",
            "FAILED test_paho.py::test_publish[v311] - AssertionError",
            "==== 1 failed, 1 passed, 1 skipped in 2.10s ====",
        ] {
            count(&mut suites, line);
        }
        let one = |passed, failed, skipped| Count {
            passed,
            failed,
            skipped,
        };
        let expected = [("mosquitto", one(0, 0, 1)), ("paho", one(1, 1, 0))];
        assert_eq!(
            suites,
            expected
                .map(|(name, count)| (name.to_owned(), count))
                .into()
        );
    }
}

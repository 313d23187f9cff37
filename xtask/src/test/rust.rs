//! The suites that cargo runs.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::failures::Failures;
use super::place::Place;
use super::report::{Count, Report};
use super::{DOC, UNIT, stream};

fn cargo(place: &Place) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(&place.root);
    command
}

/// The names of the workspace's test targets, sorted.
pub(super) fn test_targets(place: &Place) -> Result<Vec<String>> {
    let output = cargo(place)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let tests = targets.filter(|target| target["kind"][0] == "test");
    let mut names: Vec<String> = tests
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// What was built.
pub(super) struct Built {
    /// The gateway.
    pub(super) gateway: PathBuf,
    /// EMQX's client with MQTT over QUIC, which is no member of the workspace.
    flowsdk: PathBuf,
    /// The suite of each test executable: `router/bus:shared` of `shared-0a1b2c`. Two packages may
    /// have suites of one name.
    suites: BTreeMap<String, String>,
}

/// Builds the gateway and all tests in one go, so that nothing is compiled twice for different
/// features.
pub(super) fn build(place: &Place) -> Result<Built> {
    let output = cargo(place)
        .args([
            "build",
            "--workspace",
            "--bins",
            "--tests",
            "--profile",
            "test",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo build ended with {}",
        output.status
    );
    let (mut gateway, mut suites) = (None, BTreeMap::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let Some(executable) = message["executable"].as_str().map(PathBuf::from) else {
            continue;
        };
        let target = &message["target"];
        if message["profile"]["test"] == false {
            if target["name"] == "tidegate" {
                gateway = Some(executable);
            }
            continue;
        }
        let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
        let package = manifest
            .parent()
            .and_then(|directory| directory.strip_prefix(&place.root).ok());
        let package = package.unwrap_or(manifest).display();
        let suite = match target["kind"][0].as_str() {
            Some("test") => target["name"].as_str().unwrap_or_default(),
            _ => UNIT,
        };
        let file = executable
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        suites.insert(file, format!("{package}:{suite}"));
    }
    let gateway = gateway.context("cargo built no executable called tidegate")?;
    let flowsdk = flowsdk(place)?;
    Ok(Built {
        gateway,
        flowsdk,
        suites,
    })
}

/// Builds `tests/flowsdk-peer`; its `Cargo.toml` says why it is beside the workspace.
fn flowsdk(place: &Place) -> Result<PathBuf> {
    let output = cargo(place)
        .args([
            "build",
            "--locked",
            "--message-format",
            "json-render-diagnostics",
        ])
        .arg("--manifest-path")
        .arg(place.root.join("tests/flowsdk-peer/Cargo.toml"))
        .arg("--target-dir")
        .arg(&place.target)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo build of flowsdk-peer ended with {}",
        output.status
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "flowsdk-peer")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("cargo built no executable called flowsdk-peer")
}

/// Every suite of the workspace.
pub(super) fn all(place: &Place, built: &Built, report: &mut Report) -> Result<()> {
    run(place, built, &[], report)
}

/// The suites among `suites` that are cargo's.
pub(super) fn some(
    place: &Place,
    built: &Built,
    suites: &[String],
    report: &mut Report,
) -> Result<()> {
    let mut arguments: Vec<&str> = Vec::new();
    for suite in suites {
        match suite.as_str() {
            UNIT => arguments.extend(["--lib", "--bins"]),
            DOC => run(place, built, &["--doc"], report)?,
            super::PYTHON | super::NODE | super::CRASH => {}
            target => arguments.extend(["--test", target]),
        }
    }
    if arguments.is_empty() {
        Ok(())
    } else {
        run(place, built, &arguments, report)
    }
}

/// The short crash run, with an interpreter that has its clients. One test after the other: each is busy
/// with all cores.
pub(super) fn crash(
    place: &Place,
    built: &Built,
    python: &Path,
    report: &mut Report,
) -> Result<()> {
    let mut command = cargo(place);
    command
        .args([
            "test",
            "--package",
            "tidegate-crash",
            "--test",
            super::CRASH,
        ])
        .args(["--", "--test-threads", "1"])
        .env("TIDEGATE_CRASH_PYTHON", python);
    read(&mut command, built, Some(super::CRASH), report)
}

fn run(place: &Place, built: &Built, arguments: &[&str], report: &mut Report) -> Result<()> {
    let mut command = cargo(place);
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(arguments);
    read(&mut command, built, None, report)
}

/// Runs `cargo test` and counts along: by suite, or all for the one that was not built with the others.
fn read(
    command: &mut Command,
    built: &Built,
    name: Option<&str>,
    report: &mut Report,
) -> Result<()> {
    let mut reader = Reader::new(&built.suites);
    let mut failed = Failures::default();
    command
        .env("TIDEGATE_BIN", &built.gateway)
        .env("TIDEGATE_FLOWSDK_PEER", &built.flowsdk);
    let status = stream::lines(command, |line| {
        reader.line(line);
        failed.line(line);
    })?;
    report.said(failed);
    let failures: usize = reader.suites.values().map(|count| count.failed).sum();
    for (suite, count) in reader.finish() {
        report.ran(name.unwrap_or(&suite), count);
    }
    if !status.success() && failures == 0 {
        // A build that failed, or a test process that died before it could count.
        report.broken("cargo test", &status.to_string());
    }
    Ok(())
}

/// Reads along with `cargo test`.
struct Reader<'a> {
    names: &'a BTreeMap<String, String>,
    current: String,
    suites: BTreeMap<String, Count>,
}

impl<'a> Reader<'a> {
    fn new(names: &'a BTreeMap<String, String>) -> Self {
        Self {
            names,
            current: String::new(),
            suites: BTreeMap::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let line = line.trim_start();
        if let Some(rest) = line.strip_prefix("Running ") {
            let file = executable(rest);
            self.begin(self.names.get(file).map_or(file, String::as_str).to_owned());
        } else if let Some(name) = line.strip_prefix("Doc-tests ") {
            self.begin(format!("{DOC}:{name}"));
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let count = self.suites.entry(self.current.clone()).or_default();
            count.passed += before(result, "passed");
            count.failed += before(result, "failed");
            count.skipped += before(result, "ignored");
        }
    }

    fn begin(&mut self, suite: String) {
        self.suites.entry(suite.clone()).or_default();
        self.current = suite;
    }

    /// A crate need not have unit or documentation tests; any other suite must have executed some.
    fn finish(mut self) -> BTreeMap<String, Count> {
        let may_be_empty = |name: &str| {
            name.ends_with(&format!(":{UNIT}")) || name.starts_with(&format!("{DOC}:"))
        };
        self.suites
            .retain(|name, count| !may_be_empty(name) || *count != Count::default());
        self.suites
    }
}

/// `publish-0a1b2c` of `tests/publish.rs (target/debug/deps/publish-0a1b2c)`.
fn executable(running: &str) -> &str {
    let path = running
        .rsplit_once('(')
        .map_or(running, |(_, rest)| rest)
        .trim_end_matches(')');
    path.rsplit('/').next().unwrap_or(path)
}

/// The number before `word` in `ok. 3 passed; 0 failed; 1 ignored; ...`.
fn before(result: &str, word: &str) -> usize {
    let words: Vec<&str> = result
        .split([' ', ';'])
        .filter(|part| !part.is_empty())
        .collect();
    let found = words.windows(2).find(|pair| pair[1] == word);
    found.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_output_is_counted_by_suite() {
        let names = [
            ("tidegate_bus-0123", "router/bus:unit"),
            ("tidegate_api-4567", "gateway/api:unit"),
        ];
        let names = names.into_iter().chain([("publish-89ef", "tests:publish")]);
        let names = names
            .map(|(file, suite)| (file.to_owned(), suite.to_owned()))
            .collect();
        let mut reader = Reader::new(&names);
        for line in [
            "   Compiling tidegate-bus v0.1.0",
            "     Running unittests src/lib.rs (target/debug/deps/tidegate_bus-0123)",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "     Running unittests src/lib.rs (target/debug/deps/tidegate_api-4567)",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "     Running tests/publish.rs (target/debug/deps/publish-89ef)",
            "test mqtt_3_3 ... FAILED",
            "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out",
            "     Running tests/crash.rs (target/debug/deps/crash-cdef)",
            "   Doc-tests tidegate_bus",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            reader.line(line);
        }
        let count = |passed, failed, skipped| Count {
            passed,
            failed,
            skipped,
        };
        let expected = [
            ("crash-cdef", count(0, 0, 0)),
            ("doc:tidegate_bus", count(1, 0, 0)),
            ("router/bus:unit", count(12, 0, 0)),
            ("tests:publish", count(3, 1, 2)),
        ];
        let found = reader.finish();
        assert_eq!(
            found,
            expected
                .map(|(name, count)| (name.to_owned(), count))
                .into()
        );
    }
}

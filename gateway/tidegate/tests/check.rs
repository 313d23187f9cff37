//! `tidegate check` as a person runs it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

fn check(directory: &TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("check")
        .args(arguments)
        .current_dir(directory.path())
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The lines of the listing as key, value and origin.
fn listed(output: &Output) -> Vec<(String, String, String)> {
    let lines = text(&output.stdout);
    let lines = lines.lines().filter_map(|line| {
        let (said, origin) = line.rsplit_once("  # ")?;
        let (key, value) = said.split_once(" = ")?;
        Some((
            key.to_owned(),
            value.trim_end().to_owned(),
            origin.to_owned(),
        ))
    });
    lines.collect()
}

#[test]
fn every_value_is_listed_with_its_origin() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[limits]\nmax_inflight = 7\n\n[telemetry]\nlog = \"debug\"\n";
    fs::write(directory.path().join("gate.toml"), file).unwrap();
    let output = check(
        &directory,
        &[
            "--config",
            "gate.toml",
            "--data-dir",
            "here",
            "--set",
            "limits.max_memory=64MiB",
        ],
        &[("TIDEGATE__LISTENERS__MQTT__BIND", "127.0.0.1:2000")],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "The configuration is valid.\n");
    let listed = listed(&output);
    let line = |key: &str| {
        let found = listed.iter().find(|(listed, ..)| listed == key);
        let (_, value, origin) = found.unwrap();
        format!("{value} from {origin}")
    };
    assert_eq!(line("limits.max_inflight"), "7 from gate.toml:2:16");
    assert_eq!(line("telemetry.log"), "\"debug\" from gate.toml:5:7");
    assert_eq!(line("node.data_dir"), "\"here\" from flag --data-dir");
    assert_eq!(
        line("limits.max_memory"),
        "\"64MiB\" from flag --set limits.max_memory"
    );
    assert_eq!(
        line("listeners.mqtt.bind"),
        "\"127.0.0.1:2000\" from environment TIDEGATE__LISTENERS__MQTT__BIND"
    );
    assert_eq!(line("sessions.v3_expiry"), "\"7d\" from default");
    assert_eq!(line("http.allowed_hosts"), "[] from default");
}

#[test]
fn the_listing_is_a_configuration_file() {
    let directory = tempfile::tempdir().unwrap();
    let first = check(&directory, &["--set", "limits.max_inflight=9"], &[]);
    assert_eq!(first.status.code(), Some(0));
    fs::write(directory.path().join("listing.toml"), &first.stdout).unwrap();
    let second = check(&directory, &["--config", "listing.toml"], &[]);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second.stderr));
    let values = |output: &Output| -> Vec<_> {
        let lines = listed(output).into_iter();
        lines.map(|(key, value, _)| (key, value)).collect()
    };
    assert_eq!(values(&first), values(&second));
    assert!(values(&first).contains(&("limits.max_inflight".to_owned(), "9".to_owned())));
}

#[test]
fn a_wrong_configuration_shows_every_problem_and_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("gate.toml"),
        "[limits]\nmax_inflght = 7\n",
    )
    .unwrap();
    let output = check(
        &directory,
        &["--config", "gate.toml", "--set", "http.bind=nowhere"],
        &[("TIDEGATE__HTTP__ENABELD", "true")],
    );
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "error: the configuration is not valid, in 3 places:\n\
         \x20 gate.toml:2:1: unknown key limits.max_inflght; did you mean limits.max_inflight?\n\
         \x20 environment TIDEGATE__HTTP__ENABELD: unknown key http.enabeld; \
         did you mean TIDEGATE__HTTP__ENABLED?\n\
         \x20 flag --set http.bind: http.bind = nowhere: must be an IP address and a port, such as \
         \"127.0.0.1:1883\" or \"[::1]:1883\"\n"
    );
}

#[test]
fn a_setting_without_a_value_is_refused_by_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let output = check(&directory, &["--set", "limits.max_inflight"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("section.key=value"));
}

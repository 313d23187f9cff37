//! `tidegate check` as a person runs it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
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

fn text_of(output: &Output) -> String {
    text(&output.stderr)
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

#[test]
fn what_is_asked_of_clients_is_checked_also_where_the_certificate_is_the_local_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("clients.pem"), "garbage").unwrap();
    let arguments = ["--set", "listeners.mqtts.tls.client_ca=clients.pem"];
    let output = check(&directory, &arguments, &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(
        said,
        "error: listener mqtts: clients.pem: there is no certificate \
         (-----BEGIN CERTIFICATE-----) in it\n"
    );
}

#[test]
fn the_keys_and_certificates_of_dtls_are_checked_and_told_without_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let key = "000102030405060708090a0b0c0d0e0f";
    let of_keys = ["--set", "listeners.coaps.dtls.psk_file=keys"];
    for (text, expected) in [
        (
            format!("a:{key}\nb\n"),
            "error: listener coaps: keys: line 2: it is not of the form identity:hexkey\n",
        ),
        (
            String::new(),
            "error: listener coaps: keys: there is no key in it\n",
        ),
        (format!("a:{key}\n"), "The configuration is valid.\n"),
    ] {
        write("keys", &text);
        let output = check(&directory, &of_keys, &[]);
        assert_eq!(text_of(&output), expected);
    }

    // Good for TLS.
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    write("a.crt", &params.self_signed(&ed25519).unwrap().pem());
    write("a.key", &ed25519.serialize_pem());
    for (listener, expected) in [
        ("mqtts", "The configuration is valid.\n"),
        (
            "coaps",
            "error: listener coaps: a.crt: its key is of another kind; for DTLS it must be of the elliptic \
             curve P-256 or P-384 (ECDSA)\n",
        ),
    ] {
        let set =
            ["cert=a.crt", "key=a.key"].map(|file| format!("listeners.{listener}.tls.{file}"));
        let arguments = ["--set", &set[0], "--set", &set[1]];
        let output = check(&directory, &arguments, &[]);
        assert_eq!(text_of(&output), expected);
    }
}

#[test]
fn every_listener_with_bad_files_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "--set",
        "listeners.mqtts.tls.client_ca=a.pem",
        "--set",
        "listeners.wss.tls.client_ca=b.pem",
    ];
    let output = check(&directory, &arguments, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error: listener mqtts: a.pem: there is no such file\n\
         error: listener wss: b.pem: there is no such file\n"
    );
}

#[test]
fn what_should_not_stay_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() - Duration::from_secs(86_400)).into();
    let write = |name: &str, mode, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("a.crt", 0o644, params.self_signed(&key).unwrap().pem());
    write("a.key", 0o644, key.serialize_pem());
    let arguments = [
        "--set",
        "listeners.mqtts.tls.cert=a.crt",
        "--set",
        "listeners.mqtts.tls.key=a.key",
    ];
    let output = check(&directory, &arguments, &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stderr),
        "warning: listener mqtts: a.crt: the certificate has expired; clients will refuse it\n\
         warning: listener mqtts: a.key: the private key can be read by other users; its mode \
         should be 0600\n\
         The configuration is valid.\n"
    );
}

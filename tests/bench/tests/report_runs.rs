//! `bench` as a process: what it makes of brokers that serve, fail, never listen or end, and that nothing
//! stays behind. No figure is judged here: what a busy machine measures is no test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_bench::{AtBroker, Latency, Measurement, Outcome, Reply, Report, read};
use tidegate_tests::{free_port, tidegate, workspace};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for what a run writes.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `bench`, short, writing its results here.
    fn bench(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        if !arguments.contains(&"--rounds") {
            command.args(["--rounds", "1"]);
        }
        command
            .args(["--seconds", "0.3", "--warm-up", "0.1"])
            .arg("--output")
            .arg(self.path("out"))
            .args(arguments)
            .env("TIDEGATE_BIN", tidegate())
            .stdin(Stdio::null());
        command
    }

    /// A load process that is a shell script: the order is in `$order`.
    fn load(&self, script: &str) -> String {
        let file = self.path("load.sh");
        fs::write(&file, format!("#!/bin/sh\nread -r order\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file.display().to_string()
    }

    fn report(&self) -> Report {
        read(&self.path("out")).unwrap()
    }
}

/// A load process that measures at once.
fn measures(place: &Place) -> String {
    let measurement = Measurement {
        seconds: 1.0,
        deliveries: 1_000,
        broker_cpu: 0.001,
        load_cpu: 0.001,
        resident: 1 << 20,
        latency: Some(Latency::default()),
        ..Measurement::default()
    };
    let reply = Reply::Measured(Box::new(measurement));
    place.load(&format!(
        "echo '{}'",
        serde_json::to_string(&reply).unwrap()
    ))
}

fn said(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr];
    texts
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .concat()
}

/// A gateway as `--peer`.
fn gateway_as_peer(name: &str, place: &Place) -> String {
    let port = free_port().unwrap();
    let mut command = format!(
        "{name}={port}={} run --data-dir {} --set http.enabled=false",
        tidegate().display(),
        place.path(name).display()
    );
    for listener in ["mqtts", "ws", "wss", "quic", "coap"] {
        command += &format!(" --set listeners.{listener}.enabled=false");
    }
    command + &format!(" --set listeners.mqtt.bind=127.0.0.1:{port}")
}

fn at<'a>(report: &'a Report, scenario: &str, broker: &str) -> &'a AtBroker {
    let ran = report.scenarios.iter().find(|ran| ran.name == scenario);
    let mut results = ran.unwrap().results.iter();
    results.find(|at| at.broker == broker).unwrap()
}

/// Whether the process runs, which it does not as a zombie.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|text| !text.rsplit(')').next().unwrap().trim().starts_with('Z'))
}

fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < end, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn exit_code(child: &mut Child) -> Option<i32> {
    let mut status = None;
    wait_for("the end of bench", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

#[test]
fn brokers_are_measured_and_the_report_is_written() {
    let place = Place::new();
    let peer = gateway_as_peer("peer", &place);
    let output = place
        .bench(&["--scenario", "one-to-one-qos0", "--peer", &peer])
        .args(["--broker", "tidegate", "--broker", "peer"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report = place.report();
    for broker in ["tidegate", "peer"] {
        let at = at(&report, "one-to-one-qos0", broker);
        let Outcome::Measured(measured) = &at.rounds[0] else {
            panic!("{}", said(&output));
        };
        assert!(
            measured.deliveries > 0 && measured.broker_cpu > 0.0,
            "{measured:?}"
        );
        assert_eq!((measured.lost, measured.duplicated), (0, 0), "{measured:?}");
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    for text in [
        "one-to-one-qos0",
        "CPU µs per delivery",
        "mosquitto was not compared: it was left out.",
        "FlashMQ was not compared: it was not given as `--peer`.",
        "results.md",
    ] {
        assert!(stdout.contains(text), "no {text} in\n{stdout}");
    }
    for file in [
        "results.md",
        "cpu-per-delivery.svg",
        "deliveries-per-second.svg",
    ] {
        assert!(place.path("out").join(file).is_file(), "{file}");
    }
}

#[test]
fn rumqttd_is_measured_over_tcp_and_left_out_over_tls() {
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    if !bench.with_file_name("rumqttd-peer").is_file() {
        assert!(std::env::var("CI").is_err(), "rumqttd-peer was not built");
        eprintln!("skipped: rumqttd-peer was not built");
        return;
    }
    let place = Place::new();
    let output = place
        .bench(&["--broker", "rumqttd", "--scenario", "one-to-one-qos1"])
        .args(["--scenario", "idle-tls"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report = place.report();
    let figures = at(&report, "one-to-one-qos1", "rumqttd").figures;
    assert!(figures.is_some(), "{}", said(&output));
    let tls = at(&report, "idle-tls", "rumqttd");
    assert!(
        matches!(tls.rounds[..], [Outcome::NotCompared(_)]),
        "{tls:?}"
    );
}

#[test]
fn quic_is_measured_beside_tls_and_kept_when_something_is_added() {
    let place = Place::new();
    let run = |scenarios: &[&str], options: &[&str]| {
        let mut command = place.bench(options);
        for scenario in scenarios {
            command.args(["--scenario", scenario]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output
    };
    let scenarios = ["tls-one-to-one", "quic-one-to-one", "idle-quic"];
    let others = ["tls-handshakes", "quic-handshakes"];
    let options = &["--divide", "100", "--broker", "tidegate"][..];
    run(&[&scenarios[..], &others].concat(), options);
    for (name, other) in [
        ("quic-one-to-one-qos0", "tls-one-to-one-qos0"),
        ("quic-one-to-one-qos1", "tls-one-to-one-qos1"),
        ("quic-handshakes", "tls-handshakes"),
    ] {
        let report = place.report();
        let ran = report.scenarios.iter().find(|ran| ran.name == name);
        let beside = report.beside(ran.unwrap()).unwrap();
        assert_eq!(beside.name, other);
        for name in [name, other] {
            let figures = at(&report, name, "tidegate").figures.unwrap();
            assert_eq!((figures.lost, figures.duplicated), (0, 0), "{name}");
        }
    }
    let output = run(&["fan-in"], &[options, &["--add"]].concat());
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(page.contains("fan-in-qos0"), "{page}");
    assert_eq!(place.report().scenarios.len(), 8);
    let page = fs::read_to_string(place.path("out").join("results.md")).unwrap();
    for text in [
        "## Beside another carrier",
        "| quic-handshakes | tls-handshakes |",
    ] {
        assert!(page.contains(text), "no {text} in\n{page}");
    }
}

#[test]
fn coap_is_measured_beside_mqtt_with_one_message_at_a_time() {
    let place = Place::new();
    let output = place
        .bench(&["--divide", "100", "--broker", "tidegate"])
        .args([
            "--scenario",
            "in-step",
            "--scenario",
            "coap",
            "--scenario",
            "idle-coap",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report = place.report();
    for name in ["in-step-qos1", "coap-in-step"] {
        let figures = at(&report, name, "tidegate").figures.unwrap();
        assert!(figures.rate.is_some(), "{name}");
        assert_eq!((figures.lost, figures.duplicated), (0, 0), "{name}");
    }
    let mut scenarios = report.scenarios.iter();
    let coap = scenarios.find(|ran| ran.name == "coap-in-step").unwrap();
    assert_eq!(report.beside(coap).unwrap().name, "in-step-qos1");
    let idle = at(&report, "idle-coap", "tidegate").figures.unwrap();
    assert!(idle.connection_bytes.is_some());
}

#[test]
fn who_does_not_speak_quic_is_not_compared() {
    let place = Place::new();
    let peer = gateway_as_peer("peer", &place);
    let output = place
        .bench(&["--scenario", "quic", "--peer", &peer])
        .args(["--load", &measures(&place)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for ran in place.report().scenarios {
        for at in ran.results.iter().filter(|at| at.broker != "tidegate") {
            let why = at.missing().map(|missing| missing.word);
            assert_eq!(why, Some("not compared"), "{}: {at:?}", ran.name);
        }
    }
}

#[test]
fn a_peer_that_never_listens_fails_and_is_ended() {
    let place = Place::new();
    let pid = place.path("pid");
    let peer = format!(
        "silent={}=sh -c 'echo $$ > {}; exec sleep 600'",
        free_port().unwrap(),
        pid.display()
    );
    let output = place
        .bench(&[
            "--broker",
            "silent",
            "--peer",
            &peer,
            "--scenario",
            "fan-in",
        ])
        .args(["--patience", "0.3"])
        .output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("it did not listen at 127.0.0.1:"), "{said}");
    assert_eq!(
        output.status.code(),
        Some(1),
        "nothing was measured: {said}"
    );
    assert!(!place.path("out").exists(), "nothing was measured: {said}");
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!runs(pid.trim()), "{said}");
}

#[test]
fn a_peer_that_ends_at_once_is_shown_with_what_it_wrote() {
    let place = Place::new();
    let peer = format!(
        "gone={}=sh -c 'echo no licence >&2; exit 3'",
        free_port().unwrap()
    );
    let output = place
        .bench(&["--broker", "gone", "--peer", &peer, "--scenario", "fan-in"])
        .output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("exit status: 3"), "{said}");
    assert!(said.contains("no licence"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn a_port_that_is_taken_is_not_measured_in_the_peers_place() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = format!("other={}=sleep 600", taken.local_addr().unwrap().port());
    let output = place
        .bench(&["--broker", "other", "--peer", &peer, "--scenario", "fan-in"])
        .output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("something else listens at"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn one_broker_that_fails_does_not_end_the_run() {
    let place = Place::new();
    let load = measures(&place);
    let peer = format!("gone={}=false", free_port().unwrap());
    let output = place
        .bench(&["--load", &load, "--rounds", "4", "--scenario", "fan-in"])
        .args(["--peer", &peer, "--broker", "gone", "--broker", "tidegate"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report = place.report();
    assert_eq!(at(&report, "fan-in-qos0", "tidegate").rounds.len(), 4);
    // It is not asked again and again.
    assert_eq!(at(&report, "fan-in-qos0", "gone").rounds.len(), 2);
}

#[test]
fn brokers_take_turns_in_being_first() {
    let place = Place::new();
    let load = measures(&place);
    let binary = tidegate().display().to_string();
    let output = place
        .bench(&["--load", &load, "--scenario", "fan-in", "--rounds", "2"])
        .args(["--broker", "tidegate"])
        .args(["--tidegate", &format!("old={binary}")])
        .args(["--tidegate", &format!("new={binary}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let order: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_once(", ")?.1.split_once(": "))
        .map(|(broker, _)| broker)
        .collect();
    assert_eq!(order, ["old", "new", "new", "old"], "{said}");
}

#[test]
fn what_the_load_process_says_or_fails_to_say_is_told() {
    for (script, expected) in [
        (
            r#"echo '{"failed":"connection 17 was closed"}'"#,
            "connection 17 was closed",
        ),
        (
            r#"echo '{"does_not_fit":"1,024 files"}'"#,
            "does not fit: 1,024 files",
        ),
        ("echo nonsense", "the load process wrote: nonsense"),
        ("exit 7", "the load process ended with exit status: 7"),
    ] {
        let place = Place::new();
        let load = place.load(script);
        let output = place
            .bench(&[
                "--load",
                &load,
                "--broker",
                "tidegate",
                "--scenario",
                "fan-in",
            ])
            .output()
            .unwrap();
        let said = said(&output);
        assert!(said.contains(expected), "no {expected} in\n{said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}

/// The number behind `"pid":` in the order.
const PID: &str = r#"pid=$(echo "$order" | sed 's/.*"pid":\([0-9]*\).*/\1/')"#;

#[test]
fn a_broker_that_dies_under_load_is_told_apart_from_a_load_that_fails() {
    let place = Place::new();
    // The load hears of it first: connections break before the last thread of the process is gone.
    let load = place.load(&format!(
        "{PID}\nkill -9 $pid\necho '{{\"failed\":\"closed\"}}'"
    ));
    let output = place
        .bench(&[
            "--load",
            &load,
            "--broker",
            "tidegate",
            "--scenario",
            "fan-in",
        ])
        .output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("the broker ended with signal: 9"), "{said}");
}

#[test]
fn an_interrupted_run_leaves_no_process_and_writes_nothing() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        let pids = place.path("pids");
        let load = place.load(&format!(
            "{PID}\necho $pid $$ > {0}.new; mv {0}.new {0}\nexec sleep 600",
            pids.display()
        ));
        let mut bench = place
            .bench(&[
                "--load",
                &load,
                "--broker",
                "tidegate",
                "--scenario",
                "fan-in",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the load process", || pids.exists());
        let killed = Command::new("sh")
            .args(["-c", "kill -s $0 $1", signal, &bench.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        assert_eq!(exit_code(&mut bench), Some(130), "{signal}");
        assert!(!place.path("out").exists(), "{signal}");
        let pids = fs::read_to_string(&pids).unwrap();
        assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
        for pid in pids.split_whitespace() {
            assert!(!runs(pid), "{signal}: {pids}");
        }
    }
}

#[test]
fn what_must_be_kept_is_measured_on_a_disk_and_by_who_keeps_it() {
    let place = Place::new();
    let disk = workspace().join("target/bench-tests");
    let output = place
        .bench(&["--scenario", "durable", "--divide", "500"])
        .arg("--disk")
        .arg(&disk)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = place.report();
    assert_eq!(report.scenarios.len(), 5);
    for ran in &report.scenarios {
        let name = ran.name.as_str();
        let own = at(&report, name, "tidegate");
        let figures = own.figures.unwrap_or_else(|| panic!("{name}: {own:?}"));
        let faults = (figures.lost, figures.duplicated, figures.out_of_order);
        assert_eq!(faults, (0, 0, 0), "{name}");
        if name == "durable-restart" {
            assert!(figures.restart.unwrap().median > 0.0, "{own:?}");
        } else {
            assert!(figures.of_bare.unwrap().median > 0.0, "{own:?}");
            assert!(figures.per_sync.unwrap().median >= 1.0, "{own:?}");
        }
        for other in ran.results.iter().filter(|at| at.broker != "tidegate") {
            let why = other.missing().map(|missing| missing.word);
            assert_eq!(why, Some("not compared"), "{name}: {other:?}");
        }
    }
    assert_eq!(
        fs::read_dir(&disk).unwrap().count(),
        0,
        "what was kept stays behind"
    );
    fs::remove_dir(&disk).unwrap();
}

#[test]
fn a_disk_that_is_memory_is_refused() {
    let place = Place::new();
    let output = place
        .bench(&["--scenario", "durable-fan-in", "--broker", "tidegate"])
        .args(["--disk", "/dev/shm/tidegate-bench-tests"])
        .output()
        .unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is in memory (tmpfs)"), "{said}");
    // The directory was made; nothing is in it.
    fs::remove_dir("/dev/shm/tidegate-bench-tests").unwrap();
}

#[test]
fn a_check_fails_unless_all_targets_are_met() {
    let place = Place::new();
    let load = measures(&place);
    let peer = gateway_as_peer("other", &place);
    // Both have the same figures. With properties only the rate and the losses are judged; one to one
    // there is no mosquitto to be compared with.
    for (scenario, code) in [("one-to-one-qos0", 1), ("properties", 0)] {
        let output = place
            .bench(&["--load", &load, "--check", "--scenario", scenario])
            .args(["--peer", &peer, "--broker", "tidegate", "--broker", "other"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    }
}

#[test]
fn a_command_line_that_means_nothing_is_refused() {
    for (arguments, expected) in [
        (
            &["--scenario", "fan-sideways"][..],
            "no scenario begins with fan-sideways",
        ),
        (&["--broker", "hivemq"], "there is no broker hivemq"),
        (&["--peer", "flashmq"], "expected NAME=PORT=COMMAND"),
        (&["--peer", "flashmq=port=flashmq"], "port is no port"),
        (&["--seconds=-1"], "--seconds"),
        (&["--tidegate", "/nowhere/tidegate"], "/nowhere/tidegate"),
    ] {
        let output = Place::new().bench(arguments).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

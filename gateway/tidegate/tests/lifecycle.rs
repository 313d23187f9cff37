//! The gateway from its start to its end, as whoever starts it sees it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A gateway on free ports with a directory of its own; ended when dropped.
struct Gateway {
    child: Child,
    stdout: BufReader<ChildStdout>,
    banner: String,
    directory: TempDir,
}

fn command(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(["--set", "listeners.mqtt.bind=127.0.0.1:0"])
        .args(["--set", "listeners.mqtts.bind=127.0.0.1:0"])
        .args(["--set", "listeners.ws.bind=127.0.0.1:0"])
        .args(["--set", "listeners.wss.bind=127.0.0.1:0"])
        .args(["--set", "listeners.quic.bind=127.0.0.1:0"])
        .args(["--set", "listeners.coap.bind=127.0.0.1:0"])
        .args(["--set", "listeners.coaps.bind=127.0.0.1:0"])
        .args(["--set", "listeners.coap_tcp.bind=127.0.0.1:0"])
        .args(["--set", "listeners.coaps_tcp.bind=127.0.0.1:0"])
        .args(["--set", "http.bind=127.0.0.1:0"])
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .arg("--ready-file")
        .arg(directory.path().join("ready.json"))
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Gateway {
    /// Starts one and waits for its banner, which comes after everything else of the start.
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = command(&directory).args(arguments).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        while stdout.read_line(&mut banner).unwrap() > 0 && !banner.contains("Try: ") {}
        Self {
            child,
            stdout,
            banner,
            directory,
        }
    }

    fn ready(&self) -> Value {
        let path: PathBuf = self.directory.path().join("ready.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn address(&self, listener: &str) -> SocketAddr {
        let ready = self.ready();
        let address = ready["listeners"][listener]["address"].as_str();
        address.unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; returns the exit code and what it wrote to standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "the banner is all it prints");
        (status.code(), log)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail when it has ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn output(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn it_starts_with_nothing_configured_and_ends_when_asked() {
    for signal in [Signal::TERM, Signal::INT] {
        let gateway = Gateway::start(&[]);
        let ready = gateway.ready();
        assert_eq!(ready["pid"], gateway.child.id());
        assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
        let listeners = ready["listeners"].as_object().unwrap();
        let kinds: Vec<_> = listeners
            .iter()
            .map(|(name, it)| (name, &it["kind"]))
            .collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        for (name, kind) in kinds {
            assert_eq!(name.replace('_', "+"), kind.as_str().unwrap());
        }
        let (mqtt, http) = (gateway.address("mqtt"), gateway.address("http"));
        assert!(mqtt.port() != 0 && http.port() != 0);
        assert!(gateway.directory.path().join("data").is_dir());
        TcpStream::connect(mqtt).unwrap();

        gateway.signal(signal);
        let (code, log) = gateway.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("The gateway has drained"), "{log}");
        assert!(TcpStream::connect(mqtt).is_err());
        assert!(TcpStream::connect(http).is_err());
    }
}

#[test]
fn the_banner_names_the_listeners_and_a_line_to_try() {
    let gateway = Gateway::start(&[]);
    let (mqtt, http) = (gateway.address("mqtt"), gateway.address("http"));
    let banner = &gateway.banner;
    let shown = |url: String, what: &str| {
        let mut lines = banner.lines();
        let line = lines.find_map(|line| line.trim().strip_prefix(&url));
        let line = line.unwrap_or_else(|| panic!("no {url} in {banner}"));
        assert!(line.trim_start().starts_with(what), "{banner}");
    };
    shown(format!("mqtt://{mqtt} "), "listener mqtt");
    shown(format!("http://{http} "), "/api/v1 /livez ");
    for (name, path) in [
        ("mqtts", ""),
        ("ws", "/mqtt"),
        ("wss", "/mqtt"),
        ("quic", ""),
        ("coap", ""),
        ("coaps", ""),
        ("coap_tcp", ""),
        ("coaps_tcp", ""),
    ] {
        let address = gateway.address(name);
        let scheme = name.replace('_', "+");
        shown(
            format!("{scheme}://{address}{path} "),
            &format!("listener {name}"),
        );
    }
    let port = mqtt.port();
    assert!(
        banner.ends_with(&format!(
            "Try: mosquitto_sub -p {port} -t '#' -v    \
             or: tidegate sub --url mqtt://{mqtt} -t '#' -v\n"
        )),
        "{banner}"
    );
}

#[test]
fn http_says_that_it_is_up() {
    let gateway = Gateway::start(&[]);
    let http = gateway.address("http");
    for path in ["/livez", "/readyz", "/startupz"] {
        let response = get(http, path);
        assert!(response.starts_with("HTTP/1.1 200 "), "{path}: {response}");
    }
    let verbose = get(http, "/readyz?verbose");
    assert!(verbose.contains("[+]listeners ok\n"), "{verbose}");
    let metrics = get(http, "/metrics");
    let build = format!(
        "tidegate_build_info{{version=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    );
    assert!(metrics.contains(&build), "{metrics}");
}

#[test]
fn several_listeners_each_get_their_port() {
    let gateway = Gateway::start(&[
        "--set",
        "listeners.inside.kind=mqtt",
        "--set",
        "listeners.inside.bind=127.0.0.1:0",
        "--set",
        "http.enabled=false",
    ]);
    let ready = gateway.ready();
    assert_eq!(ready["listeners"].as_object().unwrap().len(), 10);
    assert_ne!(gateway.address("mqtt"), gateway.address("inside"));
    TcpStream::connect(gateway.address("inside")).unwrap();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut gateway = Gateway::start(&[]);
    // The drain waits for the response to this request, which never ends.
    let mut unfinished = TcpStream::connect(gateway.address("http")).unwrap();
    unfinished.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    // A later connection that is answered shows that the first was accepted.
    get(gateway.address("http"), "/livez");

    gateway.signal(Signal::TERM);
    let mut stderr = BufReader::new(gateway.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("The gateway drains") {
        line.clear();
        assert_ne!(
            stderr.read_line(&mut line).unwrap(),
            0,
            "it ended at the first signal"
        );
    }
    gateway.signal(Signal::INT);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("A second signal"), "{rest}");
    assert!(!rest.contains("has drained"), "{rest}");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(130));
}

#[test]
fn the_log_can_be_json() {
    let gateway = Gateway::start(&["--set", "telemetry.log_format=json"]);
    gateway.signal(Signal::TERM);
    let (code, log) = gateway.end();
    assert_eq!(code, Some(0));
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let drains = events
        .iter()
        .find(|event| event["message"] == "The gateway drains.");
    assert_eq!(drains.unwrap()["signal"], "SIGTERM", "{log}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let taken_of_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = taken_of_udp.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready.json");
    std::fs::write(&ready, "of an earlier run").unwrap();
    for (key, name, address) in [
        ("listeners.mqtt", "listener mqtt", address),
        ("listeners.wss", "listener wss", address),
        ("listeners.quic", "listener quic", udp),
        ("listeners.coap", "listener coap", udp),
        ("listeners.coaps", "listener coaps", udp),
        ("listeners.coap_tcp", "listener coap_tcp", address),
        ("http", "HTTP", address),
    ] {
        let setting = format!("{key}.bind={address}");
        let (code, log) = output(command(&directory).args(["--set", &setting]));
        assert_eq!(code, Some(1), "{log}");
        assert!(
            log.contains(&format!("{name} cannot be bound to {address}")),
            "{log}"
        );
        assert!(!ready.exists(), "a stale ready file misleads");
    }
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (code, log) = output(command(&directory).args(["--set", "listeners.mqtt.bind=0.0.0.0:0"]));
    assert_eq!(code, Some(2));
    assert!(log.contains("access.allow_anonymous"), "{log}");
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_data_directory_that_cannot_be_used_is_told_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    // A file is in the way: that stops root, too, whom no permission stops.
    std::fs::write(directory.path().join("data"), b"not a directory").unwrap();
    let (code, log) = output(&mut command(&directory));
    assert_eq!(code, Some(1));
    assert!(log.contains("the data directory"), "{log}");
    assert!(!log.contains("The gateway is up"), "{log}");
}

#[test]
fn run_is_the_same_as_no_command() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    run.args(["run", "--set", "http.bind=nowhere"])
        .current_dir(directory.path());
    let mut alone = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    alone
        .args(["--set", "http.bind=nowhere"])
        .current_dir(directory.path());
    assert_eq!(output(&mut run), output(&mut alone));
}

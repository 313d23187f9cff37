//! The gateway and its own test clients together: what the README promises works as printed.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const VERSIONS: [&str; 3] = ["3.1", "3.1.1", "5"];

/// A gateway on a free port; ended when dropped.
struct Gateway {
    child: Child,
    url: String,
    _directory: TempDir,
}

/// `tidegate sub`, subscribed; ended when dropped.
struct Subscriber {
    child: Child,
    /// Kept open: a client that cannot write its words would fail.
    _stderr: BufReader<ChildStderr>,
}

impl Gateway {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
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
            .args(["--set", "telemetry.log=warn"])
            .args([
                "--data-dir",
                directory.path().join("data").to_str().unwrap(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.lines().map(Result::unwrap);
        let url = lines.find_map(|line| {
            let url = line.split_whitespace().next()?;
            url.starts_with("mqtt://").then(|| url.to_owned())
        });
        Self {
            child,
            url: url.unwrap(),
            _directory: directory,
        }
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg(name).args(["--url", &self.url]).args(arguments);
        command
    }

    /// Starts a subscriber and waits until the gateway has granted every filter.
    fn sub(&self, arguments: &[&str]) -> Subscriber {
        let mut child = self
            .command("sub", arguments)
            .args(["--debug", "--timeout", "20"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("subscribed to") {
            line.clear();
            assert_ne!(
                stderr.read_line(&mut line).unwrap(),
                0,
                "it ended: {arguments:?}"
            );
        }
        Subscriber {
            child,
            _stderr: stderr,
        }
    }

    #[track_caller]
    fn publish(&self, arguments: &[&str]) {
        let output = self
            .command("pub", arguments)
            .args(["--timeout", "20"])
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), stderr.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Subscriber {
    /// What it printed, once it has had its messages.
    #[track_caller]
    fn printed(mut self) -> String {
        let mut text = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{text}");
        text
    }

    #[track_caller]
    fn json(self) -> Vec<Value> {
        let text = self.printed();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Ends it without a goodbye.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn messages_pass_between_all_versions_at_every_quality() {
    let gateway = Gateway::start();
    for to in VERSIONS {
        let subscriber = gateway.sub(&["-V", to, "-t", "a/#", "-q", "2", "-n", "9", "-v"]);
        let mut expected = String::new();
        for from in VERSIONS {
            for qos in ["0", "1", "2"] {
                let topic = format!("a/{from}");
                gateway.publish(&["-V", from, "-t", &topic, "-m", qos, "-q", qos]);
                expected.push_str(&format!("{topic} {qos}\n"));
            }
        }
        assert_eq!(subscriber.printed(), expected, "to {to}");
    }
}

#[test]
fn the_properties_of_a_message_arrive() {
    let gateway = Gateway::start();
    let subscriber = gateway.sub(&[
        "-t",
        "t",
        "-q",
        "1",
        "-n",
        "1",
        "--json",
        "--subscription-id",
        "9",
    ]);
    gateway.publish(&[
        "-t",
        "t",
        "-m",
        "hi",
        "-q",
        "1",
        "--content-type",
        "text/plain",
        "--response-topic",
        "r",
        "--correlation-data",
        "c",
        "--user-property",
        "b=1",
        "--user-property",
        "a=2",
        "--user-property",
        "b=3",
        "--payload-format",
        "utf8",
        "--message-expiry",
        "1h",
    ]);
    let message = &subscriber.json()[0];
    assert_eq!(message["topic"], "t");
    assert_eq!(message["payload"], "hi");
    assert_eq!(message["qos"], 1);
    assert_eq!(message["subscription_identifiers"], json!([9]));
    assert_eq!(
        message["properties"],
        json!({
            "payload_format": 1, "message_expiry": 3600, "content_type": "text/plain",
            "response_topic": "r", "correlation_data": "Yw==",
            "user_properties": [["b", "1"], ["a", "2"], ["b", "3"]],
        })
    );
}

#[test]
fn many_messages_all_arrive_in_order() {
    let gateway = Gateway::start();
    let subscriber = gateway.sub(&["-t", "t", "-q", "2", "-n", "3000"]);
    let mut publisher = gateway
        .command("pub", &["-t", "t", "-l", "-q", "2"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = (0..3000).map(|number| format!("{number}\n")).collect();
    publisher
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    assert_eq!(publisher.wait().unwrap().code(), Some(0));
    assert_eq!(subscriber.printed(), lines);
}

#[test]
fn a_retained_message_is_kept_until_it_is_removed() {
    let gateway = Gateway::start();
    gateway.publish(&["-t", "t", "-m", "kept", "-r"]);
    let late = gateway.sub(&["-t", "t", "-n", "1", "--json"]);
    assert_eq!(late.json()[0]["retain"], true);
    gateway.publish(&["-t", "t", "--null", "-r"]);
    let nothing = gateway
        .command("sub", &["-t", "t", "-n", "1", "-W", "300ms"])
        .output()
        .unwrap();
    assert_eq!(nothing.status.code(), Some(4));
}

#[test]
fn a_will_is_published_for_a_client_that_is_lost() {
    let gateway = Gateway::start();
    let witness = gateway.sub(&["-t", "wills", "-n", "1", "--json"]);
    let lost = gateway.sub(&[
        "-t",
        "x",
        "--will-topic",
        "wills",
        "--will-payload",
        "gone",
        "--will-user-property",
        "k=v",
    ]);
    lost.kill();
    let will = &witness.json()[0];
    assert_eq!(will["payload"], "gone");
    assert_eq!(will["properties"]["user_properties"], json!([["k", "v"]]));
}

#[test]
fn a_session_keeps_what_comes_while_its_client_is_away() {
    let gateway = Gateway::start();
    for (version, expiry) in [("3.1.1", None), ("5", Some("--session-expiry=1h"))] {
        let id = format!("sleeper-{version}");
        let topic = format!("to/{id}");
        let mut arguments = vec![
            "-V", version, "-i", &id, "-c", "-t", &topic, "-q", "1", "-n", "1",
        ];
        arguments.extend(expiry);
        let first = gateway.sub(&arguments);
        gateway.publish(&["-t", &topic, "-m", "one", "-q", "1"]);
        assert_eq!(first.printed(), "one\n");
        gateway.publish(&["-t", &topic, "-m", "two", "-q", "1"]);
        // It may have its message before it is subscribed again.
        let second = gateway
            .command("sub", &arguments)
            .args(["-W", "20"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(second.stdout).unwrap(), "two\n");
        assert_eq!(second.status.code(), Some(0));
    }
}

#[test]
fn topic_aliases_shorten_both_ways() {
    let gateway = Gateway::start();
    let subscriber = gateway.sub(&[
        "-t",
        "a/#",
        "-n",
        "5",
        "--json",
        "--topic-alias-maximum",
        "4",
    ]);
    gateway.publish(&["-t", "a/b/c", "-m", "x", "-n", "5", "--topic-alias", "1"]);
    for message in subscriber.json() {
        assert_eq!(message["topic"], "a/b/c");
    }
}

#[test]
fn members_of_a_group_share_the_messages() {
    let gateway = Gateway::start();
    let members = [0, 1].map(|_| gateway.sub(&["--share", "g", "-t", "t", "-q", "1", "-n", "50"]));
    gateway.publish(&["-t", "t", "-m", "x", "-q", "1", "-n", "100"]);
    for member in members {
        assert_eq!(member.printed().lines().count(), 50);
    }
}

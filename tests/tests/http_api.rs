//! Messages over HTTP from somebody who is not ours: curl. What is published on one side is received on the other,
//! and an event stream goes on where it was, also after the gateway was killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tidegate_tests::wire::{Connect, Property, Publish};
use tidegate_tests::{Gateway, get, has_program, run_without_input, unique};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20"]);
    command
}

/// What curl prints, the status in a line of its own at the end.
#[track_caller]
fn ask(address: SocketAddr, path: &str, arguments: &[&str]) -> (u16, String) {
    let mut command = curl();
    command.args(["--write-out", "\n%{http_code}"]);
    command
        .args(arguments)
        .arg(format!("http://{address}{path}"));
    let said = run_without_input(&mut command, PATIENCE).said;
    let (body, status) = said.rsplit_once('\n').unwrap_or(("", &said));
    let status = status.parse();
    let status = status.unwrap_or_else(|_| panic!("no status: {said}"));
    (status, body.to_owned())
}

/// `curl -N` on an event stream, whose events are waited for.
struct Stream {
    child: Child,
    events: mpsc::Receiver<String>,
}

impl Stream {
    /// Opens it and waits for its first event, which says that the subscriptions are made.
    #[track_caller]
    fn open(address: SocketAddr, query: &str, last: Option<&str>) -> Self {
        let mut command = curl();
        command.arg("--no-buffer");
        if let Some(last) = last {
            command.args(["--header", &format!("Last-Event-ID: {last}")]);
        }
        command.arg(format!("http://{address}/api/v1/subscribe?{query}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("curl is there");
        let mut output = child.stdout.take().expect("it was asked for");
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            let (mut text, mut chunk) = (String::new(), [0; 4096]);
            while let Ok(read @ 1..) = output.read(&mut chunk) {
                text.push_str(&String::from_utf8_lossy(&chunk[..read]));
                while let Some((event, rest)) = text.split_once("\n\n") {
                    if sender.send(event.to_owned()).is_err() {
                        return;
                    }
                    text = rest.to_owned();
                }
            }
        });
        let mut stream = Self { child, events };
        let first = stream.event();
        assert!(first.contains("event: session"), "{first}");
        stream
    }

    #[track_caller]
    fn event(&mut self) -> String {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect("an event");
            if event != ":" {
                return event;
            }
        }
    }

    /// The next message and its id.
    #[track_caller]
    fn message(&mut self) -> (Value, String) {
        let event = self.event();
        let line = |name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name}in {event}"))
        };
        assert_eq!(line("event: "), "message");
        let data = serde_json::from_str(line("data: ")).expect("data in JSON");
        (data, line("id: ").to_owned())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Both fail when it has ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_curl_publishes_a_client_of_mqtt_receives_and_the_other_way_round() {
    let Some(gateway) = Gateway::configured("").filter(|_| has_program("curl")) else {
        return;
    };
    let http = gateway.http();
    let mut client = Connect::v5(&unique("mqtt")).open(gateway.mqtt());
    client.subscribe("from/curl/#", 2);
    let json = r#"{"topic":"from/curl/json","payload":"21.5","qos":2,"content_type":"text/plain",
                   "user_properties":[["site","harbour"]]}"#;
    let arguments = ["--json", json];
    let (status, body) = ask(http, "/api/v1/publish", &arguments);
    assert_eq!(status, 202, "{body}");
    let message = client.receive();
    assert_eq!(
        (message.topic.as_str(), message.text().as_str()),
        ("from/curl/json", "21.5")
    );
    assert_eq!(message.qos, 2);
    let expected = [
        Property::ContentType("text/plain".to_owned()),
        Property::User("site".to_owned(), "harbour".to_owned()),
    ];
    assert_eq!(message.properties, expected);
    let path = "/api/v1/publish?topic=from/curl/raw&qos=1";
    let (status, body) = ask(http, path, &["--data-binary", "as it is"]);
    assert_eq!(status, 202, "{body}");
    let message = client.receive();
    assert_eq!((message.text().as_str(), message.qos), ("as it is", 1));
    assert!(message.properties.is_empty(), "{message:?}");

    let mut stream = Stream::open(http, "filter=from/mqtt/+&qos=1", None);
    let message = Publish::new("from/mqtt/1", "hello").qos(1);
    let message = message.with(Property::User("site".to_owned(), "harbour".to_owned()));
    // Success: somebody subscribes.
    assert_eq!(client.publish(&message), 0);
    let (data, _) = stream.message();
    assert_eq!(data["topic"], "from/mqtt/1");
    assert_eq!(data["payload"], "hello");
    assert_eq!(data["user_properties"][0][1], "harbour");
    // The end of the gateway is told.
    gateway.signal("TERM");
    let end = stream.event();
    assert!(
        end.contains("event: end") && end.contains("shutdown"),
        "{end}"
    );
}

#[test]
fn what_curl_retains_is_there_for_clients_of_mqtt_and_after_a_kill() {
    let Some(gateway) = Gateway::configured("").filter(|_| has_program("curl")) else {
        return;
    };
    let path = "/api/v1/retained/house/mood%20%C3%BC";
    let put = [
        "--request",
        "PUT",
        "--header",
        "Content-Type: text/x-mood",
        "--data-binary",
        "calm",
    ];
    let (status, body) = ask(gateway.http(), path, &put);
    assert_eq!(status, 200, "{body}");
    let gateway = gateway.restart("KILL");
    assert_eq!(ask(gateway.http(), path, &[]), (200, "calm".to_owned()));
    let mut client = Connect::v5(&unique("mqtt")).open(gateway.mqtt());
    client.subscribe("house/+", 1);
    let message = client.receive();
    assert_eq!(
        (message.topic.as_str(), message.retain),
        ("house/mood ü", true)
    );
    assert_eq!(ask(gateway.http(), path, &["--request", "DELETE"]).0, 204);
    assert_eq!(client.receive().payload, b"");
    assert_eq!(ask(gateway.http(), path, &[]).0, 404);
}

#[test]
fn an_event_stream_goes_on_where_it_was_after_the_gateway_was_killed() {
    let Some(gateway) = Gateway::configured("").filter(|_| has_program("curl")) else {
        return;
    };
    let query = "filter=orders/%23&client_id=shop&session_expiry=3600";
    let publish = |address: SocketAddr, payload: &str| {
        let path = "/api/v1/publish?topic=orders/1";
        let (status, body) = ask(address, path, &["--data-binary", payload]);
        assert_eq!(status, 202, "{body}");
    };
    let mut stream = Stream::open(gateway.http(), query, None);
    for payload in ["1", "2", "3"] {
        publish(gateway.http(), payload);
    }
    let (data, first) = stream.message();
    assert_eq!(data["payload"], "1");
    assert_eq!(stream.message().0["payload"], "2");
    let gateway = gateway.restart("KILL");
    drop(stream);
    publish(gateway.http(), "4");
    // The first was taken in and the others were not.
    let mut stream = Stream::open(gateway.http(), query, Some(&first));
    let mut last = String::new();
    for (payload, duplicate) in [("2", true), ("3", true), ("4", false)] {
        let (data, id) = stream.message();
        assert_eq!(
            (&data["payload"], data["duplicate"] == true),
            (&payload.into(), duplicate)
        );
        last = id;
    }
    drop(stream);
    let gateway = gateway.restart("KILL");
    let mut stream = Stream::open(gateway.http(), query, Some(&last));
    publish(gateway.http(), "5");
    assert_eq!(stream.message().0["payload"], "5");
    let metrics = get(gateway.http(), "/metrics").body;
    assert!(metrics.contains("\ntidegate_http_streams 1\n"), "{metrics}");
}

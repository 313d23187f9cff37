//! `tests/flowsdk-peer` as a process, and what it says.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::{Value, json};
use tidegate_tests::wire::PATIENCE;
use tidegate_tests::{Gateway, flowsdk_peer};

/// Who is to connect to the listener `quic` of a gateway.
pub(crate) struct Setup {
    options: Value,
}

impl Setup {
    /// flowsdk's client for applications, which has all of MQTT on one stream.
    pub(crate) fn client(gateway: &Gateway, id: &str) -> Self {
        Self::new("client", gateway, id)
    }

    /// flowsdk's engine, which has MQTT on as many streams as it is told.
    pub(crate) fn streams(gateway: &Gateway, id: &str) -> Self {
        Self::new("streams", gateway, id)
    }

    fn new(mode: &str, gateway: &Gateway, id: &str) -> Self {
        Self {
            options: json!({
                "mode": mode,
                "address": gateway.address("quic").to_string(),
                "authority": gateway.authority(),
                "client_id": id,
                "clean": true,
                "keep_alive": 600,
                "will": null,
                "early_data": false,
            }),
        }
    }

    /// Resumes its session, which lasts.
    pub(crate) fn lasting(self) -> Self {
        self.with("clean", json!(false))
    }

    pub(crate) fn keep_alive(self, seconds: u16) -> Self {
        self.with("keep_alive", json!(seconds))
    }

    /// Leaves a will for this topic: `gone`, at QoS 1.
    pub(crate) fn will(self, topic: &str) -> Self {
        self.with("will", json!(topic))
    }

    /// Sends early data when it can.
    pub(crate) fn early_data(self) -> Self {
        self.with("early_data", json!(true))
    }

    /// Trusts these certificates, and not the gateway's.
    pub(crate) fn trusting(self, file: &Path) -> Self {
        self.with("authority", json!(file))
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.options[name] = value;
        self
    }

    /// Starts it; it does nothing of itself.
    pub(crate) fn start(self) -> Peer {
        let mut child = Command::new(flowsdk_peer())
            .arg(self.options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, events) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        Peer {
            input: child.stdin.take(),
            child,
            events,
            kept: VecDeque::new(),
        }
    }
}

/// A message, as flowsdk tells of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    /// The stream of data that it came on; the control stream has no number.
    pub(crate) stream: Option<u64>,
}

/// The process.
pub(crate) struct Peer {
    child: Child,
    /// It ends when this does.
    input: Option<ChildStdin>,
    events: Receiver<Value>,
    /// Events that came while another was awaited.
    kept: VecDeque<Value>,
}

impl Peer {
    /// Tells it what to do.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
    }

    /// The next event of this name; others are kept, except for failures, which fail the test.
    #[track_caller]
    pub(crate) fn await_event(&mut self, name: &str) -> Value {
        if let Some(place) = self.kept.iter().position(|event| event["event"] == name) {
            return self.kept.remove(place).unwrap();
        }
        loop {
            let event = self.next(name);
            if event["event"] == name {
                return event;
            }
            assert_ne!(event["event"], "failed", "{name} awaited: {event}");
            self.kept.push_back(event);
        }
    }

    /// What it fails at next.
    #[track_caller]
    pub(crate) fn await_failure(&mut self) -> String {
        loop {
            let event = self.next("failed");
            if event["event"] == "failed" {
                return event["what"].as_str().unwrap().to_owned();
            }
            self.kept.push_back(event);
        }
    }

    #[track_caller]
    fn next(&mut self, awaited: &str) -> Value {
        let event = self.events.recv_timeout(PATIENCE);
        event.unwrap_or_else(|error| {
            panic!("{awaited} awaited, but {error}; only {:?} came", self.kept)
        })
    }

    /// Connects, and returns whether a session was resumed.
    #[track_caller]
    pub(crate) fn connect(&mut self) -> bool {
        self.connect_with(&json!([]))
    }

    /// The same, with commands that go with CONNECT.
    #[track_caller]
    pub(crate) fn connect_with(&mut self, early: &Value) -> bool {
        self.tell(&json!({ "command": "connect", "early": early }));
        let connected = self.await_event("connected");
        assert_eq!(connected["code"], 0, "{connected}");
        connected["session_present"].as_bool().unwrap()
    }

    /// Subscribes, on this stream if there is one; just this QoS must be granted.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8, stream: Option<u64>) {
        self.tell(&subscribe(filter, qos, stream));
        let subscribed = self.await_event("subscribed");
        assert_eq!(subscribed["codes"], json!([qos]), "{subscribed}");
    }

    /// Unsubscribes from what there must be.
    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filter: &str, stream: Option<u64>) {
        self.tell(&json!({ "command": "unsubscribe", "filter": filter, "stream": stream }));
        let unsubscribed = self.await_event("unsubscribed");
        assert_eq!(unsubscribed["codes"], json!([0]), "{unsubscribed}");
    }

    /// Publishes, on this stream if there is one, and waits for the end of the exchange.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, stream: Option<u64>) {
        self.tell(&publish(topic, payload, qos, stream));
        if qos > 0 {
            let published = self.await_event("published");
            let right = json!({ "event": "published", "qos": qos, "code": 0 });
            assert_eq!(published, right);
        }
    }

    /// The next message. flowsdk acknowledges it.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Message {
        let message = self.await_event("message");
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        Message {
            topic: text("topic"),
            payload: text("payload").chars().map(|byte| byte as u8).collect(),
            qos: message["qos"].as_u64().unwrap() as u8,
            dup: message["dup"].as_bool().unwrap(),
            stream: message["stream"].as_u64(),
        }
    }

    /// No message may have come that was not awaited, up to now: where all is on one stream, the answer to a ping
    /// comes after it.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.ping();
        let message = self.kept.iter().find(|event| event["event"] == "message");
        assert_eq!(message, None, "nothing was to come");
    }

    /// A ping and its answer.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.tell(&json!({ "command": "ping" }));
        self.await_event("pong");
    }

    /// Says DISCONNECT and ends the connection.
    #[track_caller]
    pub(crate) fn disconnect(&mut self) {
        self.tell(&json!({ "command": "disconnect" }));
        self.await_event("disconnected");
    }

    /// Opens a stream of data.
    #[track_caller]
    pub(crate) fn open(&mut self) -> u64 {
        self.tell(&json!({ "command": "open" }));
        self.await_event("opened")["stream"].as_u64().unwrap()
    }

    /// Resets its side of a stream.
    #[track_caller]
    pub(crate) fn reset(&mut self, stream: u64) {
        self.tell(&json!({ "command": "reset", "stream": stream }));
    }

    /// Finishes its side of a stream, and waits for the end of the gateway's.
    #[track_caller]
    pub(crate) fn finish(&mut self, stream: u64) {
        self.tell(&json!({ "command": "finish", "stream": stream }));
        let right = json!({ "event": "ended", "stream": stream, "by_peer": true });
        while self.await_event("ended") != right {}
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.input = None;
        // Gone already is fine: what matters is that it runs no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// To be told, or to go with CONNECT.
pub(crate) fn subscribe(filter: &str, qos: u8, stream: Option<u64>) -> Value {
    json!({ "command": "subscribe", "filter": filter, "qos": qos, "stream": stream })
}

/// To be told, or to go with CONNECT.
pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, stream: Option<u64>) -> Value {
    let payload: String = payload.iter().copied().map(char::from).collect();
    json!({ "command": "publish", "topic": topic, "payload": payload, "qos": qos, "stream": stream })
}

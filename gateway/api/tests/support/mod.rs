//! The API over real sockets, on a bus without an engine or with one that is done when the test says so.

#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tidegate_api::{Api, ApiSettings, Health, Registry, Server, Settings};
use tidegate_bus::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A durable engine whose tickets for messages complete when the test says so, and which may refuse everything.
#[derive(Debug, Default)]
pub struct SlowStore {
    open: Mutex<Vec<Completion>>,
    epochs: Mutex<u64>,
    refuses: Mutex<bool>,
    arrived: tokio::sync::Notify,
}

impl SlowStore {
    fn ticket(&self) -> Ticket {
        let (ticket, completion) = Ticket::pending();
        self.open.lock().unwrap().push(completion);
        self.arrived.notify_one();
        ticket
    }

    pub fn refuse(&self, refuses: bool) {
        *self.refuses.lock().unwrap() = refuses;
    }

    /// Waits until so many tickets are open.
    pub async fn wait_for(&self, count: usize) {
        soon("a ticket", async {
            while self.open.lock().unwrap().len() < count {
                self.arrived.notified().await;
            }
        })
        .await;
    }

    /// Completes all tickets that are open.
    pub fn complete(&self, result: &Result<(), StoreError>) {
        for completion in self.open.lock().unwrap().drain(..) {
            completion.complete(result.clone());
        }
    }
}

impl Store for SlowStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn accepts(&self) -> Result<(), StoreError> {
        match *self.refuses.lock().unwrap() {
            true => Err(StoreError::Failed("the disk is gone".into())),
            false => Ok(()),
        }
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        let mut epochs = self.epochs.lock().unwrap();
        *epochs += 1;
        let epoch = Epoch(*epochs);
        Box::pin(std::future::ready(Ok(Claim {
            epoch,
            session: None,
        })))
    }

    fn append(&self, _publication: &Publication<'_>) -> Ticket {
        self.ticket()
    }

    fn change(&self, _: &ClientId, _: Epoch, _: &[SessionChange]) -> Ticket {
        Ticket::ready()
    }

    fn retain(&self, _topic: &str, _message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.ticket()
    }

    fn read(&self, _: &ClientId, _: Epoch, _: Place, reader: Box<dyn QueueReader>) {
        reader.end(Ok(true));
    }
}

/// Lets `right:password` in and those without a name; nobody publishes to or reads below `secret`.
#[derive(Debug)]
pub struct Doorman;

impl Access for Doorman {
    fn connect<'a>(&'a self, credentials: Credentials<'a>) -> AccessFuture<'a> {
        let decision = match (credentials.user_name, credentials.password) {
            (None, None) | (Some("right"), Some(b"pass:word")) => Ok(()),
            (Some("banned"), _) => Err(Denial::Banned),
            (Some("away"), _) => Err(Denial::Unavailable),
            _ => Err(Denial::BadCredentials),
        };
        assert!(credentials.peer.is_some(), "the peer is known");
        Box::pin(std::future::ready(decision))
    }

    fn publish(&self, _: &ClientId, topic: TopicName<'_>, _: QoS, _: bool) -> Result<(), Denial> {
        if topic.as_str().starts_with("secret") {
            return Err(Denial::NotAuthorized);
        }
        Ok(())
    }

    fn subscribe(&self, _: &ClientId, filter: &TopicFilter, _: QoS) -> Result<(), Denial> {
        if filter.as_str().starts_with("secret") {
            return Err(Denial::NotAuthorized);
        }
        Ok(())
    }
}

pub struct Site {
    pub address: SocketAddr,
    pub bus: Arc<Bus>,
    pub api: Api,
    pub stop: oneshot::Sender<()>,
    pub served: JoinHandle<()>,
}

/// What a site is made of.
pub struct Plan {
    pub http: Settings,
    pub api: ApiSettings,
    pub bus: tidegate_bus::Settings,
    pub store: Arc<dyn Store>,
    pub access: Arc<dyn Access>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            http: Settings::default(),
            api: ApiSettings::default(),
            bus: tidegate_bus::Settings::default(),
            store: Arc::new(MemoryStore::new()),
            access: Arc::new(AllowAll),
        }
    }
}

impl Plan {
    pub async fn open(self) -> Site {
        let bus = Bus::new(
            self.bus,
            self.store,
            self.access,
            Arc::new(SystemClock::new()),
        );
        let api = Api::default();
        api.begin(&bus, self.api);
        serve(self.http, api, bus).await
    }
}

pub async fn serve(http: Settings, api: Api, bus: Arc<Bus>) -> Site {
    let server = Server::bind(Settings {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..http
    });
    let server = server.unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server.serve(
        Health::new(Duration::from_secs(10)),
        Registry::default(),
        api.clone(),
        async {
            let _ = stopped.await;
        },
    );
    let served = tokio::spawn(serving);
    Site {
        address,
        bus,
        api,
        stop,
        served,
    }
}

/// A site with the defaults.
pub async fn site() -> Site {
    Plan::default().open().await
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a problem with this status (RFC 9457), and gives it.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let content_type = self.header("content-type");
        assert_eq!(content_type, Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        for key in ["type", "title", "detail"] {
            let text = problem[key].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{key}: {problem}");
        }
        problem
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Sends bytes and reads until the server closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    soon("an answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no head: {text:?}"));
        let body = match header(head, "transfer-encoding") {
            Some("chunked") => unchunked(body),
            _ => body.to_owned(),
        };
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body,
        }
    })
    .await
}

/// RFC 9112 section 7.1.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.push_str(&tail[..size]);
        rest = &tail[size + 2..];
    }
    body
}

impl Site {
    /// One request with these headers, each with its end of the line.
    pub async fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Reply {
        let length = match (method, body) {
            ("GET" | "HEAD" | "DELETE" | "OPTIONS", []) => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\
             Connection: close\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        exchange(self.address, &request).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, "", b"").await
    }

    /// Publishes JSON.
    pub async fn publish(&self, json: &str) -> Reply {
        let headers = "Content-Type: application/json\r\n";
        self.ask("POST", "/api/v1/publish", headers, json.as_bytes())
            .await
    }

    /// A receiver on the bus, as a client of another protocol is one.
    pub async fn receiver(&self, filter: &str, expiry: u32) -> Receiver {
        let id = ClientId::new(&format!("receiver of {filter}")).unwrap();
        let claim = self.bus.claim(&id).await.unwrap();
        let request = ConnectRequest {
            clean_start: true,
            expiry,
            will: None,
            receive_maximum: NonZeroU16::MAX,
            keep_alive: 0,
            encoder: Box::new(WordEncoder),
        };
        let attached = self
            .bus
            .batch(|worker| self.bus.attach(worker, &id, claim, request));
        let (attachment, _) = attached.unwrap();
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            retain_as_published: true,
            ..Default::default()
        };
        let filter = TopicFilter::new(filter).unwrap();
        attachment
            .subscribe(self.bus.now(), filter, options, None)
            .unwrap();
        Receiver {
            attachment,
            bus: Arc::clone(&self.bus),
        }
    }

    /// Publishes on the bus.
    pub fn publish_on_bus(&self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
        let mut message = Message::new(TopicName::new(topic).unwrap(), payload);
        message.qos = qos;
        message.retain = retain;
        let _ = self
            .bus
            .batch(|worker| self.bus.publish(worker, message))
            .unwrap();
    }

    pub async fn subscribe(&self, query: &str) -> Stream {
        self.subscribe_with(query, "").await
    }

    pub async fn subscribe_with(&self, query: &str, headers: &str) -> Stream {
        Stream::open(self.address, query, headers).await
    }
}

/// Writes a message as words.
pub struct WordEncoder;

impl Encoder for WordEncoder {
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        let payload = String::from_utf8_lossy(message.payload);
        let properties: Vec<_> = message.properties.iter().collect();
        let retain = if outgoing.retain { "r" } else { "" };
        let expiry = outgoing.expires_in.map(|seconds| format!(" {seconds}s"));
        let text = format!(
            "{} {payload} {}{retain}{} {properties:?}\n",
            message.topic,
            outgoing.qos as u8,
            expiry.unwrap_or_default()
        );
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn release(&mut self, _: &mut Vec<u8>, _: NonZeroU16) {}

    fn count_unacknowledged(&self, _: &[u8]) -> u64 {
        0
    }
}

pub struct Receiver {
    pub attachment: Attachment,
    bus: Arc<Bus>,
}

impl Receiver {
    /// What it has received since the last time, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        while self
            .attachment
            .take_output(&mut out, self.bus.now())
            .unwrap()
        {}
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// A client of an event stream, which reads only when it is asked for an event.
pub struct Stream {
    pub socket: TcpStream,
    pub head: String,
    /// What was read and is not part of an event yet, without the marks of chunks.
    text: String,
    raw: Vec<u8>,
    ended: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: Value,
    pub retry: Option<u64>,
}

impl Stream {
    pub async fn open(address: SocketAddr, query: &str, headers: &str) -> Self {
        let mut stream = Self::request(address, query, headers).await;
        assert!(stream.head.starts_with("HTTP/1.1 200"), "{}", stream.head);
        let first = stream.event().await;
        assert_eq!(first.name, "session");
        stream
    }

    /// The same without a look at the answer.
    pub async fn request(address: SocketAddr, query: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /api/v1/subscribe?{query} HTTP/1.1\r\nHost: localhost\r\n\
             Accept: text/event-stream\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self {
            socket,
            head: String::new(),
            text: String::new(),
            raw: Vec::new(),
            ended: false,
        };
        soon("a head", async {
            loop {
                let end = stream.raw.windows(4).position(|four| four == b"\r\n\r\n");
                if let Some(end) = end {
                    stream.head = String::from_utf8(stream.raw[..end].to_vec()).unwrap();
                    stream.raw.drain(..end + 4);
                    return;
                }
                assert!(stream.fill().await, "no head");
            }
        })
        .await;
        stream
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.socket.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.raw.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }

    /// Moves whole chunks from the bytes to the text.
    fn unchunk(&mut self) {
        loop {
            let Some(end) = self.raw.windows(2).position(|two| two == b"\r\n") else {
                return;
            };
            let size = std::str::from_utf8(&self.raw[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                self.ended = true;
                return;
            }
            if self.raw.len() < end + 2 + size + 2 {
                return;
            }
            let piece = String::from_utf8(self.raw[end + 2..end + 2 + size].to_vec()).unwrap();
            self.text.push_str(&piece);
            self.raw.drain(..end + 2 + size + 2);
        }
    }

    /// The next block of lines, comments included; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        soon("an event", async {
            loop {
                self.unchunk();
                if let Some(end) = self.text.find("\n\n") {
                    let block = self.text[..end].to_owned();
                    self.text.drain(..end + 2);
                    return Some(block);
                }
                if self.ended {
                    return None;
                }
                if !self.fill().await {
                    return None;
                }
            }
        })
        .await
    }

    /// The next comment or event, a comment as an event of no name.
    pub async fn next(&mut self) -> Option<Event> {
        let block = self.block().await?;
        let mut event = Event::default();
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", value)) => event.id = Some(value.to_owned()),
                Some(("event", value)) => value.clone_into(&mut event.name),
                Some(("data", value)) => event.data = serde_json::from_str(value).unwrap(),
                Some(("retry", value)) => event.retry = Some(value.parse().unwrap()),
                _ => assert_eq!(line, ":", "{block}"),
            }
        }
        Some(event)
    }

    /// The next event that is no comment.
    pub async fn event(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("an event before the end");
            if !event.name.is_empty() {
                return event;
            }
        }
    }

    /// The payloads of so many messages, and the id of the last.
    pub async fn messages(&mut self, count: usize) -> (Vec<String>, String) {
        let mut payloads = Vec::new();
        let mut last = String::new();
        for _ in 0..count {
            let event = self.event().await;
            assert_eq!(event.name, "message", "{event:?}");
            payloads.push(event.data["payload"].as_str().unwrap().to_owned());
            last = event.id.unwrap();
        }
        (payloads, last)
    }

    /// Everything up to the end of the stream, by the names of the events.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            if !event.name.is_empty() {
                events.push(event);
            }
        }
        events
    }
}

/// Waits until `check` holds; there is nothing to be woken by.
pub async fn until(what: &str, mut check: impl FnMut() -> bool) {
    soon(what, async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

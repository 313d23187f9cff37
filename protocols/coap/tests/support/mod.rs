//! A server with a bus and a clock that the test moves, and endpoints that are ports. What the server sends is read
//! by a codec that is not ours.

#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coap_lite::{MessageClass, MessageType, Packet};
use tidegate_bus::*;
use tidegate_coap::codec::{Code, Kind, Token, Writer, number};
use tidegate_coap::{Metrics, Outgoing, Path, Server, Settings as Coap};

pub struct Net {
    pub bus: Arc<Bus>,
    pub server: Server,
    pub metrics: Arc<Metrics>,
    pub now: Instant,
}

/// A message that the server sent, and to whom.
#[derive(Clone, Debug)]
pub struct Sent {
    pub port: u16,
    pub bytes: Vec<u8>,
    pub packet: Packet,
}

impl Sent {
    pub fn code(&self) -> String {
        self.packet.header.code.to_string()
    }

    pub fn kind(&self) -> MessageType {
        self.packet.header.get_type()
    }

    pub fn id(&self) -> u16 {
        self.packet.header.message_id
    }

    pub fn token(&self) -> &[u8] {
        self.packet.get_token()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.packet.payload).into_owned()
    }

    /// The values of an option.
    pub fn all(&self, number: u16) -> Vec<Vec<u8>> {
        let found = self.packet.options().find(|(found, _)| **found == number);
        found
            .map(|(_, values)| values.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub fn number(&self, number: u16) -> Option<u32> {
        let value = self.all(number).first()?.clone();
        Some(value.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    pub fn is_empty_of(&self, kind: MessageType) -> bool {
        self.kind() == kind
            && self.packet.header.code == MessageClass::Empty
            && self.bytes.len() == 4
    }
}

/// A request to be sent.
#[derive(Clone)]
pub struct Ask {
    pub kind: Kind,
    pub code: Code,
    pub id: u16,
    pub token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    pub payload: Vec<u8>,
}

pub fn ask(code: Code, path: &str) -> Ask {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let mut ask = Ask {
        kind: Kind::Confirmable,
        code,
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        token: vec![7],
        options: Vec::new(),
        payload: Vec::new(),
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    for segment in path.trim_start_matches('/').split('/') {
        ask = ask.option(number::URI_PATH, segment);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        ask = ask.option(number::URI_QUERY, pair);
    }
    ask
}

pub fn get(path: &str) -> Ask {
    ask(Code::GET, path)
}

pub fn put(path: &str, payload: impl AsRef<[u8]>) -> Ask {
    let mut ask = ask(Code::PUT, path);
    ask.payload = payload.as_ref().to_vec();
    ask
}

impl Ask {
    pub fn option(mut self, number: u16, value: impl AsRef<[u8]>) -> Self {
        self.options.push((number, value.as_ref().to_vec()));
        self
    }

    pub fn uint(self, number: u16, value: u32) -> Self {
        let zeros = value.leading_zeros() as usize / 8;
        self.option(number, &value.to_be_bytes()[zeros..])
    }

    pub fn non(mut self) -> Self {
        self.kind = Kind::NonConfirmable;
        self
    }

    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    pub fn observe(self) -> Self {
        self.uint(number::OBSERVE, 0)
    }

    /// `num`, `more` and the size of the blocks.
    pub fn block(self, option: u16, num: u32, more: bool, size: usize) -> Self {
        let szx = size.ilog2() - 4;
        self.uint(option, num << 4 | u32::from(more) << 3 | szx)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let token = Token::new(&self.token).unwrap();
        let mut options = self.options.clone();
        options.sort_by_key(|(number, _)| *number);
        let mut writer = Writer::new(&mut out, self.kind, self.code, self.id, token);
        for (number, value) in &options {
            writer.option(*number, value);
        }
        writer.payload(&self.payload);
        out
    }
}

impl Net {
    pub fn new() -> Self {
        Self::with(Arc::new(MemoryStore::new()), |_| {})
    }

    pub fn with(store: Arc<dyn Store>, change: impl FnOnce(&mut Coap)) -> Self {
        let settings = Settings::default();
        let bus = Bus::new(
            settings,
            store,
            Arc::new(AllowAll),
            Arc::new(SystemClock::new()),
        );
        let mut settings = Coap::default();
        change(&mut settings);
        let metrics = Arc::new(Metrics::default());
        let now = Instant::now();
        let server = Server::new(Arc::clone(&bus), settings, Arc::clone(&metrics), now);
        Self {
            bus,
            server,
            metrics,
            now,
        }
    }

    /// Sends a datagram from a port and takes what the server sends until it rests.
    pub fn send(&mut self, port: u16, datagram: &[u8]) -> Vec<Sent> {
        let mut out = Outgoing::default();
        let path = path(port);
        let (bus, server, now) = (&self.bus, &mut self.server, self.now);
        bus.batch(|worker| server.receive(worker, path, datagram, now, &mut out));
        let mut sent = read(&out);
        sent.extend(self.rest());
        sent
    }

    /// Sends a request and takes the one answer.
    #[track_caller]
    pub fn ask(&mut self, port: u16, ask: &Ask) -> Sent {
        let sent = self.send(port, &ask.bytes());
        let [answer] = sent.as_slice() else {
            panic!("one answer: {sent:?}");
        };
        assert_eq!((answer.port, answer.token()), (port, &ask.token[..]));
        answer.clone()
    }

    /// What the server sends when it is woken, and for what is due.
    pub fn rest(&mut self) -> Vec<Sent> {
        let mut out = Outgoing::default();
        // Twice: what is decided in one turn is acted upon in the next.
        for _ in 0..2 {
            let (bus, server, now) = (&self.bus, &mut self.server, self.now);
            bus.batch(|worker| server.wake(worker, now, &mut out));
        }
        if self.server.next_timeout() <= self.now {
            self.server.timeout(self.now, &mut out);
        }
        read(&out)
    }

    pub fn advance(&mut self, time: Duration) -> Vec<Sent> {
        let end = self.now + time;
        let mut sent = Vec::new();
        loop {
            let next = self.server.next_timeout();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            sent.extend(self.rest());
        }
        self.now = end;
        sent.extend(self.rest());
        sent
    }

    /// Publishes on the bus, and takes what the server sends for it.
    pub fn publish(&mut self, topic: &str, payload: &str, retain: bool) -> Vec<Sent> {
        self.publish_until(topic, payload, retain, None)
    }

    pub fn publish_until(
        &mut self,
        topic: &str,
        payload: &str,
        retain: bool,
        seconds: Option<u64>,
    ) -> Vec<Sent> {
        let mut message = Message::new(TopicName::new(topic).unwrap(), payload.as_bytes());
        message.retain = retain;
        message.expires_at = seconds.map(|seconds| self.bus.now().plus_seconds(seconds));
        let _ = self
            .bus
            .batch(|worker| self.bus.publish(worker, message))
            .unwrap();
        self.rest()
    }

    pub fn empty(&mut self, port: u16, kind: Kind, id: u16) -> Vec<Sent> {
        let mut bytes = Vec::new();
        Writer::empty(&mut bytes, kind, id);
        self.send(port, &bytes)
    }

    pub fn acknowledge(&mut self, sent: &Sent) -> Vec<Sent> {
        self.empty(sent.port, Kind::Acknowledgement, sent.id())
    }

    pub fn reset(&mut self, sent: &Sent) -> Vec<Sent> {
        self.empty(sent.port, Kind::Reset, sent.id())
    }

    /// Observes: the answer is a message of its own, and is acknowledged 20 ms later.
    #[track_caller]
    pub fn observe(&mut self, port: u16, path: &str, token: &[u8]) -> Sent {
        let request = get(path).observe().token(token);
        let sent = self.send(port, &request.bytes());
        let [acknowledgement, answer] = sent.as_slice() else {
            panic!("an acknowledgement and an answer: {sent:?}");
        };
        assert!(acknowledgement.is_empty_of(MessageType::Acknowledgement));
        assert_eq!((acknowledgement.id(), answer.token()), (request.id, token));
        assert_eq!(
            (answer.code().as_str(), answer.kind()),
            ("2.05", MessageType::Confirmable)
        );
        assert!(answer.number(number::OBSERVE).is_some(), "it is registered");
        self.now += Duration::from_millis(20);
        let next = self.acknowledge(answer);
        assert!(next.is_empty(), "{next:?}");
        answer.clone()
    }
}

#[track_caller]
pub fn one(mut sent: Vec<Sent>) -> Sent {
    assert_eq!(sent.len(), 1, "one message: {sent:?}");
    sent.remove(0)
}

pub fn path(port: u16) -> Path {
    Path {
        remote: SocketAddr::from(([127, 0, 0, 1], port)),
        local: None,
    }
}

fn read(out: &Outgoing) -> Vec<Sent> {
    let one = |(path, bytes): (Path, &[u8])| Sent {
        port: path.remote.port(),
        bytes: bytes.to_vec(),
        packet: Packet::from_bytes(bytes).expect("the server sends messages"),
    };
    out.iter().map(one).collect()
}

/// A subscriber that keeps what it receives.
#[derive(Default)]
pub struct Heard(parking_lot::Mutex<Vec<(String, String, bool)>>);

impl Heard {
    pub fn to(bus: &Arc<Bus>, filter: &str) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        let filter = TopicFilter::new(filter).unwrap();
        let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
        let subscription = Arc::new(Subscription::new(filter, options, None));
        bus.add_subscription(Arc::clone(&heard) as _, subscription);
        heard
    }

    pub fn take(&self) -> Vec<(String, String)> {
        let heard = std::mem::take(&mut *self.0.lock());
        heard
            .into_iter()
            .map(|(topic, payload, _)| (topic, payload))
            .collect()
    }
}

impl Subscriber for Heard {
    fn key(&self) -> u64 {
        u64::MAX
    }

    fn deliver(
        &self,
        message: &Message<'_>,
        _subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        let payload = String::from_utf8_lossy(message.payload).into_owned();
        self.0
            .lock()
            .push((message.topic.to_string(), payload, message.retain));
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}
}

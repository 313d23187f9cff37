//! A server of CoAP and four endpoints that send anything: requests, parts of bodies, acknowledgements, rubbish, while
//! time passes, others publish, and sessions begin and end.
//!
//! No panic; every datagram that is sent is a message; an address that never acknowledged anything is sent no more than
//! three times what it sent; a body in blocks is published when it is whole and its blocks came in their order, and
//! never otherwise; when all is quiet for long enough nothing is kept.

#![allow(clippy::expect_used, reason = "a finding is a panic")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_bus::{
    AllowAll, Bus, Delivery, DeliveryContext, MemoryStore, Message as BusMessage, QoS, Settings,
    Subscriber, Subscription, SubscriptionOptions, SystemClock, TopicFilter, TopicName,
};
use tidegate_coap::codec::{Block, Code, Kind, Message, Token, Writer, number};
use tidegate_coap::{Metrics, Outgoing, Path, Server};

const ENDPOINTS: usize = 4;

/// Longest body, small so that the limit is met.
const LONGEST: usize = 200;

/// How long the next part of a body may take: EXCHANGE_LIFETIME (RFC 7252 section 4.8.2).
const LIFETIME: Duration = Duration::from_secs(247);

#[derive(Default)]
struct Heard(Mutex<Vec<Vec<u8>>>);

impl Subscriber for Heard {
    fn key(&self) -> u64 {
        u64::MAX
    }

    fn deliver(
        &self,
        message: &BusMessage<'_>,
        _subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(message.payload.to_vec());
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}
}

#[derive(Clone, Default)]
struct Endpoint {
    received: usize,
    sent: usize,
    /// It has sent something that may have acknowledged something.
    may_be_verified: bool,
    last: Option<u16>,
    /// The body under way, as it should be, and until when the next part may come.
    body: Option<(Vec<u8>, Instant)>,
}

struct World {
    bus: Arc<Bus>,
    server: Server,
    heard: Arc<Heard>,
    metrics: Arc<Metrics>,
    now: Instant,
    next_id: u16,
    endpoints: [Endpoint; ENDPOINTS],
    out: Outgoing,
}

/// Runs one input: a byte says what is done, and the bytes behind it with what.
///
/// # Panics
///
/// At a finding.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let Some((&what, tail)) = rest.split_first() {
        let (&len, tail) = tail.split_first().unwrap_or((&0, &[]));
        let len = usize::from(len & 0x3F).min(tail.len());
        let (bytes, tail) = tail.split_at(len);
        rest = tail;
        let from = usize::from(what) % ENDPOINTS;
        match what / 4 % 6 {
            0 => world.receive(from, bytes),
            1 => world.request(from, bytes),
            2 => world.block(from, bytes),
            3 => world.answer(from, len % 2 == 0),
            4 => world.publish(bytes),
            _ if bytes.len() == 63 => world.restart(from),
            _ => world.advance(Duration::from_millis(1 << (len % 18))),
        }
    }
    world.end();
}

impl World {
    fn new() -> Self {
        let settings = Settings::default();
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(SystemClock::new());
        let bus = Bus::new(settings, store, Arc::new(AllowAll), clock);
        let mut settings = tidegate_coap::Settings::default();
        settings.max_body_bytes = LONGEST;
        settings.max_exchanges = 200;
        settings.max_observations_per_endpoint = 4;
        settings.max_waiting = 8;
        settings.max_transfers_per_endpoint = 1;
        let metrics = Arc::new(Metrics::default());
        let now = Instant::now();
        let server = Server::new(Arc::clone(&bus), settings, Arc::clone(&metrics), now);
        let heard = Arc::new(Heard::default());
        let filter = TopicFilter::new("block/+").expect("a filter");
        let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
        let subscription = Arc::new(Subscription::new(filter, options, None));
        bus.add_subscription(Arc::clone(&heard) as _, subscription);
        Self {
            bus,
            server,
            heard,
            metrics,
            now,
            next_id: 0,
            endpoints: Default::default(),
            out: Outgoing::default(),
        }
    }

    fn receive(&mut self, from: usize, datagram: &[u8]) {
        let endpoint = &mut self.endpoints[from];
        endpoint.received += datagram.len();
        if let Ok(message) = Message::parse(datagram) {
            let answers = matches!(message.kind, Kind::Acknowledgement | Kind::Reset);
            endpoint.may_be_verified |= answers;
        }
        let path = Path {
            remote: SocketAddr::from(([127, 0, 0, 1], 1_000 + from as u16)),
            local: None,
        };
        let Self {
            bus,
            server,
            now,
            out,
            ..
        } = self;
        bus.batch(|worker| server.receive(worker, path, datagram, *now, out));
        self.wake();
    }

    fn wake(&mut self) {
        for _ in 0..2 {
            let Self {
                bus,
                server,
                now,
                out,
                ..
            } = self;
            bus.batch(|worker| server.wake(worker, *now, out));
        }
        let sent: Vec<_> = self
            .out
            .iter()
            .map(|(path, bytes)| (path.remote, bytes.to_vec()))
            .collect();
        self.out.clear();
        for (to, bytes) in sent {
            let message = Message::parse(&bytes).expect("what is sent is a message");
            let endpoint = &mut self.endpoints[usize::from(to.port() - 1_000)];
            endpoint.sent += bytes.len();
            if message.kind != Kind::Acknowledgement {
                endpoint.last = Some(message.id);
            }
            assert!(
                endpoint.may_be_verified || endpoint.sent <= 3 * endpoint.received,
                "{} bytes for {}",
                endpoint.sent,
                endpoint.received
            );
        }
    }

    /// A request that is well formed as a message, whatever its options are.
    fn request(&mut self, from: usize, bytes: &[u8]) {
        let mut bytes = bytes.iter().copied();
        let mut next = || bytes.next().unwrap_or(0);
        let kind = if next() % 2 == 0 {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        let code = Code(1 + next() % 5);
        let observe = next();
        let mut datagram = Vec::new();
        self.next_id += 1;
        let token = Token::new(&[next() % 4]).expect("one byte");
        let mut writer = Writer::new(&mut datagram, kind, code, self.next_id, token);
        if observe < 128 {
            writer.uint(number::OBSERVE, u32::from(observe % 3));
        }
        writer.option(number::URI_PATH, b"ps");
        for _ in 0..next() % 3 {
            let segments: [&[u8]; 4] = [b"a", b"b", b"+", b"#"];
            writer.option(number::URI_PATH, segments[usize::from(next() % 4)]);
        }
        let queries: [&[u8]; 8] = [
            b"qos=1",
            b"retain",
            b"expiry=2",
            b"c=me",
            b"qos=2",
            b"x",
            b"c=you",
            b"session_expiry=0",
        ];
        for _ in 0..next() % 4 {
            writer.option(number::URI_QUERY, queries[usize::from(next() % 8)]);
        }
        if next() % 2 == 0 {
            writer.uint(number::BLOCK2, u32::from(next()));
        }
        let payload: Vec<u8> = bytes.collect();
        writer.payload(&payload);
        self.receive(from, &datagram);
    }

    /// A part of a body, and whether it ends up where it should.
    fn block(&mut self, from: usize, bytes: &[u8]) {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let block = Block {
            num: u32::from(byte(0) % 16),
            more: byte(1) % 2 == 0,
            szx: byte(2) % 2,
        };
        let len = if byte(1) & 0x7E == 0x7E {
            usize::from(byte(3) % 40)
        } else {
            block.size()
        };
        let payload = vec![byte(4); len];
        self.next_id += 1;
        let mut datagram = Vec::new();
        let token = Token::default();
        let mut writer = Writer::new(
            &mut datagram,
            Kind::Confirmable,
            Code::PUT,
            self.next_id,
            token,
        );
        for segment in ["ps", "block", &from.to_string()] {
            writer.option(number::URI_PATH, segment.as_bytes());
        }
        writer.uint(number::BLOCK1, block.bits());
        writer.payload(&payload);
        let before = self.metrics.full.get();
        self.receive(from, &datagram);
        let heard =
            std::mem::take(&mut *self.heard.0.lock().unwrap_or_else(PoisonError::into_inner));
        if self.metrics.full.get() > before {
            // It was refused before anybody looked at it.
            return assert!(heard.is_empty());
        }
        let size = if block.more {
            len == block.size()
        } else {
            len <= block.size()
        };
        let fits = block.start() + len <= LONGEST;
        let body = &mut self.endpoints[from].body;
        let until = self.now + LIFETIME;
        let kept = body.take().filter(|(_, until)| *until > self.now);
        let begun = if block.num == 0 {
            Some(Vec::new())
        } else {
            kept.map(|(body, _)| body)
        };
        let next = begun.filter(|body| size && fits && body.len() == block.start());
        let whole = next.map(|mut body| {
            body.extend(&payload);
            body
        });
        if block.more {
            *body = whole.map(|body| (body, until));
            assert!(heard.is_empty(), "not before it is whole");
        } else {
            assert_eq!(heard, whole.into_iter().collect::<Vec<_>>());
        }
    }

    fn answer(&mut self, from: usize, acknowledge: bool) {
        if let Some(id) = self.endpoints[from].last {
            let kind = if acknowledge {
                Kind::Acknowledgement
            } else {
                Kind::Reset
            };
            let mut datagram = Vec::new();
            Writer::empty(&mut datagram, kind, id);
            self.receive(from, &datagram);
        }
    }

    fn publish(&mut self, bytes: &[u8]) {
        let topic = TopicName::new(if bytes.len().is_multiple_of(2) {
            "a"
        } else {
            "a/b"
        })
        .expect("a topic");
        let payload = bytes.repeat(40);
        let mut message = BusMessage::new(topic, &payload);
        message.retain = bytes.first().is_some_and(|byte| *byte < 128);
        message.qos = bytes
            .get(1)
            .and_then(|byte| QoS::from_u8(byte % 4))
            .unwrap_or_default();
        let published = self.bus.batch(|worker| self.bus.publish(worker, message));
        assert!(published.is_ok());
        self.wake();
    }

    /// The endpoint has a session from now on, or another one: what was said in the one before means nothing.
    fn restart(&mut self, from: usize) {
        let remote = SocketAddr::from(([127, 0, 0, 1], 1_000 + from as u16));
        self.server.session_ends(remote, self.now, &mut self.out);
        assert!(self.out.iter().all(|(path, _)| path.remote != remote));
        self.server.session_begins(remote, None);
        self.endpoints[from] = Endpoint {
            // With the session the address is proved.
            may_be_verified: true,
            ..Endpoint::default()
        };
        self.wake();
    }

    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while self.server.next_timeout() <= end {
            self.now = self.now.max(self.server.next_timeout());
            self.server.timeout(self.now, &mut self.out);
            self.wake();
        }
        self.now = end;
    }

    /// Nobody answers any more: everything that is kept for somebody goes.
    fn end(mut self) {
        self.advance(Duration::from_secs(3 * 3_600));
        let metrics = &self.metrics;
        for count in [
            &metrics.observations,
            &metrics.endpoints,
            &metrics.transfers,
        ] {
            assert_eq!(count.get(), 0, "{metrics:?}");
        }
        // That of the test, and those of sessions that nobody observes any more.
        let sessions = self.bus.sessions();
        assert!(sessions.iter().all(|session| !session.is_connected()));
        let kept: usize = sessions.iter().map(|s| s.subscriptions().len()).sum();
        assert_eq!(self.bus.counters().subscriptions.get(), 1 + kept as u64);
    }
}

//! A bus with a clock that stands still, and clients that write what they receive as plain values.

#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]

pub mod disk;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tidegate_bus::*;

pub const START: u64 = 1_700_000_000_000;

#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn advance_seconds(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// What a client received, as the encoder wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Publish {
        topic: String,
        payload: String,
        qos: u8,
        retain: bool,
        dup: bool,
        id: u16,
        identifiers: Vec<u32>,
        expires_in: Option<u32>,
    },
    Release(u16),
}

impl Got {
    pub fn payload(&self) -> &str {
        match self {
            Self::Publish { payload, .. } => payload,
            Self::Release(_) => "",
        }
    }

    pub fn id(&self) -> NonZeroU16 {
        let (Self::Publish { id, .. } | Self::Release(id)) = self;
        NonZeroU16::new(*id).expect("an acknowledged message has an identifier")
    }
}

/// Writes lines of fields; refuses messages above a size.
pub struct LineEncoder {
    pub max_payload: usize,
}

const FIELD: char = '\u{1f}';
const RECORD: char = '\u{1e}';

impl Encoder for LineEncoder {
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        o: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        if message.payload.len() > self.max_payload {
            return Err(TooLarge);
        }
        let identifiers: Vec<_> = o
            .subscription_identifiers
            .iter()
            .map(ToString::to_string)
            .collect();
        let fields = [
            "P".to_owned(),
            message.topic.to_string(),
            String::from_utf8_lossy(message.payload).into_owned(),
            (o.qos as u8).to_string(),
            u8::from(o.retain).to_string(),
            u8::from(o.dup).to_string(),
            o.packet_id.map_or(0, u16::from).to_string(),
            identifiers.join(","),
            o.expires_in.map(|s| s.to_string()).unwrap_or_default(),
        ];
        out.extend(fields.join(&FIELD.to_string()).bytes());
        out.push(RECORD as u8);
        Ok(())
    }

    fn release(&mut self, out: &mut Vec<u8>, packet_id: NonZeroU16) {
        out.extend(format!("R{FIELD}{packet_id}{RECORD}").bytes());
    }

    fn count_unacknowledged(&self, unsent: &[u8]) -> u64 {
        parse(unsent)
            .iter()
            .filter(|got| matches!(got, Got::Publish { qos: 0, .. }))
            .count() as u64
    }
}

pub fn parse(bytes: &[u8]) -> Vec<Got> {
    let text = std::str::from_utf8(bytes).expect("the encoder writes text");
    let record = |record: &str| {
        let f: Vec<&str> = record.split(FIELD).collect();
        if f[0] == "R" {
            return Got::Release(f[1].parse().unwrap());
        }
        Got::Publish {
            topic: f[1].to_owned(),
            payload: f[2].to_owned(),
            qos: f[3].parse().unwrap(),
            retain: f[4] == "1",
            dup: f[5] == "1",
            id: f[6].parse().unwrap(),
            identifiers: f[7].split(',').filter_map(|id| id.parse().ok()).collect(),
            expires_in: f[8].parse().ok(),
        }
    };
    text.split_terminator(RECORD).map(record).collect()
}

pub struct TestBus {
    pub bus: Arc<Bus>,
    pub clock: Arc<ManualClock>,
}

impl TestBus {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_store(change, Arc::new(MemoryStore::new()))
    }

    pub fn with_store(change: impl FnOnce(&mut Settings), store: Arc<dyn Store>) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let clock = Arc::new(ManualClock(AtomicU64::new(START)));
        let bus = Bus::new(settings, store, Arc::new(AllowAll), Arc::clone(&clock) as _);
        Self { bus, clock }
    }

    /// A client whose session ends with its connection.
    pub fn connect(&self, id: &str) -> Client {
        self.connect_with(id, |_| {})
    }

    /// A client whose session lasts an hour.
    pub fn connect_durable(&self, id: &str) -> Client {
        self.connect_with(id, |request| {
            request.clean_start = false;
            request.expiry = 3_600;
        })
    }

    pub fn connect_with(&self, id: &str, change: impl FnOnce(&mut ConnectRequest)) -> Client {
        let mut request = ConnectRequest {
            clean_start: true,
            expiry: 0,
            will: None,
            receive_maximum: NonZeroU16::MAX,
            keep_alive: 0,
            encoder: Box::new(LineEncoder {
                max_payload: usize::MAX,
            }),
        };
        change(&mut request);
        let id = ClientId::new(id).unwrap();
        let claim = now_or_never(self.bus.claim(&id)).unwrap();
        let attached = self
            .bus
            .batch(|worker| self.bus.attach(worker, &id, claim, request));
        let (attachment, present) = attached.unwrap();
        let mut client = Client::bare(Arc::clone(&self.bus), attachment, present);
        // The first output of a connection takes what waited and makes the client idle.
        client.unread = client.read();
        client
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance_seconds(seconds);
        self.bus.tick();
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.bus.counters().drops.get(reason)
    }

    pub fn publish(&self, topic: &str, payload: &str) {
        self.publish_as(topic, payload, QoS::AtMostOnce, |_| {});
    }

    pub fn publish_as(
        &self,
        topic: &str,
        payload: &str,
        qos: QoS,
        change: impl FnOnce(&mut Message<'_>),
    ) {
        let mut message = Message::new(TopicName::new(topic).unwrap(), payload.as_bytes());
        message.qos = qos;
        change(&mut message);
        let ticket = self.bus.batch(|worker| self.bus.publish(worker, message));
        let _ = ticket.unwrap();
    }
}

#[derive(Debug, Default)]
pub struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub struct Client {
    pub bus: Arc<Bus>,
    pub attachment: Attachment,
    /// Whether there was a session.
    pub present: bool,
    wakes: Arc<Wakes>,
    unread: Vec<Got>,
}

impl Client {
    pub fn bare(bus: Arc<Bus>, attachment: Attachment, present: bool) -> Self {
        let wakes = Arc::new(Wakes::default());
        attachment.set_waker(Waker::from(Arc::clone(&wakes)));
        Self {
            bus,
            attachment,
            present,
            wakes,
            unread: Vec::new(),
        }
    }

    /// What waited when it connected, and what the bus has for it now.
    pub fn take_all(&mut self) -> Vec<Got> {
        let mut all = std::mem::take(&mut self.unread);
        all.extend(self.read());
        all
    }

    /// What waited for the client when it connected.
    pub fn take_unread(&mut self) -> Vec<Got> {
        std::mem::take(&mut self.unread)
    }

    pub fn subscribe(&self, filter: &str, qos: QoS) {
        self.subscribe_as(
            filter,
            SubscriptionOptions {
                qos,
                ..Default::default()
            },
            None,
        );
    }

    pub fn subscribe_as(
        &self,
        filter: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) {
        let filter = TopicFilter::new(filter).unwrap();
        let identifier = identifier.and_then(std::num::NonZeroU32::new);
        let now = self.bus.now();
        let subscribed = self.attachment.subscribe(now, filter, options, identifier);
        assert_eq!(subscribed.unwrap().0, options.qos);
    }

    pub fn unsubscribe(&self, filter: &str) -> bool {
        self.attachment
            .unsubscribe(&TopicFilter::new(filter).unwrap())
            .unwrap()
            .0
    }

    pub fn publish(&self, topic: &str, payload: &str, qos: QoS) -> Published {
        self.bus.batch(|worker| {
            let mut message = Message::new(TopicName::new(topic).unwrap(), payload.as_bytes());
            message.qos = qos;
            self.attachment.publish(worker, message, None).unwrap()
        })
    }

    /// Takes everything the bus has for the client now. Where others publish meanwhile, and faster
    /// than this reads, that has no end: some hundred kilobytes are enough.
    pub fn read(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        for _ in 0..10 {
            let mut out = Vec::new();
            let Ok(more) = self.attachment.take_output(&mut out, self.bus.now()) else {
                break;
            };
            all.extend(parse(&out));
            if !more {
                break;
            }
        }
        all
    }

    pub fn payloads(&mut self) -> Vec<String> {
        self.read()
            .iter()
            .map(|got| got.payload().to_owned())
            .collect()
    }

    /// Whether the bus asks the connection to end, and why.
    pub fn ended(&self) -> Option<EndReason> {
        let mut out = Vec::new();
        self.attachment
            .take_output(&mut out, self.bus.now())
            .err()
            .map(|ended| ended.0)
    }

    pub fn acknowledge(&self, id: NonZeroU16) {
        assert_eq!(
            self.attachment.acknowledge(self.bus.now(), id, false),
            Ok(true)
        );
    }

    /// Publishes at QoS 2: whether the identifier is new.
    pub fn is_new(&self, id: NonZeroU16) -> bool {
        matches!(self.attachment.begin_receiving(id, false), Ok(Receive::New))
    }

    /// How often the client was woken since the last time.
    pub fn wakes(&self) -> usize {
        self.wakes.0.swap(0, Ordering::SeqCst)
    }

    pub fn disconnect(self, departure: Departure) {
        let bus = Arc::clone(&self.bus);
        bus.batch(|worker| self.attachment.detach(worker, departure, None));
    }
}

/// The result of a future that needs nothing to happen.
pub fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future has to wait"),
    }
}

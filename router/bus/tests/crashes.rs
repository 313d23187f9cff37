//! Crashes at every point: two receivers and a publisher go on with their sessions while the process ends
//! again and again with any part of what the engine was told. Nothing acknowledged is lost, QoS 2 arrives
//! once, the order of first arrivals holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use support::disk::DiskStore;
use support::{Client, Got, TestBus};
use tidegate_bus::*;

/// Random enough, and the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// A client's own memory, which outlives the gateway.
struct Receiver {
    name: &'static str,
    connection: Option<Client>,
    window: u16,
    /// QoS 2 messages it has and that were not released.
    unreleased: BTreeSet<NonZeroU16>,
    /// What it got and has not answered.
    unanswered: Vec<Got>,
    /// PUBREC that waits for its ticket.
    receiving: Vec<(NonZeroU16, Ticket)>,
    /// How often each message was handed to the application.
    arrived: BTreeMap<u32, u32>,
    /// In their order, with the topic.
    first_arrivals: Vec<(String, u32)>,
}

impl Receiver {
    fn new(name: &'static str, window: u16) -> Self {
        Self {
            name,
            connection: None,
            window,
            unreleased: BTreeSet::new(),
            unanswered: Vec::new(),
            receiving: Vec::new(),
            arrived: BTreeMap::new(),
            first_arrivals: Vec::new(),
        }
    }

    fn connect(&mut self, bus: &TestBus) {
        self.unanswered.clear();
        self.receiving.clear();
        let mut client = bus.connect_with(self.name, |request| {
            request.clean_start = false;
            request.expiry = 3_600;
            request.receive_maximum = NonZeroU16::new(self.window).unwrap();
        });
        let waited = client.take_unread();
        self.connection = Some(client);
        self.take(waited);
    }

    fn read(&mut self) {
        if let Some(client) = &mut self.connection {
            let got = client.read();
            self.take(got);
        }
    }

    fn take(&mut self, all: Vec<Got>) {
        for got in all {
            if let Got::Publish {
                topic,
                payload,
                qos,
                ..
            } = &got
            {
                let number: u32 = payload.parse().unwrap();
                let is_new = *qos < 2 || self.unreleased.insert(got.id());
                if is_new {
                    let times = self.arrived.entry(number).or_default();
                    *times += 1;
                    if *times == 1 {
                        self.first_arrivals.push((topic.clone(), number));
                    }
                }
            }
            self.unanswered.push(got);
        }
    }

    /// Answers what came first.
    fn answer(&mut self) {
        let Some(client) = &self.connection else {
            return;
        };
        let now = client.bus.now();
        // PUBREL leaves after its ticket; the client answers PUBCOMP.
        if let Some((id, ticket)) = self.receiving.first()
            && ticket.result() == Some(Ok(()))
        {
            self.unreleased.remove(id);
            assert!(client.attachment.complete(now, *id).unwrap());
            self.receiving.remove(0);
            return;
        }
        if self.unanswered.is_empty() {
            return;
        }
        let got = self.unanswered.remove(0);
        let id = got.id();
        match got {
            Got::Publish { qos: 1, .. } => client.acknowledge(id),
            Got::Publish { .. } => {
                let (received, ticket) = client.attachment.received(now, id, false).unwrap();
                assert_eq!(received, Received::Release);
                self.receiving.push((id, ticket));
            }
            Got::Release(_) => {
                self.unreleased.remove(&id);
                assert!(client.attachment.complete(now, id).unwrap());
            }
        }
    }
}

/// One publish, as its publisher sees it.
struct Sent {
    number: u32,
    qos: QoS,
    id: NonZeroU16,
    ticket: Option<Ticket>,
    /// PUBREL waits for its own ticket.
    released: Option<Ticket>,
}

struct Publisher {
    connection: Option<Client>,
    next: u32,
    open: Vec<Sent>,
    acknowledged: BTreeSet<u32>,
}

impl Publisher {
    fn connect(&mut self, bus: &TestBus) {
        let client = bus.connect_durable("publisher");
        self.connection = Some(client);
        // What was not acknowledged is sent again, in its order.
        for at in 0..self.open.len() {
            if self.open[at].released.is_some() {
                let client = self.connection.as_ref().unwrap();
                let (_, ticket) = client.attachment.release(self.open[at].id).unwrap();
                self.open[at].released = Some(ticket);
            } else {
                self.send(at);
            }
        }
    }

    fn publish(&mut self, qos: QoS) {
        if self.connection.is_none() || self.open.len() > 6 {
            return;
        }
        self.next += 1;
        let taken: BTreeSet<u16> = self.open.iter().map(|sent| sent.id.get()).collect();
        let id = (1..).find(|id| !taken.contains(id)).unwrap();
        self.open.push(Sent {
            number: self.next,
            qos,
            id: NonZeroU16::new(id).unwrap(),
            ticket: None,
            released: None,
        });
        self.send(self.open.len() - 1);
    }

    fn send(&mut self, at: usize) {
        let client = self.connection.as_ref().unwrap();
        let sent = &mut self.open[at];
        if sent.qos == QoS::ExactlyOnce
            && let Receive::Repeated(ticket) =
                client.attachment.begin_receiving(sent.id, true).unwrap()
        {
            sent.ticket = Some(ticket);
            return;
        }
        let payload = sent.number.to_string();
        let topic = if sent.qos == QoS::ExactlyOnce {
            "two"
        } else {
            "one"
        };
        let published = client.bus.batch(|worker| {
            let mut message = Message::new(TopicName::new(topic).unwrap(), payload.as_bytes());
            message.qos = sent.qos;
            let id = (sent.qos == QoS::ExactlyOnce).then_some(sent.id);
            client.attachment.publish(worker, message, id).unwrap()
        });
        if sent.qos == QoS::ExactlyOnce {
            let ticket = &published.ticket;
            client.attachment.receiving_until(sent.id, ticket).unwrap();
        }
        sent.ticket = Some(published.ticket);
    }

    /// Takes the acknowledgements that have come, in their order.
    fn take_acknowledgements(&mut self) {
        let Some(client) = &self.connection else {
            return;
        };
        let mut closed = Vec::new();
        for sent in &mut self.open {
            if let Some(released) = &sent.released {
                if released.result() == Some(Ok(())) {
                    closed.push(sent.number);
                }
                continue;
            }
            match sent.ticket.as_ref().and_then(Ticket::result) {
                Some(Ok(())) => {
                    self.acknowledged.insert(sent.number);
                    if sent.qos == QoS::ExactlyOnce {
                        let (_, ticket) = client.attachment.release(sent.id).unwrap();
                        sent.released = Some(ticket);
                    } else {
                        closed.push(sent.number);
                    }
                }
                Some(Err(error)) => panic!("{error}"),
                None => break,
            }
        }
        self.open.retain(|sent| !closed.contains(&sent.number));
    }
}

fn bus(store: &Arc<DiskStore>, queue_memory: usize) -> TestBus {
    let change = |settings: &mut Settings| settings.queue_memory_bytes = queue_memory;
    let bus = TestBus::with_store(change, Arc::clone(store) as _);
    bus.bus.recover().unwrap();
    bus
}

fn walk(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Some walks have most of every queue on disk only.
    let queue_memory = [0, 8, 1 << 20][random.below(3) as usize];
    let mut store = Arc::new(DiskStore::default());
    store.hold();
    let mut world = bus(&store, queue_memory);
    let mut receivers = [Receiver::new("one", 2), Receiver::new("two", 3)];
    let mut publisher = Publisher {
        connection: None,
        next: 0,
        open: Vec::new(),
        acknowledged: BTreeSet::new(),
    };
    for receiver in &mut receivers {
        receiver.connect(&world);
        let client = receiver.connection.as_ref().unwrap();
        client.subscribe("one", QoS::AtLeastOnce);
        client.subscribe("two", QoS::ExactlyOnce);
    }
    // From here on both have their SUBACK.
    store.sync_all();
    publisher.connect(&world);
    for _ in 0..random.below(120) {
        let which = random.below(2) as usize;
        match random.below(20) {
            0..4 => publisher.publish(QoS::AtLeastOnce),
            4..8 => publisher.publish(QoS::ExactlyOnce),
            8..11 => store.sync(random.below(6) as usize + 1),
            11..13 => receivers[which].read(),
            13..16 => receivers[which].answer(),
            16 => publisher.take_acknowledgements(),
            17 => match receivers[which].connection.take() {
                Some(client) => client.disconnect(Departure::Normal),
                None => receivers[which].connect(&world),
            },
            18 => match publisher.connection.take() {
                Some(client) => client.disconnect(Departure::Normal),
                None => publisher.connect(&world),
            },
            _ => {
                let mut disk = store.crash(random.below(8) as usize);
                disk.until = world.bus.now();
                publisher.connection = None;
                for receiver in &mut receivers {
                    receiver.connection = None;
                }
                store = Arc::new(DiskStore::from_disk(disk));
                store.hold();
                world = bus(&store, queue_memory);
            }
        }
    }
    // Everybody comes back and everything goes its way.
    store.sync_all();
    if publisher.connection.is_none() {
        publisher.connect(&world);
    }
    for receiver in &mut receivers {
        if receiver.connection.is_none() {
            receiver.connect(&world);
        }
    }
    for _ in 0..200 {
        store.sync_all();
        publisher.take_acknowledgements();
        for receiver in &mut receivers {
            receiver.read();
            receiver.answer();
        }
    }
    assert!(publisher.open.is_empty(), "seed {seed}: publishes are open");
    for receiver in &receivers {
        let name = receiver.name;
        for number in &publisher.acknowledged {
            assert!(
                receiver.arrived.contains_key(number),
                "seed {seed}: {name} has lost {number} of {:?}",
                publisher.acknowledged
            );
        }
        let disk = store.crash(0);
        assert_eq!(disk.queue(name), [""; 0], "seed {seed}: {name}");
    }
    assert_eq!(world.bus.pending_messages(), 0, "seed {seed}");
    receivers
        .iter()
        .for_each(|receiver| check_order(seed, receiver));
}

/// Messages on one topic arrive for the first time in the order they were published, and those at QoS 2
/// once.
fn check_order(seed: u64, receiver: &Receiver) {
    let name = receiver.name;
    for wanted in ["one", "two"] {
        let on_topic = receiver.first_arrivals.iter();
        let numbers: Vec<u32> = on_topic
            .filter(|(topic, _)| topic == wanted)
            .map(|(_, number)| *number)
            .collect();
        assert!(
            numbers.is_sorted(),
            "seed {seed}: {name} got {numbers:?} on {wanted}"
        );
        for number in numbers {
            let times = receiver.arrived[&number];
            assert!(
                wanted == "one" || times == 1,
                "seed {seed}: {name} got {number} {times} times"
            );
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_qos_2_comes_once_wherever_the_process_ends() {
    let seeds = std::env::var("TIDEGATE_SEEDS").ok();
    let seeds = seeds.and_then(|n| n.parse().ok()).unwrap_or(3_000);
    for seed in 1..=seeds {
        walk(seed);
    }
}

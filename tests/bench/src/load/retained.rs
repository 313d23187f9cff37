//! Retained messages, sent to whoever subscribes: a storm that each SUBSCRIBE starts.
//!
//! Each subscriber subscribes with a wildcard, waits for SUBACK and all messages, unsubscribes, and does
//! so again. Latency is from SUBSCRIBE to each message. A round that was under way in the time that counts
//! must bring each message once.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mio::{Events, Poll, Token};
use tidegate_tests::wire::{Publish, Subscribe, Unsubscribe};

use super::Progress;
use super::clock::{self, Broker, SECOND};
use super::connection::Connection;
use super::latencies::Latencies;
use super::opening::{Opened, Opening, granted, wire_version};
use super::packet::{self, Packet, kind};
use super::publisher::{STAMP, Stamp};
use super::receiver::Receiver;
use crate::order::{Order, Retained};
use crate::reply::Measurement;

/// What matches all retained messages.
const FILTER: &str = "bench/retained/+";
/// Messages that are published before their acknowledgements are waited for.
const BATCH: u32 = 20;
/// The least that a read asks for, beside the largest message.
const READ: usize = 64 * 1024;
/// A round in which nothing comes for so long is over.
const SILENCE: u64 = 5 * SECOND;
/// The same once nothing counts any more.
const LAST_SILENCE: u64 = 2 * SECOND;
/// The longest wait for rounds that are under way in the end.
const LONGEST_DRAIN: u64 = 30 * SECOND;
const STEP: u64 = SECOND;

/// Publishes, subscribes again and again, and says what it has cost.
pub(super) fn retained(
    order: &Order,
    retained: &Retained,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    check(retained)?;
    progress("publishing what is retained");
    let opening = Opening::plain(order, retained.version);
    let mut publisher = opening.open("publisher", 0)?;
    publish(&mut publisher, retained, progress, |number| {
        let mut payload = vec![b'.'; retained.payload as usize];
        Stamp::write(&mut payload, 0, number.into());
        payload
    })?;
    let measured = storm(order, retained, &opening, broker, progress)?;
    progress("clearing what is retained");
    publish(&mut publisher, retained, progress, |_| Vec::new())?;
    Ok(measured)
}

fn check(retained: &Retained) -> Result<()> {
    if retained.messages == 0 || retained.subscribers == 0 {
        bail!("a storm needs messages and subscribers");
    }
    if retained.qos > 2 {
        bail!("there is no QoS {}", retained.qos);
    }
    if (retained.payload as usize) < STAMP {
        bail!("the payload needs {STAMP} bytes to tell a message");
    }
    Ok(())
}

/// Publishes one retained message for each topic, and waits until the broker has them all: with QoS 1
/// at least, because only an acknowledgement says so.
fn publish(
    publisher: &mut Opened,
    retained: &Retained,
    progress: Progress<'_>,
    payload: impl Fn(u32) -> Vec<u8>,
) -> Result<()> {
    let batch = BATCH.min(publisher.welcome().receive_maximum.into()).max(1);
    let mut step = clock::now() + STEP;
    for start in (0..retained.messages).step_by(batch as usize) {
        let end = retained.messages.min(start + batch);
        let messages = (start..end).map(|number| {
            let topic = format!("bench/retained/{number}");
            let publish = Publish::new(&topic, payload(number)).retain();
            // Fits: a batch is small.
            publish
                .qos(retained.qos.max(1))
                .id((number - start) as u16 + 1)
        });
        publisher.publish(&messages.collect::<Vec<_>>())?;
        if clock::now() >= step {
            step += STEP;
            progress(&format!("{end} of {} messages", retained.messages));
        }
    }
    Ok(())
}

fn storm(
    order: &Order,
    retained: &Retained,
    opening: &Opening,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    let mut storm = Storm::open(retained, opening)?;
    let start = clock::now();
    let end = start + clock::nanoseconds(order.warm_up);
    storm.run_until(end, |_| progress("warming up"))?;

    let began = clock::now();
    let (broker_cpu, load_cpu) = (broker.cpu()?, clock::own()?);
    let before = storm.tally.deliveries;
    storm.tally.counts_from = storm.oldest_round().unwrap_or(began);
    storm.latencies.count_from(began);
    let end = began + clock::nanoseconds(order.seconds);
    storm.run_until(end, |deliveries| {
        let deliveries = deliveries - before;
        progress(&format!("measuring, {deliveries} deliveries"));
    })?;
    let ended = clock::now();
    let (broker_cpu, load_cpu) = (broker.cpu()? - broker_cpu, clock::own()? - load_cpu);
    let resident = broker.resident()?;
    let deliveries = storm.tally.deliveries - before;

    progress("draining");
    storm.is_last_round = true;
    while storm.is_under_way() && clock::now() - ended < LONGEST_DRAIN {
        storm.run_until(clock::now() + SECOND / 100, |_| {})?;
    }
    if storm.is_under_way() {
        bail!("rounds do not end");
    }
    let lost = storm.tally.lost;
    if deliveries == 0 && lost > 0 {
        bail!("nothing came in the time that counts, and {lost} messages are missing");
    }
    Ok(Measurement {
        seconds: clock::seconds(ended - began),
        deliveries,
        broker_cpu: clock::seconds(broker_cpu),
        load_cpu: clock::seconds(load_cpu),
        resident,
        lost: storm.tally.lost,
        duplicated: storm.tally.duplicated,
        latency: storm.latencies.quantiles(),
        ..Measurement::default()
    })
}

/// What all subscribers have seen.
#[derive(Default)]
struct Tally {
    /// Rounds that begin at this time or later count.
    counts_from: u64,
    deliveries: u64,
    lost: u64,
    duplicated: u64,
}

struct Storm {
    poll: Poll,
    subscribers: Vec<Subscriber>,
    tally: Tally,
    latencies: Latencies,
    buffer: Box<[u8]>,
    answers: Vec<u8>,
    order: Retained,
    subscribe: Box<[u8]>,
    unsubscribe: Box<[u8]>,
    /// Whether no further rounds begin.
    is_last_round: bool,
    step: u64,
}

/// A subscriber and its round.
struct Subscriber {
    connection: Connection,
    receiver: Receiver,
    phase: Phase,
    /// When the round began.
    began: u64,
    /// When something came last.
    last: u64,
    is_granted: bool,
    /// The messages of this round, as bits, and their number.
    seen: Box<[u64]>,
    count: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for SUBACK and messages.
    Subscribed,
    /// Waits for UNSUBACK.
    Unsubscribing,
    /// Between rounds.
    Idle,
}

impl Storm {
    fn open(retained: &Retained, opening: &Opening) -> Result<Self> {
        let version = wire_version(retained.version);
        let poll = Poll::new().context("epoll")?;
        let mut subscribers = Vec::new();
        for number in 0..retained.subscribers {
            let link = opening.open("subscriber", number)?.into_link()?;
            let mut connection = Connection::new(link);
            connection.register(poll.registry(), Token(number as usize))?;
            subscribers.push(Subscriber {
                connection,
                receiver: Receiver::default(),
                phase: Phase::Idle,
                began: 0,
                last: clock::now(),
                is_granted: false,
                seen: vec![0; retained.messages.div_ceil(64) as usize].into_boxed_slice(),
                count: 0,
            });
        }
        let subscribe = Subscribe {
            id: 1,
            properties: Vec::new(),
            filters: vec![(FILTER.to_owned(), retained.qos)],
        };
        let unsubscribe = Unsubscribe {
            id: 2,
            filters: vec![FILTER.to_owned()],
        };
        Ok(Self {
            poll,
            subscribers,
            tally: Tally {
                counts_from: u64::MAX,
                ..Tally::default()
            },
            latencies: Latencies::new()?,
            buffer: vec![0; READ + 2 * retained.payload as usize].into_boxed_slice(),
            answers: Vec::with_capacity(READ),
            order: retained.clone(),
            subscribe: subscribe.encode(version).into_boxed_slice(),
            unsubscribe: unsubscribe.encode(version).into_boxed_slice(),
            is_last_round: false,
            step: clock::now() + STEP,
        })
    }

    fn is_under_way(&self) -> bool {
        self.oldest_round().is_some()
    }

    /// When the oldest round began that is under way.
    fn oldest_round(&self) -> Option<u64> {
        let subscribers = self.subscribers.iter();
        let under_way = subscribers.filter(|subscriber| subscriber.phase != Phase::Idle);
        under_way.map(|subscriber| subscriber.began).min()
    }

    /// Runs until this time, and tells the deliveries of all time at every step.
    fn run_until(&mut self, end: u64, mut each_step: impl FnMut(u64)) -> Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            for number in 0..self.subscribers.len() {
                let advanced = self.advance(number);
                advanced.with_context(|| format!("connection {number} (subscriber)"))?;
            }
            let now = clock::now();
            if now >= self.step {
                self.step += STEP;
                each_step(self.tally.deliveries);
            }
            if now >= end {
                return Ok(());
            }
            let longest = Duration::from_nanos((SECOND / 10).min(end - now));
            match self.poll.poll(&mut events, Some(longest)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                other => other.context("epoll")?,
            }
            for event in &events {
                let Token(number) = event.token();
                let is_closed = event.is_read_closed() || event.is_error();
                let read = self.read(number, is_closed);
                read.with_context(|| format!("connection {number} (subscriber)"))?;
            }
        }
    }

    /// Ends a round that is complete, or that nothing comes for any more, and begins the next.
    fn advance(&mut self, number: usize) -> Result<()> {
        let subscriber = &mut self.subscribers[number];
        let now = clock::now();
        let silence = if self.is_last_round {
            LAST_SILENCE
        } else {
            SILENCE
        };
        let is_silent = now.saturating_sub(subscriber.last) >= silence;
        let missing = self.order.messages - subscriber.count;
        match subscriber.phase {
            Phase::Idle if self.is_last_round => {}
            Phase::Idle => {
                subscriber.connection.send(&self.subscribe)?;
                subscriber.phase = Phase::Subscribed;
                (subscriber.began, subscriber.last) = (now, now);
                subscriber.is_granted = false;
                subscriber.seen.fill(0);
                subscriber.count = 0;
            }
            Phase::Subscribed if subscriber.is_granted && (missing == 0 || is_silent) => {
                subscriber.connection.send(&self.unsubscribe)?;
                subscriber.phase = Phase::Unsubscribing;
                subscriber.last = now;
            }
            Phase::Subscribed | Phase::Unsubscribing if is_silent => {
                bail!("the broker does not answer SUBSCRIBE or UNSUBSCRIBE")
            }
            Phase::Subscribed | Phase::Unsubscribing => {}
        }
        Ok(())
    }

    /// Takes all that is there.
    fn read(&mut self, number: usize, is_closed: bool) -> Result<()> {
        let subscriber = &mut self.subscribers[number];
        subscriber.connection.flush()?;
        let mut more = true;
        while more {
            let Some(filled) = subscriber.connection.fill(&mut self.buffer)? else {
                return Ok(());
            };
            more = filled.more || is_closed;
            let now = clock::now();
            subscriber.last = now;
            let mut rest = &self.buffer[..filled.length];
            while let Some(packet) = packet::packet(rest)? {
                rest = &rest[packet.length..];
                if subscriber.take(&packet, &self.order, &mut self.tally, &mut self.answers)? {
                    self.latencies.note(subscriber.began, now);
                }
            }
            subscriber.connection.keep(rest);
            self.latencies.end_run(now);
            if !self.answers.is_empty() {
                subscriber.connection.send(&self.answers)?;
                self.answers.clear();
            }
        }
        Ok(())
    }
}

impl Subscriber {
    /// Takes a packet; whether it is a message of this round.
    fn take(
        &mut self,
        packet: &Packet<'_>,
        order: &Retained,
        tally: &mut Tally,
        answers: &mut Vec<u8>,
    ) -> Result<bool> {
        match packet.kind() {
            kind::PUBLISH => {
                let delivery = packet.delivery(order.version)?;
                delivery.check(order.qos, 0)?;
                let is_seen = self
                    .receiver
                    .publish(delivery.qos, delivery.packet_id, answers);
                if is_seen {
                    self.message(delivery.payload, order, tally)?;
                }
                return Ok(is_seen);
            }
            kind::PUBREL => {
                let (packet_id, _) = packet.acknowledgement()?;
                self.receiver.pubrel(packet_id, answers);
            }
            kind::SUBACK => {
                granted(packet, order.version, order.qos, 1)?;
                self.is_granted = true;
            }
            kind::UNSUBACK => {
                if self.began >= tally.counts_from {
                    tally.lost += u64::from(order.messages - self.count);
                }
                self.phase = Phase::Idle;
            }
            _ => bail!("the broker sent {}", packet.name()),
        }
        Ok(false)
    }

    /// A message that an application would see.
    fn message(&mut self, payload: &[u8], order: &Retained, tally: &mut Tally) -> Result<()> {
        let number = Stamp::read(payload).map_or(u64::MAX, |stamp| stamp.sequence);
        if payload.len() != order.payload as usize || number >= u64::from(order.messages) {
            bail!("the broker delivered a message that nobody has sent");
        }
        tally.deliveries += 1;
        // Below the number of messages.
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.count += 1;
        } else if self.began >= tally.counts_from {
            tally.duplicated += 1;
        }
        Ok(())
    }
}

//! The event loop: one thread, and no allocation for a message.
//!
//! A socket is read until it is empty, the acknowledgements of a read leave with one write, and a
//! publisher that has room sends all that fits with one write. The clock is read once for each of these.
//! The batches that result are the broker's doing as much as the load's; the rule is the same for all
//! brokers.

use std::io::ErrorKind;
use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::clock::{self, SECOND};
use super::connection::Connection;
use super::latencies::Latencies;
use super::ledger::Ledger;
use super::link::Link;
use super::packet::{self, Packet, kind};
use super::publisher::{Publisher, Stamp};
use super::receiver::{Receiver, answer};
use super::schedule::Schedule;
use super::timer::Timer;
use super::window::Window;
use crate::order::{Pace, Traffic, Version};

/// The least that a read asks for.
const READ: usize = 64 * 1024;
/// Bytes of a message beside its payload: topic, properties, and what a broker may add to them.
const ADDED: usize = 4096;
/// What is on its way for so many steps is waited for no longer.
const STEPS: usize = 5;
/// The time between them.
const STEP: u64 = SECOND;
/// The longest sleep.
const SLEEP: u64 = SECOND / 10;
/// The token of the timer; connections have theirs from 0 on.
const TIMER: Token = Token(usize::MAX - 1);

/// Whose connection it is.
#[derive(Clone, Copy)]
enum Role {
    Publisher(usize),
    Subscriber(usize),
    /// It has filters that match nothing.
    Idle,
}

pub(super) struct Engine {
    poll: Poll,
    timer: Timer,
    schedule: Option<Schedule>,
    /// Whether there is no end of sending yet.
    is_sending: bool,
    /// The most messages of a publisher.
    share: u64,
    version: Version,
    qos: u8,
    payload: usize,
    /// The least bytes of properties that a publisher sends with a message.
    properties: usize,
    connections: Vec<Connection>,
    /// Whether any of them has something to do when nothing comes.
    has_deadlines: bool,
    roles: Vec<Role>,
    publishers: Vec<Publisher>,
    /// The connection of each publisher.
    connection_of: Vec<usize>,
    receivers: Vec<Receiver>,
    ledger: Ledger,
    latencies: Latencies,
    /// Publishers that may have something to send.
    ready: Vec<usize>,
    is_ready: Vec<bool>,
    /// When something came last.
    last: u64,
    /// The next step, and what each publisher had sent at the last ones.
    step: u64,
    sent: [Vec<u64>; STEPS],
    /// Publishes that the broker has acknowledged to the end.
    acknowledged: u64,
    /// The first reason code of a refusal.
    refused: Option<u8>,
    buffer: Box<[u8]>,
    answers: Vec<u8>,
    scratch: Vec<u8>,
}

impl Engine {
    pub(super) fn new(traffic: &Traffic) -> Result<Self> {
        let poll = Poll::new().context("epoll")?;
        let timer = Timer::new()?;
        let descriptor = timer.descriptor();
        let mut source = SourceFd(&descriptor);
        let registry = poll.registry();
        registry.register(&mut source, TIMER, Interest::READABLE)?;
        let largest = traffic.payload as usize + ADDED;
        Ok(Self {
            poll,
            timer,
            schedule: None,
            is_sending: true,
            share: u64::MAX,
            version: traffic.version,
            qos: traffic.qos,
            payload: traffic.payload as usize,
            properties: usize::MAX,
            connections: Vec::new(),
            has_deadlines: false,
            roles: Vec::new(),
            publishers: Vec::new(),
            connection_of: Vec::new(),
            receivers: Vec::new(),
            ledger: Ledger::new(traffic.shape, traffic.publishers, traffic.subscribers),
            latencies: Latencies::new()?,
            ready: Vec::with_capacity(traffic.publishers as usize),
            is_ready: Vec::new(),
            last: 0,
            step: 0,
            sent: std::array::from_fn(|_| vec![0; traffic.publishers as usize]),
            acknowledged: 0,
            refused: None,
            buffer: vec![0; READ + largest].into_boxed_slice(),
            answers: Vec::with_capacity(READ),
            scratch: Vec::with_capacity(2 * READ + largest),
        })
    }

    pub(super) fn add_subscriber(&mut self, link: Link) -> Result<()> {
        self.add(link, Role::Subscriber(self.receivers.len()))?;
        self.receivers.push(Receiver::default());
        Ok(())
    }

    /// A subscriber to whom the broker has sent this already.
    pub(super) fn add_resumed(&mut self, link: Link, received: &[u8]) -> Result<()> {
        let index = self.connections.len();
        self.add_subscriber(link)?;
        self.take(index, received, clock::now())
            .with_context(|| self.name(index))
    }

    /// A connection that nothing is to come on.
    pub(super) fn add_idle(&mut self, link: Link) -> Result<()> {
        self.add(link, Role::Idle)
    }

    pub(super) fn add_publisher(
        &mut self,
        link: Link,
        publisher: Publisher,
        window: Window,
    ) -> Result<()> {
        self.connection_of.push(self.connections.len());
        self.add(link, Role::Publisher(self.publishers.len()))?;
        self.properties = self.properties.min(publisher.properties());
        self.publishers.push(publisher);
        self.ledger.add_publisher(window);
        self.is_ready.push(false);
        Ok(())
    }

    fn add(&mut self, link: Link, role: Role) -> Result<()> {
        let mut connection = Connection::new(link);
        let token = Token(self.connections.len());
        connection.register(self.poll.registry(), token)?;
        self.has_deadlines |= connection.is_quic();
        self.connections.push(connection);
        self.roles.push(role);
        Ok(())
    }

    /// Begins to send.
    pub(super) fn start(&mut self, pace: Pace, now: u64) -> Result<()> {
        (self.last, self.step) = (now, now + STEP);
        match pace {
            Pace::Window(_) => {
                for publisher in 0..self.publishers.len() {
                    self.make_ready(publisher);
                }
                Ok(())
            }
            Pace::Rate(rate) => {
                let publishers = self.publishers.len() as u32;
                self.schedule = Some(Schedule::new(now, rate, publishers));
                self.timer.set(now)
            }
        }
    }

    /// Each publisher sends no more than so many messages in all.
    pub(super) fn share(&mut self, messages: u64) {
        self.share = messages;
    }

    /// Sends nothing more, but for what was due.
    pub(super) fn stop(&mut self) {
        self.is_sending = false;
    }

    /// Messages count that are on their way, and all that are sent from now on.
    pub(super) fn count_from_now(&mut self) {
        self.ledger.count_from_now();
    }

    /// Messages that were due and are not sent.
    pub(super) fn unsent(&mut self) -> u64 {
        let Some(schedule) = &self.schedule else {
            return 0;
        };
        let publishers = 0..self.publishers.len();
        let unsent = publishers
            .map(|publisher| schedule.due(publisher) - self.ledger.window(publisher).next());
        unsent.sum()
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn latencies(&mut self) -> &mut Latencies {
        &mut self.latencies
    }

    /// When something came last.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Publishes that the broker has acknowledged to the end.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The code of the first publish that the broker refused.
    pub(super) fn refused(&self) -> Option<u8> {
        self.refused
    }

    /// Runs until this time, and tells the deliveries of all time at every step.
    pub(super) fn run_until(&mut self, end: u64, mut each_step: impl FnMut(u64)) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = clock::now();
            self.send(now)?;
            if now >= self.step {
                self.step += STEP;
                self.give_up();
                each_step(self.ledger.deliveries());
            }
            if now >= end {
                return Ok(());
            }
            let mut longest = SLEEP.min(end - now);
            if self.has_deadlines {
                longest = longest.min(self.on_time()?);
            }
            self.wait(&mut events, longest)?;
        }
    }

    /// Waits for what comes, and takes it.
    fn wait(&mut self, events: &mut Events, longest: u64) -> Result<()> {
        let longest = Duration::from_nanos(longest);
        match self.poll.poll(events, Some(longest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            other => other.context("epoll")?,
        }
        for event in &*events {
            let Token(index) = event.token();
            if event.token() == TIMER {
                continue;
            }
            if event.is_writable() {
                let pushed = self.connections[index].push();
                pushed.with_context(|| self.name(index))?;
                self.flush(index)?;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let closed = event.is_read_closed() || event.is_error();
                self.read(index, closed).with_context(|| self.name(index))?;
            }
        }
        Ok(())
    }

    /// Writes what waits for room.
    fn flush(&mut self, index: usize) -> Result<()> {
        let flushed = self.connections[index].flush();
        if flushed.with_context(|| self.name(index))? {
            self.say(index)?;
        }
        Ok(())
    }

    /// There may be something to say. A publisher says it with what it sends next.
    fn say(&mut self, index: usize) -> Result<()> {
        if let Role::Publisher(publisher) = self.roles[index] {
            self.make_ready(publisher);
            return Ok(());
        }
        let pushed = self.connections[index].push();
        pushed.with_context(|| self.name(index))
    }

    /// Does on all connections what is due by now, and says how long there is nothing more to do.
    fn on_time(&mut self) -> Result<u64> {
        let now = Instant::now();
        let (mut next, mut any) = (None, false);
        for index in 0..self.connections.len() {
            let was_due = self.connections[index].on_time(now);
            if was_due.with_context(|| self.name(index))? {
                any = true;
                self.flush(index)?;
                self.say(index)?;
            }
            let deadline = self.connections[index].deadline();
            next = next.into_iter().chain(deadline).min();
        }
        if any {
            return Ok(0);
        }
        let left = next.map(|next: Instant| next.saturating_duration_since(now).as_nanos());
        Ok(left.map_or(u64::MAX, |left| u64::try_from(left).unwrap_or(u64::MAX)))
    }

    fn name(&self, index: usize) -> String {
        match self.roles[index] {
            Role::Publisher(publisher) => format!("connection {publisher} (publisher)"),
            Role::Subscriber(subscriber) => format!("connection {subscriber} (subscriber)"),
            Role::Idle => "connection with idle filters".to_owned(),
        }
    }

    /// Reads all that is there. A read that leaves room in the buffer has emptied the socket; unless the
    /// broker has closed, the next one would find nothing.
    fn read(&mut self, index: usize, is_closed: bool) -> Result<()> {
        let mut more = true;
        while more {
            let Some(filled) = self.connections[index].fill(&mut self.buffer)? else {
                break;
            };
            more = filled.more || is_closed;
            let now = clock::now();
            self.last = now;
            // An empty box allocates nothing.
            let buffer = mem::take(&mut self.buffer);
            self.take(index, &buffer[..filled.length], now)?;
            self.buffer = buffer;
        }
        if self.connections[index].is_quic() {
            // What has come may have made room for what waits, and is acknowledged.
            self.flush(index)?;
            self.say(index)?;
        }
        Ok(())
    }

    /// Takes what has come on a connection, and keeps what is cut.
    fn take(&mut self, index: usize, mut rest: &[u8], now: u64) -> Result<()> {
        while let Some(packet) = packet::packet(rest)? {
            rest = &rest[packet.length..];
            match self.roles[index] {
                Role::Subscriber(subscriber) => self.subscriber(subscriber, &packet, now)?,
                Role::Publisher(publisher) => self.publisher(publisher, &packet)?,
                Role::Idle => bail!("the broker sent {}", packet.name()),
            }
        }
        self.connections[index].keep(rest);
        self.latencies.end_run(now);
        if !self.answers.is_empty() {
            self.connections[index].send(&self.answers)?;
            self.answers.clear();
        }
        Ok(())
    }

    #[inline]
    fn subscriber(&mut self, subscriber: usize, packet: &Packet<'_>, now: u64) -> Result<()> {
        let receiver = &mut self.receivers[subscriber];
        match packet.kind() {
            kind::PUBLISH => {
                let delivery = packet.delivery(self.version)?;
                delivery.check(self.qos, self.properties)?;
                if !receiver.publish(delivery.qos, delivery.packet_id, &mut self.answers) {
                    return Ok(());
                }
                let Some(stamp) = Stamp::read(delivery.payload) else {
                    bail!("the broker delivered a message that nobody has sent");
                };
                if delivery.payload.len() != self.payload {
                    bail!("the broker delivered a message of another length");
                }
                let publisher = stamp.publisher as usize;
                self.ledger
                    .delivered(subscriber, publisher, stamp.sequence)?;
                self.latencies.note(stamp.time, now);
                self.make_ready(publisher);
            }
            kind::PUBREL => {
                let (packet_id, _) = packet.acknowledgement()?;
                receiver.pubrel(packet_id, &mut self.answers);
            }
            _ => bail!("the broker sent {}", packet.name()),
        }
        Ok(())
    }

    #[inline]
    fn publisher(&mut self, publisher: usize, packet: &Packet<'_>) -> Result<()> {
        if !matches!(packet.kind(), kind::PUBACK | kind::PUBREC | kind::PUBCOMP) {
            bail!("the broker sent {}", packet.name());
        }
        let (packet_id, code) = packet.acknowledgement()?;
        let is_refused = code >= 0x80;
        if is_refused {
            self.refused.get_or_insert(code);
        }
        let window = self.ledger.window(publisher);
        if packet.kind() == kind::PUBREC && !is_refused {
            window.received(packet_id);
            answer(kind::PUBREL | 2, packet_id, &mut self.answers);
        } else {
            window.acknowledged(packet_id);
            self.acknowledged += u64::from(!is_refused);
        }
        self.make_ready(publisher);
        Ok(())
    }

    #[inline]
    fn make_ready(&mut self, publisher: usize) {
        if !mem::replace(&mut self.is_ready[publisher], true) {
            self.ready.push(publisher);
        }
    }

    /// Sends what there is room for and, in an open loop, what is due.
    fn send(&mut self, now: u64) -> Result<()> {
        if self.is_sending && self.schedule.is_some() {
            self.take_due(now)?;
        }
        let mut ready = mem::take(&mut self.ready);
        for publisher in ready.drain(..) {
            self.is_ready[publisher] = false;
            let index = self.connection_of[publisher];
            let connection = &mut self.connections[index];
            let window = self.ledger.window(publisher);
            let scratch = &mut self.scratch;
            let publishing = &mut self.publishers[publisher];
            let sent = match &self.schedule {
                None if self.is_sending => {
                    let left = self.share - window.next();
                    // Fits: room does.
                    let room = left.min(window.room().into()) as u32;
                    publishing.publish(connection, window, room, scratch, |_| now)
                }
                None => Ok(()),
                Some(schedule) => {
                    let due = schedule.due(publisher) - window.next();
                    // Fits: room does.
                    let count = due.min(window.room().into()) as u32;
                    let time = |sequence| schedule.time_of(publisher, sequence);
                    publishing.publish(connection, window, count, scratch, time)
                }
            };
            sent.and_then(|()| self.connections[index].push())
                .with_context(|| self.name(index))?;
        }
        self.ready = ready;
        Ok(())
    }

    fn take_due(&mut self, now: u64) -> Result<()> {
        let Some(mut schedule) = self.schedule.take() else {
            return Ok(());
        };
        let mut any = false;
        while let Some(publisher) = schedule.take(now) {
            self.make_ready(publisher);
            any = true;
        }
        let next = schedule.next_time();
        self.schedule = Some(schedule);
        if any { self.timer.set(next) } else { Ok(()) }
    }

    /// Waits no longer for what has been on its way for all steps.
    fn give_up(&mut self) {
        self.sent.rotate_right(1);
        for publisher in 0..self.publishers.len() {
            // The oldest, which becomes the newest.
            let long_ago = self.sent[0][publisher];
            self.sent[0][publisher] = self.ledger.window(publisher).next();
            self.ledger.give_up(publisher, long_ago);
            self.make_ready(publisher);
        }
    }
}

//! Confirmable publishes to observers: each pair has one message under way, from the PUT until its publisher has the
//! answer and its observer has acknowledged the notification.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::os::fd::AsRawFd;

use super::endpoint::{observer, shown, socket};
use super::message::{Kind, Message, acknowledgement, code, request, with_payload};
use crate::load::Progress;
use crate::load::clock::{self, Broker, SECOND};
use crate::load::latencies::Latencies;
use crate::load::publisher::{STAMP, Stamp, topic_name};
use crate::order::{Order, Pace, Shape, Traffic};
use crate::reply::Measurement;

/// The longest sleep, and how often it is looked for what was lost.
const SLEEP: Duration = Duration::from_millis(100);
/// ACK_TIMEOUT (RFC 7252 section 4.8).
const TIMEOUT: u64 = 2 * SECOND;
/// How long is waited in the end for what is under way.
const LONGEST_DRAIN: u64 = 30 * SECOND;

/// Registers, sends, and says what it has cost.
pub(in crate::load) fn traffic(
    order: &Order,
    traffic: &Traffic,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    if traffic.shape != Shape::Pairs || traffic.pace != Pace::Window(1) || traffic.qos != 1 {
        bail!("over CoAP there are pairs with a window of one, at QoS 1");
    }
    if (traffic.payload as usize) < STAMP {
        bail!("the payload needs {STAMP} bytes to tell a message");
    }
    progress("registering");
    let mut load = Load::open(order, traffic)?;
    let start = clock::now();
    load.run_until(start + clock::nanoseconds(order.warm_up), true)?;

    progress("measuring");
    let began = clock::now();
    let (broker_cpu, load_cpu) = (broker.cpu()?, clock::own()?);
    let before = load.deliveries;
    load.latencies.count_from(began);
    load.run_until(began + clock::nanoseconds(order.seconds), true)?;
    let ended = clock::now();
    let (broker_cpu, load_cpu) = (broker.cpu()? - broker_cpu, clock::own()? - load_cpu);
    let resident = broker.resident()?;
    let deliveries = load.deliveries - before;
    load.latencies.count_to(ended);

    progress("draining");
    while load.is_busy() && clock::now() - ended < LONGEST_DRAIN {
        load.run_until(clock::now() + SECOND / 20, false)?;
    }
    let undelivered = load.pairs.iter().filter(|pair| !pair.is_delivered);
    Ok(Measurement {
        seconds: clock::seconds(ended - began),
        deliveries,
        broker_cpu: clock::seconds(broker_cpu),
        load_cpu: clock::seconds(load_cpu),
        resident,
        lost: undelivered.count() as u64,
        duplicated: load.duplicated,
        out_of_order: load.out_of_order,
        latency: load.latencies.quantiles(),
        ..Measurement::default()
    })
}

struct Pair {
    publisher: UdpSocket,
    observer: UdpSocket,
    /// The PUT, and where its payload begins.
    request: Vec<u8>,
    payload: usize,
    sequence: u64,
    sent: u64,
    is_answered: bool,
    is_delivered: bool,
}

struct Load {
    poll: Poll,
    pairs: Vec<Pair>,
    latencies: Latencies,
    deliveries: u64,
    duplicated: u64,
    out_of_order: u64,
    buffer: Box<[u8]>,
}

impl Load {
    fn open(order: &Order, traffic: &Traffic) -> Result<Self> {
        let poll = Poll::new().context("epoll")?;
        let mut pairs = Vec::with_capacity(traffic.publishers as usize);
        for number in 0..traffic.publishers {
            let topic = topic_name(number, 0);
            let named = || format!("pair {number}");
            let observer = observer(order.v3, &topic, &["qos=1"]).with_context(named)?;
            let publisher = socket(order.v3).with_context(named)?;
            let mut request = request(code::PUT, &topic, &[], false);
            let mut filled = vec![b'.'; traffic.payload as usize];
            Stamp::write(&mut filled, number, 0);
            let payload = with_payload(&mut request, &filled);
            for (socket, token) in [(&publisher, 2 * number), (&observer, 2 * number + 1)] {
                socket.set_nonblocking(true)?;
                let descriptor = socket.as_raw_fd();
                let mut source = SourceFd(&descriptor);
                let token = Token(token as usize);
                poll.registry()
                    .register(&mut source, token, Interest::READABLE)?;
            }
            pairs.push(Pair {
                publisher,
                observer,
                request,
                payload,
                sequence: 0,
                sent: 0,
                is_answered: true,
                is_delivered: true,
            });
        }
        Ok(Self {
            poll,
            pairs,
            latencies: Latencies::new()?,
            deliveries: 0,
            duplicated: 0,
            out_of_order: 0,
            buffer: vec![0; 2_048].into_boxed_slice(),
        })
    }

    fn is_busy(&self) -> bool {
        let mut pairs = self.pairs.iter();
        pairs.any(|pair| !pair.is_answered || !pair.is_delivered)
    }

    /// Takes what comes until this time; who has nothing under way sends, if there is more to send.
    fn run_until(&mut self, end: u64, is_sending: bool) -> Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut look = 0;
        loop {
            let now = clock::now();
            if now >= look {
                look = now + SLEEP.as_nanos() as u64;
                for pair in &mut self.pairs {
                    pair.look(now, is_sending)?;
                }
            }
            if now >= end {
                return Ok(());
            }
            let longest = SLEEP.min(Duration::from_nanos(end - now));
            match self.poll.poll(&mut events, Some(longest)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context("epoll")?,
            }
            for event in &events {
                let Token(token) = event.token();
                let number = token / 2;
                let named = || format!("pair {number}");
                if token % 2 == 0 {
                    self.read_answers(number).with_context(named)?;
                } else {
                    self.read_notifications(number).with_context(named)?;
                }
                if is_sending {
                    self.pairs[number].send_next()?;
                }
            }
        }
    }

    fn read_answers(&mut self, number: usize) -> Result<()> {
        let pair = &mut self.pairs[number];
        while let Some(message) = receive(&pair.publisher, &mut self.buffer)? {
            match (message.kind, message.code) {
                // The answer comes in a message of its own.
                (Kind::Acknowledgement, code::EMPTY) => {}
                (Kind::Acknowledgement, code::CHANGED) => {
                    pair.is_answered |= message.id == pair.id();
                }
                (Kind::Confirmable, code::CHANGED) => {
                    pair.publisher.send(&acknowledgement(message.id))?;
                    pair.is_answered = true;
                }
                (kind, code) => bail!("the gateway answered {} ({kind:?})", shown(code)),
            }
        }
        Ok(())
    }

    fn read_notifications(&mut self, number: usize) -> Result<()> {
        let pair = &mut self.pairs[number];
        while let Some(message) = receive(&pair.observer, &mut self.buffer)? {
            if message.code != code::CONTENT || !message.observe {
                bail!("the gateway sent {} to an observer", shown(message.code));
            }
            if message.kind == Kind::Confirmable {
                pair.observer.send(&acknowledgement(message.id))?;
            }
            let Some(stamp) = Stamp::read(message.payload) else {
                bail!("the gateway delivered a message that nobody has sent");
            };
            if stamp.sequence < pair.sequence || pair.is_delivered {
                self.duplicated += 1;
            } else if stamp.publisher as usize != number || stamp.sequence > pair.sequence {
                self.out_of_order += 1;
            } else {
                pair.is_delivered = true;
                self.deliveries += 1;
                let now = clock::now();
                self.latencies.note(stamp.time, now);
                self.latencies.end_run(now);
            }
        }
        Ok(())
    }
}

impl Pair {
    /// The message identifier of the request under way.
    fn id(&self) -> u16 {
        self.sequence as u16
    }

    fn send_next(&mut self) -> Result<()> {
        if !self.is_answered || !self.is_delivered {
            return Ok(());
        }
        self.sequence += 1;
        (self.is_answered, self.is_delivered) = (false, false);
        self.sent = clock::now();
        let id = self.id();
        self.request[2..4].copy_from_slice(&id.to_be_bytes());
        let stamp = &mut self.request[self.payload + 4..];
        stamp[..8].copy_from_slice(&self.sequence.to_be_bytes());
        stamp[8..16].copy_from_slice(&self.sent.to_be_bytes());
        self.send()
    }

    fn send(&self) -> Result<()> {
        match self.publisher.send(&self.request) {
            // As lost as it would be on a wire: it is sent again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => sent.map(drop).context("a request"),
        }
    }

    /// Sends what nothing is under way for, and what was lost.
    fn look(&mut self, now: u64, is_sending: bool) -> Result<()> {
        if is_sending {
            self.send_next()?;
        }
        if !self.is_answered && now.saturating_sub(self.sent) >= TIMEOUT {
            self.sent = now;
            self.send()?;
        }
        Ok(())
    }
}

fn receive<'a>(socket: &UdpSocket, buffer: &'a mut [u8]) -> Result<Option<Message<'a>>> {
    match socket.recv(buffer) {
        Ok(length) => Message::read(&buffer[..length]).map(Some),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("the gateway's port"),
    }
}

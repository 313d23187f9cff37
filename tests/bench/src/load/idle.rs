//! Connections that do nothing: how fast the broker takes them and what each costs it.
//!
//! Connections are opened up to the first number, then up to the last. In both breaks memory is looked at
//! after a while, when the broker has freed what it needed for the handshakes only. Each connection has
//! one subscription of its own. In the end all must still be open.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_tests::{Server, TlsClient, Transport};

use super::Progress;
use super::clock::{self, Broker};
use super::opening::{Opening, address};
use crate::order::{Idle, Order};
use crate::reply::{Connections, Measurement};

/// Handshakes under way at a time, each on a thread that waits for its answers.
pub(super) const AT_ONCE: u32 = 32;
/// How long opening may take in all.
const LONGEST: Duration = Duration::from_secs(300);
/// How often something is said.
const STEP: Duration = Duration::from_secs(1);

/// Opens the connections and says what they have cost.
pub(super) fn idle(
    order: &Order,
    idle: &Idle,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    if idle.first >= idle.connections {
        bail!("there must be more connections in the end than at first");
    }
    let opening = Opening::to(server(order, idle)?, idle.version);
    let mut sockets = Vec::with_capacity(idle.connections as usize);
    let mut cost = Cost::default();

    open(
        &opening,
        &mut sockets,
        idle.first,
        broker,
        &mut cost,
        progress,
    )?;
    let before = settled(idle, broker, progress)?;
    open(
        &opening,
        &mut sockets,
        idle.connections,
        broker,
        &mut cost,
        progress,
    )?;
    let after = settled(idle, broker, progress)?;
    all_are_open(&mut sockets)?;

    let connections = f64::from(idle.connections);
    // Less at the end than at first is noise, and told as it is.
    let growth = after as f64 - before as f64;
    Ok(Measurement {
        seconds: clock::seconds(cost.time),
        broker_cpu: clock::seconds(cost.broker_cpu),
        load_cpu: clock::seconds(cost.load_cpu),
        resident: after,
        connections: Some(Connections {
            rate: connections / clock::seconds(cost.time),
            cpu: clock::seconds(cost.broker_cpu) * 1e6 / connections,
            bytes: growth / f64::from(idle.connections - idle.first),
        }),
        ..Measurement::default()
    })
}

/// What opening has cost so far, in nanoseconds.
#[derive(Default)]
struct Cost {
    time: u64,
    broker_cpu: u64,
    load_cpu: u64,
}

/// Opens connections until there are so many.
fn open(
    opening: &Opening,
    sockets: &mut Vec<TcpStream>,
    count: u32,
    broker: &Broker,
    cost: &mut Cost,
    progress: Progress<'_>,
) -> Result<()> {
    let next = AtomicU32::new(sockets.len() as u32);
    let stopped = AtomicBool::new(false);
    let (sender, opened) = mpsc::channel();
    let began = (clock::now(), broker.cpu()?, clock::own()?);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (sender, next, stopped) = (sender.clone(), &next, &stopped);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || sender.send(connection(opening, number)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let collected = collect(&opened, sockets, count, progress);
        stopped.store(true, Ordering::Relaxed);
        collected
    })?;
    cost.time += clock::now() - began.0;
    cost.broker_cpu += broker.cpu()? - began.1;
    cost.load_cpu += clock::own()? - began.2;
    Ok(())
}

/// Takes connections as they are opened.
fn collect(
    opened: &mpsc::Receiver<Result<TcpStream>>,
    sockets: &mut Vec<TcpStream>,
    count: u32,
    progress: Progress<'_>,
) -> Result<()> {
    let end = Instant::now() + LONGEST;
    let mut step = Instant::now();
    while sockets.len() < count as usize {
        let now = Instant::now();
        if now >= step {
            step += STEP;
            progress(&format!("connecting, {} of {count}", sockets.len()));
        }
        if now >= end {
            let open = sockets.len();
            bail!("after {LONGEST:?} {open} of {count} connections are open");
        }
        match opened.recv_timeout(step.saturating_duration_since(now)) {
            Ok(socket) => sockets.push(socket?),
            Err(RecvTimeoutError::Timeout) => {}
            // A thread ended without a word: it has panicked, which the scope tells.
            Err(RecvTimeoutError::Disconnected) => bail!("no more connections come"),
        }
    }
    Ok(())
}

fn connection(opening: &Opening, number: u32) -> Result<TcpStream> {
    let mut opened = opening.open("idle", number)?;
    opened
        .subscribe(vec![format!("idle/{number}")], 0)
        .with_context(|| format!("connection {number}"))?;
    // A broker that frees what it does not need has seen everything it will see: from here on bytes that
    // it sends, such as tickets of TLS, lie in the socket.
    opened.into_socket()
}

/// The broker's memory when it has come to rest.
fn settled(idle: &Idle, broker: &Broker, progress: Progress<'_>) -> Result<u64> {
    progress(&format!("waiting {} s", idle.settle));
    thread::sleep(Duration::try_from_secs_f64(idle.settle).context("the time to settle")?);
    broker.resident()
}

fn all_are_open(sockets: &mut [TcpStream]) -> Result<()> {
    let mut buffer = [0; 4096];
    let all = sockets.len();
    let closed = sockets.iter_mut().filter_map(|socket| {
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => return Some(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => return Some(()),
            }
        }
    });
    match closed.count() {
        0 => Ok(()),
        closed => bail!("the broker closed {closed} of {all} connections"),
    }
}

/// What carries MQTT, as ordered.
fn server(order: &Order, idle: &Idle) -> Result<Server> {
    let carriers = Transport::ALL.into_iter();
    let mut named = carriers.filter(|carrier| carrier.scheme() == order.scheme);
    let Some(carrier) = named.next() else {
        bail!("nothing is known of {}", order.scheme);
    };
    let server = Server::new(carrier, address(order, idle.version));
    if !carrier.is_encrypted() {
        return Ok(server);
    }
    let authority: &Path = order
        .authority
        .as_deref()
        .context("TLS needs an authority")?;
    // Looked at here, because the helper of the tests panics.
    std::fs::metadata(authority).with_context(|| authority.display().to_string())?;
    Ok(server.trusting(TlsClient::trusting_file(authority).build()))
}

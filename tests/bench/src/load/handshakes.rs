//! Connections that are opened and left at once: what handshakes cost.
//!
//! Several clients at a time, each on a thread, open a connection, are let in, and leave. What counts are
//! those that were let in between two readings of the clock and of the broker's processor time. No TLS session
//! is resumed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail};

use super::Progress;
use super::clock::{self, Broker, Cost};
use super::opening::Opening;
use crate::order::{Handshakes, Order};
use crate::reply::{Connections, Measurement};

/// How often it is looked whether a client has failed.
const LOOK: Duration = Duration::from_millis(20);

/// Opens and leaves, and says what it has cost.
pub(super) fn handshakes(
    order: &Order,
    handshakes: &Handshakes,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    if handshakes.at_once == 0 {
        bail!("nobody is to shake hands");
    }
    let opening = Opening::ordered(order, handshakes.version)?;
    let clients = Clients::default();
    let mut cost = Cost::default();
    let done = thread::scope(|scope| {
        for first in 0..handshakes.at_once {
            let (opening, clients) = (&opening, &clients);
            scope.spawn(move || clients.run(opening, first, handshakes.at_once));
        }
        progress("warming up");
        clients.wait(order.warm_up);
        let before = clients.done.load(Ordering::Relaxed);
        progress("measuring");
        let waited = cost.of(broker, || {
            clients.wait(order.seconds);
            Ok(clients.done.load(Ordering::Relaxed) - before)
        });
        clients.stopped.store(true, Ordering::Relaxed);
        waited
    })?;
    let failed = clients.failed.into_inner();
    if let Some(error) = failed.unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    if done == 0 {
        bail!("no connection was let in");
    }
    let connections = done as f64;
    Ok(Measurement {
        seconds: clock::seconds(cost.time),
        broker_cpu: clock::seconds(cost.broker_cpu),
        load_cpu: clock::seconds(cost.load_cpu),
        resident: broker.resident()?,
        connections: Some(Connections {
            rate: connections / clock::seconds(cost.time),
            cpu: clock::seconds(cost.broker_cpu) * 1e6 / connections,
            bytes: None,
        }),
        ..Measurement::default()
    })
}

#[derive(Default)]
struct Clients {
    /// Connections that were let in.
    done: AtomicU64,
    stopped: AtomicBool,
    /// The first failure, which ends all.
    failed: Mutex<Option<Error>>,
}

impl Clients {
    fn run(&self, opening: &Opening, first: u32, step: u32) {
        let mut number = first;
        while !self.stopped.load(Ordering::Relaxed) {
            let opened = opening.open("handshake", number);
            let left = opened.and_then(|opened| {
                self.done.fetch_add(1, Ordering::Relaxed);
                opened.disconnect()
            });
            if let Err(error) = left {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
                self.stopped.store(true, Ordering::Relaxed);
            }
            number = number.wrapping_add(step);
        }
    }

    /// Waits so many seconds, unless a client has failed before.
    fn wait(&self, seconds: f64) {
        let end = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
        while !self.stopped.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

//! Connections that do nothing: how fast the broker takes them and what each costs it.
//!
//! Connections are opened up to the first number, then up to the last. In both breaks memory is looked at
//! after a while, when the broker has freed what it needed for the handshakes only. Each connection has
//! one subscription of its own. In the end all must still be open.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidegate_tests::{Server, TlsClient, Transport};

use super::Progress;
use super::clock::{self, Broker, Cost};
use super::crowd::crowd;
use super::opening::{Opening, address};
use crate::order::{Idle, Order};
use crate::reply::{Connections, Measurement};

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

/// Opens connections until there are so many.
fn open(
    opening: &Opening,
    sockets: &mut Vec<TcpStream>,
    count: u32,
    broker: &Broker,
    cost: &mut Cost,
    progress: Progress<'_>,
) -> Result<()> {
    // There are no more than `count`.
    let open = sockets.len() as u32;
    cost.of(broker, || {
        crowd(
            open..count,
            |number| connection(opening, number),
            |socket| sockets.push(socket),
            |done| progress(&format!("connecting, {} of {count}", open as usize + done)),
        )
    })
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
    rest(idle.settle, progress)?;
    broker.resident()
}

/// Waits so many seconds.
pub(super) fn rest(seconds: f64, progress: Progress<'_>) -> Result<()> {
    progress(&format!("waiting {seconds} s"));
    thread::sleep(Duration::try_from_secs_f64(seconds).context("the time to settle")?);
    Ok(())
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

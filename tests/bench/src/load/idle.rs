//! Connections that do nothing: how fast the broker takes them and what each costs it.
//!
//! Connections are opened up to the first number, then up to the last. In both breaks memory is looked at
//! after a while, when the broker has freed what it needed for the handshakes only. Each connection has
//! one subscription of its own. In the end all must still be open.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Progress;
use super::clock::{self, Broker, Cost};
use super::crowd::crowd;
use super::keeper::Keeper;
use super::opening::{Opening, Resting};
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
    let opening = Opening::ordered(order, idle.version)?;
    let mut connections = Open::new(&opening)?;
    let mut cost = Cost::default();

    open(
        &opening,
        &mut connections,
        idle.first,
        broker,
        &mut cost,
        progress,
    )?;
    let before = settled(idle, broker, progress)?;
    open(
        &opening,
        &mut connections,
        idle.connections,
        broker,
        &mut cost,
        progress,
    )?;
    let after = settled(idle, broker, progress)?;
    connections.all_are_open()?;

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
            bytes: Some(growth / f64::from(idle.connections - idle.first)),
        }),
        ..Measurement::default()
    })
}

/// Opens connections until there are so many.
fn open(
    opening: &Opening,
    connections: &mut Open,
    count: u32,
    broker: &Broker,
    cost: &mut Cost,
    progress: Progress<'_>,
) -> Result<()> {
    let open = connections.count;
    cost.of(broker, || {
        crowd(
            open..count,
            |number| connection(opening, number),
            |connection| connections.add(connection),
            |done| progress(&format!("connecting, {} of {count}", open as usize + done)),
        )
    })
}

fn connection(opening: &Opening, number: u32) -> Result<Resting> {
    let mut opened = opening.open("idle", number)?;
    opened
        .subscribe(vec![format!("idle/{number}")], 0)
        .with_context(|| format!("connection {number}"))?;
    // A broker that frees what it does not need has seen everything it will see: from here on bytes that
    // it sends, such as tickets of TLS, lie in the socket. Over QUIC they must be acknowledged.
    opened.into_resting()
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

/// The connections that are open.
struct Open {
    sockets: Vec<TcpStream>,
    keeper: Option<Keeper>,
    count: u32,
}

impl Open {
    fn new(opening: &Opening) -> Result<Self> {
        Ok(Self {
            sockets: Vec::new(),
            keeper: opening.is_quic().then(Keeper::new).transpose()?,
            count: 0,
        })
    }

    fn add(&mut self, connection: Resting) {
        self.count += 1;
        match connection {
            Resting::Socket(socket) => self.sockets.push(socket),
            Resting::Quic(quic) => {
                if let Some(keeper) = &self.keeper {
                    keeper.keep(quic);
                }
            }
        }
    }

    fn all_are_open(self) -> Result<()> {
        let mut buffer = [0; 4096];
        let mut sockets = self.sockets;
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
        let kept = self.keeper.map(Keeper::end).transpose()?;
        match closed.count() + kept.unwrap_or_default() {
            0 => Ok(()),
            closed => bail!("the broker closed {closed} of {} connections", self.count),
        }
    }
}

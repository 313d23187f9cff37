//! Observers that are told nothing: what each costs the gateway.

use std::io::ErrorKind;
use std::net::UdpSocket;

use anyhow::{Context, Result, bail};

use super::endpoint::observer;
use crate::load::Progress;
use crate::load::clock::{self, Broker, Cost};
use crate::load::crowd::crowd;
use crate::load::idle::rest;
use crate::order::{Idle, Order};
use crate::reply::{Connections, Measurement};

/// Registers observers and says what they have cost.
pub(in crate::load) fn idle(
    order: &Order,
    idle: &Idle,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    if idle.first >= idle.connections {
        bail!("there must be more observers in the end than at first");
    }
    let mut observers: Vec<UdpSocket> = Vec::new();
    let mut cost = Cost::default();
    let mut resident = [0; 2];
    for (count, resident) in [idle.first, idle.connections]
        .into_iter()
        .zip(&mut resident)
    {
        let begun = observers.len() as u32;
        cost.of(broker, || {
            crowd(
                begun..count,
                |number| observer(order.v3, &format!("idle/{number}"), &[]),
                |observer| observers.push(observer),
                |done| {
                    progress(&format!(
                        "registering, {} of {count}",
                        begun as usize + done
                    ));
                },
            )
        })?;
        rest(idle.settle, progress)?;
        *resident = broker.resident()?;
    }
    let mut buffer = [0; 64];
    for observer in &observers {
        observer.set_nonblocking(true)?;
        match observer.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("an observer"),
            Ok(_) => bail!("the gateway said something to an observer"),
        }
    }
    let [before, after] = resident;
    let count = f64::from(idle.connections);
    Ok(Measurement {
        seconds: clock::seconds(cost.time),
        broker_cpu: clock::seconds(cost.broker_cpu),
        load_cpu: clock::seconds(cost.load_cpu),
        resident: after,
        connections: Some(Connections {
            rate: count / clock::seconds(cost.time),
            cpu: clock::seconds(cost.broker_cpu) * 1e6 / count,
            bytes: Some((after as f64 - before as f64) / f64::from(idle.connections - idle.first)),
        }),
        ..Measurement::default()
    })
}

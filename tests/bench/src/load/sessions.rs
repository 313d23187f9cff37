//! Sessions whose clients are away: each is opened, has one subscription and is left.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tidegate_tests::Server;

use super::Progress;
use super::clock::{self, Broker, Cost};
use super::crowd::crowd;
use super::idle::rest;
use super::opening::Opening;
use crate::order::{Order, Sessions, Version};
use crate::reply::{Measurement, Stored};

/// What is in the identifier of a client with a session.
const ROLE: &str = "session";
/// Bytes of a block of [`MetadataExt::blocks`], whatever the file system has.
const BLOCK: u64 = 512;

/// Makes the sessions and says what they have cost so far.
pub(super) fn sessions(
    order: &Order,
    sessions: &Sessions,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    if sessions.first >= sessions.sessions {
        bail!("there must be more sessions in the end than at first");
    }
    let opening = Opening::plain(order, sessions.version).kept();
    let mut cost = Cost::default();
    let mut until = |from: u32, to: u32| -> Result<(u64, u64)> {
        let say = |done| progress(&format!("session {} of {to}", from as usize + done));
        cost.of(broker, || {
            crowd(from..to, |number| make(&opening, number), |()| {}, say)
        })?;
        rest(sessions.settle, progress)?;
        let disk = disk(order)?.context("nothing is known of the broker's files")?;
        Ok((broker.resident()?, disk))
    };
    let before = until(0, sessions.first)?;
    let after = until(sessions.first, sessions.sessions)?;
    let each = |before: u64, after: u64| {
        (after as f64 - before as f64) / f64::from(sessions.sessions - sessions.first)
    };
    Ok(Measurement {
        seconds: clock::seconds(cost.time),
        broker_cpu: clock::seconds(cost.broker_cpu),
        load_cpu: clock::seconds(cost.load_cpu),
        resident: after.0,
        sessions: Some(Stored {
            rate: f64::from(sessions.sessions) / clock::seconds(cost.time),
            memory: each(before.0, after.0),
            disk: each(before.1, after.1),
            // Of a process that is still to be started.
            memory_again: 0.0,
            restart: 0.0,
        }),
        ..Measurement::default()
    })
}

fn make(opening: &Opening, number: u32) -> Result<()> {
    let mut opened = opening.open(ROLE, number)?;
    opened
        .subscribe(vec![format!("session/{number}")], 1)
        .and_then(|()| opened.disconnect())
        .with_context(|| format!("session {number}"))
}

/// What became of sessions in the broker's next process.
pub(crate) struct Resumed {
    /// When the first one was.
    pub(crate) first: Instant,
    /// Those that were looked for and are gone.
    pub(crate) missing: u64,
}

/// Looks for sessions that another process made: the first one, and some more, evenly.
pub(crate) fn resume(server: SocketAddr, version: Version, sessions: u32) -> Result<Resumed> {
    /// How many are looked for.
    const LOOKED_FOR: u32 = 1_000;
    let opening = Opening::to(Server::from(server), version).kept();
    let is_missing = |number| -> Result<bool> {
        let opened = opening.open(ROLE, number)?;
        let is_present = opened.welcome().session_present;
        opened.disconnect()?;
        Ok(!is_present)
    };
    let mut missing = u64::from(is_missing(0)?);
    let first = Instant::now();
    let step = (sessions / LOOKED_FOR).max(1);
    let numbers = 1..sessions.div_ceil(step);
    let count = |is_missing| missing += u64::from(is_missing);
    crowd(numbers, |number| is_missing(number * step), count, |_| {})?;
    Ok(Resumed { first, missing })
}

/// Bytes of the broker's files on the disk, if it was told where to have them.
pub(super) fn disk(order: &Order) -> Result<Option<u64>> {
    order.data.as_deref().map(usage).transpose()
}

fn usage(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = fs::read_dir(directory).with_context(|| format!("{}", directory.display()))?;
    for entry in entries {
        // What goes while it is looked at is not there.
        let Ok(entry) = entry else { continue };
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            usage(&entry.path()).unwrap_or(0)
        } else {
            metadata.blocks() * BLOCK
        };
    }
    Ok(bytes)
}

//! Messages for sessions whose clients are away: what it costs to keep them, and how they come when the
//! clients are back.
//!
//! Every session has one subscription, to all that is published, and its client leaves before the first
//! message. What is published then is acknowledged because it is kept. Once all is, the clients come back
//! one after the other and each must receive every message of every publisher, once and in order.
//! Deliveries and processor time count from the first CONNECT to the last message.

use anyhow::{Context, Result, bail, ensure};

use super::Progress;
use super::clock::{self, Broker, Cost, SECOND};
use super::engine::Engine;
use super::opening::Opening;
use super::publisher::Publisher;
use super::sessions::disk;
use super::syncs::{since, syncs};
use super::traffic::{add_publishers, check};
use crate::order::{Order, Pace, Queues, Shape, Traffic};
use crate::reply::{Durable, Measurement, Queued};

/// What is in the identifier of a client with a session.
const ROLE: &str = "queue";
/// When nothing came for so long, nothing comes any more.
const SILENCE: u64 = 10 * SECOND;
/// How often it is looked whether all is there, and what memory the broker has.
const LOOK: u64 = SECOND / 100;
/// When all is there so long is waited for what comes twice.
const GRACE: u64 = SECOND / 2;

/// Publishes, comes back and says what it has cost.
pub(super) fn queues(
    order: &Order,
    queues: &Queues,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    let traffic = traffic(queues);
    check(&traffic)?;
    ensure!(queues.messages > 0, "there are no messages");
    progress("subscribing");
    let kept = Opening::plain(order, queues.version).kept();
    for number in 0..queues.sessions {
        let mut opened = kept.open(ROLE, number)?;
        opened
            .subscribe(vec!["bench/#".to_owned()], traffic.qos)
            .and_then(|()| opened.disconnect())
            .with_context(|| format!("session {number}"))?;
    }
    let mut engine = Engine::new(&traffic)?;
    let opening = Opening::plain(order, queues.version);
    // A message is on its way until it is acknowledged, not until it is delivered.
    add_publishers(&mut engine, &opening, &traffic, 0, progress)?;
    engine.share(queues.messages);

    let (mut durable, disk) = publish(order, queues, &mut engine, broker, progress)?;
    durable.bytes = Publisher::new(0, &traffic).kept() as u64;
    let expected = queues.all_messages() * u64::from(queues.sessions);
    let back = come_back(queues, &mut engine, &kept, expected, broker, progress)?;
    let ledger = engine.ledger();
    Ok(Measurement {
        seconds: clock::seconds(back.cost.time),
        deliveries: back.deliveries,
        broker_cpu: clock::seconds(back.cost.broker_cpu),
        load_cpu: clock::seconds(back.cost.load_cpu),
        resident: broker.resident()?,
        lost: ledger.lost(),
        duplicated: ledger.duplicated(),
        out_of_order: ledger.out_of_order(),
        durable: Some(durable),
        queues: Some(Queued {
            disk,
            ..back.queued
        }),
        ..Measurement::default()
    })
}

/// What is published.
fn traffic(queues: &Queues) -> Traffic {
    Traffic {
        version: queues.version,
        shape: Shape::All,
        publishers: queues.publishers,
        subscribers: queues.sessions,
        qos: 1,
        payload: queues.payload,
        topics: 1,
        idle_filters: 0,
        properties: false,
        durable: true,
        pace: Pace::Window(queues.window),
    }
}

/// Publishes everything; what it took, and bytes on disk for a message.
fn publish(
    order: &Order,
    queues: &Queues,
    engine: &mut Engine,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<(Durable, Option<f64>)> {
    let all = queues.all_messages();
    let before = (disk(order)?, syncs(order.metrics)?);
    let mut cost = Cost::default();
    engine.count_from_now();
    cost.of(broker, || {
        engine.start(Pace::Window(queues.window), clock::now())?;
        while engine.acknowledged() < all {
            let acknowledged = engine.acknowledged();
            engine.run_until(clock::now() + LOOK, |_| {
                progress(&format!(
                    "{acknowledged} of {all} messages are acknowledged"
                ));
            })?;
            if let Some(code) = engine.refused() {
                bail!("the broker refused a publish with code {code:#04x}");
            }
            if clock::now().saturating_sub(engine.last()) >= SILENCE {
                bail!(
                    "the broker acknowledged {} of {all} messages",
                    engine.acknowledged()
                );
            }
        }
        Ok(())
    })?;
    let after = (disk(order)?, syncs(order.metrics)?);
    let grown = before.0.zip(after.0);
    let durable = Durable {
        acknowledged: all,
        seconds: clock::seconds(cost.time),
        bytes: 0,
        syncs: since(before.1, after.1),
        disk: None,
    };
    let each = grown.map(|(before, after)| (after as f64 - before as f64) / all as f64);
    Ok((durable, each))
}

/// What came when the clients were back.
struct Back {
    deliveries: u64,
    cost: Cost,
    queued: Queued,
}

fn come_back(
    queues: &Queues,
    engine: &mut Engine,
    kept: &Opening,
    expected: u64,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Back> {
    let before = broker.resident()?;
    let (mut cost, mut peak) = (Cost::default(), before);
    let began = clock::now();
    let mut first = None;
    cost.of(broker, || {
        for number in 0..queues.sessions {
            let opened = kept.open(ROLE, number)?;
            ensure!(
                opened.welcome().session_present,
                "the broker has no session {number} any more"
            );
            let (link, received) = opened.into_parts()?;
            engine.add_resumed(link, &received)?;
            while first.is_none() {
                if engine.ledger().deliveries() > 0 {
                    first = Some(clock::now() - began);
                } else if clock::now() - began >= SILENCE {
                    bail!("the broker delivered nothing of what was kept");
                } else {
                    engine.run_until(clock::now() + SECOND / 1_000, |_| {})?;
                }
            }
        }
        let mut all_there = None;
        loop {
            engine.run_until(clock::now() + LOOK, |deliveries| {
                progress(&format!("{deliveries} of {expected} deliveries"));
            })?;
            peak = peak.max(broker.resident()?);
            let now = clock::now();
            if engine.ledger().deliveries() >= expected && engine.ledger().lost() == 0 {
                let since = *all_there.get_or_insert(now);
                if now - since >= GRACE {
                    return Ok(());
                }
            } else if now.saturating_sub(engine.last()) >= SILENCE {
                return Ok(());
            }
        }
    })?;
    // The wait for what comes twice, or not at all, took no work.
    cost.time = engine.last().saturating_sub(began);
    Ok(Back {
        deliveries: engine.ledger().deliveries(),
        cost,
        queued: Queued {
            disk: None,
            first: clock::seconds(first.unwrap_or_default()),
            before,
            peak,
        },
    })
}

//! Messages from publishers to subscribers: the phases of a run and what is counted in them.
//!
//! What counts are deliveries between two readings of the clock and of the broker's processor time.
//! Sending ends with the second; what is on its way then is waited for. Lost, duplicated and out of order
//! count for what was on its way at the first reading or was sent later, latency for what was sent
//! between the two.

use anyhow::{Context, Result, bail};

use super::Progress;
use super::clock::{self, Broker, SECOND};
use super::engine::Engine;
use super::filters;
use super::opening::Opening;
use super::packet::Welcome;
use super::publisher::{Publisher, STAMP};
use super::syncs::{since, syncs};
use super::window::Window;
use crate::order::{Order, Pace, Shape, Traffic, Version};
use crate::reply::{Durable, Measurement};

/// What is on its way in the end is waited for as long as something comes so often,
const SILENCE: u64 = 2 * SECOND;
/// but no longer than this,
const LONGEST_DRAIN: u64 = 30 * SECOND;
/// and when all is there this long, for what comes twice.
const GRACE: u64 = SECOND / 20;
/// The most messages of a publisher that an open loop has on their way.
const OPEN_LOOP: u32 = 1 << 13;

/// Opens the connections, sends, and says what it has cost.
pub(super) fn traffic(
    order: &Order,
    traffic: &Traffic,
    broker: &Broker,
    progress: Progress<'_>,
) -> Result<Measurement> {
    check(traffic)?;
    progress("connecting");
    let mut engine = open(order, traffic, progress)?;

    let start = clock::now();
    engine.start(traffic.pace, start)?;
    let end = start + clock::nanoseconds(order.warm_up);
    engine.run_until(end, |_| progress("warming up"))?;

    let syncs_before = syncs(order.metrics)?;
    engine.count_from_now();
    let began = clock::now();
    let (broker_cpu, load_cpu) = (broker.cpu()?, clock::own()?);
    let (before, acknowledged) = (engine.ledger().deliveries(), engine.acknowledged());
    engine.latencies().count_from(began);
    let end = began + clock::nanoseconds(order.seconds);
    engine.run_until(end, |deliveries| {
        let deliveries = deliveries - before;
        progress(&format!("measuring, {deliveries} deliveries"));
    })?;
    let ended = clock::now();
    let (broker_cpu, load_cpu) = (broker.cpu()? - broker_cpu, clock::own()? - load_cpu);
    let resident = broker.resident()?;
    let deliveries = engine.ledger().deliveries() - before;
    let acknowledged = engine.acknowledged() - acknowledged;
    engine.latencies().count_to(ended);
    let syncs_after = syncs(order.metrics)?;

    progress(&format!("draining, {} messages", engine.ledger().open()));
    engine.stop();
    drain(&mut engine, ended)?;
    let unsent = engine.unsent();
    if unsent > 0 {
        progress(&format!("{unsent} messages could not be sent"));
    }
    if let Some(code) = engine.refused() {
        progress(&format!("the broker refused publishes, code {code:#04x}"));
    }
    let ledger = engine.ledger();
    let unacknowledged = ledger.unacknowledged();
    if unacknowledged > 0 && ledger.lost() == 0 {
        // It has stopped publishers, and no figure would say so.
        bail!("the broker did not acknowledge {unacknowledged} publishes");
    }
    Ok(Measurement {
        seconds: clock::seconds(ended - began),
        deliveries,
        broker_cpu: clock::seconds(broker_cpu),
        load_cpu: clock::seconds(load_cpu),
        resident,
        lost: ledger.lost() + unsent * u64::from(receivers_of_each(traffic)),
        duplicated: ledger.duplicated(),
        out_of_order: ledger.out_of_order(),
        latency: engine.latencies().quantiles(),
        durable: traffic.durable.then(|| Durable {
            acknowledged,
            seconds: clock::seconds(ended - began),
            bytes: Publisher::new(0, traffic).kept() as u64,
            syncs: since(syncs_before, syncs_after),
            disk: None,
        }),
        ..Measurement::default()
    })
}

/// Waits for what is on its way.
fn drain(engine: &mut Engine, ended: u64) -> Result<()> {
    loop {
        let now = clock::now();
        let is_all = engine.unsent() == 0 && engine.ledger().open() == 0;
        let patience = if is_all && engine.ledger().lost() == 0 {
            GRACE
        } else {
            SILENCE
        };
        let quiet = now.saturating_sub(engine.last().max(ended));
        if quiet >= patience || now - ended >= LONGEST_DRAIN {
            return Ok(());
        }
        engine.run_until(now + GRACE / 10, |_| {})?;
    }
}

fn open(order: &Order, traffic: &Traffic, progress: Progress<'_>) -> Result<Engine> {
    let opening = Opening::ordered(order, traffic.version)?;
    let mut engine = Engine::new(traffic)?;
    let subscribing = Opening::ordered(order, traffic.version)?;
    let subscribing = match traffic.durable {
        true => subscribing.kept(),
        false => subscribing,
    };
    for number in 0..traffic.subscribers {
        let mut opened = subscribing.open("subscriber", number)?;
        let filter = filters::of_subscriber(traffic, number);
        opened
            .subscribe(vec![filter], traffic.qos)
            .with_context(|| format!("connection {number} (subscriber)"))?;
        engine.add_subscriber(opened.into_link()?)?;
    }
    for (number, filters) in (0..).zip(filters::idle(traffic)) {
        let mut opened = opening.open("idle", number)?;
        opened
            .subscribe(filters, 0)
            .with_context(|| format!("connection {number} (idle filters)"))?;
        engine.add_idle(opened.into_link()?)?;
    }
    add_publishers(
        &mut engine,
        &opening,
        traffic,
        receivers_of_each(traffic),
        progress,
    )?;
    Ok(engine)
}

/// Opens the connections of publishers whose messages have so many receivers each.
pub(super) fn add_publishers(
    engine: &mut Engine,
    opening: &Opening,
    traffic: &Traffic,
    receivers: u32,
    progress: Progress<'_>,
) -> Result<()> {
    let wanted = match traffic.pace {
        Pace::Window(window) => window,
        Pace::Rate(_) => OPEN_LOOP,
    };
    for number in 0..traffic.publishers {
        let opened = opening.open("publisher", number)?;
        let welcome = opened.welcome();
        let publisher = Publisher::new(number, traffic);
        fits(welcome, traffic, publisher.largest())?;
        let limit = match traffic.qos {
            0 => wanted,
            _ => wanted.min(welcome.receive_maximum.into()),
        };
        if number == 0 && limit < wanted && matches!(traffic.pace, Pace::Window(_)) {
            progress(&format!("the broker lowers the window to {limit}"));
        }
        let window = Window::new(limit, receivers, traffic.qos);
        engine.add_publisher(opened.into_link()?, publisher, window)?;
    }
    Ok(())
}

/// How many receivers each message has.
fn receivers_of_each(traffic: &Traffic) -> u32 {
    match traffic.shape {
        Shape::Pairs | Shape::Shared => 1,
        Shape::All => traffic.subscribers,
    }
}

/// Whether the order makes sense.
pub(super) fn check(traffic: &Traffic) -> Result<()> {
    if traffic.publishers == 0 || traffic.subscribers == 0 || traffic.topics == 0 {
        bail!("traffic needs publishers, subscribers and topics");
    }
    if traffic.shape == Shape::Pairs && traffic.publishers != traffic.subscribers {
        bail!("pairs are as many publishers as subscribers");
    }
    if traffic.qos > 2 {
        bail!("there is no QoS {}", traffic.qos);
    }
    if (traffic.payload as usize) < STAMP {
        bail!("the payload needs {STAMP} bytes to tell a message");
    }
    if traffic.properties && traffic.version == Version::V3 {
        bail!("MQTT 3.1.1 has no properties");
    }
    match traffic.pace {
        Pace::Window(0) | Pace::Rate(0) => bail!("a pace of nothing"),
        Pace::Window(window) if window > Window::MOST => {
            bail!("a window of more than {} messages", Window::MOST)
        }
        Pace::Window(_) | Pace::Rate(_) => {}
    }
    Ok(())
}

/// Whether the broker takes such messages.
fn fits(welcome: Welcome, traffic: &Traffic, largest: usize) -> Result<()> {
    if welcome.maximum_qos < traffic.qos {
        bail!("the broker takes QoS {} at most", welcome.maximum_qos);
    }
    if (welcome.maximum_packet as usize) < largest {
        let most = welcome.maximum_packet;
        bail!("the broker takes packets of {most} bytes, and {largest} are needed");
    }
    Ok(())
}

//! The `$SYS` tree: the gateway's own figures as retained messages, under the names that monitoring
//! tools know from mosquitto.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::message::Message;
use crate::time::Timestamp;
use crate::topic::TopicName;
use crate::worker::Worker;

/// The minutes that load averages look back.
const MINUTES: [u32; 3] = [1, 5, 15];

/// Publishes the tree. Holds what a figure per minute needs from one time to the next.
pub struct SysTree {
    bus: Arc<Bus>,
    version: String,
    started: Timestamp,
    last: Timestamp,
    loads: Vec<Load>,
}

/// One figure per minute, averaged over 1, 5 and 15 minutes as a Unix load average is: each new
/// value weighs in with 1 − e^(−interval / minutes).
struct Load {
    name: &'static str,
    read: fn(&Bus) -> u64,
    previous: u64,
    averages: [f64; 3],
}

impl SysTree {
    /// A tree for `bus`, of a gateway of this version that starts now.
    pub fn new(bus: Arc<Bus>, version: &str) -> Self {
        let now = bus.now();
        let load = |name, read: fn(&Bus) -> u64| Load {
            name,
            read,
            previous: read(&bus),
            averages: [0.0; 3],
        };
        let loads = vec![
            load("messages/received", |bus| bus.counters().received()),
            load("messages/sent", |bus| bus.counters().sent()),
            load("publish/dropped", |bus| bus.counters().drops.total()),
            load("bytes/received", |bus| bus.counters().bytes_received.get()),
            load("bytes/sent", |bus| bus.counters().bytes_sent.get()),
            load("connections", |bus| bus.counters().connects.get()),
        ];
        Self {
            bus,
            version: version.to_owned(),
            started: now,
            last: now,
            loads,
        }
    }

    /// Publishes every figure as it is now.
    pub fn publish(&mut self) {
        let bus = Arc::clone(&self.bus);
        bus.batch(|worker| {
            let now = worker.now();
            self.advance(now);
            let counters = bus.counters();
            let connected = counters.connections.get();
            let sessions = counters.sessions.get();
            let uptime = now.millis_since(self.started) / 1_000;
            put(&bus, worker, "version", &self.version);
            put(&bus, worker, "uptime", &format!("{uptime} seconds"));
            let figures: [(&str, u64); 20] = [
                ("clients/connected", connected),
                ("clients/disconnected", sessions.saturating_sub(connected)),
                ("clients/total", sessions),
                ("clients/maximum", counters.connections_peak.get()),
                ("clients/expired", counters.sessions_expired.get()),
                ("messages/received", counters.received()),
                ("messages/sent", counters.sent()),
                ("messages/stored", bus.pending_messages()),
                ("publish/messages/received", counters.received()),
                ("publish/messages/sent", counters.sent()),
                ("publish/messages/dropped", counters.drops.total()),
                (
                    "publish/bytes/received",
                    counters.payload_bytes_received.get(),
                ),
                ("publish/bytes/sent", counters.payload_bytes_sent.get()),
                ("bytes/received", counters.bytes_received.get()),
                ("bytes/sent", counters.bytes_sent.get()),
                ("subscriptions/count", counters.subscriptions.get()),
                ("retained messages/count", counters.retained_messages.get()),
                ("store/messages/bytes", bus.memory().used() as u64),
                ("store/retained/bytes", counters.retained_bytes.get()),
                ("packets/received", counters.packets_received.get()),
            ];
            for (name, value) in figures {
                put(&bus, worker, name, &value.to_string());
            }
            for load in &self.loads {
                for (minutes, average) in MINUTES.iter().zip(load.averages) {
                    let name = format!("load/{}/{minutes}min", load.name);
                    put(&bus, worker, &name, &format!("{average:.2}"));
                }
            }
        });
    }

    fn advance(&mut self, now: Timestamp) {
        let elapsed = Duration::from_millis(now.millis_since(self.last)).as_secs_f64() / 60.0;
        if elapsed == 0.0 {
            return;
        }
        self.last = now;
        for load in &mut self.loads {
            let total = (load.read)(&self.bus);
            let per_minute = total.saturating_sub(load.previous) as f64 / elapsed;
            load.previous = total;
            for (average, minutes) in load.averages.iter_mut().zip(MINUTES) {
                let weight = 1.0 - (-elapsed / f64::from(minutes)).exp();
                *average += weight * (per_minute - *average);
            }
        }
    }
}

impl std::fmt::Debug for SysTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SysTree")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn put(bus: &Bus, worker: &mut Worker, name: &str, value: &str) {
    let topic = format!("$SYS/broker/{name}");
    // The names above hold no wildcard.
    let Ok(topic) = TopicName::new(&topic) else {
        return;
    };
    let mut message = Message::new(topic, value.as_bytes());
    message.retain = true;
    // A refusal (the retained limit) was counted.
    let _ = bus.publish(worker, message);
}

//! The bus and the protocols around it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_api::{Health, Registry};
use tidegate_bus::{AllowAll, Bus, MemoryStore, SysTree, SystemClock};
use tidegate_mqtt::{Adapter, Listener};
use tokio::task::JoinSet;

use crate::config::{Config, Kind};
use crate::drain::Drain;
use crate::listeners::Bound;
use crate::metrics::Metrics;

/// How often the bus looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// Everything that serves clients.
#[derive(Debug)]
pub(crate) struct Gateway {
    bus: Arc<Bus>,
    mqtt: Arc<Adapter>,
    sys_interval: Duration,
    listeners: JoinSet<()>,
    housekeeping: JoinSet<()>,
}

impl Gateway {
    /// Makes the bus and adds its checks and counters.
    pub(crate) fn new(config: &Config, _health: &Health, registry: &mut Registry) -> Self {
        let bus = Bus::new(
            config.bus.clone(),
            Arc::new(MemoryStore::new()),
            // The configuration has seen to it that nobody but loopback is let in unasked.
            Arc::new(AllowAll),
            Arc::new(SystemClock::new()),
        );
        let mqtt = Adapter::new(Arc::clone(&bus), config.mqtt.clone());
        Metrics::register(&bus, &mqtt, registry);
        Self {
            bus,
            mqtt,
            sys_interval: config.telemetry.sys_interval,
            listeners: JoinSet::new(),
            housekeeping: JoinSet::new(),
        }
    }

    /// Recovers what is stored, then serves clients at `listeners` until the drain begins.
    pub(crate) async fn start(
        &mut self,
        listeners: Vec<Bound>,
        drain: &Drain,
    ) -> anyhow::Result<()> {
        self.housekeeping.spawn(keep_time(Arc::clone(&self.bus)));
        if !self.sys_interval.is_zero() {
            self.housekeeping
                .spawn(publish_sys(Arc::clone(&self.bus), self.sys_interval));
        }
        for listener in listeners {
            match listener.kind {
                Kind::Mqtt => {
                    let socket = Listener::new(listener.socket)?;
                    let adapter = Arc::clone(&self.mqtt);
                    let drain = drain.clone();
                    self.listeners.spawn(socket.serve(adapter, drain.begun()));
                }
            }
        }
        Ok(())
    }

    /// Waits until nobody is accepted any more, then sees the last client off.
    pub(crate) async fn drained(mut self) {
        while let Some(ended) = self.listeners.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "A listener failed.");
            }
        }
        self.mqtt.shut_down().await;
        self.housekeeping.shutdown().await;
    }
}

async fn keep_time(bus: Arc<Bus>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        bus.tick();
    }
}

async fn publish_sys(bus: Arc<Bus>, interval: Duration) {
    let mut tree = SysTree::new(bus, env!("CARGO_PKG_VERSION"));
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        tree.publish();
    }
}

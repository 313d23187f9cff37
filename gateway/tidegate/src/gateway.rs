//! The bus and the protocols around it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_api::Registry;
use tidegate_bus::{AllowAll, Bus, MemoryStore, SysTree, SystemClock};
use tidegate_mqtt::Adapter;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::drain::Drain;
use crate::listener::Listener;
use crate::listeners::Bound;
use crate::metrics::Metrics;
use crate::tls::Identities;

/// How often the bus looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// Everything that serves clients.
#[derive(Debug)]
pub(crate) struct Gateway {
    bus: Arc<Bus>,
    mqtt: Arc<Adapter>,
    sys_interval: Duration,
    bound: Vec<(Arc<Listener>, TcpListener)>,
    listeners: JoinSet<()>,
    housekeeping: JoinSet<()>,
}

impl Gateway {
    /// Makes the bus and what serves `listeners`, and adds their counters.
    pub(crate) fn new(
        config: &Config,
        listeners: Vec<Bound>,
        identities: &Identities,
        registry: &mut Registry,
    ) -> Self {
        let bus = Bus::new(
            config.bus.clone(),
            Arc::new(MemoryStore::new()),
            // The configuration has seen to it that nobody but loopback is let in unasked.
            Arc::new(AllowAll),
            Arc::new(SystemClock::new()),
        );
        let mqtt = Adapter::new(Arc::clone(&bus), config.mqtt.clone());
        let bound: Vec<_> = listeners
            .into_iter()
            .map(|Bound { config, socket, .. }| {
                let identity = identities.by_listener.get(&config.name).cloned();
                (Listener::new(config, &mqtt, identity), socket)
            })
            .collect();
        let listeners = bound.iter().map(|(listener, _)| Arc::clone(listener));
        Metrics::register(&bus, &mqtt, listeners.collect(), registry);
        Self {
            bus,
            mqtt,
            sys_interval: config.telemetry.sys_interval,
            bound,
            listeners: JoinSet::new(),
            housekeeping: JoinSet::new(),
        }
    }

    /// Recovers what is stored, then serves clients until the drain begins.
    pub(crate) fn start(&mut self, drain: &Drain) {
        self.housekeeping.spawn(keep_time(Arc::clone(&self.bus)));
        if !self.sys_interval.is_zero() {
            self.housekeeping
                .spawn(publish_sys(Arc::clone(&self.bus), self.sys_interval));
        }
        for (listener, socket) in self.bound.drain(..) {
            self.listeners.spawn(listener.serve(socket, drain.clone()));
        }
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

//! The bus and the protocols around it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_api::Check;
use tidegate_bus::{AllowAll, Bus, SysTree, SystemClock};
use tidegate_mqtt::Adapter;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::control::Control;
use crate::drain::Drain;
use crate::listener::Listener;
use crate::listeners::Bound;
use crate::metrics::Metrics;
use crate::store::Kept;
use crate::tls::Identities;

/// How often the bus looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// The bus with everything that was kept.
#[derive(Debug)]
pub(crate) struct Recovered {
    bus: Arc<Bus>,
    kept: Kept,
}

impl Recovered {
    /// Opens the store and takes up what is in it. That may take its time, and blocks.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let kept = Kept::open(config)?;
        let bus = Bus::new(
            config.bus.clone(),
            kept.as_store(),
            // The configuration has seen to it that nobody but loopback is let in unasked.
            Arc::new(AllowAll),
            Arc::new(SystemClock::new()),
        );
        bus.recover()?;
        kept.tell_recovered();
        Ok(Self { bus, kept })
    }
}

/// Everything that serves clients.
#[derive(Debug)]
pub(crate) struct Gateway {
    bus: Arc<Bus>,
    kept: Kept,
    /// Held for its drop.
    _control: Option<Control>,
    mqtt: Arc<Adapter>,
    sys_interval: Duration,
    bound: Vec<(Arc<Listener>, TcpListener)>,
    listeners: JoinSet<()>,
    housekeeping: JoinSet<()>,
}

impl Gateway {
    /// Makes what serves `listeners` over the bus; `metrics` are theirs from now on.
    pub(crate) fn new(
        config: &Config,
        recovered: Recovered,
        listeners: Vec<Bound>,
        identities: &Identities,
        metrics: &Metrics,
    ) -> Self {
        let Recovered { bus, kept } = recovered;
        let mqtt = Adapter::new(Arc::clone(&bus), config.mqtt.clone());
        let bound: Vec<_> = listeners
            .into_iter()
            .map(|Bound { config, socket, .. }| {
                let identity = identities.by_listener.get(&config.name).cloned();
                (Listener::new(config, &mqtt, identity), socket)
            })
            .collect();
        let listeners = bound.iter().map(|(listener, _)| Arc::clone(listener));
        metrics.begin(&bus, &kept, &mqtt, listeners.collect());
        Self {
            bus,
            _control: listen(config, &kept),
            kept,
            mqtt,
            sys_interval: config.telemetry.sys_interval,
            bound,
            listeners: JoinSet::new(),
            housekeeping: JoinSet::new(),
        }
    }

    /// Serves clients until the drain begins.
    ///
    /// The store's `check` is kept true from now on.
    pub(crate) fn start(&mut self, drain: &Drain, check: Check) {
        self.housekeeping.spawn(self.kept.clone().watch(check));
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
        self.kept.close().await;
    }
}

/// Answers `tidegate data`. Without it the gateway serves its clients as well.
fn listen(config: &Config, kept: &Kept) -> Option<Control> {
    let engine = kept.disk()?;
    let data_dir = &config.node.data_dir;
    match Control::listen(data_dir, engine) {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::warn!(%error, "No backup can be taken while the gateway runs.");
            None
        }
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

//! The bus and the protocols around it.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate_api::{Api, Check};
use tidegate_bus::{AllowAll, Bus, SysTree, SystemClock};
use tidegate_mqtt::Adapter;
use tidegate_quic::{Server, code};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::{self, Config};
use crate::control::Control;
use crate::drain::Drain;
use crate::listener::{Dtls, Listener};
use crate::listeners::{Bound, Socket};
use crate::metrics::Metrics;
use crate::store::Kept;
use crate::tls::Identities;

/// How often the bus looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// How long the last packets of QUIC connections may take.
const FAREWELL: Duration = Duration::from_secs(1);

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

/// What a listener serves at.
#[derive(Debug)]
enum Serving {
    Tcp(TcpListener),
    Quic(Arc<Server>),
    Coap(UdpSocket, tidegate_coap::Settings),
    Coaps(
        UdpSocket,
        tidegate_coap::Settings,
        Box<tidegate_dtls::Server>,
    ),
}

/// Everything that serves clients.
#[derive(Debug)]
pub(crate) struct Gateway {
    bus: Arc<Bus>,
    kept: Kept,
    /// Held for its drop.
    _control: Option<Control>,
    mqtt: Arc<Adapter>,
    api: Api,
    sys_interval: Duration,
    /// Connections that are told a second that the gateway leaves, and how long all of them take at most.
    shutdown: (u32, Duration),
    bound: Vec<(Arc<Listener>, Serving)>,
    quic: Vec<Arc<Server>>,
    coap: Vec<Arc<tidegate_coap::stream::Endpoint>>,
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
        api: Api,
    ) -> anyhow::Result<Self> {
        let Recovered { bus, kept } = recovered;
        let mqtt = Adapter::new(Arc::clone(&bus), config.mqtt.clone());
        let mut bound = Vec::with_capacity(listeners.len());
        let mut quic = Vec::new();
        for Bound {
            config: listener,
            socket,
            ..
        } in listeners
        {
            let identity = identities.by_listener.get(&listener.name).cloned();
            let (mut counts, mut dtls) = (None, None);
            let serving = match socket {
                Socket::Tcp(socket) => Serving::Tcp(socket),
                Socket::Udp(socket) if let Some(settings) = listener.coap.clone() => {
                    match secure(&listener, identities)? {
                        None => Serving::Coap(socket, settings),
                        Some((shown, server)) => {
                            dtls = Some(shown);
                            Serving::Coaps(socket, settings, server)
                        }
                    }
                }
                Socket::Udp(socket) => {
                    let server = crate::quic::server(config, &listener, identity.as_ref(), socket);
                    let server = server.with_context(|| format!("listener {}", listener.name))?;
                    counts = Some(Arc::clone(server.metrics()));
                    quic.push(Arc::clone(&server));
                    Serving::Quic(server)
                }
            };
            let listener = Listener::new(listener, &mqtt, identity, counts, dtls, &bus);
            bound.push((listener, serving));
        }
        let coap = bound
            .iter()
            .filter_map(|(listener, _)| listener.coap_stream.clone());
        let coap = coap.collect();
        let listeners = bound.iter().map(|(listener, _)| Arc::clone(listener));
        metrics.begin(&bus, &kept, &mqtt, &api, listeners.collect());
        api.begin(&bus, config.api.clone());
        Ok(Self {
            bus,
            _control: listen(config, &kept),
            kept,
            mqtt,
            api,
            sys_interval: config.telemetry.sys_interval,
            bound,
            quic,
            coap,
            shutdown: (
                config.mqtt.shutdown_disconnects_per_second,
                config.mqtt.shutdown_timeout,
            ),
            listeners: JoinSet::new(),
            housekeeping: JoinSet::new(),
        })
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
        for endpoint in &self.coap {
            let endpoint = Arc::clone(endpoint);
            self.housekeeping
                .spawn(async move { endpoint.keep_time().await });
        }
        for (listener, serving) in self.bound.drain(..) {
            let drain = drain.clone();
            match serving {
                Serving::Tcp(socket) => self.listeners.spawn(listener.serve(socket, drain)),
                Serving::Quic(server) => self.listeners.spawn(listener.serve_quic(server, drain)),
                Serving::Coap(socket, settings) => {
                    let bus = Arc::clone(&self.bus);
                    self.listeners
                        .spawn(listener.serve_coap(socket, bus, settings, drain))
                }
                Serving::Coaps(socket, settings, dtls) => {
                    let bus = Arc::clone(&self.bus);
                    self.listeners
                        .spawn(listener.serve_coaps(socket, bus, settings, dtls, drain))
                }
            };
        }
    }

    /// Completes when a listener has ended that nobody has told to: one that has failed.
    pub(crate) async fn listener_ends(&mut self) {
        match self.listeners.join_next().await {
            Some(Err(error)) => tracing::error!(%error, "A listener failed."),
            Some(Ok(())) => tracing::error!("A listener has ended."),
            None => std::future::pending().await,
        }
    }

    /// Waits until nobody is accepted any more, then sees the last client off.
    pub(crate) async fn drained(mut self) {
        while let Some(ended) = self.listeners.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "A listener failed.");
            }
        }
        tokio::join!(
            self.mqtt.shut_down(),
            self.api.shut_down(),
            release(&self.coap, self.shutdown),
        );
        for server in &self.quic {
            let closed = server.close(code::SERVER_SHUTTING_DOWN);
            // Who does not answer by then has lost its connection without a word.
            let _ = tokio::time::timeout(FAREWELL, closed).await;
        }
        self.housekeeping.shutdown().await;
        self.kept.close().await;
    }
}

/// The server side of DTLS, if the listener has it under CoAP.
fn secure(
    listener: &config::Listener,
    identities: &Identities,
) -> anyhow::Result<Option<(Dtls, Box<tidegate_dtls::Server>)>> {
    let Some(dtls) = &listener.dtls else {
        return Ok(None);
    };
    let named = || format!("listener {}", listener.name);
    let credentials = identities.of_dtls.get(&listener.name);
    let credentials = credentials.context("DTLS needs credentials");
    let shown = Dtls {
        credentials: Arc::clone(credentials.with_context(named)?),
        counters: Arc::default(),
    };
    let server = tidegate_dtls::Server::new(
        dtls.settings.clone(),
        Arc::clone(&shown.credentials),
        Arc::clone(&shown.counters),
        Instant::now(),
    );
    let server = server.with_context(named)?;
    Ok(Some((shown, Box::new(server))))
}

/// Ends all connections that CoAP is spoken over. What has not closed in time is closed by the end of the process.
async fn release(endpoints: &[Arc<tidegate_coap::stream::Endpoint>], shutdown: (u32, Duration)) {
    let (per_second, timeout) = shutdown;
    let all = async {
        for endpoint in endpoints {
            endpoint.shut_down(per_second).await;
        }
    };
    let _ = tokio::time::timeout(timeout, all).await;
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

//! The gateway's life: bind, start, say so, serve, drain, end.

use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_api::{Api, Health, Registry};
use tokio::sync::oneshot;

use crate::banner::banner;
use crate::cli::RunArguments;
use crate::config::Config;
use crate::drain;
use crate::exit::Exit;
use crate::gateway::{Gateway, Recovered};
use crate::http::Http;
use crate::listeners::Listeners;
use crate::metrics::Metrics;
use crate::signals::{Hangups, Signals};
use crate::tls::Identities;
use crate::{logging, open_files, ready_file};

/// Age of the last heartbeat at which the event loop counts as stuck.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(10);

/// `tidegate run`.
pub(crate) fn run(arguments: RunArguments) -> Exit {
    let config = match arguments.config.into_sources().load() {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            eprintln!("error: {problems}");
            return Exit::Usage;
        }
    };
    logging::start(&config.telemetry);
    open_files::raise_limit(config.mqtt.max_connections);
    match start(config, arguments.ready_file.as_deref()) {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("The gateway ends: {error:#}.");
            Exit::Failed
        }
    }
}

fn start(config: Config, ready_file: Option<&Path>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(live(config, ready_file))
}

/// From the first socket to the last.
async fn live(config: Config, ready_file: Option<&Path>) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("signals cannot be listened to")?;
    let hangups = Hangups::listen().context("SIGHUP cannot be listened to")?;
    if let Some(path) = ready_file {
        ready_file::remove_stale(path).with_context(|| cannot_be_written(path))?;
    }
    let data_dir = &config.node.data_dir;
    prepare(data_dir)?;

    let identities = Identities::load(&config)?;
    let listeners = Listeners::bind(&config)?;
    let up = banner(&listeners.lines());
    let ready = listeners.ready();

    let health = Health::new(HEARTBEAT_LIMIT);
    let listening = health.check("listeners");
    let store = health.check("store");
    let mut registry = Registry::default();
    tidegate_api::register_process(&mut registry, env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let api = Api::default();
    let http = Http::start(listeners.http, health.clone(), registry, api.clone());
    tokio::spawn({
        let health = health.clone();
        async move { health.keep_beating().await }
    });
    let recovered = tokio::select! {
        recovered = recover(config.clone()) => recovered?,
        stop = signals.next() => {
            tracing::info!(signal = stop.name, "The gateway ends before it was up.");
            return Ok(());
        }
    };
    let mut gateway = Gateway::new(
        &config,
        recovered,
        listeners.protocols,
        &identities,
        &metrics,
        api,
    )?;
    store.pass();
    let (drain_trigger, drain) = drain::channel();
    gateway.start(&drain, store);
    listening.pass();
    let certificates = identities.watch(health.check("certificates"))?;
    let certificates = tokio::spawn(certificates.keep(hangups));
    health.finish_startup();
    if let Some(path) = ready_file {
        ready.write(path).with_context(|| cannot_be_written(path))?;
    }
    // Nobody has to read it.
    let _ = io::stdout().write_all(up.as_bytes());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "The gateway is up.");

    let stop = loop {
        tokio::select! {
            stop = signals.next() => break stop,
            // The others go on, and new clients are sent elsewhere.
            () = gateway.listener_ends() => listening.fail("a listener has ended; the log says why"),
        }
    };
    signals.exit_at_next();
    tracing::info!(signal = stop.name, "The gateway drains.");
    drain_trigger.begin();
    gateway.drained().await;
    certificates.abort();
    http.stop().await;
    tracing::info!("The gateway has drained and ends.");
    Ok(())
}

/// Takes up what was kept, on a thread of its own: probes are answered meanwhile, and the process can end
/// without waiting for it.
async fn recover(config: Config) -> anyhow::Result<Recovered> {
    let (sender, recovered) = oneshot::channel();
    thread::Builder::new()
        .name("recovery".to_owned())
        .spawn(move || {
            // Nobody waits any more when the process ends.
            let _ = sender.send(Recovered::open(&config));
        })
        .context("a thread cannot be started")?;
    recovered.await.context("the recovery has failed")?
}

/// Makes the data directory and sees to it that it can be written to: better told now than when the
/// first thing has to be kept.
fn prepare(data_dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("the data directory {} cannot be made", data_dir.display()))?;
    let probe = data_dir.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| {
            format!(
                "the data directory {} cannot be written to",
                data_dir.display()
            )
        })
}

fn cannot_be_written(path: &Path) -> String {
    format!("the ready file {} cannot be written", path.display())
}

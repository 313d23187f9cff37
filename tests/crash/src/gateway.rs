//! The gateway, started again and again on one directory and one port.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_tests::{free_port, get, tidegate};

use crate::proxy::Proxy;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// So much room that nothing is refused or dropped for want of it.
const SETTINGS: [&str; 14] = [
    "listeners.mqtts.enabled=false",
    "listeners.ws.enabled=false",
    "listeners.wss.enabled=false",
    "listeners.quic.enabled=false",
    "listeners.coap.enabled=false",
    "listeners.coaps.enabled=false",
    "listeners.coap_tcp.enabled=false",
    "listeners.coaps_tcp.enabled=false",
    "http.bind=127.0.0.1:0",
    "limits.max_queued_messages=1000000000",
    "limits.max_queued_size=1TiB",
    "limits.max_memory=8GiB",
    "limits.max_inflight=64",
    "telemetry.log=debug",
];

/// What a crash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// SIGKILL.
    Kill,
    /// All connections are cut, and the gateway goes on: it has forgotten nothing, so a rule that is broken
    /// has nothing to do with what is on disk.
    Cut,
}

/// The gateway and where it keeps what it has.
pub(crate) struct Gateway {
    directory: PathBuf,
    crash: Crash,
    /// Where the clients find it.
    address: SocketAddr,
    /// Where it listens: the same, but for a proxy.
    own: SocketAddr,
    child: Option<Child>,
    proxy: Option<Proxy>,
    starts: usize,
}

impl Gateway {
    /// Not yet started. Its data, its log and its ready file are in `directory`.
    pub(crate) fn new(directory: &Path, crash: Crash) -> Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, free_port()?).into();
        let own = match crash {
            Crash::Kill => address,
            Crash::Cut => (Ipv4Addr::LOCALHOST, free_port()?).into(),
        };
        Ok(Self {
            directory: directory.to_owned(),
            crash,
            address,
            own,
            child: None,
            proxy: None,
            starts: 0,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn log(&self) -> PathBuf {
        self.directory.join("gateway.log")
    }

    fn ready_file(&self) -> PathBuf {
        self.directory.join("ready.json")
    }

    /// Starts the process.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        self.starts += 1;
        if self.ready_file().exists() {
            fs::remove_file(self.ready_file())?;
        }
        let mut log = File::options().create(true).append(true).open(self.log())?;
        writeln!(log, "---- start {} ----", self.starts)?;
        let mut command = Command::new(tidegate());
        command
            .arg("run")
            .args(["--set", &format!("listeners.mqtt.bind={}", self.own)]);
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        let child = command
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .arg("--ready-file")
            .arg(self.ready_file())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the gateway cannot be started")?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it is ready.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.told().is_none() {
            self.lives()?;
            if Instant::now() >= end {
                bail!(
                    "the gateway is not ready after {PATIENCE:?}{}",
                    self.end_of_log()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
        if self.crash == Crash::Cut {
            self.proxy = Some(Proxy::listen(self.address, self.own)?);
        }
        Ok(())
    }

    /// What the ready file says of the process that runs.
    fn told(&self) -> Option<serde_json::Value> {
        let told: serde_json::Value =
            serde_json::from_slice(&fs::read(self.ready_file()).ok()?).ok()?;
        let pid = u64::from(self.child.as_ref()?.id());
        (told["pid"].as_u64() == Some(pid)).then_some(told)
    }

    /// Fails if it has ended by itself.
    pub(crate) fn lives(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.child = None;
            bail!(
                "the gateway ended by itself, with {status}{}",
                self.end_of_log()
            );
        }
        Ok(())
    }

    /// The crash; when this returns, nobody is connected any more.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.lives()?;
        if self.crash == Crash::Cut {
            self.proxy = None;
        } else if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Keeps what it says about itself beside its log, for whoever looks at a failure.
    pub(crate) fn keep_metrics(&self) {
        let address = self.told().and_then(|told| {
            let address = told["listeners"]["http"]["address"].as_str()?.parse();
            address.ok()
        });
        if let Some(address) = address {
            let metrics = get(address, "/metrics").body;
            // It is one help among several.
            let _ = fs::write(self.directory.join("metrics"), metrics);
        }
    }

    /// Fails if it has panicked at any time.
    pub(crate) fn has_not_panicked(&self) -> Result<()> {
        let log = fs::read(self.log())?;
        let log = String::from_utf8_lossy(&log);
        match log.lines().find(|line| line.contains("panicked at")) {
            Some(line) => bail!("the gateway has panicked: {line}"),
            None => Ok(()),
        }
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        format!("; its log ends with\n{}", last.join("\n"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

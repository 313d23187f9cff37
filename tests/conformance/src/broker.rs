//! Brokers that the suite is run against, each as a process of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tidegate_tests::{Gateway, Process, Server, Transport, mosquitto, rumqttd};

use crate::case::Target;

/// How long a broker may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that can be started as often as one likes.
#[derive(Clone, Debug)]
pub enum Broker {
    /// The gateway, over one of its listeners.
    Tidegate(Transport),
    /// Eclipse Mosquitto, where it is installed: its binary and version.
    Mosquitto(PathBuf, String),
    /// rumqttd, by our binary that runs it, and its version.
    Rumqttd(PathBuf, String),
}

/// A broker that runs; it ends when this is dropped.
pub struct Instance {
    target: Target,
    _running: Running,
}

enum Running {
    Gateway(#[expect(dead_code, reason = "is to be dropped")] Gateway),
    Process(#[expect(dead_code, reason = "is to be dropped")] Process),
}

impl Instance {
    /// Where it is.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl Broker {
    /// The mosquitto that is installed.
    #[must_use]
    pub fn mosquitto() -> Option<Self> {
        let (binary, version) = mosquitto()?;
        Some(Self::Mosquitto(binary, version))
    }

    /// rumqttd by the binary `rumqttd-peer` beside this program, where cargo puts both.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn rumqttd() -> Result<Self> {
        let (binary, version) = rumqttd()?;
        Ok(Self::Rumqttd(binary, version))
    }

    /// What the document calls it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tidegate(transport) => format!("tidegate over {}", transport.scheme()),
            Self::Mosquitto(_, version) => format!("mosquitto {version}"),
            Self::Rumqttd(_, version) => format!("rumqttd {version}"),
        }
    }

    /// Starts it on free ports of the loopback and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(&self) -> Result<Instance> {
        match self {
            Self::Tidegate(transport) => {
                let gateway = Gateway::start();
                let server = gateway.listener(transport.scheme(), *transport);
                Ok(Instance {
                    target: Target::at(server),
                    _running: Running::Gateway(gateway),
                })
            }
            Self::Mosquitto(binary, _) => {
                // The file is all of its configuration: what is not said is mosquitto's default.
                let (process, [address]) = Process::launch(PATIENCE, |directory, [address]| {
                    let file = directory.join("mosquitto.conf");
                    let text = format!(
                        "listener {} {}\nallow_anonymous true\n",
                        address.port(),
                        address.ip()
                    );
                    fs::write(&file, text)?;
                    let mut command = Command::new(binary);
                    command.arg("-c").arg(file);
                    Ok(command)
                })?;
                Ok(Instance {
                    target: Target::at(address.into()),
                    _running: Running::Process(process),
                })
            }
            Self::Rumqttd(binary, _) => {
                let (process, [v4, v5]) = Process::launch(PATIENCE, |_, [v4, v5]| {
                    let mut command = Command::new(binary);
                    command.args(["--v4", &v4.to_string(), "--v5", &v5.to_string()]);
                    Ok(command)
                })?;
                let [v3, v5] = [v4, v5].map(Server::from);
                Ok(Instance {
                    target: Target { v3, v5 },
                    _running: Running::Process(process),
                })
            }
        }
    }
}

//! Brokers that the suite is run against, each as a process of its own.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tidegate_tests::{Gateway, Server, Transport};

use crate::case::Target;
use crate::results::workspace;

/// How long a broker may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The version of a package that is locked for the workspace.
fn locked(package: &str) -> String {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap_or_default();
    let (_, rest) = lock
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .unwrap_or_default();
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// Ports are given out anew after so many: the brokers that had the first ones have long ended.
const MOST_GIVEN: usize = 10_000;

/// A broker that can be started as often as one likes.
#[derive(Clone, Debug)]
pub enum Broker {
    /// The gateway, over one of its listeners.
    Tidegate(Transport),
    /// Eclipse Mosquitto, where it is installed: its binary and version.
    Mosquitto(PathBuf, String),
    /// rumqttd, by our binary that runs it.
    Rumqttd(PathBuf),
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

/// A process with a directory of its own.
struct Process {
    child: Child,
    _directory: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is fine: what matters is that it runs no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let path = env::var_os("PATH").unwrap_or_default();
        // Debian has it where the search path of users does not look.
        let binary = env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|directory| directory.join("mosquitto"))
            .find(|file| file.is_file())?;
        // `-h` begins with: mosquitto version 2.0.11
        let output = Command::new(&binary).arg("-h").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text
            .split_whitespace()
            .nth(2)
            .unwrap_or("unknown")
            .to_owned();
        Some(Self::Mosquitto(binary, version))
    }

    /// rumqttd by the binary `rumqttd-peer` beside this program, where cargo puts both.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn rumqttd() -> Result<Self> {
        let own = env::current_exe()?;
        // A test's executable is in `deps`, one below.
        let candidates = own.ancestors().skip(1).take(2);
        let binary = candidates
            .map(|directory| directory.join("rumqttd-peer"))
            .find(|file| file.is_file());
        match binary {
            Some(binary) => Ok(Self::Rumqttd(binary)),
            None => bail!("no rumqttd-peer beside {}: build it first", own.display()),
        }
    }

    /// What the document calls it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tidegate(transport) => format!("tidegate over {}", transport.scheme()),
            Self::Mosquitto(_, version) => format!("mosquitto {version}"),
            Self::Rumqttd(_) => format!("rumqttd {}", locked("rumqttd")),
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
                let (process, [address]) = launch(binary, |directory, [address]| {
                    let file = directory.join("mosquitto.conf");
                    let text = format!(
                        "listener {} {}\nallow_anonymous true\n",
                        address.port(),
                        address.ip()
                    );
                    fs::write(&file, text)?;
                    Ok(vec!["-c".into(), file.into_os_string()])
                })?;
                Ok(Instance {
                    target: Target::at(address.into()),
                    _running: Running::Process(process),
                })
            }
            Self::Rumqttd(binary) => {
                let (process, [v4, v5]) = launch(binary, |_, [v4, v5]| {
                    let [v4, v5] = [v4, v5].map(|address| address.to_string().into());
                    Ok(vec!["--v4".into(), v4, "--v5".into(), v5])
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

type Arguments = Vec<std::ffi::OsString>;

/// Starts a program that is told its addresses. Ports that are free when they are looked up may be
/// taken when the program binds them: then it ends, and is started with others.
fn launch<const N: usize>(
    binary: &Path,
    arguments: impl Fn(&Path, [SocketAddr; N]) -> Result<Arguments>,
) -> Result<(Process, [SocketAddr; N])> {
    let mut last = None;
    for _ in 0..5 {
        let addresses = free_addresses()?;
        let directory = TempDir::with_prefix("tidegate-peer-")?;
        let arguments = arguments(directory.path(), addresses)?;
        let child = Command::new(binary)
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{}", binary.display()))?;
        let mut process = Process {
            child,
            _directory: directory,
        };
        match ready(&mut process.child, &addresses) {
            Ok(()) => return Ok((process, addresses)),
            Err(error) => last = Some(error),
        }
    }
    let name = binary.file_name().unwrap_or(OsStr::new("it")).display();
    Err(last.unwrap_or_else(|| anyhow::anyhow!("{name} does not start")))
}

fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    /// Ports that were given out: a broker that was told one may not have bound it yet.
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        loop {
            let found = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
            if given.len() > MOST_GIVEN {
                given.clear();
            }
            if given.insert(found.port()) {
                *address = found;
                break;
            }
        }
    }
    Ok(addresses)
}

fn ready(child: &mut Child, addresses: &[SocketAddr]) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    for address in addresses {
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status} before it listened at {address}");
            }
            if Instant::now() >= end {
                bail!("it did not listen at {address} within {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    // Somebody else may have got the port, and the broker ended for that.
    match child.try_wait()? {
        Some(status) => bail!("it ended with {status}"),
        None => Ok(()),
    }
}

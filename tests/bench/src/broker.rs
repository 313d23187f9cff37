//! The brokers that are compared: each is started anew for every scenario and round, with one listener,
//! on a free port of the loopback.
//!
//! What a broker is told beyond its defaults is here and nowhere else, and is part of the report
//! ([`Broker::told`]).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tidegate_tests::certificates::{Authority, Request};
use tidegate_tests::{Process, mosquitto, rumqttd};

/// How long a broker may take to end before it is killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A broker that can be started as often as one likes.
#[derive(Clone, Debug)]
pub struct Broker {
    /// What the report calls it.
    pub name: String,
    /// Its version, as far as it says one.
    pub version: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Tidegate { binary: PathBuf, given: bool },
    Mosquitto(PathBuf),
    Rumqttd(PathBuf),
    Peer { port: u16, command: String },
}

/// What carries MQTT to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    WebSocket,
    /// QUIC.
    Quic,
    /// Nothing: CoAP over UDP is spoken instead.
    Coap,
}

impl Carrier {
    /// The scheme of a URL with it.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::WebSocket => "ws",
            Self::Quic => "quic",
            Self::Coap => "coap",
        }
    }
}

/// What is asked of a broker that is started.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// What carries MQTT.
    pub carrier: Carrier,
    /// What it shows.
    pub certificate: &'a Certificate,
    /// Where it must keep what it acknowledges, if it must: it goes on with what is there.
    pub data: Option<&'a Path>,
    /// How long it may take to listen.
    pub patience: Duration,
}

/// The certificate that every broker shows.
pub struct Certificate {
    directory: TempDir,
}

impl Certificate {
    /// Makes an authority and a certificate for localhost.
    ///
    /// # Errors
    ///
    /// If there is no room for the files.
    pub fn new() -> Result<Self> {
        let directory = TempDir::with_prefix("tidegate-bench-")?;
        let authority = Authority::new("Benchmark authority");
        fs::write(directory.path().join("ca.crt"), authority.pem())?;
        authority
            .issue(&Request::server(&["localhost", "127.0.0.1"]))
            .write(directory.path(), "server");
        Ok(Self { directory })
    }

    /// The file of the authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The file of the certificate.
    fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    /// The file of its key.
    fn key(&self) -> PathBuf {
        self.directory.path().join("server.key")
    }
}

/// A broker that runs.
#[derive(Debug)]
pub struct Instance {
    /// Where it speaks MQTT 3.1.1.
    pub v3: SocketAddr,
    /// Where it speaks MQTT 5.0.
    pub v5: SocketAddr,
    /// Where it shows its metrics, if it was told to.
    pub metrics: Option<SocketAddr>,
    process: Process,
}

/// Why there is no instance.
#[derive(Debug)]
pub enum NotStarted {
    /// It cannot do what is asked for.
    NotCompared(String),
    /// It should, but did not.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for NotStarted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Instance {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How the broker ended by itself and the last that it wrote, if it has ended or does so within
    /// `patience`.
    pub fn ended_within(&mut self, patience: Duration) -> Option<String> {
        let status = self.process.ended_within(patience).ok().flatten()?;
        let log = self.process.log();
        let last = log.trim_end().lines().last().unwrap_or("nothing");
        Some(format!("the broker ended with {status} and wrote: {last}"))
    }

    /// Ends it without a word, as a crash would.
    pub fn kill(self) {
        // A process that is dropped is killed, and waited for.
        drop(self.process);
    }

    /// Ends it: by request, and if that is not heard by force.
    ///
    /// # Errors
    ///
    /// If the kernel does not say what became of it.
    pub fn end(self) -> Result<()> {
        self.process.end(FAREWELL)
    }
}

impl Broker {
    /// The gateway by this binary; it may be one that was `given`, of another commit than the tree's.
    ///
    /// # Errors
    ///
    /// If it does not tell its version.
    pub fn tidegate(name: &str, binary: &Path, given: bool) -> Result<Self> {
        let binary = fs::canonicalize(binary).with_context(|| format!("{}", binary.display()))?;
        let output = Command::new(&binary).arg("--version").output();
        let output = output.with_context(|| format!("{}", binary.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // `--version` says: tidegate 0.1.0
        let version = text.split_whitespace().nth(1);
        let version = version.with_context(|| format!("{} is no gateway", binary.display()))?;
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            kind: Kind::Tidegate { binary, given },
        })
    }

    /// Eclipse Mosquitto, where it is installed.
    #[must_use]
    pub fn mosquitto() -> Option<Self> {
        let (binary, version) = mosquitto()?;
        Some(Self {
            name: "mosquitto".to_owned(),
            version,
            kind: Kind::Mosquitto(binary),
        })
    }

    /// rumqttd, by the binary `rumqttd-peer` beside this program.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn rumqttd() -> Result<Self> {
        let (binary, version) = rumqttd()?;
        Ok(Self {
            name: "rumqttd".to_owned(),
            version,
            kind: Kind::Rumqttd(binary),
        })
    }

    /// Any other: `NAME=PORT=COMMAND`.
    ///
    /// # Errors
    ///
    /// If the text is not of this form.
    pub fn peer(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '=').map(str::trim);
        let (Some(name), Some(port), Some(command)) = (parts.next(), parts.next(), parts.next())
        else {
            bail!("expected NAME=PORT=COMMAND, not {text}");
        };
        ensure!(!name.is_empty(), "{text}: no name");
        ensure!(!command.is_empty(), "{text}: no command");
        let port: u16 = port
            .parse()
            .with_context(|| format!("{port} is no port, in {text}"))?;
        Ok(Self {
            name: name.to_owned(),
            version: String::new(),
            kind: Kind::Peer {
                port,
                command: command.to_owned(),
            },
        })
    }

    /// Whether it is a build of the gateway, of which the targets are asked.
    #[must_use]
    pub fn is_tidegate(&self) -> bool {
        matches!(self.kind, Kind::Tidegate { .. })
    }

    /// What it is told beyond its defaults, and why.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        match &self.kind {
            Kind::Tidegate { given, .. } => {
                let told = "nothing but where to listen, its directory and its certificate";
                let build = "a binary that was given: the commit above need not be its own";
                let mut all = vec![told.to_owned()];
                let queues = DURABLE.iter();
                all.extend(queues.map(|(setting, why)| format!("`{setting}`: {why}")));
                all.push(format!("`{}`: {}", COAP.0, COAP.1));
                all.extend(given.then(|| build.to_owned()));
                all
            }
            Kind::Mosquitto(_) => MOSQUITTO
                .iter()
                .map(|(setting, why)| format!("`{setting}`: {why}"))
                .collect(),
            Kind::Rumqttd(_) => vec![
                "what its own `rumqttd.toml` says, with room for 10,010 connections and payloads of \
                 20 KiB, without console and metrics (`tests/rumqttd-peer`)"
                    .to_owned(),
            ],
            Kind::Peer { command, .. } => vec![format!("started by `{command}`")],
        }
    }

    /// Starts it on the loopback with one listener and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it cannot do this, or does not listen within `patience`; what it wrote is part of the error.
    pub fn start(&self, start: Start<'_>) -> Result<Instance, NotStarted> {
        let Start {
            carrier, patience, ..
        } = start;
        let durable = |why: &str| match start.data {
            None => Ok(()),
            Some(_) => Err(NotStarted::NotCompared(why.to_owned())),
        };
        match &self.kind {
            Kind::Tidegate { binary, .. } => tidegate(binary, start),
            Kind::Mosquitto(binary) => {
                durable("it acknowledges what is not on the disk yet")?;
                start_mosquitto(binary, start)
            }
            Kind::Rumqttd(binary) => {
                durable("it keeps nothing on the disk")?;
                only_tcp(
                    carrier,
                    "our build of rumqttd is without TLS and WebSocket, and it speaks neither QUIC nor CoAP",
                )?;
                let (process, [v3, v5]) = Process::launch(patience, |_, [v3, v5]| {
                    let mut command = Command::new(binary);
                    command.args(["--v4", &v3.to_string(), "--v5", &v5.to_string()]);
                    Ok(command)
                })?;
                Ok(Instance {
                    v3,
                    v5,
                    metrics: None,
                    process,
                })
            }
            Kind::Peer { port, command } => {
                durable("of a peer that was given it is not known when it acknowledges")?;
                only_tcp(carrier, "of a peer that was given only TCP is known")?;
                peer(*port, command, patience)
            }
        }
    }
}

fn only_tcp(carrier: Carrier, why: &str) -> Result<(), NotStarted> {
    match carrier {
        Carrier::Tcp => Ok(()),
        Carrier::Tls | Carrier::WebSocket | Carrier::Quic | Carrier::Coap => {
            Err(NotStarted::NotCompared(why.to_owned()))
        }
    }
}

/// What the gateway is told where what it acknowledges must be kept, and why.
const DURABLE: [(&str, &str); 2] = [
    (
        "limits.max_queued_messages=2000000",
        "in the durable scenarios, one of which has 1,000,000 messages wait for one client: by default 10,000 do",
    ),
    ("limits.max_queued_size=1GiB", "the same in bytes"),
];

/// What the gateway is told where CoAP is spoken, and why.
const COAP: (&str, &str) = (
    "listeners.coap.coap.max_exchanges=10000000",
    "over CoAP, where each publish is remembered for 247 seconds (RFC 7252 section 4.8.2); by default 100,000 are",
);

/// The file by which the gateway says that it listens, where that cannot be tried.
const READY: &str = "ready.json";

fn tidegate(binary: &Path, start: Start<'_>) -> Result<Instance, NotStarted> {
    let Start {
        carrier,
        certificate,
        ..
    } = start;
    let command = |data: &Path, address: SocketAddr, http: Option<SocketAddr>| {
        let mut command = Command::new(binary);
        command.arg("run").arg("--data-dir").arg(data);
        let mut set = |setting: String| {
            command.args(["--set", &setting]);
        };
        match http {
            None => set("http.enabled=false".to_owned()),
            Some(http) => {
                set(format!("http.bind={http}"));
                for (setting, _) in DURABLE {
                    set(setting.to_owned());
                }
            }
        }
        let listeners = [
            "mqtt",
            "mqtts",
            "ws",
            "wss",
            "quic",
            "coap",
            "coaps",
            "coap_tcp",
            "coaps_tcp",
        ];
        for listener in listeners {
            if listener == carrier.scheme() {
                set(format!("listeners.{listener}.bind={address}"));
            } else {
                set(format!("listeners.{listener}.enabled=false"));
            }
        }
        if carrier == Carrier::Coap {
            set(COAP.0.to_owned());
        }
        if let Carrier::Tls | Carrier::Quic = carrier {
            let (name, file, key) = (
                carrier.scheme(),
                certificate.certificate(),
                certificate.key(),
            );
            set(format!("listeners.{name}.tls.cert={}", file.display()));
            set(format!("listeners.{name}.tls.key={}", key.display()));
        }
        command
    };
    let (process, address, metrics) = match start.data {
        None if matches!(carrier, Carrier::Quic | Carrier::Coap) => {
            let launched =
                Process::launch_with_file(start.patience, READY, |directory, [address]| {
                    let mut command = command(&directory.join("data"), address, None);
                    command.arg("--ready-file").arg(directory.join(READY));
                    Ok(command)
                });
            let (process, [address]) = launched?;
            (process, address, None)
        }
        None => {
            let launched = Process::launch(start.patience, |directory, [address]| {
                Ok(command(&directory.join("data"), address, None))
            });
            let (process, [address]) = launched?;
            (process, address, None)
        }
        Some(data) => {
            let launched = Process::launch(start.patience, |_, [address, http]| {
                Ok(command(data, address, Some(http)))
            });
            let (process, [address, http]) = launched?;
            (process, address, Some(http))
        }
    };
    Ok(Instance {
        v3: address,
        v5: address,
        metrics,
        process,
    })
}

/// What mosquitto is told, and why.
const MOSQUITTO: [(&str, &str); 6] = [
    ("allow_anonymous true", "as all the others"),
    (
        "max_queued_messages 0",
        "no limit: by default it drops what waits behind 1,000 messages",
    ),
    (
        "max_inflight_messages 0",
        "no limit: by default 20, which is less than the window",
    ),
    ("set_tcp_nodelay true", "as all the others"),
    (
        "log_type error",
        "by default it writes a line for every connection; the others do not",
    ),
    (
        "user root",
        "started by root it would become another user, who cannot read the certificate",
    ),
];

fn start_mosquitto(binary: &Path, start: Start<'_>) -> Result<Instance, NotStarted> {
    let Start {
        carrier,
        certificate,
        patience,
        ..
    } = start;
    let command = |directory: &Path, text: &str| {
        let mut all = String::new();
        for (setting, _) in MOSQUITTO {
            all += &format!("{setting}\n");
        }
        let file = directory.join("mosquitto.conf");
        fs::write(&file, all + text)?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(file);
        Ok(command)
    };
    let listener = |address: SocketAddr| format!("listener {} {}\n", address.port(), address.ip());
    let launched = match carrier {
        Carrier::Tcp => Process::launch(patience, |directory, [address]| {
            command(directory, &listener(address))
        }),
        Carrier::Tls => Process::launch(patience, |directory, [address]| {
            let (file, key) = (certificate.certificate(), certificate.key());
            let (file, key) = (file.display(), key.display());
            let listener = listener(address);
            command(
                directory,
                &format!("{listener}certfile {file}\nkeyfile {key}\n"),
            )
        }),
        Carrier::WebSocket => Process::launch(patience, |directory, [address, plain]| {
            let [address, plain] = [address, plain].map(listener);
            // 2.0.11 does not start with nothing but WebSocket.
            command(directory, &format!("{plain}{address}protocol websockets\n"))
        })
        .map(|(process, [address, _])| (process, [address])),
        Carrier::Quic => {
            let why = "it does not speak QUIC";
            return Err(NotStarted::NotCompared(why.to_owned()));
        }
        Carrier::Coap => {
            let why = "it does not speak CoAP";
            return Err(NotStarted::NotCompared(why.to_owned()));
        }
    };
    match launched {
        Ok((process, [address])) => Ok(Instance {
            v3: address,
            v5: address,
            metrics: None,
            process,
        }),
        Err(error)
            if error
                .to_string()
                .contains("Websockets support not available") =>
        {
            let why = "the mosquitto that is installed is built without WebSocket";
            Err(NotStarted::NotCompared(why.to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

fn peer(port: u16, command: &str, patience: Duration) -> Result<Instance, NotStarted> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpStream::connect(address).is_ok() {
        return Err(anyhow::anyhow!("something else listens at {address}").into());
    }
    let mut process = Process::spawn(|_| {
        let mut shell = Command::new("sh");
        // The shell becomes the command: it is its processor time that counts.
        shell.args(["-c", &format!("exec {command}")]);
        Ok(shell)
    })?;
    process.listens(&[address], patience)?;
    Ok(Instance {
        v3: address,
        v5: address,
        metrics: None,
        process,
    })
}

//! A gateway as a process of its own, for one test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use tempfile::TempDir;

use crate::binary::tidegate;
use crate::http;
use crate::server::{Server, Transport};
use crate::tls::TlsClient;

/// How long a gateway may take to start, and a check of its state to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// What listens when nobody says anything, to be bound to free ports.
const BINDS: [&str; 10] = [
    "listeners.mqtt.bind",
    "listeners.mqtts.bind",
    "listeners.ws.bind",
    "listeners.wss.bind",
    "listeners.quic.bind",
    "listeners.coap.bind",
    "listeners.coaps.bind",
    "listeners.coap_tcp.bind",
    "listeners.coaps_tcp.bind",
    "http.bind",
];

/// A running gateway, or the broker that `TIDEGATE_TEST_ADDRESS` names.
///
/// Dropping it ends the process, shows what it wrote if the test failed, and fails the test if the
/// process had died or panicked on the way.
pub struct Gateway {
    /// By name of the listener.
    addresses: BTreeMap<String, SocketAddr>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// Holds configuration, data and log; goes with the process.
    directory: TempDir,
    /// The exit status once a test has waited for it: then an exit is no surprise.
    exit: Option<ExitStatus>,
}

impl Gateway {
    /// A gateway with the defaults, on free ports of the loopback.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        match given() {
            Some(addresses) => Self {
                addresses,
                process: None,
            },
            None => Self::spawn(""),
        }
    }

    /// The same, and its address for this transport; `None` if a broker was given that does not speak it.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    #[track_caller]
    pub fn speaking(transport: Transport) -> Option<(Self, Server)> {
        let gateway = Self::start();
        let server = gateway.server(transport)?;
        Some((gateway, server))
    }

    /// A gateway of our own with more configuration (TOML tables); `None`, and a line that says so,
    /// when the suite runs against a broker that was given.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    #[track_caller]
    pub fn configured(configuration: &str) -> Option<Self> {
        if given().is_some() {
            eprintln!("skipped: needs a gateway of its own, but TIDEGATE_TEST_ADDRESS is set");
            return None;
        }
        Some(Self::spawn(configuration))
    }

    #[track_caller]
    fn spawn(configuration: &str) -> Self {
        let directory = TempDir::with_prefix("tidegate-test-")
            .unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let ready = directory.path().join("ready.json");
        let process = Process::launch(directory, configuration, &ready);
        Self::up(process, &ready)
    }

    #[track_caller]
    fn up(mut process: Process, ready: &Path) -> Self {
        let listeners = process.ready(ready, PATIENCE);
        let named = |(name, listener): (&String, &serde_json::Value)| {
            let address = listener["address"].as_str().unwrap_or_default().parse();
            let address = address.unwrap_or_else(|_| panic!("no address of {name}: {listeners}"));
            (name.clone(), address)
        };
        let addresses = listeners.as_object().into_iter().flatten().map(named);
        Self {
            addresses: addresses.collect(),
            process: Some(process),
        }
    }

    /// Ends the process with this signal and starts it again on its data, on other free ports.
    ///
    /// # Panics
    ///
    /// If it does not end or start.
    #[must_use]
    #[track_caller]
    pub fn restart(mut self, signal: &str) -> Self {
        self.signal(signal);
        self.wait(PATIENCE);
        let Some(mut process) = self.process.take() else {
            panic!("the broker was given: no process of ours");
        };
        let ready = process.directory.path().join("ready.json");
        let removed = fs::remove_file(&ready);
        removed.unwrap_or_else(|error| panic!("the ready file cannot be removed: {error}"));
        process.start_again(&ready);
        Self::up(process, &ready)
    }

    /// Where the listener of this name is; `http` is one of them.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn address(&self, listener: &str) -> SocketAddr {
        let found = self.addresses.get(listener).copied();
        found.unwrap_or_else(|| panic!("no listener {listener} among {:?}", self.addresses))
    }

    /// Whether there is a listener of this name.
    #[must_use]
    pub fn has(&self, listener: &str) -> bool {
        self.addresses.contains_key(listener)
    }

    /// The default listener of a transport, its certificate authority trusted; `None`, and a line that
    /// says so, when the broker that was given has none.
    #[must_use]
    #[track_caller]
    pub fn server(&self, transport: Transport) -> Option<Server> {
        let name = transport.scheme();
        if self.process.is_none() && !self.has(name) {
            eprintln!("skipped: the broker that was given has no {name}");
            return None;
        }
        Some(self.listener(name, transport))
    }

    /// The listener of this name, with the gateway's own certificate authority trusted.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn listener(&self, name: &str, transport: Transport) -> Server {
        let server = Server::new(transport, self.address(name));
        if transport.is_encrypted() {
            server.trusting(TlsClient::trusting_file(&self.authority()).build())
        } else {
            server
        }
    }

    /// The certificate of the authority that the gateway made on its first start (PEM).
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        match &self.process {
            Some(process) => process.directory.path().join("data/tls/ca.crt"),
            None => env::var_os("TIDEGATE_TEST_CA").unwrap_or_default().into(),
        }
    }

    /// Where the process keeps its configuration, its log and, in `data`, its data; a test's own files
    /// may be there too.
    ///
    /// # Panics
    ///
    /// If the broker was given.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.process().directory.path()
    }

    /// Where MQTT is spoken.
    #[must_use]
    #[track_caller]
    pub fn mqtt(&self) -> SocketAddr {
        self.address("mqtt")
    }

    /// Where HTTP is spoken.
    ///
    /// # Panics
    ///
    /// If the broker was given.
    #[must_use]
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// If the broker was given.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process().child.id()
    }

    fn process(&self) -> &Process {
        self.process
            .as_ref()
            .unwrap_or_else(|| panic!("the broker was given: no process of ours"))
    }

    fn process_mut(&mut self) -> &mut Process {
        self.process
            .as_mut()
            .unwrap_or_else(|| panic!("the broker was given: no process of ours"))
    }

    /// The sum of a metric's samples whose labels contain each of `labels` (as `name="value"`); 0 if
    /// there is none yet.
    ///
    /// # Panics
    ///
    /// If `/metrics` does not answer as Prometheus expects.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let response = http::get(self.http(), "/metrics");
        assert_eq!(response.status, 200, "/metrics: {response:?}");
        let body = response.body;
        body.lines()
            .filter(|line| !line.starts_with('#'))
            .fold(0.0, |sum, line| {
                let Some((sample, value)) = line.rsplit_once(' ') else {
                    return sum;
                };
                let (metric, rest) = sample.split_once('{').unwrap_or((sample, ""));
                if metric != name || !labels.iter().all(|label| rest.contains(label)) {
                    return sum;
                }
                sum + value
                    .parse::<f64>()
                    .unwrap_or_else(|_| panic!("not a sample: {line}"))
            })
    }

    /// All messages counted as dropped so far, whatever the reason.
    #[must_use]
    #[track_caller]
    pub fn dropped(&self) -> u64 {
        // A count of messages: exact in a double far beyond what a test sends.
        self.metric("tidegate_messages_dropped_total", &[]) as u64
    }

    /// Memory that the process holds now (resident set), in bytes.
    ///
    /// # Panics
    ///
    /// If the kernel does not say.
    #[must_use]
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or_else(|| panic!("{path} has no VmRSS: {status}")) * 1024
    }

    /// Sends a signal (`TERM`, `INT`, `HUP`) to the process.
    ///
    /// # Panics
    ///
    /// If it cannot be sent.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: no package has to be there, and no unsafe code.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.pid().to_string()])
            .status()
            .unwrap_or_else(|error| panic!("sh cannot be run: {error}"));
        assert!(status.success(), "SIG{name} was not sent: {status}");
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    ///
    /// If it still runs after `patience`.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let process = self.process_mut();
        let status = process.exited_within(patience);
        let status = status.unwrap_or_else(|| panic!("the gateway still runs after {patience:?}"));
        process.exit = Some(status);
        status
    }

    /// What the process wrote to standard output and standard error so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.process().output()
    }
}

impl Process {
    #[track_caller]
    fn launch(directory: TempDir, configuration: &str, ready: &Path) -> Self {
        let file = directory.path().join("tidegate.toml");
        let launch = || -> io::Result<Child> {
            fs::write(&file, format!("{configuration}\n"))?;
            File::create(directory.path().join("log"))?;
            Self::run(&directory, ready)
        };
        let child = launch().unwrap_or_else(|error| panic!("the gateway does not start: {error}"));
        Self {
            child,
            directory,
            exit: None,
        }
    }

    /// The log goes on where it ended.
    #[track_caller]
    fn start_again(&mut self, ready: &Path) {
        let child = Self::run(&self.directory, ready);
        self.child = child.unwrap_or_else(|error| panic!("the gateway does not start: {error}"));
        self.exit = None;
    }

    fn run(directory: &TempDir, ready: &Path) -> io::Result<Child> {
        let log = File::options()
            .append(true)
            .open(directory.path().join("log"))?;
        let mut command = Command::new(tidegate());
        command.arg("run");
        for bind in BINDS {
            command.args(["--set", &format!("{bind}=127.0.0.1:0")]);
        }
        command
            .arg("--config")
            .arg(directory.path().join("tidegate.toml"))
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .arg("--ready-file")
            .arg(ready)
            .current_dir(directory.path())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// Waits for the ready file and returns its listeners.
    #[track_caller]
    fn ready(&mut self, ready: &Path, patience: Duration) -> serde_json::Value {
        let end = Instant::now() + patience;
        loop {
            // Not there yet, or half of it: look again.
            let found = fs::read(ready)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(serde_json::Value::Object(mut file)) = found {
                let pid = file.get("pid").and_then(serde_json::Value::as_u64);
                assert_eq!(
                    pid,
                    Some(u64::from(self.child.id())),
                    "the ready file's pid"
                );
                return file.remove("listeners").unwrap_or_default();
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                self.exit = Some(status);
                panic!(
                    "the gateway ended with {status} before it was ready:\n{}",
                    self.output()
                );
            }
            assert!(
                Instant::now() < end,
                "not ready after {patience:?}:\n{}",
                self.output()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn exited_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn output(&self) -> String {
        fs::read(self.log()).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let surprise = match self.exit {
            Some(_) => None,
            None => self.child.try_wait().ok().flatten(),
        };
        // Already gone is fine: what matters is that it runs no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let output = self.output();
        if thread::panicking() {
            eprintln!("--- the gateway wrote ---\n{output}\n--- end ---");
            return;
        }
        if let Some(status) = surprise {
            panic!("the gateway died during the test with {status}:\n{output}");
        }
        assert!(
            !output.contains("panicked at"),
            "the gateway panicked:\n{output}"
        );
    }
}

/// The listeners of the broker that was given.
fn given() -> Option<BTreeMap<String, SocketAddr>> {
    let variables = [
        ("mqtt", "TIDEGATE_TEST_ADDRESS"),
        ("mqtts", "TIDEGATE_TEST_MQTTS"),
        ("ws", "TIDEGATE_TEST_WS"),
        ("wss", "TIDEGATE_TEST_WSS"),
    ];
    let found = variables.into_iter().filter_map(|(name, variable)| {
        let text = env::var(variable).ok()?;
        let mut addresses = text.to_socket_addrs().ok().into_iter().flatten();
        let address = addresses.next();
        Some((
            name.to_owned(),
            address.unwrap_or_else(|| panic!("{variable} is no host:port: {text}")),
        ))
    });
    let found: BTreeMap<_, _> = found.collect();
    found.contains_key("mqtt").then_some(found)
}

/// Waits until `check` holds: for what the gateway does a moment after a client has seen its cause.
///
/// # Panics
///
/// If it does not hold in time.
#[track_caller]
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < end, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

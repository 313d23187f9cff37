//! Processes: clients that are looked at while they run, and servers that are there when they are needed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub(super) struct Process(pub(super) Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> Self {
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}")),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `tidegate` with these arguments at this URL.
pub(super) fn tidegate(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(arguments)
        .args(["--url", url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a client has said when it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a client to its end.
pub(super) fn run(url: &str, arguments: &[&str]) -> Ended {
    let output = tidegate(url, arguments).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
pub(super) fn works(url: &str, arguments: &[&str]) -> String {
    let ended = run(url, arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    assert_eq!(ended.stderr, "", "{arguments:?}");
    ended.stdout
}

/// It ends with `code` and says `text`.
#[track_caller]
pub(super) fn fails(url: &str, arguments: &[&str], code: i32, text: &str) {
    let ended = run(url, arguments);
    assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
    assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
}

/// A subscriber that observes.
pub(super) struct Subscriber {
    process: Process,
    stderr: BufReader<ChildStderr>,
}

impl Subscriber {
    /// Waits until each of its filters is observed.
    pub(super) fn start(url: &str, arguments: &[&str]) -> Self {
        let filters = arguments.iter().filter(|it| **it == "-t").count();
        let mut subscriber = Self::begin(url, arguments);
        for _ in 0..filters {
            subscriber.until("subscribed to");
        }
        subscriber
    }

    pub(super) fn begin(url: &str, arguments: &[&str]) -> Self {
        let arguments = [&["sub", "--debug"], arguments].concat();
        let mut process = Process::start(&mut tidegate(url, &arguments));
        let stderr = BufReader::new(process.0.stderr.take().unwrap());
        Self { process, stderr }
    }

    /// Waits until it says `text`; the line with it.
    pub(super) fn until(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended without saying {text:?}");
        }
        line
    }

    /// The lines that it prints up to this one.
    pub(super) fn lines_until(&mut self, last: &str) -> Vec<String> {
        self.lines_until_all(&[last.to_owned()])
    }

    /// The lines that it prints until each of these was among them.
    pub(super) fn lines_until_all(&mut self, wanted: &[String]) -> Vec<String> {
        let mut stdout = BufReader::new(self.process.0.stdout.take().unwrap());
        let mut lines = Vec::new();
        while !wanted.iter().all(|line| lines.contains(line)) {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended without {wanted:?}: {lines:?}");
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// What it has printed when it ends by itself.
    #[track_caller]
    pub(super) fn printed(self) -> String {
        let ended = self.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    /// Lines of JSON.
    #[track_caller]
    pub(super) fn messages(self) -> Vec<serde_json::Value> {
        let text = self.printed();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(super) fn end(mut self) -> Ended {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut out = self.process.0.stdout.take().unwrap();
        out.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        let code = self.process.0.wait().unwrap().code();
        Ended {
            code,
            stdout,
            stderr,
        }
    }
}

/// The listeners of CoAP, by their schemes.
pub(super) const SCHEMES: [&str; 4] = ["coap", "coaps", "coap+tcp", "coaps+tcp"];

/// A gateway on free ports.
pub(super) struct Gateway {
    process: Process,
    listeners: serde_json::Value,
    directory: TempDir,
    settings: Vec<String>,
}

impl Gateway {
    pub(super) fn start(settings: &[&str]) -> Self {
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
        let anywhere = listeners.map(|listener| format!("listeners.{listener}.bind=127.0.0.1:0"));
        let settings = settings.iter().map(|it| (*it).to_owned());
        let settings = anywhere.into_iter().chain(settings).collect();
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    fn start_in(directory: TempDir, settings: Vec<String>) -> Self {
        let ready = directory.path().join("ready.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .args(["--set", "http.bind=127.0.0.1:0"])
            .args(["--set", "telemetry.log=error"])
            .arg("--ready-file")
            .arg(&ready);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        let mut process = Process::start(&mut command);
        let since = Instant::now();
        while !ready.exists() {
            assert!(since.elapsed() < PATIENCE, "it is not ready in time");
            assert_eq!(process.0.try_wait().unwrap(), None, "it ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = std::fs::read(&ready).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        Self {
            process,
            listeners: file["listeners"].clone(),
            directory,
            settings,
        }
    }

    /// Ends it with this signal, waits until `meanwhile` returns, and starts it again at the same addresses with the same
    /// data.
    pub(super) fn restart(mut self, signal: Signal, meanwhile: impl FnOnce()) -> Self {
        let pid = Pid::from_child(&self.process.0);
        kill_process(pid, signal).unwrap();
        self.process.0.wait().unwrap();
        meanwhile();
        std::fs::remove_file(self.directory.path().join("ready.json")).unwrap();
        for (name, listener) in self.listeners.as_object().unwrap() {
            let address = listener["address"].as_str().unwrap();
            if name != "http" {
                let bind = format!("listeners.{name}.bind={address}");
                self.settings.push(bind);
            }
        }
        Self::start_in(self.directory, self.settings)
    }

    /// The listener of this scheme, and what it takes to trust the gateway's local certificate where there is one.
    pub(super) fn door(&self, scheme: &str) -> Door {
        let options = match scheme {
            "coaps" | "coaps+tcp" => vec!["--ca".to_owned(), self.authority()],
            _ => Vec::new(),
        };
        Door {
            url: self.url(scheme),
            options,
        }
    }

    /// The file with the authority of the local certificate.
    pub(super) fn authority(&self) -> String {
        let path = self.directory.path().join("tidegate-data/tls/ca.crt");
        path.to_str().unwrap().to_owned()
    }

    pub(super) fn address(&self, listener: &str) -> SocketAddr {
        let listener = listener.replace('+', "_");
        let address = self.listeners[listener]["address"].as_str().unwrap();
        address.parse().unwrap()
    }

    pub(super) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address(scheme))
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn stop(mut self) {
        let pid = Pid::from_child(&self.process.0);
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.process.0.wait().unwrap().success());
    }

    /// How many subscriptions there are.
    pub(super) fn subscriptions(&self) -> u64 {
        let mut stream = TcpStream::connect(self.address("http")).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let metrics = std::io::read_to_string(stream).unwrap();
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix("tidegate_subscriptions "));
        value.unwrap().trim().parse().unwrap()
    }

    /// A file of its directory.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A listener, and what its clients are told besides.
pub(super) struct Door {
    pub(super) url: String,
    pub(super) options: Vec<String>,
}

impl Door {
    fn with<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let options = self.options.iter().map(String::as_str);
        arguments.iter().copied().chain(options).collect()
    }

    #[track_caller]
    pub(super) fn works(&self, arguments: &[&str]) -> String {
        works(&self.url, &self.with(arguments))
    }

    #[track_caller]
    pub(super) fn fails(&self, arguments: &[&str], code: i32, text: &str) {
        fails(&self.url, &self.with(arguments), code, text);
    }

    pub(super) fn observe(&self, arguments: &[&str]) -> Subscriber {
        Subscriber::start(&self.url, &self.with(arguments))
    }

    pub(super) fn begin(&self, arguments: &[&str]) -> Subscriber {
        Subscriber::begin(&self.url, &self.with(arguments))
    }
}

/// The program, if it is installed. `cargo xtask test` installs it; elsewhere a test without it says so and returns.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none_or(|it| it != "true"),
            "{name} is not installed"
        );
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A port that is free, with the one after it, for UDP and for TCP.
pub(super) fn free_ports() -> u16 {
    for _ in 0..100 {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let Some(next) = port.checked_add(1) else {
            continue;
        };
        let others = [
            UdpSocket::bind(("127.0.0.1", next)).is_ok(),
            TcpListener::bind(("127.0.0.1", port)).is_ok(),
            TcpListener::bind(("127.0.0.1", next)).is_ok(),
        ];
        if others.iter().all(|is_free| *is_free) {
            return port;
        }
    }
    panic!("there are no free ports");
}

/// Waits until somebody answers a ping (RFC 7252 section 4.3).
pub(super) fn answers_ping(address: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "{address} does not answer");
        // Both fail as long as nobody is there.
        let _ = socket.send(&[0x40, 0, 0x12, 0x34]);
        let mut answer = [0; 16];
        match socket.recv(&mut answer) {
            Ok(4) if answer[..4] == [0x70, 0, 0x12, 0x34] => return,
            _ => std::thread::yield_now(),
        }
    }
}

/// Text that is not the same everywhere.
pub(super) fn large() -> String {
    (0..100_000)
        .map(|at| char::from(b'a' + (at / 7 % 26) as u8))
        .collect()
}

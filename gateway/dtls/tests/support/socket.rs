//! A server at a real socket that answers CoAP GETs, and clients that are programs.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output as Finished, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_dtls::{
    Counters, Credentials, End, Failure, Method, Output, Path, Server, SessionId, Settings, Who,
};

use super::Event;

/// Nothing here takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Answerer {
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    events: Receiver<Event>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Socket {
    socket: UdpSocket,
    events: Sender<Event>,
    answers: Vec<(SessionId, Vec<u8>)>,
}

impl Output for Socket {
    fn transmit(&mut self, path: Path, datagram: &[u8]) {
        // Whoever has gone does not get it.
        let _ = self.socket.send_to(datagram, path.peer);
    }

    fn failed(&mut self, _: SocketAddr, _: Failure) {}

    fn established(&mut self, session: SessionId, who: &Who, method: Method) {
        let event = Event::Established(session, who.clone(), method);
        let _ = self.events.send(event);
    }

    fn data(&mut self, session: SessionId, plaintext: &[u8]) {
        let _ = self.events.send(Event::Data(session, plaintext.to_vec()));
        if let Some(answer) = coap_answer(plaintext) {
            self.answers.push((session, answer));
        }
    }

    fn ended(&mut self, session: SessionId, why: End) {
        let _ = self.events.send(Event::Ended(session, why));
    }
}

/// A confirmable GET (RFC 7252, 3) gets 2.05 with its token and a payload.
fn coap_answer(message: &[u8]) -> Option<Vec<u8>> {
    let [first, 1, high, low, rest @ ..] = message else {
        return None;
    };
    if first & 0xF0 != 0x40 {
        return None;
    }
    let token = rest.get(..usize::from(first & 0x0F))?;
    let mut answer = vec![0x60 | (first & 0x0F), 0x45, *high, *low];
    answer.extend_from_slice(token);
    answer.extend_from_slice(b"\xFFthe tide is high");
    Some(answer)
}

impl Answerer {
    pub fn start(settings: Settings, credentials: Arc<Credentials>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let counters = Arc::new(Counters::default());
        let now = Instant::now();
        let mut server = Server::new(settings, credentials, counters.clone(), now).unwrap();
        let (sender, events) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut out = Socket {
                socket: socket.try_clone().unwrap(),
                events: sender,
                answers: Vec::new(),
            };
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Acquire) {
                let received = socket.recv_from(&mut buffer);
                let now = Instant::now();
                if let Ok((length, peer)) = received {
                    server.receive(Path { peer, local: None }, &buffer[..length], now, &mut out);
                }
                for (session, answer) in std::mem::take(&mut out.answers) {
                    // It may have closed in the same datagram.
                    let _ = server.send(session, &answer, now, &mut out);
                }
                server.handle_timeout(now, &mut out);
            }
        });
        Self {
            address,
            counters,
            events,
            stop,
            thread: Some(thread),
        }
    }

    pub fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    pub fn established(&self) -> (Who, Method) {
        match self.event() {
            Event::Established(_, who, method) => (who, method),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for what another thread counts.
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Counters) -> bool) {
        let since = Instant::now();
        while !is_so(&self.counters) {
            assert!(since.elapsed() < PATIENCE, "{what}: {:?}", self.counters);
            std::thread::yield_now();
        }
    }

    /// Whether nothing but the end of a handshake was reported.
    pub fn has_no_event(&self) -> bool {
        self.events.try_recv().is_err()
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The program, if it is installed. `cargo xtask test` installs it; elsewhere a test without it says so and returns.
pub fn program(name: &str) -> Option<PathBuf> {
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

/// Runs a program to its end, with nothing to read.
pub fn run(command: &mut Command) -> Finished {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.wait_with_output().unwrap()
}

/// GETs something with one of libcoap's clients; what it printed.
pub fn coap_get(client: &PathBuf, server: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(client);
    // The time limit is its own: nothing of it is left running.
    command
        .args(["-B", "5"])
        .args(arguments)
        .arg(format!("coaps://{server}/tide"));
    let finished = run(&mut command);
    String::from_utf8_lossy(&[finished.stdout, finished.stderr].concat()).into_owned()
}

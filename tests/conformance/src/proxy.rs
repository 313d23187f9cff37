//! A proxy between a test and a server that has one fault.
//!
//! It carries TCP. Bytes that are no packets pass as they are, so that a test may send what it likes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tidegate_tests::wire::Version;

use crate::fault::{Action, At, Fault, packet};
use crate::frame::Frame;

/// A proxy that runs until it is dropped.
pub struct FaultyProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    fault: Option<Fault>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    /// Every socket there is or was, to be closed in the end.
    sockets: Vec<TcpStream>,
    /// How many packets in question there were.
    seen: usize,
    /// How often the fault has struck.
    struck: usize,
}

impl FaultyProxy {
    /// A proxy before the server at `upstream`; without a fault it changes nothing.
    ///
    /// # Errors
    ///
    /// If no port of the loopback can be bound.
    pub fn start(upstream: SocketAddr, fault: Option<Fault>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Mutex::default();
        let shared = Arc::new(Shared { fault, state });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, upstream, &shared)
        });
        Ok(Self {
            address,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often the fault has struck so far.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.shared.lock().struck
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopped = true;
            for socket in &state.sockets {
                // One that is closed already is as it should be.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            // It does not panic; if it did, the test's result stands all the same.
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers sockets; false if the proxy has been stopped.
    fn register(&self, sockets: [&TcpStream; 2]) -> bool {
        let mut state = self.lock();
        for socket in sockets {
            match socket.try_clone() {
                Ok(socket) => state.sockets.push(socket),
                Err(_) => return false,
            }
        }
        !state.stopped
    }

    /// The action for this packet, if the fault strikes it.
    fn strikes(&self, frame: &Frame, from_client: bool) -> Option<Action> {
        let fault = self.fault?;
        let at = if from_client {
            At::Client(frame.kind())
        } else {
            At::Server(frame.kind())
        };
        if fault.at != at || fault.only.is_some_and(|only| !only(frame)) {
            return None;
        }
        let mut state = self.lock();
        state.seen += 1;
        if fault.nth.is_some_and(|nth| nth != state.seen) {
            return None;
        }
        state.struck += 1;
        Some(fault.action)
    }
}

fn accept(listener: &TcpListener, upstream: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        if shared.lock().stopped {
            return;
        }
        // A server that refuses is seen by the client as a closed connection.
        let Ok(server) = TcpStream::connect(upstream) else {
            continue;
        };
        if !shared.register([&client, &server]) {
            return;
        }
        let version = Arc::new(Mutex::new(Version::V311));
        let client_gone = Arc::new(AtomicBool::new(false));
        for from_client in [true, false] {
            let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else {
                continue;
            };
            let (from, to) = if from_client { (from, to) } else { (to, from) };
            let _ = to.set_nodelay(true);
            let relay = Relay {
                shared: Arc::clone(shared),
                version: Arc::clone(&version),
                client_gone: Arc::clone(&client_gone),
                from_client,
                held: None,
                first: Some(Vec::new()),
            };
            thread::spawn(move || relay.run(from, to));
        }
    }
}

/// One direction of one connection.
struct Relay {
    shared: Arc<Shared>,
    /// The version of the connection: what its CONNECT said.
    version: Arc<Mutex<Version>>,
    /// The client has closed: that the server does so, too, is nothing to hide.
    client_gone: Arc<AtomicBool>,
    from_client: bool,
    /// A packet that waits for the next one.
    held: Option<Frame>,
    /// What has come of the first packet, until it is there.
    first: Option<Vec<u8>>,
}

/// What to do after a packet.
enum Next {
    Go,
    End,
}

impl Relay {
    fn run(mut self, mut from: TcpStream, mut to: TcpStream) {
        let mut received = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let length = match from.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            received.extend_from_slice(&chunk[..length]);
            self.spoil(&mut received);
            match self.pass(&mut received, &mut to, &mut from) {
                Ok(Next::Go) => {}
                Ok(Next::End) | Err(_) => break,
            }
        }
        if self.from_client {
            self.client_gone.store(true, Ordering::Relaxed);
        } else if self.shared.fault.is_some_and(|fault| fault.at == At::Close) {
            let hidden = !self.client_gone.load(Ordering::Relaxed);
            self.shared.lock().struck += usize::from(hidden);
            return;
        }
        // What is left is the beginning of a packet: it goes on as it is.
        let _ = to.write_all(&received);
        if let Some(held) = self.held {
            let _ = to.write_all(&held.bytes());
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// A fault of bytes strikes before anything is made of them.
    fn spoil(&self, received: &mut Vec<u8>) {
        let Some(fault) = self.shared.fault else {
            return;
        };
        let at = At::Bytes {
            from_client: self.from_client,
        };
        if let Action::Bytes(_, change) = fault.action
            && fault.at == at
            && change(received)
        {
            self.shared.lock().struck += 1;
        }
    }

    fn pass(
        &mut self,
        received: &mut Vec<u8>,
        to: &mut TcpStream,
        back: &mut TcpStream,
    ) -> io::Result<Next> {
        let in_question = self.shared.fault.is_some_and(|fault| match fault.at {
            At::Client(_) => self.from_client,
            At::Server(_) => !self.from_client,
            At::Close | At::Bytes { .. } => false,
        });
        if !in_question {
            return self.pass_as_is(received, to);
        }
        loop {
            let version = *self.version();
            let frame = match Frame::cut(received, version) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(Next::Go),
                Err(()) => {
                    to.write_all(received)?;
                    received.clear();
                    return Ok(Next::Go);
                }
            };
            if self.from_client && frame.kind() == packet::CONNECT {
                self.learn(&frame);
            }
            let frame = Frame {
                version: *self.version(),
                ..frame
            };
            let action = self.shared.strikes(&frame, self.from_client);
            if let Next::End = self.act(action, frame, to, back)? {
                return Ok(Next::End);
            }
        }
    }

    /// Where nothing is to be spoilt, bytes pass as they come, halves of packets too: some tests send
    /// such. Only the first packet is looked at, for the version.
    fn pass_as_is(&mut self, received: &mut Vec<u8>, to: &mut TcpStream) -> io::Result<Next> {
        if self.from_client
            && let Some(first) = &mut self.first
        {
            first.extend_from_slice(received);
            match Frame::cut(first, Version::V311) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    self.first = None;
                    if frame.kind() == packet::CONNECT {
                        self.learn(&frame);
                    }
                }
                // No packet will ever come of it.
                Err(()) => self.first = None,
            }
        }
        // Only now: the server's answer is read in this version.
        to.write_all(received)?;
        received.clear();
        Ok(Next::Go)
    }

    fn act(
        &mut self,
        action: Option<Action>,
        mut frame: Frame,
        to: &mut TcpStream,
        back: &mut TcpStream,
    ) -> io::Result<Next> {
        // Where the client is, seen from here.
        let mut answer = |bytes: &[u8]| match self.from_client {
            true => back.write_all(bytes),
            false => to.write_all(bytes),
        };
        match action {
            Some(Action::Drop) => {}
            Some(Action::Answer(_, bytes)) => answer(&bytes(&frame))?,
            Some(Action::Swap) => {
                if let Some(earlier) = self.held.replace(frame) {
                    to.write_all(&earlier.bytes())?;
                }
            }
            Some(Action::Cut) => {
                // An end that is gone already needs no closing.
                let _ = to.shutdown(Shutdown::Both);
                let _ = back.shutdown(Shutdown::Both);
                return Ok(Next::End);
            }
            Some(Action::Double) => {
                to.write_all(&frame.bytes())?;
                to.write_all(&frame.bytes())?;
            }
            Some(Action::Follow(_, bytes)) => {
                to.write_all(&frame.bytes())?;
                let more = bytes(&frame);
                match self.from_client {
                    true => back.write_all(&more)?,
                    false => to.write_all(&more)?,
                }
            }
            Some(Action::Alter(_, change)) => {
                change(&mut frame);
                to.write_all(&frame.bytes())?;
            }
            Some(Action::Hide | Action::Bytes(..)) | None => {
                to.write_all(&frame.bytes())?;
                if let Some(held) = self.held.take() {
                    to.write_all(&held.bytes())?;
                }
            }
        }
        Ok(Next::Go)
    }

    fn version(&self) -> std::sync::MutexGuard<'_, Version> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the version from a CONNECT: the byte behind the protocol name.
    fn learn(&self, connect: &Frame) {
        let level = connect.body.get(2 + usize::from(connect.u16_at(0)));
        *self.version() = match level {
            Some(5) => Version::V5,
            Some(3) => Version::V31,
            _ => Version::V311,
        };
    }
}

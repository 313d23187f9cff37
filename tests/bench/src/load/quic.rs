//! A connection of QUIC with its one stream, as the event loop needs it: it reads and writes without waiting.
//!
//! It is quinn's protocol without quinn's tasks, so that the load is one thread over QUIC as it is over TCP.
//! Each connection has a UDP socket of its own, as if it were a device of its own; what a client made with
//! quinn asks of the kernel (segmentation offload in both directions) and of the broker is the same here. What is
//! allocated is for a datagram or a write, never for a message.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint,
    Endpoint, EndpointConfig, Event, ReadError, Side, StreamId, Transmit, TransportConfig, VarInt,
    WriteError,
};
use quinn_udp::{RecvMeta, UdpSocketState};

/// What is spoken inside (RFC 7301).
const ALPN: &[u8] = b"mqtt";
/// Datagrams that leave with one call, at most: as many as quinn sends.
const SEGMENTS: usize = 10;
/// Buffers of one receiving call, each for as many datagrams as the kernel has put together.
const BUFFERS: usize = 8;
const BUFFER: usize = 64 << 10;
/// When a socket that took nothing is tried again.
const AGAIN: Duration = Duration::from_millis(1);

thread_local! {
    /// What is received, of all connections of a thread: it is handed on before the next one's.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFERS * BUFFER].into_boxed_slice());
}

/// Opens connections to one server.
pub(super) struct Dialer {
    server: SocketAddr,
    name: String,
    client: ClientConfig,
    endpoint: Arc<EndpointConfig>,
}

impl Dialer {
    /// With TLS as `tls` says.
    pub(super) fn new(
        server: SocketAddr,
        name: &str,
        mut tls: rustls::ClientConfig,
    ) -> Result<Self> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let mut transport = TransportConfig::default();
        // The broker says how long a connection may rest.
        transport.max_idle_timeout(None);
        client.transport_config(Arc::new(transport));
        Ok(Self {
            server,
            name: name.to_owned(),
            client,
            endpoint: Arc::default(),
        })
    }

    /// Shakes hands over this socket, which is bound, and opens the stream.
    pub(super) fn connect(&self, socket: UdpSocket, within: Duration) -> Result<Quic> {
        socket.connect(self.server)?;
        // It does not wait from here on.
        let state = UdpSocketState::new((&socket).into())?;
        let may_probe = !state.may_fragment();
        let mut endpoint = Endpoint::new(Arc::clone(&self.endpoint), None, may_probe, None);
        let client = self.client.clone();
        let (handle, connection) =
            endpoint.connect(Instant::now(), client, self.server, &self.name)?;
        let mut quic = Quic {
            socket,
            state,
            endpoint,
            handle,
            connection,
            stream: StreamId::new(Side::Client, Dir::Bi, 0),
            packets: Vec::new(),
            unsent: None,
            again: Instant::now(),
            is_connected: false,
            lost: None,
        };
        let end = Instant::now() + within;
        while !quic.is_connected {
            quic.go_on(end)?;
            quic.receive()?;
            quic.check()?;
        }
        let stream = quic.connection.streams().open(Dir::Bi);
        quic.stream = stream.context("the broker allows no stream")?;
        Ok(quic)
    }
}

/// A connection. Dropped, it says farewell.
pub(super) struct Quic {
    socket: UdpSocket,
    state: UdpSocketState,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    stream: StreamId,
    /// What was made to be sent last,
    packets: Vec<u8>,
    /// and what it is, if the socket has not taken it.
    unsent: Option<Transmit>,
    /// When it is tried again.
    again: Instant,
    is_connected: bool,
    lost: Option<ConnectionError>,
}

impl Quic {
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        // Not when it takes more: a UDP socket says so with each datagram that has left it.
        let descriptor = self.socket.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    /// Reads from the stream, once everything is taken from the socket; 0 bytes when the broker has ended it.
    /// What there is to say to that, [`Self::transmit`] says.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.receive()?;
        let mut stream = self.connection.recv_stream(self.stream);
        // One that is closed was read to its end.
        let Ok(mut chunks) = stream.read(true) else {
            return Ok(0);
        };
        let mut length = 0;
        let end = loop {
            if length == into.len() {
                break Ok(length);
            }
            match chunks.next(into.len() - length) {
                Ok(Some(chunk)) => {
                    let after = length + chunk.bytes.len();
                    into[length..after].copy_from_slice(&chunk.bytes);
                    length = after;
                }
                Ok(None) => break Ok(length),
                Err(ReadError::Blocked) if length > 0 => break Ok(length),
                Err(ReadError::Blocked) => break Err(ErrorKind::WouldBlock.into()),
                Err(error) => break Err(io::Error::other(error)),
            }
        };
        // Everything is transmitted after a read.
        let _ = chunks.finalize();
        match end {
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.check().and(Err(error)),
            end => end,
        }
    }

    /// Puts bytes into the stream, as many as it takes now; [`Self::transmit`] sends them.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.connection.send_stream(self.stream).write(bytes) {
            Ok(length) => Ok(length),
            Err(WriteError::Blocked) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Sends all that is to be sent, as far as the socket takes it.
    pub(super) fn transmit(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let segments = self.state.max_gso_segments().min(SEGMENTS);
        loop {
            if self.unsent.is_none() {
                self.packets.clear();
                self.unsent = self
                    .connection
                    .poll_transmit(now, segments, &mut self.packets);
            }
            let Some(unsent) = &self.unsent else {
                self.settle();
                return Ok(());
            };
            let transmit = quinn_udp::Transmit {
                destination: unsent.destination,
                ecn: unsent
                    .ecn
                    .and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
                contents: &self.packets[..unsent.size],
                segment_size: unsent.segment_size,
                src_ip: unsent.src_ip,
            };
            match self.state.send((&self.socket).into(), &transmit) {
                Ok(()) => self.unsent = None,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.again = now + AGAIN;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes and answers what has come on a connection on which nothing is to come for whoever uses it.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        self.receive()?;
        self.check()?;
        self.transmit()
    }

    /// When something is to be done even if nothing comes.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let again = self.unsent.as_ref().map(|_| self.again);
        again
            .into_iter()
            .chain(self.connection.poll_timeout())
            .min()
    }

    /// Does what is due by now; whether anything was. What there is to say then, [`Self::transmit`] says.
    pub(super) fn on_time(&mut self, now: Instant) -> io::Result<bool> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Ok(false);
        }
        if self
            .connection
            .poll_timeout()
            .is_some_and(|time| time <= now)
        {
            self.connection.handle_timeout(now);
        }
        self.settle();
        self.check()?;
        Ok(true)
    }

    /// Nothing more is written. The broker hears it once it has everything.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let finished = self.connection.send_stream(self.stream).finish();
        finished.map_err(io::Error::other)?;
        self.transmit()
    }

    /// Sends what there is to send, waits until something comes or is to be done, and does the latter.
    pub(super) fn go_on(&mut self, end: Instant) -> io::Result<()> {
        self.transmit()?;
        let now = Instant::now();
        if now >= end {
            return Err(ErrorKind::TimedOut.into());
        }
        let until = self.deadline().map_or(end, |deadline| deadline.min(end));
        let left = until.saturating_duration_since(now);
        // At least a millisecond, so that what is due then is.
        let left = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut descriptor = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptor, left.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.on_time(Instant::now())?;
        Ok(())
    }

    /// Takes all datagrams from the socket.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        RECEIVED.with_borrow_mut(|buffer| {
            let mut metas = [RecvMeta::default(); BUFFERS];
            let mut buffers = buffer.chunks_exact_mut(BUFFER);
            let mut slices: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            loop {
                let received = self
                    .state
                    .recv((&self.socket).into(), &mut slices, &mut metas);
                let count = match received {
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                let now = Instant::now();
                for (meta, slice) in metas.iter().zip(&slices).take(count) {
                    for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                        self.take(now, meta, datagram);
                    }
                }
                if count < BUFFERS {
                    break;
                }
            }
            self.settle();
            Ok(())
        })
    }

    fn take(&mut self, now: Instant, meta: &RecvMeta, datagram: &[u8]) {
        let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        let datagram = BytesMut::from(datagram);
        let event = self.endpoint.handle(
            now,
            meta.addr,
            meta.dst_ip,
            ecn,
            datagram,
            // What it would answer is for connections that it does not know.
            &mut Vec::new(),
        );
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
    }

    /// Carries what connection and endpoint have to say to each other, and notes what has happened.
    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason),
                // The stream is tried whenever something came.
                _ => {}
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.lost {
            None => Ok(()),
            Some(reason) => Err(io::Error::new(ErrorKind::ConnectionAborted, reason.clone())),
        }
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        if self.lost.is_none() {
            self.connection
                .close(Instant::now(), VarInt::from_u32(0), Bytes::new());
            // Who does not hear it finds out.
            let _ = self.transmit();
        }
    }
}

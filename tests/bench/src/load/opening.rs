//! Opening connections: the handshakes of what carries MQTT, CONNECT and SUBSCRIBE, each answered.
//!
//! It blocks, with a limit on every wait: nothing of this is in the time that counts, except where the
//! connections themselves are the workload. Every connection ends with a reset, so that none is left in
//! TIME_WAIT and the next round has all ports.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_tests::wire::{Ack, Connect, Property, Publish, Stream, Subscribe};
use tidegate_tests::{Server, TlsClient, Transport, wire};

use super::link::Link;
use super::packet::{self, Packet, Welcome, kind};
use super::quic::{Dialer, Quic};
use super::tls::Tls;
use crate::order::{Order, Version};

/// How long each answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long all connections of a workload may take together.
const LONGEST: Duration = Duration::from_secs(600);
/// Seconds; some brokers refuse none at all, and no run is longer.
const KEEP_ALIVE: u16 = 600;
/// A PUBREL's first byte.
const PUBREL: u8 = kind::PUBREL | 2;
/// DISCONNECT without a reason, alike in both versions.
const DISCONNECT: [u8; 2] = [0xE0, 0];
/// The name in the broker's certificate that is asked for.
const NAME: &str = "localhost";
/// Source addresses of the loopback that are used in turn, each with all its ports.
const SOURCES: u32 = 8;

/// Opens connections of one kind.
pub(super) struct Opening {
    server: Server,
    /// Where QUIC carries MQTT.
    quic: Option<Dialer>,
    version: Version,
    /// Whether sessions outlive their connections.
    kept: bool,
    end: Instant,
}

/// A connection that the broker has let in.
pub(super) struct Opened {
    carrier: Carrier,
    version: Version,
    welcome: Welcome,
    received: Vec<u8>,
}

/// What carries a connection while it is waited for.
enum Carrier {
    Stream {
        stream: Stream,
        /// The socket under it.
        tcp: TcpStream,
    },
    Quic(Box<Quic>),
}

/// A connection on which nothing is to happen.
pub(super) enum Resting {
    /// The socket: what the broker may still send lies in it.
    Socket(TcpStream),
    /// Somebody has to acknowledge what comes.
    Quic(Box<Quic>),
}

impl Opening {
    /// Connections to the order's broker, over what it says.
    pub(super) fn ordered(order: &Order, version: Version) -> Result<Self> {
        let carriers = Transport::ALL.into_iter().chain([Transport::Quic]);
        let mut named = carriers.filter(|carrier| carrier.scheme() == order.scheme);
        let Some(carrier) = named.next() else {
            bail!("nothing is known of {}", order.scheme);
        };
        let address = address(order, version);
        let server = Server::new(carrier, address);
        if !carrier.is_encrypted() {
            return Ok(Self::to(server, version));
        }
        let authority = order.authority.as_deref();
        let authority = authority.context("TLS needs an authority")?;
        // Looked at here, because the helper of the tests panics.
        fs::metadata(authority).with_context(|| authority.display().to_string())?;
        let tls = TlsClient::trusting_file(authority).build();
        let quic = match carrier {
            Transport::Quic => Some(Dialer::new(address, NAME, (*tls).clone())?),
            _ => None,
        };
        Ok(Self {
            quic,
            ..Self::to(server.named(NAME).trusting(tls), version)
        })
    }

    /// Connections to the order's broker, over plain TCP.
    pub(super) fn plain(order: &Order, version: Version) -> Self {
        Self::to(Server::from(address(order, version)), version)
    }

    /// Connections to this server.
    pub(super) fn to(server: Server, version: Version) -> Self {
        let end = Instant::now() + LONGEST;
        Self {
            server,
            quic: None,
            version,
            kept: false,
            end,
        }
    }

    /// With sessions that outlive their connections, and are taken up by who comes back.
    pub(super) fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// Whether QUIC carries MQTT.
    pub(super) fn is_quic(&self) -> bool {
        self.quic.is_some()
    }

    /// Opens the connection of this number and role, which is in its client identifier. Where sessions are
    /// kept another process has the same.
    pub(super) fn open(&self, role: &str, number: u32) -> Result<Opened> {
        let client = if self.kept {
            format!("{role}{number}")
        } else {
            format!("{role}{number}x{}", process::id())
        };
        self.try_open(&client, number)
            .with_context(|| format!("connection {number} ({role})"))
    }

    fn try_open(&self, client: &str, number: u32) -> Result<Opened> {
        if Instant::now() > self.end {
            bail!("after {LONGEST:?} it is not open");
        }
        let mut opened = Opened {
            carrier: self.carrier(number)?,
            version: self.version,
            welcome: Welcome::default(),
            received: Vec::new(),
        };
        let version = wire_version(self.version);
        let connect = if self.kept {
            Connect::lasting(version, client)
        } else {
            Connect::new(version, client)
        };
        let connect = connect.keep_alive(KEEP_ALIVE);
        let connect = match self.version {
            Version::V3 => connect,
            Version::V5 => connect.with(Property::ReceiveMaximum(u16::MAX)),
        };
        opened.write(&connect.encode(), "CONNECT")?;
        let version = self.version;
        opened.welcome = opened.answer(kind::CONNACK, "CONNECT", |packet| {
            Welcome::parse(packet.body, version).context("the broker sent a CONNACK that is none")
        })?;
        match opened.welcome.code {
            0 => {}
            code => bail!("the broker refused CONNECT with code {code:#04x}"),
        }
        if let Some(seconds @ 1..KEEP_ALIVE) = opened.welcome.keep_alive {
            bail!("the broker wants a keep alive of {seconds} s, and the load sends no pings");
        }
        Ok(opened)
    }

    fn carrier(&self, number: u32) -> Result<Carrier> {
        let address = self.server.address();
        if let Some(dialer) = &self.quic {
            let socket = udp(address, number).context("UDP")?;
            let quic = dialer.connect(socket, PATIENCE).context("handshake")?;
            return Ok(Carrier::Quic(Box::new(quic)));
        }
        let tcp = tcp(address, number).context("TCP")?;
        let stream = tcp.try_clone()?;
        let stream = Stream::handshake(stream, &self.server).context("handshake")?;
        Ok(Carrier::Stream { stream, tcp })
    }
}

impl Carrier {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let quic = match self {
            Self::Stream { stream, .. } => return stream.write(bytes),
            Self::Quic(quic) => quic,
        };
        let end = Instant::now() + PATIENCE;
        while !bytes.is_empty() {
            match quic.write(bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    quic.go_on(end)?;
                    quic.receive()?;
                }
                Err(error) => return Err(error),
            }
        }
        quic.transmit()
    }

    fn read(&mut self, chunk: &mut [u8], within: Duration) -> io::Result<usize> {
        let quic = match self {
            Self::Stream { stream, .. } => return stream.read(chunk, within),
            Self::Quic(quic) => quic,
        };
        let end = Instant::now() + within;
        loop {
            match quic.read(chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => quic.go_on(end)?,
                end => {
                    quic.transmit()?;
                    return end;
                }
            }
        }
    }

    /// Nothing more is written.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Stream { tcp, .. } => tcp.shutdown(Shutdown::Write),
            Self::Quic(quic) => quic.finish(),
        }
    }
}

impl Opened {
    /// What the CONNACK said.
    pub(super) fn welcome(&self) -> Welcome {
        self.welcome
    }

    /// Subscribes; the broker must grant this QoS.
    pub(super) fn subscribe(&mut self, filters: Vec<String>, qos: u8) -> Result<()> {
        let count = filters.len();
        let filters = filters.into_iter().map(|filter| (filter, qos));
        let subscribe = Subscribe {
            id: 1,
            properties: Vec::new(),
            filters: filters.collect(),
        };
        let version = self.version;
        self.write(&subscribe.encode(wire_version(version)), "SUBSCRIBE")?;
        self.answer(kind::SUBACK, "SUBSCRIBE", |packet| {
            granted(packet, version, qos, count)
        })
    }

    /// Publishes these, all with QoS 1 or all with QoS 2, and waits until the broker has them.
    pub(super) fn publish(&mut self, messages: &[Publish]) -> Result<()> {
        let version = wire_version(self.version);
        let bytes = messages.iter().flat_map(|message| message.encode(version));
        self.write(&bytes.collect::<Vec<_>>(), "PUBLISH")?;
        let (two, one) = messages
            .iter()
            .partition::<Vec<_>, _>(|message| message.qos == 2);
        for _ in one {
            self.answer(kind::PUBACK, "PUBLISH", accepted)?;
        }
        for _ in &two {
            self.answer(kind::PUBREC, "PUBLISH", accepted)?;
        }
        for message in &two {
            self.write(&Ack::new(message.id).encode(PUBREL, version), "PUBREL")?;
        }
        for _ in &two {
            self.answer(kind::PUBCOMP, "PUBREL", accepted)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], what: &str) -> Result<()> {
        let written = self.carrier.write(bytes);
        written.with_context(|| format!("the broker closed the connection before {what}"))
    }

    /// The next packet, which must be of this kind.
    fn answer<T>(
        &mut self,
        kind: u8,
        after: &str,
        read: impl FnOnce(&Packet<'_>) -> Result<T>,
    ) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(packet) = packet::packet(&self.received)? {
                if packet.kind() != kind {
                    bail!("the broker answered {after} with {}", packet.name());
                }
                let answer = read(&packet)?;
                let length = packet.length;
                self.received.drain(..length);
                return Ok(answer);
            }
            let mut chunk = [0; 1024];
            let left = end.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            match self.carrier.read(&mut chunk, left) {
                Ok(0) => bail!("the broker closed the connection after {after}"),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    bail!("the broker did not answer {after} within {PATIENCE:?}")
                }
                Err(error) => {
                    let what = format!("the broker closed the connection after {after}");
                    return Err(anyhow!(error).context(what));
                }
            }
        }
    }

    /// Says farewell, and waits until the broker has closed.
    pub(super) fn disconnect(mut self) -> Result<()> {
        self.write(&DISCONNECT, "DISCONNECT")?;
        // A close alone would be a reset, which may be faster than what was sent before.
        self.carrier.finish().context("shutdown")?;
        let end = Instant::now() + PATIENCE;
        let mut chunk = [0; 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self
                .carrier
                .read(&mut chunk, left.max(Duration::from_millis(1)))
            {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    bail!("the broker did not close within {PATIENCE:?} after DISCONNECT")
                }
                // It is gone, which is all that matters.
                Err(_) => return Ok(()),
            }
        }
    }

    /// What it is on, for a loop that does not block.
    pub(super) fn into_link(self) -> Result<Link> {
        let (link, received) = self.into_parts()?;
        if !received.is_empty() {
            bail!("the broker sent what nobody has asked for");
        }
        Ok(link)
    }

    /// The same where the broker may send at once; and what it has sent so far.
    pub(super) fn into_parts(self) -> Result<(Link, Vec<u8>)> {
        let link = match self.carrier {
            Carrier::Quic(quic) => Link::Quic(quic),
            Carrier::Stream { stream, tcp } => {
                tcp.set_nonblocking(true)?;
                match stream.into_tls() {
                    None => tcp.into(),
                    Some(session) => Link::Tls(Box::new(Tls::new(tcp, session))),
                }
            }
        };
        Ok((link, self.received))
    }

    /// What is left of it when nothing is to happen any more. What lies between a socket and MQTT is
    /// forgotten.
    pub(super) fn into_resting(self) -> Result<Resting> {
        if !self.received.is_empty() {
            bail!("the broker sent what nobody has asked for");
        }
        match self.carrier {
            Carrier::Quic(quic) => Ok(Resting::Quic(quic)),
            Carrier::Stream { tcp, .. } => {
                tcp.set_nonblocking(true)?;
                Ok(Resting::Socket(tcp))
            }
        }
    }
}

/// Whether an acknowledgement is one of success.
fn accepted(packet: &Packet<'_>) -> Result<()> {
    match packet.acknowledgement()? {
        (_, ..0x80) => Ok(()),
        (_, code) => bail!("the broker refused PUBLISH with code {code:#04x}"),
    }
}

/// Whether a SUBACK grants this QoS to so many filters.
pub(super) fn granted(
    packet: &Packet<'_>,
    version: Version,
    qos: u8,
    filters: usize,
) -> Result<()> {
    let codes = packet.codes(version)?;
    match codes.iter().find(|code| **code != qos) {
        None if codes.len() == filters => Ok(()),
        None => bail!("the broker granted {} of {filters} filters", codes.len()),
        Some(lower) if *lower <= 2 => bail!("the broker granted QoS {lower} instead of {qos}"),
        Some(code) => bail!("the broker refused SUBSCRIBE with code {code:#04x}"),
    }
}

/// Where the order's broker speaks this version.
fn address(order: &Order, version: Version) -> SocketAddr {
    match version {
        Version::V3 => order.v3,
        Version::V5 => order.v5,
    }
}

/// The version as the encoder of the tests names it.
pub(super) fn wire_version(version: Version) -> wire::Version {
    match version {
        Version::V3 => wire::Version::V311,
        Version::V5 => wire::Version::V5,
    }
}

fn tcp(address: SocketAddr, number: u32) -> Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source(address, number) {
        socket.bind(&source.into())?;
    }
    socket.connect_timeout(&address.into(), PATIENCE)?;
    Ok(socket.into())
}

fn udp(address: SocketAddr, number: u32) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind(source(address, number).unwrap_or((any, 0).into()))
}

/// Where to connect from.
fn source(address: SocketAddr, number: u32) -> Option<SocketAddr> {
    // Fits: one of a few.
    let last = 2 + (number % SOURCES) as u8;
    let is_loopback = address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
    is_loopback.then(|| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))
}

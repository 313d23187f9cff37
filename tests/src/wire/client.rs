//! A connection: sends bytes, waits for packets.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::decode;
use super::encode;
use super::packet::{
    Ack, ConnAck, Packet, Publish, Reason, SubAck, Subscribe, Unsubscribe, Version,
};
use super::property::Property;
use super::stream::Stream;
use crate::server::Server;

/// How long an expected packet may take, unless [`set_patience`] said otherwise. Generous: only a
/// failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(15);

static PATIENCE_IN_MILLISECONDS: AtomicU64 = AtomicU64::new(PATIENCE.as_millis() as u64);

/// How long an expected packet may take in this process from now on. Less than the usual is for runs
/// that expect failures: each of them lasts this long.
pub fn set_patience(patience: Duration) {
    PATIENCE_IN_MILLISECONDS.store(patience.as_millis() as u64, Ordering::Relaxed);
}

/// How long an expected packet may take.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_millis(PATIENCE_IN_MILLISECONDS.load(Ordering::Relaxed))
}

/// What a connection has to say within a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole packet.
    Packet(Packet),
    /// The server closed the connection.
    Closed,
    /// Nothing came.
    Silence,
}

/// One connection to a server.
pub struct Client {
    stream: Stream,
    version: Version,
    received: Vec<u8>,
    /// Packets that came while another was awaited.
    early: VecDeque<Packet>,
    connack: Option<ConnAck>,
    last_id: u16,
}

impl Client {
    /// Opens a connection, with the handshakes of what carries MQTT, and sends nothing.
    ///
    /// # Panics
    ///
    /// If nobody listens, or a handshake fails.
    #[must_use]
    #[track_caller]
    pub fn dial(server: impl Into<Server>, version: Version) -> Self {
        let server = server.into();
        let stream = server.connect().unwrap_or_else(|error| {
            let (scheme, address) = (server.transport.scheme(), server.address);
            panic!("no connection to {scheme}://{address}: {error}")
        });
        Self::over(stream, version)
    }

    /// A client over a connection that is open already.
    #[must_use]
    pub fn over(stream: impl Into<Stream>, version: Version) -> Self {
        let stream = stream.into();
        let (received, early) = (Vec::new(), VecDeque::new());
        Self {
            stream,
            version,
            received,
            early,
            connack: None,
            last_id: 0,
        }
    }

    /// What carries the packets.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The version that packets are read and written in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The server's CONNACK.
    ///
    /// # Panics
    ///
    /// If the connection was opened without [`super::Connect::open`].
    #[must_use]
    #[track_caller]
    pub fn connack(&self) -> &ConnAck {
        self.connack
            .as_ref()
            .unwrap_or_else(|| panic!("no CONNACK was awaited"))
    }

    pub(super) fn set_connack(&mut self, connack: ConnAck) {
        self.connack = Some(connack);
    }

    /// Whether the server resumed a session.
    #[must_use]
    #[track_caller]
    pub fn session_present(&self) -> bool {
        self.connack().session_present
    }

    /// The next packet identifier: 1, 2, 3 and so on.
    pub fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    // ---- sending ----

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// If the connection does not take them in time.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| {
            panic!(
                "{} bytes were not sent: {error}; {}",
                bytes.len(),
                self.last_words()
            )
        });
    }

    /// Sends bytes to a server that may have closed already.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write(bytes)
    }

    /// Sends a PUBLISH as it is.
    #[track_caller]
    pub fn send_publish(&mut self, message: &Publish) {
        self.send(&message.encode(self.version));
    }

    /// Sends PUBACK.
    #[track_caller]
    pub fn send_puback(&mut self, ack: &Ack) {
        self.send(&ack.encode(0x40, self.version));
    }

    /// Sends PUBREC.
    #[track_caller]
    pub fn send_pubrec(&mut self, ack: &Ack) {
        self.send(&ack.encode(0x50, self.version));
    }

    /// Sends PUBREL.
    #[track_caller]
    pub fn send_pubrel(&mut self, ack: &Ack) {
        self.send(&ack.encode(0x62, self.version));
    }

    /// Sends PUBCOMP.
    #[track_caller]
    pub fn send_pubcomp(&mut self, ack: &Ack) {
        self.send(&ack.encode(0x70, self.version));
    }

    /// DISCONNECT without a reason, and closes.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.send(&[0xE0, 0x00]);
        self.expect_close();
    }

    /// DISCONNECT with a reason code and properties (MQTT 5), and closes.
    #[track_caller]
    pub fn disconnect_with(mut self, code: u8, properties: &[Property]) {
        self.send(&encode::disconnect(code, properties));
        self.expect_close();
    }

    /// Ends the TCP connection without a farewell of any layer, as a device does that loses its network.
    pub fn vanish(self) {
        // Nothing to do about a socket that is gone already.
        let _ = self.stream.cut();
    }

    /// Says that no more bytes will come, and goes on reading.
    #[track_caller]
    pub fn half_close(&mut self) {
        self.stream
            .half_close()
            .unwrap_or_else(|error| panic!("no half-close: {error}"));
    }

    // ---- exchanges ----

    /// Publishes and completes the exchange that the QoS asks for; returns the reason code. The packet
    /// identifier is chosen here. Other packets that come meanwhile are kept for later.
    #[track_caller]
    pub fn publish(&mut self, message: &Publish) -> u8 {
        let mut message = message.clone();
        if message.qos > 0 && message.id == 0 {
            message.id = self.next_id();
        }
        self.send_publish(&message);
        match message.qos {
            0 => 0,
            1 => self.await_puback(message.id).code,
            _ => {
                let received = self.await_pubrec(message.id);
                if received.code < 0x80 {
                    self.send_pubrel(&Ack::new(message.id));
                    let complete = self.await_pubcomp(message.id);
                    assert_eq!(complete.code, 0, "PUBCOMP of {}", message.id);
                }
                received.code
            }
        }
    }

    /// The PUBACK of a packet identifier; other packets are kept for later.
    #[track_caller]
    pub fn await_puback(&mut self, id: u16) -> Ack {
        self.wait_for("PUBACK", |packet| match packet {
            Packet::PubAck(ack) if ack.id == id => Some(ack.clone()),
            _ => None,
        })
    }

    /// The PUBREC of a packet identifier; other packets are kept for later.
    #[track_caller]
    pub fn await_pubrec(&mut self, id: u16) -> Ack {
        self.wait_for("PUBREC", |packet| match packet {
            Packet::PubRec(ack) if ack.id == id => Some(ack.clone()),
            _ => None,
        })
    }

    /// The PUBCOMP of a packet identifier; other packets are kept for later.
    #[track_caller]
    pub fn await_pubcomp(&mut self, id: u16) -> Ack {
        self.wait_for("PUBCOMP", |packet| match packet {
            Packet::PubComp(ack) if ack.id == id => Some(ack.clone()),
            _ => None,
        })
    }

    /// Subscribes to one filter; `options` is the QoS with the bits of [`super::options`]. The server
    /// must grant just that QoS.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) {
        let answer = self.subscribe_with(&[(filter, options)], &[]);
        assert_eq!(
            answer.codes,
            [options & 3],
            "SUBSCRIBE to {filter}: {answer:?}"
        );
    }

    /// Subscribes with properties and returns the answer; other packets are kept for later.
    #[track_caller]
    pub fn subscribe_with(&mut self, filters: &[(&str, u8)], properties: &[Property]) -> SubAck {
        let id = self.next_id();
        let filters = filters
            .iter()
            .map(|(filter, options)| ((*filter).to_owned(), *options));
        let packet = Subscribe {
            id,
            properties: properties.to_vec(),
            filters: filters.collect(),
        };
        self.send(&packet.encode(self.version));
        self.wait_for("SUBACK", |packet| match packet {
            Packet::SubAck(answer) if answer.id == id => Some(answer.clone()),
            _ => None,
        })
    }

    /// Unsubscribes and returns the answer; other packets are kept for later.
    #[track_caller]
    pub fn unsubscribe(&mut self, filters: &[&str]) -> SubAck {
        let id = self.next_id();
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        self.send(&Unsubscribe { id, filters }.encode(self.version));
        self.wait_for("UNSUBACK", |packet| match packet {
            Packet::UnsubAck(answer) if answer.id == id => Some(answer.clone()),
            _ => None,
        })
    }

    /// A ping and its answer; returns every packet that came before the answer. What a server had to
    /// send this client for packets it has acknowledged is among them.
    #[track_caller]
    pub fn fence(&mut self) -> Vec<Packet> {
        self.send(&[0xC0, 0x00]);
        self.wait_for("PINGRESP", |packet| {
            (*packet == Packet::PingResp).then_some(())
        });
        self.early.drain(..).collect()
    }

    /// Nothing may have come, up to now.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        let packets = self.fence();
        assert!(
            packets.is_empty(),
            "nothing was to come, but {packets:?} did"
        );
    }

    // ---- expectations ----

    /// The next packet must be one that `pick` takes.
    ///
    /// # Panics
    ///
    /// If it is another one, or none comes.
    #[track_caller]
    pub fn expect<T>(&mut self, what: &str, pick: impl Fn(&Packet) -> Option<T>) -> T {
        match self.next(patience()) {
            Event::Packet(packet) => {
                pick(&packet).unwrap_or_else(|| panic!("{what} expected, {packet:?} came"))
            }
            Event::Closed => panic!("{what} expected, the server closed the connection"),
            Event::Silence => panic!("{what} expected, nothing came for {:?}", patience()),
        }
    }

    /// The next packet must be a CONNACK.
    #[track_caller]
    pub fn expect_connack(&mut self) -> ConnAck {
        self.expect("CONNACK", |packet| match packet {
            Packet::ConnAck(answer) => Some(answer.clone()),
            _ => None,
        })
    }

    /// The next packet must be a PUBLISH. It is not acknowledged.
    #[track_caller]
    pub fn expect_publish(&mut self) -> Publish {
        self.expect("PUBLISH", |packet| match packet {
            Packet::Publish(message) => Some(message.clone()),
            _ => None,
        })
    }

    /// The next packet must be a PUBREL.
    #[track_caller]
    pub fn expect_pubrel(&mut self) -> Ack {
        self.expect("PUBREL", |packet| match packet {
            Packet::PubRel(ack) => Some(ack.clone()),
            _ => None,
        })
    }

    /// The next packet must be a PUBLISH; acknowledges it, a QoS 2 message to its end.
    #[track_caller]
    pub fn receive(&mut self) -> Publish {
        let message = self.expect_publish();
        self.acknowledge(&message);
        message
    }

    /// `count` messages, each acknowledged, as texts.
    #[track_caller]
    pub fn receive_texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.receive().text()).collect()
    }

    /// Completes the exchange of a message that was received.
    #[track_caller]
    pub fn acknowledge(&mut self, message: &Publish) {
        let id = message.id;
        match message.qos {
            0 => {}
            1 => self.send_puback(&Ack::new(id)),
            _ => {
                self.send_pubrec(&Ack::new(id));
                self.wait_for("PUBREL", |packet| match packet {
                    Packet::PubRel(ack) if ack.id == id => Some(()),
                    _ => None,
                });
                self.send_pubcomp(&Ack::new(id));
            }
        }
    }

    /// The server must close the connection and send nothing before.
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.next(patience()) {
            Event::Closed => {}
            other => panic!("the server was to close the connection, but: {other:?}"),
        }
    }

    /// The server must send DISCONNECT and close; returns the DISCONNECT.
    #[track_caller]
    pub fn expect_disconnect(&mut self) -> Reason {
        let reason = self.expect("DISCONNECT", |packet| match packet {
            Packet::Disconnect(reason) => Some(reason.clone()),
            _ => None,
        });
        self.expect_close();
        reason
    }

    /// The server must end the connection: with a DISCONNECT of this code in MQTT 5, by closing it
    /// before.
    #[track_caller]
    pub fn expect_end(&mut self, code: u8) {
        if self.version == Version::V5 {
            let reason = self.expect_disconnect();
            assert_eq!(
                reason.code, code,
                "DISCONNECT {:#04x}, not {code:#04x}",
                reason.code
            );
        } else {
            self.expect_close();
        }
    }

    /// The server must end the connection for an error: a CONNACK or DISCONNECT with a code of 0x80
    /// or more (MQTT 5) or none at all, then close. Returns the code. Messages before it are passed
    /// over.
    #[track_caller]
    pub fn expect_error(&mut self) -> Option<u8> {
        let mut code = None;
        loop {
            match self.next(patience()) {
                Event::Closed => return code,
                Event::Silence => panic!("the server was to end the connection, but kept it"),
                Event::Packet(Packet::Disconnect(Reason { code: given, .. }))
                | Event::Packet(Packet::ConnAck(ConnAck { code: given, .. }))
                    if code.is_none() && (given >= 0x80 || self.version != Version::V5) =>
                {
                    code = Some(given);
                }
                Event::Packet(Packet::Publish(_)) if code.is_none() => {}
                Event::Packet(packet) => panic!("an end with an error expected, {packet:?} came"),
            }
        }
    }

    // ---- reading ----

    /// Reads until a packet comes that `pick` takes; others are kept for later.
    #[track_caller]
    fn wait_for<T>(&mut self, what: &str, pick: impl Fn(&Packet) -> Option<T>) -> T {
        for position in 0..self.early.len() {
            if let Some(found) = pick(&self.early[position]) {
                self.early.remove(position);
                return found;
            }
        }
        let end = Instant::now() + patience();
        loop {
            match self.read(end.saturating_duration_since(Instant::now())) {
                Event::Packet(packet) => match pick(&packet) {
                    Some(found) => return found,
                    None => self.early.push_back(packet),
                },
                Event::Closed => panic!("{what} awaited, the server closed after {:?}", self.early),
                Event::Silence => panic!("{what} awaited, only {:?} came", self.early),
            }
        }
    }

    /// The next packet, or that the connection was closed, or that nothing came within this time.
    ///
    /// # Panics
    ///
    /// If the server breaks the specification.
    #[track_caller]
    pub fn next(&mut self, within: Duration) -> Event {
        match self.early.pop_front() {
            Some(packet) => Event::Packet(packet),
            None => self.read(within),
        }
    }

    /// The next bytes as they are, for answers in a form that depends on the server; `None` once it has
    /// closed.
    ///
    /// # Panics
    ///
    /// If nothing comes in time.
    #[track_caller]
    pub fn next_raw(&mut self) -> Option<Vec<u8>> {
        let mut chunk = [0; 1024];
        match self.stream.read(&mut chunk, patience()) {
            Ok(0) => None,
            Ok(length) => Some(chunk[..length].to_vec()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the server neither answered nor closed: {error}"),
        }
    }

    #[track_caller]
    fn read(&mut self, within: Duration) -> Event {
        let end = Instant::now() + within;
        loop {
            if let Some(packet) = self.decode() {
                return Event::Packet(packet);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Event::Silence;
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk, left) {
                Ok(0) => return self.closed(),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    // TCP ended without TLS's close_notify.
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::BrokenPipe => return self.closed(),
                    _ => panic!("the connection cannot be read: {error}"),
                },
            }
        }
    }

    #[track_caller]
    fn decode(&mut self) -> Option<Packet> {
        let broken = |error: String, bytes: &[u8]| -> ! {
            let shown = &bytes[..bytes.len().min(64)];
            panic!("the server broke the specification: {error}; bytes {shown:02x?}")
        };
        let length = match decode::complete(&self.received) {
            Ok(length) => length?,
            Err(error) => broken(error, &self.received),
        };
        let packet = match decode::packet(&self.received[..length], self.version) {
            Ok(packet) => packet,
            Err(error) => broken(error, &self.received[..length]),
        };
        self.received.drain(..length);
        Some(packet)
    }

    #[track_caller]
    fn closed(&self) -> Event {
        assert!(
            self.received.is_empty(),
            "the server closed in the middle of a packet: {:02x?}",
            self.received
        );
        Event::Closed
    }

    /// What the server said before it stopped taking bytes, for a message of failure.
    fn last_words(&mut self) -> String {
        format!("{:?}", self.next(Duration::from_millis(200)))
    }
}

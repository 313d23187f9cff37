//! What a faulty proxy does to the packet in question, so that a test has to fail.
//!
//! A fault stands for a server that breaks the statement: it drops, doubles, delays or alters a packet
//! that the server sent, or changes what the server was told, so that the server answers as one that had
//! misunderstood the client.

use crate::frame::Frame;

/// First bytes of packets without flags (MQTT 5.0 section 2.1.2), to name the packet in question.
pub(crate) mod packet {
    #![allow(missing_docs, reason = "the names of the specification")]
    pub(crate) const CONNECT: u8 = 0x10;
    pub(crate) const CONNACK: u8 = 0x20;
    pub(crate) const PUBLISH: u8 = 0x30;
    pub(crate) const PUBACK: u8 = 0x40;
    pub(crate) const PUBREC: u8 = 0x50;
    pub(crate) const PUBREL: u8 = 0x60;
    pub(crate) const PUBCOMP: u8 = 0x70;
    pub(crate) const SUBSCRIBE: u8 = 0x80;
    pub(crate) const SUBACK: u8 = 0x90;
    pub(crate) const UNSUBSCRIBE: u8 = 0xA0;
    pub(crate) const UNSUBACK: u8 = 0xB0;
    pub(crate) const PINGREQ: u8 = 0xC0;
    pub(crate) const PINGRESP: u8 = 0xD0;
    pub(crate) const DISCONNECT: u8 = 0xE0;
    pub(crate) const AUTH: u8 = 0xF0;
}

/// A fault that is seeded between a test and a server.
#[derive(Clone, Copy)]
pub struct Fault {
    pub(crate) at: At,
    pub(crate) nth: Option<usize>,
    pub(crate) only: Option<fn(&Frame) -> bool>,
    pub(crate) action: Action,
}

/// Where it strikes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Packets of this type on their way to the client.
    Server(u8),
    /// Packets of this type on their way to the server.
    Client(u8),
    /// The server's end of the connection.
    Close,
    /// Bytes as they come, whatever carries MQTT: those of clients, or those of the server.
    Bytes {
        /// Whose they are.
        from_client: bool,
    },
}

/// What it does.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    /// The packet never arrives.
    Drop,
    /// It arrives twice.
    Double,
    /// It arrives after the next one of its direction; alone if there is none.
    Swap,
    /// It arrives changed: what is changed, and the change.
    Alter(&'static str, fn(&mut Frame)),
    /// Both ends see the connection closed in place of the packet.
    Cut,
    /// The client is sent these bytes; the packet itself does not arrive: what they are, and the bytes.
    Answer(&'static str, fn(&Frame) -> Vec<u8>),
    /// The client is sent these bytes after the packet: what they are, and the bytes.
    Follow(&'static str, fn(&Frame) -> Vec<u8>),
    /// The client does not see that the server closed.
    Hide,
    /// Bytes arrive changed, if the change says that there was something to change: what is changed, and
    /// the change.
    Bytes(&'static str, fn(&mut Vec<u8>) -> bool),
}

impl Fault {
    const fn new(at: At) -> Self {
        Self {
            at,
            nth: None,
            only: None,
            action: Action::Drop,
        }
    }

    /// A fault of the packets of this type that the server sends; dropped unless more is said.
    pub(crate) const fn server(kind: u8) -> Self {
        Self::new(At::Server(kind))
    }

    /// A fault of the packets of this type that clients send; dropped unless more is said.
    pub(crate) const fn client(kind: u8) -> Self {
        Self::new(At::Client(kind))
    }

    /// The server's closing of connections is hidden from the client: it seems to keep them. What the
    /// server sent before arrives.
    pub(crate) const fn never_closes() -> Self {
        let mut fault = Self::new(At::Close);
        fault.action = Action::Hide;
        fault
    }

    /// A fault of what clients send, where it is not MQTT that is looked at but what carries it. The change
    /// is given what has come at a time and returns whether it has struck.
    pub(crate) const fn bytes_of_client(
        what: &'static str,
        change: fn(&mut Vec<u8>) -> bool,
    ) -> Self {
        let mut fault = Self::new(At::Bytes { from_client: true });
        fault.action = Action::Bytes(what, change);
        fault
    }

    /// The same of what the server sends.
    pub(crate) const fn bytes_of_server(
        what: &'static str,
        change: fn(&mut Vec<u8>) -> bool,
    ) -> Self {
        let mut fault = Self::new(At::Bytes { from_client: false });
        fault.action = Action::Bytes(what, change);
        fault
    }

    /// Whether it is a fault of what carries MQTT, and so of WebSocket.
    #[must_use]
    pub fn is_of_bytes(&self) -> bool {
        matches!(self.at, At::Bytes { .. })
    }

    /// Strikes only the `nth` of them (from 1), counted over all connections of the test in the order
    /// of arrival.
    pub(crate) const fn nth(mut self, nth: usize) -> Self {
        self.nth = Some(nth);
        self
    }

    /// Strikes, and counts, only packets that look like this.
    pub(crate) const fn only(mut self, like: fn(&Frame) -> bool) -> Self {
        self.only = Some(like);
        self
    }

    /// The packet arrives twice.
    pub(crate) const fn doubled(mut self) -> Self {
        self.action = Action::Double;
        self
    }

    /// The packet arrives after the next one of its direction.
    pub(crate) const fn swapped(mut self) -> Self {
        self.action = Action::Swap;
        self
    }

    /// The packet arrives changed; `what` completes "with", as in "DUP set".
    pub(crate) const fn altered(mut self, what: &'static str, change: fn(&mut Frame)) -> Self {
        self.action = Action::Alter(what, change);
        self
    }

    /// The connection is closed in place of the packet.
    pub(crate) const fn cut(mut self) -> Self {
        self.action = Action::Cut;
        self
    }

    /// In place of the packet the client is sent something; `what` completes "answered with".
    pub(crate) const fn answered(
        mut self,
        what: &'static str,
        bytes: fn(&Frame) -> Vec<u8>,
    ) -> Self {
        self.action = Action::Answer(what, bytes);
        self
    }

    /// The packet arrives, and the client is sent something after it; `what` completes "followed by".
    pub(crate) const fn followed(
        mut self,
        what: &'static str,
        bytes: fn(&Frame) -> Vec<u8>,
    ) -> Self {
        self.action = Action::Follow(what, bytes);
        self
    }

    /// The fault in words: `2nd PUBLISH of the server: dropped`.
    #[must_use]
    pub fn describe(&self) -> String {
        let done = match self.action {
            Action::Drop => "dropped".to_owned(),
            Action::Double => "doubled".to_owned(),
            Action::Swap => "sent after the next packet".to_owned(),
            Action::Alter(what, _) => format!("altered, {what}"),
            Action::Cut => "connection closed instead".to_owned(),
            Action::Answer(what, _) => format!("answered with {what}"),
            Action::Follow(what, _) => format!("followed by {what}"),
            Action::Hide => "hidden".to_owned(),
            Action::Bytes(what, _) => what.to_owned(),
        };
        let nth = match self.nth {
            None => "each ".to_owned(),
            Some(1) => "1st ".to_owned(),
            Some(2) => "2nd ".to_owned(),
            Some(3) => "3rd ".to_owned(),
            Some(nth) => format!("{nth}th "),
        };
        match self.at {
            At::Server(kind) => format!("{nth}{} of the server: {done}", name(kind)),
            At::Client(kind) => format!("{nth}{} of a client: {done}", name(kind)),
            At::Close => format!("the server's closing: {done}"),
            At::Bytes { from_client: true } => format!("bytes of a client: {done}"),
            At::Bytes { from_client: false } => format!("bytes of the server: {done}"),
        }
    }
}

fn name(kind: u8) -> &'static str {
    const NAMES: [&str; 16] = [
        "packet of type 0",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];
    NAMES[usize::from(kind >> 4)]
}

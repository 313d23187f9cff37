//! What the tests of connections share: a CONNECT that may be wrong in any way, ends of connections, and
//! changes of a CONNECT for faults.

use tidegate_tests::wire::{
    Client, Connect, Event, Packet, Publish, Version, Will, frame, patience,
};

use super::kit::nothing_before;
use crate::case::Case;
use crate::frame::Frame;

/// Bits of the connect flags (3.1.2.3).
pub(super) mod flag {
    pub(in super::super) const CLEAN: u8 = 0x02;
    pub(in super::super) const WILL: u8 = 0x04;
    pub(in super::super) const WILL_QOS_1: u8 = 0x08;
    pub(in super::super) const WILL_RETAIN: u8 = 0x20;
    pub(in super::super) const PASSWORD: u8 = 0x40;
    pub(in super::super) const USER_NAME: u8 = 0x80;
}

/// A CONNECT made of its parts.
#[derive(Clone)]
pub(super) struct RawConnect {
    version: Version,
    name: String,
    level: u8,
    flags: u8,
    properties: Vec<u8>,
    payload: Vec<u8>,
}

impl RawConnect {
    /// Up to the payload: the version's name and level, a clean start.
    pub(super) fn of(case: &Case) -> Self {
        let version = case.version();
        Self {
            version,
            name: if version == Version::V31 {
                "MQIsdp".to_owned()
            } else {
                "MQTT".to_owned()
            },
            level: version.level(),
            flags: flag::CLEAN,
            properties: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// With another protocol name.
    pub(super) fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// With another level; the form stays that of the version.
    pub(super) fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// With these flags.
    pub(super) fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// With these bytes as properties (MQTT 5), their length not among them.
    pub(super) fn properties(mut self, bytes: &[u8]) -> Self {
        self.properties = bytes.to_vec();
        self
    }

    /// With one more field in the payload: its length and its bytes.
    pub(super) fn field(mut self, bytes: &[u8]) -> Self {
        self.payload
            .extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        self.payload.extend_from_slice(bytes);
        self
    }

    /// With a will in the payload.
    pub(super) fn will(mut self, topic: &[u8], payload: &[u8]) -> Self {
        if self.version == Version::V5 {
            self.payload.push(0);
        }
        self.field(topic).field(payload)
    }

    /// With more bytes in the payload.
    pub(super) fn bytes_more(mut self, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        self
    }

    /// Variable header and payload.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = (self.name.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(self.name.as_bytes());
        body.extend_from_slice(&[self.level, self.flags, 0, 60]);
        if self.version == Version::V5 {
            // The length's encoding is that of a packet's remaining length.
            body.extend_from_slice(&frame(0, &self.properties)[1..]);
        }
        body.extend_from_slice(&self.payload);
        body
    }

    /// The packet.
    pub(super) fn bytes(&self) -> Vec<u8> {
        frame(0x10, &self.body())
    }
}

/// The server must end the connection, and may say why where its version has a word for it: a CONNACK
/// that refuses, a DISCONNECT with an error. Messages before it are passed over. Returns the code.
#[track_caller]
pub(super) fn ends(client: &mut Client, what: &str) -> Option<u8> {
    let mut code = None;
    loop {
        match client.next(patience()) {
            Event::Closed => return code,
            Event::Silence => panic!("{what}: the server kept the connection"),
            Event::Packet(Packet::Disconnect(reason)) if code.is_none() && reason.code >= 0x80 => {
                code = Some(reason.code);
            }
            Event::Packet(Packet::ConnAck(answer)) if code.is_none() && answer.code != 0 => {
                code = Some(answer.code);
            }
            Event::Packet(Packet::Publish(_)) if code.is_none() => {}
            Event::Packet(packet) => panic!("{what}: the connection was to end, {packet:?} came"),
        }
    }
}

/// The server must end a connection that begins with these bytes, and goes on to accept others: one that
/// closes every connection refuses nothing.
#[track_caller]
pub(super) fn refuses(case: &Case, bytes: &[u8], what: &str) -> Option<u8> {
    let mut client = case.dial();
    send(&mut client, bytes);
    let code = ends(&mut client, what);
    accepts(case);
    code
}

/// A CONNECT without a fault is accepted. It comes after what is refused: so it changes no count of packets
/// up to there, and no fault is noticed by it that the test itself would miss.
#[track_caller]
pub(super) fn accepts(case: &Case) {
    case.client("accepted").disconnect();
}

/// The server must end a connection of a client that sends these bytes. That it accepts the client is the
/// control.
#[track_caller]
pub(super) fn breaks(case: &Case, bytes: &[u8], what: &str) -> Option<u8> {
    let mut client = case.client("breaks");
    send(&mut client, bytes);
    ends(&mut client, what)
}

/// Sends to a server that may close at the first byte that it does not like.
pub(super) fn send(client: &mut Client, bytes: &[u8]) {
    let _ = client.try_send(bytes);
}

/// Everything that the server sends before it closes, as it is.
#[track_caller]
pub(super) fn last_words(client: &mut Client) -> Vec<u8> {
    let mut seen = Vec::new();
    while let Some(bytes) = client.next_raw() {
        seen.extend_from_slice(&bytes);
    }
    seen
}

/// Flags and code of a CONNACK, in whichever version's form; `None` if these bytes are none.
pub(super) fn connack(said: &[u8]) -> Option<(u8, u8)> {
    let [0x20, length @ ..] = said else {
        return None;
    };
    // The remaining length goes on as long as its bytes say so.
    let end = length.iter().position(|byte| byte & 0x80 == 0)?;
    match length.get(end + 1..)? {
        [flags, code, ..] => Some((*flags, *code)),
        _ => None,
    }
}

/// A client that sees what is published to `topic`.
#[track_caller]
pub(super) fn watcher(case: &Case, topic: &str) -> Client {
    let mut client = case.client("watcher");
    let answer = client.subscribe_with(&[(topic, 2)], &[]);
    assert!(
        matches!(answer.codes.as_slice(), [0..=2]),
        "SUBSCRIBE to {topic}: {answer:?}"
    );
    client
}

/// A client with this will is gone without a word.
#[track_caller]
pub(super) fn vanishes(case: &Case, connect: Connect, will: Will) {
    case.open(&connect.will(will)).vanish();
}

/// No will came up to now: the will of a client that vanishes now is the next message.
#[track_caller]
pub(super) fn no_will_before(case: &Case, watcher: &mut Client, topic: &str) {
    let will = Will::new(topic, "fence");
    case.open(&case.connect("fence").will(will)).vanish();
    nothing_before(watcher, "fence");
}

/// No message came up to now: the next is one that is published now.
#[track_caller]
pub(super) fn nothing_published(watcher: &mut Client, topic: &str) {
    watcher.publish(&Publish::new(topic, "fence").qos(1));
    nothing_before(watcher, "fence");
}

// ---- changes of a CONNECT ----

/// Where the connect flags are.
fn flags_at(frame: &Frame) -> usize {
    2 + usize::from(frame.u16_at(0)) + 1
}

/// Sets or clears connect flags.
pub(super) fn set_flags(frame: &mut Frame, flags: u8, on: bool) {
    let at = flags_at(frame);
    if let Some(byte) = frame.body.get_mut(at) {
        *byte = if on { *byte | flags } else { *byte & !flags };
    }
}

/// Gives a CONNECT another keep alive.
pub(super) fn set_keep_alive(frame: &mut Frame, seconds: u16) {
    let at = flags_at(frame) + 1;
    if let Some(bytes) = frame.body.get_mut(at..at + 2) {
        bytes.copy_from_slice(&seconds.to_be_bytes());
    }
}

/// Gives a CONNECT without properties another client identifier.
pub(super) fn set_client_id(frame: &mut Frame, id: &str) {
    let at = flags_at(frame) + 3 + usize::from(frame.version == Version::V5);
    let end = at + 2 + usize::from(frame.u16_at(at));
    if end <= frame.body.len() {
        let mut field = (id.len() as u16).to_be_bytes().to_vec();
        field.extend_from_slice(id.as_bytes());
        frame.body.splice(at..end, field);
    }
}

//! A QUIC client made of bytes. It shakes hands as any, and from then on does what it is told, whatever the gateway
//! allows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustls::quic::{ClientConnection, KeyChange, Keys, PacketKeySet, Secrets};
use tidegate_tests::Gateway;
use tidegate_tests::wire::{Connect, PATIENCE, Subscribe, Version};

use super::packets::{
    self, Frame, HANDSHAKE, Header, INITIAL, PHASE, SHORT, SMALLEST, client_hello, crypto,
    initial_keys, receive, split, varint,
};

/// Packet number spaces.
const SPACES: [u8; 3] = [INITIAL, HANDSHAKE, SHORT];
/// Packets that are acknowledged again with each acknowledgement.
const REMEMBERED: usize = 64;
/// After so long something is sent again.
const AGAIN: Duration = Duration::from_millis(100);
/// Bytes of a stream that fit into one packet.
const PIECE: usize = 1_000;

pub(crate) struct Raw {
    pub(crate) socket: UdpSocket,
    gateway: SocketAddr,
    tls: ClientConnection,
    pub(crate) id: [u8; packets::ID],
    /// The identifier that its first packet was sent to.
    pub(crate) first: [u8; packets::ID],
    /// The gateway's.
    pub(crate) peer: Vec<u8>,
    spaces: [Space; 3],
    /// What comes after the keys in use: the gateway updates them when it likes.
    secrets: Option<(Secrets, PacketKeySet)>,
    phase: u8,
    /// The next byte to be sent on each stream.
    offsets: BTreeMap<u64, u64>,
    /// What came on each stream.
    streams: BTreeMap<u64, Assembly>,
    /// What the other end said of the end: of QUIC or of the application.
    pub(crate) closed: Option<Frame>,
    done: bool,
}

#[derive(Default)]
struct Space {
    keys: Option<Keys>,
    sent: u64,
    received: BTreeSet<u64>,
    crypto: Assembly,
    /// What was sent of CRYPTO.
    written: u64,
    owes: bool,
}

/// Bytes that come in any order.
#[derive(Default)]
struct Assembly {
    waiting: BTreeMap<u64, Vec<u8>>,
    next: u64,
    ready: Vec<u8>,
}

impl Assembly {
    fn add(&mut self, offset: u64, bytes: Vec<u8>) {
        self.waiting.insert(offset, bytes);
        while let Some((offset, bytes)) = self.waiting.pop_first() {
            if offset > self.next {
                self.waiting.insert(offset, bytes);
                return;
            }
            let known = (self.next - offset) as usize;
            if let Some(new) = bytes.get(known..) {
                self.ready.extend(new);
                self.next += new.len() as u64;
            }
        }
    }
}

impl Raw {
    /// Shakes hands.
    #[track_caller]
    pub(crate) fn connect(gateway: &Gateway, number: u64) -> Self {
        let id = number.to_be_bytes();
        let (tls, hello) = client_hello(packets::tls(gateway), &id);
        let first = (!number).to_be_bytes();
        let mut raw = Self {
            socket: packets::socket(),
            gateway: gateway.address("quic"),
            tls,
            id,
            first,
            peer: first.to_vec(),
            spaces: Default::default(),
            secrets: None,
            phase: 0,
            offsets: BTreeMap::new(),
            streams: BTreeMap::new(),
            closed: None,
            done: false,
        };
        raw.spaces[0].keys = Some(initial_keys(&first));
        raw.send_in(0, &crypto(0, &hello));
        while !raw.done {
            raw.receive();
            assert!(raw.closed.is_none(), "no handshake: {:?}", raw.closed);
        }
        raw
    }

    /// A packet with these frames, to be sent from anywhere. It counts as sent.
    pub(crate) fn packet(&mut self, frames: &[u8]) -> Vec<u8> {
        self.seal(2, frames)
    }

    fn seal(&mut self, at: usize, frames: &[u8]) -> Vec<u8> {
        let space = &mut self.spaces[at];
        let number = space.sent;
        space.sent += 1;
        let mut all = Vec::new();
        if std::mem::take(&mut space.owes) {
            acknowledgement(&mut all, &space.received);
        }
        all.extend(frames);
        let keys = space.keys.as_ref().unwrap();
        let header = Header {
            kind: SPACES[at] | if at == 2 { self.phase } else { 0 },
            destination: &self.peer,
            source: &self.id,
            token: &[],
        };
        let smallest = if at == 0 { SMALLEST } else { 0 };
        header.seal(&keys.local, number, &all, smallest)
    }

    fn send_in(&mut self, at: usize, frames: &[u8]) {
        let packet = self.seal(at, frames);
        self.socket.send_to(&packet, self.gateway).unwrap();
    }

    /// Sends frames in a packet of their own.
    pub(crate) fn send(&mut self, frames: &[u8]) {
        self.send_in(2, frames);
    }

    /// Frames that carry the next bytes of a stream.
    pub(crate) fn next_of(&mut self, stream: u64, bytes: &[u8]) -> Vec<u8> {
        let offset = self.offsets.entry(stream).or_default();
        let frame = packets::stream(stream, *offset, bytes);
        *offset += bytes.len() as u64;
        frame
    }

    pub(crate) fn write(&mut self, stream: u64, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            let frame = self.next_of(stream, piece);
            self.send(&frame);
        }
    }

    /// Writes this, again and again if it is lost, until a packet of MQTT comes for it.
    #[track_caller]
    pub(crate) fn insist(&mut self, stream: u64, bytes: &[u8]) -> (u8, Vec<u8>) {
        let frame = self.next_of(stream, bytes);
        let end = Instant::now() + PATIENCE;
        self.socket.set_read_timeout(Some(AGAIN)).unwrap();
        let mut buffer = vec![0; packets::LARGEST];
        loop {
            self.send(&frame);
            while let Ok(length) = self.socket.recv(&mut buffer) {
                self.take(&buffer[..length]);
                let ready = &mut self.streams.entry(stream).or_default().ready;
                if let Some(packet) = mqtt(ready) {
                    self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    return packet;
                }
            }
            assert!(Instant::now() < end, "nothing comes: {:?}", self.closed);
        }
    }

    /// Waits for a datagram, and acknowledges it.
    #[track_caller]
    pub(crate) fn receive(&mut self) {
        let datagram = receive(&self.socket);
        self.take(&datagram);
    }

    fn take(&mut self, datagram: &[u8]) {
        for packet in split(datagram) {
            let Some(at) = SPACES.iter().position(|kind| *kind == packet.kind) else {
                continue;
            };
            let space = &mut self.spaces[at];
            let Some(keys) = &mut space.keys else {
                continue;
            };
            let expected = space.received.last().map_or(0, |last| last + 1);
            let mut opened = packet.open(&keys.remote, expected);
            if at == 2 && opened.is_none() {
                let Some((secrets, next)) = &mut self.secrets else {
                    continue;
                };
                opened = packet.open_with(&*keys.remote.header, &*next.remote, expected);
                if opened.is_some() {
                    let next = std::mem::replace(next, secrets.next_packet_keys());
                    (keys.local.packet, keys.remote.packet) = (next.local, next.remote);
                    self.phase ^= PHASE;
                }
            }
            let Some((number, payload)) = opened else {
                continue;
            };
            if !space.received.insert(number) {
                continue;
            }
            if space.received.len() > REMEMBERED {
                space.received.pop_first();
            }
            if at < 2 {
                self.peer = packet.source;
            }
            let frames = packets::frames(&payload).unwrap();
            let space = &mut self.spaces[at];
            space.owes |= frames.iter().any(|frame| *frame != Frame::Quiet);
            for frame in frames {
                self.happened(at, frame);
            }
        }
        for at in 0..SPACES.len() {
            if self.spaces[at].owes && self.spaces[at].keys.is_some() && self.closed.is_none() {
                self.send_in(at, &[]);
            }
        }
    }

    fn happened(&mut self, at: usize, frame: Frame) {
        match frame {
            Frame::Crypto(offset, bytes) => {
                let crypto = &mut self.spaces[at].crypto;
                crypto.add(offset, bytes);
                let bytes = std::mem::take(&mut crypto.ready);
                if !bytes.is_empty() {
                    self.tls.read_hs(&bytes).unwrap();
                    self.answer(at);
                }
            }
            Frame::Stream(stream, offset, bytes) => {
                self.streams.entry(stream).or_default().add(offset, bytes);
            }
            Frame::PathChallenge(data) => {
                let response = [&[0x1B], data.as_slice()].concat();
                self.send(&response);
            }
            Frame::Close(_) | Frame::ApplicationClose(_) => self.closed = Some(frame),
            Frame::HandshakeDone => {
                self.done = true;
                self.spaces[0].keys = None;
                self.spaces[1].keys = None;
            }
            _ => {}
        }
    }

    /// What TLS has to say. Its keys come one after the other.
    fn answer(&mut self, mut at: usize) {
        loop {
            let mut bytes = Vec::new();
            let change = self.tls.write_hs(&mut bytes);
            if !bytes.is_empty() {
                let frame = crypto(self.spaces[at].written, &bytes);
                self.spaces[at].written += bytes.len() as u64;
                self.send_in(at, &frame);
            }
            let (next, keys) = match change {
                Some(KeyChange::Handshake { keys }) => (1, keys),
                Some(KeyChange::OneRtt { keys, mut next }) => {
                    let following = next.next_packet_keys();
                    self.secrets = Some((next, following));
                    (2, keys)
                }
                None => return,
            };
            self.spaces[next].keys = Some(keys);
            at = at.max(1);
        }
    }

    // ---- MQTT -------------------------------------------------------------------------------

    /// Speaks CONNECT on the first stream.
    #[track_caller]
    pub(crate) fn begin(&mut self, connect: &Connect) {
        self.write(0, &connect.encode());
        assert_eq!(self.answer_on(0).0, 0x20, "CONNACK");
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, stream: u64, filter: &str) {
        let subscribe = Subscribe {
            id: 1,
            properties: Vec::new(),
            filters: vec![(filter.to_owned(), 0)],
        };
        self.write(stream, &subscribe.encode(Version::V5));
        assert_eq!(self.answer_on(stream).0, 0x90, "SUBACK");
    }

    /// The next packet of MQTT on a stream: its first byte and its body.
    #[track_caller]
    pub(crate) fn answer_on(&mut self, stream: u64) -> (u8, Vec<u8>) {
        let answer = self.next_on(stream);
        answer.unwrap_or_else(|| panic!("the end came: {:?}", self.closed))
    }

    /// The same, or the end.
    #[track_caller]
    pub(crate) fn next_on(&mut self, stream: u64) -> Option<(u8, Vec<u8>)> {
        loop {
            let ready = &mut self.streams.entry(stream).or_default().ready;
            if let Some(packet) = mqtt(ready) {
                return Some(packet);
            }
            if self.closed.is_some() {
                return None;
            }
            self.receive();
        }
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Frame {
        loop {
            if let Some(end) = &self.closed {
                return end.clone();
            }
            self.receive();
        }
    }
}

/// ACK of these packet numbers (RFC 9000 section 19.3): of exactly these, as the gateway leaves some out to find
/// who acknowledges what has not come.
fn acknowledgement(out: &mut Vec<u8>, received: &BTreeSet<u64>) {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in received.iter().rev() {
        match ranges.last_mut() {
            Some((first, _)) if *first == number + 1 => *first = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let Some((first, last)) = ranges.first().copied() else {
        return;
    };
    out.push(0x02);
    varint(out, last);
    varint(out, 0);
    varint(out, ranges.len() as u64 - 1);
    varint(out, last - first);
    let mut above = first;
    for (first, last) in &ranges[1..] {
        varint(out, above - last - 2);
        varint(out, last - first);
        above = *first;
    }
}

/// Takes the first packet of MQTT.
pub(crate) fn mqtt(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let first = *bytes.first()?;
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?.to_vec();
    bytes.drain(..at + length);
    Some((first, body))
}

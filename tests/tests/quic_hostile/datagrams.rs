//! First packets that are none, are too much, or are somebody else's; and what is sent back for them.

use std::net::{SocketAddr, UdpSocket};

use tidegate_tests::certificates::{Authority, Request};
use tidegate_tests::wire::Connect;
use tidegate_tests::{Gateway, Noise, Transport, eventually, unique};

use super::packets::{
    self, Frame, HANDSHAKE, Header, ID, INITIAL, LARGEST, RETRY, SHORT, SMALLEST,
    VERSION_NEGOTIATION, client_hello, crypto, drain, fence, initial_keys, probe, receive, split,
};
use super::{counted, refused};

const SOURCE: [u8; ID] = [0xCD; ID];

/// Somebody at an address of its own, who makes first packets.
struct Sender<'a> {
    gateway: &'a Gateway,
    address: SocketAddr,
    socket: UdpSocket,
    hello: Vec<u8>,
    /// Names what it sends, and fences.
    last: u64,
}

impl<'a> Sender<'a> {
    fn to(gateway: &'a Gateway) -> Self {
        Self {
            gateway,
            address: gateway.address("quic"),
            socket: packets::socket(),
            hello: crypto(0, &client_hello(packets::tls_of_nobody(), &SOURCE).1),
            last: 0,
        }
    }

    /// An identifier that nothing was sent to.
    fn id(&mut self) -> [u8; ID] {
        self.last += 1;
        self.last.to_be_bytes()
    }

    fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.address).unwrap();
    }

    /// What came for everything that was sent, as far as it was answered when it came.
    fn answers(&mut self) -> Vec<Vec<u8>> {
        let mark = self.last | 1 << 63;
        self.last += 1;
        fence(&self.socket, self.address, mark)
    }

    fn accepted(&self) -> u64 {
        counted(self.gateway, "tidegate_listener_accepted_total", &[])
    }

    /// A datagram with a first packet of these frames is answered with these.
    fn begin(&mut self, frames: &[u8]) -> Vec<Frame> {
        let id = self.id();
        let keys = initial_keys(&id);
        let packet = Header::initial(&id, &SOURCE).seal(&keys.local, 0, frames, SMALLEST);
        self.send(&packet);
        self.initial(&id)
    }

    /// The frames of the Initial packet that comes for a first packet to this identifier.
    #[track_caller]
    fn initial(&self, id: &[u8]) -> Vec<Frame> {
        let keys = initial_keys(id);
        loop {
            let datagram = receive(&self.socket);
            let packets = split(&datagram);
            let initial = packets.iter().find(|packet| packet.kind == INITIAL);
            let opened = initial.and_then(|packet| packet.open(&keys.remote, 0));
            if let Some((_, payload)) = opened {
                let mut frames = packets::frames(&payload).unwrap();
                frames.retain(|frame| *frame != Frame::Quiet);
                return frames;
            }
        }
    }
}

fn is_server_hello(frames: &[Frame]) -> bool {
    matches!(frames, [Frame::Crypto(0, hello)] if hello[0] == 2)
}

/// CRYPTO_ERROR with an alert, or PROTOCOL_VIOLATION.
fn is_tls_error(frames: &[Frame]) -> bool {
    matches!(frames, [Frame::Close(0x100..0x200 | 0x0A)])
}

fn let_in(gateway: &Gateway) {
    let server = gateway.listener("quic", Transport::Quic);
    Connect::v5(&unique("afterwards")).open(server).disconnect();
}

#[test]
fn rfc9000_14_1_a_first_packet_in_a_datagram_of_less_than_1200_bytes_is_discarded() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    let hello = sender.hello.clone();
    for (frames, length) in [
        (&packets::PING[..], 0),
        (&packets::CLOSE, 100),
        (&hello, 0),
        (&hello, 600),
        (&hello, SMALLEST - 1),
    ] {
        let id = sender.id();
        let header = Header::initial(&id, &SOURCE);
        let packet = header.seal(&initial_keys(&id).local, 0, frames, length);
        assert!(packet.len() < SMALLEST && packet.len() >= length);
        sender.send(&packet);
    }
    assert_eq!(sender.answers(), Vec::<Vec<u8>>::new());
    assert_eq!(sender.accepted(), 0);
    assert!(is_server_hello(&sender.begin(&hello)));
    assert_eq!(sender.accepted(), 1);
}

#[test]
fn rfc9000_6_1_another_version_is_answered_with_less_than_came() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    for length in [SMALLEST, 1_350, 1_472] {
        sender.send(&probe(&[7; ID], length));
        let answer = receive(&sender.socket);
        assert!(answer.len() < 64, "{} bytes", answer.len());
        let answer = split(&answer).pop().unwrap();
        assert_eq!(answer.kind, VERSION_NEGOTIATION);
        assert_eq!(answer.source, [7; ID]);
        assert!(
            answer
                .bytes
                .chunks(4)
                .any(|version| version == 1_u32.to_be_bytes())
        );
    }
    // Who sends less gets nothing (RFC 9000 section 5.2.2), nor does an answer of this kind.
    for length in [30, 600, SMALLEST - 1] {
        sender.send(&probe(&[7; ID], length));
    }
    let mut negotiation = probe(&[7; ID], SMALLEST);
    negotiation[1..5].fill(0);
    sender.send(&negotiation);
    assert_eq!(sender.answers(), Vec::<Vec<u8>>::new());
}

#[test]
fn garbage_of_every_length_is_answered_with_no_more_than_came() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    let mut noise = Noise::new(1);
    let lengths = (0..1_500).chain([2_000, 9_000, 30_000, LARGEST - 1, LARGEST]);
    for length in lengths {
        let mut datagram = noise.bytes(length);
        // As it comes, or as each kind of packet begins.
        let kind = [
            None,
            Some(SHORT),
            Some(INITIAL),
            Some(HANDSHAKE),
            Some(RETRY),
            Some(0xD0),
        ];
        if let Some(kind) = kind[noise.below(kind.len())] {
            let header = [kind | 3, 0, 0, 0, 1, ID as u8];
            let known = length.min(if kind == SHORT { 1 } else { header.len() });
            datagram[..known].copy_from_slice(&header[..known]);
        }
        sender.send(&datagram);
        if length % 10 == 9 || length > 1_490 {
            let came: usize = sender.answers().iter().map(Vec::len).sum();
            // Of the last ten datagrams the answers together are not larger than the largest.
            assert!(came <= length, "{came} bytes for {length}");
        }
    }
    let_in(&gateway);
}

#[test]
fn a_first_packet_that_was_changed_or_cut_anywhere_begins_nothing() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    let id = [0xEF; ID];
    let keys = initial_keys(&id);
    let packet = Header::initial(&id, &SOURCE).seal(&keys.local, 0, &sender.hello, SMALLEST);
    let mut noise = Noise::new(2);
    let mut came = 0;
    for at in 0..SMALLEST {
        let mut changed = packet.clone();
        changed[at] ^= 1 << noise.below(8);
        sender.send(&changed);
        // Cut, and filled up again.
        let mut cut = packet[..at].to_vec();
        sender.send(&cut);
        cut.extend(noise.bytes(SMALLEST - at));
        sender.send(&cut);
        if at % 20 == 19 {
            came += sender.answers().iter().map(Vec::len).sum::<usize>();
        }
    }
    // Some are of another version, or have too short an identifier.
    assert!(came < SMALLEST * 100, "{came} bytes");
    assert_eq!(
        counted(&gateway, "tidegate_tls_handshakes_in_progress", &[]),
        0
    );
    assert_eq!(counted(&gateway, "tidegate_tls_handshakes_total", &[]), 0);
    let accepted = sender.accepted();
    assert_eq!(refused(&gateway, "quic_handshake"), accepted);
    // It was a good one.
    sender.send(&packet);
    assert!(is_server_hello(&sender.initial(&id)));
    let_in(&gateway);
}

#[test]
fn rfc9000_7_5_a_client_hello_larger_than_any_sense_ends_the_handshake() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    // CRYPTO_BUFFER_EXCEEDED: so far ahead of what came nothing is kept.
    let far = crypto(1 << 20, b"far");
    assert_eq!(sender.begin(&far), [Frame::Close(0x0D)]);
    let last = crypto((1 << 62) - 1, b"further");
    assert!(matches!(
        sender.begin(&last)[..],
        [Frame::Close(0x07 | 0x0D)]
    ));
    // What TLS does not take it has an alert for, mostly (RFC 9001 section 4.8).
    let huge = crypto(0, &[0x01, 0xFF, 0xFF, 0xFF, 3, 3]);
    assert!(is_tls_error(&sender.begin(&huge)));
    let finished = crypto(0, &[0x14, 0, 0, 1, 0]);
    assert!(is_tls_error(&sender.begin(&finished)));
    // Other frames, and what are none.
    assert!(matches!(
        sender.begin(&packets::stream(0, 0, b"early"))[..],
        [Frame::Close(_)]
    ));
    assert!(matches!(
        sender.begin(&[0x40, 0x7F])[..],
        [Frame::Close(0x07 | 0x0A)]
    ));
    // Packet after packet of one that is as long as TLS lets it be.
    let id = sender.id();
    let keys = initial_keys(&id);
    let mut hello = vec![0x01, 0, 0xFF, 0xFF, 3, 3];
    hello.resize(4 + 0xFFFF, 0);
    let mut frames = Vec::new();
    for (number, piece) in hello.chunks(1_000).enumerate() {
        let frame = crypto(number as u64 * 1_000, piece);
        let header = Header::initial(&id, &SOURCE);
        sender.send(&header.seal(&keys.local, number as u64, &frame, SMALLEST));
        frames = sender.initial(&id);
    }
    while !is_tls_error(&frames) {
        frames = sender.initial(&id);
    }
    assert_eq!(counted(&gateway, "tidegate_tls_handshakes_total", &[]), 0);
    let_in(&gateway);
}

#[test]
fn rfc9000_12_2_garbage_behind_a_first_packet_changes_nothing() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    let mut noise = Noise::new(3);
    for kind in [SHORT, INITIAL, HANDSHAKE, RETRY, 0xD0] {
        let id = sender.id();
        let header = Header::initial(&id, &SOURCE);
        let mut datagram = header.seal(&initial_keys(&id).local, 0, &sender.hello, 0);
        assert!(datagram.len() < SMALLEST);
        datagram.extend([kind, 0, 0, 0, 1, ID as u8]);
        datagram.extend(id);
        datagram.extend(noise.bytes(SMALLEST));
        sender.send(&datagram);
        assert!(is_server_hello(&sender.initial(&id)));
    }
}

#[test]
fn rfc9000_8_1_who_has_not_proved_its_address_gets_three_times_what_it_sent() {
    // A certificate larger than that.
    let names: Vec<String> = (0..200)
        .map(|n| format!("host-{n}.of.a.long.domain.example"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("large");
    let (certificate, key) = authority
        .issue(&Request::server(&names))
        .write(directory.path(), "large");
    let Some(gateway) = Gateway::configured(&format!(
        "[listeners.quic.tls]\ncert = {certificate:?}\nkey = {key:?}\nhandshake_timeout = \"1500ms\"\n"
    )) else {
        return;
    };
    let mut senders = [SMALLEST, 1_300, 5_000].map(|length| {
        let mut sender = Sender::to(&gateway);
        sender.last = length as u64;
        let id = sender.id();
        let header = Header::initial(&id, &SOURCE);
        let packet = header.seal(&initial_keys(&id).local, 0, &sender.hello, length);
        assert_eq!(packet.len(), length);
        sender.send(&packet);
        (length, sender)
    });
    // Until it is given up, what is not acknowledged is sent again.
    eventually("it is too late", || refused(&gateway, "quic_timeout") == 3);
    for (length, sender) in &mut senders {
        let came: Vec<usize> = sender.answers().iter().map(Vec::len).collect();
        let sum: usize = came.iter().sum();
        assert!(sum >= 2 * SMALLEST, "something must have come: {came:?}");
        // quinn sends the last datagram whole when some of it may be sent.
        let most = 3 * *length + if *length == SMALLEST { 0 } else { SMALLEST - 1 };
        assert!(sum <= most, "{came:?}: {sum} bytes for {length}");
    }
}

#[test]
fn rfc9000_8_1_2_a_token_is_good_where_it_was_given() {
    let Some(gateway) = Gateway::configured("[listeners.quic.quic]\nretry = \"always\"\n") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    let elsewhere = Sender::to(&gateway);
    let with = |sender: &Sender<'_>, id: &[u8], token: &[u8]| {
        let header = Header {
            token,
            ..Header::initial(id, &SOURCE)
        };
        sender.send(&header.seal(&initial_keys(id).local, 0, &sender.hello, SMALLEST));
    };
    let retry = |sender: &Sender<'_>| {
        let datagram = receive(&sender.socket);
        assert!(datagram.len() < 200, "{} bytes", datagram.len());
        let packet = split(&datagram).pop().unwrap();
        assert_eq!(packet.kind, RETRY);
        // Behind the token is the integrity tag (RFC 9001 section 5.8).
        let token = packet.bytes[..packet.bytes.len() - 16].to_vec();
        (packet.source, token)
    };
    let id = sender.id();
    with(&sender, &id, &[]);
    let (next, token) = retry(&sender);
    // INVALID_TOKEN
    with(&elsewhere, &next, &token);
    assert_eq!(elsewhere.initial(&next), [Frame::Close(0x0B)]);
    // Nobody has given these: they are as none.
    for at in 0..token.len() {
        let mut forged = token.clone();
        forged[at] ^= 1;
        let id = sender.id();
        with(&sender, &id, &forged);
        retry(&sender);
    }
    for length in [1, 15, 16, 17, 100, 1_000] {
        let id = sender.id();
        with(&sender, &id, &vec![7; length]);
        retry(&sender);
    }
    assert_eq!(sender.accepted(), 0);
    assert_eq!(counted(&gateway, "tidegate_listener_connections", &[]), 0);
    with(&sender, &next, &token);
    assert!(is_server_hello(&sender.initial(&next)));
    drain(&sender.socket);
}

#[test]
fn what_anybody_may_send_is_not_logged_each_time() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut sender = Sender::to(&gateway);
    let hello = sender.hello.clone();
    // Behind a first packet as it should be: one with another token, and one with bits that must not be set.
    for (kind, token) in [(INITIAL, &b"another"[..]), (INITIAL | 0x0C, b"")] {
        let id = sender.id();
        let keys = initial_keys(&id);
        sender.send(&Header::initial(&id, &SOURCE).seal(&keys.local, 0, &hello, SMALLEST));
        assert!(is_server_hello(&sender.initial(&id)));
        for number in 1..=200 {
            let header = Header {
                kind,
                token,
                ..Header::initial(&id, &SOURCE)
            };
            sender.send(&header.seal(&keys.local, number, &packets::PING, SMALLEST));
            if number % 50 == 0 {
                sender.answers();
            }
        }
    }
    // No client of MQTT, and no listener.
    for _ in 0..200 {
        let id = sender.id();
        let keys = initial_keys(&id);
        sender.send(&Header::initial(&id, &SOURCE).seal(&keys.local, 0, b"\x40\x7F", SMALLEST));
        assert!(matches!(sender.initial(&id)[..], [Frame::Close(_)]));
    }
    let_in(&gateway);
    let lines = gateway.output().lines().count();
    assert!(lines < 50, "{lines} lines:\n{}", gateway.output());
}

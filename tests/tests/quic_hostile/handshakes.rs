//! Handshakes that nobody goes on with, as many as a small machine can send.

use std::net::{SocketAddr, UdpSocket};
use std::sync::LazyLock;

use tidegate_tests::wire::Connect;
use tidegate_tests::{Gateway, Transport, eventually, unique};

use super::packets::{
    self, CLOSE, Header, RETRY, SMALLEST, client_hello, crypto, drain, initial_keys, split,
};
use super::{Neighbours, counted, refused};

/// First packets in all.
const FLOOD: usize = 10_000;
/// As many at a time as the kernel keeps for a socket with the usual limits (`net.core.rmem_max` of Linux).
const BATCH: usize = 100;
const SOCKETS: usize = 5;
const SOURCE: [u8; packets::ID] = [0xAB; packets::ID];
/// What one handshake under way may take, in quinn, rustls and what was sent; it is about 60 KiB.
const ONE_TAKES: u64 = 96 << 10;

/// The packets, each to another identifier.
static PACKETS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let hello = hello();
    let packets = (0..FLOOD).map(|number| first(number, &hello, SMALLEST));
    packets.collect()
});

fn hello() -> Vec<u8> {
    crypto(0, &client_hello(packets::tls_of_nobody(), &SOURCE).1)
}

/// Spread, as random ones are.
fn identifier(number: usize) -> [u8; packets::ID] {
    (number as u64 + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .to_be_bytes()
}

fn first(number: usize, frames: &[u8], length: usize) -> Vec<u8> {
    let to = identifier(number);
    Header::initial(&to, &SOURCE).seal(&initial_keys(&to).local, 0, frames, length)
}

/// Whoever sends first packets and never another.
struct Flood {
    sockets: Vec<UdpSocket>,
    gateway: SocketAddr,
    sent: usize,
    sent_bytes: usize,
    came_bytes: usize,
    retries: usize,
}

impl Flood {
    fn at(gateway: &Gateway) -> Self {
        Self {
            sockets: (0..SOCKETS).map(|_| packets::socket()).collect(),
            gateway: gateway.address("quic"),
            sent: 0,
            sent_bytes: 0,
            came_bytes: 0,
            retries: 0,
        }
    }

    fn send(&mut self, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            self.sent += 1;
            let socket = &self.sockets[self.sent % SOCKETS];
            self.sent_bytes += socket.send_to(datagram, self.gateway).unwrap();
        }
        for datagram in self.sockets.iter().flat_map(drain) {
            self.came_bytes += datagram.len();
            let first = split(&datagram);
            self.retries += usize::from(first.first().is_some_and(|packet| packet.kind == RETRY));
        }
    }
}

fn configured(retry: &str, more: &str) -> Option<Gateway> {
    Gateway::configured(&format!(
        "[listeners.quic]\n{more}\n[listeners.quic.tls]\nhandshake_timeout = \"3s\"\n\
         [listeners.quic.quic]\nretry = \"{retry}\"\n"
    ))
}

fn under_way(gateway: &Gateway) -> u64 {
    counted(gateway, "tidegate_tls_handshakes_in_progress", &[])
}

fn accepted(gateway: &Gateway) -> u64 {
    counted(gateway, "tidegate_listener_accepted_total", &[])
}

/// Handshakes that are done, that failed, and that took too long.
fn came_to_an_end(gateway: &Gateway) -> u64 {
    let done = counted(gateway, "tidegate_tls_handshakes_total", &[]);
    done + refused(gateway, "quic_handshake") + refused(gateway, "quic_timeout")
}

/// The flood beside neighbours. `most`: handshakes under way at a time.
fn withstand(gateway: &Gateway, most: u64, mut meanwhile: impl FnMut(usize)) -> Flood {
    let mut neighbours = Neighbours::of(gateway);
    neighbours.exchange();
    let before = gateway.resident_bytes();
    let mut flood = Flood::at(gateway);
    for (batch, packets) in PACKETS.chunks(BATCH).enumerate() {
        flood.send(packets);
        neighbours.exchange();
        if batch % 10 == 9 {
            let now = under_way(gateway);
            assert!(now <= most, "{now} handshakes");
            meanwhile(batch);
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    let bound = most * ONE_TAKES + (16 << 20);
    assert!(grown < bound, "{grown} bytes more for {most} handshakes");
    eventually("the handshakes time out", || under_way(gateway) == 0);
    // Afterwards whoever comes is let in, at the latest when those that have failed are forgotten.
    let server = gateway.listener("quic", Transport::Quic);
    eventually("there is room", || server.connect().is_ok());
    Connect::v5(&unique("after")).open(server).disconnect();
    neighbours.part();
    eventually("nobody is left", || {
        counted(gateway, "tidegate_listener_connections", &[]) == 0
    });
    flood.send(&[]);
    assert!(
        flood.came_bytes <= 3 * flood.sent_bytes,
        "{} bytes for {}",
        flood.came_bytes,
        flood.sent_bytes
    );
    flood
}

#[test]
fn rfc9000_21_3_ten_thousand_half_open_handshakes_are_asked_to_prove_their_address() {
    let Some(gateway) = configured("under_load", "") else {
        return;
    };
    let server = gateway.listener("quic", Transport::Quic);
    let flood = withstand(&gateway, 128, |batch| {
        // Who proves it is let in meanwhile.
        Connect::v5(&unique(&format!("proved-{batch}")))
            .open(&server)
            .disconnect();
    });
    assert!(flood.retries > FLOOD / 2, "{} were asked", flood.retries);
    assert_eq!(refused(&gateway, "rate"), 0);
    assert_eq!(refused(&gateway, "limit"), 0);
    // Each that was accepted became one or the other; who is asked to try again is not counted.
    assert_eq!(accepted(&gateway), came_to_an_end(&gateway));
}

#[test]
fn rfc9000_21_3_ten_thousand_half_open_handshakes_that_need_not_prove_their_address_are_refused() {
    let Some(gateway) = configured("never", "") else {
        return;
    };
    let flood = withstand(&gateway, 1_024, |_| {});
    assert_eq!(flood.retries, 0);
    let too_many = refused(&gateway, "rate");
    assert!(too_many > 0);
    assert_eq!(accepted(&gateway), came_to_an_end(&gateway) + too_many);
}

#[test]
fn handshakes_that_are_given_up_at_once_count_until_they_are_forgotten() {
    let Some(gateway) = configured("under_load", "") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let hello = hello();
    let mut flood = Flood::at(&gateway);
    // Hardly begun, its end is said in the same datagram, with keys that anybody has.
    let given_up: Vec<Vec<u8>> = (0..1_000)
        .map(|number| {
            let mut datagram = first(number, &hello, 0);
            let to = identifier(number);
            let header = Header::initial(&to, &SOURCE);
            let length = SMALLEST - datagram.len();
            datagram.extend(header.seal(&initial_keys(&to).local, 1, &CLOSE, length));
            datagram
        })
        .collect();
    for datagrams in given_up.chunks(BATCH) {
        flood.send(datagrams);
        neighbours.exchange();
    }
    flood.send(&[]);
    // Those above an eighth of `tls.max_handshakes` are asked to prove their address.
    assert!(flood.retries > 100, "{} were asked", flood.retries);
    let failed = refused(&gateway, "quic_handshake");
    assert!(failed >= 128, "{failed} have failed");
    neighbours.part();
}

#[test]
fn rfc9000_8_1_2_who_has_not_proved_its_address_takes_none_of_the_last_places() {
    for limit in ["max_connect_rate = 10", "max_connections = 20"] {
        let Some(gateway) = configured("under_load", limit) else {
            return;
        };
        let server = gateway.listener("quic", Transport::Quic);
        let mut flood = Flood::at(&gateway);
        for (batch, packets) in PACKETS[..500].chunks(BATCH).enumerate() {
            flood.send(packets);
            // Who proves it gets one, though the flood would have taken all.
            Connect::v5(&unique(&format!("proved-{batch}")))
                .open(&server)
                .disconnect();
        }
        flood.send(&[]);
        assert!(flood.retries > 400, "{} were asked", flood.retries);
        let refusals = gateway.metric("tidegate_listener_refused_total", &["listener=\"quic\""]);
        assert!(refusals < 1.0, "{refusals} were refused");
    }
}

//! Packets to somebody else's connection, or to none.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Connect, PATIENCE, Publish};
use tidegate_tests::{Gateway, Noise, unique};

use super::Neighbours;
use super::packets::{self, CLOSE, Header, ID, SHORT, SMALLEST, drain, fence, initial_keys};
use super::raw::Raw;

/// The smallest that a stateless reset is sent for: there is none of less than 21 bytes (RFC 9000 section 10.3).
const RESETTABLE: usize = 22;
/// A gateway sends one at most in less than this time.
const PAUSE: Duration = Duration::from_millis(2);

/// A packet of this length of a connection that nobody has.
fn short(noise: &mut Noise, length: usize) -> Vec<u8> {
    let mut packet = noise.bytes(length);
    packet[0] = SHORT | packet[0] & 0x3F;
    packet
}

/// Sends it until it is answered: it may have come too soon after another.
#[track_caller]
fn answer(socket: &UdpSocket, gateway: SocketAddr, packet: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(PAUSE)).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut buffer = vec![0; 2_048];
    loop {
        socket.send_to(packet, gateway).unwrap();
        if let Ok(length) = socket.recv(&mut buffer) {
            return buffer[..length].to_vec();
        }
        assert!(Instant::now() < end, "no answer to {} bytes", packet.len());
    }
}

#[test]
fn rfc9000_10_3_3_a_reset_is_smaller_than_what_it_answers_so_that_resets_end() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let address = gateway.address("quic");
    let socket = packets::socket();
    let mut noise = Noise::new(4);
    for length in [RESETTABLE, 23, 40, 43, 100, SMALLEST, 1_472] {
        let packet = short(&mut noise, length);
        let reset = answer(&socket, address, &packet);
        assert!(reset.len() < length, "{} for {length}", reset.len());
        assert_eq!(reset[0] & 0xC0, SHORT);
    }
    // It looks like a packet, so it could be answered again by somebody who has lost his state, too.
    let mut packet = short(&mut noise, 40);
    while packet.len() >= RESETTABLE {
        let reset = answer(&socket, address, &packet);
        assert!(reset.len() < packet.len());
        packet = reset;
    }
    for length in 1..RESETTABLE {
        socket.send_to(&short(&mut noise, length), address).unwrap();
    }
    assert_eq!(fence(&socket, address, 1), Vec::<Vec<u8>>::new());
    // However many come.
    let mut sent = 0;
    for _ in 0..1_000 {
        sent += socket.send_to(&short(&mut noise, 100), address).unwrap();
    }
    let came: usize = fence(&socket, address, 2).iter().map(Vec::len).sum();
    assert!(came < sent, "{came} for {sent}");
}

#[test]
fn rfc9000_10_3_after_a_restart_hundreds_hear_of_it_each_second() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let (socket, address) = (packets::socket(), gateway.address("quic"));
    let mut noise = Noise::new(6);
    let began = Instant::now();
    for _ in 0..200 {
        answer(&socket, address, &short(&mut noise, 60));
    }
    // It would take four seconds if quinn had its way, which sends 50.
    let took = began.elapsed();
    assert!(took < Duration::from_millis(3_500), "{took:?}");
}

#[test]
fn packets_to_the_identifiers_of_a_connection_do_nothing_without_its_keys() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let address = gateway.address("quic");
    let mut neighbours = Neighbours::of(&gateway);
    let mut victim = Raw::connect(&gateway, 5);
    let topic = unique("victim");
    victim.begin(&Connect::v5(&topic));
    victim.subscribe(0, &topic);
    let attacker = packets::socket();
    let mut noise = Noise::new(5);
    for length in (1 + ID..SMALLEST).step_by(5) {
        let mut packet = short(&mut noise, length);
        packet[1..=ID].copy_from_slice(&victim.peer);
        attacker.send_to(&packet, address).unwrap();
        // From its own address, too.
        victim.socket.send_to(&packet, address).unwrap();
    }
    // Everybody has the keys of its first packets, but they are over: for its end, and for a new beginning.
    for (number, to) in [victim.first.to_vec(), victim.peer.clone()]
        .iter()
        .enumerate()
    {
        let keys = initial_keys(&victim.first);
        let header = Header::initial(to, &victim.id);
        let packet = header.seal(&keys.local, 9 + number as u64, &CLOSE, SMALLEST);
        for from in [&attacker, &victim.socket] {
            from.send_to(&packet, address).unwrap();
        }
    }
    assert_eq!(fence(&attacker, address, 3), Vec::<Vec<u8>>::new());
    for number in 0..10 {
        let message = number.to_string();
        neighbours
            .tcp
            .publish(&Publish::new(&topic, &message).qos(1));
        let (kind, body) = victim.answer_on(0);
        assert_eq!(kind, 0x30, "PUBLISH");
        assert!(body.ends_with(message.as_bytes()));
    }
    assert_eq!(drain(&attacker), Vec::<Vec<u8>>::new());
    neighbours.part();
}

#[test]
fn rfc9000_9_3_1_a_packet_that_is_replayed_from_another_address_moves_nothing() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let address = gateway.address("quic");
    let neighbours = Neighbours::of(&gateway);
    let mut victim = Raw::connect(&gateway, 6);
    victim.begin(&Connect::v5(&unique("victim")));
    let attacker = packets::socket();
    for _ in 0..20 {
        let ping = victim.next_of(0, &[0xC0, 0]);
        let packet = victim.packet(&ping);
        victim.socket.send_to(&packet, address).unwrap();
        assert_eq!(victim.answer_on(0).0, 0xD0, "PINGRESP");
        for _ in 0..5 {
            attacker.send_to(&packet, address).unwrap();
        }
    }
    assert_eq!(fence(&attacker, address, 4), Vec::<Vec<u8>>::new());
    neighbours.part();
}

#[test]
fn rfc9000_9_3_3_a_client_whose_packets_somebody_forwards_faster_keeps_its_connection() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let address = gateway.address("quic");
    let mut neighbours = Neighbours::of(&gateway);
    let mut victim = Raw::connect(&gateway, 7);
    let topic = unique("victim");
    victim.begin(&Connect::v5(&topic));
    victim.subscribe(0, &topic);
    let attacker = packets::socket();
    for number in 0..5 {
        // What the client sends comes from elsewhere first, and then from it.
        let ping = victim.next_of(0, &[0xC0, 0]);
        let packet = victim.packet(&ping);
        attacker.send_to(&packet, address).unwrap();
        victim.socket.send_to(&packet, address).unwrap();
        // It does not speak again. What is for it comes all the same: at the latest when nobody has proved the
        // other address (RFC 9000 section 9.3.2).
        let message = number.to_string();
        neighbours
            .tcp
            .publish(&Publish::new(&topic, &message).qos(1));
        let mut came = [victim.answer_on(0), victim.answer_on(0)];
        came.sort();
        assert_eq!(came[0].0, 0x30, "PUBLISH");
        assert!(came[0].1.ends_with(message.as_bytes()));
        assert_eq!(came[1].0, 0xD0, "PINGRESP");
    }
    // Each packet that comes first from there is good for a datagram that asks it to prove its address, however small
    // it was, and one more with what is to be sent: quinn sends them whole.
    let came: Vec<usize> = drain(&attacker).iter().map(Vec::len).collect();
    assert!(came.len() <= 2 * 5, "{came:?}");
    assert!(came.iter().all(|length| *length <= 1_472), "{came:?}");
    neighbours.part();
}

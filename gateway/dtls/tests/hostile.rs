//! Whoever means no good: floods, garbage, hellos in pieces, forged addresses.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use support::{CLIENT, Client, Fate, House, KEY, Wire, address, client_named};
use tidegate_dtls::{Dropped, Failure, Settings};

/// The least that is a ClientHello: one suite, nothing else.
fn least_hello(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![0xFE, 0xFD];
    body.extend([0x5A; 32]);
    body.extend([0, 0, 0, 2, 0xC0, 0xA8, 1, 0]);
    if !extensions.is_empty() {
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
    }
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let mut record = vec![0x16, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend((u16::from_be_bytes(length) + 12).to_be_bytes());
    record.extend([1, 0, length[0], length[1], 0, 0, 0, 0, 0, 0]);
    record.extend(length);
    record.extend(body);
    record
}

/// The same hello with the cookie of a HelloVerifyRequest, as the second message.
fn with_cookie(hello: &[u8], request: &[u8]) -> Vec<u8> {
    let cookie = &request[request.len() - 32..];
    // Where the cookie's length is: after the version, the random and an empty session identifier.
    let at = 25 + 2 + 32 + 1;
    let mut second = hello[..at].to_vec();
    second.push(32);
    second.extend_from_slice(cookie);
    second.extend_from_slice(&hello[at + 1..]);
    let length = u16::try_from(second.len() - 13).unwrap();
    second[11..13].copy_from_slice(&length.to_be_bytes());
    let length = (length - 12).to_be_bytes();
    second[15..17].copy_from_slice(&length);
    second[18] = 1;
    second[23..25].copy_from_slice(&length);
    second
}

fn somebody(number: u32) -> SocketAddr {
    let port = u16::try_from(number % 60_000).unwrap() + 1;
    SocketAddr::new(
        IpAddr::V4(Ipv4Addr::from(0x0A00_0000 + number / 60_000)),
        port,
    )
}

#[test]
fn rfc6347_4_2_1_an_address_that_is_not_verified_gets_one_datagram_and_less_than_it_sent() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    let leaf = house.authority.issue(&client_named("p"));
    let peer = address(CLIENT);
    let mut hellos = vec![least_hello(&[])];
    hellos.extend(Client::psk(peer, "device", KEY, wire.now).output(wire.now));
    hellos.extend(Client::certificate12(peer, &leaf, wire.now).output(wire.now));
    // The least that DTLS 1.3 is spoken with: version, group, signature, an empty share.
    let mut thirteen = vec![0, 43, 0, 3, 2, 0xFE, 0xFC, 0, 10, 0, 4, 0, 2, 0, 0x17];
    thirteen.extend([0, 13, 0, 4, 0, 2, 4, 3, 0, 51, 0, 6, 0, 4, 0, 0x17, 0, 0]);
    let mut least = least_hello(&thirteen);
    let at = least.windows(2).position(|it| it == [0xC0, 0xA8]).unwrap();
    least[at..at + 2].copy_from_slice(&[0x13, 0x01]);
    hellos.push(least);
    for hello in hellos {
        let answer = wire.receive(peer, &hello);
        assert_eq!(answer.len(), 1, "{hello:02x?}");
        assert!(answer[0].len() < hello.len() * 3, "{}", answer[0].len());
        // All but the least of DTLS 1.3 are longer than their answer.
        assert!(answer[0].len() < hello.len() + 10, "{}", answer[0].len());
        for _ in 0..100 {
            wire.pass(Duration::from_secs(1));
        }
        assert!(wire.sent_to(peer).is_empty(), "nothing is sent again");
    }
}

#[test]
fn a_flood_of_hellos_from_forged_addresses_leaves_nothing_and_disturbs_no_session() {
    let house = House::mutual();
    let mut wire = house.wire(Settings {
        max_handshakes: 2,
        max_sessions: 3,
        ..Settings::default()
    });
    let leaf = house.authority.issue(&client_named("p"));
    let mut psk = Client::psk(address("127.0.0.1:1"), "device", KEY, wire.now);
    let (first, ..) = psk.connect(&mut wire);
    let mut thirteen = Client::certificate13(address("127.0.0.1:2"), &leaf, wire.now);
    let (second, ..) = thirteen.connect(&mut wire);
    let hellos = [
        Client::psk(address(CLIENT), "device", KEY, wire.now).output(wire.now),
        Client::certificate13(address(CLIENT), &leaf, wire.now).output(wire.now),
    ]
    .concat();
    for number in 0..20_000 {
        let hello = &hellos[number as usize % hellos.len()];
        // Now and then with the address of somebody who has a session.
        let from = match number % 10 {
            0 => psk.address,
            1 => thirteen.address,
            _ => somebody(number),
        };
        wire.receive(from, hello);
        // Forged, too: cookies that were never given.
        let mut forged = hello.clone();
        let end = forged.len() - 1;
        forged[end] ^= 1;
        wire.receive(from, &forged);
    }
    wire.log.sent.clear();
    assert_eq!((wire.handshakes(), wire.sessions()), (0, 2));
    assert_eq!(wire.events(), []);
    assert!(psk.is_served(&mut wire, first));
    assert!(thirteen.is_served(&mut wire, second));
    // And there is room for whoever is honest.
    let mut third = Client::psk(address("127.0.0.1:3"), "device", KEY, wire.now);
    third.connect(&mut wire);
}

#[test]
fn clients_that_fill_all_handshakes_disturb_no_session_and_make_room_in_time() {
    let house = House::new();
    let mut wire = house.wire(Settings {
        max_handshakes: 20,
        ..Settings::default()
    });
    let mut served = Client::psk(address("127.0.0.1:1"), "device", KEY, wire.now);
    let (session, ..) = served.connect(&mut wire);
    for number in 0..50 {
        let mut client = Client::psk(somebody(number), "device", KEY, wire.now);
        // Nothing of its last flight arrives.
        let mut sent = 0;
        client.talk_with(&mut wire, &mut |_, is_up| {
            sent += usize::from(is_up);
            if is_up && sent > 2 {
                Fate::Lost
            } else {
                Fate::Arrives
            }
        });
    }
    assert_eq!(wire.handshakes(), 20);
    assert_eq!(wire.failures(Failure::TooManyHandshakes), 30);
    assert!(served.is_served(&mut wire, session));
    for _ in 0..31 {
        wire.pass(Duration::from_secs(1));
    }
    assert_eq!(wire.handshakes(), 0);
    assert!(served.is_served(&mut wire, session));
}

#[test]
fn rfc7627_5_3_a_client_without_the_extended_master_secret_is_told_and_not_kept() {
    let house = House::new();
    let mut wire = house.wire(Settings::default());
    let peer = address(CLIENT);
    // Without it, and with it.
    for (extensions, handshakes) in [(&[][..], 0), (&[0, 23, 0, 0][..], 1)] {
        let hello = least_hello(extensions);
        let request = wire.receive(peer, &hello).remove(0);
        let answer = wire.receive(peer, &with_cookie(&hello, &request)).remove(0);
        assert_eq!(wire.handshakes(), handshakes);
        if handshakes == 0 {
            // A fatal alert, handshake_failure.
            assert_eq!((answer[0], &answer[13..]), (21, &[2, 40][..]));
        } else {
            // ServerHello.
            assert_eq!(answer[13], 2);
        }
    }
    assert_eq!(wire.failures(Failure::NoExtendedMasterSecret), 1);
}

#[test]
fn rfc6347_4_2_1_the_server_hello_has_the_number_of_the_record_that_it_answers() {
    let house = House::new();
    let mut wire = house.wire(Settings::default());
    let peer = address(CLIENT);
    let hello = least_hello(&[0, 23, 0, 0]);
    let request = wire.receive(peer, &hello).remove(0);
    let mut second = with_cookie(&hello, &request);
    second[10] = 77;
    let answer = wire.receive(peer, &second).remove(0);
    assert_eq!((answer[13], answer[10]), (2, 77));
    // And when it is sent again, a later one.
    wire.pass(Duration::from_secs(2));
    let again = wire.sent_to(peer).remove(0);
    assert!(again[13] == 2 && again[10] > 77, "{again:02x?}");
}

#[test]
fn handshakes_that_begin_too_fast_wait_for_their_client_to_try_again() {
    let house = House::new();
    let mut wire = house.wire(Settings {
        max_handshake_rate: 5.try_into().unwrap(),
        ..Settings::default()
    });
    // One address is enough to begin and to give up many.
    for _ in 0..20 {
        let mut client = Client::psk(address(CLIENT), "device", KEY, wire.now);
        for _ in 0..2 {
            for datagram in client.output(wire.now) {
                for answer in wire.receive(client.address, &datagram) {
                    client.input(&answer, wire.now);
                }
            }
        }
    }
    assert_eq!(wire.failures(Failure::Restarted), 4);
    assert_eq!(wire.failures(Failure::HandshakeRate), 15);

    let mut honest = Client::psk(address("127.0.0.1:1"), "device", KEY, wire.now);
    honest.talk(&mut wire);
    assert!(!honest.connected && honest.error.is_none());
    for _ in 0..4 {
        wire.pass(Duration::from_secs(1));
        honest.talk(&mut wire);
    }
    assert!(honest.connected);
}

#[test]
fn rfc6347_4_2_3_a_hello_in_pieces_is_not_put_together_for_whom_nobody_knows() {
    let house = House::new();
    let mut wire = house.wire(Settings::default());
    let peer = address(CLIENT);
    let hello = Client::psk(peer, "device", KEY, wire.now)
        .output(wire.now)
        .remove(0);
    let body = &hello[25..];
    let half = body.len() / 2;
    for (offset, piece) in [(0, &body[..half]), (half, &body[half..])] {
        let mut record = hello[..25].to_vec();
        let length = u16::try_from(12 + piece.len()).unwrap();
        record[11..13].copy_from_slice(&length.to_be_bytes());
        record[20..22].copy_from_slice(&u16::try_from(offset).unwrap().to_be_bytes());
        let length = u16::try_from(piece.len()).unwrap();
        record[23..25].copy_from_slice(&length.to_be_bytes());
        record.extend_from_slice(piece);
        assert_eq!(wire.receive(peer, &record).len(), 0, "{offset}");
    }
    assert_eq!(wire.dropped(Dropped::FragmentedHello), 2);
}

#[test]
fn rfc6347_4_1_2_7_garbage_from_strangers_is_not_answered_and_counted() {
    let house = House::mutual();
    let mut wire = house.wire(Settings {
        max_datagram: 1500,
        ..Settings::default()
    });
    let peer = address(CLIENT);
    wire.receive(peer, &[]);
    wire.receive(peer, b"GET / HTTP/1.1\r\n\r\n");
    // A ping of CoAP without DTLS.
    wire.receive(peer, &[0x40, 0, 0x12, 0x34]);
    assert_eq!(wire.dropped(Dropped::Malformed), 3);
    wire.receive(peer, &[0x16; 1501]);
    assert_eq!(wire.dropped(Dropped::TooLarge), 1);
    // Data and alerts of sessions from before a restart, in either version.
    wire.receive(
        peer,
        &[0x17, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 1, 2],
    );
    wire.receive(
        peer,
        &[0x15, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40],
    );
    wire.receive(peer, &[0x2F, 0, 1, 0, 2, 1, 2]);
    assert_eq!(wire.dropped(Dropped::NoSession), 3);

    let leaf = house.authority.issue(&client_named("p"));
    let hellos = [
        Client::psk(peer, "device", KEY, wire.now).output(wire.now),
        Client::certificate13(peer, &leaf, wire.now).output(wire.now),
    ];
    for hello in hellos {
        let hello = &hello[0];
        for at in 0..hello.len() {
            wire.receive(peer, &hello[..at]);
            for bit in 0..8 {
                let mut changed = hello.clone();
                changed[at] ^= 1 << bit;
                let answers = wire.receive(peer, &changed);
                assert!(answers.len() <= 1, "{at}");
                let size: usize = answers.iter().map(Vec::len).sum();
                assert!(size <= changed.len() * 3, "{at}");
            }
        }
    }
    assert_eq!((wire.handshakes(), wire.sessions()), (0, 0));
    assert_eq!(wire.events(), []);
}

/// Each message of a handshake, changed in every byte: nobody gets a session with what was changed, and the server goes
/// on.
#[test]
fn rfc6347_4_2_6_a_handshake_that_was_tampered_with_does_not_become_a_session() {
    let house = House::mutual();
    let leaf = house.authority.issue(&client_named("p"));
    for kind in 0..3 {
        let make = |wire: &Wire| match kind {
            0 => Client::psk(address(CLIENT), "device", KEY, wire.now),
            1 => Client::certificate12(address(CLIENT), &leaf, wire.now),
            _ => Client::certificate13(address(CLIENT), &leaf, wire.now),
        };
        let mut wire = house.wire(Settings::default());
        for flight in 0..3 {
            // Every byte with a pre-shared key; with certificates that would take long.
            for at in (0..).step_by(if kind == 0 { 1 } else { 37 }) {
                let mut client = make(&wire);
                let mut reached = false;
                for round in 0..3 {
                    for mut datagram in client.output(wire.now) {
                        if round == flight && !reached && at < datagram.len() {
                            datagram[at] ^= 0x11;
                            reached = true;
                        }
                        for answer in wire.receive(client.address, &datagram) {
                            client.input(&answer, wire.now);
                        }
                    }
                }
                if !reached {
                    let now = wire.now;
                    wire.server.close_all(now, &mut wire.log);
                    wire.log = support::Log::default();
                    break;
                }
                wire.pass(Duration::from_secs(60));
                wire.sent_to(client.address);
                // What carries no meaning, as the version of a record, may be anything; then both sides agree on all that
                // has.
                for event in wire.events() {
                    if let support::Event::Established(session, ..) = event {
                        client.output(wire.now);
                        assert!(client.connected, "{kind}, {flight}, {at}");
                        let now = wire.now;
                        wire.server.close(session, now, &mut wire.log);
                        wire.events();
                        wire.sent_to(client.address);
                    }
                }
                assert_eq!((wire.handshakes(), wire.sessions()), (0, 0));
            }
        }
        let mut client = make(&wire);
        client.connect(&mut wire);
    }
}

/// Datagrams of a handshake and of the session after it, mixed up in every way that comes to mind.
#[test]
fn whatever_comes_the_server_goes_on_and_keeps_nothing() {
    let house = House::mutual();
    let leaf = house.authority.issue(&client_named("p"));
    let rounds: u64 = std::env::var("TIDEGATE_DTLS_ROUNDS").map_or(150, |it| it.parse().unwrap());
    let mut state = 11_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..rounds {
        let mut wire = house.wire(Settings {
            idle_timeout: Duration::from_secs(100),
            ..Settings::default()
        });
        let peer = address(CLIENT);
        let mut client = match round % 3 {
            0 => Client::psk(peer, "device", KEY, wire.now),
            1 => Client::certificate12(peer, &leaf, wire.now),
            _ => Client::certificate13(peer, &leaf, wire.now),
        };
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for _ in 0..12 {
            let mut datagrams = client.output(wire.now);
            seen.extend(datagrams.iter().cloned());
            if client.connected && client.error.is_none() {
                let _ = client.dtls.send_application_data(b"data");
            }
            if !seen.is_empty() {
                for _ in 0..random(4) {
                    let mut changed = seen[random(seen.len())].clone();
                    for _ in 0..=random(3) {
                        match random(5) {
                            0 => changed.truncate(random(changed.len() + 1)),
                            1 => changed.extend_from_slice(&seen[random(seen.len())]),
                            2 if changed.len() > 26 => changed[random(26)] = random(256) as u8,
                            _ if !changed.is_empty() => {
                                let at = random(changed.len());
                                changed[at] = random(256) as u8;
                            }
                            _ => {}
                        }
                    }
                    datagrams.insert(random(datagrams.len() + 1), changed);
                }
            }
            for datagram in datagrams {
                for answer in wire.receive(peer, &datagram) {
                    client.input(&answer, wire.now);
                }
            }
            wire.pass(Duration::from_millis(random(1500) as u64));
        }
        for _ in 0..200 {
            wire.pass(Duration::from_secs(1));
        }
        assert_eq!((wire.handshakes(), wire.sessions()), (0, 0), "{round}");
        assert_eq!(wire.server.next_timeout(), None, "{round}");
    }
}

/// Not a measurement: something that takes a hundred times as long as it should would show.
#[test]
fn a_hello_without_a_cookie_costs_little_more_than_a_hash() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    let leaf = house.authority.issue(&client_named("p"));
    for hello in [
        Client::psk(address(CLIENT), "device", KEY, wire.now).output(wire.now),
        Client::certificate13(address(CLIENT), &leaf, wire.now).output(wire.now),
    ] {
        let started = Instant::now();
        for number in 0..5_000 {
            wire.receive(somebody(number), &hello[0]);
        }
        let each = started.elapsed() / 5_000;
        println!("{each:?}");
        assert!(each < Duration::from_micros(500), "{each:?}");
    }
}

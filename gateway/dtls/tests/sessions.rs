//! Handshakes and sessions over a wire that loses, repeats and reorders, with a time of its own; both versions, against
//! dimpl's client.

mod support;

use std::time::Duration;

use support::{
    Authority, CLIENT, Client, Event, Fate, House, KEY, Wire, address, client_named, server_named,
};
use tidegate_dtls::{Dropped, End, Failure, Method, SendError, Settings, Who};

const SECOND: Duration = Duration::from_secs(1);

/// A client of each kind, and what it is then.
fn clients(house: &House, wire: &Wire) -> Vec<(Client, Method)> {
    let leaf = house.authority.issue(&client_named("pump-7"));
    let at = |port: u16| address(&format!("127.0.0.1:{port}"));
    vec![
        (
            Client::psk(at(1001), "device", KEY, wire.now),
            Method::Psk12,
        ),
        (
            Client::certificate12(at(1002), &leaf, wire.now),
            Method::Certificate12,
        ),
        (
            Client::certificate13(at(1003), &leaf, wire.now),
            Method::Certificate13,
        ),
        (
            Client::either(at(1004), &leaf, wire.now),
            Method::Certificate13,
        ),
    ]
}

/// The records of a datagram, if their headers are those of DTLS 1.2.
fn records(mut datagram: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let [20..=23, 0xFE, 0xFD, _, _, _, _, _, _, _, _, high, low, ..] = datagram {
        let length = 13 + usize::from(u16::from_be_bytes([*high, *low]));
        let (record, rest) = datagram.split_at(length);
        records.push(record);
        datagram = rest;
    }
    if !datagram.is_empty() {
        records.push(datagram);
    }
    records
}

#[test]
fn rfc9147_5_each_client_gets_the_best_that_it_offers_at_one_listener() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, expected) in clients(&house, &wire) {
        let (session, who, method) = client.connect(&mut wire);
        assert_eq!(method, expected);
        match who {
            Who::Psk(identity) => assert_eq!(&*identity, "device"),
            Who::Certificate(it) => assert_eq!(it.common_name.as_deref(), Some("pump-7")),
            Who::Anonymous => panic!("{method:?}"),
        }
        assert_eq!(session.peer(), client.address);
        assert!(client.is_served(&mut wire, session), "{method:?}");
        assert_eq!(
            wire.server.counters().established(method),
            1 + u64::from(client.address.port() == 1004)
        );
    }
    assert_eq!((wire.sessions(), wire.handshakes()), (4, 0));
}

#[test]
fn rfc6347_4_2_1_and_rfc9147_5_1_nothing_is_kept_before_the_cookie() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, method) in clients(&house, &wire) {
        let hello = client.output(wire.now);
        let request = wire.receive(client.address, &hello[0]);
        assert_eq!(request.len(), 1, "{method:?}");
        assert!(request[0].len() < hello[0].len(), "{method:?}");
        assert_eq!((wire.handshakes(), wire.sessions()), (0, 0), "{method:?}");
        assert_eq!(wire.server.next_timeout(), None, "{method:?}");
    }
}

#[test]
fn rfc6347_4_2_1_a_cookie_is_good_for_its_address_its_hello_and_a_minute() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, method) in clients(&house, &wire) {
        let hello = client.output(wire.now).remove(0);
        let request = wire.receive(client.address, &hello).remove(0);
        client.input(&request, wire.now);
        let second = client.output(wire.now).remove(0);

        let before = wire.dropped(Dropped::BadCookie);
        wire.receive(address("127.0.0.1:9"), &second);
        wire.receive(address("127.0.0.9:1001"), &second);
        let mut other = second.clone();
        // A byte of the random.
        other[13 + 12 + 10] ^= 1;
        wire.receive(client.address, &other);
        assert_eq!(wire.handshakes(), 0, "{method:?}");
        assert_eq!(wire.dropped(Dropped::BadCookie), before + 3, "{method:?}");

        wire.now += 61 * SECOND;
        wire.receive(client.address, &second);
        assert_eq!(wire.handshakes(), 0, "{method:?}: too old");
        wire.now -= 31 * SECOND;
        wire.receive(client.address, &second);
        assert_eq!(wire.handshakes(), 1, "{method:?}");
        wire.pass(31 * SECOND);
        assert_eq!(wire.handshakes(), 0, "{method:?}: never finished");
    }
    assert_eq!(wire.failures(Failure::Timeout), 4);
}

#[test]
fn rfc6347_4_2_1_a_cookie_of_dtls_1_2_that_is_too_old_is_replaced() {
    let house = House::new();
    let mut wire = house.wire(Settings::default());
    let mut client = Client::psk(address(CLIENT), "device", KEY, wire.now);
    let hello = client.output(wire.now).remove(0);
    let request = wire.receive(client.address, &hello).remove(0);
    client.input(&request, wire.now);
    let late = client.output(wire.now).remove(0);
    wire.now += 100 * SECOND;
    let again = wire.receive(client.address, &late);
    assert_eq!(again.len(), 1);
    // Handshake message HelloVerifyRequest; with the number of the message that it answers.
    assert_eq!((again[0][13], again[0][18]), (3, 1));
    assert_eq!(wire.handshakes(), 0);
}

#[test]
fn rfc6347_4_2_1_extensions_may_change_with_the_cookie_of_dtls_1_2() {
    // A client that speaks DTLS 1.3 too leaves that out once it is asked for a cookie of DTLS 1.2.
    let mut house = House::new();
    let leaf = house.authority.issue(&client_named("pump-7"));
    house.settings.certificate = None;
    let mut wire = house.wire(Settings::default());
    let mut client = Client::either(address(CLIENT), &leaf, wire.now);
    let hello = client.output(wire.now).remove(0);
    let request = wire.receive(client.address, &hello).remove(0);
    client.input(&request, wire.now);
    let second = client.output(wire.now).remove(0);
    assert!(
        second.len() < hello.len() + 32,
        "something is left out for the cookie"
    );
    let answer = wire.receive(client.address, &second).remove(0);
    // A fatal alert: handshake_failure, as there is only a key here, which this client has not.
    assert_eq!((answer[0], &answer[13..]), (21, &[2, 40][..]));
    assert_eq!(wire.dropped(Dropped::BadCookie), 0);
    assert_eq!(wire.failures(Failure::NoCommonSuite), 1);
}

#[test]
fn rfc6347_4_2_4_handshakes_survive_any_datagram_that_is_lost_repeated_or_late() {
    let house = House::mutual();
    for fate in [Fate::Lost, Fate::Twice, Fate::Later] {
        for victim in 0..12 {
            let mut wire = house.wire(Settings::default());
            for (mut client, method) in clients(&house, &wire) {
                let what = format!("{method:?}, {fate:?}, {victim}");
                let mut once = |number: usize, _| {
                    if number == victim {
                        fate
                    } else {
                        Fate::Arrives
                    }
                };
                client.talk_with(&mut wire, &mut once);
                for _ in 0..40 {
                    wire.pass(SECOND / 2);
                    client.talk(&mut wire);
                }
                assert!(client.connected, "{what}: {:?}", client.error);
                let (session, _, got) = wire.established();
                assert_eq!(got, method, "{what}");
                assert!(client.is_served(&mut wire, session), "{what}");
            }
        }
    }
}

#[test]
fn rfc6347_4_2_4_handshakes_get_through_when_a_third_is_lost_both_ways() {
    let house = House::mutual();
    let mut state = 7_u64;
    let mut unlucky = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    };
    let mut connected = 0;
    for _ in 0..10 {
        let mut wire = house.wire(Settings::default());
        for (mut client, _) in clients(&house, &wire) {
            for _ in 0..60 {
                client.talk_with(&mut wire, &mut |_, _| match unlucky() % 6 {
                    0 | 1 => Fate::Lost,
                    2 => Fate::Twice,
                    3 => Fate::Later,
                    _ => Fate::Arrives,
                });
                wire.pass(SECOND / 2);
            }
            connected += usize::from(client.connected);
        }
    }
    // Each side gives up after four retransmissions, so not every one must.
    assert!(connected >= 30, "{connected} of 40");
}

#[test]
fn rfc6347_4_1_2_6_a_record_that_comes_twice_is_delivered_once() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, method) in clients(&house, &wire) {
        let (session, ..) = client.connect(&mut wire);
        client.send(b"once");
        let datagram = client.output(wire.now).remove(0);
        for _ in 0..3 {
            wire.receive(client.address, &datagram);
        }
        assert_eq!(
            wire.events(),
            [Event::Data(session, b"once".to_vec())],
            "{method:?}"
        );
    }
}

#[test]
fn rfc6347_4_2_8_a_client_that_begins_again_keeps_its_session_until_it_has_proved_itself() {
    let house = House::mutual();
    for again in 0..4 {
        let mut wire = house.wire(Settings::default());
        for (mut client, method) in clients(&house, &wire) {
            let (session, ..) = client.connect(&mut wire);
            // The same address, and any kind of credential.
            let mut rebooted = clients(&house, &wire).swap_remove(again).0;
            rebooted.address = client.address;

            // Up to its last flight, which it keeps for now.
            let mut flight = rebooted.output(wire.now);
            let mut last = Vec::new();
            while wire.handshakes() == 0 || !flight.is_empty() {
                let answers: Vec<_> = flight
                    .iter()
                    .flat_map(|it| wire.receive(client.address, it))
                    .collect();
                for answer in answers {
                    rebooted.input(&answer, wire.now);
                }
                flight = rebooted.output(wire.now);
                if wire.handshakes() == 1 {
                    last = std::mem::take(&mut flight);
                }
            }
            assert!(client.is_served(&mut wire, session), "{method:?}");

            // Some clients send each record by itself.
            for datagram in last.iter().flat_map(|it| records(it)) {
                for answer in wire.receive(client.address, datagram) {
                    rebooted.input(&answer, wire.now);
                }
            }
            rebooted.talk(&mut wire);
            assert!(rebooted.connected, "{method:?}: {:?}", rebooted.error);
            let events = wire.events();
            let [
                Event::Ended(ended, End::Replaced),
                Event::Established(new, ..),
            ] = &events[..]
            else {
                panic!("{method:?}: {events:?}");
            };
            assert_eq!(*ended, session, "{method:?}");
            assert!(rebooted.is_served(&mut wire, *new), "{method:?}");
            let now = wire.now;
            let refused = wire.server.send(session, b"late", now, &mut wire.log);
            assert_eq!(refused, Err(SendError::NoSession), "{method:?}");
            assert_eq!(wire.handshakes(), 0, "{method:?}");
        }
        assert_eq!(wire.sessions(), 4);
        let now = wire.now;
        wire.server.close_all(now, &mut wire.log);
        assert_eq!(wire.server.next_timeout(), None);
    }
}

#[test]
fn rfc6347_4_2_8_a_replayed_hello_ends_no_session_and_leaves_nothing() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, method) in clients(&house, &wire) {
        let first = client.output(wire.now).remove(0);
        let request = wire.receive(client.address, &first).remove(0);
        client.input(&request, wire.now);
        let second = client.output(wire.now).remove(0);
        let answers = wire.receive(client.address, &second);
        for answer in answers {
            client.input(&answer, wire.now);
        }
        let (session, ..) = client.connect(&mut wire);

        let repeated = wire.dropped(Dropped::RepeatedHello);
        for hello in [&first, &second] {
            assert_eq!(wire.receive(client.address, hello).len(), 0, "{method:?}");
        }
        assert_eq!(
            wire.dropped(Dropped::RepeatedHello),
            repeated + 2,
            "{method:?}"
        );
        assert_eq!(wire.handshakes(), 0, "{method:?}");
        assert!(client.is_served(&mut wire, session), "{method:?}");
    }
}

#[test]
fn rfc6347_4_1_2_7_garbage_in_a_session_is_passed_over() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, method) in clients(&house, &wire) {
        let (session, ..) = client.connect(&mut wire);
        client.send(b"forged");
        let genuine = client.output(wire.now).remove(0);
        for at in 0..genuine.len() {
            let mut forged = genuine.clone();
            forged[at] ^= 0x40;
            wire.receive(client.address, &forged);
            wire.receive(client.address, &genuine[..at]);
        }
        for kind in 0..=255_u8 {
            for epoch in [0, 1, 2] {
                let mut plain = vec![kind, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 99, 0, 40];
                plain.extend([kind.wrapping_mul(7); 40]);
                // Of what is not a hello itself: none is begun here.
                plain[13] = 16;
                wire.receive(client.address, &plain);
                // Alerts that anybody could have sent.
                plain[13..15].copy_from_slice(&[2, 40]);
                wire.receive(client.address, &plain);
            }
        }
        assert_eq!(wire.events(), [], "{method:?}");
        assert!(client.is_served(&mut wire, session), "{method:?}");
    }
}

#[test]
fn rfc6347_4_2_7_a_client_that_closes_is_forgotten() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, method) in clients(&house, &wire) {
        let (session, ..) = client.connect(&mut wire);
        client.dtls.close().unwrap();
        client.talk(&mut wire);
        assert_eq!(
            wire.events(),
            [Event::Ended(session, End::Closed)],
            "{method:?}"
        );
        assert_eq!(wire.server.next_timeout(), None, "{method:?}");
        assert_eq!(wire.server.who(session), None);
    }
    assert_eq!(wire.sessions(), 0);
}

#[test]
fn rfc6347_4_2_7_a_client_is_told_when_its_session_is_closed() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    let mut all = clients(&house, &wire);
    let mut sessions = Vec::new();
    for (client, _) in &mut all {
        sessions.push(client.connect(&mut wire).0);
    }
    let now = wire.now;
    wire.server.close(sessions[0], now, &mut wire.log);
    assert_eq!(wire.events(), [Event::Ended(sessions[0], End::Local)]);
    wire.server.close_all(now, &mut wire.log);
    assert_eq!(wire.events().len(), 3);
    for (client, method) in &mut all {
        client.talk(&mut wire);
        assert!(client.closed, "{method:?}");
    }
    // Once more changes nothing.
    wire.server.close(sessions[0], now, &mut wire.log);
    assert_eq!(wire.events(), []);
}

#[test]
fn a_session_ends_when_nothing_has_come_for_too_long_and_its_client_is_told() {
    let house = House::mutual();
    let settings = Settings {
        idle_timeout: 60 * SECOND,
        ..Settings::default()
    };
    for kind in 0..4 {
        let mut wire = house.wire(settings.clone());
        let (mut client, method) = clients(&house, &wire).swap_remove(kind);
        let (session, ..) = client.connect(&mut wire);
        for _ in 0..5 {
            wire.pass(50 * SECOND);
            assert!(client.is_served(&mut wire, session), "{method:?}");
        }
        // What is sent there says nothing of whether anybody is there.
        wire.pass(50 * SECOND);
        wire.send(session, b"hello?");
        wire.pass(9 * SECOND);
        assert_eq!(wire.events(), [], "{method:?}");
        wire.pass(2 * SECOND);
        assert_eq!(wire.events(), [Event::Ended(session, End::Idle)]);
        client.talk(&mut wire);
        assert!(client.closed, "{method:?}");
        assert_eq!(wire.server.next_timeout(), None, "{method:?}");
    }
}

#[test]
fn a_handshake_that_is_never_finished_is_forgotten_in_time() {
    let house = House::mutual();
    let settings = Settings {
        handshake_timeout: 10 * SECOND,
        ..Settings::default()
    };
    for kind in 0..4 {
        let mut wire = house.wire(settings.clone());
        let (mut client, method) = clients(&house, &wire).swap_remove(kind);
        // Two flights of the client, and then silence.
        for _ in 0..2 {
            for datagram in client.output(wire.now) {
                for answer in wire.receive(client.address, &datagram) {
                    client.input(&answer, wire.now);
                }
            }
        }
        assert_eq!(wire.handshakes(), 1, "{method:?}");
        let mut resent = 0;
        for _ in 0..11 {
            wire.pass(SECOND);
            resent += wire.sent_to(client.address).len();
        }
        assert_eq!(wire.handshakes(), 0, "{method:?}");
        assert_eq!(wire.failures(Failure::Timeout), 1, "{method:?}");
        assert!((1..40).contains(&resent), "{method:?}: {resent}");
        assert_eq!(wire.server.next_timeout(), None, "{method:?}");
        assert_eq!(wire.events(), []);
    }
}

#[test]
fn rfc5280_4_2_and_6_a_client_whose_certificate_does_not_hold_gets_no_session_in_either_version() {
    let mut house = House::mutual();
    let revoked = house.authority.issue(&client_named("lost"));
    if let tidegate_tls::ClientAuth::Required(ca) = &mut house.settings.client {
        ca.crl = Some(
            house
                .folder
                .write("crl.pem", &house.authority.crl(&[&revoked])),
        );
    }
    let (mut expired, mut future) = (client_named("old"), client_named("young"));
    (expired.from, expired.until) = (-10, -1);
    (future.from, future.until) = (1, 10);
    let strangers = Authority::new("strangers");
    for (leaf, why) in [
        (house.authority.issue(&expired), Failure::CertificateTime),
        (house.authority.issue(&future), Failure::CertificateTime),
        (
            strangers.issue(&client_named("a")),
            Failure::CertificateIssuer,
        ),
        (
            Authority::new("house").issue(&client_named("a")),
            Failure::CertificateIssuer,
        ),
        (revoked, Failure::CertificateRevoked),
        // For servers only (RFC 5280, 4.2.1.12).
        (
            house.authority.issue(&server_named("a")),
            Failure::Certificate,
        ),
    ] {
        let mut wire = house.wire(Settings::default());
        let made = [Client::certificate12, Client::certificate13];
        for (count, make) in made.into_iter().enumerate() {
            let mut client = make(address(CLIENT), &leaf, wire.now);
            client.talk(&mut wire);
            client.dtls.send_application_data(b"let me in").ok();
            client.talk(&mut wire);
            assert_eq!(wire.events(), [], "{why:?}, {count}");
            assert_eq!(wire.failures(why), 1 + count as u64, "{why:?}, {count}");
            assert_eq!(wire.handshakes(), 0, "{why:?}, {count}");
            // DTLS 1.2 with a fatal alert, 1.3 as soon as there are keys for it.
            let told = client.error.is_some() || client.closed;
            assert!(told, "{why:?}, {count}");
        }
    }
}

#[test]
fn rfc4279_2_an_unknown_identity_is_answered_with_the_same_bytes_as_a_wrong_key() {
    let house = House::new();
    let mut wire = house.wire(Settings::default());
    let mut answers = Vec::new();
    for (identity, key) in [("device", &b"another key of 16"[..]), ("nobody", KEY)] {
        let mut client = Client::psk(address(CLIENT), identity, key, wire.now);
        client.talk(&mut wire);
        assert!(client.error.is_some() && !client.connected, "{identity}");
        let error = format!("{:?}", client.error);
        answers.push(error);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].contains("51"), "decrypt_error: {}", answers[0]);
    assert_eq!(wire.failures(Failure::WrongKey), 1);
    assert_eq!(wire.failures(Failure::UnknownIdentity), 1);
}

#[test]
fn sessions_handshakes_and_addresses_of_one_ip_are_bounded() {
    let house = House::new();
    let bounded = |handshakes, sessions, per_ip| Settings {
        max_handshakes: handshakes,
        max_sessions: sessions,
        max_per_ip: per_ip,
        ..Settings::default()
    };
    let at = |text: &str, wire: &Wire| Client::psk(address(text), "device", KEY, wire.now);

    // Sessions; one that begins again is not one more.
    let mut wire = house.wire(bounded(10, 1, 10));
    at("127.0.0.1:1", &wire).connect(&mut wire);
    let mut refused = at("127.0.0.1:2", &wire);
    refused.talk(&mut wire);
    assert!(!refused.connected && refused.error.is_some());
    assert_eq!(wire.failures(Failure::TooManySessions), 1);
    let mut again = at("127.0.0.1:1", &wire);
    again.talk(&mut wire);
    assert!(again.connected);

    // Of one IP address, in whichever notation.
    let mut wire = house.wire(bounded(10, 10, 1));
    let mut first = at("127.0.0.1:1", &wire);
    let (session, ..) = first.connect(&mut wire);
    let mut refused = at("[::ffff:127.0.0.1]:2", &wire);
    refused.talk(&mut wire);
    assert!(!refused.connected);
    assert_eq!(wire.failures(Failure::TooManyPerIp), 1);
    at("127.0.0.2:1", &wire).connect(&mut wire);
    let now = wire.now;
    wire.server.close(session, now, &mut wire.log);
    wire.events();
    at("127.0.0.1:2", &wire).connect(&mut wire);

    // Handshakes: the second flight of each has come and no third.
    let mut wire = house.wire(bounded(2, 10, 10));
    let mut begun = 0;
    for port in 1..=3 {
        let mut client = at(&format!("127.0.0.1:{port}"), &wire);
        for _ in 0..2 {
            for datagram in client.output(wire.now) {
                for answer in wire.receive(client.address, &datagram) {
                    client.input(&answer, wire.now);
                }
            }
        }
        begun += u64::from(client.error.is_none());
    }
    assert_eq!((begun, wire.handshakes()), (2, 2));
    assert_eq!(wire.failures(Failure::TooManyHandshakes), 1);
    wire.pass(31 * SECOND);
    at("127.0.0.1:4", &wire).connect(&mut wire);
}

#[test]
fn what_does_not_fit_a_record_is_not_sent_and_what_fits_is() {
    let house = House::mutual();
    let mut wire = house.wire(Settings::default());
    for (mut client, method) in clients(&house, &wire) {
        let (session, ..) = client.connect(&mut wire);
        let now = wire.now;
        let large = vec![7; (1 << 14) + 1];
        let refused = wire.server.send(session, &large, now, &mut wire.log);
        assert_eq!(refused, Err(SendError::TooLarge), "{method:?}");
        for length in [0, 1, 1024, 1 << 14] {
            wire.send(session, &large[..length]);
            client.talk(&mut wire);
            let expected = if length == 0 {
                vec![]
            } else {
                vec![large[..length].to_vec()]
            };
            let got: Vec<_> = client
                .received
                .drain(..)
                .filter(|it| !it.is_empty())
                .collect();
            assert_eq!(got, expected, "{method:?}, {length}");
        }
        assert!(client.is_served(&mut wire, session), "{method:?}");
    }
}

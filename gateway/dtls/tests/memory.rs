//! What a session holds, and what a datagram costs.

mod support;

use allocation_counter::{AllocationInfo, measure};
use support::{CLIENT, Client, House, KEY, Wire, address, client_named, to_us};
use tidegate_dtls::{Method, Settings};

fn clients(house: &House, wire: &Wire) -> [(Client, Method); 3] {
    let leaf = house.authority.issue(&client_named("pump-7"));
    let peer = address(CLIENT);
    [
        (Client::psk(peer, "device", KEY, wire.now), Method::Psk12),
        (
            Client::certificate12(peer, &leaf, wire.now),
            Method::Certificate12,
        ),
        (
            Client::certificate13(peer, &leaf, wire.now),
            Method::Certificate13,
        ),
    ]
}

/// What the server's part in a call holds afterwards; what was sent is not counted.
fn server_side(wire: &mut Wire, call: impl FnOnce(&mut Wire)) -> AllocationInfo {
    measure(|| {
        call(wire);
        wire.log = support::Log::default();
    })
}

#[test]
fn a_session_that_is_idle_holds_little() {
    for kind in 0..3 {
        let house = House::mutual();
        let mut wire = house.wire(Settings::default());
        // What the first one brings for all.
        let (mut first, _) = clients(&house, &wire).into_iter().nth(kind).unwrap();
        first.address = address("127.0.0.1:1");
        first.connect(&mut wire);

        let (mut client, method) = clients(&house, &wire).into_iter().nth(kind).unwrap();
        let mut held = 0;
        for round in 0..20 {
            for datagram in client.output(wire.now) {
                let mut answers = Vec::new();
                let used = server_side(&mut wire, |wire| {
                    wire.server
                        .receive(to_us(client.address), &datagram, wire.now, &mut wire.log);
                    answers = std::mem::take(&mut wire.log.sent).into();
                });
                let here: usize = answers
                    .iter()
                    .map(|(_, it): &(_, Vec<u8>)| it.capacity())
                    .sum();
                let list = answers.capacity() * size_of::<(std::net::SocketAddr, Vec<u8>)>();
                held += used.bytes_current - i64::try_from(here + list).unwrap();
                for (_, answer) in answers {
                    client.input(&answer, wire.now);
                }
            }
            if client.connected && round > 10 {
                client.send(b"data");
            }
        }
        assert!(client.connected);
        println!("{method:?}: {held} bytes");
        assert!((1..40_000).contains(&held), "{method:?}: {held}");
    }
}

#[test]
fn a_datagram_of_a_session_allocates_only_what_the_engine_does() {
    let house = House::mutual();
    for kind in 0..3 {
        let mut wire = house.wire(Settings::default());
        let (mut client, method) = clients(&house, &wire).into_iter().nth(kind).unwrap();
        let (session, ..) = client.connect(&mut wire);
        for _ in 0..3 {
            assert!(client.is_served(&mut wire, session));
        }
        struct Nowhere;
        impl tidegate_dtls::Output for Nowhere {
            fn transmit(&mut self, _: tidegate_dtls::Path, _: &[u8]) {}
            fn failed(&mut self, _: std::net::SocketAddr, _: tidegate_dtls::Failure) {}
            fn established(
                &mut self,
                _: tidegate_dtls::SessionId,
                _: &tidegate_dtls::Who,
                _: Method,
            ) {
            }
            fn data(&mut self, _: tidegate_dtls::SessionId, _: &[u8]) {}
            fn ended(&mut self, _: tidegate_dtls::SessionId, _: tidegate_dtls::End) {}
        }
        client.send(b"ping");
        let datagram = client.output(wire.now).remove(0);
        let now = wire.now;
        let received = measure(|| {
            wire.server
                .receive(to_us(client.address), &datagram, now, &mut Nowhere);
        });
        let sent = measure(|| {
            let sent = wire.server.send(session, b"pong", now, &mut Nowhere);
            assert!(sent.is_ok());
        });
        assert!(received.count_total <= 4, "{method:?}: {received:?}");
        assert!(sent.count_total <= 4, "{method:?}: {sent:?}");
        let kept = received.bytes_current + sent.bytes_current;
        assert!(kept <= 0, "{method:?}: {kept}");
        // A datagram that is for nobody costs nothing.
        let nobody = measure(|| {
            wire.server
                .receive(to_us(address("127.0.0.1:9")), &datagram, now, &mut Nowhere);
        });
        assert_eq!(nobody.count_total, 0, "{method:?}");
    }
}

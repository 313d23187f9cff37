//! The same behaviour over TCP, TLS, WebSocket, WebSocket over TLS and QUIC: MQTT 5.0 section 4.2 and
//! chapter 6. What is particular to one of them is in `tls` and `websocket`.

use std::time::{Duration, Instant};

use tidegate_tests::wire::{Client, Connect, Event, Publish, Version, Will, code};
use tidegate_tests::{Gateway, Server, Transport, unique};

/// Makes of each function one test a transport.
macro_rules! over_every_transport {
    ($($test:ident)*) => {
        over_every_transport! { @over tcp Tcp $($test)* }
        over_every_transport! { @over tls Tls $($test)* }
        over_every_transport! { @over ws Ws $($test)* }
        over_every_transport! { @over wss Wss $($test)* }
        over_every_transport! { @over quic Quic $($test)* }
    };
    (@over $module:ident $transport:ident $($test:ident)*) => {
        mod $module {
            $(#[test]
            fn $test() {
                super::$test(super::Transport::$transport);
            })*
        }
    };
}

over_every_transport! {
    every_version_connects_pings_and_leaves
    messages_of_every_quality_of_service_arrive
    a_burst_in_both_directions_is_complete_and_in_order
    a_retained_message_waits
    a_session_waits_for_its_client
    the_will_of_a_client_that_vanishes_is_published
    a_session_is_taken_over
    a_large_packet_passes_in_both_directions
    packets_are_read_however_they_are_cut
    mqtt_3_1_2_22_a_silent_client_is_closed
    a_malformed_packet_ends_the_connection
    clients_are_told_of_the_end
    clients_of_all_transports_meet
}

/// A gateway and how it is reached; `None` if the broker that was given has no such listener.
#[track_caller]
fn start(transport: Transport) -> Option<(Gateway, Server)> {
    let gateway = Gateway::start();
    let server = gateway.server(transport)?;
    Some((gateway, server))
}

fn every_version_connects_pings_and_leaves(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("hello")).open(&server);
        client.expect_nothing();
        client.disconnect();
    }
}

fn messages_of_every_quality_of_service_arrive(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    for version in Version::ALL {
        let topic = unique("qos");
        let mut receiver = Connect::new(version, &unique("in")).open(&server);
        let mut sender = Connect::new(version, &unique("out")).open(&server);
        for qos in 0..=2 {
            receiver.subscribe(&topic, qos);
            for number in 0..20 {
                let message = Publish::new(&topic, format!("{qos} {number}")).qos(qos);
                assert_eq!(sender.publish(&message), 0);
                let received = receiver.receive();
                assert_eq!(received.text(), format!("{qos} {number}"));
                assert_eq!(received.qos, qos);
            }
        }
        receiver.expect_nothing();
    }
}

fn a_burst_in_both_directions_is_complete_and_in_order(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let topic = unique("burst");
    let mut client = Connect::v5(&unique("burst")).open(&server);
    client.subscribe(&topic, 0);
    for round in 0..20 {
        let message = |number: u32| Publish::new(&topic, (round * 100 + number).to_string());
        let packets = (0..100).flat_map(|number| message(number).encode(Version::V5));
        client.send(&packets.collect::<Vec<u8>>());
        let expected: Vec<String> = (0..100).map(|number| message(number).text()).collect();
        assert_eq!(client.receive_texts(100), expected);
    }
}

fn a_retained_message_waits(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let topic = unique("retained");
    let mut sender = Connect::v311(&unique("out")).open(&server);
    sender.publish(&Publish::new(&topic, "kept").qos(1).retain());
    let mut receiver = Connect::v5(&unique("in")).open(&server);
    receiver.subscribe(&topic, 1);
    let message = receiver.receive();
    assert_eq!((message.text().as_str(), message.retain), ("kept", true));
    sender.publish(&Publish::new(&topic, "").qos(1).retain());
}

fn a_session_waits_for_its_client(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let (topic, id) = (unique("waits"), unique("waits"));
    let mut receiver = Connect::lasting(Version::V5, &id).open(&server);
    receiver.subscribe(&topic, 2);
    receiver.disconnect();
    let mut sender = Connect::v5(&unique("out")).open(&server);
    for number in 0..10 {
        sender.publish(&Publish::new(&topic, number.to_string()).qos(2));
    }
    let mut receiver = Connect::lasting(Version::V5, &id).open(&server);
    assert!(receiver.session_present());
    let expected: Vec<String> = (0..10).map(|number: u8| number.to_string()).collect();
    assert_eq!(receiver.receive_texts(10), expected);
    receiver.unsubscribe(&[&topic]);
}

fn the_will_of_a_client_that_vanishes_is_published(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let topic = unique("will");
    let mut watcher = Connect::v5(&unique("watcher")).open(&server);
    watcher.subscribe(&topic, 1);
    for version in Version::ALL {
        let will = Will::new(&topic, "gone").qos(1);
        let doomed = Connect::new(version, &unique("doomed"))
            .will(will)
            .open(&server);
        doomed.vanish();
        assert_eq!(watcher.receive().text(), "gone");
    }
}

fn a_session_is_taken_over(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    for version in Version::ALL {
        let id = unique("taken");
        let mut first = Connect::new(version, &id).open(&server);
        let mut second = Connect::new(version, &id).open(&server);
        first.expect_end(code::TAKEN_OVER);
        second.expect_nothing();
    }
}

/// Just below the default of `limits.max_packet_size`, 1 MiB, and far beyond any single buffer, TLS
/// record or read on the way.
fn a_large_packet_passes_in_both_directions(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let topic = unique("large");
    let payload: Vec<u8> = (0..900 * 1024_u32).map(|at| (at % 251) as u8).collect();
    let mut receiver = Connect::v5(&unique("in")).open(&server);
    receiver.subscribe(&topic, 2);
    let mut sender = Connect::v311(&unique("out")).open(&server);
    for qos in 0..=2 {
        sender.publish(&Publish::new(&topic, &payload).qos(qos));
        assert!(receiver.receive().payload == payload, "QoS {qos}");
    }
}

fn packets_are_read_however_they_are_cut(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let topic = unique("cut");
    let mut client = Connect::v5(&unique("cut")).open(&server);
    client.subscribe(&topic, 0);
    let messages = (0..10).map(|number| Publish::new(&topic, format!("message {number}")));
    let bytes: Vec<u8> = messages
        .flat_map(|message| message.encode(Version::V5))
        .collect();
    for length in [1, 2, 3, 7, bytes.len()] {
        // Each write is a TCP segment, a TLS record, a WebSocket message of its own.
        bytes.chunks(length).for_each(|piece| client.send(piece));
        let expected: Vec<String> = (0..10).map(|number| format!("message {number}")).collect();
        assert_eq!(client.receive_texts(10), expected, "pieces of {length}");
    }
}

fn mqtt_3_1_2_22_a_silent_client_is_closed(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let mut clients = [Version::V5, Version::V311].map(|version| {
        Connect::new(version, &unique("silent"))
            .keep_alive(2)
            .open(&server)
    });
    let since = Instant::now();
    for client in &mut clients {
        client.expect_end(code::KEEP_ALIVE);
    }
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(2_500), "{took:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

fn a_malformed_packet_ends_the_connection(transport: Transport) {
    let Some((_gateway, server)) = start(transport) else {
        return;
    };
    let mut other = Connect::v5(&unique("other")).open(&server);
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("malformed")).open(&server);
        // A PUBLISH of QoS 3.
        client.send(&[0x36, 6, 0, 1, b't', 0, 1, 0]);
        client.expect_error();
    }
    other.expect_nothing();
}

fn clients_are_told_of_the_end(transport: Transport) {
    let Some(mut gateway) = Gateway::configured("") else {
        return;
    };
    let Some(server) = gateway.server(transport) else {
        return;
    };
    let open =
        |number: usize| Connect::new(Version::ALL[number % 3], &unique("told")).open(&server);
    let mut clients: Vec<Client> = (0..12).map(open).collect();
    gateway.signal("TERM");
    for client in &mut clients {
        client.expect_end(code::SHUTTING_DOWN);
        if transport.is_websocket() {
            // Normal closure or "going away" (RFC 6455 section 7.4.1).
            let closed = client.stream().close_code();
            assert!(matches!(closed, Some(1000 | 1001)), "{closed:?}");
        }
    }
    let status = gateway.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
}

fn clients_of_all_transports_meet(transport: Transport) {
    let Some((gateway, server)) = start(transport) else {
        return;
    };
    let topic = unique("meet");
    let others = Transport::ALL.into_iter();
    let others: Vec<Server> = others.filter_map(|each| gateway.server(each)).collect();
    let mut receivers: Vec<Client> = others
        .iter()
        .map(|server| {
            let mut client = Connect::v5(&unique("in")).open(server);
            client.subscribe(&topic, 1);
            client
        })
        .collect();
    let mut sender = Connect::v311(&unique("out")).open(&server);
    sender.publish(&Publish::new(&topic, "to all").qos(1));
    for receiver in &mut receivers {
        assert_eq!(receiver.receive().text(), "to all");
        assert_eq!(receiver.next(Duration::from_millis(1)), Event::Silence);
    }
}

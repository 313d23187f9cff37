//! Limits: each refusal with the reason code of MQTT 5.0 section 2.4 or the return code of MQTT 3.1.1.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{
    Ack, Client, Connect, Event, PATIENCE, Packet, Property, Publish, Version, code,
};
use tidegate_tests::{Gateway, unique};

#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("limits")).open(gateway.mqtt())
}

/// The codes with which a publish of QoS 1 may be refused: in its PUBACK or by DISCONNECT.
#[track_caller]
fn refusal(client: &mut Client, message: &Publish) -> u8 {
    client.send_publish(&message.clone().qos(1).id(99));
    match client.next(PATIENCE) {
        Event::Packet(Packet::PubAck(ack)) => ack.code,
        Event::Packet(Packet::Disconnect(reason)) => reason.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_beyond_the_total_are_refused() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_connections = 3") else {
        return;
    };
    let mut clients: Vec<Client> = (0..3).map(|_| client(&gateway)).collect();
    let refused = Connect::v5(&unique("fourth")).refused(gateway.mqtt());
    assert!(
        [code::BUSY, code::QUOTA].contains(&refused.code),
        "{refused:?}"
    );
    assert_eq!(
        Connect::v311(&unique("fourth"))
            .refused(gateway.mqtt())
            .code,
        3
    );
    clients.iter_mut().for_each(Client::expect_nothing);
    // One leaves, one may come: as soon as the gateway has seen it leave.
    clients.remove(0).vanish();
    let end = Instant::now() + PATIENCE;
    loop {
        let mut last = Client::dial(gateway.mqtt(), Version::V5);
        last.send(&Connect::v5(&unique("last")).encode());
        if last.expect_connack().code == 0 {
            last.expect_nothing();
            break;
        }
        assert!(Instant::now() < end, "no room was made");
    }
}

#[test]
fn connections_beyond_those_of_one_address_are_refused() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_connections_per_ip = 2") else {
        return;
    };
    let mut clients = [client(&gateway), client(&gateway)];
    let refused = Connect::v5(&unique("third")).refused(gateway.mqtt());
    assert!(
        [code::BUSY, code::QUOTA].contains(&refused.code),
        "{refused:?}"
    );
    clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn connections_that_come_too_fast_are_refused() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_connect_rate = 5") else {
        return;
    };
    let mut refused = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..30 {
        let connect = Connect::v5(&unique("fast"));
        let mut client = Client::dial(gateway.mqtt(), Version::V5);
        if client.try_send(&connect.encode()).is_err() {
            refused.push(None);
            continue;
        }
        match client.next(PATIENCE) {
            Event::Packet(Packet::ConnAck(answer)) if answer.code == 0 => accepted.push(client),
            Event::Packet(Packet::ConnAck(answer)) => refused.push(Some(answer.code)),
            Event::Closed => refused.push(None),
            other => panic!("{other:?}"),
        }
    }
    // A burst of one second passes, and what a second or two allow meanwhile.
    assert!(
        (5..=20).contains(&accepted.len()),
        "{} were accepted",
        accepted.len()
    );
    let expected = [None, Some(code::CONNECTION_RATE)];
    assert!(
        refused.iter().all(|code| expected.contains(code)),
        "{refused:02x?}"
    );
    assert!(
        refused.contains(&Some(code::CONNECTION_RATE)),
        "someone is told why: {refused:?}"
    );
}

#[test]
fn client_ids_beyond_the_limit_are_refused() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_client_id_size = 30") else {
        return;
    };
    let (fits, long) = ("x".repeat(30), "x".repeat(31));
    for version in Version::ALL {
        Connect::new(version, &fits)
            .open(gateway.mqtt())
            .disconnect();
        let refused = Connect::new(version, &long).refused(gateway.mqtt()).code;
        assert_eq!(
            refused,
            if version == Version::V5 {
                code::CLIENT_ID
            } else {
                2
            }
        );
    }
}

#[test]
fn topics_beyond_the_limit_are_refused() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_topic_size = 20") else {
        return;
    };
    let (fits, long) = ("t".repeat(20), "t".repeat(21));
    let mut client = client(&gateway);
    client.subscribe(&fits, 1);
    client.publish(&Publish::new(&fits, "x").qos(1));
    assert_eq!(client.receive().topic, fits);
    let refused = client.subscribe_with(&[(&long, 0)], &[]).codes[0];
    assert!(
        [code::FILTER_INVALID, code::QUOTA].contains(&refused),
        "{refused:#04x}"
    );
    assert_eq!(
        refusal(&mut client, &Publish::new(&long, "x")),
        code::TOPIC_INVALID
    );
}

#[test]
fn topics_of_too_many_levels_are_refused() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_topic_levels = 3") else {
        return;
    };
    let mut client = client(&gateway);
    client.subscribe("a/b/c", 1);
    client.publish(&Publish::new("a/b/c", "x").qos(1));
    assert_eq!(client.receive().topic, "a/b/c");
    let refused = client.subscribe_with(&[("a/b/c/#", 0)], &[]).codes[0];
    assert!(
        [code::FILTER_INVALID, code::QUOTA].contains(&refused),
        "{refused:#04x}"
    );
    assert_eq!(
        refusal(&mut client, &Publish::new("a/b/c/d", "x")),
        code::TOPIC_INVALID
    );
}

#[test]
fn subscriptions_beyond_the_limit_are_refused() {
    let limit = "[limits]\nmax_subscriptions_per_client = 3";
    let Some(gateway) = Gateway::configured(limit) else {
        return;
    };
    let filters = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
    let mut client = client(&gateway);
    assert_eq!(
        client.subscribe_with(&filters, &[]).codes,
        [1, 1, 1, code::QUOTA]
    );
    // Subscribing again to one that exists is no further subscription; leaving one makes room.
    client.subscribe("a", 2);
    client.unsubscribe(&["b"]);
    client.subscribe("d", 1);
    let mut older = Connect::v311(&unique("older")).open(gateway.mqtt());
    assert_eq!(older.subscribe_with(&filters, &[]).codes, [1, 1, 1, 0x80]);
    let mut oldest = Connect::new(Version::V31, &unique("oldest")).open(gateway.mqtt());
    let answer = oldest.subscribe_with(&filters[..3], &[]);
    assert_eq!(answer.codes, [1, 1, 1]);
}

#[test]
fn no_more_messages_are_in_flight_than_configured() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_inflight = 3") else {
        return;
    };
    let topic = unique("inflight");
    let connects = [
        Connect::v5(&unique("wide")).with(Property::ReceiveMaximum(100)),
        Connect::v311(&unique("older")),
    ];
    for connect in connects {
        let mut receiver = connect.open(gateway.mqtt());
        receiver.subscribe(&topic, 1);
        let mut sender = client(&gateway);
        for number in 0..10 {
            sender.publish(&Publish::new(&topic, number.to_string()).qos(1));
        }
        let held: Vec<Publish> = (0..3).map(|_| receiver.expect_publish()).collect();
        receiver.expect_nothing();
        for message in &held {
            receiver.acknowledge(message);
        }
        let rest = receiver.receive_texts(7);
        assert_eq!(
            rest,
            (3..10).map(|number| number.to_string()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn mqtt_2_2_1_when_all_packet_identifiers_are_in_flight_messages_wait() {
    let limits = "[limits]\nmax_inflight = 65535\nmax_queued_messages = 100000";
    let Some(gateway) = Gateway::configured(limits) else {
        return;
    };
    let topic = unique("exhausted");
    let mut receiver = client(&gateway);
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    let mut ids = HashSet::new();
    // A hundred at a time, each read before the next, so that no buffer on the way is full.
    for round in 0..656 {
        let mut bytes = Vec::new();
        for id in 1..=100 {
            bytes.extend(Publish::new(&topic, "x").qos(1).id(id).encode(Version::V5));
        }
        sender.send(&bytes);
        (1..=100).for_each(|id| assert_eq!(sender.await_puback(id).code, 0));
        let expected = if round < 655 { 100 } else { 35 };
        for _ in 0..expected {
            assert!(
                ids.insert(receiver.expect_publish().id),
                "an identifier came twice"
            );
        }
    }
    assert_eq!(ids.len(), 65_535);
    receiver.expect_nothing();
    // Whichever identifier becomes free is the one that is used.
    for id in [1, 40_000, 65_535] {
        receiver.send_puback(&Ack::new(id));
        assert_eq!(receiver.expect_publish().id, id);
    }
    assert_eq!(gateway.dropped(), 0);
}

#[test]
fn retained_messages_beyond_the_limit_are_refused() {
    let Some(gateway) = Gateway::configured(
        "[limits]\nmax_retained_messages = 2\n[telemetry]\nsys_interval = \"0s\"",
    ) else {
        return;
    };
    let mut client = client(&gateway);
    let retained = |topic: &str, text: &str| Publish::new(topic, text).qos(1).retain();
    for topic in ["a", "b"] {
        assert!(client.publish(&retained(topic, "kept")) < 0x80);
    }
    assert_eq!(client.publish(&retained("c", "one too many")), code::QUOTA);
    // Replacing is allowed, and removing makes room.
    assert!(client.publish(&retained("a", "replaced")) < 0x80);
    assert!(client.publish(&retained("b", "")) < 0x80);
    assert!(client.publish(&retained("c", "fits")) < 0x80);
    let mut late = Connect::v5(&unique("late")).open(gateway.mqtt());
    late.subscribe("+", 1);
    let mut texts = late.receive_texts(2);
    texts.sort_unstable();
    assert_eq!(texts, ["fits", "replaced"]);
}

#[test]
fn a_client_that_says_nothing_is_closed_in_time() {
    let limit = "[limits]\nconnect_timeout = \"500ms\"";
    let Some(gateway) = Gateway::configured(limit) else {
        return;
    };
    let mut client = Client::dial(gateway.mqtt(), Version::V5);
    assert_eq!(client.next(Duration::from_millis(300)), Event::Silence);
    client.expect_close();
    // Once connected the limit is over.
    let mut client = Connect::v5(&unique("slow")).open(gateway.mqtt());
    assert_eq!(client.next(Duration::from_millis(1_500)), Event::Silence);
    client.expect_nothing();
}

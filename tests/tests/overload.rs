//! Overload: queues that are full, clients that do not read. Whatever is lost is counted, and the
//! count is what was sent less what was received.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{
    Client, Connect, Event, PATIENCE, Packet, Property, Publish, Version, code,
};
use tidegate_tests::{Gateway, unique};

/// A gateway whose queues hold 50 messages a client.
#[track_caller]
fn gateway(policy: &str, more: &str) -> Option<Gateway> {
    Gateway::configured(&format!(
        "[limits]\nmax_queued_messages = 50\n{more}\n[sessions]\nslow_consumer_policy = \"{policy}\""
    ))
}

#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("sender")).open(gateway.mqtt())
}

/// The numbers that `client` receives until nothing more comes, each acknowledged.
#[track_caller]
fn numbers(client: &mut Client) -> Vec<u32> {
    let mut numbers = Vec::new();
    // An acknowledgement makes room for further messages, and those may come just after the answer to
    // a ping that was sent with it: nothing more is to come when two answers in a row bring nothing.
    let mut quiet = 0;
    while quiet < 2 {
        quiet += 1;
        for packet in client.fence() {
            let Packet::Publish(message) = packet else {
                panic!("{packet:?}")
            };
            client.acknowledge(&message);
            numbers.push(number(&message));
            quiet = 0;
        }
    }
    numbers
}

/// The number with which a payload begins.
fn number(message: &Publish) -> u32 {
    message.text().split(' ').next().unwrap().parse().unwrap()
}

/// Waits until the drops are counted; they may be a moment behind what a client sees.
#[track_caller]
fn expect_dropped(gateway: &Gateway, expected: u64) {
    let end = Instant::now() + Duration::from_secs(5);
    while gateway.dropped() != expected && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(
        gateway.dropped(),
        expected,
        "counted as dropped, and really lost"
    );
}

/// 200 messages for a client that is away.
#[track_caller]
fn while_away(gateway: &Gateway) -> Vec<u32> {
    let topic = unique("away");
    let connect = Connect::lasting(Version::V5, &unique("away"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(gateway);
    for number in 0..200 {
        assert_eq!(
            sender.publish(&Publish::new(&topic, number.to_string()).qos(1)),
            0
        );
    }
    numbers(&mut connect.open(gateway.mqtt()))
}

#[test]
fn drop_new_keeps_the_oldest_messages_for_a_client_that_is_away() {
    let Some(gateway) = gateway("drop_new", "") else {
        return;
    };
    assert_eq!(while_away(&gateway), (0..50).collect::<Vec<_>>());
    expect_dropped(&gateway, 150);
}

#[test]
fn drop_old_keeps_the_newest_messages_for_a_client_that_is_away() {
    let Some(gateway) = gateway("drop_old", "") else {
        return;
    };
    assert_eq!(while_away(&gateway), (150..200).collect::<Vec<_>>());
    expect_dropped(&gateway, 150);
}

#[test]
fn a_client_that_is_away_cannot_be_disconnected_so_new_messages_are_dropped() {
    let Some(gateway) = gateway("disconnect", "") else {
        return;
    };
    assert_eq!(while_away(&gateway), (0..50).collect::<Vec<_>>());
    expect_dropped(&gateway, 150);
}

/// 100 messages for a client that has five in flight and acknowledges none; it then takes the rest.
#[track_caller]
fn while_stalled(gateway: &Gateway) -> Vec<u32> {
    let topic = unique("stalled");
    let connect = Connect::v5(&unique("stalled")).with(Property::ReceiveMaximum(5));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    let mut sender = client(gateway);
    for number in 0..100 {
        assert_eq!(
            sender.publish(&Publish::new(&topic, number.to_string()).qos(1)),
            0
        );
    }
    numbers(&mut receiver)
}

#[test]
fn drop_new_keeps_what_is_in_flight_and_the_oldest_behind_it() {
    let Some(gateway) = gateway("drop_new", "") else {
        return;
    };
    let received = while_stalled(&gateway);
    assert!(received.len() >= 50, "{received:?}");
    assert_eq!(received, (0..received.len() as u32).collect::<Vec<_>>());
    expect_dropped(&gateway, 100 - received.len() as u64);
}

#[test]
fn drop_old_never_drops_what_is_in_flight() {
    let Some(gateway) = gateway("drop_old", "") else {
        return;
    };
    let received = while_stalled(&gateway);
    assert_eq!(received[..5], [0, 1, 2, 3, 4]);
    let kept = received.len() as u32 - 5;
    assert_eq!(received[5..], (100 - kept..100).collect::<Vec<_>>());
    expect_dropped(&gateway, 100 - received.len() as u64);
}

#[test]
fn disconnect_tells_a_slow_client_so_and_keeps_its_session() {
    let Some(gateway) = gateway("disconnect", "") else {
        return;
    };
    let topic = unique("slow");
    let id = unique("slow");
    let connect = Connect::lasting(Version::V5, &id).with(Property::ReceiveMaximum(5));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    for number in 0..100 {
        assert_eq!(
            sender.publish(&Publish::new(&topic, number.to_string()).qos(1)),
            0
        );
    }
    let mut received: BTreeSet<u32> = (0..5).map(|_| number(&receiver.expect_publish())).collect();
    assert_eq!(receiver.expect_disconnect().code, code::QUOTA);
    received.extend(numbers(
        &mut Connect::lasting(Version::V5, &id).open(gateway.mqtt()),
    ));
    expect_dropped(&gateway, 100 - received.len() as u64);
    assert!(received.len() >= 50 && received.len() < 100, "{received:?}");
}

/// Large messages for a client that does not read, then does: the socket is what is full here.
#[track_caller]
fn while_not_reading(gateway: &Gateway, qos: u8) -> Vec<u32> {
    const COUNT: u32 = 600;
    let topic = unique("unread");
    let mut receiver = Connect::v5(&unique("unread")).open(gateway.mqtt());
    receiver.subscribe(&topic, qos);
    let mut sender = client(gateway);
    let filling = "x".repeat(50_000);
    for number in 0..COUNT {
        sender.publish(&Publish::new(&topic, format!("{number} {filling}")).qos(qos));
    }
    sender.fence();
    let received = numbers(&mut receiver);
    assert!(
        received.is_sorted_by(|before, after| before < after),
        "in order: {received:?}"
    );
    assert!(
        received.len() < COUNT as usize,
        "30 MB should not fit into sockets and queues"
    );
    expect_dropped(gateway, u64::from(COUNT) - received.len() as u64);
    received
}

#[test]
fn drop_new_with_a_client_that_does_not_read() {
    for qos in [0, 1] {
        let Some(gateway) = gateway("drop_new", "") else {
            return;
        };
        assert_eq!(
            while_not_reading(&gateway, qos).first(),
            Some(&0),
            "QoS {qos}"
        );
    }
}

#[test]
fn drop_old_with_a_client_that_does_not_read() {
    for qos in [0, 1] {
        let Some(gateway) = gateway("drop_old", "") else {
            return;
        };
        let received = while_not_reading(&gateway, qos);
        assert_eq!(received.last(), Some(&599), "QoS {qos}: the newest is kept");
    }
}

#[test]
fn disconnect_with_a_client_that_does_not_read() {
    let Some(gateway) = gateway("disconnect", "") else {
        return;
    };
    let topic = unique("unread");
    let connect = Connect::lasting(Version::V5, &unique("unread"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    let filling = "x".repeat(50_000);
    for number in 0..600 {
        sender.publish(&Publish::new(&topic, format!("{number} {filling}")).qos(1));
    }
    // What is in the sockets still comes; then the connection ends, with a word if it could be said.
    let mut received = BTreeSet::new();
    loop {
        match receiver.next(PATIENCE) {
            Event::Packet(Packet::Publish(message)) => drop(received.insert(number(&message))),
            Event::Packet(Packet::Disconnect(reason)) => assert_eq!(reason.code, code::QUOTA),
            Event::Packet(other) => panic!("{other:?}"),
            Event::Closed => break,
            Event::Silence => panic!("a slow client was to be disconnected"),
        }
    }
    received.extend(numbers(&mut connect.open(gateway.mqtt())));
    assert!(
        received.len() < 600,
        "30 MB should not fit into sockets and queues"
    );
    expect_dropped(&gateway, 600 - received.len() as u64);
}

#[test]
fn a_slow_client_does_not_slow_its_neighbours() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("neighbours");
    let mut slow = Connect::v5(&unique("slow")).open(gateway.mqtt());
    slow.subscribe(&topic, 0);
    let mut quick = Connect::v5(&unique("quick")).open(gateway.mqtt());
    quick.subscribe(&topic, 0);
    let mut sender = client(&gateway);
    let filling = "x".repeat(50_000);
    for number in 0..600 {
        sender.send_publish(&Publish::new(&topic, format!("{number} {filling}")));
        assert_eq!(self::number(&quick.receive()), number);
    }
    drop(slow);
}

#[test]
fn a_queue_is_bounded_in_bytes_too() {
    let limits = "[limits]\nmax_queued_size = \"64KiB\"\nmax_queued_messages = 100000";
    let Some(gateway) = Gateway::configured(limits) else {
        return;
    };
    let topic = unique("bytes");
    let connect = Connect::lasting(Version::V5, &unique("bytes"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(&gateway);
    let filling = "x".repeat(1_000);
    for number in 0..200 {
        sender.publish(&Publish::new(&topic, format!("{number} {filling}")).qos(1));
    }
    let received = numbers(&mut connect.open(gateway.mqtt()));
    assert!(
        (30..=65).contains(&received.len()),
        "{} of 1 KB in 64 KiB",
        received.len()
    );
    expect_dropped(&gateway, 200 - received.len() as u64);
}

#[test]
fn all_queues_together_are_bounded() {
    let limits = "[limits]\nmax_memory = \"1MiB\"";
    let Some(gateway) = Gateway::configured(limits) else {
        return;
    };
    let topic = unique("ceiling");
    let connects: Vec<Connect> = (0..10)
        .map(|_| Connect::lasting(Version::V5, &unique("ceiling")))
        .collect();
    // Each has a topic of its own, so that nothing is shared between the queues.
    for (index, connect) in connects.iter().enumerate() {
        let mut receiver = connect.open(gateway.mqtt());
        receiver.subscribe(&format!("{topic}/{index}"), 1);
        receiver.disconnect();
    }
    let before = gateway.resident_bytes();
    let mut sender = client(&gateway);
    let filling = "x".repeat(10_000);
    for number in 0..2_000 {
        let topic = format!("{topic}/{}", number % 10);
        sender.publish(&Publish::new(&topic, format!("{number} {filling}")).qos(1));
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(
        grown < 16 << 20,
        "20 MB were published for queues of 1 MiB: {grown} bytes more"
    );
    let mut received = 0;
    for connect in &connects {
        received += numbers(&mut connect.open(gateway.mqtt())).len();
    }
    assert!(
        (50..=105).contains(&received),
        "{received} of 10 KB in 1 MiB"
    );
    expect_dropped(&gateway, 2_000 - received as u64);
    // The memory is free again: new messages pass.
    let mut receiver = connects[0].open(gateway.mqtt());
    sender.publish(&Publish::new(&format!("{topic}/0"), "7 after").qos(1));
    assert_eq!(number(&receiver.receive()), 7);
}

#[test]
fn messages_that_expire_in_a_queue_are_counted() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("expire");
    let connect = Connect::lasting(Version::V5, &unique("expire"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(&gateway);
    for number in 0..20 {
        let seconds = if number % 2 == 0 { 1 } else { 600 };
        let message = Publish::new(&topic, number.to_string()).qos(1);
        sender.publish(&message.with(Property::MessageExpiry(seconds)));
    }
    thread::sleep(Duration::from_millis(2_300));
    let received = numbers(&mut connect.open(gateway.mqtt()));
    assert_eq!(
        received,
        (0..20).filter(|number| number % 2 == 1).collect::<Vec<_>>()
    );
    expect_dropped(&gateway, 10);
}

#[test]
fn messages_too_large_for_a_client_are_counted() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("small");
    let connect = Connect::v5(&unique("small")).with(Property::MaximumPacketSize(100));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    for size in [10, 200, 20, 300] {
        sender.publish(&Publish::new(&topic, vec![b'x'; size]).qos(1));
    }
    assert_eq!(receiver.receive().payload.len(), 10);
    assert_eq!(receiver.receive().payload.len(), 20);
    receiver.expect_nothing();
    expect_dropped(&gateway, 2);
}

#[test]
fn two_clients_that_publish_to_each_other_do_not_lock_up() {
    let gateway = Gateway::start();
    let (left, right) = (unique("left"), unique("right"));
    let open = |own: &str| {
        let mut client = Connect::v5(&unique("peer")).open(gateway.mqtt());
        client.subscribe(own, 1);
        client
    };
    let run = |mut client: Client, other: &str| {
        let filling = "x".repeat(1_000);
        let mut received = 0;
        for round in 0..50 {
            let mut bytes = Vec::new();
            for id in 1..=100 {
                let text = format!("{round} {filling}");
                bytes.extend(Publish::new(other, text).qos(1).id(id).encode(Version::V5));
            }
            // Reads nothing before all of it is sent.
            client.send(&bytes);
            (1..=100).for_each(|id| drop(client.await_puback(id)));
            for packet in client.fence() {
                let Packet::Publish(message) = packet else {
                    panic!("{packet:?}")
                };
                client.acknowledge(&message);
                received += 1;
            }
        }
        received + client.receive_texts(5_000 - received).len()
    };
    let (first, second) = (open(&left), open(&right));
    thread::scope(|scope| {
        let first = scope.spawn(|| run(first, &right));
        let second = scope.spawn(|| run(second, &left));
        assert_eq!(first.join().unwrap(), 5_000);
        assert_eq!(second.join().unwrap(), 5_000);
    });
}

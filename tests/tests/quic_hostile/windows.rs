//! Clients that give no credit to send, on a connection or on a stream.

use std::time::{Duration, Instant};

use quinn::{ConnectionError, TransportConfig, VarInt};
use tidegate_tests::wire::{Connect, Publish};
use tidegate_tests::{Gateway, eventually, unique};

use super::raw::Raw;
use super::{Neighbours, RUNTIME, Speech, connect, within};

/// How long a shutdown may take, of which two seconds are for the last words to a client that does not read. Far less
/// than `limits.shutdown_timeout`.
const SHUTDOWN: Duration = Duration::from_secs(15);
/// What is sent to somebody who does not read.
const MESSAGES: usize = 2_000;
const PAYLOAD: usize = 8 << 10;

/// A client that takes `connection` bytes in all and `stream` bytes of one stream before it reads.
fn taking(connection: u32, stream: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .receive_window(VarInt::from_u32(connection))
        .stream_receive_window(VarInt::from_u32(stream));
    transport
}

fn subscriptions(gateway: &Gateway) -> u64 {
    gateway.metric("tidegate_subscriptions", &[]) as u64
}

fn dropped(gateway: &Gateway, reason: &str) -> u64 {
    let reason = format!("reason=\"{reason}\"");
    gateway.metric("tidegate_messages_dropped_total", &[&reason]) as u64
}

#[test]
fn rfc9000_4_1_a_client_without_credit_costs_its_limits_and_nobody_else() {
    // What is written but not sent, the outbox and the queue of one client.
    let configuration = "[limits]\nmax_outbox_size = \"256KiB\"\nmax_queued_messages = 50\n";
    let Some(mut gateway) = Gateway::configured(configuration) else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let stuck = unique("stuck");
    let mut clients = Vec::new();
    let there = subscriptions(&gateway);
    for (number, (connection, stream)) in [(0, 0), (0, 1 << 20), (1 << 20, 0), (64, 1)]
        .into_iter()
        .enumerate()
    {
        let connection = connect(&gateway, taking(connection, stream));
        let connect = Connect::v5(&unique("stuck"));
        let mut control = Speech::begin(&connection, &connect);
        control.subscribe(&stuck, number as u8 % 2);
        clients.push((connection, control));
        eventually("it has subscribed", || {
            subscriptions(&gateway) == there + number as u64 + 1
        });
    }
    // And one that has credit, and acknowledges nothing from now on.
    let mut deaf = Raw::connect(&gateway, 10);
    deaf.begin(&Connect::v5(&unique("deaf")));
    deaf.subscribe(0, &stuck);
    let before = gateway.resident_bytes();
    for number in 0..MESSAGES {
        neighbours
            .tcp
            .publish(&Publish::new(&stuck, vec![b'x'; PAYLOAD]).qos(1));
        if number % 50 == 0 {
            neighbours.exchange();
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    // 16 MiB were sent to each of five.
    assert!(grown < 16 << 20, "{grown} bytes more");
    assert!(dropped(&gateway, "outbox_full") > 0, "QoS 0");
    assert!(dropped(&gateway, "queue_full") > 0, "QoS 1");
    neighbours.part();
    // They do not hold up the end either.
    gateway.signal("TERM");
    let began = Instant::now();
    let status = gateway.wait(SHUTDOWN);
    assert!(status.success(), "{status} after {:?}", began.elapsed());
    for (connection, _) in &clients {
        let ended = RUNTIME.block_on(within(connection.closed()));
        assert!(
            matches!(ended, ConnectionError::ApplicationClosed(_)),
            "{ended}"
        );
    }
}

#[test]
fn a_client_without_credit_is_ended_where_slow_consumers_are() {
    let configuration = "[limits]\nmax_outbox_size = \"64KiB\"\nmax_queued_messages = 50\n\
                         [sessions]\nslow_consumer_policy = \"disconnect\"\n";
    let Some(gateway) = Gateway::configured(configuration) else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let topic = unique("slow");
    let there = subscriptions(&gateway);
    // One has no credit at all, the other none for a further stream.
    let none = connect(&gateway, taking(0, 0));
    let mut control = Speech::begin(&none, &Connect::v5(&unique("none")));
    control.subscribe(&topic, 1);
    let one = connect(&gateway, taking(1 << 20, 1_000));
    let mut first = Speech::begin(&one, &Connect::v5(&unique("one")));
    assert_eq!(first.hear().0, 0x20, "CONNACK");
    let mut further = Speech::open(&one);
    further.subscribe(&topic, 1);
    eventually("both have subscribed", || {
        subscriptions(&gateway) == there + 2
    });
    for number in 0..400 {
        neighbours
            .tcp
            .publish(&Publish::new(&topic, vec![b'x'; PAYLOAD]).qos(1));
        if number % 50 == 0 {
            neighbours.exchange();
        }
    }
    // Who can hear it is told.
    let (kind, body) = first.hear();
    assert_eq!((kind, body[0]), (0xE0, 0x97), "DISCONNECT, Quota exceeded");
    for connection in [&none, &one] {
        let ended = RUNTIME.block_on(within(connection.closed()));
        assert!(
            matches!(&ended, ConnectionError::ApplicationClosed(close)
                if close.error_code == VarInt::from_u32(0)),
            "{ended}"
        );
    }
    neighbours.part();
}

#[test]
fn a_stream_without_credit_stops_no_other_stream() {
    let Some(mut gateway) = Gateway::configured("") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    // It has read as much as it will of each stream once 1,000 bytes lie there.
    let connection = connect(&gateway, taking(1 << 20, 1_000));
    let mut control = Speech::begin(&connection, &Connect::v5(&unique("partly")));
    assert_eq!(control.hear().0, 0x20, "CONNACK");
    let topics = [unique("stands"), unique("moves"), unique("first")];
    let mut stands = Speech::open(&connection);
    let mut moves = Speech::open(&connection);
    stands.subscribe(&topics[0], 0);
    moves.subscribe(&topics[1], 0);
    control.subscribe(&topics[2], 0);
    assert_eq!(stands.hear().0, 0x90, "SUBACK");
    assert_eq!(moves.hear().0, 0x90, "SUBACK");
    assert_eq!(control.hear().0, 0x90, "SUBACK");
    let before = gateway.resident_bytes();
    for number in 0..MESSAGES {
        let to = &topics[0];
        neighbours
            .tcp
            .publish(&Publish::new(to, vec![b'x'; PAYLOAD]).qos(1));
        if number % 50 > 0 {
            continue;
        }
        neighbours.exchange();
        for (topic, stream) in [(&topics[1], &mut moves), (&topics[2], &mut control)] {
            let payload = number.to_string();
            neighbours
                .tcp
                .publish(&Publish::new(topic, &payload).qos(1));
            let (kind, body) = stream.hear();
            assert_eq!(kind, 0x30, "PUBLISH");
            assert!(body.ends_with(payload.as_bytes()), "{number}");
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    // 256 KiB wait for it; the rest of 16 MiB is dropped.
    let lost = dropped(&gateway, "outbox_full") as usize;
    let waits = MESSAGES - lost;
    let room = (256 << 10) / PAYLOAD;
    assert!((room / 2..=2 * room).contains(&waits), "{waits} wait");
    // Once it is read, what waits comes.
    for _ in 0..waits {
        assert_eq!(stands.hear().0, 0x30, "PUBLISH");
    }
    neighbours
        .tcp
        .publish(&Publish::new(&topics[0], b"goes on").qos(1));
    assert!(stands.hear().1.ends_with(b"goes on"));
    // Full again, it does not hold up the end.
    for _ in 0..100 {
        neighbours
            .tcp
            .publish(&Publish::new(&topics[0], vec![b'x'; PAYLOAD]).qos(1));
    }
    neighbours.part();
    gateway.signal("TERM");
    let (kind, body) = control.hear();
    assert_eq!(
        (kind, body[0]),
        (0xE0, 0x8B),
        "DISCONNECT, Server shutting down"
    );
    let status = gateway.wait(SHUTDOWN);
    assert!(status.success(), "{status}");
}

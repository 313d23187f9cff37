//! Streams: too many, none that may be, none that is used.

use quinn::{TransportConfig, VarInt};
use tidegate_tests::wire::{Connect, Publish, Version};
use tidegate_tests::{Gateway, unique};

use super::packets::{Frame, stream};
use super::raw::Raw;
use super::{Neighbours, RUNTIME, Speech, connect, refused, within};

/// Streams in all.
const FLOOD: usize = 10_000;
/// Packets with a byte each, 13 MB of them.
const HOLES: u64 = 10_000;
/// More than anything may grow for all of them: a connection with its windows, and what the allocator keeps.
const GROWTH: u64 = 4 << 20;
/// STREAM_LIMIT_ERROR (RFC 9000 section 20.1).
const STREAM_LIMIT_ERROR: Frame = Frame::Close(0x04);

#[test]
fn ten_thousand_streams_that_are_opened_and_reset_leave_nothing() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let connection = connect(&gateway, TransportConfig::default());
    let mut control = Speech::begin(&connection, &Connect::v5(&unique("flood")));
    assert_eq!(control.hear().0, 0x20, "CONNACK");
    let mut grown = 0;
    let mut before = 0;
    for batch in 0..100 {
        let flood = async {
            for number in 0..FLOOD / 100 {
                // Waits until the gateway has room for it.
                let (mut send, receive) = within(connection.open_bi()).await.unwrap();
                // The first byte of a PUBLISH, and never the rest.
                send.write_all(&[0x30]).await.unwrap();
                if number % 2 == 0 {
                    // So that the byte goes out before the reset.
                    tokio::task::yield_now().await;
                }
                send.reset(VarInt::from_u32(1)).unwrap();
                drop(receive);
            }
        };
        RUNTIME.block_on(flood);
        neighbours.exchange();
        if batch == 9 {
            before = gateway.resident_bytes();
        }
        grown = gateway.resident_bytes().saturating_sub(before);
    }
    assert!(grown < GROWTH, "{grown} bytes more");
    // It has harmed nobody, and is served as any.
    control.say(&[0xC0, 0]);
    assert_eq!(control.hear().0, 0xD0, "PINGRESP");
    neighbours.part();
}

#[test]
fn rfc9000_4_6_a_unidirectional_stream_is_one_too_many() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let mut client = Raw::connect(&gateway, 1);
    client.begin(&Connect::v5(&unique("unidirectional")));
    client.write(2, b"anything");
    assert_eq!(client.end(), STREAM_LIMIT_ERROR);
    // Also before CONNECT.
    let mut client = Raw::connect(&gateway, 2);
    client.write(2, b"anything");
    assert_eq!(client.end(), STREAM_LIMIT_ERROR);
    neighbours.exchange();
    neighbours.part();
}

#[test]
fn rfc9000_4_6_the_last_stream_that_may_be_is_served_and_the_next_ends_the_connection() {
    let Some(gateway) = Gateway::configured("[listeners.quic.quic]\nmax_streams = 5\n") else {
        return;
    };
    let neighbours = Neighbours::of(&gateway);
    let mut client = Raw::connect(&gateway, 3);
    client.begin(&Connect::v5(&unique("last")));
    client.subscribe(4 * 5, &unique("last"));
    // It makes no difference what comes on it.
    client.send(&stream(4 * 6, 0, b""));
    assert_eq!(client.end(), STREAM_LIMIT_ERROR);
    // Nor how far it is beyond.
    let mut client = Raw::connect(&gateway, 4);
    client.send(&stream((1 << 62) - 4, 0, b"far"));
    assert_eq!(client.end(), STREAM_LIMIT_ERROR);
    neighbours.part();
}

#[test]
fn streams_before_connect_wait_and_end_with_the_connection() {
    let configuration = "[limits]\nconnect_timeout = \"1s\"\n";
    let Some(gateway) = Gateway::configured(configuration) else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let topic = neighbours.topics[1].clone();
    let connection = connect(&gateway, TransportConfig::default());
    let _control = Speech::open(&connection);
    let mut streams: Vec<Speech> = (0..16).map(|_| Speech::open(&connection)).collect();
    let message = Publish::new(&topic, vec![b'x'; 8_000]).encode(Version::V5);
    for stream in &mut streams {
        stream.say(&message);
    }
    // There is no room for another, as none of these is served.
    let another = RUNTIME.block_on(async {
        tokio::select! {
            biased;
            another = connection.open_bi() => Some(another),
            ended = within(connection.closed()) => {
                assert!(
                    matches!(&ended, quinn::ConnectionError::ApplicationClosed(close)
                        if close.error_code == VarInt::from_u32(0)),
                    "{ended}"
                );
                None
            }
        }
    });
    assert!(another.is_none_or(|another| another.is_err()));
    let reason = &["reason=\"connect_timeout\""];
    assert!(gateway.metric("tidegate_mqtt_refused_total", reason) as u64 >= 1);
    assert_eq!(refused(&gateway, "quic_timeout"), 0);
    // Nothing of it was taken.
    neighbours.exchange();
    neighbours.part();
}

#[test]
fn a_stream_of_nothing_but_holes_ends_its_connection() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let mut client = Raw::connect(&gateway, 8);
    client.begin(&Connect::v5(&unique("holes")));
    let before = gateway.resident_bytes();
    // Every other byte, each alone in a packet: who keeps the packets keeps a thousand times what came.
    let mut numbers = 0..HOLES;
    for number in numbers.by_ref() {
        let mut frames = stream(4, 2 * number + 1, b"x");
        frames.resize(1_350, 0);
        client.send(&frames);
        if number % 50 < 49 {
            continue;
        }
        // No faster than they are looked at.
        client.write(0, &[0xC0, 0]);
        if client.next_on(0).is_none() {
            break;
        }
        neighbours.exchange();
    }
    assert!(
        numbers.start < HOLES / 2,
        "it goes on for {}",
        numbers.start
    );
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes more");
    // INTERNAL_ERROR: more holes than it follows.
    assert_eq!(client.end(), Frame::Close(0x01));
    neighbours.part();
}

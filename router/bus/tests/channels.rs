//! Several streams under one connection: where deliveries go, and what becomes of a stream's exchanges.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::num::NonZeroU16;

use support::*;
use tidegate_bus::*;

/// Writes a line for each packet: the stream, DUP, the packet identifier, the payload, the Subscription
/// Identifiers.
struct Lines;

impl Encoder for Lines {
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        let channel = outgoing.channel.map_or(0, Channel::get);
        let dup = if outgoing.dup { "dup " } else { "" };
        let id = outgoing.packet_id.map_or(0, NonZeroU16::get);
        let payload = String::from_utf8_lossy(message.payload);
        let identifiers = outgoing.subscription_identifiers;
        out.extend(format!("{channel} {dup}{id} {payload} {identifiers:?}\n").bytes());
        Ok(())
    }

    fn release(&mut self, out: &mut Vec<u8>, packet_id: NonZeroU16) {
        out.extend(format!("0 {packet_id} released\n").bytes());
    }

    fn count_unacknowledged(&self, _: &[u8]) -> u64 {
        0
    }
}

fn id(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

fn connect(bus: &TestBus, expiry: u32, window: u16) -> Client {
    let request = ConnectRequest {
        clean_start: false,
        expiry,
        will: None,
        receive_maximum: id(window),
        keep_alive: 0,
        encoder: Box::new(Lines),
    };
    let client = ClientId::new("c").unwrap();
    let claim = now_or_never(bus.bus.claim(&client)).unwrap();
    let attached = bus
        .bus
        .batch(|worker| bus.bus.attach(worker, &client, claim, request));
    let (attachment, present) = attached.unwrap();
    Client::bare(std::sync::Arc::clone(&bus.bus), attachment, present)
}

/// What the bus has for the client, with the streams by their order in `channels`, from 1 up; 0 is the first.
fn lines(client: &Client, channels: &[Channel]) -> Vec<String> {
    let mut out = Vec::new();
    while client
        .attachment
        .take_output(&mut out, client.bus.now())
        .unwrap()
    {}
    named(&out, channels)
}

fn named(out: &[u8], channels: &[Channel]) -> Vec<String> {
    let text = String::from_utf8_lossy(out);
    let line = |line: &str| {
        let (number, rest) = line.split_once(' ').unwrap();
        let number: u32 = number.parse().unwrap();
        let found = channels.iter().position(|channel| channel.get() == number);
        let place = match number {
            0 => 0,
            _ => 1 + found.expect("a stream that is there"),
        };
        format!("{place} {rest}")
    };
    text.lines().map(line).collect()
}

fn subscribe(client: &Client, channel: Option<Channel>, filter: &str, qos: QoS, identifier: u32) {
    let filter = TopicFilter::new(filter).unwrap();
    let options = SubscriptionOptions::with_qos(qos);
    let identifier = std::num::NonZeroU32::new(identifier);
    let (attachment, now) = (&client.attachment, client.bus.now());
    attachment
        .subscribe_on(channel, now, filter, options, identifier)
        .unwrap();
}

#[test]
fn a_delivery_goes_out_on_the_stream_of_its_subscription() {
    let bus = TestBus::new();
    let client = connect(&bus, 0, 10);
    let channels = [(); 2].map(|()| client.attachment.open_channel().unwrap());
    subscribe(&client, Some(channels[0]), "a", QoS::AtMostOnce, 3);
    subscribe(&client, Some(channels[1]), "b", QoS::AtLeastOnce, 0);
    subscribe(&client, None, "#", QoS::AtMostOnce, 5);
    for topic in ["a", "b", "c"] {
        bus.publish_as(topic, topic, QoS::AtLeastOnce, |_| {});
    }
    // One delivery of all that match, on the stream of one that has one.
    assert_eq!(
        lines(&client, &channels),
        ["1 0 a [3, 5]", "2 1 b [5]", "0 0 c [5]"]
    );
    // The one that was made last counts.
    subscribe(&client, None, "a", QoS::AtMostOnce, 3);
    bus.publish("a", "again");
    assert_eq!(lines(&client, &channels), ["0 0 again [3, 5]"]);
}

#[test]
fn a_retained_message_goes_out_on_the_stream_of_its_subscription() {
    let bus = TestBus::new();
    bus.publish_as("kept/1", "kept", QoS::AtLeastOnce, |message| {
        message.retain = true;
    });
    let client = connect(&bus, 0, 10);
    let channels = [client.attachment.open_channel().unwrap()];
    subscribe(&client, Some(channels[0]), "kept/#", QoS::AtLeastOnce, 9);
    assert_eq!(lines(&client, &channels), ["1 1 kept [9]"]);
}

#[test]
fn a_subscription_whose_stream_has_ended_falls_back_to_the_first() {
    let bus = TestBus::new();
    let client = connect(&bus, 0, 1);
    let channels = [client.attachment.open_channel().unwrap()];
    subscribe(&client, Some(channels[0]), "a", QoS::AtLeastOnce, 3);
    // The window is one: the second waits in the queue, and goes when the stream has ended.
    for payload in ["before", "between"] {
        bus.publish_as("a", payload, QoS::AtLeastOnce, |_| {});
    }
    assert_eq!(lines(&client, &channels), ["1 1 before [3]"]);
    assert_eq!(client.attachment.end_channel(channels[0]), Ok(0));
    client.acknowledge(id(1));
    assert_eq!(lines(&client, &channels), ["0 1 between [3]"]);
    let mut out = Vec::new();
    let closed = client
        .attachment
        .close_channel(channels[0], false, &mut out);
    assert_eq!((closed, out.len()), (Ok(()), 0));
    client.acknowledge(id(1));
    bus.publish_as("a", "after", QoS::AtLeastOnce, |_| {});
    assert_eq!(lines(&client, &[]), ["0 1 after [3]"]);
}

#[test]
fn mqtt_4_4_0_1_what_was_sent_on_a_stream_that_is_lost_is_sent_again_within_the_window() {
    let bus = TestBus::new();
    let client = connect(&bus, 3_600, 3);
    let channels = [(); 2].map(|()| client.attachment.open_channel().unwrap());
    subscribe(&client, Some(channels[0]), "a", QoS::ExactlyOnce, 0);
    subscribe(&client, Some(channels[1]), "b", QoS::ExactlyOnce, 0);
    for (topic, qos) in [("a", 1), ("b", 1), ("a", 2)] {
        let qos = QoS::from_u8(qos).unwrap();
        bus.publish_as(topic, &format!("{topic}{}", qos as u8), qos, |_| {});
    }
    assert_eq!(
        lines(&client, &channels),
        ["1 1 a1 []", "2 2 b1 []", "1 3 a2 []"]
    );
    // Beyond the window.
    bus.publish_as("b", "waits", QoS::AtLeastOnce, |_| {});
    let received = client.attachment.received(bus.bus.now(), id(3), false);
    assert!(matches!(received, Ok((Received::Release, _))));
    let mut out = Vec::new();
    let lost = client.attachment.close_channel(channels[0], true, &mut out);
    assert_eq!((lost, out.len()), (Ok(()), 0));
    // The message that the client has is released again, the other sent again; the window is as full as before.
    assert_eq!(lines(&client, &channels), ["0 dup 1 a1 []", "0 3 released"]);
    client.acknowledge(id(1));
    assert_eq!(lines(&client, &channels), ["2 1 waits []"]);
    assert_eq!(client.attachment.complete(bus.bus.now(), id(3)), Ok(true));
    client.acknowledge(id(2));
    client.acknowledge(id(1));
    assert!(lines(&client, &channels).is_empty());
}

#[test]
fn an_exchange_belongs_to_the_stream_it_was_sent_on() {
    let bus = TestBus::new();
    let client = connect(&bus, 3_600, 10);
    let channels = [(); 2].map(|()| client.attachment.open_channel().unwrap());
    for (channel, filter) in channels.into_iter().zip(["#", "a"]) {
        subscribe(&client, Some(channel), filter, QoS::AtLeastOnce, 0);
    }
    // Both match. The one is ended and not closed yet when the message goes out on the other.
    assert_eq!(client.attachment.end_channel(channels[0]), Ok(0));
    bus.publish_as("a", "one", QoS::AtLeastOnce, |_| {});
    assert_eq!(lines(&client, &channels), ["2 1 one []"]);
    let close = |channel, lost| {
        let closed = client
            .attachment
            .close_channel(channel, lost, &mut Vec::new());
        assert_eq!(closed, Ok(()));
        lines(&client, &channels)
    };
    assert_eq!(close(channels[1], true), ["0 dup 1 one []"]);
    assert!(close(channels[0], true).is_empty());
}

#[test]
fn what_is_encoded_for_a_stream_that_is_lost_comes_out_with_its_end() {
    let bus = TestBus::new();
    let client = connect(&bus, 3_600, 10);
    let channels = [client.attachment.open_channel().unwrap()];
    subscribe(&client, Some(channels[0]), "a", QoS::AtLeastOnce, 0);
    bus.publish_as("a", "kept", QoS::AtLeastOnce, |_| {});
    bus.publish("a", "not kept");
    let mut out = Vec::new();
    let lost = client.attachment.close_channel(channels[0], true, &mut out);
    assert_eq!(lost, Ok(()));
    assert_eq!(named(&out, &channels), ["1 1 kept []", "1 0 not kept []"]);
    assert_eq!(lines(&client, &[]), ["0 dup 1 kept []"]);
}

#[test]
fn a_session_that_keeps_nothing_counts_what_was_lost_with_a_stream_and_gives_its_window_back() {
    let bus = TestBus::new();
    let client = connect(&bus, 0, 1);
    let channels = [client.attachment.open_channel().unwrap()];
    subscribe(&client, Some(channels[0]), "a", QoS::AtLeastOnce, 0);
    bus.publish_as("a", "lost", QoS::AtLeastOnce, |_| {});
    bus.publish_as("a", "next", QoS::AtLeastOnce, |_| {});
    assert_eq!(lines(&client, &channels), ["1 1 lost []"]);
    let lost = client
        .attachment
        .close_channel(channels[0], true, &mut Vec::new());
    assert_eq!(lost, Ok(()));
    assert_eq!(lines(&client, &[]), ["0 1 next []"]);
    assert_eq!(bus.dropped(DropReason::ConnectionClosed), 1);
}

#[test]
fn streams_are_forgotten_with_their_connection() {
    let bus = TestBus::new();
    let client = connect(&bus, 3_600, 10);
    let channel = client.attachment.open_channel().unwrap();
    subscribe(&client, Some(channel), "a", QoS::AtLeastOnce, 3);
    bus.publish_as("a", "one", QoS::AtLeastOnce, |_| {});
    assert_eq!(lines(&client, &[channel]), ["1 1 one [3]"]);
    client.disconnect(Departure::WithWill);
    bus.publish_as("a", "two", QoS::AtLeastOnce, |_| {});
    let client = connect(&bus, 3_600, 10);
    assert_eq!(lines(&client, &[]), ["0 dup 1 one [3]", "0 2 two [3]"]);
    client.acknowledge(id(1));
    client.acknowledge(id(2));
    let other = client.attachment.open_channel().unwrap();
    assert_ne!(other, channel);
    bus.publish_as("a", "three", QoS::AtLeastOnce, |_| {});
    assert_eq!(lines(&client, &[other]), ["0 1 three [3]"]);
}

// ---- what a client publishes --------------------------------------------------------------------

fn on(packet_id: u16, channel: Option<Channel>) -> Inbound {
    Inbound {
        packet_id: id(packet_id),
        channel,
    }
}

fn is_new(client: &Client, message: Inbound, dup: bool) -> bool {
    matches!(
        client.attachment.begin_receiving(message, dup),
        Ok(Receive::New)
    )
}

#[test]
fn identifiers_of_qos_2_messages_are_those_of_their_stream() {
    let bus = TestBus::new();
    let client = connect(&bus, 3_600, 10);
    let channels = [(); 2].map(|()| Some(client.attachment.open_channel().unwrap()));
    let streams = [None, channels[0], channels[1]];
    for stream in streams {
        assert!(is_new(&client, on(7, stream), false));
        assert!(!is_new(&client, on(7, stream), true));
    }
    for stream in streams {
        let release = || client.attachment.release(on(7, stream)).unwrap().0;
        assert_eq!(release(), Released::Here);
        assert_eq!(release(), Released::Unknown);
    }
}

#[test]
fn mqtt_4_3_3_10_a_repetition_finds_its_message_after_the_stream_has_ended() {
    let bus = TestBus::new();
    let client = connect(&bus, 3_600, 10);
    let ended = client.attachment.open_channel().unwrap();
    let other = client.attachment.open_channel().unwrap();
    for n in [7, 8] {
        assert!(is_new(&client, on(n, Some(ended)), false));
    }
    assert_eq!(client.attachment.end_channel(ended), Ok(2));
    // One that does not say that it is a repetition is another message.
    assert!(is_new(&client, on(7, None), false));
    assert!(!is_new(&client, on(7, Some(other)), true));
    // Taken up by the other stream: there is no third.
    let third = client.attachment.open_channel().unwrap();
    assert!(is_new(&client, on(7, Some(third)), true));
    let release = |message| client.attachment.release(message).unwrap().0;
    assert_eq!(release(on(7, Some(other))), Released::Before);
    assert_eq!(release(on(7, Some(third))), Released::Here);
    assert_eq!(release(on(7, None)), Released::Here);
    // Released without being sent again.
    assert_eq!(release(on(8, None)), Released::Before);
    assert_eq!(client.attachment.receiving(), Ok(0));
}

#[test]
fn mqtt_4_3_3_10_a_repetition_finds_its_message_after_a_reconnect_on_whatever_stream() {
    let bus = TestBus::new();
    let client = connect(&bus, 3_600, 10);
    let channel = client.attachment.open_channel().unwrap();
    for stream in [None, Some(channel)] {
        assert!(is_new(&client, on(7, stream), false));
    }
    client.disconnect(Departure::WithWill);
    let client = connect(&bus, 3_600, 10);
    let channel = client.attachment.open_channel().unwrap();
    assert!(!is_new(&client, on(7, None), true));
    assert!(!is_new(&client, on(7, Some(channel)), true));
    let release = |message| client.attachment.release(message).unwrap().0;
    assert_eq!(release(on(7, Some(channel))), Released::Before);
    assert_eq!(release(on(7, None)), Released::Before);
    assert_eq!(client.attachment.receiving(), Ok(0));
}

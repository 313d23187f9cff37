//! Flow control and packet sizes: MQTT 5.0 sections 3.1.2.11.3, 3.1.2.11.4, 3.3.4 and 4.9.

use tidegate_tests::wire::{
    Ack, Client, Event, Packet, Property, Publish, SubAck, Subscribe, Version, code, patience,
};

use super::kit::{answers, needs_qos, nothing_before, publish, subscribe, take, texts, told};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::frame::Frame;
use crate::test::{Test, test};

/// A server that adds a reason string whatever the receiver takes.
const WORDY: fn(&mut Frame) = |frame| {
    frame.remove_property(0x1F);
    frame.add_property(&Property::ReasonString("x".repeat(200)));
};

/// A server that adds a user property whatever the receiver takes.
const PROPERTY: fn(&mut Frame) = |frame| frame.add_property(&Property::user("x", &"x".repeat(200)));

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_1_2_24_a_message_too_large_for_its_receiver_is_not_sent)
        .mqtt5(&["3.1.2-24"])
        .fault(Fault::server(packet::PUBLISH).nth(1).altered(
            "the payload that was too large",
            |frame| {
                frame.set_payload(&[b'y'; 61]);
            },
        )),
    test!(mqtt5_3_1_2_25_a_message_that_was_too_large_counts_as_delivered)
        .mqtt5(&["3.1.2-25"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("no Maximum Packet Size", |frame| {
                    frame.remove_property(0x27);
                }),
        ),
    test!(mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_1)
        .mqtt5(&["3.3.4-9", "4.9.0-1", "4.9.0-2"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("no Receive Maximum", |frame| frame.remove_property(0x21)),
        ),
    test!(mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_2)
        .mqtt5(&["3.3.4-9", "4.9.0-1", "4.9.0-2"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("no Receive Maximum", |frame| frame.remove_property(0x21)),
        ),
    test!(mqtt5_4_9_0_1_a_receive_maximum_of_one_lets_one_through)
        .mqtt5(&["4.9.0-1"])
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt5_3_3_4_10_a_full_window_holds_back_nothing_but_publish)
        .mqtt5(&["3.3.4-10", "4.9.0-3"])
        .fault(Fault::server(packet::SUBACK).nth(2)),
    test!(mqtt5_4_9_0_3_a_full_window_does_not_stop_what_the_client_publishes)
        .mqtt5(&["4.9.0-3", "3.3.4-10"])
        .fault(Fault::server(packet::PUBACK).nth(3)),
    test!(mqtt5_4_9_0_2_a_qos_2_message_keeps_its_place_until_pubcomp)
        .mqtt5(&["4.9.0-2", "3.3.4-9"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("no Receive Maximum", |frame| frame.remove_property(0x21)),
        ),
    test!(mqtt5_4_9_0_2_a_refusing_pubrec_frees_the_place)
        .mqtt5(&["3.3.4-9"])
        .fault(Fault::client(packet::PUBREC)),
    test!(mqtt5_3_3_4_a_client_beyond_the_servers_receive_maximum_is_disconnected)
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_4_2_2_puback_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.4.2-2"])
        .fault(Fault::server(packet::PUBACK).altered("a long reason string", WORDY)),
    test!(mqtt5_3_4_2_3_puback_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.4.2-3"])
        .fault(Fault::server(packet::PUBACK).altered("a long user property", PROPERTY)),
    test!(mqtt5_3_5_2_2_pubrec_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.5.2-2"])
        .fault(Fault::server(packet::PUBREC).altered("a long reason string", WORDY)),
    test!(mqtt5_3_5_2_3_pubrec_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.5.2-3"])
        .fault(Fault::server(packet::PUBREC).altered("a long user property", PROPERTY)),
    test!(mqtt5_3_6_2_2_pubrel_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.6.2-2"])
        .fault(Fault::server(packet::PUBREL).altered("a long reason string", WORDY)),
    test!(mqtt5_3_6_2_3_pubrel_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.6.2-3"])
        .fault(Fault::server(packet::PUBREL).altered("a long user property", PROPERTY)),
    test!(mqtt5_3_7_2_2_pubcomp_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.7.2-2"])
        .fault(Fault::server(packet::PUBCOMP).altered("a long reason string", WORDY)),
    test!(mqtt5_3_7_2_3_pubcomp_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.7.2-3"])
        .fault(Fault::server(packet::PUBCOMP).altered("a long user property", PROPERTY)),
    test!(mqtt5_3_9_2_1_suback_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.9.2-1"])
        .fault(Fault::server(packet::SUBACK).altered("a long reason string", WORDY)),
    test!(mqtt5_3_9_2_2_suback_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.9.2-2"])
        .fault(Fault::server(packet::SUBACK).altered("a long user property", PROPERTY)),
    test!(mqtt5_3_11_2_1_unsuback_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.11.2-1"])
        .fault(Fault::server(packet::UNSUBACK).altered("a long reason string", WORDY)),
    test!(mqtt5_3_11_2_2_unsuback_is_not_too_large_for_its_receiver)
        .mqtt5(&["3.11.2-2"])
        .fault(Fault::server(packet::UNSUBACK).altered("a long user property", PROPERTY)),
];

/// The length of a PUBLISH to this topic with a payload of `length` bytes.
fn size(topic: &str, length: usize, qos: u8) -> u32 {
    let message = Publish::new(topic, vec![b'x'; length]).qos(qos).id(1);
    message.encode(Version::V5).len() as u32
}

fn mqtt5_3_1_2_24_a_message_too_large_for_its_receiver_is_not_sent(case: &Case) {
    for qos in 0..=2 {
        let topic = case.topic("large");
        let connect = case.connect("large");
        let limit = Property::MaximumPacketSize(size(&topic, 60, qos));
        let mut receiver = case.open(&connect.with(limit));
        subscribe(case, &mut receiver, &topic, qos);
        let mut sender = case.client("large");
        for length in [61, 60] {
            let message = Publish::new(&topic, vec![b'x'; length]).qos(qos);
            publish(&mut sender, &message);
        }
        // The one that fits exactly comes.
        assert_eq!(receiver.receive().payload.len(), 60, "QoS {qos}");
    }
}

fn mqtt5_3_1_2_25_a_message_that_was_too_large_counts_as_delivered(case: &Case) {
    let topic = case.topic("counts");
    let connect = case.lasting("counts");
    let limit = Property::MaximumPacketSize(size(&topic, 60, 1));
    let mut receiver = case.open(&connect.clone().with(limit));
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("counts");
    publish(&mut sender, &Publish::new(&topic, [b'x'; 500]).qos(1));
    publish(&mut sender, &Publish::new(&topic, "small").qos(1));
    assert_eq!(receiver.receive().text(), "small");
    receiver.expect_nothing();
    receiver.vanish();
    // Without the limit it would fit: it is not owed any more.
    let mut receiver = case.open(&connect);
    publish(&mut sender, &Publish::new(&topic, "end").qos(1));
    nothing_before(&mut receiver, "end");
}

/// The messages that are in flight, never more than three, as acknowledgements make room.
#[track_caller]
fn windowed(case: &Case, qos: u8) {
    let topic = case.topic("window");
    let connect = case.connect("window");
    let mut receiver = case.open(&connect.with(Property::ReceiveMaximum(3)));
    subscribe(case, &mut receiver, &topic, qos);
    let mut sender = case.client("window");
    for number in 0..9 {
        let message = Publish::new(&topic, number.to_string()).qos(qos);
        publish(&mut sender, &message);
    }
    let mut open = take(&mut receiver, 3);
    let mut came = texts(&open);
    receiver.expect_nothing();
    // Each acknowledgement makes room for one; they come in the order that a client keeps to.
    for _ in 0..6 {
        let done = open.remove(0);
        receiver.acknowledge(&done);
        let next = receiver.expect_publish();
        came.push(next.text());
        open.push(next);
        receiver.expect_nothing();
    }
    let expected: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    assert_eq!(came, expected);
}

fn mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_1(case: &Case) {
    windowed(case, 1);
}

fn mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_2(case: &Case) {
    windowed(case, 2);
}

/// A client whose window of one is taken by a message of this QoS, and a client to publish with.
#[track_caller]
fn full(case: &Case, topic: &str, qos: u8) -> (Client, Client, Publish) {
    let connect = case.connect("full");
    let mut receiver = case.open(&connect.with(Property::ReceiveMaximum(1)));
    subscribe(case, &mut receiver, topic, qos);
    let mut sender = case.client("full");
    for text in ["first", "second"] {
        publish(&mut sender, &Publish::new(topic, text).qos(qos));
    }
    let first = receiver.expect_publish();
    assert_eq!(first.text(), "first");
    (receiver, sender, first)
}

fn mqtt5_4_9_0_1_a_receive_maximum_of_one_lets_one_through(case: &Case) {
    let (mut receiver, _sender, first) = full(case, &case.topic("one"), 1);
    receiver.acknowledge(&first);
    assert_eq!(receiver.receive().text(), "second");
}

fn mqtt5_3_3_4_10_a_full_window_holds_back_nothing_but_publish(case: &Case) {
    let (mut receiver, _sender, first) = full(case, &case.topic("held"), 1);
    let other = case.topic("other");
    subscribe(case, &mut receiver, &other, 1);
    let answer = receiver.unsubscribe(&[&other]);
    assert_eq!(answer.codes, [0]);
    receiver.expect_nothing();
    receiver.acknowledge(&first);
    assert_eq!(receiver.receive().text(), "second");
}

fn mqtt5_4_9_0_3_a_full_window_does_not_stop_what_the_client_publishes(case: &Case) {
    let (mut receiver, mut sender, _) = full(case, &case.topic("both"), 1);
    let back = case.topic("back");
    subscribe(case, &mut sender, &back, 2);
    for qos in [1, 2] {
        let message = Publish::new(&back, "answer").qos(qos);
        publish(&mut receiver, &message);
        assert_eq!(sender.receive().text(), "answer");
    }
}

fn mqtt5_4_9_0_2_a_qos_2_message_keeps_its_place_until_pubcomp(case: &Case) {
    let (mut receiver, _sender, first) = full(case, &case.topic("place"), 2);
    receiver.send_pubrec(&Ack::new(first.id));
    assert_eq!(receiver.expect_pubrel().id, first.id);
    receiver.expect_nothing();
    receiver.send_pubcomp(&Ack::new(first.id));
    assert_eq!(receiver.receive().text(), "second");
}

fn mqtt5_4_9_0_2_a_refusing_pubrec_frees_the_place(case: &Case) {
    let (mut receiver, _sender, first) = full(case, &case.topic("freed"), 2);
    receiver.send_pubrec(&Ack::new(first.id).code(code::UNSPECIFIED));
    assert_eq!(receiver.receive().text(), "second");
}

fn mqtt5_3_3_4_a_client_beyond_the_servers_receive_maximum_is_disconnected(case: &Case) {
    let topic = case.topic("beyond");
    let mut client = case.client("beyond");
    needs_qos(case, &client, 2);
    let maximum = told(&client, |property| match property {
        Property::ReceiveMaximum(value) => Some(*value),
        _ => None,
    });
    let Some(maximum) = maximum.filter(|maximum| *maximum <= 2_000) else {
        case.does_not_apply("the server's Receive Maximum is too high to be exceeded here");
    };
    // QoS 2 without PUBREL stays open; the last is one too many.
    let mut bytes = Vec::new();
    for id in 1..=maximum {
        bytes.extend(Publish::new(&topic, "x").qos(2).id(id).encode(Version::V5));
    }
    client.send(&bytes);
    for id in 1..=maximum {
        client.await_pubrec(id);
    }
    client.send_publish(&Publish::new(&topic, "x").qos(2).id(maximum + 1));
    client.expect_error();
}

/// A client that takes so little that hardly a reason fits: a little more than its CONNACK needs.
#[track_caller]
fn small(case: &Case) -> (Client, usize) {
    let connack = case.client("small").connack().clone();
    let limit = 5 + block(&connack.properties) + 2;
    let connect = case.connect("small");
    let client = case.open(&connect.with(Property::MaximumPacketSize(limit as u32)));
    (client, limit)
}

/// The bytes of properties.
fn block(properties: &[Property]) -> usize {
    let mut bytes = Vec::new();
    properties
        .iter()
        .for_each(|property| property.write(&mut bytes));
    bytes.len()
}

/// An acknowledgement keeps to what its receiver takes.
#[track_caller]
fn fits(ack: &Ack, limit: usize) {
    let length = ack.encode(packet::PUBACK, Version::V5).len();
    assert!(length <= limit, "{length} bytes of {limit}: {ack:?}");
}

#[track_caller]
fn puback_fits(case: &Case) {
    let (mut client, limit) = small(case);
    // One that nobody waits for, and one that many servers do not permit.
    for (topic, id) in [(case.topic("nobody").as_str(), 1), ("$SYS/x", 2)] {
        client.send_publish(&Publish::new(topic, "x").qos(1).id(id));
        fits(&client.await_puback(id), limit);
    }
}

fn mqtt5_3_4_2_2_puback_is_not_too_large_for_its_receiver(case: &Case) {
    puback_fits(case);
}

fn mqtt5_3_4_2_3_puback_is_not_too_large_for_its_receiver(case: &Case) {
    puback_fits(case);
}

#[track_caller]
fn pubrec_fits(case: &Case) {
    let (mut client, limit) = small(case);
    needs_qos(case, &client, 2);
    for (topic, id) in [(case.topic("nobody").as_str(), 1), ("$SYS/x", 2)] {
        client.send_publish(&Publish::new(topic, "x").qos(2).id(id));
        fits(&client.await_pubrec(id), limit);
    }
}

fn mqtt5_3_5_2_2_pubrec_is_not_too_large_for_its_receiver(case: &Case) {
    pubrec_fits(case);
}

fn mqtt5_3_5_2_3_pubrec_is_not_too_large_for_its_receiver(case: &Case) {
    pubrec_fits(case);
}

#[track_caller]
fn pubrel_fits(case: &Case) {
    let topic = case.topic("s");
    let (mut client, limit) = small(case);
    subscribe(case, &mut client, &topic, 2);
    // Its own size is what the message must keep to, too.
    let limit_of_topic = size(&topic, 1, 2) as usize;
    if limit_of_topic <= limit {
        publish(&mut client, &Publish::new(&topic, "x").qos(2));
        let message = client.expect_publish();
        client.send_pubrec(&Ack::new(message.id));
        fits(&client.expect_pubrel(), limit);
        client.send_pubcomp(&Ack::new(message.id));
    }
    // One that answers nothing: what becomes of it is left open.
    client.send_pubrec(&Ack::new(4711));
    for packet in answers(&mut client) {
        if let Packet::PubRel(ack) = packet {
            fits(&ack, limit);
        }
    }
}

fn mqtt5_3_6_2_2_pubrel_is_not_too_large_for_its_receiver(case: &Case) {
    pubrel_fits(case);
}

fn mqtt5_3_6_2_3_pubrel_is_not_too_large_for_its_receiver(case: &Case) {
    pubrel_fits(case);
}

#[track_caller]
fn pubcomp_fits(case: &Case) {
    let (mut client, limit) = small(case);
    needs_qos(case, &client, 2);
    client.send_publish(&Publish::new(&case.topic("s"), "x").qos(2).id(3));
    client.await_pubrec(3);
    // The second has no PUBLISH: a reason to say more, if it is answered.
    for id in [3, 4711] {
        client.send_pubrel(&Ack::new(id));
        for packet in answers(&mut client) {
            if let Packet::PubComp(ack) = packet {
                fits(&ack, limit);
            }
        }
    }
}

fn mqtt5_3_7_2_2_pubcomp_is_not_too_large_for_its_receiver(case: &Case) {
    pubcomp_fits(case);
}

fn mqtt5_3_7_2_3_pubcomp_is_not_too_large_for_its_receiver(case: &Case) {
    pubcomp_fits(case);
}

/// An answer to filters keeps to what its receiver takes.
#[track_caller]
fn answer_fits(answer: &SubAck, limit: usize) {
    // Below 128 bytes each length takes one.
    let length = 2 + 2 + 1 + block(&answer.properties) + answer.codes.len();
    assert!(length <= limit, "{length} bytes of {limit}: {answer:?}");
}

#[track_caller]
fn suback_fits(case: &Case) {
    let (mut client, limit) = small(case);
    // As many filters as there is room for codes. One is deeper than many servers permit, so that it is
    // refused with a reason.
    let (topic, deep) = (case.topic("f"), vec!["d"; 300].join("/"));
    let mut filters = vec![(topic, 0); limit - 6];
    filters.push((deep, 0));
    let id = client.next_id();
    let subscribe = Subscribe {
        id,
        properties: Vec::new(),
        filters,
    };
    client.send(&subscribe.encode(Version::V5));
    match client.next(patience()) {
        Event::Packet(Packet::SubAck(answer)) => answer_fits(&answer, limit),
        // A server may give up a client whose filter is beyond its limits.
        Event::Packet(Packet::Disconnect(_)) | Event::Closed => {}
        other => panic!("SUBACK expected: {other:?}"),
    }
}

fn mqtt5_3_9_2_1_suback_is_not_too_large_for_its_receiver(case: &Case) {
    suback_fits(case);
}

fn mqtt5_3_9_2_2_suback_is_not_too_large_for_its_receiver(case: &Case) {
    suback_fits(case);
}

#[track_caller]
fn unsuback_fits(case: &Case) {
    let (mut client, limit) = small(case);
    let topic = case.topic("f");
    let answer = client.unsubscribe(&vec![topic.as_str(); limit - 5]);
    answer_fits(&answer, limit);
}

fn mqtt5_3_11_2_1_unsuback_is_not_too_large_for_its_receiver(case: &Case) {
    unsuback_fits(case);
}

fn mqtt5_3_11_2_2_unsuback_is_not_too_large_for_its_receiver(case: &Case) {
    unsuback_fits(case);
}

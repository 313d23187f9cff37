//! How clauses work together that no single one of them names.

use std::collections::BTreeSet;

use tidegate_tests::wire::{
    Ack, Client, Event, Packet, Property, Publish, Version, Will, patience,
};

use super::kit::{
    Retained, alias_maximum, needs_qos, needs_retained, needs_wildcards, nothing_before, publish,
    resumed, subscribe, subscribe_as, take, texts, window,
};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_3_4_overlapping_filters_of_differing_qos_and_identifiers)
        .mqtt5(&["3.3.4-2", "3.3.4-3"])
        .interplay("overlapping filters with identifiers and differing QoS")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"2")
                .altered("another QoS", |frame| frame.set_qos(1)),
        ),
    test!(mqtt5_4_4_retransmission_keeps_to_a_smaller_receive_maximum)
        .mqtt5(&["3.3.4-9", "4.4.0-1"])
        .interplay("receive maximum during retransmission")
        .fault(
            Fault::client(packet::CONNECT)
                .only(|frame| frame.has_property(0x21))
                .altered("no Receive Maximum", |frame| frame.remove_property(0x21)),
        ),
    test!(mqtt5_4_4_retransmission_of_qos_2_keeps_to_a_window_of_1)
        .mqtt5(&["3.3.4-9", "4.4.0-1"])
        .interplay("receive maximum during retransmission")
        .fault(
            Fault::client(packet::CONNECT)
                .only(|frame| frame.has_property(0x21))
                .altered("no Receive Maximum", |frame| frame.remove_property(0x21)),
        ),
    test!(mqtt_4_3_3_a_publisher_taken_over_in_the_middle_of_qos_2)
        .mqtt3(&["4.3.3-2"])
        .mqtt5(&["4.3.3-10", "4.3.3-11"])
        .level3("A takeover keeps what the server knows of a QoS 2 exchange.")
        .interplay("takeover in the middle of QoS 2")
        .fault(
            Fault::client(packet::PUBLISH)
                .only(|frame| frame.first & 8 != 0)
                .altered("QoS 0, so that it is delivered again", |frame| {
                    frame.first &= !8;
                    frame.set_qos(0);
                }),
        ),
    test!(mqtt_4_3_3_a_subscriber_taken_over_in_the_middle_of_qos_2)
        .mqtt3(&["4.3.3-1"])
        .mqtt5(&["4.3.3-5", "4.3.3-6"])
        .level3("A takeover keeps what the server owes a QoS 2 receiver.")
        .interplay("takeover in the middle of QoS 2")
        .fault(Fault::server(packet::PUBREL).nth(2)),
    test!(mqtt5_3_1_3_2_2_a_will_is_not_later_than_the_end_of_its_session)
        .mqtt5(&["3.1.2-8"])
        .interplay("will delay against session expiry")
        .fault(
            Fault::client(packet::CONNECT)
                .only(|frame| frame.has_property(0x11))
                .altered("a longer session expiry", |frame| {
                    frame.set_property(&Property::SessionExpiry(600));
                }),
        ),
    test!(mqtt5_3_1_2_24_a_message_too_large_for_one_reaches_the_others)
        .mqtt5(&["3.1.2-24"])
        .interplay("maximum packet size dropping one subscriber only")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload().len() == 200)
                .nth(2),
        ),
    test!(mqtt5_3_1_2_24_properties_and_identifiers_count_in_the_size)
        .mqtt5(&["3.1.2-24"])
        .interplay("maximum packet size and subscription identifiers")
        .fault(
            Fault::client(packet::CONNECT).altered("no Maximum Packet Size", |frame| {
                frame.remove_property(0x27);
            }),
        ),
    test!(mqtt5_3_1_2_25_what_waited_may_be_too_large_for_the_next_connection)
        .mqtt5(&["3.1.2-24", "3.1.2-25"])
        .interplay("a smaller maximum packet size on resume")
        .fault(
            Fault::client(packet::CONNECT).altered("no Maximum Packet Size", |frame| {
                frame.remove_property(0x27);
            }),
        ),
    test!(mqtt5_3_3_4_9_retained_messages_keep_to_the_receive_maximum)
        .mqtt5(&["3.3.4-9"])
        .interplay("receive maximum and retained messages")
        .fault(
            Fault::client(packet::CONNECT)
                .altered("no Receive Maximum", |frame| frame.remove_property(0x21)),
        ),
    test!(mqtt5_3_3_2_7_what_was_sent_by_alias_is_sent_again_by_name)
        .mqtt5(&["3.3.2-7", "4.4.0-1"])
        .interplay("aliases across resume, with messages in flight")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.first & 8 != 0)
                .altered("the alias that it had", |frame| {
                    frame.add_property(&Property::TopicAlias(1));
                    frame.set_topic("");
                }),
        ),
    test!(mqtt5_3_3_2_12_a_message_retained_by_alias_is_found_by_name)
        .mqtt5(&["3.3.2-12", "3.3.1-5"])
        .interplay("aliases of the publisher and retained messages")
        .fault(
            Fault::client(packet::PUBLISH)
                .only(|frame| frame.payload() == b"by alias")
                .altered("RETAIN cleared", |frame| frame.first &= !1),
        ),
    test!(mqtt_4_3_a_stream_of_every_qos_arrives_through_a_reconnect)
        .mqtt3(&["4.5.0-1"])
        .mqtt5(&["4.5.0-1"])
        .interplay("reconnects in the middle of a stream of QoS 1 and 2")
        .fault(Fault::server(packet::PUBLISH).only(|frame| frame.payload() == b"13")),
    test!(mqtt_2_2_1_packet_identifiers_come_round_with_a_gap_in_flight)
        .mqtt3(&["2.3.1-4", "4.3.2-1"])
        .mqtt5(&["2.2.1-4", "4.3.2-1"])
        .interplay("packet identifiers wrapping at 65,535 with gaps in flight")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"round 655")
                .altered("an identifier that is in flight", |frame| frame.set_id(1)),
        ),
];

fn mqtt5_3_3_4_overlapping_filters_of_differing_qos_and_identifiers(case: &Case) {
    let root = case.topic("overlap");
    let mut client = case.client("overlap");
    needs_wildcards(case, &client);
    subscribe_as(case, &mut client, &format!("{root}/#"), 2, 20);
    subscribe_as(case, &mut client, &format!("{root}/+"), 0, 21);
    subscribe_as(case, &mut client, &format!("{root}/a"), 1, 22);
    // At each published QoS: the highest granted, and all identifiers.
    for qos in 0..=2 {
        let message = Publish::new(&format!("{root}/a"), qos.to_string()).qos(qos);
        publish(&mut client, &message);
        let (mut highest, mut ids) = (0, Vec::new());
        // In one copy or in three.
        while ids.len() < 3 {
            let message = client.receive();
            assert_eq!(message.text(), qos.to_string());
            highest = highest.max(message.qos);
            ids.extend(message.subscription_ids());
        }
        ids.sort_unstable();
        assert_eq!((highest, ids), (qos, vec![20, 21, 22]));
    }
}

fn mqtt5_4_4_retransmission_keeps_to_a_smaller_receive_maximum(case: &Case) {
    let topic = case.topic("smaller");
    let connect = case.lasting("smaller");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("smaller");
    for number in 0..6 {
        publish(
            &mut sender,
            &Publish::new(&topic, number.to_string()).qos(1),
        );
    }
    assert_eq!(take(&mut receiver, 6).len(), 6);
    receiver.vanish();
    let mut receiver = case.open(&connect.with(Property::ReceiveMaximum(2)));
    resumed(&receiver);
    let first = take(&mut receiver, 2);
    assert_eq!(texts(&first), ["0", "1"]);
    receiver.expect_nothing();
    for message in &first {
        receiver.acknowledge(message);
    }
    assert_eq!(receiver.receive_texts(4), ["2", "3", "4", "5"]);
}

/// One exchange is half done and is gone on with; of the others, one at a time begins again. Whether the
/// PUBREL that is owed takes the room of one is the server's affair: the window begins anew with a
/// connection.
fn mqtt5_4_4_retransmission_of_qos_2_keeps_to_a_window_of_1(case: &Case) {
    let topic = case.topic("window");
    let connect = case.lasting("window");
    let mut receiver = case.open(&connect);
    needs_qos(case, &receiver, 2);
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("window");
    for number in 0..3 {
        publish(
            &mut sender,
            &Publish::new(&topic, number.to_string()).qos(2),
        );
    }
    let first = take(&mut receiver, 3);
    receiver.send_pubrec(&Ack::new(first[0].id));
    assert_eq!(receiver.expect_pubrel().id, first[0].id);
    receiver.vanish();
    let mut receiver = case.open(&connect.with(Property::ReceiveMaximum(1)));
    resumed(&receiver);
    let mut released = Vec::new();
    let mut again = Vec::new();
    for packet in receiver.fence() {
        match packet {
            Packet::PubRel(ack) => released.push(ack.id),
            Packet::Publish(message) => again.push(message),
            other => panic!("PUBREL and PUBLISH expected, not {other:?}"),
        }
    }
    assert_eq!(released, [first[0].id], "PUBREL");
    assert!(again.len() <= 1, "a window of 1: {again:?}");
    receiver.send_pubcomp(&Ack::new(first[0].id));
    if again.is_empty() {
        again = take(&mut receiver, 1);
    }
    let second = &again[0];
    assert_eq!((second.id, second.dup), (first[1].id, true), "{second:?}");
    receiver.send_pubrec(&Ack::new(second.id));
    assert_eq!(receiver.expect_pubrel().id, second.id);
    // Until PUBCOMP it takes the room.
    receiver.expect_nothing();
    receiver.send_pubcomp(&Ack::new(second.id));
    let third = receiver.expect_publish();
    assert_eq!((third.id, third.dup), (first[2].id, true), "{third:?}");
    receiver.acknowledge(&third);
}

/// The old connection of a client that was taken over comes to its end.
#[track_caller]
fn ends(mut old: Client) {
    loop {
        match old.next(patience()) {
            Event::Packet(_) => {}
            Event::Closed => return,
            Event::Silence => panic!("the connection was taken over and stays open"),
        }
    }
}

fn mqtt_4_3_3_a_publisher_taken_over_in_the_middle_of_qos_2(case: &Case) {
    let topic = case.topic("takeover");
    let mut receiver = case.client("takeover");
    subscribe(case, &mut receiver, &topic, 2);
    let connect = case.lasting("takeover");
    let mut old = case.open(&connect);
    needs_qos(case, &old, 2);
    let message = Publish::new(&topic, "once").qos(2).id(5);
    old.send_publish(&message);
    old.await_pubrec(5);
    // The second connection comes while the first one lives.
    let mut new = case.open(&connect);
    resumed(&new);
    ends(old);
    new.send_publish(&message.clone().dup());
    let answers = new.fence();
    new.send_pubrel(&Ack::new(5));
    new.await_pubcomp(5);
    publish(&mut new, &Publish::new(&topic, "end").qos(2));
    assert_eq!(receiver.receive().text(), "once");
    nothing_before(&mut receiver, "end");
    assert!(
        matches!(&answers[..], [Packet::PubRec(ack)] if ack.id == 5 && ack.code < 0x80),
        "the repetition was answered with {answers:?}"
    );
}

fn mqtt_4_3_3_a_subscriber_taken_over_in_the_middle_of_qos_2(case: &Case) {
    let topic = case.topic("takeover");
    let connect = case.lasting("takeover");
    let mut old = case.open(&connect);
    subscribe(case, &mut old, &topic, 2);
    publish(
        &mut case.client("takeover"),
        &Publish::new(&topic, "x").qos(2),
    );
    let message = old.expect_publish();
    old.send_pubrec(&Ack::new(message.id));
    assert_eq!(old.expect_pubrel().id, message.id);
    let mut new = case.open(&connect);
    resumed(&new);
    ends(old);
    assert_eq!(new.expect_pubrel().id, message.id);
    new.send_pubcomp(&Ack::new(message.id));
    publish(&mut new, &Publish::new(&topic, "end").qos(2));
    nothing_before(&mut new, "end");
}

fn mqtt5_3_1_3_2_2_a_will_is_not_later_than_the_end_of_its_session(case: &Case) {
    let topic = case.topic("will");
    let mut watcher = case.client("watcher");
    subscribe(case, &mut watcher, &topic, 1);
    let will = Will::new(&topic, "gone").with(Property::WillDelay(600));
    let connect = case.connect("dies").will(will).expiry(1);
    case.open(&connect).vanish();
    // A second for the session, and a server may look at its sessions now and then only.
    assert_eq!(watcher.receive().text(), "gone");
}

fn mqtt5_3_1_2_24_a_message_too_large_for_one_reaches_the_others(case: &Case) {
    for qos in 0..=2 {
        let topic = case.topic("one");
        let limit = Property::MaximumPacketSize(150);
        let mut small = case.open(&case.connect("small").with(limit));
        let mut large = [case.client("large"), case.client("large")];
        subscribe(case, &mut small, &topic, qos);
        for receiver in &mut large {
            subscribe(case, receiver, &topic, qos);
        }
        let mut sender = case.client("one");
        for message in [
            Publish::new(&topic, [b'x'; 200]).qos(qos),
            Publish::new(&topic, "end").qos(qos),
        ] {
            publish(&mut sender, &message);
        }
        for receiver in &mut large {
            assert_eq!(receiver.receive().payload.len(), 200, "QoS {qos}");
            assert_eq!(receiver.receive().text(), "end");
        }
        nothing_before(&mut small, "end");
    }
}

fn mqtt5_3_1_2_24_properties_and_identifiers_count_in_the_size(case: &Case) {
    let topic = case.topic("size");
    let message = Publish::new(&topic, [b'x'; 50])
        .qos(1)
        .id(1)
        .with(Property::user("name", "value"));
    // As large as it was published; the subscription identifier makes it larger.
    let limit = message.encode(Version::V5).len() as u32;
    let connect = case.connect("size");
    let mut receiver = case.open(&connect.with(Property::MaximumPacketSize(limit)));
    subscribe_as(case, &mut receiver, &topic, 1, 268_435_455);
    let mut sender = case.client("size");
    publish(&mut sender, &message);
    publish(&mut sender, &Publish::new(&topic, "end").qos(1));
    nothing_before(&mut receiver, "end");
}

fn mqtt5_3_1_2_25_what_waited_may_be_too_large_for_the_next_connection(case: &Case) {
    let topic = case.topic("waited");
    let connect = case.lasting("waited");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("waited");
    let large = Publish::new(&topic, [b'x'; 300]);
    // Two are in flight when the connection is lost, two wait in the queue.
    for qos in [1, 2] {
        publish(&mut sender, &large.clone().qos(qos));
        receiver.expect_publish();
    }
    receiver.disconnect();
    for qos in [1, 2] {
        publish(&mut sender, &large.clone().qos(qos));
    }
    let mut receiver = case.open(&connect.with(Property::MaximumPacketSize(200)));
    resumed(&receiver);
    publish(&mut sender, &Publish::new(&topic, "end").qos(1));
    nothing_before(&mut receiver, "end");
}

fn mqtt5_3_3_4_9_retained_messages_keep_to_the_receive_maximum(case: &Case) {
    let root = case.topic("kept");
    let messages: Vec<Publish> = (0..5)
        .map(|leaf| Publish::new(&format!("{root}/{leaf}"), format!("{leaf}")))
        .collect();
    let _retained = Retained::new(case, &messages);
    let connect = case.connect("kept").with(Property::ReceiveMaximum(2));
    let mut receiver = case.open(&connect);
    needs_wildcards(case, &receiver);
    subscribe(case, &mut receiver, &format!("{root}/+"), 1);
    let first = take(&mut receiver, 2);
    receiver.expect_nothing();
    let mut found = texts(&first);
    for message in &first {
        receiver.acknowledge(message);
    }
    found.extend(receiver.receive_texts(3));
    found.sort_unstable();
    assert_eq!(found, ["0", "1", "2", "3", "4"]);
}

fn mqtt5_3_3_2_7_what_was_sent_by_alias_is_sent_again_by_name(case: &Case) {
    let topic = case.topic("named");
    let connect = case.lasting("named");
    let mut receiver = case.open(&connect.clone().with(Property::TopicAliasMaximum(5)));
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("named");
    for qos in [1, 2, 1] {
        publish(&mut sender, &Publish::new(&topic, "x").qos(qos));
    }
    assert_eq!(take(&mut receiver, 3).len(), 3);
    receiver.vanish();
    // The next connection takes no alias at all.
    let mut receiver = case.open(&connect);
    resumed(&receiver);
    for message in take(&mut receiver, 3) {
        assert_eq!(
            (message.topic.as_str(), message.alias()),
            (topic.as_str(), None)
        );
    }
}

fn mqtt5_3_3_2_12_a_message_retained_by_alias_is_found_by_name(case: &Case) {
    let topic = case.topic("alias");
    let mut sender = case.client("alias");
    needs_retained(case, &sender);
    if alias_maximum(&sender) == 0 {
        case.does_not_apply("the server announces no Topic Alias Maximum");
    }
    let _retained = Retained::of(case, &[&topic]);
    let alias = Property::TopicAlias(1);
    publish(
        &mut sender,
        &Publish::new(&topic, "by name").qos(1).with(alias.clone()),
    );
    publish(
        &mut sender,
        &Publish::new("", "by alias").qos(1).retain().with(alias),
    );
    let mut receiver = case.client("alias");
    subscribe(case, &mut receiver, &topic, 1);
    let message = receiver.receive();
    assert_eq!(
        (message.text().as_str(), &message.topic, message.alias()),
        ("by alias", &topic, None)
    );
}

fn mqtt_4_3_a_stream_of_every_qos_arrives_through_a_reconnect(case: &Case) {
    let topic = case.topic("stream");
    let connect = case.lasting("stream");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("stream");
    let mut seen = BTreeSet::new();
    for round in 0..5 {
        for number in 0..6 {
            let text = (round * 6 + number).to_string();
            publish(&mut sender, &Publish::new(&topic, text).qos(1 + number % 2));
        }
        // Some are acknowledged, some seen, some on their way when the network fails.
        for _ in 0..2 {
            seen.insert(step(&mut receiver));
        }
        receiver.vanish();
        receiver = case.open(&connect);
        resumed(&receiver);
    }
    while seen.len() < 30 {
        seen.insert(step(&mut receiver));
    }
}

/// The next message; it and every PUBREL before it are answered, and no answer is waited for.
#[track_caller]
fn step(receiver: &mut Client) -> String {
    loop {
        match receiver.next(patience()) {
            Event::Packet(Packet::PubRel(ack)) => receiver.send_pubcomp(&Ack::new(ack.id)),
            Event::Packet(Packet::Publish(message)) => {
                if message.qos == 2 {
                    receiver.send_pubrec(&Ack::new(message.id));
                } else {
                    receiver.acknowledge(&message);
                }
                return message.text();
            }
            other => panic!("PUBLISH or PUBREL expected: {other:?}"),
        }
    }
}

fn mqtt_2_2_1_packet_identifiers_come_round_with_a_gap_in_flight(case: &Case) {
    let topic = case.topic("round");
    let mut receiver = case.client("round");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("round");
    // Some QoS 2 exchanges stay without PUBCOMP, which a client may send when it likes, with others between
    // them that are completed: their identifiers are taken.
    let mut held = BTreeSet::new();
    for number in 0..6 {
        publish(&mut sender, &Publish::new(&topic, "held").qos(2));
        let message = receiver.expect_publish();
        if number % 2 == 0 {
            receiver.send_pubrec(&Ack::new(message.id));
            assert_eq!(receiver.expect_pubrel().id, message.id);
            held.insert(message.id);
        } else {
            receiver.acknowledge(&message);
        }
    }
    // A little more than all identifiers there are.
    let batch = window(&sender, 100);
    for round in 0..66_000 / u32::from(batch) {
        let text = format!("round {round}");
        let mut bytes = Vec::new();
        for id in 1..=batch {
            bytes.extend(
                Publish::new(&topic, &text)
                    .qos(1)
                    .id(id)
                    .encode(case.version()),
            );
        }
        sender.send(&bytes);
        let (mut acks, mut ids) = (Vec::new(), held.clone());
        for _ in 0..batch {
            let message = receiver.expect_publish();
            assert!(
                ids.insert(message.id),
                "{} is in flight, {text}",
                message.id
            );
            acks.extend(Ack::new(message.id).encode(packet::PUBACK, case.version()));
            // A window need not hold them all.
            if acks.len() > 40 {
                receiver.send(&acks);
                acks.clear();
                ids.clone_from(&held);
            }
        }
        receiver.send(&acks);
        (1..=batch).for_each(|id| drop(sender.await_puback(id)));
    }
}

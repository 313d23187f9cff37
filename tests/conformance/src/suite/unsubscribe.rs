//! UNSUBSCRIBE and UNSUBACK: MQTT 3.1.1 and 5.0 sections 3.10 and 3.11.

use tidegate_tests::wire::{Ack, Packet, Publish, Unsubscribe, Version, code, frame};

use super::kit::{needs_wildcards, nothing_before, publish, subscribe};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

/// Reason codes of UNSUBACK (table 3-9).
const CODES: &[u8] = &[0, code::NO_SUBSCRIPTION, 0x80, 0x83, 0x87, 0x8F, 0x91];

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_10_1_1_other_flags_of_unsubscribe_end_the_connection)
        .mqtt3(&["3.10.1-1"])
        .mqtt5(&["3.10.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_10_3_1_a_filter_that_is_not_utf_8_ends_the_connection)
        .mqtt3(&["3.10.3-1"])
        .mqtt5(&["3.10.3-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_10_3_2_an_unsubscribe_without_a_filter_ends_the_connection)
        .mqtt3(&["3.10.3-2"])
        .mqtt5(&["3.10.3-2"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_10_4_1_filters_are_compared_byte_by_byte)
        .mqtt3(&["3.10.4-1"])
        .mqtt5(&["3.10.4-1"])
        .level3("Filters are compared byte by byte.")
        .fault(Fault::client(packet::UNSUBSCRIBE).nth(1).altered(
            "the filter that is held",
            |frame| {
                // The filter tried first ends in `a`, the one held in `+`.
                if let Some(last) = frame.body.last_mut() {
                    *last = b'+';
                }
            },
        )),
    test!(mqtt_3_10_4_1_the_same_filter_is_ended_wildcards_and_all)
        .mqtt3(&["3.10.4-1", "3.10.4-2"])
        .mqtt5(&["3.10.4-1", "3.10.4-2"])
        .level3("The same filter is ended.")
        .fault(
            Fault::client(packet::UNSUBSCRIBE).altered("another filter", |frame| {
                if let Some(last) = frame.body.last_mut() {
                    *last = b'!';
                }
            }),
        ),
    test!(mqtt_3_10_4_2_after_unsubscribe_nothing_more_comes)
        .mqtt3(&["3.10.4-2"])
        .mqtt5(&["3.10.4-2"])
        .level3("After UNSUBSCRIBE nothing more comes.")
        .fault(Fault::client(packet::UNSUBSCRIBE).answered(
            "an UNSUBACK that stands for nothing",
            |frame| {
                let [high, low] = frame.id().to_be_bytes();
                if frame.version == Version::V5 {
                    vec![packet::UNSUBACK, 4, high, low, 0, 0]
                } else {
                    vec![packet::UNSUBACK, 2, high, low]
                }
            },
        )),
    test!(mqtt_3_10_4_3_a_delivery_that_began_is_completed)
        .mqtt3(&["3.10.4-3"])
        .mqtt5(&["3.10.4-3"])
        .level3("A delivery that began before UNSUBSCRIBE is completed.")
        .fault(Fault::server(packet::PUBREL)),
    test!(mqtt_3_10_4_3_a_delivery_that_began_is_completed_after_a_reconnect)
        .mqtt3(&["3.10.4-3"])
        .mqtt5(&["3.10.4-3"])
        .level3("A delivery that began before UNSUBSCRIBE is completed after a reconnect.")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt_3_10_4_4_unsubscribe_is_answered_with_an_unsuback_of_its_identifier)
        .mqtt3(&["3.10.4-4"])
        .mqtt5(&["3.10.4-4", "3.10.4-5"])
        .level3("UNSUBSCRIBE is answered with an UNSUBACK of its identifier.")
        .fault(
            Fault::server(packet::UNSUBACK).altered("another identifier", |frame| {
                frame.set_id(frame.id() ^ 0x4000);
            }),
        ),
    test!(mqtt_3_10_4_5_unsubscribe_is_answered_though_nothing_is_ended)
        .mqtt3(&["3.10.4-5"])
        .mqtt5(&["3.10.4-5"])
        .level3("UNSUBSCRIBE is answered though nothing is ended.")
        .fault(Fault::server(packet::UNSUBACK)),
    test!(mqtt_3_10_4_6_each_filter_of_an_unsubscribe_is_ended)
        .mqtt3(&["3.10.4-6"])
        .mqtt5(&["3.10.4-6"])
        .level3("Each filter of an UNSUBSCRIBE is ended, with one UNSUBACK for all.")
        .fault(Fault::server(packet::UNSUBACK).doubled()),
    test!(mqtt5_3_11_3_1_the_codes_are_in_the_order_of_the_filters)
        .mqtt5(&["3.11.3-1"])
        .fault(
            Fault::server(packet::UNSUBACK).altered("the codes turned round", |frame| {
                let codes: Vec<u8> = frame.payload().iter().rev().copied().collect();
                frame.set_codes(&codes);
            }),
        ),
    test!(mqtt5_3_11_3_2_each_code_is_one_of_the_list)
        .mqtt5(&["3.11.3-2"])
        .fault(
            Fault::server(packet::UNSUBACK)
                .altered("a code of SUBACK", |frame| frame.set_codes(&[1, 1])),
        ),
];

/// The bytes of an UNSUBSCRIBE of one filter.
fn bytes(case: &Case, first: u8, filter: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 9];
    if case.is_v5() {
        body.push(0);
    }
    body.extend_from_slice(&(filter.len() as u16).to_be_bytes());
    body.extend_from_slice(filter);
    frame(first, &body)
}

fn mqtt_3_10_1_1_other_flags_of_unsubscribe_end_the_connection(case: &Case) {
    let topic = case.topic("flags");
    for flags in [0, 1, 3, 8, 15] {
        let mut client = case.client("flags");
        client.send(&bytes(case, packet::UNSUBSCRIBE | flags, topic.as_bytes()));
        client.expect_error();
    }
}

fn mqtt_3_10_3_1_a_filter_that_is_not_utf_8_ends_the_connection(case: &Case) {
    let mut client = case.client("bytes");
    client.send(&bytes(case, 0xA2, &[0xC3, 0x28]));
    client.expect_error();
}

fn mqtt_3_10_3_2_an_unsubscribe_without_a_filter_ends_the_connection(case: &Case) {
    let mut client = case.client("empty");
    let body: &[u8] = if case.is_v5() { &[0, 9, 0] } else { &[0, 9] };
    client.send(&frame(0xA2, body));
    client.expect_error();
}

fn mqtt_3_10_4_1_filters_are_compared_byte_by_byte(case: &Case) {
    let root = case.topic("exact");
    let mut client = case.client("exact");
    needs_wildcards(case, &client);
    subscribe(case, &mut client, &format!("{root}/+"), 1);
    // What it matches, what matches the same, and another case of the letters.
    for other in ["/a", "/#", "/+/"] {
        client.unsubscribe(&[&format!("{root}{other}")]);
    }
    client.unsubscribe(&[&format!("{}/+", root.to_uppercase())]);
    publish(&mut client, &Publish::new(&format!("{root}/a"), "x").qos(1));
    assert_eq!(client.receive().text(), "x");
}

fn mqtt_3_10_4_1_the_same_filter_is_ended_wildcards_and_all(case: &Case) {
    let root = case.topic("same");
    let mut client = case.client("same");
    needs_wildcards(case, &client);
    subscribe(case, &mut client, &format!("{root}/a/#"), 1);
    subscribe(case, &mut client, &format!("{root}/b"), 1);
    client.unsubscribe(&[&format!("{root}/a/#")]);
    for topic in ["a", "a/a", "b"] {
        publish(
            &mut client,
            &Publish::new(&format!("{root}/{topic}"), topic).qos(1),
        );
    }
    nothing_before(&mut client, "b");
}

fn mqtt_3_10_4_2_after_unsubscribe_nothing_more_comes(case: &Case) {
    let topic = case.topic("ended");
    let mut client = case.client("ended");
    subscribe(case, &mut client, &topic, 1);
    publish(&mut client, &Publish::new(&topic, "before").qos(1));
    assert_eq!(client.receive().text(), "before");
    client.unsubscribe(&[&topic]);
    publish(&mut client, &Publish::new(&topic, "after").qos(1));
    // A new subscription shows that the message in between was not for this client.
    subscribe(case, &mut client, &topic, 1);
    publish(&mut client, &Publish::new(&topic, "end").qos(1));
    nothing_before(&mut client, "end");
}

fn mqtt_3_10_4_3_a_delivery_that_began_is_completed(case: &Case) {
    let topic = case.topic("began");
    let mut client = case.client("began");
    subscribe(case, &mut client, &topic, 2);
    publish(&mut client, &Publish::new(&topic, "x").qos(2));
    let message = client.expect_publish();
    client.unsubscribe(&[&topic]);
    client.send_pubrec(&Ack::new(message.id));
    assert_eq!(client.expect_pubrel().id, message.id);
    client.send_pubcomp(&Ack::new(message.id));
}

fn mqtt_3_10_4_3_a_delivery_that_began_is_completed_after_a_reconnect(case: &Case) {
    let topic = case.topic("began");
    let connect = case.lasting("began");
    let mut client = case.open(&connect);
    subscribe(case, &mut client, &topic, 1);
    publish(&mut client, &Publish::new(&topic, "x").qos(1));
    let message = client.expect_publish();
    client.unsubscribe(&[&topic]);
    client.vanish();
    let again = case.open(&connect).receive();
    assert_eq!((again.id, again.text().as_str()), (message.id, "x"));
}

fn mqtt_3_10_4_4_unsubscribe_is_answered_with_an_unsuback_of_its_identifier(case: &Case) {
    let topic = case.topic("answers");
    let mut client = case.client("answers");
    for id in [2, 255, 256, 65_535] {
        subscribe(case, &mut client, &topic, 0);
        let packet = Unsubscribe {
            id,
            filters: vec![topic.clone()],
        };
        client.send(&packet.encode(case.version()));
        let answered = client.expect("UNSUBACK", |packet| match packet {
            Packet::UnsubAck(answer) => Some(answer.id),
            _ => None,
        });
        assert_eq!(answered, id);
    }
}

fn mqtt_3_10_4_5_unsubscribe_is_answered_though_nothing_is_ended(case: &Case) {
    let answer = case
        .client("nothing")
        .unsubscribe(&[&case.topic("nothing")]);
    if case.is_v5() {
        assert_eq!(answer.codes.len(), 1);
    }
}

fn mqtt_3_10_4_6_each_filter_of_an_unsubscribe_is_ended(case: &Case) {
    let root = case.topic("many");
    let topics = ["a", "b", "c"].map(|leaf| format!("{root}/{leaf}"));
    let mut client = case.client("many");
    for topic in &topics {
        subscribe(case, &mut client, topic, 1);
    }
    client.unsubscribe(&[&topics[0], &topics[1]]);
    for topic in &topics {
        publish(&mut client, &Publish::new(topic, topic).qos(1));
    }
    // The answer to a second UNSUBSCRIBE would be a packet, too.
    nothing_before(&mut client, &topics[2]);
    client.expect_nothing();
}

fn mqtt5_3_11_3_1_the_codes_are_in_the_order_of_the_filters(case: &Case) {
    let (held, other) = (case.topic("held"), case.topic("other"));
    let mut client = case.client("order");
    subscribe(case, &mut client, &held, 1);
    let answer = client.unsubscribe(&[&other, &held]);
    assert_eq!(answer.codes, [code::NO_SUBSCRIPTION, 0]);
}

fn mqtt5_3_11_3_2_each_code_is_one_of_the_list(case: &Case) {
    let (held, other) = (case.topic("held"), case.topic("other"));
    let mut client = case.client("codes");
    subscribe(case, &mut client, &held, 1);
    let answer = client.unsubscribe(&[&held, &other]);
    assert_eq!(answer.codes.len(), 2);
    for code in answer.codes {
        assert!(CODES.contains(&code), "{code:#04x}");
    }
}

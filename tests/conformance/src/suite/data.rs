//! Data representation: MQTT 5.0 section 1.5, MQTT 3.1.1 section 1.5.3.

use tidegate_tests::wire::{Client, Property, Publish, frame};

use super::kit::{nothing_before, publish, subscribe};
use super::raw::{RawConnect, breaks, ends, flag, refuses, send};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

const CLOSE_HIDDEN: Fault = Fault::never_closes();

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_1_5_4_1_an_ill_formed_topic_ends_the_connection)
        .mqtt3(&["1.5.3-1"])
        .mqtt5(&["1.5.4-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt_1_5_4_1_an_ill_formed_filter_ends_the_connection)
        .mqtt3(&["1.5.3-1"])
        .mqtt5(&["1.5.4-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt_1_5_4_1_text_of_every_width_arrives_as_it_was)
        .mqtt3(&["1.5.3-1"])
        .mqtt5(&["1.5.4-1"])
        .level3("text is UTF-8 there, too")
        .fault(
            Fault::server(packet::PUBLISH).altered("a topic that is no UTF-8", |frame| {
                if let Some(byte) = frame.body.get_mut(2) {
                    *byte = 0xFF;
                }
            }),
        ),
    test!(mqtt_3_1_3_4_an_ill_formed_client_identifier_is_refused)
        .mqtt3(&["1.5.3-1", "3.1.3-4"])
        .mqtt5(&["1.5.4-1", "3.1.3-4"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt_3_1_3_11_an_ill_formed_will_topic_is_refused)
        .mqtt3(&["1.5.3-1", "3.1.3-10"])
        .mqtt5(&["1.5.4-1", "3.1.3-11"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt_3_1_3_12_an_ill_formed_user_name_is_refused)
        .mqtt3(&["1.5.3-1", "3.1.3-11"])
        .mqtt5(&["1.5.4-1", "3.1.3-12"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt_1_5_4_2_a_nul_in_a_topic_ends_the_connection)
        .mqtt3(&["1.5.3-2"])
        .mqtt5(&["1.5.4-2"])
        .regression(&["NUL in a topic"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt_1_5_4_2_a_nul_in_connect_is_refused)
        .mqtt3(&["1.5.3-2"])
        .mqtt5(&["1.5.4-2"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt_1_5_4_3_a_byte_order_mark_stays_in_the_topic)
        .mqtt3(&["1.5.3-3"])
        .mqtt5(&["1.5.4-3"])
        .fault(Fault::server(packet::PUBLISH).altered(
            "no byte order mark in the topic",
            |frame| {
                let topic = String::from_utf8_lossy(frame.topic()).replace('\u{FEFF}', "");
                frame.set_topic(&topic);
            },
        )),
    test!(mqtt_1_5_4_3_a_byte_order_mark_tells_topics_apart)
        .mqtt3(&["1.5.3-3"])
        .mqtt5(&["1.5.4-3"])
        .fault(Fault::client(packet::PUBLISH).nth(1).altered(
            "no byte order mark in the topic",
            |frame| {
                let topic = String::from_utf8_lossy(frame.topic()).replace('\u{FEFF}', "");
                frame.set_topic(&topic);
            },
        )),
    test!(mqtt5_1_5_5_1_a_remaining_length_longer_than_it_need_be_is_refused)
        .mqtt5(&["1.5.5-1"])
        .regression(&["variable byte integers that are not minimal"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_1_5_5_1_a_property_length_longer_than_it_need_be_is_refused)
        .mqtt5(&["1.5.5-1"])
        .regression(&["variable byte integers that are not minimal"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_1_5_5_1_the_servers_lengths_are_as_short_as_may_be)
        .mqtt5(&["1.5.5-1"])
        .fault(
            Fault::server(packet::PUBLISH).answered("a length with a byte too many", |frame| {
                let bytes = frame.bytes();
                let length = bytes.len() - frame.body.len() - 1;
                let mut longer = bytes[..=length].to_vec();
                longer[length] |= 0x80;
                longer.push(0);
                longer.extend_from_slice(&frame.body);
                longer
            }),
        ),
    test!(mqtt5_1_5_7_1_both_halves_of_a_string_pair_are_text)
        .mqtt5(&["1.5.7-1"])
        .fault(CLOSE_HIDDEN),
    test!(mqtt5_1_5_7_1_a_string_pair_arrives_as_two_valid_strings)
        .mqtt5(&["1.5.7-1"])
        .fault(
            Fault::server(packet::PUBLISH).altered("U+0000 in a string pair", |frame| {
                let name = frame.body.windows(4).position(|four| four == b"name");
                if let Some(at) = name {
                    frame.body[at] = 0;
                }
            }),
        ),
];

/// Text that is no UTF-8, or that UTF-8 must not encode.
const ILL_FORMED: [(&str, &[u8]); 9] = [
    ("a continuation byte alone", &[0x80]),
    ("a sequence cut short", &[0xC3]),
    ("a sequence broken off", &[0xC3, 0x28]),
    ("U+0000 in two bytes", &[0xC0, 0x80]),
    ("a slash in two bytes", &[0xC0, 0xAF]),
    ("the first surrogate", &[0xED, 0xA0, 0x80]),
    ("the last surrogate", &[0xED, 0xBF, 0xBF]),
    ("beyond U+10FFFF", &[0xF4, 0x90, 0x80, 0x80]),
    ("a byte that is never used", &[0xFF]),
];

/// A PUBLISH of QoS 1, so that taking it would be seen.
fn publish_to(case: &Case, topic: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic);
    body.extend_from_slice(&[0, 1]);
    if case.is_v5() {
        body.push(0);
    }
    body.push(b'x');
    frame(0x32, &body)
}

fn subscribe_to(case: &Case, filter: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1];
    if case.is_v5() {
        body.push(0);
    }
    body.extend_from_slice(&(filter.len() as u16).to_be_bytes());
    body.extend_from_slice(filter);
    body.push(0);
    frame(0x82, &body)
}

/// The text behind some that is right.
fn within(bad: &[u8]) -> Vec<u8> {
    [b"utf8/".as_slice(), bad].concat()
}

fn mqtt_1_5_4_1_an_ill_formed_topic_ends_the_connection(case: &Case) {
    for (what, bad) in ILL_FORMED {
        breaks(case, &publish_to(case, &within(bad)), what);
    }
}

fn mqtt_1_5_4_1_an_ill_formed_filter_ends_the_connection(case: &Case) {
    for (what, bad) in ILL_FORMED {
        breaks(case, &subscribe_to(case, &within(bad)), what);
    }
}

fn mqtt_1_5_4_1_text_of_every_width_arrives_as_it_was(case: &Case) {
    // One, two, three and four bytes; the first and the last around the surrogates and the last there is
    // that is not a noncharacter.
    let topic = format!(
        "{}/A\u{A0}\u{7FF}\u{800}\u{D7FF}\u{E000}\u{FFFD}\u{2A6D4}\u{10FFFD}",
        case.topic("width")
    );
    let mut client = case.client("width");
    subscribe(case, &mut client, &topic, 0);
    publish(&mut client, &Publish::new(&topic, "wide"));
    assert_eq!(client.receive().topic, topic);
}

fn mqtt_3_1_3_4_an_ill_formed_client_identifier_is_refused(case: &Case) {
    for (what, bad) in ILL_FORMED {
        refuses(case, &RawConnect::of(case).field(bad).bytes(), what);
    }
}

fn mqtt_3_1_3_11_an_ill_formed_will_topic_is_refused(case: &Case) {
    for (what, bad) in ILL_FORMED {
        let connect = with_will(case, case.topic("will").as_bytes(), &within(bad));
        refuses(case, &connect.bytes(), what);
    }
}

fn mqtt_3_1_3_12_an_ill_formed_user_name_is_refused(case: &Case) {
    for (what, bad) in ILL_FORMED {
        let connect = with_user(case, bad);
        refuses(case, &connect.bytes(), what);
    }
}

fn with_will(case: &Case, id: &[u8], topic: &[u8]) -> RawConnect {
    RawConnect::of(case)
        .flags(flag::CLEAN | flag::WILL)
        .field(id)
        .will(topic, b"gone")
}

fn with_user(case: &Case, name: &[u8]) -> RawConnect {
    RawConnect::of(case)
        .flags(flag::CLEAN | flag::USER_NAME)
        .field(case.topic("user").as_bytes())
        .field(name)
}

fn mqtt_1_5_4_2_a_nul_in_a_topic_ends_the_connection(case: &Case) {
    for (what, topic) in [
        ("alone", b"\0".as_slice()),
        ("in front", b"\0t"),
        ("within", b"nul/\0/t"),
        ("at the end", b"nul/\0"),
    ] {
        breaks(case, &publish_to(case, topic), what);
    }
}

fn mqtt_1_5_4_2_a_nul_in_connect_is_refused(case: &Case) {
    let id = case.topic("nul");
    for (what, connect) in [
        ("client identifier", RawConnect::of(case).field(b"nul\0")),
        ("will topic", with_will(case, id.as_bytes(), b"nul/\0")),
        ("user name", with_user(case, b"n\0l")),
    ] {
        refuses(case, &connect.bytes(), what);
    }
}

fn mqtt_1_5_4_3_a_byte_order_mark_stays_in_the_topic(case: &Case) {
    // In front of all, and within.
    for topic in [
        format!("\u{FEFF}{}", case.topic("mark")),
        format!("{}/\u{FEFF}/t", case.topic("mark")),
    ] {
        let mut client = case.client("mark");
        subscribe(case, &mut client, &topic, 0);
        publish(&mut client, &Publish::new(&topic, "marked"));
        assert_eq!(client.receive().topic, topic);
    }
}

fn mqtt_1_5_4_3_a_byte_order_mark_tells_topics_apart(case: &Case) {
    let topic = case.topic("apart");
    let mut client = case.client("apart");
    subscribe(case, &mut client, &topic, 0);
    publish(
        &mut client,
        &Publish::new(&format!("\u{FEFF}{topic}"), "other").qos(1),
    );
    publish(&mut client, &Publish::new(&topic, "fence").qos(1));
    nothing_before(&mut client, "fence");
}

fn mqtt5_1_5_5_1_a_remaining_length_longer_than_it_need_be_is_refused(case: &Case) {
    breaks(
        case,
        &[0xC0, 0x80, 0x00],
        "PINGREQ with a length of two bytes",
    );
    breaks(
        case,
        &[0xC0, 0x80, 0x80, 0x80, 0x00],
        "PINGREQ with a length of four bytes",
    );
    let body = RawConnect::of(case)
        .field(case.topic("long").as_bytes())
        .body();
    let mut bytes = vec![0x10, body.len() as u8 | 0x80, 0x00];
    bytes.extend_from_slice(&body);
    refuses(case, &bytes, "CONNECT with a length of two bytes");
}

fn mqtt5_1_5_5_1_a_property_length_longer_than_it_need_be_is_refused(case: &Case) {
    let mut body = b"\0\x01t\0\x01\x80\0".to_vec();
    body.extend_from_slice(b"payload");
    breaks(case, &frame(0x32, &body), "property length 0 in two bytes");
    // A subscription identifier is such an integer, too.
    breaks(
        case,
        &frame(0x82, b"\0\x01\x03\x0B\x81\0\0\x01t\0"),
        "subscription identifier 1 in two bytes",
    );
}

fn mqtt5_1_5_5_1_the_servers_lengths_are_as_short_as_may_be(case: &Case) {
    let topic = case.topic("lengths");
    let mut client: Client = case.client("lengths");
    subscribe(case, &mut client, &topic, 0);
    // The decoder of this suite takes no length that is longer than it need be: sizes on both sides of
    // where one more byte is needed.
    let header = 2 + topic.len() + 1;
    for remaining in [127, 128, 16_383, 16_384] {
        let payload = vec![b'x'; remaining - header];
        publish(&mut client, &Publish::new(&topic, &payload));
        assert_eq!(client.receive().payload.len(), payload.len());
    }
}

fn mqtt5_1_5_7_1_both_halves_of_a_string_pair_are_text(case: &Case) {
    for (what, bad) in ILL_FORMED.into_iter().chain([("U+0000", b"\0".as_slice())]) {
        for (name, value) in [(bad, b"v".as_slice()), (b"n", bad)] {
            let mut client = case.client("pair");
            let mut pair = vec![0x26, 0, name.len() as u8];
            pair.extend_from_slice(name);
            pair.extend_from_slice(&[0, value.len() as u8]);
            pair.extend_from_slice(value);
            let mut body = b"\0\x04pair\0\x01".to_vec();
            body.push(pair.len() as u8);
            body.extend_from_slice(&pair);
            send(&mut client, &frame(0x32, &body));
            ends(&mut client, what);
        }
    }
}

fn mqtt5_1_5_7_1_a_string_pair_arrives_as_two_valid_strings(case: &Case) {
    let topic = case.topic("pair");
    let mut client = case.client("pair");
    subscribe(case, &mut client, &topic, 0);
    let pair = Property::user("name", "\u{FEFF}ä\u{2A6D4}");
    publish(&mut client, &Publish::new(&topic, "x").with(pair.clone()));
    assert_eq!(client.receive().properties, [pair]);
}

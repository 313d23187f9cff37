//! Errors: MQTT 5.0 section 4.13, MQTT 3.1.1 section 4.8. What is wrong with one packet only is with
//! its subject.

use std::time::Duration;

use tidegate_tests::wire::{Event, Packet, Publish, frame, patience};

use super::kit::{publish, subscribe};
use super::raw::{breaks, ends, nothing_published, send, watcher};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_4_13_1_1_each_vector_that_is_wrong_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt3_4_8_0_1_malformed_packets_end_the_connection)
        .mqtt3(&["4.8.0-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_4_13_1_1_packets_that_only_a_server_sends_end_the_connection)
        .mqtt3(&["4.8.0-1"])
        .mqtt5(&["4.13.1-1"])
        .level3("packets that only a server sends end the connection")
        .fault(Fault::never_closes()),
    test!(mqtt_4_13_1_1_a_body_that_is_too_short_or_too_long_ends_the_connection)
        .mqtt3(&["4.8.0-1"])
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_4_13_1_1_nothing_behind_an_error_is_processed)
        .mqtt3(&["4.8.0-1"])
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::client(0x00)),
    test!(mqtt_4_13_1_1_a_duplicate_of_qos_0_ends_the_connection)
        .mqtt3(&["4.8.0-1"])
        .mqtt5(&["4.13.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_4_13_2_1_an_error_disturbs_nobody_else)
        .mqtt3(&["4.8.0-1"])
        .mqtt5(&["4.13.2-1"])
        .level3("an error of one client disturbs no other")
        .fault(Fault::server(packet::PUBLISH).nth(2).cut()),
];

/// A packet that a server must not take.
struct Vector {
    name: String,
    bytes: Vec<u8>,
}

#[track_caller]
fn wrong() -> Vec<Vector> {
    let text = include_str!("../../../vectors/mqtt5-strict.json");
    let vectors: serde_json::Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("the vectors: {error}"));
    let all = vectors.as_array().into_iter().flatten();
    let wrong = all
        .filter(|vector| vector["expect"] == "reject")
        .map(|vector| {
            let field = |name: &str| vector[name].as_str().unwrap_or_default().to_owned();
            let hex = field("hex");
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
            let bytes: Result<Vec<u8>, _> = (0..hex.len()).step_by(2).map(byte).collect();
            let bytes = bytes.unwrap_or_else(|error| panic!("{hex}: {error}"));
            Vector {
                name: field("name"),
                bytes,
            }
        });
    let wrong: Vec<Vector> = wrong.collect();
    assert!(wrong.len() > 30, "the vectors are there");
    wrong
}

fn mqtt5_4_13_1_1_each_vector_that_is_wrong_ends_the_connection(case: &Case) {
    for Vector { name, bytes } in wrong() {
        // Of the payload format the clause lists two values and says nothing of others. DUP has a test of its
        // own.
        if name.contains("payload-format = 2") || name.contains("DUP") {
            continue;
        }
        // A CONNECT first, anything else after one.
        let mut client = if bytes[0] >> 4 == 1 {
            case.dial()
        } else {
            case.client("vector")
        };
        send(&mut client, &bytes);
        // A filter may be refused by its own code, and the connection kept (3.9.3).
        if name.contains("filter") {
            match client.next(patience()) {
                Event::Packet(Packet::SubAck(answer)) => {
                    let refused = answer.codes.iter().all(|code| *code >= 0x80);
                    assert!(refused, "{name}: {answer:?}");
                    continue;
                }
                Event::Packet(Packet::Disconnect(reason)) if reason.code >= 0x80 => {}
                Event::Closed => continue,
                other => panic!("{name}: {other:?}"),
            }
        }
        ends(&mut client, &name);
    }
}

fn mqtt3_4_8_0_1_malformed_packets_end_the_connection(case: &Case) {
    for (what, bytes) in [
        ("QoS 3", &[0x36, 5, 0, 1, b't', 0, 1][..]),
        ("QoS 3 with DUP", &[0x3E, 5, 0, 1, b't', 0, 1]),
        ("a wildcard in a topic name", &[0x30, 3, 0, 1, b'#']),
        ("U+0000 in a topic name", &[0x30, 3, 0, 1, 0]),
        (
            "a topic name that is no UTF-8",
            &[0x30, 4, 0, 2, 0xC3, 0x28],
        ),
        ("a topic name beyond the packet", &[0x30, 2, 0, 9]),
        ("an empty topic name", &[0x30, 2, 0, 0]),
        ("SUBSCRIBE of QoS 3", &[0x82, 6, 0, 1, 0, 1, b't', 3]),
        (
            "SUBSCRIBE with reserved bits",
            &[0x82, 6, 0, 1, 0, 1, b't', 4],
        ),
        ("SUBSCRIBE without filters", &[0x82, 2, 0, 1]),
        ("UNSUBSCRIBE without filters", &[0xA2, 2, 0, 1]),
        ("a filter without its QoS", &[0x82, 5, 0, 1, 0, 1, b't']),
    ] {
        breaks(case, bytes, what);
    }
}

fn mqtt_4_13_1_1_packets_that_only_a_server_sends_end_the_connection(case: &Case) {
    let v5 = case.is_v5();
    let connack: &[u8] = if v5 { &[0, 0, 0] } else { &[0, 0] };
    let suback: &[u8] = if v5 { &[0, 1, 0, 0] } else { &[0, 1, 0] };
    let unsuback: &[u8] = if v5 { &[0, 1, 0, 0] } else { &[0, 1] };
    breaks(case, &frame(0x20, connack), "CONNACK");
    breaks(case, &frame(0x90, suback), "SUBACK");
    breaks(case, &frame(0xB0, unsuback), "UNSUBACK");
    breaks(case, &frame(0xD0, &[]), "PINGRESP");
}

fn mqtt_4_13_1_1_a_body_that_is_too_short_or_too_long_ends_the_connection(case: &Case) {
    let mut rows = vec![
        ("PUBACK of nothing", vec![0x40, 0]),
        ("PUBACK of a byte", vec![0x40, 1, 0]),
        ("PUBREL of a byte", vec![0x62, 1, 0]),
        ("PINGREQ with a body", vec![0xC0, 1, 0]),
        ("PUBLISH without a topic", vec![0x30, 0]),
        ("PUBLISH of half a length", vec![0x30, 1, 0]),
        (
            "PUBLISH without its identifier",
            vec![0x32, 4, 0, 1, b't', 0],
        ),
        ("SUBSCRIBE of nothing", vec![0x82, 0]),
        ("UNSUBSCRIBE of a byte", vec![0xA2, 1, 0]),
    ];
    if case.is_v5() {
        rows.push((
            "SUBSCRIBE with half a filter",
            frame(0x82, b"\0\x01\0\0\x05t"),
        ));
        rows.push(("PUBREL with more behind it", frame(0x62, b"\0\x01\0\0\0")));
        rows.push((
            "UNSUBSCRIBE with half a length",
            frame(0xA2, b"\0\x01\0\0\x01t\0"),
        ));
    } else {
        rows.push((
            "SUBSCRIBE with half a filter",
            frame(0x82, b"\0\x01\0\x05t"),
        ));
        rows.push(("PUBREL with more behind it", frame(0x62, b"\0\x01\0")));
        rows.push((
            "UNSUBSCRIBE with half a length",
            frame(0xA2, b"\0\x01\0\x01t\0"),
        ));
    }
    for (what, bytes) in rows {
        breaks(case, &bytes, what);
    }
}

fn mqtt_4_13_1_1_nothing_behind_an_error_is_processed(case: &Case) {
    let topic = case.topic("behind");
    let mut watcher = watcher(case, &topic);
    let mut client = case.client("behind");
    let mut bytes = vec![0x00, 0x00];
    bytes.extend(Publish::new(&topic, "must not pass").encode(case.version()));
    send(&mut client, &bytes);
    while let Event::Packet(_) = client.next(Duration::from_millis(500)) {}
    nothing_published(&mut watcher, &topic);
}

fn mqtt_4_13_1_1_a_duplicate_of_qos_0_ends_the_connection(case: &Case) {
    // 3.3.1-2: no message of QoS 0 has DUP. A ping behind it, so that taking it would be seen.
    let mut bytes = Publish::new(&case.topic("dup"), "x")
        .dup()
        .encode(case.version());
    bytes.extend([0xC0, 0]);
    breaks(case, &bytes, "DUP at QoS 0");
}

fn mqtt_4_13_2_1_an_error_disturbs_nobody_else(case: &Case) {
    let topic = case.topic("others");
    let mut calm = case.client("calm");
    subscribe(case, &mut calm, &topic, 1);
    for (what, bytes) in [
        ("packet type 0", vec![0x00, 0x00]),
        (
            "QoS 3",
            Publish::new(&topic, "x")
                .qos(3)
                .id(1)
                .encode(case.version()),
        ),
        (
            "a length of five bytes",
            vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ),
    ] {
        breaks(case, &bytes, what);
        publish(&mut calm, &Publish::new(&topic, what).qos(1));
        assert_eq!(calm.receive().text(), what);
    }
}

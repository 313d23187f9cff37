//! At least once: MQTT 3.1.1 and 5.0 section 4.3.2.

use tidegate_tests::wire::{Packet, Publish, code};

use super::kit::{publish, subscribe, take, texts, window};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

/// Reason codes of PUBACK and PUBREC (tables 3-4 and 3-5).
pub(super) const CODES: &[u8] = &[
    0x00,
    code::NO_SUBSCRIBERS,
    code::UNSPECIFIED,
    0x83,
    0x87,
    code::TOPIC_INVALID,
    code::ID_IN_USE,
    code::QUOTA,
    0x99,
];

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_4_2_1_the_reason_code_of_puback_is_one_of_its_list)
        .mqtt5(&["3.4.2-1"])
        .fault(
            Fault::server(packet::PUBACK)
                .altered("a reason code of PUBREL", |frame| frame.set_code(0x92)),
        ),
    test!(mqtt_4_3_2_1_messages_in_flight_have_identifiers_of_their_own)
        .mqtt3(&["4.3.2-1", "2.3.1-4"])
        .mqtt5(&["4.3.2-1", "2.2.1-4"])
        .level3("Messages in flight have identifiers of their own.")
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("always the same identifier", |frame| frame.set_id(1)),
        ),
    test!(mqtt_4_3_2_2_a_new_message_has_qos_1_and_no_dup)
        .mqtt3(&["4.3.2-1"])
        .mqtt5(&["4.3.2-2"])
        .level3("A new message has no DUP.")
        .fault(Fault::server(packet::PUBLISH).altered("DUP set", |frame| frame.first |= 0x08)),
    test!(mqtt_4_3_2_4_publish_is_answered_with_puback_and_the_message_is_delivered)
        .mqtt3(&["4.3.2-2"])
        .mqtt5(&["4.3.2-4"])
        .level3("PUBLISH is answered with PUBACK and the message is delivered.")
        .regression(&["PUBACK sent and the message dropped"])
        .fault(Fault::server(packet::PUBLISH).nth(7)),
    test!(mqtt_4_3_2_4_puback_has_the_identifier_of_its_publish)
        .mqtt3(&["4.3.2-2"])
        .mqtt5(&["4.3.2-4"])
        .level3("PUBACK has the identifier of its PUBLISH.")
        .fault(
            Fault::server(packet::PUBACK).altered("another identifier", |frame| {
                frame.set_id(frame.id() ^ 0x4000);
            }),
        ),
    test!(mqtt_4_3_2_5_after_puback_the_same_identifier_is_a_new_message)
        .mqtt3(&["4.3.2-2"])
        .mqtt5(&["4.3.2-5"])
        .level3("After PUBACK the same identifier is a new message.")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
];

fn mqtt5_3_4_2_1_the_reason_code_of_puback_is_one_of_its_list(case: &Case) {
    let topic = case.topic("codes");
    let mut client = case.client("codes");
    let mut codes = vec![client.publish(&Publish::new(&topic, "for nobody").qos(1))];
    subscribe(case, &mut client, &topic, 0);
    codes.push(client.publish(&Publish::new(&topic, "for one").qos(1)));
    for code in codes {
        assert!(
            CODES.contains(&code),
            "PUBACK has no reason code {code:#04x}"
        );
    }
}

fn mqtt_4_3_2_1_messages_in_flight_have_identifiers_of_their_own(case: &Case) {
    let topic = case.topic("ids");
    let mut receiver = case.client("ids");
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("ids");
    for number in 0..8 {
        publish(
            &mut sender,
            &Publish::new(&topic, number.to_string()).qos(1),
        );
    }
    let messages = take(&mut receiver, 8);
    let mut ids: Vec<u16> = messages.iter().map(|message| message.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8, "{messages:?}");
}

fn mqtt_4_3_2_2_a_new_message_has_qos_1_and_no_dup(case: &Case) {
    let topic = case.topic("new");
    let mut receiver = case.client("new");
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("new");
    for qos in [1, 2] {
        publish(&mut sender, &Publish::new(&topic, "new").qos(qos));
        let message = receiver.receive();
        assert_eq!((message.qos, message.dup), (1, false));
    }
}

fn mqtt_4_3_2_4_publish_is_answered_with_puback_and_the_message_is_delivered(case: &Case) {
    let topic = case.topic("kept");
    let mut receiver = case.client("kept");
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("kept");
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    // As many at once as the server takes, so that one that answers before it has taken a message has
    // something to lose.
    let together = window(&sender, 20);
    for batch in expected.chunks(usize::from(together)) {
        let mut bytes = Vec::new();
        for (id, text) in (1..).zip(batch) {
            let message = Publish::new(&topic, text).qos(1).id(id);
            bytes.extend(message.encode(case.version()));
        }
        sender.send(&bytes);
        for (id, text) in (1..).zip(batch) {
            let code = sender.await_puback(id).code;
            assert!(code < 0x80, "PUBACK of {text}: {code:#04x}");
        }
    }
    sender.disconnect();
    let messages: Vec<Publish> = (0..20).map(|_| receiver.receive()).collect();
    assert_eq!(texts(&messages), expected);
}

fn mqtt_4_3_2_4_puback_has_the_identifier_of_its_publish(case: &Case) {
    let topic = case.topic("answers");
    let mut client = case.client("answers");
    for id in [1, 255, 256, 32_768, 65_535] {
        client.send_publish(&Publish::new(&topic, "x").qos(1).id(id));
        let answered = client.expect("PUBACK", |packet| match packet {
            Packet::PubAck(ack) => Some(ack.id),
            _ => None,
        });
        assert_eq!(answered, id);
    }
}

fn mqtt_4_3_2_5_after_puback_the_same_identifier_is_a_new_message(case: &Case) {
    let topic = case.topic("reused");
    let mut receiver = case.client("reused");
    subscribe(case, &mut receiver, &topic, 1);
    let mut sender = case.client("reused");
    let message = Publish::new(&topic, "first").qos(1).id(7);
    publish(&mut sender, &message);
    // The same bytes but for DUP: as far as the server can tell, a message of its own.
    publish(&mut sender, &message.clone().dup());
    publish(&mut sender, &Publish::new(&topic, "other").qos(1).id(7));
    assert_eq!(receiver.receive_texts(3), ["first", "first", "other"]);
}

//! Exactly once: MQTT 3.1.1 and 5.0 sections 3.5 to 3.7 and 4.3.3.

use std::thread;
use std::time::Duration;

use tidegate_tests::wire::{Ack, Packet, Property, Publish, Version, code};

use super::kit::{answers, needs_qos, nothing_before, publish, resumed, subscribe, take};
use super::qos1;
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_5_2_1_the_reason_code_of_pubrec_is_one_of_its_list)
        .mqtt5(&["3.5.2-1"])
        .fault(
            Fault::server(packet::PUBREC)
                .altered("a reason code of PUBREL", |frame| frame.set_code(0x92)),
        ),
    test!(mqtt_3_6_1_1_other_flags_of_pubrel_end_the_connection)
        .mqtt3(&["3.6.1-1"])
        .mqtt5(&["3.6.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_6_2_1_the_reason_code_of_pubrel_is_one_of_its_list)
        .mqtt5(&["3.6.2-1"])
        .fault(
            Fault::server(packet::PUBREL)
                .altered("a reason code of PUBREC", |frame| frame.set_code(0x91)),
        ),
    test!(mqtt5_3_7_2_1_the_reason_code_of_pubcomp_is_one_of_its_list)
        .mqtt5(&["3.7.2-1"])
        .fault(
            Fault::server(packet::PUBCOMP)
                .altered("a reason code of PUBREC", |frame| frame.set_code(0x91)),
        ),
    test!(mqtt_4_3_3_1_messages_in_flight_have_identifiers_of_their_own)
        .mqtt3(&["4.3.3-1", "2.3.1-4"])
        .mqtt5(&["4.3.3-1", "2.2.1-4"])
        .level3("Messages in flight have identifiers of their own.")
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("always the same identifier", |frame| frame.set_id(1)),
        ),
    test!(mqtt_4_3_3_2_a_new_message_has_qos_2_and_no_dup)
        .mqtt3(&["4.3.3-1"])
        .mqtt5(&["4.3.3-2"])
        .level3("A new message has no DUP.")
        .fault(Fault::server(packet::PUBLISH).altered("DUP set", |frame| frame.first |= 0x08)),
    test!(mqtt_4_3_3_4_pubrec_is_answered_with_a_pubrel_of_its_identifier)
        .mqtt3(&["4.3.3-1"])
        .mqtt5(&["4.3.3-4"])
        .level3("PUBREC is answered with a PUBREL of its identifier.")
        .fault(
            Fault::server(packet::PUBREL).altered("another identifier", |frame| {
                frame.set_id(frame.id() ^ 0x4000);
            }),
        ),
    test!(mqtt5_4_3_3_4_a_pubrec_that_refuses_is_not_answered)
        .mqtt5(&["4.3.3-4"])
        .fault(
            Fault::client(packet::PUBREC)
                .nth(1)
                .altered("success", |frame| frame.body.truncate(2)),
        ),
    test!(mqtt_4_3_3_8_publish_is_answered_with_pubrec_and_the_message_is_delivered)
        .mqtt3(&["4.3.3-2"])
        .mqtt5(&["4.3.3-8"])
        .level3("PUBLISH is answered with PUBREC and the message is delivered.")
        .regression(&["PUBACK sent and the message dropped"])
        .fault(Fault::server(packet::PUBLISH).nth(7)),
    test!(mqtt_4_3_3_8_pubrec_has_the_identifier_of_its_publish)
        .mqtt3(&["4.3.3-2"])
        .mqtt5(&["4.3.3-8"])
        .level3("PUBREC has the identifier of its PUBLISH.")
        .fault(
            Fault::server(packet::PUBREC).altered("another identifier", |frame| {
                frame.set_id(frame.id() ^ 0x4000);
            }),
        ),
    test!(mqtt5_4_3_3_9_after_a_refusing_pubrec_the_same_identifier_is_a_new_message)
        .mqtt5(&["4.3.3-9"])
        .fault(Fault::client(packet::PUBLISH).nth(2).answered(
            "a PUBREC, as to a duplicate",
            |frame| {
                let [high, low] = frame.id().to_be_bytes();
                vec![packet::PUBREC, 2, high, low]
            },
        )),
    test!(mqtt_4_3_3_10_a_repeated_publish_is_answered_and_delivered_once)
        .mqtt3(&["4.3.3-2"])
        .mqtt5(&["4.3.3-10"])
        .level3("A repeated PUBLISH is answered and delivered once.")
        .fault(Fault::client(packet::PUBLISH).nth(2).altered(
            "QoS 0, so that it is delivered again",
            |frame| {
                frame.first &= !8;
                frame.set_qos(0);
            },
        )),
    test!(mqtt_4_3_3_10_a_publish_repeated_on_another_connection_is_delivered_once)
        .mqtt3(&["4.3.3-2", "4.1.0-1"])
        .mqtt5(&["4.3.3-10"])
        .level3("A PUBLISH repeated after a reconnect is delivered once.")
        .regression(&["QoS 2 replay after reconnect"])
        .fault(Fault::server(packet::PUBLISH).nth(1).doubled()),
    test!(mqtt_4_3_3_11_pubrel_is_answered_with_a_pubcomp_of_its_identifier)
        .mqtt3(&["4.3.3-2"])
        .mqtt5(&["4.3.3-11"])
        .level3("PUBREL is answered with a PUBCOMP of its identifier.")
        .fault(
            Fault::server(packet::PUBCOMP).altered("another identifier", |frame| {
                frame.set_id(frame.id() ^ 0x4000);
            }),
        ),
    test!(mqtt_4_3_3_11_a_pubrel_without_its_publish_is_answered_too)
        .mqtt3(&["4.3.3-2"])
        .mqtt5(&["4.3.3-11"])
        .level3("A PUBREL without its PUBLISH is answered.")
        .fault(Fault::server(packet::PUBCOMP)),
    test!(mqtt_4_3_3_12_after_pubcomp_the_same_identifier_is_a_new_message)
        .mqtt3(&["4.3.3-2"])
        .mqtt5(&["4.3.3-12"])
        .level3("After PUBCOMP the same identifier is a new message.")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt5_4_3_3_13_an_exchange_goes_on_though_its_message_has_expired)
        .mqtt5(&["4.3.3-13"])
        .fault(Fault::server(packet::PUBCOMP)),
    test!(mqtt5_3_4_acknowledgements_with_reasons_and_properties_are_accepted)
        .at(&[Version::V5])
        .fault(Fault::client(packet::PUBREC).cut()),
];

fn mqtt5_3_5_2_1_the_reason_code_of_pubrec_is_one_of_its_list(case: &Case) {
    let topic = case.topic("codes");
    let mut client = case.client("codes");
    needs_qos(case, &client, 2);
    let mut codes = vec![client.publish(&Publish::new(&topic, "for nobody").qos(2))];
    subscribe(case, &mut client, &topic, 0);
    codes.push(client.publish(&Publish::new(&topic, "for one").qos(2)));
    for code in codes {
        assert!(
            qos1::CODES.contains(&code),
            "PUBREC has no reason code {code:#04x}"
        );
    }
}

fn mqtt_3_6_1_1_other_flags_of_pubrel_end_the_connection(case: &Case) {
    for flags in [0, 1, 4, 8, 15] {
        let mut client = case.client("flags");
        needs_qos(case, &client, 2);
        client.send_publish(&Publish::new(&case.topic("flags"), "x").qos(2).id(3));
        client.await_pubrec(3);
        client.send(&Ack::new(3).encode(packet::PUBREL | flags, case.version()));
        client.expect_error();
    }
}

fn mqtt5_3_6_2_1_the_reason_code_of_pubrel_is_one_of_its_list(case: &Case) {
    let topic = case.topic("codes");
    let mut client = case.client("codes");
    subscribe(case, &mut client, &topic, 2);
    publish(&mut client, &Publish::new(&topic, "x").qos(2));
    let message = client.expect_publish();
    client.send_pubrec(&Ack::new(message.id));
    assert_eq!(client.expect_pubrel().code, 0);
    client.send_pubcomp(&Ack::new(message.id));
    // What becomes of one that answers nothing is left open.
    client.send_pubrec(&Ack::new(4711));
    for packet in answers(&mut client) {
        if let Packet::PubRel(ack) = packet {
            assert!([0, code::ID_NOT_FOUND].contains(&ack.code), "{ack:?}");
        }
    }
}

fn mqtt5_3_7_2_1_the_reason_code_of_pubcomp_is_one_of_its_list(case: &Case) {
    let mut client = case.client("codes");
    needs_qos(case, &client, 2);
    client.send_publish(&Publish::new(&case.topic("codes"), "x").qos(2).id(3));
    client.await_pubrec(3);
    // Whether the second, whose PUBLISH never was, is answered at all is another statement's.
    for id in [3, 4711] {
        client.send_pubrel(&Ack::new(id));
        for packet in answers(&mut client) {
            if let Packet::PubComp(ack) = packet {
                assert!(
                    [0, code::ID_NOT_FOUND].contains(&ack.code),
                    "PUBCOMP has no such reason code: {ack:?}"
                );
            }
        }
    }
}

fn mqtt_4_3_3_1_messages_in_flight_have_identifiers_of_their_own(case: &Case) {
    let topic = case.topic("ids");
    let mut receiver = case.client("ids");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("ids");
    for number in 0..8 {
        publish(
            &mut sender,
            &Publish::new(&topic, number.to_string()).qos(2),
        );
    }
    let messages = take(&mut receiver, 8);
    let mut ids: Vec<u16> = messages.iter().map(|message| message.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8, "{messages:?}");
}

fn mqtt_4_3_3_2_a_new_message_has_qos_2_and_no_dup(case: &Case) {
    let topic = case.topic("new");
    let mut receiver = case.client("new");
    subscribe(case, &mut receiver, &topic, 2);
    publish(&mut case.client("new"), &Publish::new(&topic, "x").qos(2));
    let message = receiver.receive();
    assert_eq!((message.qos, message.dup), (2, false));
}

fn mqtt_4_3_3_4_pubrec_is_answered_with_a_pubrel_of_its_identifier(case: &Case) {
    let topic = case.topic("release");
    let mut receiver = case.client("release");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("release");
    for text in ["first", "second"] {
        publish(&mut sender, &Publish::new(&topic, text).qos(2));
    }
    // In their order, as a client has to (4.6.0-3).
    for message in take(&mut receiver, 2) {
        receiver.send_pubrec(&Ack::new(message.id));
        assert_eq!(receiver.expect_pubrel().id, message.id);
        receiver.send_pubcomp(&Ack::new(message.id));
    }
}

fn mqtt5_4_3_3_4_a_pubrec_that_refuses_is_not_answered(case: &Case) {
    let topic = case.topic("refused");
    let mut receiver = case.client("refused");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("refused");
    publish(&mut sender, &Publish::new(&topic, "unwanted").qos(2));
    let message = receiver.expect_publish();
    receiver.send_pubrec(&Ack::new(message.id).code(code::UNSPECIFIED));
    // The answer to a ping stands behind the one to PUBREC, if there is one.
    receiver.expect_nothing();
    publish(&mut sender, &Publish::new(&topic, "next").qos(2));
    assert_eq!(receiver.expect_publish().text(), "next");
}

fn mqtt_4_3_3_8_publish_is_answered_with_pubrec_and_the_message_is_delivered(case: &Case) {
    let topic = case.topic("kept");
    let mut receiver = case.client("kept");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("kept");
    let expected: Vec<String> = (0..15).map(|number| number.to_string()).collect();
    for text in &expected {
        publish(&mut sender, &Publish::new(&topic, text).qos(2));
    }
    sender.disconnect();
    assert_eq!(receiver.receive_texts(15), expected);
}

fn mqtt_4_3_3_8_pubrec_has_the_identifier_of_its_publish(case: &Case) {
    let topic = case.topic("answers");
    let mut client = case.client("answers");
    needs_qos(case, &client, 2);
    for id in [1, 255, 256, 32_768, 65_535] {
        client.send_publish(&Publish::new(&topic, "x").qos(2).id(id));
        let answered = client.expect("PUBREC", |packet| match packet {
            Packet::PubRec(ack) => Some(ack.id),
            _ => None,
        });
        assert_eq!(answered, id);
    }
}

fn mqtt5_4_3_3_9_after_a_refusing_pubrec_the_same_identifier_is_a_new_message(case: &Case) {
    let topic = case.topic("refusal");
    let mut receiver = case.client("refusal");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("refusal");
    // Topics of the server's own are the only ones that many servers refuse.
    let feigned = Publish::new("$SYS/broker/version", "feigned").qos(2).id(5);
    sender.send_publish(&feigned);
    if sender.await_pubrec(5).code < 0x80 {
        case.does_not_apply("the server refused nothing that was published");
    }
    sender.send_publish(&Publish::new(&topic, "new").qos(2).id(5));
    assert_eq!(sender.await_pubrec(5).code, 0);
    sender.send_pubrel(&Ack::new(5));
    assert_eq!(sender.await_pubcomp(5).code, 0);
    assert_eq!(receiver.receive().text(), "new");
}

fn mqtt_4_3_3_10_a_repeated_publish_is_answered_and_delivered_once(case: &Case) {
    let topic = case.topic("once");
    let mut receiver = case.client("once");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("once");
    let message = Publish::new(&topic, "once").qos(2).id(77);
    sender.send_publish(&message);
    assert!(sender.await_pubrec(77).code < 0x80);
    sender.send_publish(&message.clone().dup());
    // The answer to a ping stands behind the one to the repetition, if there is one.
    let answers = sender.fence();
    sender.send_pubrel(&Ack::new(77));
    sender.await_pubcomp(77);
    publish(&mut sender, &Publish::new(&topic, "end").qos(2));
    assert_eq!(receiver.receive().text(), "once");
    nothing_before(&mut receiver, "end");
    assert!(
        matches!(&answers[..], [Packet::PubRec(ack)] if ack.id == 77 && ack.code < 0x80),
        "the repetition was answered with {answers:?}"
    );
}

fn mqtt_4_3_3_10_a_publish_repeated_on_another_connection_is_delivered_once(case: &Case) {
    let topic = case.topic("replay");
    let mut receiver = case.client("replay");
    subscribe(case, &mut receiver, &topic, 2);
    let connect = case.lasting("replay");
    let message = Publish::new(&topic, "once").qos(2).id(5);
    let mut sender = case.open(&connect);
    sender.send_publish(&message);
    sender.await_pubrec(5);
    sender.vanish();

    let mut sender = case.open(&connect);
    resumed(&sender);
    sender.send_publish(&message.clone().dup());
    assert!(sender.await_pubrec(5).code < 0x80);
    sender.send_pubrel(&Ack::new(5));
    assert_eq!(sender.await_pubcomp(5).code, 0);
    publish(&mut sender, &Publish::new(&topic, "end").qos(2));
    assert_eq!(receiver.receive().text(), "once");
    nothing_before(&mut receiver, "end");
}

fn mqtt_4_3_3_11_pubrel_is_answered_with_a_pubcomp_of_its_identifier(case: &Case) {
    let topic = case.topic("complete");
    let mut client = case.client("complete");
    needs_qos(case, &client, 2);
    for id in [1, 65_535] {
        client.send_publish(&Publish::new(&topic, "x").qos(2).id(id));
        client.await_pubrec(id);
        client.send_pubrel(&Ack::new(id));
        let answered = client.expect("PUBCOMP", |packet| match packet {
            Packet::PubComp(ack) => Some(ack.id),
            _ => None,
        });
        assert_eq!(answered, id);
    }
}

fn mqtt_4_3_3_11_a_pubrel_without_its_publish_is_answered_too(case: &Case) {
    let mut client = case.client("stray");
    needs_qos(case, &client, 2);
    client.send_pubrel(&Ack::new(4711));
    // In MQTT 5 the code says that nothing was known; before, it cannot be said.
    let code = client.await_pubcomp(4711).code;
    assert!([0, code::ID_NOT_FOUND].contains(&code), "{code:#04x}");
}

fn mqtt_4_3_3_12_after_pubcomp_the_same_identifier_is_a_new_message(case: &Case) {
    let topic = case.topic("reused");
    let mut receiver = case.client("reused");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("reused");
    for text in ["once", "once", "twice"] {
        publish(&mut sender, &Publish::new(&topic, text).qos(2).id(77));
    }
    assert_eq!(receiver.receive_texts(3), ["once", "once", "twice"]);
}

fn mqtt5_4_3_3_13_an_exchange_goes_on_though_its_message_has_expired(case: &Case) {
    let mut sender = case.client("late");
    needs_qos(case, &sender, 2);
    let message = Publish::new(&case.topic("late"), "x").qos(2).id(5);
    sender.send_publish(&message.with(Property::MessageExpiry(1)));
    assert!(sender.await_pubrec(5).code < 0x80);
    thread::sleep(Duration::from_millis(2_200));
    sender.send_pubrel(&Ack::new(5));
    assert_eq!(
        sender.await_pubcomp(5).code,
        0,
        "the exchange was open still"
    );
}

fn mqtt5_3_4_acknowledgements_with_reasons_and_properties_are_accepted(case: &Case) {
    let topic = case.topic("reasons");
    let mut client = case.client("reasons");
    subscribe(case, &mut client, &topic, 2);
    let reason = |id| Ack {
        id,
        code: 0,
        properties: vec![
            Property::ReasonString("fine".into()),
            Property::user("a", "b"),
        ],
    };
    publish(&mut client, &Publish::new(&topic, "1").qos(1));
    let message = client.expect_publish();
    client.send_puback(&reason(message.id));
    publish(&mut client, &Publish::new(&topic, "2").qos(2));
    let message = client.expect_publish();
    client.send_pubrec(&reason(message.id));
    assert_eq!(client.expect_pubrel().id, message.id);
    client.send_pubcomp(&reason(message.id));
    client.expect_nothing();
}

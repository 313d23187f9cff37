//! MQTT 3.1: where it differs from 3.1.1. Most of what is alike runs at level 3 with its subject.

use tidegate_tests::wire::{Ack, Connect, Event, Packet, Publish, Version, Will, frame, patience};

use super::kit::{publish, subscribe, take};
use super::raw::{RawConnect, flag, watcher};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt31_3_1_the_name_is_mqisdp_and_the_level_3)
        .level3("CONNECT says `MQIsdp` and level 3")
        .fault(Fault::client(packet::CONNECT).altered("level 2", |frame| {
            let at = 2 + usize::from(frame.u16_at(0));
            frame.body[at] = 2;
        })),
    test!(mqtt31_3_1_the_names_and_levels_do_not_mix)
        .level3("`MQTT` at level 3 and `MQIsdp` at level 4 are no version")
        .fault(
            Fault::client(packet::CONNECT).altered("the name MQIsdp and level 3", |frame| {
                let end = 2 + usize::from(frame.u16_at(0));
                frame.body.splice(..=end, *b"\0\x06MQIsdp\x03");
            }),
        ),
    test!(mqtt31_3_1_an_unknown_level_is_answered_with_1)
        .level3("an unknown level is answered with return code 1")
        .fault(Fault::server(packet::CONNACK).altered("return code 2", |frame| frame.set_code(2))),
    test!(mqtt31_3_1_an_empty_client_identifier_is_refused)
        .level3("a client identifier has to be there: return code 2")
        .fault(
            Fault::client(packet::CONNECT).altered("an identifier", |frame| {
                frame.body.truncate(frame.body.len() - 2);
                frame.body.extend_from_slice(b"\0\x07present");
            }),
        ),
    test!(mqtt31_3_1_a_client_identifier_beyond_23_characters_is_taken_or_refused_with_2)
        .level3("beyond 23 characters a client identifier may be refused, with return code 2")
        .fault(Fault::server(packet::CONNACK).altered("return code 3", |frame| frame.set_code(3))),
    test!(mqtt31_3_2_connack_has_no_session_present)
        .level3("the first byte of CONNACK is reserved, also when a session is resumed")
        .fault(
            Fault::server(packet::CONNACK)
                .nth(2)
                .altered("Session Present", |frame| frame.body[0] = 1),
        ),
    test!(mqtt31_3_1_a_user_name_flag_without_a_user_name_is_taken)
        .level3(
            "a user name flag without a user name is taken: the length of the packet goes first",
        )
        .fault(Fault::server(packet::CONNACK).altered("return code 4", |frame| frame.set_code(4))),
    test!(mqtt31_3_1_the_will_at_each_qos_is_published)
        .level3("a will with a user name and a password behind it is published")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt31_3_8_a_subscribe_may_be_a_duplicate)
        .level3("SUBSCRIBE, UNSUBSCRIBE and PUBREL may come with DUP")
        .fault(Fault::server(packet::UNSUBACK)),
    test!(mqtt31_3_6_a_pubrel_may_be_a_duplicate)
        .level3("a PUBREL with DUP is answered with PUBCOMP")
        .fault(Fault::server(packet::PUBCOMP)),
    test!(mqtt31_3_9_suback_grants_0_1_or_2)
        .level3("SUBACK has a QoS for each filter, and no code of failure")
        .fault(
            Fault::server(packet::SUBACK).altered("0x80 for the last", |frame| {
                let last = frame.body.len() - 1;
                frame.body[last] = 0x80;
            }),
        ),
    test!(mqtt31_4_1_what_is_sent_again_has_dup)
        .level3("on reconnection messages are sent again with DUP and their identifiers")
        .fault(
            Fault::server(packet::PUBLISH)
                .nth(3)
                .altered("no DUP", |frame| {
                    frame.first &= !0x08;
                }),
        ),
    test!(mqtt31_4_1_a_pubrel_that_was_not_completed_is_sent_again)
        .level3("on reconnection PUBREL is sent again")
        .fault(Fault::server(packet::PUBREL).nth(2)),
    test!(mqtt31_3_14_there_is_no_disconnect_from_a_server)
        .level3("a server closes without a DISCONNECT")
        .fault(Fault::client(0x00).answered("DISCONNECT", |_| vec![0xE0, 0])),
    test!(mqtt31_messages_cross_to_and_from_other_versions)
        .level3("messages cross between the versions")
        .fault(Fault::server(packet::PUBLISH).nth(3)),
];

fn mqtt31_3_1_the_name_is_mqisdp_and_the_level_3(case: &Case) {
    let connect = RawConnect::of(case).name("MQIsdp").level(3);
    let mut client = case.dial();
    client.send(&connect.field(case.topic("name").as_bytes()).bytes());
    assert_eq!(client.expect_connack().code, 0);
    client.expect_nothing();
}

fn mqtt31_3_1_the_names_and_levels_do_not_mix(case: &Case) {
    for (name, level) in [
        ("MQTT", 3),
        ("MQIsdp", 4),
        ("MQIsdp", 5),
        ("MQISDP", 3),
        ("mqisdp", 3),
    ] {
        let connect = RawConnect::of(case).name(name).level(level);
        let mut client = case.dial();
        client.send(&connect.field(case.topic("mixed").as_bytes()).bytes());
        // Whichever version the answer is in, it refuses.
        let said = client.next_raw().unwrap_or_default();
        let fits = matches!(said.as_slice(), [] | [0x20, _, 0, 1..=5 | 0x80.., ..]);
        assert!(fits, "{name} at level {level}: {said:02x?}");
        while client.next_raw().is_some() {}
    }
}

fn mqtt31_3_1_an_unknown_level_is_answered_with_1(case: &Case) {
    let connect = RawConnect::of(case).level(2);
    let mut client = case.dial();
    client.send(&connect.field(case.topic("level").as_bytes()).bytes());
    assert_eq!(client.expect_connack().code, 1);
    client.expect_close();
}

fn mqtt31_3_1_an_empty_client_identifier_is_refused(case: &Case) {
    let refused = Connect::new(case.version(), "").refused(case.server());
    assert_eq!(refused.code, 2);
}

fn mqtt31_3_1_a_client_identifier_beyond_23_characters_is_taken_or_refused_with_2(case: &Case) {
    for length in [24, 64, 200] {
        let id = format!("{:x<length$}", case.topic("long"));
        let mut client = case.dial();
        client.send(&Connect::new(case.version(), &id).encode());
        let answer = client.expect_connack();
        match answer.code {
            0 => client.expect_nothing(),
            2 => client.expect_close(),
            _ => panic!("{length} characters: {answer:?}"),
        }
    }
}

fn mqtt31_3_2_connack_has_no_session_present(case: &Case) {
    let topic = case.topic("reserved");
    let lasting = case.lasting("reserved");
    let mut client = case.open(&lasting);
    subscribe(case, &mut client, &topic, 1);
    client.disconnect();
    let mut client = case.open(&lasting);
    assert!(!client.connack().session_present, "a reserved bit is set");
    publish(&mut client, &Publish::new(&topic, "resumed").qos(1));
    assert_eq!(client.receive().text(), "resumed");
}

fn mqtt31_3_1_a_user_name_flag_without_a_user_name_is_taken(case: &Case) {
    let connect = RawConnect::of(case).flags(flag::CLEAN | flag::USER_NAME | flag::PASSWORD);
    let mut client = case.dial();
    client.send(&connect.field(case.topic("missing").as_bytes()).bytes());
    assert_eq!(client.expect_connack().code, 0);
    client.expect_nothing();
}

fn mqtt31_3_1_the_will_at_each_qos_is_published(case: &Case) {
    let topic = case.topic("will");
    let mut watcher = watcher(case, &topic);
    for qos in 0..=2 {
        let will = Will::new(&topic, "gone").qos(qos);
        let connect = case
            .connect("will")
            .will(will)
            .user_name("user")
            .password(b"password");
        case.open(&connect).vanish();
        let message = watcher.receive();
        assert_eq!((message.text().as_str(), message.qos), ("gone", qos));
    }
}

fn mqtt31_3_8_a_subscribe_may_be_a_duplicate(case: &Case) {
    let topic = case.topic("again");
    let mut client = case.client("again");
    let mut filter = vec![0, 7];
    filter.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    filter.extend_from_slice(topic.as_bytes());
    let mut subscribe = filter.clone();
    subscribe.push(1);
    client.send(&frame(0x8A, &subscribe));
    let granted = client.expect("SUBACK", |packet| match packet {
        Packet::SubAck(answer) => Some((answer.id, answer.codes.clone())),
        _ => None,
    });
    assert_eq!(granted, (7, vec![1]));
    client.send(&frame(0xAA, &filter));
    let id = client.expect("UNSUBACK", |packet| match packet {
        Packet::UnsubAck(answer) => Some(answer.id),
        _ => None,
    });
    assert_eq!(id, 7);
}

fn mqtt31_3_6_a_pubrel_may_be_a_duplicate(case: &Case) {
    let mut client = case.client("release");
    client.send_publish(&Publish::new(&case.topic("release"), "x").qos(2).id(3));
    client.await_pubrec(3);
    client.send(&frame(0x6A, &[0, 3]));
    assert_eq!(client.await_pubcomp(3).id, 3);
}

fn mqtt31_3_9_suback_grants_0_1_or_2(case: &Case) {
    let topic = case.topic("grants");
    let names: Vec<String> = (0..3).map(|number| format!("{topic}/{number}")).collect();
    let filters: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(0..3).collect();
    let answer = case.client("grants").subscribe_with(&filters, &[]);
    assert_eq!(answer.codes.len(), 3, "{answer:?}");
    for (code, asked) in answer.codes.iter().zip(0..3) {
        assert!(*code <= asked, "QoS {asked}: {answer:?}");
    }
}

fn mqtt31_4_1_what_is_sent_again_has_dup(case: &Case) {
    let topic = case.topic("again");
    let lasting = case.lasting("again");
    let mut client = case.open(&lasting);
    subscribe(case, &mut client, &topic, 2);
    let mut sender = case.client("sender");
    for qos in 1..=2 {
        publish(
            &mut sender,
            &Publish::new(&topic, format!("QoS {qos}")).qos(qos),
        );
    }
    let first = take(&mut client, 2);
    assert!(first.iter().all(|message| !message.dup), "{first:?}");
    client.vanish();
    let mut client = case.open(&lasting);
    let again = take(&mut client, 2);
    for (first, again) in first.iter().zip(&again) {
        assert!(again.dup, "without DUP: {again:?}");
        assert_eq!((first.id, &first.payload), (again.id, &again.payload));
    }
}

fn mqtt31_4_1_a_pubrel_that_was_not_completed_is_sent_again(case: &Case) {
    let topic = case.topic("owed");
    let lasting = case.lasting("owed");
    let mut client = case.open(&lasting);
    subscribe(case, &mut client, &topic, 2);
    publish(&mut client, &Publish::new(&topic, "x").qos(2));
    let id = client.expect_publish().id;
    client.send_pubrec(&Ack::new(id));
    assert_eq!(client.expect_pubrel().id, id);
    client.vanish();
    let mut client = case.open(&lasting);
    // With DUP or, as since 3.1.1, without.
    assert_eq!(client.expect_pubrel().id, id);
    client.send_pubcomp(&Ack::new(id));
    client.expect_nothing();
}

fn mqtt31_3_14_there_is_no_disconnect_from_a_server(case: &Case) {
    let mut client = case.client("silent");
    client.send(&[0x00, 0x00]);
    let said = client.next_raw();
    assert!(said.is_none(), "the server said {said:02x?}");
    // And one that is replaced hears no more.
    let connect = case.connect("silent");
    let mut old = case.open(&connect);
    let _new = case.open(&connect);
    match old.next(patience()) {
        Event::Closed => {}
        other => panic!("the server was to close, {other:?} came"),
    }
}

fn mqtt31_messages_cross_to_and_from_other_versions(case: &Case) {
    let topic = case.topic("cross");
    let other_server = case.server_of(Version::V5).address() != case.server().address();
    if other_server {
        case.does_not_apply("the server speaks the versions at two addresses");
    }
    let mut clients: Vec<_> = Version::ALL
        .into_iter()
        .map(|version| {
            let mut client =
                Connect::new(version, &case.topic("cross")).open(case.server_of(version));
            client.subscribe_with(&[(&topic, 1)], &[]);
            client
        })
        .collect();
    for from in 0..clients.len() {
        let text = format!("from {from}");
        publish(&mut clients[from], &Publish::new(&topic, &text).qos(1));
        for client in &mut clients {
            assert_eq!(client.receive().text(), text);
        }
    }
}

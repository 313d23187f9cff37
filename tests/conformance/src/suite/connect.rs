//! CONNECT: MQTT 3.1.1 and 5.0 section 3.1. Client identifiers, wills, keep alive and the CONNACK are
//! subjects of their own.

use std::time::Duration;

use tidegate_tests::wire::{Packet, Property, Publish, frame};

use super::kit::{Retained, nothing_before, publish, resumed, subscribe};
use super::raw::{
    RawConnect, accepts, connack, ends, flag, last_words, nothing_published, refuses, send,
    set_flags, watcher,
};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_1_0_1_the_first_packet_is_connect)
        .mqtt3(&["3.1.0-1"])
        .mqtt5(&["3.1.0-1"])
        .level3("the first packet is CONNECT there, too")
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_0_2_a_second_connect_ends_the_connection)
        .mqtt3(&["3.1.0-2"])
        .mqtt5(&["3.1.0-2"])
        .level3("a second CONNECT ends the connection")
        .fault(Fault::client(packet::CONNECT).nth(2)),
    test!(mqtt_3_1_2_1_another_protocol_name_is_not_served)
        .mqtt3(&["3.1.2-1"])
        .mqtt5(&["3.1.2-1"])
        .fault(
            Fault::client(packet::CONNECT).altered("the protocol name MQTT", |frame| {
                let end = 2 + usize::from(frame.u16_at(0));
                frame.body.splice(..end, *b"\0\x04MQTT");
            }),
        ),
    test!(mqtt_3_1_2_2_an_unknown_level_is_refused)
        .mqtt3(&["3.1.2-2"])
        .mqtt5(&["3.1.2-2"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_2_3_the_reserved_flag_is_checked)
        .mqtt3(&["3.1.2-3"])
        .mqtt5(&["3.1.2-3"])
        .fault(
            Fault::client(packet::CONNECT)
                .altered("the reserved flag 0", |frame| set_flags(frame, 1, false)),
        ),
    test!(mqtt_3_1_2_4_a_clean_start_discards_the_session)
        .mqtt3(&["3.1.2-6", "3.1.4-3", "3.2.2-1"])
        .mqtt5(&["3.1.2-4", "3.1.4-4", "3.2.2-2"])
        .level3("a clean session discards the subscriptions of the old one")
        .fault(NOT_CLEAN_THE_SECOND_TIME),
    test!(mqtt_3_1_2_4_a_clean_session_leaves_nothing)
        .mqtt3(&["3.1.2-6", "3.2.2-3"])
        .level3("a clean session ends with its connection")
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("Clean Session 0", |frame| {
                    set_flags(frame, flag::CLEAN, false);
                }),
        ),
    test!(mqtt_3_1_2_5_a_session_is_resumed)
        .mqtt3(&["3.1.2-4", "3.2.2-2", "4.1.0-1"])
        .mqtt5(&["3.1.2-5", "3.1.2-23", "3.2.2-3"])
        .level3("subscriptions outlive the connection, and CONNACK does not say so")
        .fault(CLEAN_THE_SECOND_TIME),
    test!(mqtt_3_1_2_5_messages_for_a_session_that_is_away_are_kept)
        .mqtt3(&["3.1.2-5"])
        .mqtt5(&["3.1.2-23", "4.5.0-1"])
        .level3("messages of QoS 1 and 2 are kept for a session that is away")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt_3_1_2_6_without_a_session_a_new_one_begins)
        .mqtt3(&["3.1.2-4", "3.2.2-3"])
        .mqtt5(&["3.1.2-6", "3.2.2-3"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .altered("Session Present", |frame| frame.body[0] = 1),
        ),
    test!(mqtt3_3_1_2_7_retained_messages_outlive_the_session)
        .mqtt3(&["3.1.2-7"])
        .level3("retained messages outlive the session")
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt5_3_1_2_11_2_a_session_without_expiry_ends_with_its_connection)
        .mqtt5(&["3.2.2-3", "4.1.0-2"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("an expiry", |frame| {
                    frame.add_property(&Property::SessionExpiry(60));
                }),
        ),
    test!(mqtt5_3_1_2_11_2_a_session_ends_when_its_interval_is_over)
        .mqtt5(&["4.1.0-2"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("an expiry of a minute", |frame| {
                    frame.set_property(&Property::SessionExpiry(60));
                }),
        ),
    test!(mqtt5_3_1_2_11_2_a_session_outlives_a_shorter_absence)
        .mqtt5(&["3.1.2-23"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("no expiry", |frame| frame.remove_property(0x11)),
        ),
    test!(mqtt5_3_1_2_11_2_the_expiry_of_the_newest_connect_holds)
        .mqtt5(&["4.1.0-2"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(2)
                .altered("the expiry of the first", |frame| {
                    frame.set_property(&Property::SessionExpiry(600));
                }),
        ),
    test!(mqtt5_3_1_2_11_2_a_session_may_last_for_ever)
        .mqtt5(&["3.1.2-23"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("no expiry", |frame| frame.remove_property(0x11)),
        ),
    test!(mqtt_3_1_2_16_no_user_name_without_its_flag)
        .mqtt3(&["3.1.2-18"])
        .mqtt5(&["3.1.2-16"])
        .fault(
            Fault::client(packet::CONNECT).altered("the user name flag", |frame| {
                set_flags(frame, flag::USER_NAME, true);
            }),
        ),
    test!(mqtt_3_1_2_17_a_user_name_with_its_flag)
        .mqtt3(&["3.1.2-19"])
        .mqtt5(&["3.1.2-17"])
        .fault(
            Fault::client(packet::CONNECT).altered("no user name flag", |frame| {
                set_flags(frame, flag::USER_NAME, false);
            }),
        ),
    test!(mqtt_3_1_2_18_no_password_without_its_flag)
        .mqtt3(&["3.1.2-20"])
        .mqtt5(&["3.1.2-18"])
        .fault(
            Fault::client(packet::CONNECT).altered("the password flag", |frame| {
                set_flags(frame, flag::PASSWORD, true);
            }),
        ),
    test!(mqtt_3_1_2_19_a_password_with_its_flag)
        .mqtt3(&["3.1.2-21"])
        .mqtt5(&["3.1.2-19"])
        .fault(
            Fault::client(packet::CONNECT).altered("no password flag", |frame| {
                set_flags(frame, flag::PASSWORD, false);
            }),
        ),
    test!(mqtt3_3_1_2_22_no_password_without_a_user_name)
        .mqtt3(&["3.1.2-22"])
        .fault(Fault::client(packet::CONNECT).altered(
            "a user name's flag in its place",
            |frame| {
                set_flags(frame, flag::USER_NAME, true);
                set_flags(frame, flag::PASSWORD, false);
            },
        )),
    test!(mqtt5_3_1_2_9_a_password_may_come_without_a_user_name)
        .mqtt5(&["3.1.4-5"])
        .regression(&["MQTT 5 password without user name"])
        .fault(
            Fault::client(packet::CONNECT).altered("a user name's flag, too", |frame| {
                set_flags(frame, flag::USER_NAME, true);
            }),
        ),
    test!(mqtt_3_1_3_5_a_password_is_binary)
        .mqtt3(&["3.1.4-4"])
        .mqtt5(&["3.1.4-5"])
        .regression(&["binary password"])
        .fault(
            Fault::client(packet::CONNECT).altered("the password as the user name", |frame| {
                // What a server does that wants text in both: the fields change places.
                let at = frame.body.len() - 9;
                frame
                    .body
                    .splice(at.., [0, 4, 0xFF, 0, 0xFE, 0xC0, 0, 1, b'u']);
            }),
        ),
    test!(mqtt_3_1_3_user_name_and_password_may_be_empty)
        .mqtt3(&["3.1.4-4"])
        .mqtt5(&["3.1.4-5"])
        .fault(Fault::server(packet::CONNACK).altered("0x86", |frame| frame.set_code(0x86)))
        .fault_of_3(
            Fault::server(packet::CONNACK).altered("return code 4", |frame| frame.set_code(4)),
        ),
    test!(mqtt_3_1_3_1_the_fields_come_in_order)
        .mqtt3(&["3.1.3-1"])
        .mqtt5(&["3.1.3-1"])
        .level3("the payload of CONNECT is in the same order")
        .fault(Fault::server(packet::PUBLISH).altered(
            "the will's payload as its topic",
            |frame| {
                frame.set_payload(b"another field");
            },
        )),
    test!(mqtt_3_1_4_1_a_connect_of_another_form_ends_the_connection)
        .mqtt3(&["3.1.4-1", "3.2.2-6"])
        .mqtt5(&["3.1.4-1"])
        .fault(Fault::never_closes())
        .fault_of_3(Fault::client(packet::CONNECT).answered("CONNACK 3", |_| vec![0x20, 2, 0, 3])),
    test!(mqtt_3_1_4_5_a_connect_is_answered_with_success)
        .mqtt3(&["3.1.4-4"])
        .mqtt5(&["3.1.4-5"])
        .level3("a CONNECT that is accepted is answered with return code 0")
        .fault(Fault::server(packet::CONNACK)),
    test!(mqtt_3_1_4_6_nothing_behind_a_refused_connect_is_processed)
        .mqtt3(&["3.1.4-5"])
        .mqtt5(&["3.1.4-6"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"fence")
                .answered("what came behind the refused CONNECT before it", |frame| {
                    let mut behind = frame.clone();
                    behind.set_qos(0);
                    behind.set_payload(b"must not pass");
                    [behind.bytes(), frame.bytes()].concat()
                }),
        ),
    test!(mqtt_3_1_4_a_client_need_not_wait_for_the_connack)
        .mqtt3(&["3.2.0-1"])
        .mqtt5(&["3.2.0-1"])
        .fault(Fault::server(packet::CONNACK).swapped()),
];

const NOT_CLEAN_THE_SECOND_TIME: Fault =
    Fault::client(packet::CONNECT)
        .nth(2)
        .altered("a session that is not clean", |frame| {
            set_flags(frame, flag::CLEAN, false);
        });

const CLEAN_THE_SECOND_TIME: Fault =
    Fault::client(packet::CONNECT)
        .nth(2)
        .altered("a clean session", |frame| {
            set_flags(frame, flag::CLEAN, true);
        });

fn mqtt_3_1_0_1_the_first_packet_is_connect(case: &Case) {
    let version = case.version();
    let topic = case.topic("first");
    for (what, bytes) in [
        ("PINGREQ", vec![0xC0, 0]),
        ("PUBLISH", Publish::new(&topic, "x").encode(version)),
        (
            "PUBLISH of QoS 1",
            Publish::new(&topic, "x").qos(1).id(1).encode(version),
        ),
        ("DISCONNECT", vec![0xE0, 0]),
        ("PUBACK", vec![0x40, 2, 0, 1]),
        (
            "CONNACK",
            frame(0x20, if case.is_v5() { &[0, 0, 0] } else { &[0, 0] }),
        ),
    ] {
        refuses(case, &bytes, what);
    }
}

fn mqtt_3_1_0_2_a_second_connect_ends_the_connection(case: &Case) {
    // The same again, and one of another client: it is not as a takeover that the connection ends.
    let connect = case.connect("twice");
    for second in [connect.clone(), case.connect("other")] {
        let mut client = case.open(&connect);
        client.send(&second.encode());
        ends(&mut client, "a second CONNECT");
    }
}

fn mqtt_3_1_2_1_another_protocol_name_is_not_served(case: &Case) {
    for name in ["mqtt", "MQTTX", "MQT", "", "HTTP"] {
        let connect = RawConnect::of(case)
            .name(name)
            .field(case.topic("name").as_bytes());
        let mut client = case.dial();
        client.send(&connect.bytes());
        // What is said first tells already; then the connection is to end.
        refused(&client.next_raw().unwrap_or_default(), name);
        last_words(&mut client);
    }
    accepts(case);
}

/// Either nothing was said, or a CONNACK, in whichever form, that refuses.
#[track_caller]
fn refused(said: &[u8], what: &str) {
    let fits = match said {
        [] => true,
        [0x20, _, 0, code, ..] => *code != 0,
        _ => false,
    };
    assert!(fits, "{what}: {said:02x?}");
}

fn mqtt_3_1_2_2_an_unknown_level_is_refused(case: &Case) {
    // Below all there are, and for a server of MQTT 5.0 above all there are.
    let levels: &[u8] = if case.is_v5() {
        &[0, 2, 6, 100]
    } else {
        &[0, 1, 2]
    };
    for level in levels {
        let connect = RawConnect::of(case)
            .level(*level)
            .field(case.topic("level").as_bytes());
        let mut client = case.dial();
        client.send(&connect.bytes());
        let said = last_words(&mut client);
        if case.is_v5() {
            // Nothing; the answer of older versions; or 0x84.
            let fits = matches!(
                said.as_slice(),
                [] | [0x20, 2, 0, 1] | [0x20, _, 0, 0x84, ..]
            );
            assert!(fits, "level {level}: {said:02x?}");
        } else {
            assert_eq!(said, [0x20, 2, 0, 1], "level {level}");
        }
    }
    accepts(case);
}

fn mqtt_3_1_2_3_the_reserved_flag_is_checked(case: &Case) {
    let connect = RawConnect::of(case).flags(flag::CLEAN | 1);
    refuses(
        case,
        &connect.field(case.topic("reserved").as_bytes()).bytes(),
        "flag 0x01",
    );
}

fn mqtt_3_1_2_4_a_clean_start_discards_the_session(case: &Case) {
    let topic = case.topic("clean");
    let lasting = case.lasting("clean");
    let mut client = case.open(&lasting);
    subscribe(case, &mut client, &topic, 1);
    client.disconnect();
    let mut client = case.open(&lasting.clone().clean());
    assert!(!client.session_present(), "a clean start found a session");
    publish(&mut client, &Publish::new(&topic, "to nobody").qos(1));
    client.expect_nothing();
    client.disconnect();
}

fn mqtt_3_1_2_4_a_clean_session_leaves_nothing(case: &Case) {
    let topic = case.topic("nothing");
    let connect = case.connect("nothing");
    let mut client = case.open(&connect);
    subscribe(case, &mut client, &topic, 1);
    client.disconnect();
    let mut client = case.open(&connect.resume());
    assert!(!client.session_present(), "a clean session was kept");
    publish(&mut client, &Publish::new(&topic, "to nobody").qos(1));
    client.expect_nothing();
}

fn mqtt_3_1_2_5_a_session_is_resumed(case: &Case) {
    let topic = case.topic("resume");
    let lasting = case.lasting("resume");
    let mut client = case.open(&lasting);
    subscribe(case, &mut client, &topic, 1);
    client.disconnect();
    let mut client = case.open(&lasting);
    resumed(&client);
    publish(
        &mut client,
        &Publish::new(&topic, "still subscribed").qos(1),
    );
    assert_eq!(client.receive().text(), "still subscribed");
}

fn mqtt_3_1_2_5_messages_for_a_session_that_is_away_are_kept(case: &Case) {
    let topic = case.topic("away");
    let lasting = case.lasting("away");
    let mut client = case.open(&lasting);
    subscribe(case, &mut client, &topic, 2);
    client.disconnect();
    let mut sender = case.client("sender");
    publish(&mut sender, &Publish::new(&topic, "one").qos(1));
    publish(&mut sender, &Publish::new(&topic, "two").qos(2));
    let mut client = case.open(&lasting);
    for text in ["one", "two"] {
        assert_eq!(client.receive().text(), text);
    }
    client.expect_nothing();
}

fn mqtt_3_1_2_6_without_a_session_a_new_one_begins(case: &Case) {
    let topic = case.topic("new");
    let mut client = case.open(&case.lasting("new"));
    assert!(!client.session_present(), "there was nothing to resume");
    subscribe(case, &mut client, &topic, 1);
    publish(&mut client, &Publish::new(&topic, "works").qos(1));
    assert_eq!(client.receive().text(), "works");
}

fn mqtt3_3_1_2_7_retained_messages_outlive_the_session(case: &Case) {
    let topic = case.topic("outlive");
    let _cleared = Retained::new(case, &[Publish::new(&topic, "kept")]);
    // The session that published it is over: it was a clean one, and its connection is gone.
    let mut client = case.client("late");
    subscribe(case, &mut client, &topic, 1);
    assert_eq!(client.receive().text(), "kept");
}

fn mqtt5_3_1_2_11_2_a_session_without_expiry_ends_with_its_connection(case: &Case) {
    let connect = case.connect("ends");
    case.open(&connect).disconnect();
    assert!(
        !case.open(&connect.resume()).session_present(),
        "the session was kept"
    );
}

fn mqtt5_3_1_2_11_2_a_session_ends_when_its_interval_is_over(case: &Case) {
    let connect = case.connect("expires").expiry(1);
    case.open(&connect).disconnect();
    // Time is what is tested: past the interval, and the second that a timer may be coarse.
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(
        !case.open(&connect.resume()).session_present(),
        "the session was kept"
    );
}

fn mqtt5_3_1_2_11_2_a_session_outlives_a_shorter_absence(case: &Case) {
    let connect = case.connect("outlives").expiry(30);
    case.open(&connect).vanish();
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(
        case.open(&connect.resume()).session_present(),
        "the session was lost"
    );
}

fn mqtt_3_1_2_16_no_user_name_without_its_flag(case: &Case) {
    let connect = RawConnect::of(case)
        .field(case.topic("surplus").as_bytes())
        .field(b"user");
    refuses(case, &connect.bytes(), "a user name without its flag");
}

fn mqtt_3_1_2_17_a_user_name_with_its_flag(case: &Case) {
    let connect = RawConnect::of(case).flags(flag::CLEAN | flag::USER_NAME);
    refuses(
        case,
        &connect.field(case.topic("missing").as_bytes()).bytes(),
        "a flag without its user name",
    );
}

fn mqtt_3_1_2_18_no_password_without_its_flag(case: &Case) {
    let connect = RawConnect::of(case)
        .flags(flag::CLEAN | flag::USER_NAME)
        .field(case.topic("surplus").as_bytes())
        .field(b"user")
        .field(b"password");
    refuses(case, &connect.bytes(), "a password without its flag");
}

fn mqtt_3_1_2_19_a_password_with_its_flag(case: &Case) {
    let connect = RawConnect::of(case)
        .flags(flag::CLEAN | flag::USER_NAME | flag::PASSWORD)
        .field(case.topic("missing").as_bytes())
        .field(b"user");
    refuses(case, &connect.bytes(), "a flag without its password");
}

fn mqtt3_3_1_2_22_no_password_without_a_user_name(case: &Case) {
    let connect = RawConnect::of(case)
        .flags(flag::CLEAN | flag::PASSWORD)
        .field(case.topic("nameless").as_bytes())
        .field(b"password");
    refuses(case, &connect.bytes(), "a password without a user name");
}

fn mqtt5_3_1_2_9_a_password_may_come_without_a_user_name(case: &Case) {
    case.open(&case.connect("token").password(b"secret"))
        .expect_nothing();
}

fn mqtt_3_1_3_5_a_password_is_binary(case: &Case) {
    let connect = case
        .connect("binary")
        .user_name("u")
        .password(&[0xFF, 0x00, 0xFE, 0xC0]);
    case.open(&connect).expect_nothing();
}

fn mqtt_3_1_3_1_the_fields_come_in_order(case: &Case) {
    let topic = case.topic("order");
    let mut watcher = watcher(case, &topic);
    let id = case.topic("all");
    let connect = RawConnect::of(case)
        .flags(flag::CLEAN | flag::WILL | flag::USER_NAME | flag::PASSWORD)
        .field(id.as_bytes())
        .will(topic.as_bytes(), b"the will")
        .field(b"user")
        .field(b"password");
    let mut client = case.dial();
    client.send(&connect.bytes());
    assert_eq!(client.expect_connack().code, 0);
    client.vanish();
    assert_eq!(watcher.receive().text(), "the will");
}

fn mqtt_3_1_4_1_a_connect_of_another_form_ends_the_connection(case: &Case) {
    let id = case.topic("form");
    let whole = RawConnect::of(case).field(id.as_bytes());
    let body = whole.body();
    let mut rows = vec![
        ("nothing in it", frame(0x10, b"")),
        ("half a protocol name", frame(0x10, b"\0\x04MQ")),
        ("no flags", frame(0x10, &body[..7])),
        ("no keep alive", frame(0x10, &body[..8])),
        ("half a keep alive", frame(0x10, &body[..9])),
        (
            "bytes behind the end",
            whole.clone().bytes_more(b"\x09\x09").bytes(),
        ),
        ("flags of the fixed header", frame(0x11, &body)),
    ];
    if case.is_v5() {
        rows.push(("no properties", frame(0x10, &body[..10])));
        let mut longer = body.clone();
        longer[10] = 100;
        rows.push(("properties beyond the packet", frame(0x10, &longer)));
    }
    for (what, bytes) in rows {
        let mut client = case.dial();
        send(&mut client, &bytes);
        if case.is_v5() {
            ends(&mut client, what);
        } else {
            let said = client.next_raw();
            assert!(said.is_none(), "{what}: an answer came: {said:02x?}");
        }
    }
    accepts(case);
}

fn mqtt_3_1_4_5_a_connect_is_answered_with_success(case: &Case) {
    let mut client = case.dial();
    client.send(&case.connect("hello").encode());
    assert_eq!(client.expect_connack().code, 0);
    client.expect_nothing();
    client.disconnect();
}

fn mqtt_3_1_4_6_nothing_behind_a_refused_connect_is_processed(case: &Case) {
    let topic = case.topic("behind");
    let mut watcher = watcher(case, &topic);
    let id = case.topic("behind");
    let plain = RawConnect::of(case);
    let candidates = if case.is_v5() {
        // Some servers take a method that they do not have; then it is a level, and a flag, that there are
        // not.
        vec![
            plain
                .clone()
                .properties(b"\x15\0\x07unknown")
                .field(id.as_bytes()),
            plain.clone().level(6).field(id.as_bytes()),
            plain.flags(flag::CLEAN | 1).field(id.as_bytes()),
        ]
    } else {
        vec![
            plain.clone().flags(0).field(b""),
            plain.level(2).field(id.as_bytes()),
        ]
    };
    let mut refused = false;
    for connect in candidates {
        let mut client = case.dial();
        let mut bytes = connect.bytes();
        bytes.extend(Publish::new(&topic, "must not pass").encode(case.version()));
        send(&mut client, &bytes);
        // In whichever form it comes.
        let said = client.next_raw().unwrap_or_default();
        if matches!(connack(&said), Some((_, 0))) {
            // This server took it, and the message with it.
            watcher.receive();
            continue;
        }
        refused = true;
        nothing_published(&mut watcher, &topic);
    }
    if !refused {
        case.does_not_apply("the server refuses none of these");
    }
}

fn mqtt_3_1_4_a_client_need_not_wait_for_the_connack(case: &Case) {
    let topic = case.topic("eager");
    let version = case.version();
    let mut bytes = case.connect("eager").encode();
    let mut body = vec![0, 1];
    if case.is_v5() {
        body.push(0);
    }
    body.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    body.push(0);
    bytes.extend(frame(0x82, &body));
    bytes.extend(Publish::new(&topic, "early").encode(version));
    let mut client = case.dial();
    client.send(&bytes);
    assert_eq!(client.expect_connack().code, 0);
    let granted = client.expect("SUBACK", |packet| match packet {
        Packet::SubAck(answer) => Some(answer.codes.clone()),
        _ => None,
    });
    assert_eq!(granted, [0]);
    nothing_before(&mut client, "early");
}

fn mqtt5_3_1_2_11_2_the_expiry_of_the_newest_connect_holds(case: &Case) {
    let lasting = case.lasting("newest");
    case.open(&lasting).disconnect();
    let mut shorter = lasting.clone();
    shorter.properties = vec![Property::SessionExpiry(0)];
    let client = case.open(&shorter);
    assert!(client.session_present());
    client.disconnect();
    assert!(
        !case.open(&shorter).session_present(),
        "the session was kept"
    );
}

fn mqtt5_3_1_2_11_2_a_session_may_last_for_ever(case: &Case) {
    let lasting = case.connect("ever").resume().expiry(u32::MAX);
    // A server may say that it keeps it for less.
    case.open(&lasting).disconnect();
    let client = case.open(&lasting);
    assert!(client.session_present(), "the session was lost");
    // Nobody wants it for that long.
    client.disconnect_with(0, &[Property::SessionExpiry(0)]);
}

fn mqtt_3_1_3_user_name_and_password_may_be_empty(case: &Case) {
    for connect in [
        case.connect("empty").user_name(""),
        case.connect("empty").user_name("").password(b""),
        case.connect("empty").user_name("user").password(b""),
    ] {
        case.open(&connect).expect_nothing();
    }
}

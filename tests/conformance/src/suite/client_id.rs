//! Client identifiers, and connections that share one: MQTT 3.1.1 and 5.0 sections 3.1.3.1 and 3.1.4.

use std::time::{Duration, Instant};

use tidegate_tests::wire::{
    Client, Connect, Event, Packet, Property, Publish, Version, code, patience,
};

use super::kit::{publish, resumed, subscribe};
use super::raw::{RawConnect, ends, flag, refuses, set_client_id, set_flags};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_1_4_3_a_takeover_resumes_the_session)
        .mqtt3(&["3.1.2-4", "3.1.4-2", "3.2.2-2"])
        .mqtt5(&["3.1.2-5", "3.1.4-3", "3.2.2-3"])
        .level3("a takeover resumes the session")
        .fault(CLEAN_THE_SECOND_TIME),
    test!(mqtt_3_1_3_2_sessions_go_by_the_client_identifier)
        .mqtt3(&["3.1.3-2"])
        .mqtt5(&["3.1.3-2"])
        .level3("sessions are told apart by their client identifiers")
        .fault(Fault::server(packet::PUBLISH).nth(1).altered(
            "the other client's message",
            |frame| {
                frame.set_payload(b"other");
            },
        )),
    test!(mqtt_3_1_3_3_the_client_identifier_is_there)
        .mqtt3(&["3.1.3-3", "3.1.4-1"])
        .mqtt5(&["3.1.3-3", "3.1.4-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_3_5_letters_and_digits_up_to_23_are_a_client_identifier)
        .mqtt3(&["3.1.3-5"])
        .mqtt5(&["3.1.3-5"])
        .level3("client identifiers of 1 to 23 characters are taken")
        .fault(
            Fault::server(packet::CONNACK)
                .nth(4)
                .altered("0x85", |frame| frame.set_code(0x85)),
        )
        .fault_of_3(
            Fault::server(packet::CONNACK)
                .nth(4)
                .altered("return code 2", |frame| frame.set_code(2)),
        ),
    test!(mqtt_3_1_3_6_clients_without_identifier_are_told_apart)
        .mqtt3(&["3.1.3-6"])
        .mqtt5(&["3.1.3-6"])
        .fault(
            Fault::client(packet::CONNECT).altered("one identifier for all", |frame| {
                set_client_id(frame, "one-for-all");
            }),
        ),
    test!(mqtt5_3_1_3_7_an_assigned_identifier_is_told_and_can_be_used)
        .mqtt5(&["3.1.3-7", "3.2.2-16"])
        .fault(
            Fault::server(packet::CONNACK).altered("no Assigned Client Identifier", |frame| {
                frame.remove_property(0x12);
            }),
        ),
    test!(mqtt5_3_2_2_16_assigned_identifiers_are_new)
        .mqtt5(&["3.1.3-6", "3.2.2-16"])
        .fault(
            Fault::server(packet::CONNACK).altered("the same identifier for all", |frame| {
                frame.set_property(&Property::AssignedClientId("same".to_owned()));
            }),
        ),
    test!(mqtt3_3_1_3_8_no_identifier_needs_a_clean_session)
        .mqtt3(&["3.1.3-8", "3.1.3-9"])
        .fault(Fault::server(packet::CONNACK).altered("return code 5", |frame| frame.set_code(5))),
    test!(mqtt5_3_1_3_8_a_client_identifier_that_is_refused_ends_the_connection)
        .mqtt5(&["3.1.3-8"])
        .fault(Fault::server(packet::CONNACK).altered("0x8E", |frame| frame.set_code(0x8E))),
    test!(mqtt_3_1_4_3_a_takeover_ends_the_older_connection)
        .mqtt3(&["3.1.4-2"])
        .mqtt5(&["3.1.4-3"])
        .level3("the older connection of a client identifier is ended")
        .fault(Fault::never_closes()),
    test!(mqtt5_3_1_4_3_the_older_connection_is_told_the_truth)
        .mqtt5(&["3.1.4-3"])
        .fault(Fault::server(packet::DISCONNECT).altered("0x8B", |frame| frame.set_code(0x8B))),
    test!(mqtt_3_1_4_3_a_takeover_knows_no_versions)
        .mqtt3(&["3.1.4-2"])
        .mqtt5(&["3.1.4-3"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_4_3_of_many_at_once_one_stays)
        .mqtt3(&["3.1.4-2"])
        .mqtt5(&["3.1.4-3"])
        .level3("of many connections of a client identifier one stays")
        .fault(Fault::never_closes()),
];

const CLEAN_THE_SECOND_TIME: Fault =
    Fault::client(packet::CONNECT)
        .nth(2)
        .altered("a clean session", |frame| {
            set_flags(frame, flag::CLEAN, true);
        });

fn mqtt_3_1_3_2_sessions_go_by_the_client_identifier(case: &Case) {
    let topic = case.topic("whose");
    let ids = [case.lasting("whose"), case.lasting("whose")];
    for (number, lasting) in ids.iter().enumerate() {
        let mut client = case.open(lasting);
        subscribe(case, &mut client, &format!("{topic}/{number}"), 1);
        client.disconnect();
    }
    let mut sender = case.client("sender");
    for number in 0..ids.len() {
        let message = Publish::new(&format!("{topic}/{number}"), number.to_string());
        publish(&mut sender, &message.qos(1));
    }
    for (number, lasting) in ids.iter().enumerate() {
        let mut client = case.open(lasting);
        assert_eq!(client.receive().text(), number.to_string());
        client.expect_nothing();
    }
}

fn mqtt_3_1_3_3_the_client_identifier_is_there(case: &Case) {
    refuses(case, &RawConnect::of(case).bytes(), "no payload at all");
    refuses(
        case,
        &RawConnect::of(case).bytes_more(&[0]).bytes(),
        "half a length",
    );
    refuses(
        case,
        &RawConnect::of(case).bytes_more(b"\0\x05id").bytes(),
        "half an identifier",
    );
}

fn mqtt_3_1_3_5_letters_and_digits_up_to_23_are_a_client_identifier(case: &Case) {
    // A digit for the version: cases of all of them run at the same time.
    let version = case.version().level();
    let all: Vec<char> = ('0'..='9').chain('a'..='z').chain('A'..='Z').collect();
    let mut ids: Vec<String> = all
        .chunks(22)
        .map(|part| format!("{version}{}", part.iter().collect::<String>()))
        .collect();
    ids.push(version.to_string());
    for id in ids {
        let mut client = case.open(&Connect::new(case.version(), &id));
        client.expect_nothing();
    }
}

fn nameless(case: &Case) -> Client {
    let mut client = case.dial();
    client.send(&Connect::new(case.version(), "").encode());
    let answer = client.expect_connack();
    if matches!(answer.code, 2 | code::CLIENT_ID) {
        case.does_not_apply("the server wants a client identifier");
    }
    assert_eq!(answer.code, 0, "{answer:?}");
    client
}

fn mqtt_3_1_3_6_clients_without_identifier_are_told_apart(case: &Case) {
    let mut clients = [nameless(case), nameless(case), nameless(case)];
    // Were they the same, the last would have ended the others.
    for client in &mut clients {
        client.expect_nothing();
    }
}

#[track_caller]
fn assigned(case: &Case, connect: &Connect) -> (Client, String) {
    let mut client = case.dial();
    client.send(&connect.encode());
    let answer = client.expect_connack();
    if answer.code == code::CLIENT_ID {
        case.does_not_apply("the server wants a client identifier");
    }
    assert_eq!(answer.code, 0, "{answer:?}");
    let id = answer
        .properties
        .iter()
        .find_map(|property| match property {
            Property::AssignedClientId(id) => Some(id.clone()),
            _ => None,
        });
    let id = id.unwrap_or_else(|| panic!("no identifier was assigned: {answer:?}"));
    assert!(!id.is_empty(), "an empty identifier was assigned");
    (client, id)
}

fn mqtt5_3_1_3_7_an_assigned_identifier_is_told_and_can_be_used(case: &Case) {
    let connect = Connect::v5("").expiry(60);
    let (client, id) = assigned(case, &connect);
    client.disconnect();
    let back = Connect::v5(&id).resume();
    assert!(
        case.open(&back).session_present(),
        "{id} is not the session's identifier"
    );
}

fn mqtt5_3_2_2_16_assigned_identifiers_are_new(case: &Case) {
    let clients: Vec<(Client, String)> = (0..4).map(|_| assigned(case, &Connect::v5(""))).collect();
    let mut ids: Vec<&String> = clients.iter().map(|(_, id)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), clients.len(), "an identifier was assigned twice");
}

fn mqtt3_3_1_3_8_no_identifier_needs_a_clean_session(case: &Case) {
    let refused = Connect::new(case.version(), "")
        .resume()
        .refused(case.server());
    assert_eq!(refused.code, 2);
}

fn mqtt5_3_1_3_8_a_client_identifier_that_is_refused_ends_the_connection(case: &Case) {
    // As long as a string may be, and with characters that no server has to take.
    let id = "\u{1F300}/#+".repeat(9_000);
    let mut client = case.dial();
    client.send(&Connect::v5(&id).encode());
    match client.next(patience()) {
        Event::Closed => {}
        Event::Packet(Packet::ConnAck(answer)) if answer.code == 0 => {
            case.does_not_apply("the server takes any client identifier");
        }
        Event::Packet(Packet::ConnAck(answer)) => {
            // 0x85, or 0x95 and 0x97, which are about its size.
            assert!(
                matches!(answer.code, code::CLIENT_ID | 0x95 | 0x97),
                "{answer:?}"
            );
            client.expect_close();
        }
        other => panic!("{other:?}"),
    }
}

fn mqtt_3_1_4_3_a_takeover_ends_the_older_connection(case: &Case) {
    let connect = case.connect("taken");
    let mut first = case.open(&connect);
    let mut second = case.open(&connect);
    ends(&mut first, "the older connection");
    second.expect_nothing();
}

fn mqtt5_3_1_4_3_the_older_connection_is_told_the_truth(case: &Case) {
    let connect = case.connect("told");
    let mut first = case.open(&connect);
    let _second = case.open(&connect);
    // 4.13.2: closed it must be, whether or not it is told.
    let told = ends(&mut first, "the older connection");
    assert!(matches!(told, None | Some(code::TAKEN_OVER)), "{told:02x?}");
}

fn mqtt_3_1_4_3_a_takeover_knows_no_versions(case: &Case) {
    let connect = case.connect("crosses");
    let mut other = connect.clone();
    other.version = if case.is_v5() {
        Version::V311
    } else {
        Version::V5
    };
    if case.server_of(other.version).address() != case.server().address() {
        case.does_not_apply("the server speaks the versions at two addresses");
    }
    let mut first = case.open(&other);
    let mut second = case.open(&connect);
    ends(&mut first, "the older connection");
    second.expect_nothing();
}

fn mqtt_3_1_4_3_of_many_at_once_one_stays(case: &Case) {
    let connect = case.lasting("crowd");
    let mut clients: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = case.dial();
            client.send(&connect.encode());
            client
        })
        .collect();
    // All are under way at once. One that is replaced may hear so before its CONNACK or after.
    let since = Instant::now();
    while clients.len() > 1 && since.elapsed() < patience() {
        clients.retain_mut(is_there);
    }
    assert_eq!(clients.len(), 1, "connections of one client identifier");
    for client in &mut clients {
        client.fence();
    }
}

/// Whether the server has not closed, as far as a ping tells.
fn is_there(client: &mut Client) -> bool {
    if client.try_send(&[0xC0, 0]).is_err() {
        return false;
    }
    loop {
        match client.next(Duration::from_millis(300)) {
            Event::Packet(Packet::PingResp) | Event::Silence => return true,
            Event::Packet(Packet::ConnAck(answer)) => assert_eq!(answer.code, 0),
            Event::Packet(Packet::Disconnect(reason)) => assert_eq!(reason.code, code::TAKEN_OVER),
            Event::Packet(other) => panic!("{other:?}"),
            Event::Closed => return false,
        }
    }
}

fn mqtt_3_1_4_3_a_takeover_resumes_the_session(case: &Case) {
    let topic = case.topic("moves");
    let lasting = case.lasting("moves");
    let mut old = case.open(&lasting);
    subscribe(case, &mut old, &topic, 1);
    let mut new = case.open(&lasting);
    ends(&mut old, "the older connection");
    resumed(&new);
    publish(&mut new, &Publish::new(&topic, "kept").qos(1));
    assert_eq!(new.receive().text(), "kept");
}

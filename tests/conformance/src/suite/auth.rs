//! Enhanced authentication: MQTT 5.0 sections 3.15 and 4.12.
//!
//! Which methods there are is a server's own affair; a server may have none. The tests name one that
//! nobody has, and hold whatever AUTH packets come to the clauses.

use tidegate_tests::wire::{
    Connect, Event, Packet, Property, Publish, Reason, auth, code, frame, patience,
};

use super::kit::told;
use super::raw::{accepts, ends, refuses, send};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::frame::Frame;
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_4_12_0_1_a_method_that_is_not_supported_is_refused)
        .mqtt5(&["4.12.0-1", "3.1.4-2"])
        .fault(
            Fault::client(packet::CONNECT).altered("no authentication method", |frame| {
                frame.remove_property(0x15);
            }),
        ),
    test!(mqtt5_4_12_0_4_a_rejection_ends_the_connection)
        .mqtt5(&["4.12.0-4", "3.1.4-2"])
        .fault(Fault::never_closes()),
    test!(mqtt5_4_12_0_2_the_servers_auth_asks_to_go_on)
        .mqtt5(&["4.12.0-2"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .answered("AUTH 0x19", |_| auth(0x19, &[method()])),
        ),
    test!(mqtt5_4_12_0_5_the_method_is_named_in_each_answer)
        .mqtt5(&["4.12.0-5"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .answered("AUTH without a method", |_| auth(0x18, &[])),
        ),
    test!(mqtt5_4_12_0_5_success_names_the_method)
        .mqtt5(&["4.12.0-5"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .answered("CONNACK 0x00 without a method", |_| vec![0x20, 3, 0, 0, 0]),
        ),
    test!(mqtt5_3_15_2_1_the_reason_is_one_of_those_listed)
        .mqtt5(&["3.15.2-1"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .answered("AUTH 0x17", |_| auth(0x17, &[method()])),
        ),
    test!(mqtt5_3_15_2_2_a_reason_string_fits_the_client)
        .mqtt5(&["3.15.2-2"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .answered("AUTH with a long reason", |_| {
                    auth(0x18, &[method(), Property::ReasonString("r".repeat(300))])
                }),
        ),
    test!(mqtt5_3_15_2_3_user_properties_fit_the_client)
        .mqtt5(&["3.15.2-3"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .answered("AUTH with a long user property", |_| {
                    auth(0x18, &[method(), Property::user("name", &"v".repeat(300))])
                }),
        ),
    test!(mqtt5_4_12_0_6_no_auth_for_a_client_without_method)
        .mqtt5(&["4.12.0-6"])
        .fault(Fault::server(packet::CONNACK).answered("AUTH first", first_an_auth)),
    test!(mqtt5_4_12_0_6_no_method_for_a_client_without_one)
        .mqtt5(&["4.12.0-6"])
        .fault(
            Fault::server(packet::CONNACK)
                .altered("a method", |frame| frame.add_property(&method())),
        ),
    test!(mqtt5_3_15_1_1_reserved_flags_end_the_connection)
        .mqtt5(&["3.15.1-1"])
        .fault(Fault::never_closes()),
    test!(mqtt5_3_15_an_auth_before_connect_ends_the_connection)
        .mqtt5(&["3.1.0-1"])
        .regression(&["AUTH before CONNACK"])
        .fault(Fault::never_closes()),
    test!(mqtt5_4_12_an_auth_behind_a_connect_without_method_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .regression(&["AUTH before CONNACK"])
        .fault(Fault::client(packet::AUTH)),
    test!(mqtt5_4_12_an_auth_after_connack_without_method_ends_the_connection)
        .mqtt5(&["4.13.1-1"])
        .regression(&["AUTH after CONNACK"])
        .fault(Fault::client(packet::AUTH)),
    test!(mqtt5_4_12_1_2_a_failed_reauthentication_ends_the_connection)
        .mqtt5(&["4.12.1-2"])
        .fault(Fault::server(packet::CONNACK).nth(1).answered(
            "success, also for what comes next",
            |_| {
                let mut body = frame(0, &[&[0x15, 0, 14][..], b"no-such-method"].concat());
                body.splice(..1, [0, 0]);
                [frame(0x20, &body), auth(0, &[method()])].concat()
            },
        )),
    test!(mqtt5_3_1_2_11_10_data_without_a_method_is_a_protocol_error)
        .mqtt5(&["4.13.1-1", "3.1.4-1"])
        .fault(
            Fault::client(packet::CONNECT).altered("no authentication data", |frame| {
                frame.remove_property(0x16);
            }),
        ),
    test!(mqtt3_2_2_1_an_auth_is_no_packet)
        .mqtt3(&["4.8.0-1"])
        .level3("type 15 is reserved")
        .fault(Fault::never_closes()),
];

fn method() -> Property {
    Property::AuthenticationMethod("no-such-method".to_owned())
}

fn first_an_auth(connack: &Frame) -> Vec<u8> {
    [auth(0x18, &[]), connack.bytes()].concat()
}

fn with_method(case: &Case) -> Connect {
    case.connect("method").with(method())
}

/// Everything that comes to a client that names the method, until the server closes or waits.
#[track_caller]
fn answers(case: &Case, connect: &Connect) -> Vec<Packet> {
    let mut client = case.dial();
    client.send(&connect.encode());
    let mut seen = Vec::new();
    loop {
        match client.next(patience()) {
            Event::Packet(packet) => {
                let waits = matches!(&packet, Packet::Auth(_))
                    || matches!(&packet, Packet::ConnAck(answer) if answer.code == 0);
                seen.push(packet);
                if waits {
                    return seen;
                }
            }
            Event::Closed => return seen,
            Event::Silence => panic!("neither an answer nor an end: {seen:?}"),
        }
    }
}

fn mqtt5_4_12_0_1_a_method_that_is_not_supported_is_refused(case: &Case) {
    for connect in [
        with_method(case),
        with_method(case).with(Property::AuthenticationData(b"client first".to_vec())),
    ] {
        let refused = refuses(case, &connect.encode(), "a method that nobody has");
        // 0x8C Bad authentication method, 0x87 Not authorized, or no word at all.
        assert!(
            matches!(refused, None | Some(code::AUTH_METHOD | 0x87)),
            "{refused:02x?}"
        );
    }
}

fn mqtt5_4_12_0_4_a_rejection_ends_the_connection(case: &Case) {
    refuses(
        case,
        &with_method(case).encode(),
        "an authentication that must fail",
    );
}

/// Ends a test in which the server had no occasion to break the clause: it has to be one that accepts
/// clients, and then the clause asks nothing of it.
#[track_caller]
fn never_came(case: &Case, what: &str) -> ! {
    accepts(case);
    case.does_not_apply(&format!("the server sends no {what}"))
}

/// The AUTH packets that come to a client which names the method.
#[track_caller]
fn auths(case: &Case, connect: &Connect) -> Vec<Reason> {
    let auths = answers(case, connect).into_iter();
    auths
        .filter_map(|packet| match packet {
            Packet::Auth(reason) => Some(reason),
            _ => None,
        })
        .collect()
}

fn mqtt5_4_12_0_2_the_servers_auth_asks_to_go_on(case: &Case) {
    let auths = auths(case, &with_method(case));
    for reason in &auths {
        assert_eq!(reason.code, 0x18, "an AUTH before CONNACK: {reason:?}");
    }
    if auths.is_empty() {
        never_came(case, "AUTH");
    }
}

#[track_caller]
fn names_the_method(case: &Case) {
    let mut named_it = false;
    for packet in answers(case, &with_method(case)) {
        let named = match &packet {
            Packet::Auth(reason) => &reason.properties,
            Packet::ConnAck(answer) if answer.code == 0 => &answer.properties,
            _ => continue,
        };
        assert!(named.contains(&method()), "{packet:?}");
        named_it = true;
    }
    if !named_it {
        never_came(case, "AUTH, nor accepts the method");
    }
}

fn mqtt5_4_12_0_5_the_method_is_named_in_each_answer(case: &Case) {
    names_the_method(case);
}

fn mqtt5_4_12_0_5_success_names_the_method(case: &Case) {
    names_the_method(case);
}

fn mqtt5_3_15_2_1_the_reason_is_one_of_those_listed(case: &Case) {
    let auths = auths(case, &with_method(case));
    for reason in &auths {
        assert!(matches!(reason.code, 0 | 0x18 | 0x19), "{reason:?}");
    }
    if auths.is_empty() {
        never_came(case, "AUTH");
    }
}

/// No AUTH is larger than a client takes.
#[track_caller]
fn auths_fit(case: &Case) {
    let most = 100;
    let connect = with_method(case).with(Property::MaximumPacketSize(most));
    let auths = auths(case, &connect);
    for reason in &auths {
        let length = auth(reason.code, &reason.properties).len();
        assert!(
            length <= most as usize,
            "{length} bytes for a client that takes {most}"
        );
    }
    if auths.is_empty() {
        never_came(case, "AUTH");
    }
}

fn mqtt5_3_15_2_2_a_reason_string_fits_the_client(case: &Case) {
    auths_fit(case);
}

fn mqtt5_3_15_2_3_user_properties_fit_the_client(case: &Case) {
    auths_fit(case);
}

fn mqtt5_4_12_0_6_no_auth_for_a_client_without_method(case: &Case) {
    let topic = case.topic("plain");
    let mut client = case.dial();
    client.send(&case.connect("plain").encode());
    let first = client.next(patience());
    assert!(
        matches!(first, Event::Packet(Packet::ConnAck(_))),
        "{first:?}"
    );
    client.publish(&Publish::new(&topic, "x").qos(1));
    client.expect_nothing();
}

fn mqtt5_4_12_0_6_no_method_for_a_client_without_one(case: &Case) {
    let client = case.client("plain");
    let named = told(&client, |property| match property {
        Property::AuthenticationMethod(name) => Some(name.clone()),
        _ => None,
    });
    assert_eq!(named, None);
}

fn mqtt5_3_15_1_1_reserved_flags_end_the_connection(case: &Case) {
    for flags in [1, 2, 4, 8] {
        let mut bytes = auth(0x18, &[method()]);
        bytes[0] |= flags;
        let mut client = case.client("flags");
        client.send(&bytes);
        ends(&mut client, "an AUTH with reserved flags");
    }
}

fn mqtt5_3_15_an_auth_before_connect_ends_the_connection(case: &Case) {
    for bytes in [
        auth(0x18, &[method()]),
        auth(0x19, &[method()]),
        vec![0xF0, 0],
    ] {
        refuses(case, &bytes, "an AUTH before CONNECT");
    }
}

fn mqtt5_4_12_an_auth_behind_a_connect_without_method_ends_the_connection(case: &Case) {
    let mut client = case.dial();
    let mut bytes = case.connect("behind").encode();
    bytes.extend(auth(0x18, &[method()]));
    client.send(&bytes);
    // Whether the CONNECT is answered before the AUTH is read is the server's affair.
    let event = client.next(patience());
    match event {
        Event::Packet(Packet::ConnAck(answer)) if answer.code == 0 => {
            ends(&mut client, "an AUTH without a method in CONNECT");
        }
        Event::Packet(Packet::ConnAck(_)) => client.expect_close(),
        Event::Closed => {}
        other => panic!("{other:?}"),
    }
}

fn mqtt5_4_12_an_auth_after_connack_without_method_ends_the_connection(case: &Case) {
    let mut packets: Vec<Vec<u8>> = [0x18, 0x19, 0x00]
        .map(|reason| auth(reason, &[method()]))
        .to_vec();
    packets.push(vec![0xF0, 0]);
    for bytes in packets {
        let mut client = case.client("after");
        client.send(&bytes);
        ends(&mut client, "an AUTH without a method in CONNECT");
    }
}

/// Another method than in CONNECT, with data that nobody knows: it must fail.
fn mqtt5_4_12_1_2_a_failed_reauthentication_ends_the_connection(case: &Case) {
    let mut client = case.dial();
    client.send(&with_method(case).encode());
    match client.next(patience()) {
        Event::Packet(Packet::ConnAck(answer)) if answer.code == 0 => {}
        Event::Silence => panic!("neither an answer nor an end"),
        _ => never_came(case, "CONNACK of success to a method"),
    }
    let another = Property::AuthenticationMethod("another-method".to_owned());
    let data = Property::AuthenticationData(b"wrong".to_vec());
    send(&mut client, &auth(0x19, &[another, data]));
    ends(&mut client, "a re-authentication that fails");
}

fn mqtt5_3_1_2_11_10_data_without_a_method_is_a_protocol_error(case: &Case) {
    let connect = case.connect("data");
    let connect = connect.with(Property::AuthenticationData(b"data".to_vec()));
    refuses(
        case,
        &connect.encode(),
        "authentication data without a method",
    );
}

fn mqtt3_2_2_1_an_auth_is_no_packet(case: &Case) {
    for bytes in [vec![0xF0, 0], auth(0x18, &[method()])] {
        let mut client = case.client("none");
        client.send(&bytes);
        ends(&mut client, "a packet of type 15");
    }
}

//! DISCONNECT: MQTT 3.1.1 and 5.0 section 3.14.

use std::thread;
use std::time::Duration;

use tidegate_tests::wire::{
    Connect, Event, Packet, Property, Publish, Reason, Will, code, disconnect, frame, patience,
};

use super::raw::{RawConnect, ends, no_will_before, send, watcher};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

/// A DISCONNECT that asks for the will. It is published before the connection is closed; what becomes
/// of one that is cut off comes some time after.
const WITH_WILL: Fault = Fault::client(packet::DISCONNECT)
    .nth(1)
    .altered("reason 0x04", |frame| frame.set_code(code::WITH_WILL));

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_14_0_1_no_disconnect_before_connack)
        .mqtt5(&["3.14.0-1"])
        .fault(Fault::client(packet::PINGREQ).answered("DISCONNECT 0x82", |_| vec![0xE0, 1, 0x82])),
    test!(mqtt_3_14_1_1_reserved_bits_are_checked)
        .mqtt3(&["3.14.1-1"])
        .mqtt5(&["3.14.1-1"])
        .fault(Fault::client(packet::DISCONNECT).altered("flags 0", |frame| frame.first = 0xE0)),
    test!(mqtt5_3_14_2_1_the_reason_is_one_of_those_listed)
        .mqtt5(&["3.14.2-1"])
        .fault(Fault::server(packet::DISCONNECT).altered("0x85", |frame| frame.set_code(0x85))),
    test!(mqtt5_3_14_2_2_the_server_tells_no_session_expiry)
        .mqtt5(&["3.14.2-2"])
        .fault(
            Fault::server(packet::DISCONNECT).altered("a session expiry", |frame| {
                frame.add_property(&Property::SessionExpiry(60));
            }),
        ),
    test!(mqtt5_3_14_2_3_a_reason_string_fits_the_client)
        .mqtt5(&["3.14.2-3"])
        .fault(
            Fault::server(packet::DISCONNECT).altered("a long reason", |frame| {
                frame.remove_property(0x1F);
                frame.add_property(&Property::ReasonString("r".repeat(300)));
            }),
        ),
    test!(mqtt5_3_14_2_4_user_properties_fit_the_client)
        .mqtt5(&["3.14.2-4"])
        .fault(
            Fault::server(packet::DISCONNECT).altered("a long user property", |frame| {
                frame.add_property(&Property::user("name", &"v".repeat(300)));
            }),
        ),
    test!(mqtt5_3_14_2_2_2_an_expiry_in_disconnect_holds)
        .mqtt5(&["4.1.0-2"])
        .regression(&["session expiry changed in DISCONNECT"])
        .fault(
            Fault::client(packet::DISCONNECT)
                .altered("no session expiry", |frame| frame.remove_property(0x11)),
        ),
    test!(mqtt5_3_14_2_2_2_an_expiry_in_disconnect_prolongs)
        .mqtt5(&["3.1.2-23"])
        .regression(&["session expiry changed in DISCONNECT"])
        .fault(
            Fault::client(packet::DISCONNECT)
                .altered("no session expiry", |frame| frame.remove_property(0x11)),
        ),
    test!(mqtt5_3_14_2_2_2_a_session_without_expiry_cannot_get_one)
        .mqtt5(&["4.1.0-2", "4.13.1-1"])
        .regression(&["session expiry changed in DISCONNECT"])
        .fault(
            Fault::client(packet::DISCONNECT).altered("no session expiry", |frame| {
                frame.remove_property(0x11);
            }),
        ),
    test!(mqtt5_3_14_4_1_nothing_follows_the_servers_disconnect)
        .mqtt5(&["3.14.4-1"])
        .fault(Fault::server(packet::DISCONNECT).followed("PINGRESP", |_| vec![0xD0, 0])),
    test!(mqtt5_3_14_4_2_the_server_closes_behind_its_disconnect)
        .mqtt5(&["3.14.4-2", "4.13.2-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_14_4_3_disconnect_takes_the_will_away)
        .mqtt3(&["3.14.4-3", "3.1.2-8", "3.1.2-10"])
        .mqtt5(&["3.14.4-3", "3.1.2-8", "3.1.2-10"])
        .level3("DISCONNECT takes the will away")
        .fault(WITH_WILL)
        .fault_of_3(
            Fault::client(packet::DISCONNECT)
                .nth(1)
                .altered("a reserved flag", |frame| frame.first |= 1),
        ),
    test!(mqtt5_3_14_1_a_disconnect_of_a_reason_alone)
        .mqtt5(&["3.14.4-3"])
        .regression(&["DISCONNECT of one byte"])
        .fault(WITH_WILL),
    test!(mqtt5_3_14_1_a_disconnect_of_a_reason_and_no_properties)
        .mqtt5(&["3.14.4-3"])
        .regression(&["DISCONNECT of two bytes"])
        .fault(WITH_WILL),
    test!(mqtt5_3_14_2_1_reason_4_leaves_the_will)
        .mqtt5(&["3.1.2-8"])
        .regression(&["DISCONNECT of one byte", "DISCONNECT of two bytes"])
        .fault(Fault::client(packet::DISCONNECT).altered("0x00", |frame| frame.set_code(0))),
    test!(mqtt5_3_14_2_1_a_will_that_is_left_waits_for_its_delay)
        .mqtt5(&["3.1.2-8"])
        .fault(
            Fault::client(packet::DISCONNECT).altered("a session that ends", |frame| {
                frame.add_property(&Property::SessionExpiry(0));
            }),
        ),
    test!(mqtt5_3_14_2_2_2_a_session_that_disconnect_ends_sends_its_delayed_will)
        .mqtt5(&["3.1.2-8"])
        .regression(&["session expiry changed in DISCONNECT"])
        .fault(
            Fault::client(packet::DISCONNECT)
                .nth(1)
                .altered("no session expiry", |frame| frame.remove_property(0x11)),
        ),
    test!(mqtt5_3_14_2_2_a_disconnect_of_another_form_leaves_the_will)
        .mqtt5(&["3.1.2-8", "4.13.1-1"])
        .fault(
            Fault::client(packet::DISCONNECT)
                .altered("nothing but a reason", |frame| frame.body.truncate(1)),
        ),
    test!(mqtt5_3_14_2_1_an_error_leaves_the_will)
        .mqtt5(&["3.1.2-8"])
        .fault(Fault::client(packet::DISCONNECT).altered("0x00", |frame| frame.set_code(0))),
    test!(mqtt5_3_14_2_1_a_reason_that_is_none_leaves_the_will)
        .mqtt5(&["3.1.2-8"])
        .fault(Fault::client(packet::DISCONNECT).altered("0x00", |frame| frame.set_code(0))),
];

/// What the server says to a client that is replaced. One that closes without a word is at liberty.
#[track_caller]
fn last_word(case: &Case, connect: &Connect) -> Reason {
    let mut old = case.open(connect);
    let _new = case.open(connect);
    match old.next(patience()) {
        Event::Packet(Packet::Disconnect(reason)) => {
            old.expect_close();
            reason
        }
        Event::Closed => from_an_error(case, connect),
        other => panic!("DISCONNECT or an end expected: {other:?}"),
    }
}

/// What the server says to a client that breaks the protocol.
#[track_caller]
fn from_an_error(case: &Case, connect: &Connect) -> Reason {
    let mut client = case.open(connect);
    client.send(&Publish::new("wild/#", "x").encode(case.version()));
    match client.next(patience()) {
        Event::Packet(Packet::Disconnect(reason)) => {
            client.expect_close();
            reason
        }
        Event::Closed | Event::Silence => case.does_not_apply("the server sends no DISCONNECT"),
        other => panic!("DISCONNECT or an end expected: {other:?}"),
    }
}

fn mqtt5_3_14_0_1_no_disconnect_before_connack(case: &Case) {
    let topic = case.topic("early");
    let connect = RawConnect::of(case).field(topic.as_bytes());
    for bytes in [
        vec![0xC0, 0],
        Publish::new(&topic, "x").encode(case.version()),
        vec![0xF0, 0],
        vec![0x00, 0],
        connect.clone().flags(3).bytes(),
        connect.clone().properties(&[0x7F, 0]).bytes(),
        connect.properties(b"\x15\0\x07unknown").bytes(),
        frame(0x10, b"\0\x04MQTT\x05"),
    ] {
        let mut client = case.dial();
        send(&mut client, &bytes);
        let said = client.next_raw().unwrap_or_default();
        assert_ne!(
            said.first(),
            Some(&0xE0),
            "DISCONNECT to {bytes:02x?}: {said:02x?}"
        );
    }
}

fn mqtt_3_14_1_1_reserved_bits_are_checked(case: &Case) {
    // The connection ends either way. A DISCONNECT that is none leaves the will to be published.
    let topic = case.topic("bits");
    let mut watcher = watcher(case, &topic);
    for flags in [1, 2, 4, 8] {
        let will = Will::new(&topic, format!("flags {flags}").as_str());
        let mut client = case.open(&case.connect("bits").will(will));
        client.send(&[0xE0 | flags, 0]);
        let told = ends(&mut client, "a DISCONNECT with reserved bits");
        if case.is_v5() {
            assert!(matches!(told, None | Some(code::MALFORMED)), "{told:02x?}");
        }
        assert_eq!(watcher.receive().text(), format!("flags {flags}"));
    }
}

fn mqtt5_3_14_2_1_the_reason_is_one_of_those_listed(case: &Case) {
    const LISTED: [u8; 29] = [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
        0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    let connect = case.connect("listed");
    for reason in [last_word(case, &connect), from_an_error(case, &connect)] {
        assert!(
            LISTED.contains(&reason.code),
            "DISCONNECT {:#04x}",
            reason.code
        );
    }
}

fn mqtt5_3_14_2_2_the_server_tells_no_session_expiry(case: &Case) {
    // The decoder of this suite takes no such property from a server.
    last_word(case, &case.connect("expiry").expiry(60));
}

/// The room that a client leaves: as much as the CONNACK needs.
#[track_caller]
fn disconnects_fit(case: &Case) {
    let mut client = case.dial();
    client.send(&case.connect("room").encode());
    let most = client.next_raw().unwrap_or_default().len();
    client.disconnect();
    let connect = case
        .connect("tight")
        .with(Property::MaximumPacketSize(most as u32));
    let reason = last_word(case, &connect);
    let length = disconnect(reason.code, &reason.properties).len();
    assert!(
        length <= most,
        "{length} bytes for a client that takes {most}"
    );
}

fn mqtt5_3_14_2_3_a_reason_string_fits_the_client(case: &Case) {
    disconnects_fit(case);
}

fn mqtt5_3_14_2_4_user_properties_fit_the_client(case: &Case) {
    disconnects_fit(case);
}

fn mqtt5_3_14_2_2_2_an_expiry_in_disconnect_holds(case: &Case) {
    let lasting = case.lasting("shorter");
    case.open(&lasting)
        .disconnect_with(0, &[Property::SessionExpiry(0)]);
    assert!(
        !case.open(&lasting).session_present(),
        "the session was kept"
    );
}

fn mqtt5_3_14_2_2_2_an_expiry_in_disconnect_prolongs(case: &Case) {
    let connect = case.connect("longer").expiry(1);
    case.open(&connect)
        .disconnect_with(0, &[Property::SessionExpiry(60)]);
    // Time is what is tested: past the first interval, and the second that a timer may be coarse.
    thread::sleep(Duration::from_millis(2_500));
    assert!(
        case.open(&connect.resume()).session_present(),
        "the session was lost"
    );
}

fn mqtt5_3_14_2_2_2_a_session_without_expiry_cannot_get_one(case: &Case) {
    let topic = case.topic("never");
    let mut watcher = watcher(case, &topic);
    let connect = case.connect("never").will(Will::new(&topic, "erred"));
    let mut client = case.open(&connect);
    client.send(&disconnect(0, &[Property::SessionExpiry(60)]));
    ends(&mut client, "an expiry where there was none");
    // It is a protocol error, not a normal disconnection.
    assert_eq!(watcher.receive().text(), "erred");
    assert!(
        !case.open(&connect.resume()).session_present(),
        "the session was kept"
    );
}

fn mqtt5_3_14_4_1_nothing_follows_the_servers_disconnect(case: &Case) {
    let topic = case.topic("follows");
    let connect = case.connect("follows");
    let mut old = case.open(&connect);
    old.subscribe_with(&[(&topic, 0)], &[]);
    let mut new = case.open(&connect);
    new.publish(&Publish::new(&topic, "x").qos(1));
    match old.next(patience()) {
        Event::Packet(Packet::Disconnect(_)) => {
            let behind = old.next(patience());
            assert_eq!(behind, Event::Closed, "behind DISCONNECT");
        }
        Event::Closed => {
            from_an_error(case, &connect);
        }
        other => panic!("DISCONNECT or an end expected: {other:?}"),
    }
}

fn mqtt5_3_14_4_2_the_server_closes_behind_its_disconnect(case: &Case) {
    let connect = case.connect("closes");
    last_word(case, &connect);
    from_an_error(case, &connect);
}

fn mqtt_3_14_4_3_disconnect_takes_the_will_away(case: &Case) {
    let topic = case.topic("away");
    let mut watcher = watcher(case, &topic);
    let connect = case
        .connect("away")
        .will(Will::new(&topic, "must not come"));
    case.open(&connect).disconnect();
    no_will_before(case, &mut watcher, &topic);
}

/// A client with a will ends its connection with these bytes: normally, so that no will comes.
#[track_caller]
fn is_normal(case: &Case, bytes: &[u8]) {
    let topic = case.topic("normal");
    let mut watcher = watcher(case, &topic);
    let connect = case
        .connect("normal")
        .will(Will::new(&topic, "must not come"));
    let mut client = case.open(&connect);
    client.send(bytes);
    // A client closes behind its DISCONNECT. One that the server has not understood was none.
    client.vanish();
    no_will_before(case, &mut watcher, &topic);
}

fn mqtt5_3_14_1_a_disconnect_of_a_reason_alone(case: &Case) {
    is_normal(case, &[0xE0, 1, 0]);
}

fn mqtt5_3_14_1_a_disconnect_of_a_reason_and_no_properties(case: &Case) {
    is_normal(case, &[0xE0, 2, 0, 0]);
}

/// A client with a will ends its connection with these bytes, and the will comes.
#[track_caller]
fn leaves_the_will(case: &Case, bytes: &[u8]) {
    let topic = case.topic("leaves");
    let mut watcher = watcher(case, &topic);
    let connect = case.connect("leaves").will(Will::new(&topic, "asked for"));
    let mut client = case.open(&connect);
    client.send(bytes);
    client.vanish();
    assert_eq!(watcher.receive().text(), "asked for", "after {bytes:02x?}");
}

fn mqtt5_3_14_2_1_reason_4_leaves_the_will(case: &Case) {
    leaves_the_will(case, &[0xE0, 1, code::WITH_WILL]);
    leaves_the_will(case, &[0xE0, 2, code::WITH_WILL, 0]);
    leaves_the_will(
        case,
        &disconnect(code::WITH_WILL, &[Property::user("why", "leave")]),
    );
}

fn mqtt5_3_14_2_1_an_error_leaves_the_will(case: &Case) {
    // 3.1.2-10: only 0x00 takes it away.
    for reason in [code::UNSPECIFIED, code::MALFORMED, code::QUOTA] {
        leaves_the_will(case, &disconnect(reason, &[]));
    }
}

fn mqtt5_3_14_2_1_a_reason_that_is_none_leaves_the_will(case: &Case) {
    // No reason at all, one of CONNACK, one that only a server has.
    for reason in [0x05, 0x7F, 0x8C, code::TAKEN_OVER] {
        let topic = case.topic("none");
        let mut watcher = watcher(case, &topic);
        let connect = case.connect("none").will(Will::new(&topic, "left"));
        let mut client = case.open(&connect);
        client.send(&disconnect(reason, &[]));
        ends(&mut client, "a DISCONNECT for no reason that there is");
        assert_eq!(watcher.receive().text(), "left", "after {reason:#04x}");
    }
}

fn mqtt5_3_14_2_1_a_will_that_is_left_waits_for_its_delay(case: &Case) {
    let topic = case.topic("waits");
    let mut watcher = watcher(case, &topic);
    let will = Will::new(&topic, "asked for").with(Property::WillDelay(2));
    let client = case.open(&case.connect("waits").expiry(60).will(will));
    client.disconnect_with(code::WITH_WILL, &[]);
    thread::sleep(Duration::from_millis(1_200));
    watcher.expect_nothing();
    assert_eq!(watcher.receive().text(), "asked for");
}

fn mqtt5_3_14_2_2_2_a_session_that_disconnect_ends_sends_its_delayed_will(case: &Case) {
    let topic = case.topic("ends");
    let mut watcher = watcher(case, &topic);
    let will = Will::new(&topic, "asked for").with(Property::WillDelay(3_600));
    let client = case.open(&case.connect("ends").expiry(600).will(will));
    client.disconnect_with(code::WITH_WILL, &[Property::SessionExpiry(0)]);
    assert_eq!(watcher.receive().text(), "asked for");
}

fn mqtt5_3_14_2_2_a_disconnect_of_another_form_leaves_the_will(case: &Case) {
    let expiry = Property::SessionExpiry(1);
    let reason = Property::ReasonString("r".into());
    for (what, bytes) in [
        ("two expiries", disconnect(0, &[expiry.clone(), expiry])),
        ("two reasons", disconnect(0, &[reason.clone(), reason])),
        (
            "a property of another packet",
            disconnect(0, &[Property::TopicAlias(1)]),
        ),
        ("properties beyond the packet", frame(0xE0, b"\0\x05")),
        ("bytes behind the properties", frame(0xE0, b"\0\0\0")),
    ] {
        let topic = case.topic("form");
        let mut watcher = watcher(case, &topic);
        let connect = case.connect("form").expiry(60);
        let mut client = case.open(&connect.will(Will::new(&topic, "left")));
        client.send(&bytes);
        ends(&mut client, what);
        assert_eq!(watcher.receive().text(), "left", "{what}");
    }
}

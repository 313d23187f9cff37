//! Session state across connections: MQTT 3.1.1 and 5.0 sections 4.1 and 4.5; the session expiry
//! interval (5.0 sections 3.1.2.11.2 and 3.14.2.2.2).

use std::thread;
use std::time::Duration;

use tidegate_tests::wire::{Property, Publish, Version, disconnect, options};

use super::kit::{Retained, nothing_before, number, publish, resumed, subscribe, subscribe_as};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::frame::Frame;
use crate::test::{Test, test};

/// Beyond an expiry of one second, also where a server's clock ticks in whole ones.
const TWO_TICKS: Duration = Duration::from_millis(2_200);

/// A client that asks for no session of its own (before MQTT 5: clean session).
const FORGOTTEN: fn(&mut Frame) = |frame| {
    let flags = 2 + usize::from(frame.u16_at(0)) + 1;
    frame.body[flags] |= 2;
    frame.remove_property(0x11);
};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_4_1_0_1_a_session_lasts_as_long_as_its_connection)
        .mqtt3(&["4.1.0-2"])
        .mqtt5(&["4.1.0-1"])
        .level3("A session lasts as long as its connection.")
        .fault(
            Fault::client(packet::CONNECT)
                .nth(2)
                .altered("a clean start", FORGOTTEN),
        )
        .fault_of_3(Fault::server(packet::PUBLISH)),
    test!(mqtt_4_1_0_1_a_sessions_subscriptions_outlive_its_connections)
        .mqtt3(&["4.1.0-1"])
        .mqtt5(&["4.1.0-1"])
        .level3("Subscriptions outlive connections.")
        .fault(
            Fault::client(packet::CONNECT)
                .nth(2)
                .altered("a clean start", FORGOTTEN),
        ),
    test!(mqtt5_4_1_a_subscriptions_options_outlive_its_connections)
        .mqtt5(&["4.1.0-1"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"live")
                .altered("no subscription identifier", |frame| {
                    frame.remove_property(0x0B);
                }),
        ),
    test!(mqtt5_4_1_0_2_a_session_ends_when_its_expiry_is_over)
        .mqtt5(&["4.1.0-2"])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("a longer expiry", |frame| {
                    frame.set_property(&Property::SessionExpiry(600));
                }),
        ),
    test!(mqtt5_4_1_0_2_a_session_without_expiry_ends_with_its_connection)
        .mqtt5(&["4.1.0-2"])
        .fault(
            Fault::client(packet::CONNECT).altered("an expiry", |frame| {
                frame.add_property(&Property::SessionExpiry(600));
            }),
        ),
    test!(mqtt5_3_14_2_2_2_disconnect_can_lengthen_the_expiry)
        .mqtt5(&["3.1.2-23"])
        .regression(&["session expiry changed in DISCONNECT"])
        .fault(
            Fault::client(packet::DISCONNECT)
                .altered("no expiry", |frame| frame.remove_property(0x11)),
        ),
    test!(mqtt5_3_14_2_2_2_disconnect_can_end_the_session)
        .mqtt5(&["4.1.0-2"])
        .regression(&["session expiry changed in DISCONNECT"])
        .fault(
            Fault::client(packet::DISCONNECT)
                .altered("no expiry", |frame| frame.remove_property(0x11)),
        ),
    test!(mqtt5_3_14_2_2_2_an_expiry_in_disconnect_after_none_in_connect_is_an_error)
        .at(&[Version::V5])
        .fault(
            Fault::client(packet::CONNECT)
                .nth(1)
                .altered("an expiry", |frame| {
                    frame.add_property(&Property::SessionExpiry(1));
                }),
        ),
    test!(mqtt_4_5_0_1_a_message_is_added_to_every_session_that_matches)
        .mqtt3(&["4.5.0-1"])
        .mqtt5(&["4.5.0-1"])
        .level3("A message goes to everyone whose subscription matches.")
        .fault(Fault::server(packet::PUBLISH).nth(5)),
    test!(mqtt_4_5_0_1_messages_wait_for_a_session_that_is_away)
        .mqtt3(&["4.5.0-1", "4.1.0-1"])
        .mqtt5(&["4.5.0-1"])
        .level3("Messages of QoS 1 and 2 wait for a client that is away.")
        .regression(&["PUBACK sent and the message dropped"])
        .fault(Fault::server(packet::PUBLISH).nth(7)),
    test!(mqtt5_4_5_0_1_messages_wait_with_their_properties)
        .mqtt5(&["3.3.2-17", "3.3.2-18"])
        .interplay("properties through an offline queue")
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("no user properties", |frame| frame.remove_property(0x26)),
        ),
    test!(mqtt5_3_3_1_13_retain_as_published_holds_in_the_queue)
        .mqtt5(&["3.3.1-13"])
        .regression(&["retain-as-published lost in the offline queue"])
        .interplay("retain as published through an offline queue")
        .fault(Fault::server(packet::PUBLISH).altered("RETAIN cleared", |frame| frame.first &= !1)),
    test!(mqtt5_3_3_1_12_without_it_what_waits_has_no_retain)
        .mqtt5(&["3.3.1-12"])
        .interplay("retain as published through an offline queue")
        .fault(Fault::server(packet::PUBLISH).altered("RETAIN set", |frame| frame.first |= 1)),
];

fn mqtt_4_1_0_1_a_session_lasts_as_long_as_its_connection(case: &Case) {
    let topic = case.topic("lasts");
    // An expiry that is over while the connection lives counts from its end.
    let mut connect = case.connect("lasts").resume();
    if case.is_v5() {
        connect = connect.expiry(1);
    }
    let mut client = case.open(&connect);
    subscribe(case, &mut client, &topic, 1);
    thread::sleep(TWO_TICKS);
    publish(&mut client, &Publish::new(&topic, "still there").qos(1));
    assert_eq!(client.receive().text(), "still there");
    client.disconnect();
    let mut client = case.open(&connect);
    resumed(&client);
    publish(&mut client, &Publish::new(&topic, "resumed").qos(1));
    assert_eq!(client.receive().text(), "resumed");
}

fn mqtt_4_1_0_1_a_sessions_subscriptions_outlive_its_connections(case: &Case) {
    let topic = case.topic("outlive");
    let connect = case.lasting("outlive");
    let mut client = case.open(&connect);
    subscribe(case, &mut client, &topic, 1);
    client.disconnect();
    let mut client = case.open(&connect);
    publish(&mut client, &Publish::new(&topic, "x").qos(1));
    assert_eq!(client.receive().text(), "x");
    resumed(&client);
}

fn mqtt5_4_1_a_subscriptions_options_outlive_its_connections(case: &Case) {
    let topic = case.topic("options");
    let connect = case.lasting("options");
    let mut client = case.open(&connect);
    subscribe_as(case, &mut client, &topic, 1 | options::NO_LOCAL, 77);
    client.disconnect();
    let mut client = case.open(&connect);
    publish(&mut client, &Publish::new(&topic, "own").qos(1));
    publish(
        &mut case.client("other"),
        &Publish::new(&topic, "live").qos(1),
    );
    let message = client.receive();
    assert_eq!(
        (message.text().as_str(), message.subscription_ids()),
        ("live", vec![77])
    );
}

fn mqtt5_4_1_0_2_a_session_ends_when_its_expiry_is_over(case: &Case) {
    let topic = case.topic("over");
    let connect = case.connect("over").resume().expiry(1);
    let mut client = case.open(&connect);
    subscribe(case, &mut client, &topic, 1);
    client.disconnect();
    publish(&mut case.client("over"), &Publish::new(&topic, "x").qos(1));
    thread::sleep(TWO_TICKS);
    let mut client = case.open(&connect);
    assert!(!client.session_present(), "the session was over");
    client.expect_nothing();
}

fn mqtt5_4_1_0_2_a_session_without_expiry_ends_with_its_connection(case: &Case) {
    let connect = case.connect("none").resume();
    case.open(&connect).disconnect();
    assert!(!case.open(&connect).session_present());
}

fn mqtt5_3_14_2_2_2_disconnect_can_lengthen_the_expiry(case: &Case) {
    let connect = case.connect("longer").resume().expiry(1);
    case.open(&connect)
        .disconnect_with(0, &[Property::SessionExpiry(600)]);
    thread::sleep(TWO_TICKS);
    let client = case.open(&connect);
    assert!(client.session_present(), "DISCONNECT asked for longer");
}

fn mqtt5_3_14_2_2_2_disconnect_can_end_the_session(case: &Case) {
    let connect = case.connect("ends").resume().expiry(600);
    case.open(&connect)
        .disconnect_with(0, &[Property::SessionExpiry(0)]);
    assert!(!case.open(&connect).session_present());
}

fn mqtt5_3_14_2_2_2_an_expiry_in_disconnect_after_none_in_connect_is_an_error(case: &Case) {
    let connect = case.connect("none");
    let mut client = case.open(&connect);
    client.send(&disconnect(0, &[Property::SessionExpiry(600)]));
    client.expect_error();
    assert!(
        !case.open(&connect.resume()).session_present(),
        "a session lasts that was not asked for in CONNECT"
    );
}

fn mqtt_4_5_0_1_a_message_is_added_to_every_session_that_matches(case: &Case) {
    let topic = case.topic("every");
    let mut receivers: Vec<_> = (0..10)
        .map(|number| {
            let mut receiver = case.client("every");
            subscribe(case, &mut receiver, &topic, number % 3);
            receiver
        })
        .collect();
    let mut sender = case.client("every");
    for text in ["one", "two"] {
        publish(&mut sender, &Publish::new(&topic, text).qos(2));
    }
    for receiver in &mut receivers {
        assert_eq!(receiver.receive_texts(2), ["one", "two"]);
    }
}

fn mqtt_4_5_0_1_messages_wait_for_a_session_that_is_away(case: &Case) {
    let topic = case.topic("away");
    let connect = case.lasting("away");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 2);
    receiver.disconnect();
    let mut sender = case.client("away");
    for number in 0..30 {
        let message = Publish::new(&topic, number.to_string());
        publish(&mut sender, &message.qos(1 + number % 2));
    }
    let mut receiver = case.open(&connect);
    // Order is promised for each QoS.
    let came: Vec<Publish> = (0..30).map(|_| receiver.receive()).collect();
    for qos in [1, 2] {
        let numbers: Vec<u32> = came
            .iter()
            .filter(|message| message.qos == qos)
            .map(number)
            .collect();
        let first = u32::from(qos - 1);
        assert_eq!(numbers, (first..30).step_by(2).collect::<Vec<_>>());
    }
}

fn mqtt5_4_5_0_1_messages_wait_with_their_properties(case: &Case) {
    let topic = case.topic("properties");
    let connect = case.lasting("properties");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1);
    receiver.disconnect();
    let sent = ["b", "a", "b"].map(|name| Property::user(name, "value"));
    let message = sent
        .iter()
        .cloned()
        .fold(Publish::new(&topic, "x"), Publish::with);
    publish(&mut case.client("properties"), &message.qos(1));
    assert_eq!(case.open(&connect).receive().properties, sent);
}

/// A retained message that came while its subscriber was away.
#[track_caller]
fn queued(case: &Case, options: u8) -> Publish {
    let topic = case.topic("queued");
    let connect = case.lasting("queued");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1 | options);
    receiver.disconnect();
    let _retained = Retained::new(case, &[Publish::new(&topic, "waits")]);
    let mut receiver = case.open(&connect);
    let message = receiver.receive();
    assert_eq!(message.text(), "waits");
    publish(&mut receiver, &Publish::new(&topic, "end").qos(1));
    nothing_before(&mut receiver, "end");
    message
}

fn mqtt5_3_3_1_13_retain_as_published_holds_in_the_queue(case: &Case) {
    assert!(queued(case, options::RETAIN_AS_PUBLISHED).retain);
}

fn mqtt5_3_3_1_12_without_it_what_waits_has_no_retain(case: &Case) {
    assert!(!queued(case, 0).retain);
}

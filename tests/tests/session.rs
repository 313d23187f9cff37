//! Sessions across connections: MQTT 5.0 sections 3.1.2.11.2, 4.1, 4.4 and 4.6; MQTT 3.1.1 section 4.4.

use std::thread;
use std::time::Duration;

use tidegate_tests::wire::{
    Ack, Client, Connect, Event, PATIENCE, Packet, Property, Publish, Version, code, disconnect,
    options,
};
use tidegate_tests::{Gateway, unique};

#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("sender")).open(gateway.mqtt())
}

/// The texts of `count` messages that stay unacknowledged, in order.
#[track_caller]
fn take(client: &mut Client, count: usize) -> Vec<Publish> {
    (0..count).map(|_| client.expect_publish()).collect()
}

fn texts(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(Publish::text).collect()
}

#[test]
fn mqtt_4_4_0_1_unacknowledged_messages_are_sent_again_in_order_with_dup() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("again");
        let connect = Connect::lasting(version, &unique("again"));
        let mut receiver = connect.open(gateway.mqtt());
        receiver.subscribe(&topic, 2);
        let mut sender = client(&gateway);
        for number in 0..6 {
            sender.publish(&Publish::new(&topic, number.to_string()).qos(1 + number % 2));
        }
        let first = take(&mut receiver, 6);
        assert!(first.iter().all(|message| !message.dup));
        // The second is done, out of order; the others are owed.
        receiver.send_puback(&Ack::new(first[2].id));
        receiver.expect_nothing();
        // Not by vanishing: until the server notices, a message is sent to nobody and so to be repeated.
        receiver.disconnect();
        sender.publish(&Publish::new(&topic, "while away").qos(1));

        let mut receiver = connect.open(gateway.mqtt());
        let second = take(&mut receiver, 6);
        assert_eq!(
            texts(&second),
            ["0", "1", "3", "4", "5", "while away"],
            "{version:?}"
        );
        for (before, after) in [0, 1, 3, 4, 5]
            .map(|index| &first[index])
            .iter()
            .zip(&second)
        {
            assert_eq!(
                (after.id, after.qos),
                (before.id, before.qos),
                "{version:?}"
            );
            assert!(after.dup, "{version:?}: 3.3.1-1: {after:?}");
        }
        assert!(!second[5].dup, "{version:?}: never sent before");
        for message in &second {
            receiver.acknowledge(message);
        }
        receiver.expect_nothing();
        receiver.disconnect();
        connect.open(gateway.mqtt()).expect_nothing();
    }
}

#[test]
fn mqtt_4_4_a_live_connection_sees_no_retransmission() {
    let gateway = Gateway::start();
    let topic = unique("once");
    let mut receiver = Connect::v5(&unique("once")).open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    client(&gateway).publish(&Publish::new(&topic, "unanswered").qos(1));
    receiver.expect_publish();
    // Long enough for a timer of the old kind to fire.
    thread::sleep(Duration::from_millis(2_500));
    receiver.expect_nothing();
}

#[test]
fn mqtt_4_4_0_1_a_pubrel_that_is_owed_is_sent_on_resume() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("pubrel");
        let connect = Connect::lasting(version, &unique("pubrel"));
        let mut receiver = connect.open(gateway.mqtt());
        receiver.subscribe(&topic, 2);
        let mut sender = client(&gateway);
        for text in ["first", "second"] {
            sender.publish(&Publish::new(&topic, text).qos(2));
        }
        let messages = take(&mut receiver, 2);
        receiver.send_pubrec(&Ack::new(messages[0].id));
        assert_eq!(receiver.expect_pubrel().id, messages[0].id);
        receiver.vanish();

        // The first is past PUBREC: its PUBREL, never its PUBLISH. The second begins anew.
        let mut receiver = connect.open(gateway.mqtt());
        let (mut released, mut repeated) = (None, None);
        for packet in [receiver.next(PATIENCE), receiver.next(PATIENCE)] {
            match packet {
                Event::Packet(Packet::PubRel(ack)) => released = Some(ack.id),
                Event::Packet(Packet::Publish(message)) => {
                    repeated = Some(message);
                }
                other => panic!("{version:?}: {other:?}"),
            }
        }
        assert_eq!(released, Some(messages[0].id), "{version:?}");
        let repeated = repeated.unwrap();
        assert_eq!(
            (repeated.text().as_str(), repeated.id),
            ("second", messages[1].id)
        );
        receiver.send_pubcomp(&Ack::new(messages[0].id));
        receiver.acknowledge(&repeated);
        receiver.expect_nothing();
        receiver.disconnect();
        connect.open(gateway.mqtt()).expect_nothing();
    }
}

#[test]
fn mqtt_4_1_subscriptions_and_their_options_survive() {
    let gateway = Gateway::start();
    let (plain, flagged) = (unique("survive/a"), unique("survive/b"));
    let connect = Connect::lasting(Version::V5, &unique("survive"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe_with(&[(&plain, 1)], &[Property::SubscriptionId(77)]);
    receiver.subscribe(
        &flagged,
        1 | options::RETAIN_AS_PUBLISHED | options::NO_LOCAL,
    );
    receiver.disconnect();

    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&plain, "queued").qos(1));
    sender.publish(&Publish::new(&flagged, "queued and flagged").qos(1).retain());
    let mut receiver = connect.open(gateway.mqtt());
    let message = receiver.receive();
    assert_eq!(
        (message.text().as_str(), message.subscription_ids()),
        ("queued", vec![77])
    );
    let message = receiver.receive();
    // Retain-as-published holds in the queue as it does live.
    assert_eq!(
        (message.text().as_str(), message.retain),
        ("queued and flagged", true)
    );
    receiver.publish(&Publish::new(&flagged, "own").qos(1));
    receiver.publish(&Publish::new(&plain, "live").qos(1));
    let message = receiver.receive();
    assert_eq!(
        (message.text().as_str(), message.subscription_ids()),
        ("live", vec![77])
    );
    sender.publish(&Publish::new(&flagged, "").qos(1).retain());
}

#[test]
fn mqtt_4_1_messages_of_qos_1_and_2_wait_with_their_properties() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("wait");
        let connect = Connect::lasting(version, &unique("wait"));
        let mut receiver = connect.open(gateway.mqtt());
        receiver.subscribe(&topic, 2);
        receiver.disconnect();
        let mut sender = client(&gateway);
        for number in 0..50 {
            let message = Publish::new(&topic, number.to_string()).qos(1 + number % 2);
            sender.publish(&message.with(Property::user("number", &number.to_string())));
        }
        let mut receiver = connect.open(gateway.mqtt());
        for number in 0..50 {
            let message = receiver.receive();
            assert_eq!(message.text(), number.to_string());
            assert_eq!(message.qos, 1 + number % 2);
            if version == Version::V5 {
                let expected = Property::user("number", &number.to_string());
                assert_eq!(message.properties, [expected]);
            }
        }
        receiver.expect_nothing();
    }
}

#[test]
fn mqtt_4_1_qos_0_messages_do_not_wait_by_default() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("zero");
    let connect = Connect::lasting(Version::V5, &unique("zero"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "zero"));
    sender.publish(&Publish::new(&topic, "one").qos(1));
    let mut receiver = connect.open(gateway.mqtt());
    assert_eq!(receiver.receive().text(), "one");
    receiver.expect_nothing();
}

#[test]
fn mqtt_4_1_qos_0_messages_wait_where_that_is_configured() {
    let configured = Gateway::configured("[sessions]\nqueue_qos0_while_offline = true");
    let Some(gateway) = configured else { return };
    let topic = unique("zero");
    let connect = Connect::lasting(Version::V5, &unique("zero"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "zero"));
    sender.publish(&Publish::new(&topic, "one").qos(1));
    let mut receiver = connect.open(gateway.mqtt());
    assert_eq!(receiver.receive_texts(2), ["zero", "one"]);
}

#[test]
fn mqtt5_3_14_2_2_2_the_expiry_may_be_changed_in_disconnect() {
    let gateway = Gateway::start();
    let id = unique("changed");
    // Longer: it would have ended after a second.
    let mut client = Connect::v5(&id).expiry(1).open(gateway.mqtt());
    client.subscribe(&unique("changed/t"), 1);
    client.disconnect_with(0, &[Property::SessionExpiry(600)]);
    thread::sleep(Duration::from_millis(2_300));
    let client = Connect::v5(&id).resume().expiry(600).open(gateway.mqtt());
    assert!(client.session_present());
    // Zero: it ends now.
    client.disconnect_with(0, &[Property::SessionExpiry(0)]);
    assert!(
        !Connect::v5(&id)
            .resume()
            .open(gateway.mqtt())
            .session_present()
    );
}

#[test]
fn mqtt5_3_14_2_2_2_no_expiry_in_disconnect_where_connect_had_none() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    client.send(&disconnect(0, &[Property::SessionExpiry(60)]));
    assert_eq!(client.expect_disconnect().code, code::PROTOCOL_ERROR);
}

#[test]
fn mqtt5_3_1_2_11_2_the_expiry_of_the_newest_connect_holds() {
    let gateway = Gateway::start();
    let id = unique("newest");
    Connect::v5(&id)
        .expiry(600)
        .open(gateway.mqtt())
        .disconnect();
    let client = Connect::v5(&id).resume().open(gateway.mqtt());
    assert!(client.session_present());
    client.disconnect();
    assert!(
        !Connect::v5(&id)
            .resume()
            .open(gateway.mqtt())
            .session_present()
    );
}

#[test]
fn mqtt5_3_2_2_3_2_an_expiry_beyond_the_maximum_is_told() {
    let Some(gateway) = Gateway::configured("[sessions]\nmax_expiry = \"1h\"") else {
        return;
    };
    for asked in [3_601, u32::MAX] {
        let client = Connect::v5(&unique("long"))
            .expiry(asked)
            .open(gateway.mqtt());
        let told = &client.connack().properties;
        assert!(
            told.contains(&Property::SessionExpiry(3_600)),
            "{asked}: {told:?}"
        );
    }
    let client = Connect::v5(&unique("short"))
        .expiry(3_600)
        .open(gateway.mqtt());
    let differs =
        |property: &Property| matches!(property, Property::SessionExpiry(value) if *value != 3_600);
    assert!(!client.connack().properties.iter().any(differs));
}

#[test]
fn mqtt3_the_session_of_an_older_client_has_the_configured_expiry() {
    let Some(gateway) = Gateway::configured("[sessions]\nv3_expiry = \"1s\"") else {
        return;
    };
    let connect = Connect::lasting(Version::V311, &unique("older"));
    connect.open(gateway.mqtt()).disconnect();
    assert!(connect.open(gateway.mqtt()).session_present());
    thread::sleep(Duration::from_millis(2_500));
    assert!(!connect.open(gateway.mqtt()).session_present());
}

#[test]
fn mqtt5_3_3_2_6_the_expiry_of_a_queued_message_counts_down() {
    let gateway = Gateway::start();
    let topic = unique("counts");
    let connect = Connect::lasting(Version::V5, &unique("counts"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(&gateway);
    let lasting = |text, seconds| {
        Publish::new(&topic, text)
            .qos(1)
            .with(Property::MessageExpiry(seconds))
    };
    sender.publish(&lasting("short", 1));
    sender.publish(&lasting("long", 60));
    sender.publish(&Publish::new(&topic, "endless").qos(1));
    thread::sleep(Duration::from_millis(2_300));
    let mut receiver = connect.open(gateway.mqtt());
    let long = receiver.receive();
    assert_eq!(long.text(), "long", "3.3.2-5: the short one has expired");
    assert!(
        matches!(long.expiry(), Some(50..=58)),
        "{:?}",
        long.expiry()
    );
    let endless = receiver.receive();
    assert_eq!(
        (endless.text().as_str(), endless.expiry()),
        ("endless", None)
    );
    receiver.expect_nothing();
}

#[test]
fn mqtt5_3_3_2_5_an_expiry_does_not_end_a_qos2_exchange_past_pubrec() {
    let gateway = Gateway::start();
    let topic = unique("past");
    let connect = Connect::lasting(Version::V5, &unique("past"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 2);
    let mut sender = client(&gateway);
    sender.publish(
        &Publish::new(&topic, "x")
            .qos(2)
            .with(Property::MessageExpiry(1)),
    );
    let message = receiver.expect_publish();
    receiver.send_pubrec(&Ack::new(message.id));
    receiver.expect_pubrel();
    receiver.vanish();
    thread::sleep(Duration::from_millis(2_300));
    let mut receiver = connect.open(gateway.mqtt());
    assert_eq!(receiver.expect_pubrel().id, message.id);
    receiver.send_pubcomp(&Ack::new(message.id));
    receiver.expect_nothing();
}

#[test]
fn mqtt5_4_9_a_smaller_window_on_resume_is_kept_to() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("smaller"), unique("smaller/t"));
    let mut receiver = Connect::lasting(Version::V5, &id).open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    for number in 0..10 {
        sender.publish(&Publish::new(&topic, number.to_string()).qos(1));
    }
    take(&mut receiver, 10);
    receiver.vanish();
    let connect = Connect::lasting(Version::V5, &id).with(Property::ReceiveMaximum(2));
    let mut receiver = connect.open(gateway.mqtt());
    let first = take(&mut receiver, 2);
    assert_eq!(texts(&first), ["0", "1"]);
    receiver.expect_nothing();
    for message in &first {
        receiver.acknowledge(message);
    }
    let expected: Vec<String> = (2..10).map(|number| number.to_string()).collect();
    assert_eq!(receiver.receive_texts(8), expected);
}

#[test]
fn mqtt_4_1_what_was_refused_with_a_reason_code_is_not_sent_again() {
    let gateway = Gateway::start();
    let topic = unique("refused");
    let connect = Connect::lasting(Version::V5, &unique("refused"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 2);
    let mut sender = client(&gateway);
    for qos in [1, 2] {
        sender.publish(&Publish::new(&topic, "unwanted").qos(qos));
        let message = receiver.expect_publish();
        let refusal = Ack::new(message.id).code(code::UNSPECIFIED);
        if qos == 1 {
            receiver.send_puback(&refusal);
        } else {
            receiver.send_pubrec(&refusal);
        }
    }
    receiver.expect_nothing();
    receiver.disconnect();
    // 4.4.0-2: acknowledged is acknowledged.
    connect.open(gateway.mqtt()).expect_nothing();
}

#[test]
fn mqtt_a_session_crosses_from_one_version_to_another() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("crosses"), unique("crosses/t"));
    let mut old = Connect::lasting(Version::V311, &id).open(gateway.mqtt());
    old.subscribe(&topic, 2);
    old.disconnect();
    let message = Publish::new(&topic, "queued")
        .qos(2)
        .with(Property::user("a", "b"));
    client(&gateway).publish(&message);
    let mut new = Connect::lasting(Version::V5, &id).open(gateway.mqtt());
    assert!(new.session_present());
    let received = new.receive();
    assert_eq!((received.text().as_str(), received.qos), ("queued", 2));
    assert_eq!(received.properties, [Property::user("a", "b")]);
}

//! Wills: MQTT 5.0 sections 3.1.2.5, 3.1.3.2, 3.1.4 and 3.14; MQTT 3.1.1 section 3.1.2.5.

use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{
    Client, Connect, Event, PATIENCE, Packet, Property, Publish, Version, Will, code,
};
use tidegate_tests::{Gateway, unique};

/// A client that sees the wills of `topic`.
#[track_caller]
fn watcher(gateway: &Gateway, topic: &str) -> Client {
    let mut client = Connect::v5(&unique("watcher")).open(gateway.mqtt());
    client.subscribe(topic, 2);
    client
}

#[test]
fn mqtt_3_1_2_8_the_will_of_a_client_that_vanishes_is_published() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        for qos in 0..=2 {
            let topic = unique("vanishes");
            let mut watcher = watcher(&gateway, &topic);
            let will = Will::new(&topic, "gone").qos(qos);
            Connect::new(version, &unique("doomed"))
                .will(will)
                .open(gateway.mqtt())
                .vanish();
            let message = watcher.receive();
            assert_eq!(
                (message.text().as_str(), message.qos),
                ("gone", qos),
                "{version:?}"
            );
            assert!(!message.retain);
            watcher.expect_nothing();
        }
    }
}

#[test]
fn mqtt_3_1_2_10_no_will_after_a_normal_disconnect() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("normal");
        let mut watcher = watcher(&gateway, &topic);
        let connect = Connect::new(version, &unique("polite")).will(Will::new(&topic, "gone"));
        connect.open(gateway.mqtt()).disconnect();
        if version == Version::V5 {
            connect.open(gateway.mqtt()).disconnect_with(0, &[]);
        }
        watcher.expect_nothing();
    }
}

#[test]
fn mqtt5_3_14_2_1_reason_code_4_publishes_the_will() {
    let gateway = Gateway::start();
    let topic = unique("four");
    let mut watcher = watcher(&gateway, &topic);
    let connect = Connect::v5(&unique("four")).will(Will::new(&topic, "asked for"));
    connect
        .open(gateway.mqtt())
        .disconnect_with(code::WITH_WILL, &[]);
    assert_eq!(watcher.receive().text(), "asked for");
    // 3.1.2-10 spares only reason code 0.
    connect
        .open(gateway.mqtt())
        .disconnect_with(code::UNSPECIFIED, &[]);
    assert_eq!(watcher.receive().text(), "asked for");
}

#[test]
fn mqtt_3_1_2_5_a_keep_alive_that_runs_out_publishes_the_will() {
    let gateway = Gateway::start();
    let topic = unique("silent");
    let mut watcher = watcher(&gateway, &topic);
    let will = Will::new(&topic, "silent");
    let _silent = Connect::v311(&unique("silent"))
        .keep_alive(1)
        .will(will)
        .open(gateway.mqtt());
    assert_eq!(watcher.receive().text(), "silent");
}

#[test]
fn mqtt_3_1_2_5_a_protocol_error_publishes_the_will() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("error");
        let mut watcher = watcher(&gateway, &topic);
        let will = Will::new(&topic, "erred");
        let mut client = Connect::new(version, &unique("error"))
            .will(will)
            .open(gateway.mqtt());
        client.send(&[0x00, 0x00]);
        client.expect_error();
        assert_eq!(watcher.receive().text(), "erred", "{version:?}");
    }
}

#[test]
fn mqtt_3_1_2_15_a_retained_will_is_retained() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("retained");
        let mut live = watcher(&gateway, &topic);
        let will = Will::new(&topic, "offline").qos(1).retain();
        Connect::new(version, &unique("retained"))
            .will(will)
            .open(gateway.mqtt())
            .vanish();
        assert!(!live.receive().retain);
        let mut late = watcher(&gateway, &topic);
        let message = late.receive();
        assert_eq!(
            (message.text().as_str(), message.retain),
            ("offline", true),
            "{version:?}"
        );
        late.publish(&Publish::new(&topic, "").qos(1).retain());
    }
}

#[test]
fn mqtt5_3_1_3_10_every_property_of_a_will_is_passed_on_in_order() {
    let gateway = Gateway::start();
    let topic = unique("properties");
    let mut watcher = watcher(&gateway, &topic);
    let properties = [
        Property::user("b", "1"),
        Property::PayloadFormat(1),
        Property::ContentType("text/plain".into()),
        Property::user("a", "2"),
        Property::ResponseTopic("answers".into()),
        Property::CorrelationData(vec![0, 1, 255]),
        Property::user("b", "0"),
    ];
    let will = properties
        .iter()
        .cloned()
        .fold(Will::new(&topic, "last"), Will::with);
    let will = will
        .with(Property::MessageExpiry(100))
        .with(Property::WillDelay(0));
    Connect::v5(&unique("properties"))
        .will(will)
        .open(gateway.mqtt())
        .vanish();
    let message = watcher.receive();
    for property in &properties {
        assert!(
            message.properties.contains(property),
            "{property:?}: {message:?}"
        );
    }
    assert!(matches!(message.expiry(), Some(98..=100)), "{message:?}");
    // The delay is for the server, not for the message.
    assert_eq!(
        message.properties.len(),
        properties.len() + 1,
        "{message:?}"
    );
    let user = |property: &&Property| matches!(property, Property::User(..));
    let users: Vec<&Property> = message.properties.iter().filter(user).collect();
    assert_eq!(users, [&properties[0], &properties[3], &properties[6]]);
}

#[test]
fn mqtt5_3_1_3_2_2_a_will_waits_for_its_delay() {
    let gateway = Gateway::start();
    let topic = unique("delayed");
    let mut watcher = watcher(&gateway, &topic);
    let will = Will::new(&topic, "later").with(Property::WillDelay(2));
    let connect = Connect::v5(&unique("delayed")).expiry(600).will(will);
    let client = connect.open(gateway.mqtt());
    let since = Instant::now();
    client.vanish();
    assert_eq!(watcher.receive().text(), "later");
    let waited = since.elapsed();
    let expected = Duration::from_millis(1_900)..Duration::from_millis(4_500);
    assert!(expected.contains(&waited), "after {waited:?}");
}

#[test]
fn mqtt5_3_1_3_9_no_will_if_the_session_is_resumed_in_time() {
    let gateway = Gateway::start();
    let topic = unique("intime");
    let mut watcher = watcher(&gateway, &topic);
    let will = Will::new(&topic, "must not come").with(Property::WillDelay(2));
    let id = unique("intime");
    Connect::v5(&id)
        .expiry(600)
        .will(will)
        .open(gateway.mqtt())
        .vanish();
    let back = Connect::v5(&id).resume().expiry(600).open(gateway.mqtt());
    assert!(back.session_present());
    thread::sleep(Duration::from_millis(3_500));
    watcher.expect_nothing();
    back.disconnect();
}

#[test]
fn mqtt5_3_1_2_5_a_delayed_will_comes_when_the_session_ends_before() {
    let gateway = Gateway::start();
    let topic = unique("session-end");
    let mut watcher = watcher(&gateway, &topic);
    let delayed = || Will::new(&topic, "ended").with(Property::WillDelay(3_600));
    // The session expires first.
    let since = Instant::now();
    Connect::v5(&unique("expires"))
        .expiry(1)
        .will(delayed())
        .open(gateway.mqtt())
        .vanish();
    assert_eq!(watcher.receive().text(), "ended");
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "{:?}",
        since.elapsed()
    );
    // No session to outlive the connection: no delay either.
    Connect::v5(&unique("none"))
        .will(delayed())
        .open(gateway.mqtt())
        .vanish();
    assert_eq!(watcher.receive().text(), "ended");
}

#[test]
fn mqtt5_3_1_2_5_a_clean_start_ends_the_session_and_so_sends_the_delayed_will() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("clean"), unique("clean/t"));
    let mut watcher = watcher(&gateway, &topic);
    let will = Will::new(&topic, "ended").with(Property::WillDelay(3_600));
    Connect::v5(&id)
        .expiry(600)
        .will(will)
        .open(gateway.mqtt())
        .vanish();
    watcher.expect_nothing();
    let _new = Connect::v5(&id).open(gateway.mqtt());
    assert_eq!(watcher.receive().text(), "ended");
    watcher.expect_nothing();
}

#[test]
fn mqtt5_3_1_4_a_takeover_without_delay_publishes_the_will() {
    let gateway = Gateway::start();
    for clean in [true, false] {
        let (id, topic) = (unique("takeover"), unique("takeover/t"));
        let mut watcher = watcher(&gateway, &topic);
        let connect = Connect::v5(&id)
            .expiry(600)
            .will(Will::new(&topic, "taken over"));
        let mut old = connect.open(gateway.mqtt());
        let next = Connect::v5(&id).expiry(600);
        let _new = if clean { next } else { next.resume() }.open(gateway.mqtt());
        old.expect_end(code::TAKEN_OVER);
        assert_eq!(
            watcher.receive().text(),
            "taken over",
            "clean start {clean}"
        );
        watcher.expect_nothing();
    }
}

#[test]
fn mqtt5_3_1_4_a_takeover_that_resumes_spares_a_delayed_will() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("spared"), unique("spared/t"));
    let mut watcher = watcher(&gateway, &topic);
    let will = Will::new(&topic, "must not come").with(Property::WillDelay(1));
    let mut old = Connect::v5(&id).expiry(600).will(will).open(gateway.mqtt());
    let new = Connect::v5(&id).resume().expiry(600).open(gateway.mqtt());
    assert!(new.session_present());
    old.expect_end(code::TAKEN_OVER);
    thread::sleep(Duration::from_millis(2_500));
    watcher.expect_nothing();
    new.disconnect();
}

#[test]
fn mqtt5_3_1_4_a_takeover_with_clean_start_publishes_even_a_delayed_will() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("ended"), unique("ended/t"));
    let mut watcher = watcher(&gateway, &topic);
    let will = Will::new(&topic, "ended").with(Property::WillDelay(3_600));
    let mut old = Connect::v5(&id).expiry(600).will(will).open(gateway.mqtt());
    let _new = Connect::v5(&id).open(gateway.mqtt());
    old.expect_end(code::TAKEN_OVER);
    assert_eq!(watcher.receive().text(), "ended");
    watcher.expect_nothing();
}

#[test]
fn mqtt3_a_takeover_publishes_the_will() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("older"), unique("older/t"));
    let mut watcher = watcher(&gateway, &topic);
    let old = Connect::v311(&id).will(Will::new(&topic, "taken over"));
    let mut old = old.open(gateway.mqtt());
    let _new = Connect::v311(&id).open(gateway.mqtt());
    old.expect_close();
    assert_eq!(watcher.receive().text(), "taken over");
}

#[test]
fn mqtt5_3_1_3_2_2_a_later_connection_replaces_the_will() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("replaced"), unique("replaced/t"));
    let mut watcher = watcher(&gateway, &topic);
    let with = |text: &str| {
        let will = Will::new(&topic, text).with(Property::WillDelay(1));
        Connect::v5(&id).resume().expiry(600).will(will)
    };
    with("first").open(gateway.mqtt()).vanish();
    with("second").open(gateway.mqtt()).vanish();
    assert_eq!(watcher.receive().text(), "second");
    // And a connection without a will leaves none.
    with("third").open(gateway.mqtt()).vanish();
    Connect::v5(&id)
        .resume()
        .expiry(600)
        .open(gateway.mqtt())
        .vanish();
    thread::sleep(Duration::from_millis(2_500));
    watcher.expect_nothing();
}

#[test]
fn mqtt_3_1_2_5_the_client_itself_hears_its_will_when_it_is_back() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("itself"), unique("itself/t"));
    let connect = Connect::lasting(Version::V5, &id).will(Will::new(&topic, "mine").qos(1));
    let mut client = connect.open(gateway.mqtt());
    client.subscribe(&topic, 1);
    client.vanish();
    let mut client = Connect::lasting(Version::V5, &id).open(gateway.mqtt());
    assert_eq!(client.receive().text(), "mine");
}

#[test]
fn mqtt_3_1_2_5_a_half_closed_connection_has_ended() {
    let gateway = Gateway::start();
    let topic = unique("half");
    let mut watcher = watcher(&gateway, &topic);
    let connect = Connect::v311(&unique("half")).will(Will::new(&topic, "half"));
    let mut client = connect.open(gateway.mqtt());
    client.half_close();
    client.expect_close();
    assert_eq!(watcher.receive().text(), "half");
}

#[test]
fn mqtt_3_1_3_a_will_topic_that_is_no_topic_name_is_refused() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        for topic in ["a/#", "+/b", ""] {
            let connect = Connect::new(version, &unique("bad")).will(Will::new(topic, "x"));
            let mut client = Client::dial(gateway.mqtt(), version);
            client.send(&connect.encode());
            match client.next(PATIENCE) {
                Event::Closed => {}
                Event::Packet(Packet::ConnAck(answer)) => assert_ne!(answer.code, 0, "{topic:?}"),
                other => panic!("{topic:?} {version:?}: {other:?}"),
            }
        }
    }
}

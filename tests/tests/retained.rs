//! Retained messages: MQTT 5.0 sections 3.3.1.3 and 3.8.3.1, MQTT 3.1.1 section 3.3.1.3.

use std::thread;
use std::time::Duration;

use tidegate_tests::wire::{Client, Connect, Property, Publish, Version, options};
use tidegate_tests::{Gateway, unique};

#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("retained")).open(gateway.mqtt())
}

/// Publishes a retained message and removes it when the test is over, for brokers that are shared.
struct Retained<'a> {
    gateway: &'a Gateway,
    topics: Vec<String>,
}

impl<'a> Retained<'a> {
    #[track_caller]
    fn new(gateway: &'a Gateway, messages: &[Publish]) -> Self {
        let mut sender = client(gateway);
        for message in messages {
            sender.publish(&message.clone().qos(message.qos.max(1)).retain());
        }
        let topics = messages
            .iter()
            .map(|message| message.topic.clone())
            .collect();
        Self { gateway, topics }
    }
}

impl Drop for Retained<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let mut sender = client(self.gateway);
        for topic in &self.topics {
            sender.publish(&Publish::new(topic, "").qos(1).retain());
        }
    }
}

#[test]
fn mqtt_3_3_1_5_the_last_retained_message_waits_for_new_subscribers() {
    let gateway = Gateway::start();
    for from in Version::ALL {
        for to in Version::ALL {
            let topic = unique("waits");
            let mut sender = Connect::new(from, &unique("sender")).open(gateway.mqtt());
            sender.publish(&Publish::new(&topic, "old").qos(1).retain());
            sender.publish(&Publish::new(&topic, "new").qos(2).retain());
            sender.publish(&Publish::new(&topic, "not retained").qos(1));
            let mut receiver = Connect::new(to, &unique("receiver")).open(gateway.mqtt());
            receiver.subscribe(&topic, 1);
            let message = receiver.receive();
            assert_eq!(message.text(), "new", "{from:?} to {to:?}");
            assert!(
                message.retain && message.qos == 1 && !message.dup,
                "{message:?}"
            );
            receiver.expect_nothing();
            sender.publish(&Publish::new(&topic, "").qos(1).retain());
        }
    }
}

#[test]
fn mqtt_3_3_1_6_an_empty_payload_removes_and_is_passed_on() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let topic = unique("removes");
        let mut live = Connect::new(version, &unique("live")).open(gateway.mqtt());
        live.subscribe(&topic, 1);
        let mut sender = Connect::new(version, &unique("sender")).open(gateway.mqtt());
        sender.publish(&Publish::new(&topic, "kept").qos(1).retain());
        sender.publish(&Publish::new(&topic, "").qos(1).retain());
        assert_eq!(live.receive_texts(2), ["kept", ""]);
        let mut late = Connect::new(version, &unique("late")).open(gateway.mqtt());
        late.subscribe(&topic, 1);
        late.expect_nothing();
    }
}

#[test]
fn mqtt_3_3_1_5_qos_0_messages_are_retained_too() {
    let gateway = Gateway::start();
    let topic = unique("zero");
    let mut sender = client(&gateway);
    sender.send_publish(&Publish::new(&topic, "kept").retain());
    sender.expect_nothing();
    let mut receiver = client(&gateway);
    receiver.subscribe(&topic, 2);
    let message = receiver.receive();
    assert_eq!(
        (message.text().as_str(), message.qos, message.retain),
        ("kept", 0, true)
    );
    sender.publish(&Publish::new(&topic, "").qos(1).retain());
}

#[test]
fn mqtt_3_3_1_9_wildcards_find_every_retained_message_that_matches() {
    let gateway = Gateway::start();
    let root = unique("tree");
    let names = [
        "a", "a/b", "a/b/c", "a//c", "", "x/b", "x/b/c", "x/$y", "z/",
    ];
    // An empty payload would remove: the name comes after a sign.
    let messages: Vec<Publish> = names
        .iter()
        .map(|name| Publish::new(&format!("{root}/{name}"), format!("={name}")))
        .collect();
    let _retained = Retained::new(&gateway, &messages);
    let cases: [(&str, &[&str]); 9] = [
        ("/#", &names),
        ("/a/#", &["a", "a/b", "a/b/c", "a//c"]),
        ("/+", &["a", ""]),
        ("/+/b", &["a/b", "x/b"]),
        ("/+/+", &["a/b", "x/b", "x/$y", "z/"]),
        ("/+/+/c", &["a/b/c", "a//c", "x/b/c"]),
        ("/a/b", &["a/b"]),
        ("/x/+", &["x/b", "x/$y"]),
        ("/none/#", &[]),
    ];
    for (filter, expected) in cases {
        let mut receiver = client(&gateway);
        receiver.subscribe(&format!("{root}{filter}"), 1);
        let mut found = receiver.receive_texts(expected.len());
        receiver.expect_nothing();
        found.sort_unstable();
        let mut expected: Vec<String> = expected.iter().map(|name| format!("={name}")).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn mqtt_4_7_2_1_retained_dollar_topics_are_hidden_from_wildcards() {
    let gateway = Gateway::start();
    let level = format!("${}", unique("hidden"));
    let retained = Publish::new(&format!("{level}/leaf"), "x");
    let _retained = Retained::new(&gateway, std::slice::from_ref(&retained));
    let mut receiver = client(&gateway);
    receiver.subscribe("+/leaf", 1);
    receiver.expect_nothing();
    receiver.subscribe(&format!("{level}/+"), 1);
    assert_eq!(receiver.receive().topic, retained.topic);
}

#[test]
fn mqtt5_3_3_1_9_retain_handling_0_sends_at_every_subscribe() {
    let gateway = Gateway::start();
    let topic = unique("handling");
    let _retained = Retained::new(&gateway, &[Publish::new(&topic, "kept")]);
    for version in Version::ALL {
        let mut receiver = Connect::new(version, &unique("handling")).open(gateway.mqtt());
        for _ in 0..2 {
            receiver.subscribe(&topic, 1);
            assert!(receiver.receive().retain, "{version:?}");
        }
        receiver.expect_nothing();
    }
}

#[test]
fn mqtt5_3_3_1_10_retain_handling_1_sends_to_new_subscriptions_only() {
    let gateway = Gateway::start();
    let topic = unique("handling");
    let _retained = Retained::new(&gateway, &[Publish::new(&topic, "kept")]);
    let connect = Connect::lasting(Version::V5, &unique("handling"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1 | options::RETAINED_IF_NEW);
    assert!(receiver.receive().retain);
    receiver.subscribe(&topic, 1 | options::RETAINED_IF_NEW);
    receiver.expect_nothing();
    // A subscription of a resumed session is not new either.
    receiver.disconnect();
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1 | options::RETAINED_IF_NEW);
    receiver.expect_nothing();
    receiver.unsubscribe(&[&topic]);
    receiver.subscribe(&topic, 1 | options::RETAINED_IF_NEW);
    assert!(receiver.receive().retain);
    receiver.disconnect_with(0, &[Property::SessionExpiry(0)]);
}

#[test]
fn mqtt5_3_3_1_11_retain_handling_2_sends_none() {
    let gateway = Gateway::start();
    let topic = unique("handling");
    let _retained = Retained::new(&gateway, &[Publish::new(&topic, "kept")]);
    let mut receiver = client(&gateway);
    receiver.subscribe(&topic, 1 | options::NO_RETAINED);
    receiver.expect_nothing();
    client(&gateway).publish(&Publish::new(&topic, "live").qos(1));
    assert_eq!(receiver.receive().text(), "live");
}

#[test]
fn mqtt5_4_8_shared_subscriptions_get_no_retained_messages() {
    let gateway = Gateway::start();
    let topic = unique("shared");
    let _retained = Retained::new(&gateway, &[Publish::new(&topic, "kept")]);
    let mut receiver = client(&gateway);
    receiver.subscribe(&format!("$share/group/{topic}"), 1);
    receiver.expect_nothing();
}

#[test]
fn mqtt5_3_3_2_a_retained_message_keeps_its_properties() {
    let gateway = Gateway::start();
    let topic = unique("properties");
    let sent = [
        Property::PayloadFormat(1),
        Property::user("b", "1"),
        Property::ContentType("text/plain".into()),
        Property::user("a", "2"),
        Property::ResponseTopic("answers".into()),
        Property::CorrelationData(vec![1, 0, 2]),
        Property::user("b", "0"),
    ];
    let message = sent
        .iter()
        .cloned()
        .fold(Publish::new(&topic, "kept"), Publish::with);
    let _retained = Retained::new(&gateway, &[message]);
    let mut receiver = client(&gateway);
    receiver.subscribe_with(&[(&topic, 1)], &[Property::SubscriptionId(5)]);
    let received = receiver.receive();
    assert_eq!(received.subscription_ids(), [5]);
    for property in &sent {
        assert!(
            received.properties.contains(property),
            "{property:?}: {received:?}"
        );
    }
    let users: Vec<&Property> = received
        .properties
        .iter()
        .filter(|property| matches!(property, Property::User(..)))
        .collect();
    assert_eq!(users, [&sent[1], &sent[3], &sent[6]], "3.3.2-18");
}

#[test]
fn mqtt5_3_3_2_6_the_expiry_of_a_retained_message_counts_down() {
    let gateway = Gateway::start();
    let topic = unique("counts");
    let message = Publish::new(&topic, "kept").with(Property::MessageExpiry(60));
    let _retained = Retained::new(&gateway, &[message]);
    // Time is what is tested.
    thread::sleep(Duration::from_millis(2_200));
    let mut receiver = client(&gateway);
    receiver.subscribe(&topic, 1);
    let left = receiver.receive().expiry();
    assert!(
        matches!(left, Some(50..=58)),
        "{left:?} of 60 s are left after two"
    );
}

#[test]
fn mqtt5_3_3_2_5_an_expired_retained_message_is_not_sent() {
    let gateway = Gateway::start();
    let topic = unique("expired");
    let message = Publish::new(&topic, "gone").with(Property::MessageExpiry(1));
    let _retained = Retained::new(&gateway, &[message]);
    thread::sleep(Duration::from_millis(2_300));
    let mut receiver = client(&gateway);
    receiver.subscribe(&topic, 1);
    receiver.expect_nothing();
}

#[test]
fn mqtt_3_8_4_the_retained_value_never_follows_a_newer_live_one() {
    let gateway = Gateway::start();
    let topic = unique("newest");
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "0").qos(1).retain());
    // Subscribes at many moments of a stream of retained values: the numbers must only go up.
    thread::scope(|scope| {
        let stream = scope.spawn(|| {
            for number in 1..=600 {
                sender.publish(&Publish::new(&topic, number.to_string()).qos(1).retain());
            }
        });
        for _ in 0..30 {
            let mut receiver = client(&gateway);
            receiver.subscribe(&topic, 1);
            let numbers: Vec<u32> = (0..5)
                .map(|_| receiver.receive().text().parse().unwrap())
                .take(5)
                .collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
            if stream.is_finished() || numbers.last() > Some(&550) {
                break;
            }
        }
        stream.join().unwrap();
    });
    sender.publish(&Publish::new(&topic, "").qos(1).retain());
}

#[test]
fn mqtt_3_3_1_many_retained_messages_all_arrive() {
    let gateway = Gateway::start();
    let root = unique("many");
    let mut sender = client(&gateway);
    for number in 0..3_000 {
        let topic = format!("{root}/{}/{number}", number % 50);
        sender.send_publish(&Publish::new(&topic, number.to_string()).retain());
    }
    sender.expect_nothing();
    let mut receiver = client(&gateway);
    receiver.subscribe(&format!("{root}/#"), 0);
    let mut found: Vec<u32> = receiver
        .receive_texts(3_000)
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..3_000).collect::<Vec<_>>());
    for number in 0..3_000 {
        let topic = format!("{root}/{}/{number}", number % 50);
        sender.send_publish(&Publish::new(&topic, "").retain());
    }
    sender.expect_nothing();
}

//! Retained messages (MQTT 5.0 section 3.3.1.3) where the gateway has a choice. What the specification
//! asks for is in the conformance suite.

use std::thread;

use tidegate_tests::wire::{Client, Connect, Publish};
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

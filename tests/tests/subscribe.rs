//! SUBSCRIBE, topics and fan-out (MQTT 5.0 sections 3.8, 3.3.5 and 4.7) where the gateway has a choice or
//! is told by its configuration. What the specification asks for is in the conformance suite.

use tidegate_tests::wire::{
    Client, Connect, Packet, Property, Publish, Subscribe, Version, code, disconnect, options,
};
use tidegate_tests::{Gateway, unique};

#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("subscribe")).open(gateway.mqtt())
}

/// All messages that came before the answer to a ping, acknowledged.
#[track_caller]
fn drain(client: &mut Client) -> Vec<Publish> {
    let mut messages = Vec::new();
    for packet in client.fence() {
        match packet {
            Packet::Publish(message) => {
                client.acknowledge(&message);
                messages.push(message);
            }
            other => panic!("{other:?}"),
        }
    }
    messages
}

#[test]
fn mqtt_4_7_2_1_wildcards_at_the_front_do_not_match_dollar_topics() {
    let gateway = Gateway::start();
    let level = format!("${}", unique("dollar"));
    let mut client = client(&gateway);
    let id = |number| [Property::SubscriptionId(number)];
    client.subscribe_with(&[("#", options::NO_RETAINED)], &id(1));
    client.subscribe_with(&[("+/leaf", options::NO_RETAINED)], &id(2));
    client.subscribe_with(&[(&format!("{level}/#"), 0)], &id(3));
    client.subscribe_with(&[(&format!("{level}/+"), 0)], &id(4));
    client.publish(&Publish::new(&format!("{level}/leaf"), "x").qos(1));
    let mut ids: Vec<u32> = drain(&mut client)
        .iter()
        .filter(|message| message.topic.starts_with(&level))
        .flat_map(Publish::subscription_ids)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [3, 4]);
}

#[test]
fn mqtt5_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    let packet = Subscribe {
        id: 1,
        properties: Vec::new(),
        filters: vec![("$share/group/topic".into(), 1 | options::NO_LOCAL)],
    };
    client.send(&packet.encode(Version::V5));
    assert_eq!(client.expect_disconnect().code, code::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_8_4_one_filter_may_be_refused_and_its_neighbours_granted() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_topic_levels = 3") else {
        return;
    };
    let mut client = client(&gateway);
    let answer = client.subscribe_with(&[("a/b/c", 1), ("a/b/c/d", 1), ("e", 2)], &[]);
    assert_eq!((answer.codes[0], answer.codes[2]), (1, 2), "{answer:?}");
    assert!(answer.codes[1] >= 0x80, "{answer:?}");
    client.publish(&Publish::new("e", "x").qos(1));
    assert_eq!(client.receive().text(), "x");
}

#[test]
fn mqtt_3_3_5_many_subscribers_each_get_one_copy() {
    let gateway = Gateway::start();
    let topic = unique("fan");
    let mut receivers: Vec<Client> = (0..200)
        .map(|number| {
            let version = Version::ALL[number % 3];
            let mut client = Connect::new(version, &unique("fan")).open(gateway.mqtt());
            client.subscribe(&topic, (number % 3) as u8);
            client
        })
        .collect();
    let mut sender = client(&gateway);
    for text in ["one", "two"] {
        sender.publish(&Publish::new(&topic, text).qos(1));
    }
    for receiver in &mut receivers {
        assert_eq!(receiver.receive_texts(2), ["one", "two"]);
        receiver.expect_nothing();
    }
}

#[test]
fn mqtt_4_6_a_fan_out_in_slices_keeps_its_order() {
    let Some(gateway) = Gateway::configured("[limits]\nfanout_slice = 7") else {
        return;
    };
    let topic = unique("slices");
    let mut receivers: Vec<Client> = (0..60)
        .map(|_| {
            let mut receiver = client(&gateway);
            receiver.subscribe(&topic, 1);
            receiver
        })
        .collect();
    let mut sender = client(&gateway);
    let mut bytes = Vec::new();
    for id in 1..=100 {
        let message = Publish::new(&topic, id.to_string())
            .qos(id as u8 % 2)
            .id(id);
        bytes.extend(message.encode(Version::V5));
    }
    // And a last word on the same connection: it may not overtake.
    bytes.extend(disconnect(0, &[]));
    sender.send(&bytes);
    let expected: Vec<String> = (1..=100).map(|id| id.to_string()).collect();
    for receiver in &mut receivers {
        assert_eq!(receiver.receive_texts(100), expected);
        receiver.expect_nothing();
    }
}

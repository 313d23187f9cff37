//! SUBSCRIBE and UNSUBSCRIBE, topics and filters: MQTT 5.0 sections 3.8 to 3.11, 3.3.4 and 4.7.

use tidegate_tests::wire::{
    Client, Connect, Event, PATIENCE, Packet, Property, Publish, Version, code, disconnect, frame,
    options,
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
fn mqtt_3_8_4_6_every_filter_has_its_own_code() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("many")).open(gateway.mqtt());
        let answer = client.subscribe_with(&[("a/b", 2), ("c/+", 0), ("d/#", 1)], &[]);
        assert_eq!(answer.codes, [2, 0, 1], "{version:?}");
    }
}

#[test]
fn mqtt_4_7_1_filters_match_as_the_specification_says() {
    let gateway = Gateway::start();
    let root = unique("match");
    // Filter, topic, whether it matches; the examples of 4.7.1 and 4.7.3 are among them.
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon",
            true,
        ),
        ("sport/tennis/player1/#", "sport/tennis/player2", false),
        ("sport/#", "sport", true),
        ("#", "anything/at/all", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+", "finance", true),
        ("+/tennis/#", "sport/tennis", true),
        ("sport/+/player1", "sport/tennis/player1", true),
        ("sport/+/player1", "sport//player1", true),
        ("ACCOUNTS", "Accounts", false),
        ("a/", "a", false),
        ("a", "a/", false),
        ("a//b", "a/b", false),
        ("a b/ü/日本", "a b/ü/日本", true),
        ("$data/x", "$data/x", true),
        ("+/$data", "x/$data", true),
    ];
    for (filter, topic, matches) in cases {
        let (filter, topic) = (format!("{root}/{filter}"), format!("{root}/{topic}"));
        let mut client = client(&gateway);
        client.subscribe(&filter, 1);
        client.publish(&Publish::new(&topic, "x").qos(1));
        assert_eq!(
            drain(&mut client).len(),
            usize::from(matches),
            "{filter} and {topic}"
        );
    }
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
fn mqtt_3_3_4_overlapping_subscriptions_deliver_at_the_highest_qos() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let root = unique("overlap");
        let mut client = Connect::new(version, &unique("overlap")).open(gateway.mqtt());
        for (filter, qos) in [("/a", 0), ("/#", 2), ("/+", 1)] {
            client.subscribe(&format!("{root}{filter}"), qos);
        }
        client.publish(&Publish::new(&format!("{root}/a"), "x").qos(2));
        // 3.3.4-2: one copy at the highest QoS; further copies for the other subscriptions may come.
        let first = client.receive();
        let mut highest = first.qos;
        for message in drain(&mut client) {
            highest = highest.max(message.qos);
        }
        assert_eq!(highest, 2, "{version:?}");
    }
}

#[test]
fn mqtt5_3_3_4_3_each_matching_subscription_is_named_by_its_identifier() {
    let gateway = Gateway::start();
    let root = unique("ids");
    let mut client = client(&gateway);
    // One byte, two, three and four on the wire.
    for (filter, id) in [
        ("/a", 1),
        ("/+", 128),
        ("/#", 16_384),
        ("/a/#", 268_435_455),
    ] {
        let filter = format!("{root}{filter}");
        client.subscribe_with(&[(&filter, 1)], &[Property::SubscriptionId(id)]);
    }
    client.subscribe(&format!("+{}", "/a"), 0);
    client.publish(&Publish::new(&format!("{root}/a"), "x").qos(1));
    let messages = drain(&mut client);
    let mut ids: Vec<u32> = messages
        .iter()
        .flat_map(Publish::subscription_ids)
        .collect();
    ids.sort_unstable();
    // 3.3.4-4 and -5: all in one copy, or one in each.
    assert_eq!(ids, [1, 128, 16_384, 268_435_455], "{messages:?}");
}

#[test]
fn mqtt5_3_8_4_3_a_second_subscription_replaces_the_first() {
    let gateway = Gateway::start();
    let topic = unique("replace");
    let mut client = client(&gateway);
    client.subscribe_with(&[(&topic, 2)], &[Property::SubscriptionId(1)]);
    client.subscribe_with(&[(&topic, 0)], &[Property::SubscriptionId(2)]);
    client.publish(&Publish::new(&topic, "x").qos(2));
    let messages = drain(&mut client);
    assert_eq!(messages.len(), 1);
    assert_eq!(
        (messages[0].qos, messages[0].subscription_ids()),
        (0, vec![2])
    );
    client.subscribe(&topic, 1);
    client.publish(&Publish::new(&topic, "x").qos(2));
    let messages = drain(&mut client);
    assert_eq!(
        (messages[0].qos, messages[0].subscription_ids()),
        (1, vec![])
    );
}

#[test]
fn mqtt5_3_8_3_3_no_local_keeps_a_clients_own_messages_from_it() {
    let gateway = Gateway::start();
    let topic = unique("local");
    let (mut own, mut other) = (client(&gateway), client(&gateway));
    own.subscribe(&topic, 1 | options::NO_LOCAL);
    own.publish(&Publish::new(&topic, "own").qos(1));
    own.expect_nothing();
    other.publish(&Publish::new(&topic, "foreign").qos(1));
    assert_eq!(own.receive().text(), "foreign");
    // It goes by client id, not by connection, and it is changed by subscribing again.
    own.subscribe(&topic, 1);
    own.publish(&Publish::new(&topic, "own").qos(1));
    assert_eq!(own.receive().text(), "own");
}

#[test]
fn mqtt5_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    let mut body = vec![0, 1, 0];
    let filter = b"$share/group/topic";
    body.extend_from_slice(&[0, filter.len() as u8]);
    body.extend_from_slice(filter);
    body.push(1 | options::NO_LOCAL);
    client.send(&frame(0x82, &body));
    assert_eq!(client.expect_disconnect().code, code::PROTOCOL_ERROR);
}

#[test]
fn mqtt5_3_3_1_13_retain_as_published_keeps_the_flag() {
    let gateway = Gateway::start();
    let topic = unique("rap");
    let (mut keeps, mut clears) = (client(&gateway), client(&gateway));
    keeps.subscribe(&topic, 1 | options::RETAIN_AS_PUBLISHED);
    clears.subscribe(&topic, 1);
    let mut sender = client(&gateway);
    for retain in [true, false] {
        let message = Publish::new(&topic, "x").qos(1);
        sender.publish(&if retain { message.retain() } else { message });
        assert_eq!(keeps.receive().retain, retain);
        assert!(!clears.receive().retain, "3.3.1-12");
    }
    sender.publish(&Publish::new(&topic, "").qos(1).retain());
}

#[test]
fn mqtt_3_10_4_after_unsubscribe_nothing_more_comes() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let (first, second) = (unique("un/1"), unique("un/2"));
        let mut client = Connect::new(version, &unique("un")).open(gateway.mqtt());
        client.subscribe(&first, 1);
        client.subscribe(&second, 1);
        let answer = client.unsubscribe(&[&first, "never/subscribed"]);
        let expected = [0, code::NO_SUBSCRIPTION];
        assert_eq!(
            answer.codes,
            if version == Version::V5 {
                &expected[..]
            } else {
                &[]
            }
        );
        client.publish(&Publish::new(&first, "gone").qos(1));
        client.publish(&Publish::new(&second, "still").qos(1));
        assert_eq!(client.receive().text(), "still");
        client.expect_nothing();
    }
}

#[test]
fn mqtt_3_10_4_1_unsubscribe_compares_filters_character_by_character() {
    let gateway = Gateway::start();
    let root = unique("exact");
    let mut client = client(&gateway);
    client.subscribe(&format!("{root}/+"), 1);
    let answer = client.unsubscribe(&[&format!("{root}/a"), &format!("{root}/#")]);
    assert_eq!(answer.codes, [code::NO_SUBSCRIPTION; 2]);
    client.publish(&Publish::new(&format!("{root}/a"), "x").qos(1));
    assert_eq!(client.receive().text(), "x");
}

#[test]
fn mqtt_4_7_3_filters_that_are_not_valid_are_refused() {
    let gateway = Gateway::start();
    for filter in ["a/#/b", "a#", "#a", "a+", "+a/b", "a/+b", "##", ""] {
        for version in Version::ALL {
            let mut client = Connect::new(version, &unique("bad")).open(gateway.mqtt());
            let mut body = vec![0, 9];
            if version == Version::V5 {
                body.push(0);
            }
            body.extend_from_slice(&[0, filter.len() as u8]);
            body.extend_from_slice(filter.as_bytes());
            body.push(0);
            client.send(&frame(0x82, &body));
            refused(&mut client, filter, version);
        }
    }
}

/// A SUBSCRIBE may be refused by its code or end the connection with an error; never granted.
#[track_caller]
fn refused(client: &mut Client, filter: &str, version: Version) {
    match client.next(PATIENCE) {
        Event::Packet(Packet::SubAck(answer)) => {
            assert!(
                answer.codes.iter().all(|code| *code >= 0x80),
                "{filter:?} {version:?}"
            );
        }
        Event::Packet(Packet::Disconnect(reason)) => {
            assert!(reason.code >= 0x80, "{filter:?}: {reason:?}");
        }
        Event::Closed => {}
        other => panic!("{filter:?} {version:?}: {other:?}"),
    }
}

#[test]
fn mqtt5_4_8_2_shared_filters_that_are_not_valid_are_refused() {
    let gateway = Gateway::start();
    for filter in [
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//t",
        "$share/g+/t",
        "$share/#/t",
    ] {
        let mut client = client(&gateway);
        let mut body = vec![0, 9, 0, 0, filter.len() as u8];
        body.extend_from_slice(filter.as_bytes());
        body.push(0);
        client.send(&frame(0x82, &body));
        refused(&mut client, filter, Version::V5);
    }
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

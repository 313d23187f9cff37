//! Shared subscriptions where MQTT 5.0 section 4.8.2 leaves a choice to the server: the strategies, and
//! who inherits what a member leaves. What it asks for is in the conformance suite.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tidegate_tests::wire::{Client, Connect, PATIENCE, Packet, Property, Publish, Version};
use tidegate_tests::{Gateway, unique};

#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("shared")).open(gateway.mqtt())
}

/// `count` clients that share `topic` as one group.
#[track_caller]
fn group(gateway: &Gateway, topic: &str, count: usize) -> Vec<Client> {
    let filter = format!("$share/group/{topic}");
    (0..count)
        .map(|_| {
            let mut member = client(gateway);
            member.subscribe(&filter, 2);
            member
        })
        .collect()
}

/// Publishes one message of QoS 1 and says which member has it. Those in `acknowledging` complete it.
#[track_caller]
fn deliver(
    sender: &mut Client,
    topic: &str,
    members: &mut [Client],
    acknowledging: impl Fn(usize) -> bool,
) -> usize {
    assert_eq!(sender.publish(&Publish::new(topic, "x").qos(1)), 0);
    let mut found = Vec::new();
    let end = Instant::now() + PATIENCE;
    // It may have been given to a member that was just leaving, and come to another from there.
    while found.is_empty() && Instant::now() < end {
        for (index, member) in members.iter_mut().enumerate() {
            for packet in member.fence() {
                let Packet::Publish(message) = packet else {
                    panic!("{packet:?}")
                };
                assert_eq!(message.topic, topic);
                found.push(index);
                if acknowledging(index) {
                    member.acknowledge(&message);
                    // The answer to a ping says that the acknowledgement was read, too.
                    member.expect_nothing();
                }
            }
        }
    }
    assert_eq!(found.len(), 1, "one member and only one: {found:?}");
    found[0]
}

#[test]
fn mqtt5_4_8_2_unacknowledged_qos_1_messages_of_a_lost_member_go_to_another() {
    let gateway = Gateway::start();
    let topic = unique("lost");
    let mut lost = group(&gateway, &topic, 1).remove(0);
    let mut sender = client(&gateway);
    for number in 0..5 {
        sender.publish(&Publish::new(&topic, number.to_string()).qos(1));
    }
    let held: Vec<String> = (0..5).map(|_| lost.expect_publish().text()).collect();
    let mut heir = group(&gateway, &topic, 1).remove(0);
    heir.expect_nothing();
    lost.vanish();
    let mut inherited = heir.receive_texts(5);
    inherited.sort_unstable();
    assert_eq!(inherited, held);
    heir.expect_nothing();
}

#[test]
fn mqtt5_4_8_2_messages_that_wait_for_a_lost_member_go_to_another() {
    let gateway = Gateway::start();
    let topic = unique("stranded");
    let connect = Connect::v5(&unique("narrow")).with(Property::ReceiveMaximum(1));
    let mut lost = connect.open(gateway.mqtt());
    lost.subscribe(&format!("$share/group/{topic}"), 1);
    let mut sender = client(&gateway);
    for number in 0..5 {
        sender.publish(&Publish::new(&topic, number.to_string()).qos(1));
    }
    // One is in flight, four wait in the member's queue.
    assert_eq!(lost.expect_publish().text(), "0");
    let mut heir = group(&gateway, &topic, 1).remove(0);
    lost.vanish();
    let mut inherited = heir.receive_texts(5);
    inherited.sort_unstable();
    assert_eq!(inherited, ["0", "1", "2", "3", "4"]);
    heir.expect_nothing();
}

#[test]
fn mqtt5_4_8_2_a_connected_member_is_preferred_to_one_that_is_away() {
    let gateway = Gateway::start();
    let topic = unique("away");
    let connect = Connect::lasting(Version::V5, &unique("away"));
    let mut away = connect.open(gateway.mqtt());
    away.subscribe(&format!("$share/group/{topic}"), 1);
    away.disconnect();
    let mut here = group(&gateway, &topic, 1).remove(0);
    let mut sender = client(&gateway);
    for number in 0..20 {
        sender.publish(&Publish::new(&topic, number.to_string()).qos(1));
    }
    assert_eq!(
        here.receive_texts(20),
        (0..20).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    // With nobody here the group's messages wait for the one that is away.
    here.disconnect();
    sender.publish(&Publish::new(&topic, "waits").qos(1));
    assert_eq!(connect.open(gateway.mqtt()).receive().text(), "waits");
}

// ---- strategies: each of these fails under every other strategy ----

#[track_caller]
fn with_strategy(name: &str) -> Option<Gateway> {
    Gateway::configured(&format!("[sessions]\nshared_strategy = \"{name}\""))
}

#[test]
fn round_robin_takes_turns_whatever_is_in_flight() {
    let Some(gateway) = with_strategy("round_robin") else {
        return;
    };
    let topic = unique("turns");
    let mut members = group(&gateway, &topic, 3);
    let mut sender = client(&gateway);
    let turns: Vec<usize> = (0..30)
        .map(|_| deliver(&mut sender, &topic, &mut members, |index| index != 0))
        .collect();
    let first: BTreeSet<usize> = turns[..3].iter().copied().collect();
    assert_eq!(first.len(), 3, "{turns:?}");
    assert!(turns.windows(4).all(|turn| turn[0] == turn[3]), "{turns:?}");
}

#[test]
fn least_inflight_spares_the_member_that_is_behind() {
    let Some(gateway) = with_strategy("least_inflight") else {
        return;
    };
    let topic = unique("behind");
    let mut members = group(&gateway, &topic, 3);
    let mut sender = client(&gateway);
    let mut counts = [0; 3];
    for _ in 0..31 {
        counts[deliver(&mut sender, &topic, &mut members, |index| index != 0)] += 1;
    }
    assert_eq!(counts[0], 1, "the first never acknowledges: {counts:?}");
    assert_eq!(counts[1], counts[2], "equal ones take turns: {counts:?}");
}

#[test]
fn random_is_even_and_without_a_pattern() {
    let Some(gateway) = with_strategy("random") else {
        return;
    };
    let topic = unique("random");
    let mut members = group(&gateway, &topic, 3);
    let mut sender = client(&gateway);
    let turns: Vec<usize> = (0..300)
        .map(|_| deliver(&mut sender, &topic, &mut members, |_| true))
        .collect();
    for index in 0..3 {
        let share = turns.iter().filter(|turn| **turn == index).count();
        // Six standard deviations on either side of a third.
        assert!((51..=149).contains(&share), "{index}: {share}");
    }
    let repeats = turns.windows(4).filter(|turn| turn[0] == turn[3]).count();
    assert!(
        (40..=180).contains(&repeats),
        "members that take turns repeat always: {repeats}"
    );
}

#[test]
fn sticky_stays_with_one_member_until_it_leaves() {
    let Some(gateway) = with_strategy("sticky") else {
        return;
    };
    let root = unique("sticky");
    let mut members = group(&gateway, &format!("{root}/#"), 3);
    let deliver_many = |members: &mut [Client]| -> BTreeSet<usize> {
        // Many clients, many topics: neither plays a part.
        (0..20)
            .map(|number| {
                let topic = format!("{root}/{number}");
                deliver(&mut client(&gateway), &topic, members, |_| true)
            })
            .collect()
    };
    let chosen = deliver_many(&mut members);
    assert_eq!(chosen.len(), 1, "{chosen:?}");
    let leaving = chosen.into_iter().next().unwrap();
    members.remove(leaving).disconnect();
    assert_eq!(deliver_many(&mut members).len(), 1);
}

#[test]
fn hash_topic_gives_a_topic_to_one_member() {
    let Some(gateway) = with_strategy("hash_topic") else {
        return;
    };
    let root = unique("topics");
    let mut members = group(&gateway, &format!("{root}/#"), 3);
    let mut sender = client(&gateway);
    let mut homes: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    // A prime, so that taking turns does not look like a hash.
    for number in 0..61 * 3 {
        let topic = format!("{root}/{}", number % 61);
        let member = deliver(&mut sender, &topic, &mut members, |_| true);
        homes.entry(number % 61).or_default().insert(member);
    }
    assert!(homes.values().all(|home| home.len() == 1), "{homes:?}");
    let used: BTreeSet<usize> = homes.values().flatten().copied().collect();
    assert_eq!(
        used.len(),
        3,
        "61 topics of one client spread over all members"
    );
}

#[test]
fn hash_client_gives_a_client_to_one_member() {
    let Some(gateway) = with_strategy("hash_client") else {
        return;
    };
    let root = unique("clients");
    let mut members = group(&gateway, &format!("{root}/#"), 3);
    let mut senders: Vec<Client> = (0..37).map(|_| client(&gateway)).collect();
    let mut homes: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for round in 0..3 {
        for (index, sender) in senders.iter_mut().enumerate() {
            // No topic comes twice.
            let topic = format!("{root}/{round}/{index}");
            let member = deliver(sender, &topic, &mut members, |_| true);
            homes.entry(index).or_default().insert(member);
        }
    }
    assert!(homes.values().all(|home| home.len() == 1), "{homes:?}");
    let used: BTreeSet<usize> = homes.values().flatten().copied().collect();
    assert_eq!(used.len(), 3, "37 clients spread over all members");
}

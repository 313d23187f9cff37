//! Shared subscriptions: MQTT 5.0 section 4.8.2, and the strategies that it leaves to the server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidegate_tests::wire::{
    Ack, Client, Connect, Event, PATIENCE, Packet, Property, Publish, Version, code,
};
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
fn mqtt5_4_8_2_every_message_goes_to_one_member() {
    let gateway = Gateway::start();
    for qos in 0..=2 {
        let topic = unique("one");
        let mut members = group(&gateway, &topic, 3);
        let mut sender = client(&gateway);
        for number in 0..90 {
            sender.publish(&Publish::new(&topic, number.to_string()).qos(qos));
        }
        let mut texts = Vec::new();
        let end = Instant::now() + PATIENCE;
        while texts.len() < 90 && Instant::now() < end {
            for member in &mut members {
                while let Event::Packet(Packet::Publish(message)) =
                    member.next(Duration::from_millis(20))
                {
                    member.acknowledge(&message);
                    texts.push(message.text().parse::<u32>().unwrap());
                }
            }
        }
        members.iter_mut().for_each(Client::expect_nothing);
        texts.sort_unstable();
        assert_eq!(texts, (0..90).collect::<Vec<_>>(), "QoS {qos}");
    }
}

#[test]
fn mqtt5_4_8_2_groups_and_plain_subscriptions_each_get_their_copy() {
    let gateway = Gateway::start();
    let topic = unique("copies");
    let mut one = group(&gateway, &topic, 1);
    let mut other = client(&gateway);
    other.subscribe(&format!("$share/other/{topic}"), 1);
    let mut plain = client(&gateway);
    plain.subscribe(&topic, 1);
    // The same client in a group and by itself: two subscriptions, two copies or two identifiers.
    let mut both = client(&gateway);
    both.subscribe_with(&[(&topic, 1)], &[Property::SubscriptionId(1)]);
    both.subscribe_with(
        &[(&format!("$share/third/{topic}"), 1)],
        &[Property::SubscriptionId(2)],
    );
    client(&gateway).publish(&Publish::new(&topic, "x").qos(1));
    for receiver in [&mut one[0], &mut other, &mut plain] {
        assert_eq!(receiver.receive().text(), "x");
        receiver.expect_nothing();
    }
    let mut ids = BTreeSet::new();
    for packet in both.fence() {
        let Packet::Publish(message) = packet else {
            panic!("{packet:?}")
        };
        ids.extend(message.subscription_ids());
    }
    assert_eq!(ids, BTreeSet::from([1, 2]));
}

#[test]
fn mqtt5_4_8_2_3_the_members_granted_qos_holds() {
    let gateway = Gateway::start();
    let topic = unique("granted");
    let mut member = client(&gateway);
    member.subscribe(&format!("$share/group/{topic}"), 0);
    client(&gateway).publish(&Publish::new(&topic, "x").qos(2));
    assert_eq!(member.receive().qos, 0);
}

#[test]
fn mqtt5_4_8_2_wildcards_work_in_shared_filters() {
    let gateway = Gateway::start();
    let root = unique("wild");
    let mut member = client(&gateway);
    member.subscribe(&format!("$share/group/{root}/+/x/#"), 1);
    let mut sender = client(&gateway);
    for (topic, matches) in [
        ("a/x", true),
        ("b/x/y/z", true),
        ("a/y", false),
        ("a", false),
    ] {
        sender.publish(&Publish::new(&format!("{root}/{topic}"), topic).qos(1));
        if matches {
            assert_eq!(member.receive().text(), topic);
        }
        member.expect_nothing();
    }
}

#[test]
fn mqtt5_4_8_2_a_member_that_unsubscribes_or_leaves_gets_nothing_more() {
    let gateway = Gateway::start();
    let topic = unique("leaves");
    let mut members = group(&gateway, &topic, 3);
    let mut sender = client(&gateway);
    let answer = members[0].unsubscribe(&[&format!("$share/group/{topic}")]);
    assert_eq!(answer.codes, [0]);
    members.remove(1).disconnect();
    for _ in 0..10 {
        assert_eq!(deliver(&mut sender, &topic, &mut members, |_| true), 1);
    }
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
fn mqtt5_4_8_2_4_a_qos_2_delivery_is_completed_with_its_member() {
    let gateway = Gateway::start();
    let topic = unique("complete");
    let connect = Connect::lasting(Version::V5, &unique("member"));
    let mut member = connect.open(gateway.mqtt());
    member.subscribe(&format!("$share/group/{topic}"), 2);
    client(&gateway).publish(&Publish::new(&topic, "x").qos(2));
    let first = member.expect_publish();
    let mut other = group(&gateway, &topic, 1).remove(0);
    member.vanish();
    other.expect_nothing();
    let mut member = connect.open(gateway.mqtt());
    let again = member.receive();
    assert_eq!(
        (again.id, again.dup, again.text().as_str()),
        (first.id, true, "x")
    );
    other.expect_nothing();
}

#[test]
fn mqtt5_4_8_2_5_a_qos_2_message_of_an_ended_session_goes_to_nobody_else() {
    let gateway = Gateway::start();
    let topic = unique("nobody");
    let mut lost = group(&gateway, &topic, 1).remove(0);
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "QoS 2").qos(2));
    sender.publish(&Publish::new(&topic, "QoS 1").qos(1));
    assert_eq!(
        (lost.expect_publish().qos, lost.expect_publish().qos),
        (2, 1)
    );
    let mut heir = group(&gateway, &topic, 1).remove(0);
    lost.vanish();
    // The message of QoS 1 shows that the session's end was dealt with.
    assert_eq!(heir.receive().text(), "QoS 1");
    heir.expect_nothing();
}

#[test]
fn mqtt5_4_8_2_6_a_refused_message_is_discarded() {
    let gateway = Gateway::start();
    for qos in [1, 2] {
        let topic = unique("refused");
        let mut members = group(&gateway, &topic, 2);
        client(&gateway).publish(&Publish::new(&topic, "unwanted").qos(qos));
        let mut refusals = 0;
        for member in &mut members {
            for packet in member.fence() {
                let Packet::Publish(message) = packet else {
                    panic!("{packet:?}")
                };
                let refusal = Ack::new(message.id).code(code::UNSPECIFIED);
                if qos == 1 {
                    member.send_puback(&refusal);
                } else {
                    member.send_pubrec(&refusal);
                }
                refusals += 1;
            }
        }
        assert_eq!(refusals, 1);
        for member in &mut members {
            member.expect_nothing();
        }
        // Nor when the one that refused leaves.
        members.remove(0).disconnect();
        members[0].expect_nothing();
    }
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

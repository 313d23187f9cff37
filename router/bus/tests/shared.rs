//! Shared subscriptions (MQTT 5.0 section 4.8.2).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use support::{Client, Got, TestBus};
use tidegate_bus::*;

const ALL: [SharedStrategy; 7] = [
    SharedStrategy::LeastInflight,
    SharedStrategy::RoundRobin,
    SharedStrategy::Random,
    SharedStrategy::Sticky,
    SharedStrategy::HashTopic,
    SharedStrategy::HashClient,
    SharedStrategy::LocalFirst,
];

fn bus(strategy: SharedStrategy) -> TestBus {
    TestBus::with(|settings| settings.shared_strategy = strategy)
}

fn members(bus: &TestBus, count: usize, filter: &str, qos: QoS) -> Vec<Client> {
    (0..count)
        .map(|n| {
            let client = bus.connect(&format!("m{n}"));
            client.subscribe(filter, qos);
            client
        })
        .collect()
}

/// Asserts that `holds` is true of `strategy` and of no other, so that the property tells them
/// apart.
fn only(strategy: SharedStrategy, holds: impl Fn(SharedStrategy) -> bool) {
    for other in ALL {
        assert_eq!(holds(other), other == strategy, "{other:?}");
    }
}

fn counts(clients: &mut [Client]) -> Vec<usize> {
    clients
        .iter_mut()
        .map(|client| client.payloads().len())
        .collect()
}

#[test]
fn least_inflight_spares_the_member_that_does_not_acknowledge() {
    only(SharedStrategy::LeastInflight, |strategy| {
        let bus = bus(strategy);
        let mut clients = members(&bus, 3, "$share/g/#", QoS::AtLeastOnce);
        let publishers: Vec<_> = (0..40).map(|n| bus.connect(&format!("p{n}"))).collect();
        // The first member takes one message and never acknowledges; the others do at once.
        let mut received = [0; 3];
        for n in 0..60 {
            let topic = format!("t/{n}");
            let _ = publishers[n % 40].publish(&topic, "m", QoS::AtLeastOnce);
            for (at, client) in clients.iter_mut().enumerate() {
                for got in client.read() {
                    received[at] += 1;
                    if at > 0 {
                        client.acknowledge(got.id());
                    }
                }
            }
        }
        received[0] == 1 && received[1] > 10 && received[2] > 10
    });
}

/// Publishes so many messages at QoS 1 in one batch, and tells what each member then has open.
fn publish_batch(bus: &TestBus, publisher: &Client, count: usize, members: &[Client]) -> Vec<u32> {
    bus.bus.batch(|worker| {
        for _ in 0..count {
            let mut message = Message::new(TopicName::new("t").unwrap(), b"m");
            message.qos = QoS::AtLeastOnce;
            let _ = publisher.attachment.publish(worker, message, None).unwrap();
        }
    });
    let sessions = members.iter().map(|client| client.attachment.session());
    sessions.map(|session| session.load()).collect()
}

#[test]
fn least_inflight_shares_a_batch_evenly_while_little_is_open() {
    let bus = bus(SharedStrategy::LeastInflight);
    let clients = members(&bus, 3, "$share/g/t", QoS::AtLeastOnce);
    let publisher = bus.connect("p");
    for sum in 1..=7 {
        let open = publish_batch(&bus, &publisher, 3, &clients);
        assert_eq!(open, [sum; 3]);
    }
}

#[test]
fn least_inflight_stays_with_a_member_for_an_eighth_of_what_it_has_open() {
    let bus = bus(SharedStrategy::LeastInflight);
    let mut clients = members(&bus, 3, "$share/g/t", QoS::AtLeastOnce);
    let publisher = bus.connect("p");
    for _ in 0..240 {
        publish_batch(&bus, &publisher, 1, &clients);
    }
    assert_eq!(publish_batch(&bus, &publisher, 0, &clients), [80; 3]);
    for client in &mut clients {
        client.read();
        client.wakes();
    }
    // One is chosen, and 80 / 8 more follow: a batch of eleven wakes nobody else.
    let mut open = publish_batch(&bus, &publisher, 11, &clients);
    assert_eq!(clients.iter().map(Client::wakes).sum::<usize>(), 1);
    open.sort_unstable();
    assert_eq!(open, [80, 80, 91]);
    // It ends with the batch, and the others have their turn until nobody has an eighth more.
    let mut open = publish_batch(&bus, &publisher, 22, &clients);
    open.sort_unstable();
    assert_eq!(open, [91, 91, 91]);
}

#[test]
fn round_robin_goes_around_whatever_members_have_open() {
    only(SharedStrategy::RoundRobin, |strategy| {
        let bus = bus(strategy);
        // A member elsewhere, which `local_first` passes over.
        let remote = Arc::new(Remote::new(&bus));
        remote.join("$share/g/t");
        let mut clients = members(&bus, 2, "$share/g/t", QoS::AtLeastOnce);
        let publisher = bus.connect("p");
        let mut order = Vec::new();
        for _ in 0..12 {
            let _ = publisher.publish("t", "m", QoS::AtLeastOnce);
            let got = counts(&mut clients);
            order.push((got[0], got[1], remote.take()));
        }
        let turns_hold = order
            .windows(4)
            .all(|w| w[0] == w[3] && w[0] != w[1] && w[1] != w[2]);
        // All three have a turn, although the remote one reports a load.
        turns_hold && order.iter().any(|turn| turn.2 == 1)
    });
}

#[test]
fn random_is_even_and_follows_no_order() {
    only(SharedStrategy::Random, |strategy| {
        let bus = bus(strategy);
        let mut clients = members(&bus, 2, "$share/g/t", QoS::AtMostOnce);
        let publisher = bus.connect("p");
        let mut order = Vec::new();
        for _ in 0..400 {
            let _ = publisher.publish("t", "m", QoS::AtMostOnce);
            order.push(counts(&mut clients)[0]);
        }
        let first: usize = order.iter().sum();
        let repeats = order.windows(2).filter(|pair| pair[0] == pair[1]).count();
        // Turns never repeat, one fixed member always does; chance does half of the time.
        (120..280).contains(&first) && (120..280).contains(&repeats)
    });
}

#[test]
fn sticky_stays_with_one_member_for_all_topics_and_publishers_until_it_leaves() {
    only(SharedStrategy::Sticky, |strategy| {
        let bus = bus(strategy);
        let mut clients = members(&bus, 4, "$share/g/#", QoS::AtMostOnce);
        let publishers: Vec<_> = (0..40).map(|n| bus.connect(&format!("p{n}"))).collect();
        let publish_all = |clients: &mut [Client]| {
            for (n, publisher) in publishers.iter().enumerate() {
                let _ = publisher.publish(&format!("t/{n}"), "m", QoS::AtMostOnce);
            }
            counts(clients)
        };
        let before = publish_all(&mut clients);
        let Some(chosen) = before.iter().position(|count| *count == 40) else {
            return false;
        };
        clients.remove(chosen).disconnect(Departure::Normal);
        let after = publish_all(&mut clients);
        after.iter().filter(|count| **count == 40).count() == 1
    });
}

#[test]
fn hash_topic_keeps_a_topic_with_its_member_and_spreads_topics() {
    only(SharedStrategy::HashTopic, |strategy| {
        let bus = bus(strategy);
        let mut clients = members(&bus, 3, "$share/g/#", QoS::AtMostOnce);
        let publishers: Vec<_> = (0..7).map(|n| bus.connect(&format!("p{n}"))).collect();
        let mut by_topic: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for n in 0..210 {
            let topic = (n * n + n / 3) % 30;
            let _ = publishers[n % 7].publish(&format!("t/{topic}"), "m", QoS::AtMostOnce);
            let got = counts(&mut clients);
            by_topic
                .entry(topic)
                .or_default()
                .push(got.iter().position(|c| *c == 1).unwrap());
        }
        let stable = by_topic
            .values()
            .all(|members| members.windows(2).all(|w| w[0] == w[1]));
        let used: std::collections::BTreeSet<_> = by_topic.values().map(|m| m[0]).collect();
        stable && used.len() == 3
    });
}

#[test]
fn hash_client_keeps_a_publisher_with_its_member_and_spreads_publishers() {
    only(SharedStrategy::HashClient, |strategy| {
        let bus = bus(strategy);
        let mut clients = members(&bus, 3, "$share/g/#", QoS::AtMostOnce);
        let publishers: Vec<_> = (0..30).map(|n| bus.connect(&format!("p{n}"))).collect();
        let mut by_publisher: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for n in 0..210 {
            let who = (n * n + n / 3) % 30;
            let _ = publishers[who].publish(&format!("t/{}", n % 7), "m", QoS::AtMostOnce);
            let got = counts(&mut clients);
            by_publisher
                .entry(who)
                .or_default()
                .push(got.iter().position(|c| *c == 1).unwrap());
        }
        let stable = by_publisher
            .values()
            .all(|members| members.windows(2).all(|w| w[0] == w[1]));
        let used: std::collections::BTreeSet<_> = by_publisher.values().map(|m| m[0]).collect();
        stable && used.len() == 3
    });
}

/// A member on another node.
struct Remote {
    key: u64,
    bus: Arc<Bus>,
    received: std::sync::atomic::AtomicUsize,
}

impl Remote {
    fn new(bus: &TestBus) -> Self {
        let key = bus.bus.new_subscriber_key();
        Self {
            key,
            bus: Arc::clone(&bus.bus),
            received: 0.into(),
        }
    }

    fn join(self: &Arc<Self>, filter: &str) {
        let filter = TopicFilter::new(filter).unwrap();
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            ..Default::default()
        };
        let subscription = Arc::new(Subscription::new(filter, options, None));
        self.bus
            .add_subscription(Arc::clone(self) as _, subscription);
    }

    fn take(&self) -> usize {
        self.received.swap(0, std::sync::atomic::Ordering::SeqCst)
    }
}

impl Subscriber for Remote {
    fn key(&self) -> u64 {
        self.key
    }

    fn deliver(
        &self,
        _message: &Message<'_>,
        _subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        self.received
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}

    fn load(&self) -> u32 {
        // Busier than the local ones ever are, so that only turns lead here.
        u32::MAX - 1
    }

    fn is_local(&self) -> bool {
        false
    }
}

#[test]
fn local_first_takes_turns_here_and_goes_elsewhere_only_when_nobody_is_here() {
    only(SharedStrategy::LocalFirst, |strategy| {
        let bus = bus(strategy);
        let remotes: Vec<_> = (0..3).map(|_| Arc::new(Remote::new(&bus))).collect();
        for remote in &remotes {
            remote.join("$share/g/#");
        }
        let mut clients = members(&bus, 2, "$share/g/#", QoS::AtLeastOnce);
        let publisher = bus.connect("p");
        let elsewhere = |remotes: &[Arc<Remote>]| remotes.iter().map(|r| r.take()).sum::<usize>();
        let mut first = 0;
        for n in 0..40 {
            let _ = publisher.publish(&format!("t/{n}"), "m", QoS::AtLeastOnce);
            // What the first member receives stays open: its load grows, and is not looked at.
            let got = counts(&mut clients);
            first += got[0];
            for id in (1..=64).filter_map(NonZeroU16::new) {
                let _ = clients[1].attachment.acknowledge(bus.bus.now(), id, false);
            }
        }
        let here_only = elsewhere(&remotes) == 0 && (5..=35).contains(&first);
        for client in clients {
            client.disconnect(Departure::Normal);
        }
        // What the first member has left open goes elsewhere now.
        elsewhere(&remotes);
        let _ = publisher.publish("t/1", "m", QoS::AtMostOnce);
        here_only && elsewhere(&remotes) == 1
    });
}

#[test]
fn mqtt_4_8_2_each_message_goes_to_one_member_of_each_group_and_to_everybody_else() {
    for strategy in ALL {
        let bus = bus(strategy);
        let mut one = members(&bus, 3, "$share/one/t/+", QoS::AtMostOnce);
        let mut two: Vec<_> = (0..2).map(|n| bus.connect(&format!("two{n}"))).collect();
        two.iter()
            .for_each(|client| client.subscribe("$share/two/#", QoS::AtMostOnce));
        let mut plain = bus.connect("plain");
        plain.subscribe("t/1", QoS::AtMostOnce);
        bus.publish("t/1", "m");
        assert_eq!(counts(&mut one).iter().sum::<usize>(), 1, "{strategy:?}");
        assert_eq!(counts(&mut two).iter().sum::<usize>(), 1, "{strategy:?}");
        assert_eq!(plain.payloads().len(), 1, "{strategy:?}");
    }
}

#[test]
fn mqtt_4_8_2_4_members_that_are_away_are_passed_over_and_qos_1_waits_for_one_when_all_are() {
    let bus = bus(SharedStrategy::RoundRobin);
    let join = |id: &str| {
        let client = bus.connect_durable(id);
        client.subscribe("$share/g/t", QoS::AtLeastOnce);
        client
    };
    let (mut here, away) = (join("here"), join("away"));
    away.disconnect(Departure::Normal);
    for _ in 0..4 {
        bus.publish_as("t", "m", QoS::AtLeastOnce, |_| {});
    }
    assert_eq!(here.read().len(), 4);
    here.disconnect(Departure::Normal);
    bus.publish_as("t", "waits", QoS::AtLeastOnce, |_| {});
    let mut received = 0;
    for id in ["here", "away"] {
        let mut client = bus.connect_durable(id);
        let got = client.take_unread();
        received += got.iter().filter(|got| got.payload() == "waits").count();
        // The four that `here` left unacknowledged are its own again.
        let again = got.iter().filter(|got| got.payload() == "m").count();
        assert_eq!(again, if id == "here" { 4 } else { 0 });
        client.disconnect(Departure::Normal);
    }
    assert_eq!(received, 1);
    assert_eq!(bus.bus.counters().drops.total(), 0);
}

#[test]
fn mqtt_4_8_2_unacknowledged_qos_1_of_a_member_whose_session_ends_goes_to_another() {
    let bus = bus(SharedStrategy::Sticky);
    let mut first = bus.connect("first");
    first.subscribe("$share/g/t", QoS::AtLeastOnce);
    bus.publish_as("t", "acknowledged", QoS::AtLeastOnce, |_| {});
    bus.publish_as("t", "open", QoS::AtLeastOnce, |_| {});
    let got = first.read();
    first.acknowledge(got[0].id());
    let mut second = bus.connect("second");
    second.subscribe("$share/g/t", QoS::AtLeastOnce);
    first.disconnect(Departure::Normal);
    assert_eq!(second.wakes(), 1);
    assert_eq!(second.payloads(), ["open"]);
}

#[test]
fn mqtt_4_8_2_5_a_qos_2_message_in_flight_goes_to_nobody_else() {
    let bus = bus(SharedStrategy::Sticky);
    let mut first = bus.connect_with("first", |request| {
        request.receive_maximum = NonZeroU16::new(1).unwrap();
    });
    first.subscribe("$share/g/t", QoS::ExactlyOnce);
    bus.publish_as("t", "in flight", QoS::ExactlyOnce, |_| {});
    bus.publish_as("t", "not yet sent", QoS::ExactlyOnce, |_| {});
    assert_eq!(first.payloads(), ["in flight"]);
    let mut second = bus.connect("second");
    second.subscribe("$share/g/t", QoS::ExactlyOnce);
    first.disconnect(Departure::Normal);
    assert_eq!(second.payloads(), ["not yet sent"]);
    assert_eq!(bus.dropped(DropReason::SessionEnded), 1);
}

#[test]
fn mqtt_4_8_2_6_what_a_member_refuses_is_discarded() {
    let bus = bus(SharedStrategy::RoundRobin);
    let mut clients = members(&bus, 2, "$share/g/t", QoS::AtLeastOnce);
    bus.publish_as("t", "m", QoS::AtLeastOnce, |_| {});
    let now = bus.bus.now();
    for client in &mut clients {
        for got in client.read() {
            assert_eq!(client.attachment.acknowledge(now, got.id(), true), Ok(true));
        }
    }
    for mut client in clients {
        assert_eq!(client.read(), []);
        client.disconnect(Departure::Normal);
    }
    assert_eq!(bus.dropped(DropReason::RefusedByReceiver), 1);
    assert_eq!(bus.bus.counters().drops.total(), 1);
}

#[test]
fn mqtt_4_8_2_a_shared_subscription_receives_no_retained_message() {
    let bus = TestBus::new();
    bus.publish_as("t", "kept", QoS::AtMostOnce, |m| m.retain = true);
    let mut client = bus.connect("c");
    client.subscribe("$share/g/t", QoS::AtMostOnce);
    assert_eq!(client.read(), Vec::<Got>::new());
}

#[test]
fn a_member_that_is_about_to_end_takes_nothing_from_the_others() {
    let bus = bus(SharedStrategy::RoundRobin);
    let clients = members(&bus, 2, "$share/g/t", QoS::AtLeastOnce);
    assert!(bus.bus.disconnect(
        clients[0].attachment.session().id(),
        EndReason::Administrative
    ));
    let mut clients = clients;
    for _ in 0..10 {
        bus.publish_as("t", "m", QoS::AtLeastOnce, |_| {});
    }
    assert_eq!(clients[1].read().len(), 10);
    assert_eq!(bus.bus.counters().drops.total(), 0);
}

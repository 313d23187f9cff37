//! Who receives a message: the index and its caches against the plain rule of `TopicFilter`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use support::{Got, TestBus};
use tidegate_bus::*;

fn level() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("c"), Just("$s")].prop_map(str::to_owned)
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic is not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let part = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
    (prop::collection::vec(part, 0..4), any::<bool>())
        .prop_map(|(mut levels, hash)| {
            if hash || levels.is_empty() {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("a filter is not empty", |filter| !filter.is_empty())
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, String),
    Unsubscribe(usize, String),
    Publish(String),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_usize, filter()).prop_map(|(client, filter)| Step::Subscribe(client, filter)),
        1 => (0..4_usize, filter()).prop_map(|(client, filter)| Step::Unsubscribe(client, filter)),
        4 => topic().prop_map(Step::Publish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// MQTT-3.3.5-1 and section 4.7: exactly the clients with a matching filter receive a message,
    /// each once, whatever the worker's cache remembers from before.
    #[test]
    fn every_subscriber_that_matches_receives_each_message_once(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let bus = TestBus::new();
        let mut clients: Vec<_> = (0..4).map(|n| bus.connect(&format!("c{n}"))).collect();
        let mut model = vec![BTreeMap::new(); 4];
        for (n, step) in steps.iter().enumerate() {
            match step {
                Step::Subscribe(client, filter) => {
                    clients[*client].subscribe(filter, QoS::AtMostOnce);
                    model[*client].insert(filter.clone(), TopicFilter::new(filter).unwrap());
                }
                Step::Unsubscribe(client, filter) => {
                    let existed = model[*client].remove(filter).is_some();
                    prop_assert_eq!(clients[*client].unsubscribe(filter), existed);
                }
                Step::Publish(topic) => {
                    bus.publish(topic, &n.to_string());
                    let name = TopicName::new(topic).unwrap();
                    for (client, filters) in clients.iter_mut().zip(&model) {
                        let expected: Vec<_> = filters
                            .values()
                            .any(|filter| filter.matches(name))
                            .then(|| n.to_string())
                            .into_iter()
                            .collect();
                        prop_assert_eq!(client.payloads(), expected);
                    }
                }
            }
        }
    }

    /// MQTT-3.3.1-8: a new subscription receives exactly the retained messages it matches.
    #[test]
    fn a_new_subscription_receives_the_retained_messages_it_matches(
        topics in prop::collection::btree_map(topic(), 0..3_u8, 0..30),
        filter in filter(),
    ) {
        let bus = TestBus::new();
        for (topic, payload) in &topics {
            // Payload 0 clears again what was retained (MQTT-3.3.1-6).
            bus.publish_as(topic, "1", QoS::AtMostOnce, |m| m.retain = true);
            let payload = if *payload == 0 { "" } else { "x" };
            bus.publish_as(topic, payload, QoS::AtMostOnce, |m| m.retain = true);
        }
        let parsed = TopicFilter::new(&filter).unwrap();
        let mut client = bus.connect("c");
        client.subscribe(&filter, QoS::AtMostOnce);
        let mut received: Vec<_> = client.read().into_iter().map(|got| match got {
            Got::Publish { topic, payload, retain, .. } => {
                assert!(retain && payload == "x");
                topic
            }
            Got::Release(_) => unreachable!(),
        }).collect();
        received.sort();
        let expected: Vec<_> = topics
            .iter()
            .filter(|(topic, payload)| {
                **payload != 0 && parsed.matches(TopicName::new(topic).unwrap())
            })
            .map(|(topic, _)| topic.clone())
            .collect();
        prop_assert_eq!(received, expected);
        let kept = topics.values().filter(|payload| **payload != 0).count() as u64;
        prop_assert_eq!(bus.bus.counters().retained_messages.get(), kept);
    }
}

#[test]
fn mqtt_3_3_4_overlapping_filters_give_one_copy_with_the_highest_qos_and_all_identifiers() {
    let bus = TestBus::new();
    let mut client = bus.connect("c");
    let options = |qos| SubscriptionOptions {
        qos,
        ..Default::default()
    };
    client.subscribe_as("a/#", options(QoS::AtMostOnce), Some(7));
    client.subscribe_as("a/+", options(QoS::ExactlyOnce), Some(9));
    client.subscribe_as("+/b", options(QoS::AtLeastOnce), None);
    client.subscribe_as("+/+", options(QoS::AtMostOnce), Some(9));
    client.subscribe_as("other", options(QoS::ExactlyOnce), Some(11));
    bus.publish_as("a/b", "m", QoS::AtLeastOnce, |_| {});
    let got = client.read();
    let [
        Got::Publish {
            qos, identifiers, ..
        },
    ] = got.as_slice()
    else {
        panic!("{got:?}")
    };
    let mut identifiers = identifiers.clone();
    identifiers.sort_unstable();
    assert_eq!((*qos, identifiers), (1, vec![7, 9, 9]));
}

#[test]
fn mqtt_3_8_3_3_no_local_holds_for_the_publisher_alone() {
    let bus = TestBus::new();
    let (mut one, mut two) = (bus.connect("one"), bus.connect("two"));
    let options = SubscriptionOptions {
        no_local: true,
        ..Default::default()
    };
    one.subscribe_as("t", options, None);
    two.subscribe_as("t", options, None);
    let _ = one.publish("t", "m", QoS::AtMostOnce);
    assert_eq!((one.payloads().len(), two.payloads().len()), (0, 1));
    // Another subscription of the publisher's still receives it.
    one.subscribe("+", QoS::AtMostOnce);
    let _ = one.publish("t", "m", QoS::AtMostOnce);
    assert_eq!(one.payloads().len(), 1);
}

#[test]
fn a_receiver_is_woken_once_per_batch_and_not_again_before_it_has_taken_its_output() {
    let bus = TestBus::new();
    let mut client = bus.connect("c");
    client.subscribe("t", QoS::AtMostOnce);
    client.read();
    bus.bus.batch(|worker| {
        for _ in 0..10 {
            let message = Message::new(TopicName::new("t").unwrap(), b"m");
            let _ = bus.bus.publish(worker, message).unwrap();
        }
        assert_eq!(client.wakes(), 0, "nobody is woken inside a batch");
    });
    assert_eq!(client.wakes(), 1);
    bus.publish("t", "m");
    assert_eq!(client.wakes(), 0, "the client knows already");
    assert_eq!(client.payloads().len(), 11);
    bus.publish("t", "m");
    assert_eq!(client.wakes(), 1);
}

/// A bus that drops nothing while the machine lets the receiving thread wait: these tests look for
/// messages that are lost for another reason.
fn boundless() -> TestBus {
    TestBus::with(|settings| {
        settings.max_queued_messages = usize::MAX;
        settings.max_queued_bytes = usize::MAX;
        settings.max_outbox_bytes = usize::MAX;
        settings.max_memory_bytes = usize::MAX;
    })
}

/// Ends the other threads of a test, also when an assertion has failed.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Index invariant 1: what is published after a subscription was made is received, whichever worker
/// publishes and whatever its cache holds.
#[test]
fn nothing_published_after_a_suback_is_missed_during_a_storm_of_subscriptions() {
    let bus = boundless();
    let bus = &bus;
    let stop = AtomicBool::new(false);
    let published = AtomicU64::new(0);
    std::thread::scope(|scope| {
        // The publisher's cache is warm for every topic all the time.
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let n = published.load(Ordering::Relaxed) + 1;
                for topic in ["s/0", "s/1", "w/0"] {
                    bus.publish(topic, &n.to_string());
                }
                published.store(n, Ordering::Release);
            }
        });
        let storms: Vec<_> = (0..2)
            .map(|thread| {
                let published = &published;
                scope.spawn(move || {
                    for round in 0..300 {
                        let mut client = bus.connect(&format!("{thread}-{round}"));
                        let filter = ["s/0", "s/+", "+/0"][round % 3];
                        client.subscribe(filter, QoS::AtMostOnce);
                        // Two whole rounds begin after the subscription stands.
                        let from = published.load(Ordering::Acquire) + 2;
                        while published.load(Ordering::Acquire) < from + 1 {
                            std::thread::yield_now();
                        }
                        let got = client.payloads();
                        assert!(
                            got.contains(&from.to_string()),
                            "{filter}: {from} not in {got:?}"
                        );
                        client.disconnect(Departure::Normal);
                    }
                })
            })
            .collect();
        let _stop = StopOnDrop(&stop);
        for storm in storms {
            storm.join().unwrap();
        }
    });
    assert_eq!(bus.bus.counters().subscriptions.get(), 0);
}

/// DESIGN section 3: no older value of a retained topic follows a newer one, however subscribing
/// and publishing interleave.
#[test]
fn a_retained_value_is_never_followed_by_an_older_one() {
    let bus = boundless();
    let bus = &bus;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0_u64;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                bus.publish_as("t", &n.to_string(), QoS::AtMostOnce, |m| m.retain = true);
            }
        });
        let _stop = StopOnDrop(&stop);
        for round in 0..2_000 {
            let mut client = bus.connect(&format!("c{round}"));
            client.subscribe("t", QoS::AtMostOnce);
            let mut values: Vec<u64> = Vec::new();
            for _ in 0..3 {
                values.extend(client.payloads().iter().map(|p| p.parse::<u64>().unwrap()));
            }
            assert!(values.is_sorted(), "{values:?}");
            client.disconnect(Departure::Normal);
        }
    });
}

#[test]
fn a_subscription_that_is_made_anew_loses_nothing_in_between() {
    let bus = boundless();
    let mut client = bus.connect("c");
    let sent = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (sent, stop, bus) = (&sent, &stop, &bus);
    client.subscribe("t", QoS::AtMostOnce);
    let received = std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..20_000_u64 {
                bus.publish("t", &n.to_string());
                sent.fetch_add(1, Ordering::SeqCst);
            }
            stop.store(true, Ordering::Release);
        });
        let mut received = 0;
        let mut turn = 0;
        while !stop.load(Ordering::Acquire) {
            turn += 1;
            let identifier = NonZeroU32::new(turn).map(NonZeroU32::get);
            client.subscribe_as("t", SubscriptionOptions::default(), identifier);
            received += client.read().len() as u64;
        }
        received
    });
    let received = received + client.read().len() as u64;
    assert_eq!(received, sent.load(Ordering::SeqCst));
    assert_eq!(bus.bus.counters().subscriptions.get(), 1);
}

/// A subscriber that is no session: the contract, from the outside.
struct Probe {
    key: u64,
    seen: Mutex<Vec<String>>,
}

impl Subscriber for Probe {
    fn key(&self) -> u64 {
        self.key
    }

    fn deliver(
        &self,
        message: &Message<'_>,
        subscriptions: &[Arc<Subscription>],
        context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        self.seen
            .lock()
            .unwrap()
            .push(format!("{} {}", message.topic, subscriptions.len()));
        // A rule that answers every message with another one that it matches itself.
        let mut next = Message::new(message.topic, b"again");
        next.qos = QoS::AtMostOnce;
        context
            .mailbox
            .send(Effect::Publish(Arc::new(StoredMessage::uncharged(&next))));
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}
}

#[test]
fn a_rule_that_feeds_itself_ends_at_the_hop_limit_and_the_loss_is_counted() {
    let bus = TestBus::new();
    let probe = Arc::new(Probe {
        key: bus.bus.new_subscriber_key(),
        seen: Default::default(),
    });
    let filter = TopicFilter::new("loop").unwrap();
    let subscription = Arc::new(Subscription::new(
        filter,
        SubscriptionOptions::default(),
        None,
    ));
    bus.bus
        .add_subscription(Arc::clone(&probe) as _, Arc::clone(&subscription));
    bus.publish("loop", "first");
    assert_eq!(probe.seen.lock().unwrap().len(), 1 + usize::from(MAX_HOPS));
    assert_eq!(bus.dropped(DropReason::MailboxFull), 1);
    assert!(bus.bus.remove_subscription(&subscription));
    bus.publish("loop", "second");
    assert_eq!(probe.seen.lock().unwrap().len(), 1 + usize::from(MAX_HOPS));
}

#[test]
fn a_large_fan_out_goes_in_slices_and_reaches_everybody_once() {
    let bus = TestBus::with(|settings| settings.fanout_slice = 10);
    let mut clients: Vec<_> = (0..25).map(|n| bus.connect(&format!("c{n}"))).collect();
    for client in &clients {
        client.subscribe("t", QoS::AtMostOnce);
    }
    let publisher = bus.connect("p");
    let mut slices = 1;
    bus.bus.batch(|worker| {
        let message = Message::new(TopicName::new("t").unwrap(), b"m");
        let mut rest = publisher
            .attachment
            .publish(worker, message, None)
            .unwrap()
            .rest;
        while let Some(fan_out) = rest.take() {
            slices += 1;
            if let Progress::More(more) = bus.bus.continue_fan_out(worker, fan_out) {
                rest = Some(more);
            }
        }
    });
    assert_eq!(slices, 3);
    for client in &mut clients {
        assert_eq!(client.payloads(), ["m"]);
        assert_eq!(client.wakes(), 1);
    }
}

#[test]
fn the_deepest_topics_that_may_be_go_through_every_walk() {
    let bus = TestBus::with(|settings| {
        settings.max_topic_levels = usize::MAX;
        settings.max_topic_bytes = MAX_STRING_BYTES;
    });
    let deepest = "/".repeat(Settings::MAX_TOPIC_LEVELS - 1);
    // The stack of a worker thread is 2 MiB, as is that of a test.
    bus.publish_as(&deepest, "m", QoS::AtMostOnce, |m| m.retain = true);
    let mut client = bus.connect("c");
    for filter in [deepest.as_str(), "#", &"+/".repeat(200)[..399]] {
        client.subscribe(filter, QoS::AtMostOnce);
    }
    assert_eq!(
        client.read().len(),
        2,
        "retained, for the topic itself and for #"
    );
    bus.publish(&deepest, "m");
    assert_eq!(client.read().len(), 1);
    assert!(client.unsubscribe(&deepest));
    bus.publish_as(&deepest, "", QoS::AtMostOnce, |m| m.retain = true);
    assert_eq!(bus.bus.counters().retained_messages.get(), 0);
    let too_deep = format!("{deepest}/");
    let now = bus.bus.now();
    let filter = TopicFilter::new(&too_deep).unwrap();
    let refused = client
        .attachment
        .subscribe(now, filter, SubscriptionOptions::default(), None);
    assert_eq!(refused.unwrap_err(), SubscribeRefusal::TopicFilterInvalid);
}

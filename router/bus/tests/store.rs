//! The contract with a durable engine: what is told, in which order, and who waits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use support::disk::DiskStore;
use support::{Client, Got, TestBus};
use tidegate_bus::*;

fn setup() -> (TestBus, Arc<DiskStore>) {
    let store = Arc::new(DiskStore::default());
    (TestBus::with_store(|_| {}, Arc::clone(&store) as _), store)
}

/// The gateway after a crash that left `more` of what was not safe yet.
fn restart(store: &DiskStore, more: usize) -> (TestBus, Arc<DiskStore>) {
    let mut disk = store.crash(more);
    disk.until = Timestamp::from_millis(support::START);
    let store = Arc::new(DiskStore::from_disk(disk));
    let bus = TestBus::with_store(|_| {}, Arc::clone(&store) as _);
    bus.bus.recover().unwrap();
    bus.bus.tick();
    (bus, store)
}

/// Answers everything that is on its way, until nothing moves, and gives back the payloads in their order.
fn drain(client: &mut Client, store: &DiskStore) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut got = client.take_all();
    while !got.is_empty() {
        for got in got {
            if let Got::Publish { payload, .. } = &got {
                payloads.push(payload.clone());
            }
            answer(client, store, &got);
        }
        got = client.read();
    }
    payloads
}

fn answer(client: &Client, store: &DiskStore, got: &Got) {
    let now = client.bus.now();
    match got {
        Got::Publish { qos: 0, .. } => {}
        Got::Publish { qos: 1, .. } => client.acknowledge(got.id()),
        Got::Publish { .. } => {
            let received = client.attachment.received(now, got.id(), false).unwrap();
            assert_eq!(received.0, Received::Release);
            store.sync_all();
            assert!(client.attachment.complete(now, got.id()).unwrap());
        }
        Got::Release(_) => assert!(client.attachment.complete(now, got.id()).unwrap()),
    }
}

fn id(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

#[test]
fn one_publish_is_one_append_with_every_durable_session_that_waits_for_it() {
    let (bus, store) = setup();
    let online = bus.connect_durable("online");
    let away = bus.connect_durable("away");
    let passing = bus.connect("passing");
    for client in [&online, &away, &passing] {
        client.subscribe("t", QoS::AtLeastOnce);
    }
    away.disconnect(Departure::Normal);
    store.hold();
    let published = passing.publish("t", "m", QoS::AtLeastOnce);
    assert_eq!(store.pending(), 1);
    assert_eq!(published.ticket.poll(Waker::noop()), Poll::Pending);
    store.sync_all();
    assert_eq!(published.ticket.poll(Waker::noop()), Poll::Ready(Ok(())));
    let disk = store.crash(0);
    assert_eq!(disk.queue("online"), ["Sent(1) m"]);
    assert_eq!(disk.queue("away"), ["Queued m"]);
    assert!(!disk.has_session("passing"));
}

#[test]
fn nothing_that_must_not_outlive_the_process_is_told() {
    let (bus, store) = setup();
    let durable = bus.connect_durable("durable");
    durable.subscribe("t", QoS::AtLeastOnce);
    let passing = bus.connect("passing");
    store.hold();
    passing.subscribe("t", QoS::ExactlyOnce);
    let published = durable.publish("t", "m", QoS::AtMostOnce);
    assert_eq!(published.ticket.result(), Some(Ok(())));
    let published = durable.publish("nobody", "m", QoS::AtLeastOnce);
    assert_eq!(published.ticket.result(), Some(Ok(())));
    passing.disconnect(Departure::WithWill);
    assert_eq!(store.pending(), 0);
}

#[test]
fn changes_carry_the_epoch_of_their_connection_and_a_fenced_one_tells_nothing() {
    let (bus, store) = setup();
    let old = bus.connect_durable("c");
    let new = bus.connect_durable("c");
    assert!(new.is_new(id(3)));
    store.hold();
    new.subscribe("t", QoS::AtMostOnce);
    assert!(new.unsubscribe("t"));
    let (released, ticket) = new.attachment.release(id(3)).unwrap();
    assert_eq!(released, Released::Here);
    assert!(ticket.result().is_none());
    let told = store.pending();
    assert_eq!(old.attachment.release(id(3)).unwrap_err(), Fenced);
    old.disconnect(Departure::Normal);
    assert_eq!(store.pending(), told);
    // The engine looks at the epochs itself.
    store.sync_all();
}

#[test]
fn what_the_engine_kept_of_qos_2_is_of_an_earlier_connection() {
    let (bus, store) = setup();
    let publisher = bus.connect_durable("p");
    let receiver = bus.connect_durable("r");
    receiver.subscribe("t", QoS::AtLeastOnce);
    publish_2(&publisher, 3, "m");
    let (bus, _store) = restart(&store, 0);
    let publisher = bus.connect_durable("p");
    assert!(!publisher.is_new(id(3)));
    assert_eq!(
        publisher.attachment.release(id(3)).unwrap().0,
        Released::Before
    );
    assert!(publisher.is_new(id(3)));
}

/// As a connection does.
fn publish_2(client: &Client, packet_id: u16, payload: &str) -> Ticket {
    assert!(client.is_new(id(packet_id)));
    let published = client.bus.batch(|worker| {
        let mut message = Message::new(TopicName::new("t").unwrap(), payload.as_bytes());
        message.qos = QoS::ExactlyOnce;
        let publish = client
            .attachment
            .publish(worker, message, Some(id(packet_id)));
        publish.unwrap()
    });
    let ticket = published.ticket;
    client
        .attachment
        .receiving_until(id(packet_id), &ticket)
        .unwrap();
    ticket
}

#[test]
fn mqtt_4_3_3_a_qos_2_message_leaves_when_it_is_kept_and_wakes_its_receiver_then() {
    let (bus, store) = setup();
    let publisher = bus.connect_durable("p");
    let mut durable = bus.connect_durable("durable");
    let mut passing = bus.connect("passing");
    for client in [&durable, &passing] {
        client.subscribe("t", QoS::ExactlyOnce);
    }
    store.hold();
    let ticket = publish_2(&publisher, 1, "m1");
    publish_2(&publisher, 2, "m2");
    // Of QoS 1, behind them: the order of a topic holds.
    let _ = publisher.publish("t", "m3", QoS::AtLeastOnce);
    for client in [&mut durable, &mut passing] {
        assert!(client.wakes() > 0, "woken to wait for the ticket");
        assert_eq!(client.payloads(), [""; 0]);
        assert_eq!(client.wakes(), 0);
    }
    store.sync(1);
    assert_eq!(ticket.result(), Some(Ok(())));
    for client in [&mut durable, &mut passing] {
        assert_eq!(client.wakes(), 1);
        assert_eq!(client.payloads(), ["m1"]);
    }
    store.sync_all();
    for client in [&mut durable, &mut passing] {
        assert_eq!(client.payloads(), ["m2", "m3"]);
    }
}

#[test]
fn what_the_engine_refuses_is_not_delivered_at_qos_2_and_counted() {
    let (bus, store) = setup();
    let publisher = bus.connect_durable("p");
    let mut receiver = bus.connect_with("r", |request| {
        request.clean_start = false;
        request.expiry = 3_600;
        request.receive_maximum = id(1);
    });
    receiver.subscribe("t", QoS::ExactlyOnce);
    store.hold();
    let ticket = publish_2(&publisher, 1, "refused");
    publish_2(&publisher, 2, "refused, and behind the window");
    store.fail_appends(&StoreError::Full);
    assert_eq!(ticket.result(), Some(Err(StoreError::Full)));
    publish_2(&publisher, 3, "kept");
    store.sync_all();
    let mut got = receiver.read();
    store.sync_all();
    got.extend(receiver.read());
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].payload(), "kept");
    assert_eq!(bus.dropped(DropReason::StoreFailed), 2);
    // The identifiers of what was refused are free: sent again, the messages are new (MQTT-4.3.3-9).
    assert!(publisher.is_new(id(1)));
}

#[test]
fn mqtt_4_3_3_pubrel_waits_for_the_first_pubrec_also_when_another_comes_on_the_next_connection() {
    let (bus, store) = setup();
    let publisher = bus.connect("p");
    let mut receiver = bus.connect_durable("r");
    receiver.subscribe("t", QoS::ExactlyOnce);
    publish_2(&publisher, 1, "m");
    let got = receiver.read();
    store.hold();
    let now = bus.bus.now();
    let (_, first) = receiver
        .attachment
        .received(now, got[0].id(), false)
        .unwrap();
    assert_eq!(first.result(), None);
    let mut again = bus.connect_durable("r");
    assert_eq!(
        again.take_all(),
        [],
        "PUBREL is not owed before PUBREC is kept"
    );
    let (_, second) = again.attachment.received(now, got[0].id(), false).unwrap();
    assert_eq!(second.result(), None);
    store.sync_all();
    assert_eq!(
        (first.result(), second.result()),
        (Some(Ok(())), Some(Ok(())))
    );
}

#[test]
fn mqtt_4_3_3_a_repetition_is_acknowledged_when_the_first_is_kept_and_not_before() {
    let (bus, store) = setup();
    let publisher = bus.connect_durable("p");
    let receiver = bus.connect_durable("r");
    receiver.subscribe("t", QoS::AtLeastOnce);
    store.hold();
    let first = publish_2(&publisher, 1, "m");
    let publisher = bus.connect_durable("p");
    let Receive::Repeated(again) = publisher.attachment.begin_receiving(id(1), true).unwrap()
    else {
        panic!("it is a repetition");
    };
    assert_eq!(again.result(), None);
    store.sync_all();
    assert_eq!(
        (first.result(), again.result()),
        (Some(Ok(())), Some(Ok(())))
    );
    // The same for its release.
    let (_, first) = publisher.attachment.release(id(1)).unwrap();
    let publisher = bus.connect_durable("p");
    let (released, again) = publisher.attachment.release(id(1)).unwrap();
    assert_eq!(released, Released::Unknown);
    assert_eq!((first.result(), again.result()), (None, None));
}

#[test]
fn a_long_queue_stays_on_disk_and_is_read_back_in_its_order_within_its_memory() {
    let store = Arc::new(DiskStore::default());
    let bus = TestBus::with_store(
        |settings| {
            settings.queue_memory_bytes = 10_000;
            settings.max_queued_messages = 1_000_000;
            settings.max_memory_bytes = 2 << 20;
        },
        Arc::clone(&store) as _,
    );
    let client = bus.connect_durable("c");
    client.subscribe("t/#", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    let publisher = bus.connect("p");
    let payload = |n: u32| format!("{n:0100}");
    for n in 0..20_000 {
        let published = publisher.publish("t/1", &payload(n), QoS::AtLeastOnce);
        assert_eq!(published.ticket.result(), Some(Ok(())));
    }
    assert!(
        bus.bus.memory().used() < 40_000,
        "{}",
        bus.bus.memory().used()
    );
    assert_eq!(bus.bus.pending_messages(), 20_000);
    let mut client = bus.connect_with("c", |request| {
        request.clean_start = false;
        request.expiry = 3_600;
        request.receive_maximum = id(10);
    });
    let mut expected = 0;
    let mut got = client.take_all();
    assert!(!got.is_empty(), "it starts at once");
    while !got.is_empty() {
        for got in got {
            assert_eq!(got.payload(), payload(expected));
            client.acknowledge(got.id());
            if expected == 10_000 {
                // What comes now stands behind all of it.
                let _ = publisher.publish("t/1", &payload(20_000), QoS::AtLeastOnce);
            }
            expected += 1;
        }
        assert!(bus.bus.memory().used() < 1_000_000);
        got = client.read();
    }
    assert_eq!(expected, 20_001);
    assert_eq!(store.crash(0).queue("c"), [""; 0]);
    assert_eq!(bus.bus.pending_messages(), 0);
    // And live again.
    let _ = publisher.publish("t/1", "live", QoS::AtLeastOnce);
    let reads = store.reads();
    assert_eq!(client.payloads(), ["live"]);
    assert_eq!(store.reads(), reads);
}

#[test]
fn a_queue_on_disk_counts_against_its_limits() {
    let store = Arc::new(DiskStore::default());
    let bus = TestBus::with_store(
        |settings| {
            settings.queue_memory_bytes = 0;
            settings.max_queued_messages = 3;
        },
        Arc::clone(&store) as _,
    );
    let client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    let publisher = bus.connect("p");
    for n in 0..5 {
        let _ = publisher.publish("t", &format!("m{n}"), QoS::AtLeastOnce);
    }
    assert_eq!(bus.dropped(DropReason::QueueFull), 2);
    let (bus, store) = restart(&store, 0);
    assert_eq!(bus.bus.pending_messages(), 3);
    let mut client = bus.connect_durable("c");
    assert_eq!(drain(&mut client, &store), ["m0", "m1", "m2"]);
}

#[test]
fn mqtt_3_3_2_5_what_expires_on_disk_is_not_delivered_and_counted() {
    let store = Arc::new(DiskStore::default());
    let bus = TestBus::with_store(
        |settings| settings.queue_memory_bytes = 0,
        Arc::clone(&store) as _,
    );
    let client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    for (payload, seconds) in [("short", 10), ("long", 1_000)] {
        bus.publish_as("t", payload, QoS::AtLeastOnce, |message| {
            message.expires_at = Some(Timestamp::from_millis(support::START).plus_seconds(seconds));
        });
    }
    bus.advance(20);
    let mut client = bus.connect_durable("c");
    assert_eq!(drain(&mut client, &store), ["long"]);
    assert_eq!(bus.dropped(DropReason::Expired), 1);
    assert_eq!(store.crash(0).queue("c"), [""; 0]);
}

#[test]
fn sessions_subscriptions_and_retained_messages_are_there_after_a_crash() {
    let (bus, store) = setup();
    let client = bus.connect_durable("c");
    client.subscribe_as(
        "a/+",
        SubscriptionOptions::with_qos(QoS::ExactlyOnce),
        Some(7),
    );
    client.subscribe("$share/g/b", QoS::AtLeastOnce);
    client.subscribe("gone", QoS::AtLeastOnce);
    assert!(client.unsubscribe("gone"));
    for (topic, payload) in [("r/1", "old"), ("r/1", "new"), ("r/2", "x"), ("r/2", "")] {
        bus.publish_as(topic, payload, QoS::AtMostOnce, |message| {
            message.retain = true;
        });
    }
    let (bus, store) = restart(&store, 0);
    let session = bus.bus.session(&ClientId::new("c").unwrap()).unwrap();
    let filters: Vec<_> = session
        .subscriptions()
        .iter()
        .map(|s| s.filter().as_str().to_owned())
        .collect();
    assert_eq!(filters, ["$share/g/b", "a/+"]);
    let publisher = bus.connect("p");
    for topic in ["a/1", "b", "gone"] {
        let _ = publisher.publish(topic, topic, QoS::ExactlyOnce);
    }
    let mut client = bus.connect_durable("c");
    assert!(client.present);
    client.subscribe("r/#", QoS::AtMostOnce);
    let got = client.take_all();
    let identifiers = |got: &Got| match got {
        Got::Publish { identifiers, .. } => identifiers.clone(),
        Got::Release(_) => Vec::new(),
    };
    let payloads: Vec<_> = got.iter().map(Got::payload).collect();
    assert_eq!(payloads, ["a/1", "b", "new"]);
    assert_eq!(identifiers(&got[0]), [7]);
    assert_eq!(store.crash(0).retained("r/2"), None);
}

#[test]
fn mqtt_3_1_2_5_a_session_whose_time_passed_while_the_process_was_gone_ends() {
    let (bus, store) = setup();
    let client = bus.connect_durable("c");
    client.disconnect(Departure::Normal);
    let _connected = bus.connect_durable("connected");
    let mut disk = store.crash(0);
    disk.until = Timestamp::from_millis(support::START - 7_200_000);
    let store = Arc::new(DiskStore::from_disk(disk));
    let bus = TestBus::with_store(|_| {}, Arc::clone(&store) as _);
    bus.bus.recover().unwrap();
    bus.advance(1);
    let gone = !store.crash(0).has_session("connected");
    assert!(gone, "two hours without a connection, and an expiry of one");
    assert!(
        store.crash(0).has_session("c"),
        "it left at the start of the clock"
    );
    bus.advance(3_601);
    assert!(!store.crash(0).has_session("c"));
}

#[test]
fn mqtt_3_1_2_8_a_will_owed_at_the_crash_is_published_after_the_restart_and_its_delay_counts() {
    let (bus, store) = setup();
    let watcher = bus.connect_durable("watcher");
    watcher.subscribe("will/#", QoS::AtLeastOnce);
    let with_will = |name: &'static str, delay, expiry| {
        let message = Message::new(TopicName::new("will/x").unwrap(), name.as_bytes());
        let mut message = message;
        message.qos = QoS::AtLeastOnce;
        let will = Will::new(&message, delay, None, bus.bus.memory());
        bus.connect_with(name, |request| {
            request.clean_start = false;
            request.expiry = expiry;
            request.will = will;
        })
    };
    let _connected = with_will("connected", 0, 3_600);
    let _delayed = with_will("delayed", 60, 3_600);
    let _short_session = with_will("no session", 60, 0);
    with_will("left before", 30, 3_600).disconnect(Departure::WithWill);
    with_will("forgotten", 0, 3_600).disconnect(Departure::Normal);
    let (bus, store) = restart(&store, 0);
    bus.advance(1);
    let mut watcher = bus.connect_durable("watcher");
    let mut got = drain(&mut watcher, &store);
    got.sort_unstable();
    assert_eq!(got, ["connected", "no session"]);
    bus.advance(30);
    assert_eq!(drain(&mut watcher, &store), ["left before"]);
    bus.advance(30);
    assert_eq!(drain(&mut watcher, &store), ["delayed"]);
    // Published and told to be: not again after the next crash.
    let (bus, store) = restart(&store, 0);
    bus.advance(100);
    let mut watcher = bus.connect_durable("watcher");
    assert_eq!(drain(&mut watcher, &store), [""; 0]);
}

#[test]
fn mqtt_4_8_2_a_message_that_moves_in_its_group_is_never_nowhere() {
    for more in 0..20 {
        let (bus, store) = setup();
        let one = bus.connect_durable("one");
        let two = bus.connect_durable("two");
        one.subscribe("$share/g/t", QoS::AtLeastOnce);
        let publisher = bus.connect("p");
        for n in 0..3 {
            let _ = publisher.publish("t", &format!("m{n}"), QoS::AtLeastOnce);
        }
        two.subscribe("$share/g/t", QoS::AtLeastOnce);
        store.hold();
        // The session ends with what it has not acknowledged.
        drop(bus.connect("one"));
        let (bus, store) = restart(&store, more);
        let mut found = Vec::new();
        for name in ["one", "two"] {
            let mut client = bus.connect_durable(name);
            found.extend(drain(&mut client, &store));
        }
        for n in 0..3 {
            let wanted = format!("m{n}");
            assert!(found.contains(&wanted), "{more} more: {found:?}");
        }
    }
}

#[test]
fn retained_messages_on_their_way_to_a_new_subscription_go_on_after_a_crash() {
    let (bus, store) = setup();
    for n in 0..5 {
        bus.publish_as(
            &format!("r/{n}"),
            &format!("m{n}"),
            QoS::AtLeastOnce,
            |message| {
                message.retain = true;
            },
        );
    }
    let mut client = bus.connect_with("c", |request| {
        request.clean_start = false;
        request.expiry = 3_600;
        request.receive_maximum = id(2);
    });
    client.subscribe("r/#", QoS::AtLeastOnce);
    assert_eq!(client.read().len(), 2);
    let (bus, store) = restart(&store, 0);
    let mut client = bus.connect_durable("c");
    let mut got = drain(&mut client, &store);
    got.sort_unstable();
    got.dedup();
    assert_eq!(got, ["m0", "m1", "m2", "m3", "m4"]);
    // All sent: the next restart sends nothing again.
    let (bus, store) = restart(&store, 0);
    let mut client = bus.connect_durable("c");
    assert_eq!(drain(&mut client, &store), [""; 0]);
}

#[test]
fn an_engine_that_cannot_keep_refuses_before_anybody_receives_and_qos_0_flows_on() {
    let (bus, store) = setup();
    let mut receiver = bus.connect_durable("r");
    receiver.subscribe("t", QoS::AtLeastOnce);
    let publisher = bus.connect_durable("p");
    store.refuse(Some(StoreError::Full));
    let refused = bus.bus.batch(|worker| {
        let mut message = Message::new(TopicName::new("t").unwrap(), b"m");
        message.qos = QoS::AtLeastOnce;
        publisher.attachment.publish(worker, message, None)
    });
    assert_eq!(refused.unwrap_err(), PublishRefusal::StoreUnavailable);
    assert_eq!(bus.dropped(DropReason::StoreFailed), 1);
    let _ = publisher.publish("t", "flows", QoS::AtMostOnce);
    assert_eq!(receiver.payloads(), ["flows"]);
    let mut passing = bus.connect("passing");
    passing.subscribe("passing", QoS::AtLeastOnce);
    let published = publisher.publish("passing", "nobody keeps it", QoS::AtLeastOnce);
    assert_eq!(published.ticket.result(), Some(Ok(())));
    assert_eq!(passing.payloads(), ["nobody keeps it"]);
    let filter = TopicFilter::new("more").unwrap();
    let options = SubscriptionOptions::default();
    let now = bus.bus.now();
    let refused = receiver.attachment.subscribe(now, filter, options, None);
    assert_eq!(refused.unwrap_err(), SubscribeRefusal::StoreUnavailable);
    store.refuse(None);
    let _ = publisher.publish("t", "again", QoS::AtLeastOnce);
    assert_eq!(receiver.payloads(), ["again"]);
}

#[test]
fn a_session_that_was_replaced_is_forgotten_with_all_it_had() {
    let (bus, store) = setup();
    let client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    let _ = bus.connect("p").publish("t", "m", QoS::AtLeastOnce);
    assert_eq!(store.crash(0).queue("c"), ["Queued m"]);
    // MQTT-3.1.2-4, by a client whose new session is not kept.
    let client = bus.connect("c");
    assert!(!client.present);
    assert!(!store.crash(0).has_session("c"));
}

#[test]
fn a_ticket_that_nobody_completes_fails_instead_of_waiting_for_ever() {
    let (ticket, completion) = Ticket::pending();
    assert_eq!(ticket.poll(Waker::noop()), Poll::Pending);
    drop(completion);
    assert!(matches!(ticket.result(), Some(Err(StoreError::Failed(_)))));
}

#[test]
fn what_waits_and_what_is_in_flight_is_there_after_a_crash_in_its_order() {
    let (bus, store) = setup();
    let mut client = bus.connect_with("c", |request| {
        request.clean_start = false;
        request.expiry = 3_600;
        request.receive_maximum = NonZeroU16::new(2).unwrap();
    });
    client.subscribe("t/#", QoS::ExactlyOnce);
    for n in 0..5 {
        let _ = client.publish("t/1", &format!("m{n}"), QoS::AtLeastOnce);
    }
    let got = client.read();
    assert_eq!(got.len(), 2);
    client.acknowledge(got[0].id());
    let (bus, _store) = restart(&store, 0);
    let mut client = bus.connect_durable("c");
    assert!(client.present);
    let got = client.take_all();
    let payloads: Vec<_> = got.iter().map(|got| got.payload().to_owned()).collect();
    assert_eq!(payloads, ["m1", "m2", "m3", "m4"]);
    assert!(matches!(got[0], Got::Publish { dup: true, .. }));
}

/// A receiver that lets something happen in the middle of a publish: after the session before it has the
/// message, and before the engine is told.
struct InTheMiddle {
    key: u64,
    what: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Subscriber for InTheMiddle {
    fn key(&self) -> u64 {
        self.key
    }

    fn deliver(
        &self,
        _message: &Message<'_>,
        _subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        let what = self.what.lock().unwrap().take();
        if let Some(what) = what {
            what();
        }
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}
}

/// Lets `what` happen in the middle of the next publish to `topic`, for receivers added before.
fn in_the_middle(bus: &TestBus, topic: &str, what: impl FnOnce() + Send + 'static) {
    let subscriber = InTheMiddle {
        key: bus.bus.new_subscriber_key(),
        what: Mutex::new(Some(Box::new(what))),
    };
    let filter = TopicFilter::new(topic).unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    let subscription = Subscription::new(filter, options, None);
    bus.bus
        .add_subscription(Arc::new(subscriber), Arc::new(subscription));
}

#[test]
fn a_page_that_is_read_while_the_engine_is_being_told_passes_over_nothing() {
    let store = Arc::new(DiskStore::default());
    let bus = TestBus::with_store(
        |settings| settings.queue_memory_bytes = 0,
        Arc::clone(&store) as _,
    );
    let client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    let publisher = bus.connect("p");
    let _ = publisher.publish("t", "m0", QoS::AtLeastOnce);
    let client = Arc::new(Mutex::new(None));
    let (gateway, connected) = (Arc::clone(&bus.bus), Arc::clone(&client));
    let clock = Arc::clone(&bus.clock);
    in_the_middle(&bus, "t", move || {
        // On another thread another publisher is faster, and the client comes back and reads.
        let other = std::thread::spawn(move || {
            let bus = TestBus {
                bus: gateway,
                clock,
            };
            let _ = bus.connect("q").publish("t", "m2", QoS::AtLeastOnce);
            *connected.lock().unwrap() = Some(bus.connect_durable("c"));
        });
        other.join().unwrap();
    });
    let _ = publisher.publish("t", "m1", QoS::AtLeastOnce);
    let mut client = client.lock().unwrap().take().unwrap();
    let mut got = drain(&mut client, &store);
    got.extend(drain(&mut client, &store));
    got.sort_unstable();
    assert_eq!(got, ["m0", "m1", "m2"]);
    assert_eq!(store.crash(0).queue("c"), [""; 0]);
}

#[test]
fn a_page_that_was_asked_for_before_publishers_raced_passes_over_nothing() {
    let store = Arc::new(DiskStore::default());
    let bus = TestBus::with_store(
        |settings| settings.queue_memory_bytes = 0,
        Arc::clone(&store) as _,
    );
    let client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    let publisher = bus.connect("p");
    let _ = publisher.publish("t", "m0", QoS::AtLeastOnce);
    store.hold_reads();
    // It asks for what waits, and the engine takes its time.
    let mut client = bus.connect_durable("c");
    assert!(client.take_all().is_empty());
    let (gateway, clock, engine) = (
        Arc::clone(&bus.bus),
        Arc::clone(&bus.clock),
        Arc::clone(&store),
    );
    in_the_middle(&bus, "t", move || {
        // On another thread another publisher is faster, and the page is read between the two.
        let other = std::thread::spawn(move || {
            let bus = TestBus {
                bus: gateway,
                clock,
            };
            let _ = bus.connect("q").publish("t", "m2", QoS::AtLeastOnce);
            engine.answer_reads();
        });
        other.join().unwrap();
    });
    let _ = publisher.publish("t", "m1", QoS::AtLeastOnce);
    let mut got = drain(&mut client, &store);
    got.extend(drain(&mut client, &store));
    assert_eq!(got, ["m0", "m1", "m2"], "in the order of their places");
    assert_eq!(store.crash(0).queue("c"), [""; 0]);
}

#[test]
fn the_engine_hears_of_a_message_before_it_hears_that_it_is_sent() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (bus, store) = setup();
        let client = bus.connect_with("c", |request| {
            request.clean_start = false;
            request.expiry = 3_600;
            request.receive_maximum = id(1);
        });
        let client = Arc::new(Mutex::new(client));
        client.lock().unwrap().subscribe("t", qos);
        let publisher = bus.connect("p");
        let _ = publisher.publish("t", "m0", QoS::AtLeastOnce);
        let fast = Arc::clone(&client);
        in_the_middle(&bus, "t", move || {
            // The window opens, and the client asks for more.
            let mut client = fast.lock().unwrap();
            let got = client.read();
            client.acknowledge(got[0].id());
            assert_eq!(client.payloads(), [""; 0]);
            client.wakes();
        });
        let _ = publisher.publish("t", "m1", qos);
        let mut client = client.lock().unwrap();
        assert!(
            client.wakes() > 0,
            "{qos:?}: woken when the engine has been told"
        );
        assert_eq!(client.payloads(), ["m1"], "{qos:?}");
        assert!(store.crash(0).queue("c")[0].starts_with("Sent("), "{qos:?}");
    }
}

#[test]
fn what_is_acknowledged_before_the_engine_is_told_of_it_leaves_nothing_behind() {
    let (bus, store) = setup();
    let client = Arc::new(Mutex::new(bus.connect_durable("c")));
    client.lock().unwrap().subscribe("t", QoS::AtLeastOnce);
    let fast = Arc::clone(&client);
    in_the_middle(&bus, "t", move || {
        let mut client = fast.lock().unwrap();
        let got = client.read();
        client.acknowledge(got[0].id());
    });
    let _ = bus.connect("p").publish("t", "m", QoS::AtLeastOnce);
    // The next thing that happens to the session tells it.
    assert_eq!(client.lock().unwrap().payloads(), [""; 0]);
    assert_eq!(store.crash(0).queue("c"), [""; 0]);
}

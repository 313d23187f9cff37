//! Sessions: coming, going, taking over, and what is in flight meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::num::NonZeroU16;
use std::sync::Arc;

use support::{Client, Got, TestBus, now_or_never};
use tidegate_bus::*;

fn will(bus: &TestBus, payload: &str, delay: u32) -> Option<Will> {
    let message = Message::new(TopicName::new("will").unwrap(), payload.as_bytes());
    Will::new(&message, delay, None, bus.bus.memory())
}

fn watcher(bus: &TestBus) -> Client {
    let client = bus.connect("watcher");
    client.subscribe("will", QoS::AtMostOnce);
    client
}

fn connect_with_will(bus: &TestBus, expiry: u32, delay: u32) -> Client {
    bus.connect_with("c", |request| {
        request.clean_start = false;
        request.expiry = expiry;
        request.will = will(bus, "gone", delay);
    })
}

fn ids(got: &[Got]) -> Vec<u16> {
    got.iter().map(|got| got.id().get()).collect()
}

#[test]
fn mqtt_3_1_2_5_a_session_is_resumed_with_its_subscriptions_and_what_waited() {
    let bus = TestBus::new();
    let client = bus.connect_durable("c");
    assert!(!client.present);
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    bus.publish_as("t", "one", QoS::AtLeastOnce, |_| {});
    bus.publish_as("t", "zero", QoS::AtMostOnce, |_| {});
    bus.publish_as("t", "two", QoS::ExactlyOnce, |_| {});
    let (client, got) = reconnect(&bus, "c");
    assert!(client.present);
    assert_eq!(payloads(&got), ["one", "two"]);
    assert_eq!(bus.dropped(DropReason::Offline), 1);
}

/// Connects with a session of an hour and gives back what comes at once.
fn reconnect(bus: &TestBus, id: &str) -> (Client, Vec<Got>) {
    reconnect_with(bus, id, NonZeroU16::MAX)
}

fn reconnect_with(bus: &TestBus, id: &str, receive_maximum: NonZeroU16) -> (Client, Vec<Got>) {
    let id = ClientId::new(id).unwrap();
    let claim = now_or_never(bus.bus.claim(&id)).unwrap();
    let request = ConnectRequest {
        clean_start: false,
        expiry: 3_600,
        will: None,
        receive_maximum,
        keep_alive: 0,
        encoder: Box::new(support::LineEncoder {
            max_payload: usize::MAX,
        }),
    };
    let attached = bus
        .bus
        .batch(|worker| bus.bus.attach(worker, &id, claim, request));
    let (attachment, present) = attached.unwrap();
    let mut client = Client::bare(Arc::clone(&bus.bus), attachment, present);
    let got = client.read();
    (client, got)
}

fn payloads(got: &[Got]) -> Vec<&str> {
    got.iter().map(Got::payload).collect()
}

#[test]
fn mqtt_3_1_2_4_a_clean_start_forgets_the_session() {
    let bus = TestBus::new();
    let client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    bus.publish_as("t", "lost", QoS::AtLeastOnce, |_| {});
    let mut client = bus.connect("c");
    assert!(!client.present);
    assert_eq!(client.read(), []);
    assert_eq!(bus.bus.counters().subscriptions.get(), 0);
    assert_eq!(bus.dropped(DropReason::SessionEnded), 1);
    assert_eq!(bus.bus.memory().used(), 0);
}

#[test]
fn mqtt_3_1_2_23_a_session_ends_when_its_time_is_over_and_not_before() {
    let bus = TestBus::new();
    let client = bus.connect_with("c", |r| r.expiry = 100);
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    bus.advance(99);
    assert_eq!(bus.bus.counters().sessions.get(), 1);
    bus.advance(1);
    assert_eq!(bus.bus.counters().sessions.get(), 0);
    assert_eq!(bus.bus.counters().subscriptions.get(), 0);
    assert!(!bus.connect_durable("c").present);
}

#[test]
fn a_client_that_returns_late_but_before_the_timer_finds_no_session() {
    let bus = TestBus::new();
    bus.connect_with("c", |r| r.expiry = 100)
        .disconnect(Departure::Normal);
    bus.clock.advance_seconds(100);
    assert!(!bus.connect_durable("c").present);
}

#[test]
fn a_timer_of_an_earlier_absence_does_not_end_the_session() {
    let bus = TestBus::new();
    bus.connect_with("c", |r| r.expiry = 100)
        .disconnect(Departure::Normal);
    bus.advance(50);
    let again = bus.connect_with("c", |r| {
        r.clean_start = false;
        r.expiry = 100;
    });
    assert!(again.present);
    bus.advance(60);
    again.disconnect(Departure::Normal);
    bus.advance(60);
    assert_eq!(bus.bus.counters().sessions.get(), 1);
    bus.advance(40);
    assert_eq!(bus.bus.counters().sessions.get(), 0);
}

#[test]
fn mqtt_3_1_4_3_the_older_connection_is_told_and_can_do_nothing_more() {
    let bus = TestBus::new();
    let old = bus.connect_durable("c");
    old.subscribe("t", QoS::AtLeastOnce);
    let mut new = bus.connect_durable("c");
    assert!(new.present);
    assert_eq!(old.wakes(), 1);
    assert_eq!(old.ended(), Some(EndReason::TakenOver));
    let filter = TopicFilter::new("t").unwrap();
    assert_eq!(old.attachment.unsubscribe(&filter).unwrap_err(), Fenced);
    assert_eq!(
        old.attachment
            .acknowledge(bus.bus.now(), NonZeroU16::MIN, false),
        Err(Fenced)
    );
    old.disconnect(Departure::WithWill);
    bus.publish_as("t", "m", QoS::AtLeastOnce, |_| {});
    assert_eq!(new.payloads(), ["m"]);
    let counters = bus.bus.counters();
    assert_eq!(
        (counters.connections.get(), counters.takeovers.get()),
        (1, 1)
    );
}

#[test]
fn the_claim_that_is_older_loses_whoever_attaches_last() {
    let bus = TestBus::new();
    let id = ClientId::new("c").unwrap();
    let older = now_or_never(bus.bus.claim(&id)).unwrap();
    let newer = bus.connect("c");
    let request = ConnectRequest {
        clean_start: true,
        expiry: 0,
        will: None,
        receive_maximum: NonZeroU16::MAX,
        keep_alive: 0,
        encoder: Box::new(support::LineEncoder { max_payload: 0 }),
    };
    let attached = bus
        .bus
        .batch(|worker| bus.bus.attach(worker, &id, older, request));
    assert_eq!(attached.err(), Some(AttachRefusal::Fenced));
    assert_eq!(newer.ended(), None);
}

#[test]
fn mqtt_4_4_0_1_what_is_in_flight_is_sent_again_in_order_with_dup_and_the_same_identifiers() {
    let bus = TestBus::new();
    let mut client = bus.connect_durable("c");
    client.subscribe("t", QoS::ExactlyOnce);
    for (n, qos) in [(1, 1), (2, 2), (3, 2), (4, 1), (5, 2)] {
        bus.publish_as("t", &n.to_string(), QoS::from_u8(qos).unwrap(), |_| {});
    }
    let first = client.read();
    let now = bus.bus.now();
    // 1 is done, 3 is received and waits for PUBCOMP, 5 is done.
    client.acknowledge(first[0].id());
    assert_eq!(
        client
            .attachment
            .received(now, first[2].id(), false)
            .unwrap()
            .0,
        Received::Release
    );
    assert_eq!(
        client
            .attachment
            .received(now, first[4].id(), false)
            .unwrap()
            .0,
        Received::Release
    );
    assert_eq!(client.attachment.complete(now, first[4].id()), Ok(true));
    client.disconnect(Departure::WithWill);
    bus.publish_as("t", "6", QoS::AtLeastOnce, |_| {});
    let (_client, again) = reconnect(&bus, "c");
    assert_eq!(payloads(&again), ["2", "", "4", "6"]);
    assert_eq!(again[1], Got::Release(first[2].id().get()));
    assert_eq!(
        ids(&again)[..3],
        [ids(&first)[1], ids(&first)[2], ids(&first)[3]]
    );
    let dups: Vec<_> = again
        .iter()
        .map(|got| matches!(got, Got::Publish { dup: true, .. }))
        .collect();
    assert_eq!(dups, [true, false, true, false]);
}

#[test]
fn mqtt_3_3_4_9_receive_maximum_holds_during_retransmission_too() {
    let bus = TestBus::new();
    let mut client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    for n in 0..5 {
        bus.publish_as("t", &n.to_string(), QoS::AtLeastOnce, |_| {});
    }
    assert_eq!(client.read().len(), 5);
    client.disconnect(Departure::WithWill);
    bus.publish_as("t", "5", QoS::AtLeastOnce, |_| {});
    let (mut client, mut open) = reconnect_with(&bus, "c", NonZeroU16::new(2).unwrap());
    let mut seen = Vec::new();
    while !open.is_empty() {
        assert!(open.len() <= 2);
        let done = open.remove(0);
        client.acknowledge(done.id());
        seen.push(done.payload().to_owned());
        open.extend(client.read());
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn qos_0_passes_by_a_full_window_and_order_holds_while_it_is_open() {
    let bus = TestBus::new();
    let mut client = bus.connect_with("c", |r| r.receive_maximum = NonZeroU16::new(1).unwrap());
    client.subscribe("t", QoS::AtLeastOnce);
    for (payload, qos) in [("a", 1), ("b", 0), ("c", 1), ("d", 0), ("e", 1)] {
        bus.publish_as("t", payload, QoS::from_u8(qos).unwrap(), |_| {});
    }
    let got = client.read();
    assert_eq!(payloads(&got), ["a", "b", "d"]);
    client.acknowledge(got[0].id());
    let got = client.read();
    assert_eq!(payloads(&got), ["c"]);
    client.acknowledge(got[0].id());
    assert_eq!(client.payloads(), ["e"]);
}

#[test]
fn mqtt_3_3_2_5_and_6_expiry_counts_down_while_a_message_waits_and_ends_it() {
    let bus = TestBus::new();
    let client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(Departure::Normal);
    let at = bus.bus.now();
    bus.publish_as("t", "short", QoS::AtLeastOnce, |m| {
        m.expires_at = Some(at.plus_seconds(10));
    });
    bus.publish_as("t", "long", QoS::AtLeastOnce, |m| {
        m.expires_at = Some(at.plus_seconds(100));
    });
    bus.publish_as("r", "kept", QoS::AtLeastOnce, |m| {
        m.expires_at = Some(at.plus_seconds(100));
        m.retain = true;
    });
    bus.publish_as("r/short", "kept", QoS::AtLeastOnce, |m| {
        m.expires_at = Some(at.plus_seconds(10));
        m.retain = true;
    });
    bus.clock.advance_seconds(30);
    let (mut client, got) = reconnect(&bus, "c");
    client.subscribe("r/#", QoS::AtLeastOnce);
    let retained = client.read();
    for got in [&got, &retained] {
        let [Got::Publish { expires_in, .. }] = got.as_slice() else {
            panic!("{got:?}")
        };
        assert_eq!(*expires_in, Some(70));
    }
    assert_eq!(bus.dropped(DropReason::Expired), 1);
    for _ in 0..64 {
        bus.bus.tick();
    }
    assert_eq!(bus.bus.counters().retained_messages.get(), 1);
    assert_eq!(bus.dropped(DropReason::Expired), 2);
}

#[test]
fn an_exchange_that_has_begun_is_finished_also_when_its_message_expires() {
    let bus = TestBus::new();
    let mut client = bus.connect_durable("c");
    client.subscribe("t", QoS::ExactlyOnce);
    let at = bus.bus.now();
    bus.publish_as("t", "m", QoS::ExactlyOnce, |m| {
        m.expires_at = Some(at.plus_seconds(5));
    });
    let id = client.read()[0].id();
    client.disconnect(Departure::WithWill);
    bus.clock.advance_seconds(10);
    let (client, again) = reconnect(&bus, "c");
    assert_eq!((payloads(&again), again[0].id()), (vec!["m"], id));
    client
        .attachment
        .received(bus.bus.now(), id, false)
        .unwrap();
    client.disconnect(Departure::WithWill);
    bus.clock.advance_seconds(10);
    let (_client, again) = reconnect(&bus, "c");
    assert_eq!(again, [Got::Release(id.get())]);
}

#[test]
fn mqtt_4_4_0_1_a_pubrel_that_has_answered_a_pubrec_is_not_owed_again() {
    let bus = TestBus::new();
    let mut client = bus.connect_durable("c");
    client.subscribe("t", QoS::ExactlyOnce);
    for payload in ["1", "2"] {
        bus.publish_as("t", payload, QoS::ExactlyOnce, |_| {});
    }
    let first = client.read();
    client.disconnect(Departure::WithWill);
    // The second is still to be sent again when its PUBREC comes, which was under way before.
    let (mut client, again) = reconnect_with(&bus, "c", NonZeroU16::MIN);
    assert_eq!(payloads(&again), ["1"]);
    let now = bus.bus.now();
    let received = |client: &Client, id| client.attachment.received(now, id, false).unwrap().0;
    assert_eq!(received(&client, first[1].id()), Received::Release);
    assert_eq!(received(&client, first[0].id()), Received::Release);
    assert_eq!(client.attachment.complete(now, first[0].id()), Ok(true));
    assert_eq!(client.read(), []);
}

#[test]
fn mqtt_3_1_2_25_a_message_that_is_too_large_counts_as_sent_for_that_client_alone() {
    let bus = TestBus::new();
    let mut small = bus.connect_with("small", |r| {
        r.encoder = Box::new(support::LineEncoder { max_payload: 3 });
    });
    let mut other = bus.connect("other");
    small.subscribe("t", QoS::AtLeastOnce);
    other.subscribe("t", QoS::AtLeastOnce);
    bus.publish_as("t", "large", QoS::AtLeastOnce, |_| {});
    bus.publish_as("t", "ok", QoS::AtLeastOnce, |_| {});
    let got = small.read();
    assert_eq!((payloads(&got), ids(&got)), (vec!["ok"], vec![1]));
    assert_eq!(other.payloads(), ["large", "ok"]);
    assert_eq!(bus.dropped(DropReason::PacketTooLarge), 1);
    assert_eq!(
        bus.bus
            .client_drops(small.attachment.session().id())
            .get(DropReason::PacketTooLarge),
        1
    );
}

#[test]
fn mqtt_4_3_3_10_a_qos_2_publish_is_new_until_it_is_released_also_across_connections() {
    let bus = TestBus::new();
    let client = bus.connect_durable("c");
    let id = NonZeroU16::new(7).unwrap();
    assert!(client.is_new(id));
    assert!(!client.is_new(id));
    client.disconnect(Departure::WithWill);
    let client = bus.connect_durable("c");
    assert!(!client.is_new(id));
    // Of the earlier connection: it takes nothing from the quota of this one.
    assert_eq!(client.attachment.release(id).unwrap().0, Released::Before);
    assert_eq!(client.attachment.release(id).unwrap().0, Released::Unknown);
    assert!(client.is_new(id));
    assert_eq!(client.attachment.release(id).unwrap().0, Released::Here);
}

// ---- wills ------------------------------------------------------------------------------------

#[test]
fn mqtt_3_1_2_8_a_will_is_sent_unless_the_client_says_goodbye() {
    let bus = TestBus::new();
    let mut watcher = watcher(&bus);
    connect_with_will(&bus, 0, 0).disconnect(Departure::Normal);
    assert_eq!(watcher.read(), []);
    connect_with_will(&bus, 0, 0).disconnect(Departure::WithWill);
    assert_eq!(watcher.payloads(), ["gone"]);
    bus.advance(10);
    assert_eq!(watcher.read(), []);
}

#[test]
fn mqtt_3_1_3_9_a_delayed_will_waits_and_is_not_sent_when_the_session_goes_on() {
    let bus = TestBus::new();
    let mut watcher = watcher(&bus);
    connect_with_will(&bus, 3_600, 60).disconnect(Departure::WithWill);
    bus.advance(59);
    assert_eq!(watcher.read(), []);
    let again = connect_with_will(&bus, 3_600, 60);
    bus.advance(30);
    assert_eq!(watcher.read(), []);
    again.disconnect(Departure::WithWill);
    bus.advance(59);
    assert_eq!(watcher.read(), []);
    bus.advance(1);
    assert_eq!(watcher.payloads(), ["gone"]);
}

#[test]
fn mqtt_3_1_3_9_a_delayed_will_is_sent_when_the_session_ends_first() {
    let bus = TestBus::new();
    let mut watcher = watcher(&bus);
    connect_with_will(&bus, 10, 60).disconnect(Departure::WithWill);
    bus.advance(10);
    assert_eq!(watcher.payloads(), ["gone"]);
    // A clean start ends the session too.
    connect_with_will(&bus, 3_600, 60).disconnect(Departure::WithWill);
    let _clean = bus.connect("c");
    assert_eq!(watcher.payloads(), ["gone"]);
    bus.advance(100);
    assert_eq!(watcher.read(), []);
}

#[test]
fn mqtt_3_1_4_wills_on_takeover() {
    let cases = [
        // (clean start of the new connection, will delay, will is sent)
        (false, 0, true),
        (false, 60, false),
        (true, 0, true),
        (true, 60, true),
    ];
    for (clean_start, delay, sent) in cases {
        let bus = TestBus::new();
        let mut watcher = watcher(&bus);
        let _old = connect_with_will(&bus, 3_600, delay);
        let _new = bus.connect_with("c", |request| {
            request.clean_start = clean_start;
            request.expiry = 3_600;
        });
        assert_eq!(
            watcher.read().len(),
            usize::from(sent),
            "{clean_start} {delay}"
        );
        bus.advance(100);
        assert_eq!(watcher.read(), [], "{clean_start} {delay}");
    }
}

#[test]
fn the_expiry_of_a_will_counts_from_its_publication() {
    let bus = TestBus::new();
    let mut watcher = watcher(&bus);
    let message = Message::new(TopicName::new("will").unwrap(), b"gone");
    let client = bus.connect_with("c", |request| {
        request.will = Will::new(&message, 0, Some(30), bus.bus.memory());
    });
    bus.advance(100);
    client.disconnect(Departure::WithWill);
    let [
        Got::Publish {
            expires_in: Some(30),
            ..
        },
    ] = watcher.read()[..]
    else {
        panic!()
    };
}

#[test]
fn mqtt_3_1_2_22_silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    let bus = TestBus::new();
    let client = bus.connect_with("c", |request| request.keep_alive = 10);
    bus.advance(10);
    client.attachment.heard(bus.bus.now());
    bus.advance(14);
    assert_eq!(client.ended(), None);
    bus.advance(2);
    assert_eq!(client.ended(), Some(EndReason::KeepAliveTimeout));
    assert_eq!(client.wakes(), 1);
    let patient = bus.connect("patient");
    bus.advance(1_000_000);
    assert_eq!(patient.ended(), None);
}

#[test]
fn a_connection_that_is_dropped_unsaid_gives_its_session_back_and_its_will_is_sent() {
    let bus = TestBus::new();
    let mut watcher = watcher(&bus);
    drop(connect_with_will(&bus, 0, 0));
    assert_eq!(watcher.payloads(), ["gone"]);
    assert_eq!(bus.bus.counters().sessions.get(), 1);
}

#[test]
fn there_are_as_many_sessions_as_there_may_be_and_one_that_exists_is_resumed() {
    let bus = TestBus::with(|settings| settings.max_sessions = 2);
    let _first = bus.connect("first");
    bus.connect_durable("second").disconnect(Departure::Normal);
    let id = ClientId::new("third").unwrap();
    let claim = now_or_never(bus.bus.claim(&id)).unwrap();
    let request = ConnectRequest {
        clean_start: true,
        expiry: 0,
        will: None,
        receive_maximum: NonZeroU16::MAX,
        keep_alive: 0,
        encoder: Box::new(support::LineEncoder { max_payload: 0 }),
    };
    let attached = bus
        .bus
        .batch(|worker| bus.bus.attach(worker, &id, claim, request));
    assert_eq!(attached.err(), Some(AttachRefusal::QuotaExceeded));
    assert!(bus.connect_durable("second").present);
}

#[test]
fn mqtt_3_8_3_3_no_local_holds_for_retained_messages_and_for_later_sessions_of_the_client() {
    let bus = TestBus::new();
    let publisher = bus.connect("c");
    bus.bus.batch(|worker| {
        let mut message = Message::new(TopicName::new("t").unwrap(), b"own");
        message.retain = true;
        let _ = publisher.attachment.publish(worker, message, None).unwrap();
    });
    publisher.disconnect(Departure::Normal);
    let options = SubscriptionOptions {
        no_local: true,
        ..Default::default()
    };
    for (id, received) in [("c", 0), ("other", 1)] {
        let mut client = bus.connect(id);
        client.subscribe_as("t", options, None);
        assert_eq!(client.read().len(), received, "{id}");
    }
}

#[test]
fn mqtt_3_3_4_9_exchanges_of_an_earlier_connection_give_no_room_on_this_one() {
    let bus = TestBus::new();
    let mut client = bus.connect_durable("c");
    client.subscribe("t", QoS::ExactlyOnce);
    let now = bus.bus.now();
    for _ in 0..2 {
        bus.publish_as("t", "old", QoS::ExactlyOnce, |_| {});
    }
    let old = client.read();
    for got in &old {
        client.attachment.received(now, got.id(), false).unwrap();
    }
    client.disconnect(Departure::WithWill);
    let (mut client, owed) = reconnect_with(&bus, "c", NonZeroU16::new(2).unwrap());
    assert_eq!(owed.len(), 2);
    for _ in 0..5 {
        bus.publish_as("t", "new", QoS::AtLeastOnce, |_| {});
    }
    assert_eq!(client.read().len(), 2);
    for got in &owed {
        assert_eq!(client.attachment.complete(now, got.id()), Ok(true));
    }
    assert_eq!(
        client.read().len(),
        0,
        "two are open on this connection already"
    );
}

#[test]
fn qos_0_goes_on_while_retransmission_waits_for_the_window_and_wakes_the_client() {
    let bus = TestBus::new();
    let mut client = bus.connect_durable("c");
    client.subscribe("t", QoS::AtLeastOnce);
    for n in 0..3 {
        bus.publish_as("t", &n.to_string(), QoS::AtLeastOnce, |_| {});
    }
    assert_eq!(client.read().len(), 3);
    client.disconnect(Departure::WithWill);
    let (mut client, open) = reconnect_with(&bus, "c", NonZeroU16::MIN);
    assert_eq!(payloads(&open), ["0"]);
    client.wakes();
    bus.publish_as("t", "live", QoS::AtMostOnce, |_| {});
    assert_eq!(client.wakes(), 1);
    assert_eq!(client.payloads(), ["live"]);
    client.acknowledge(open[0].id());
    assert_eq!(client.payloads(), ["1"]);
}

#[test]
fn a_client_that_comes_and_goes_leaves_nothing_that_grows() {
    let bus = TestBus::new();
    for _ in 0..3_000 {
        bus.connect_with("c", |r| {
            r.keep_alive = u16::MAX;
            r.expiry = u32::MAX;
        })
        .disconnect(Departure::Normal);
    }
    let session = Arc::downgrade(&bus.bus.session(&ClientId::new("c").unwrap()).unwrap());
    let before = session.weak_count();
    bus.advance(61);
    bus.advance(61);
    // One timer of the session that stands is left.
    assert!(
        session.weak_count() < before.min(4),
        "{before} {}",
        session.weak_count()
    );
    assert!(session.strong_count() > 0);
}

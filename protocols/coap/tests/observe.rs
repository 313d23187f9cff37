//! Observations (RFC 7641).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use coap_lite::MessageType;
use support::*;
use tidegate_bus::{DropReason, MemoryStore};
use tidegate_coap::codec::number;
use tidegate_coap::{Cancel, Settings, Unverified};

fn net(change: impl FnOnce(&mut Settings)) -> Net {
    Net::with(Arc::new(MemoryStore::new()), change)
}

fn cancelled(net: &Net, why: Cancel) -> u64 {
    net.metrics.cancelled[why as usize].get()
}

#[test]
fn a_topic_without_a_value_is_observed_and_every_change_is_told_in_its_order() {
    let mut net = Net::new();
    let answer = net.observe(1, "/ps/a", b"t");
    assert_eq!(answer.text(), "");
    let mut last = answer.number(number::OBSERVE).unwrap();
    for payload in ["1", "2", "3"] {
        let told = one(net.publish("a", payload, false));
        assert_eq!(
            (told.code(), told.text()),
            ("2.05".to_owned(), payload.to_owned())
        );
        assert_eq!(
            (told.token(), told.kind()),
            (&b"t"[..], MessageType::NonConfirmable)
        );
        let observe = told.number(number::OBSERVE).unwrap();
        assert!(observe > last);
        last = observe;
        net.now += Duration::from_millis(20);
    }
    assert!(net.publish("b", "elsewhere", false).is_empty());
}

#[test]
fn where_addresses_cannot_be_forged_the_answer_is_in_the_acknowledgement() {
    let mut net = net(|settings| settings.unverified = Unverified::All);
    let answer = net.ask(1, &get("/ps/a").observe());
    assert_eq!(answer.kind(), MessageType::Acknowledgement);
    assert!(answer.number(number::OBSERVE).is_some());
    // The first notification measures the way then.
    assert_eq!(
        one(net.publish("a", "1", false)).kind(),
        MessageType::Confirmable
    );
}

#[test]
fn an_observer_begins_with_what_is_retained_and_hears_of_its_end() {
    let mut net = Net::new();
    net.publish("a", "kept", true);
    assert_eq!(net.observe(1, "/ps/a", b"t").text(), "kept");
    let cleared = one(net.publish("a", "", true));
    assert_eq!(
        (cleared.code(), cleared.text()),
        ("2.05".to_owned(), String::new())
    );
    assert!(cleared.number(number::OBSERVE).is_some());
}

#[test]
fn rfc_7641_3_3_1_max_age_is_the_rest_of_the_life_of_a_message() {
    let mut net = Net::new();
    net.observe(1, "/ps/a", b"t");
    let mut told = |seconds| {
        let told = one(net.publish_until("a", "x", false, seconds));
        net.now += Duration::from_secs(1);
        told.number(number::MAX_AGE)
    };
    assert_eq!(told(None), Some(0xFF_FFFF));
    assert_eq!(told(Some(30)), Some(30));
    assert_eq!(told(Some(600)), Some(600));
    net.publish_until("b", "kept", true, Some(30));
    assert_eq!(net.ask(2, &get("/ps/b")).number(number::MAX_AGE), Some(30));
    assert_eq!(
        net.observe(3, "/ps/b", b"t").number(number::MAX_AGE),
        Some(30)
    );
    net.publish_until("c", "kept", true, Some(600));
    assert_eq!(
        net.observe(4, "/ps/c", b"t").number(number::MAX_AGE),
        Some(600)
    );
    // Who only reads it is not told when it changes.
    assert_eq!(net.ask(5, &get("/ps/c")).number(number::MAX_AGE), None);
}

#[test]
fn rfc_7641_3_6_an_observation_ends_by_reset_by_deregistration_and_by_the_same_token() {
    let mut net = Net::new();
    net.observe(1, "/ps/a", b"t");
    let told = one(net.publish("a", "2", false));
    assert_eq!(told.kind(), MessageType::NonConfirmable);
    assert!(net.reset(&told).is_empty());
    assert!(net.publish("a", "3", false).is_empty());
    assert_eq!(cancelled(&net, Cancel::Reset), 1);

    net.observe(2, "/ps/a?qos=1", b"t");
    let told = one(net.publish("a", "4", false));
    assert_eq!(told.kind(), MessageType::Confirmable);
    assert!(net.reset(&told).is_empty());
    assert!(net.publish("a", "5", false).is_empty());
    assert!(
        net.advance(Duration::from_secs(100)).is_empty(),
        "and it is not repeated"
    );

    net.observe(3, "/ps/a", b"t");
    let answer = net.ask(3, &get("/ps/a").token(b"t").uint(number::OBSERVE, 1));
    assert_eq!(
        (answer.code(), answer.number(number::OBSERVE)),
        ("2.05".to_owned(), None)
    );
    assert!(net.publish("a", "6", false).is_empty());

    // Section 4.1: the same token anew is one observation.
    net.observe(4, "/ps/a", b"t");
    net.ask(4, &get("/ps/a").token(b"t").observe());
    let told = net.publish("a", "7", false);
    assert_eq!(told.len(), 1);
    assert_eq!(cancelled(&net, Cancel::Asked), 2);
    assert_eq!(net.bus.counters().subscriptions.get(), 1);
}

#[test]
fn rfc_7252_4_2_a_notification_is_repeated_with_back_off_and_then_nobody_is_there() {
    let mut net = Net::new();
    net.observe(1, "/ps/a", b"a");
    net.ask(1, &get("/ps/b?qos=1").observe().token(b"b"));
    let told = one(net.publish("b", "x", false));
    let began = net.now;
    let mut at = Vec::new();
    loop {
        let repeated = net.advance(Duration::from_millis(100));
        let Some(repeated) = repeated.first() else {
            if net.now - began > Duration::from_secs(120) {
                break;
            }
            continue;
        };
        assert_eq!(repeated.bytes, told.bytes);
        at.push((net.now - began).as_secs_f64());
    }
    assert_eq!(at.len(), 4, "MAX_RETRANSMIT: {at:?}");
    assert!((2.0..=3.2).contains(&at[0]), "{at:?}");
    for (step, pair) in at.windows(2).enumerate() {
        let ratio = (pair[1] - pair[0]) / at[0];
        let doubled = f64::from(2_u32 << step);
        assert!((ratio / doubled - 1.0).abs() < 0.15, "{at:?}");
    }
    assert_eq!(
        cancelled(&net, Cancel::Timeout),
        2,
        "all observations of the endpoint"
    );
    assert!(net.publish("a", "y", false).is_empty());
    assert_eq!(net.metrics.retransmissions.get(), 4);
}

#[test]
fn rfc_7641_4_5_2_a_newer_state_goes_instead_of_one_that_is_not_acknowledged() {
    let mut net = Net::new();
    net.observe(1, "/ps/a?qos=1", b"t");
    let first = one(net.publish("a", "1", false));
    assert!(net.publish("a", "2", false).is_empty(), "one at a time");
    assert!(net.publish("a", "3", false).is_empty());
    let newer = one(net.advance(Duration::from_secs(3)));
    assert_eq!(
        (newer.text().as_str(), newer.kind()),
        ("3", MessageType::Confirmable)
    );
    assert_ne!(newer.id(), first.id());
    assert_eq!(net.bus.counters().drops.get(DropReason::Superseded), 2);
    assert!(net.acknowledge(&first).is_empty(), "too late");
    // The back-off goes on where it was.
    assert!(net.advance(Duration::from_millis(2_900)).is_empty());
    let again = one(net.advance(Duration::from_millis(3_200)));
    assert_eq!(again.bytes, newer.bytes);
    net.acknowledge(&again);
    assert_eq!(one(net.publish("a", "4", false)).text(), "4");
}

#[test]
fn what_is_acknowledged_in_time_is_told_message_by_message() {
    let mut net = Net::new();
    net.observe(1, "/ps/a?qos=1", b"t");
    let mut told = one(net.publish("a", "0", false));
    for number in 1..20 {
        assert!(net.publish("a", &number.to_string(), false).is_empty());
    }
    for number in 1..20 {
        told = one(net.acknowledge(&told));
        assert_eq!(told.text(), number.to_string());
    }
    assert!(net.acknowledge(&told).is_empty());
}

#[test]
fn rfc_7641_4_5_1_what_is_not_confirmable_keeps_the_pace_of_the_round_trip() {
    let mut net = net(|settings| settings.max_waiting = 1_000);
    net.observe(1, "/ps/a", b"t");
    // A burst is allowed for the time that was quiet, on average it is one in 20 ms.
    let mut count = 0;
    for number in 0..200 {
        count += net.publish("a", &number.to_string(), false).len();
    }
    assert!(count <= 17, "{count}");
    let within = net.advance(Duration::from_millis(1_000)).len();
    assert!((45..=55).contains(&within), "{within}");
    let rest = net.advance(Duration::from_secs(10));
    assert_eq!(
        count + within + rest.len(),
        200,
        "nothing is lost that fits"
    );
    assert_eq!(rest.last().unwrap().text(), "199");
}

#[test]
fn what_does_not_fit_gives_way_to_the_newest_and_is_counted() {
    let mut net = net(|settings| settings.max_waiting = 3);
    net.observe(1, "/ps/a?qos=1", b"t");
    let first = one(net.publish("a", "0", false));
    for number in 1..=10 {
        net.publish("a", &number.to_string(), false);
    }
    assert_eq!(net.bus.counters().drops.get(DropReason::Superseded), 7);
    net.now += Duration::from_millis(10);
    let mut told = one(net.acknowledge(&first));
    for number in ["8", "9", "10"] {
        assert_eq!(told.text(), number);
        match net.acknowledge(&told).pop() {
            Some(next) => told = next,
            None => assert_eq!(number, "10"),
        }
    }
}

#[test]
fn rfc_7641_1_3_of_each_topic_the_newest_state_is_told_though_another_is_published_faster() {
    let mut net = net(|settings| settings.max_waiting = 3);
    net.observe(1, "/ps/+?qos=1", b"t");
    let first = one(net.publish("busy", "0", false));
    net.publish("calm", "1", false);
    for number in 1..=10 {
        net.publish("busy", &number.to_string(), false);
    }
    net.publish("third", "2", false);
    let mut told = vec![];
    let mut next = net.acknowledge(&first);
    while let Some(sent) = next.pop() {
        told.push(sent.text());
        next = net.acknowledge(&sent);
    }
    assert_eq!(told, ["1", "10", "2"]);
}

#[test]
fn a_filter_with_wildcards_tells_the_topic_of_each_message_and_begins_with_what_is_retained() {
    let mut net = net(|settings| settings.unverified = Unverified::All);
    net.publish("a/1", "x", true);
    net.publish("a/2", "y", true);
    net.publish("b/1", "z", true);
    let sent = net.send(1, &get("/ps/a/+").observe().bytes());
    assert_eq!(
        (sent[0].code(), sent[0].text()),
        ("2.05".to_owned(), String::new())
    );
    assert!(sent[0].number(number::OBSERVE).is_some());
    let mut told = vec![sent[1].clone()];
    net.now += Duration::from_millis(10);
    told.extend(net.acknowledge(&sent[1]));
    told.extend(net.publish("a/3", "live", false));
    told.extend(net.advance(Duration::from_secs(1)));
    let mut told: Vec<_> = told
        .iter()
        .map(|sent| {
            (
                String::from_utf8(sent.all(number::TOPIC).remove(0)).unwrap(),
                sent.text(),
            )
        })
        .collect();
    told[..2].sort();
    let told: Vec<_> = told
        .iter()
        .map(|(topic, payload)| (topic.as_str(), payload.as_str()))
        .collect();
    assert_eq!(told, [("a/1", "x"), ("a/2", "y"), ("a/3", "live")]);
    assert_eq!(
        net.ask(2, &get("/ps/a/+")).code(),
        "4.00",
        "it is observed, not read"
    );
}

#[test]
fn beyond_the_limit_a_topic_is_read_and_not_observed() {
    let mut net = net(|settings| settings.max_observations_per_endpoint = 2);
    net.observe(1, "/ps/a", b"1");
    assert!(
        net.ask(1, &get("/ps/a").observe().token(b"2"))
            .number(number::OBSERVE)
            .is_some()
    );
    let refused = net.ask(1, &get("/ps/a").observe().token(b"3"));
    assert_eq!(
        (refused.code(), refused.number(number::OBSERVE)),
        ("2.05".to_owned(), None)
    );
    assert_eq!(
        net.ask(1, &get("/ps/#").observe().token(b"4")).code(),
        "4.29"
    );
    net.observe(2, "/ps/a", b"1");
}

#[test]
fn an_observer_is_asked_now_and_then_whether_it_lives() {
    let mut net = net(|settings| settings.confirm_interval = Duration::from_secs(60));
    net.observe(1, "/ps/a", b"t");
    assert_eq!(
        one(net.publish("a", "2", false)).kind(),
        MessageType::NonConfirmable
    );
    // One who is sent nothing is asked with a ping.
    let ping = one(net.advance(Duration::from_secs(61)));
    assert!(ping.is_empty_of(MessageType::Confirmable));
    assert!(net.reset(&ping).is_empty(), "a pong ends nothing");
    let confirmable = one(net.publish("a", "3", false));
    assert_eq!(confirmable.kind(), MessageType::Confirmable);
    net.acknowledge(&confirmable);
    let pings = net.advance(Duration::from_secs(200));
    assert_eq!(pings.len(), 5, "a ping and its repetitions: {pings:?}");
    assert_eq!(cancelled(&net, Cancel::Timeout), 1);
    assert!(net.publish("a", "4", false).is_empty());
}

#[test]
fn a_message_that_has_expired_while_it_waited_is_not_told() {
    let mut net = Net::new();
    net.observe(1, "/ps/a?qos=1", b"t");
    let first = one(net.publish("a", "1", false));
    net.publish_until("a", "late", false, Some(0));
    assert!(net.acknowledge(&first).is_empty());
    assert_eq!(net.bus.counters().drops.get(DropReason::Expired), 1);
}

#[test]
fn at_the_end_observers_hear_that_they_are_observers_no_more() {
    let mut net = Net::new();
    net.observe(1, "/ps/a", b"t");
    let mut out = tidegate_coap::Outgoing::default();
    net.server.shut_down(net.now, &mut out);
    let (path, bytes) = out.iter().next().expect("a last notification");
    let last = coap_lite::Packet::from_bytes(bytes).unwrap();
    assert_eq!(
        (path.remote.port(), last.header.code.to_string()),
        (1, "5.03".to_owned())
    );
    assert_eq!(
        (last.get_token(), last.get_observe_value()),
        (&b"t"[..], None)
    );
    assert_eq!(net.bus.counters().subscriptions.get(), 0);
}

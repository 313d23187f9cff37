//! Observers that have a session: nothing that was acknowledged to a publisher is lost to them, whatever becomes of
//! their address, and a session is one client's wherever it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

#[path = "support/slow.rs"]
mod slow;
mod support;

use std::sync::Arc;
use std::time::Duration;

use coap_lite::MessageType;
use slow::SlowStore;
use support::*;
use tidegate_bus::*;
use tidegate_coap::codec::{Code, Kind, number};
use tidegate_coap::{Cancel, Unverified};

const PUMP: &str = "/ps/a?c=pump&qos=1";

fn net() -> Net {
    Net::with(Arc::new(MemoryStore::new()), |settings| {
        settings.unverified = Unverified::All;
    })
}

/// Publishes at QoS 1 or 2, and takes what the server sends for it.
fn publish(net: &mut Net, topic: &str, payload: &str, qos: QoS) -> Vec<Sent> {
    let mut message = Message::new(TopicName::new(topic).unwrap(), payload.as_bytes());
    message.qos = qos;
    let bus = Arc::clone(&net.bus);
    let _ = bus.batch(|worker| bus.publish(worker, message)).unwrap();
    net.rest()
}

/// Registers, and gives the answer and what came after it.
#[track_caller]
fn observe(net: &mut Net, port: u16, path: &str, token: &[u8]) -> (Sent, Vec<Sent>) {
    let mut sent = net.send(port, &get(path).observe().token(token).bytes());
    assert!(!sent.is_empty(), "an answer");
    let answer = sent.remove(0);
    assert_eq!(answer.code(), "2.05", "{answer:?}");
    assert!(answer.number(number::OBSERVE).is_some(), "it is registered");
    (answer, sent)
}

fn pending(net: &Net, client: &str) -> u64 {
    assert!(net.bus.session(&ClientId::new(client).unwrap()).is_some());
    net.bus.pending_messages()
}

/// Acknowledges one after the other, and gives the texts of all.
fn drain(net: &mut Net, mut told: Vec<Sent>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(sent) = told.pop() {
        assert!(told.is_empty(), "NSTART: one at a time");
        assert_eq!(sent.kind(), MessageType::Confirmable);
        texts.push(sent.text());
        told = net.acknowledge(&sent);
    }
    texts
}

#[test]
fn what_is_published_while_the_client_is_away_waits_for_it() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let told = one(publish(&mut net, "a", "1", QoS::AtLeastOnce));
    net.acknowledge(&told);
    // Nobody acknowledges this one, nor its repetitions.
    one(publish(&mut net, "a", "2", QoS::AtLeastOnce));
    net.advance(Duration::from_secs(100));
    assert_eq!(net.metrics.cancelled[Cancel::Timeout as usize].get(), 1);
    for text in ["3", "4"] {
        assert!(publish(&mut net, "a", text, QoS::AtLeastOnce).is_empty());
    }
    assert_eq!(pending(&net, "pump"), 3);

    let (answer, told) = observe(&mut net, 2, PUMP, b"u");
    assert_eq!(answer.text(), "", "nothing is retained");
    assert_eq!(drain(&mut net, told), ["2", "3", "4"]);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn rfc_7252_11_3_nobody_has_a_session_under_an_address_that_is_not_proved() {
    let mut net = Net::new();
    let registration = get(PUMP).observe().token(b"t");
    let ping = one(net.send(1, &registration.bytes()));
    assert!(ping.is_empty_of(MessageType::Confirmable));
    assert!(net.bus.sessions().is_empty());
    // Repeated while it waits.
    assert!(net.send(1, &registration.bytes()).is_empty());
    let sent = net.reset(&ping);
    assert_eq!(sent[0].code(), "2.05", "{sent:?}");
    assert_eq!(net.bus.sessions().len(), 1);

    // Somebody forges an address, to which nobody answers.
    let ping = one(net.send(2, &get(PUMP).observe().token(b"u").bytes()));
    assert!(ping.port == 2 && ping.is_empty_of(MessageType::Confirmable));
    let repeated = net.advance(Duration::from_secs(100));
    assert!(repeated.iter().all(|sent| sent.bytes == ping.bytes));
    assert_eq!(net.bus.counters().takeovers.get(), 0);
    let told = publish(&mut net, "a", "1", QoS::AtLeastOnce);
    assert_eq!(
        (told[0].port, drain(&mut net, told)),
        (1, vec!["1".to_owned()])
    );
}

#[test]
fn rfc_9175_2_3_where_echo_is_wanted_a_session_begins_with_it() {
    let mut net = Net::with(Arc::new(MemoryStore::new()), |settings| {
        settings.unverified = Unverified::Echo;
    });
    let refused = net.ask(1, &get(PUMP).observe().token(b"t"));
    assert_eq!(refused.code(), "4.01");
    let echo = refused.all(number::ECHO).remove(0);
    let again = get(PUMP).observe().token(b"t").option(number::ECHO, echo);
    assert_eq!(net.ask(1, &again).code(), "2.05");
    assert_eq!(net.bus.sessions().len(), 1);
}

#[test]
fn rfc_9175_2_3_more_than_so_many_are_not_pinged_but_told_to_echo() {
    let mut net = Net::new();
    for port in 1..=256 {
        let sent = one(net.send(port, &get(PUMP).observe().bytes()));
        assert!(sent.is_empty_of(MessageType::Confirmable));
    }
    assert_eq!(net.ask(257, &get(PUMP).observe()).code(), "4.01");
    // Access decisions go on.
    assert_eq!(net.ask(258, &get("/ps/a?c=other")).code(), "2.05");
}

#[test]
fn a_qos_2_message_is_received_once_though_its_client_comes_back_elsewhere() {
    let mut net = net();
    observe(&mut net, 1, "/ps/a?c=pump&qos=2", b"t");
    let told = one(publish(&mut net, "a", "1", QoS::ExactlyOnce));
    net.acknowledge(&told);
    let (_, told) = observe(&mut net, 2, "/ps/a?c=pump&qos=2", b"t");
    // The client at the old address hears that it observes no more.
    let goodbye = one(told);
    assert_eq!((goodbye.port, goodbye.code().as_str()), (1, "5.03"));
    assert_eq!(net.metrics.cancelled[Cancel::TakenOver as usize].get(), 1);
    let told = publish(&mut net, "a", "2", QoS::ExactlyOnce);
    assert_eq!(told[0].port, 2);
    assert_eq!(drain(&mut net, told), ["2"]);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn rfc_7641_4_5_2_a_newer_state_takes_no_ones_place_in_a_session() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let first = one(publish(&mut net, "a", "1", QoS::AtLeastOnce));
    assert!(publish(&mut net, "a", "2", QoS::AtLeastOnce).is_empty());
    let again = one(net.advance(Duration::from_secs(3)));
    assert_eq!(again.bytes, first.bytes);
    let told = net.acknowledge(&again);
    assert_eq!(drain(&mut net, told), ["2"]);
    assert_eq!(net.bus.counters().drops.get(DropReason::Superseded), 0);
}

#[test]
fn the_window_bounds_what_is_taken_and_the_rest_follows_in_its_order() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let mut told = Vec::new();
    for number in 0..100 {
        told.extend(publish(
            &mut net,
            "a",
            &number.to_string(),
            QoS::AtLeastOnce,
        ));
    }
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(drain(&mut net, told), expected);
}

#[test]
fn who_registers_one_observation_after_the_other_gets_what_waited_for_each() {
    let mut net = net();
    observe(&mut net, 1, "/ps/a?c=pump&qos=1", b"a");
    observe(&mut net, 1, "/ps/b?c=pump&qos=1", b"b");
    // Both are given up.
    one(publish(&mut net, "a", "a1", QoS::AtLeastOnce));
    net.advance(Duration::from_secs(100));
    publish(&mut net, "b", "b1", QoS::AtLeastOnce);
    publish(&mut net, "a", "a2", QoS::AtLeastOnce);

    let (_, told) = observe(&mut net, 2, "/ps/b?c=pump&qos=1", b"b");
    assert_eq!(drain(&mut net, told), ["b1"]);
    net.advance(Duration::from_secs(30));
    let (_, told) = observe(&mut net, 2, "/ps/a?c=pump&qos=1", b"a");
    assert_eq!(drain(&mut net, told), ["a1", "a2"]);
    assert_eq!(net.bus.counters().drops.get(DropReason::Unobserved), 0);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn what_is_not_observed_anew_is_dropped_after_a_minute_and_counted() {
    let mut net = net();
    observe(&mut net, 1, "/ps/a?c=pump&qos=1", b"a");
    observe(&mut net, 1, "/ps/b?c=pump&qos=1", b"b");
    one(publish(&mut net, "a", "a1", QoS::AtLeastOnce));
    net.advance(Duration::from_secs(100));
    for _ in 0..40 {
        publish(&mut net, "a", "more", QoS::AtLeastOnce);
    }
    publish(&mut net, "b", "b1", QoS::AtLeastOnce);
    let (_, told) = observe(&mut net, 2, "/ps/b?c=pump&qos=1", b"b");
    assert!(told.is_empty(), "more than a window is in front of it");
    let told = net.advance(Duration::from_secs(66));
    assert_eq!(drain(&mut net, told), ["b1"]);
    assert_eq!(net.bus.counters().drops.get(DropReason::Unobserved), 41);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn rfc_7641_3_6_a_reset_ends_the_observation_and_not_the_subscription() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    // It has started anew, and has forgotten what it observed.
    let told = one(publish(&mut net, "a", "1", QoS::AtLeastOnce));
    assert!(net.reset(&told).is_empty());
    publish(&mut net, "a", "2", QoS::AtLeastOnce);
    let (_, told) = observe(&mut net, 1, PUMP, b"u");
    assert_eq!(drain(&mut net, told), ["1", "2"]);
}

#[test]
fn rfc_7641_3_6_who_deregisters_the_last_observation_has_no_session_any_more() {
    let mut net = net();
    observe(&mut net, 1, "/ps/a?c=pump&qos=1", b"a");
    observe(&mut net, 1, "/ps/b?c=pump&qos=1", b"b");
    let told = one(publish(&mut net, "a", "1", QoS::AtLeastOnce));
    let end = |path: &str, token: &[u8]| get(path).uint(number::OBSERVE, 1).token(token);
    net.ask(1, &end("/ps/a?c=pump", b"a"));
    net.acknowledge(&told);
    assert_eq!(pending(&net, "pump"), 0, "what is not wanted is not owed");
    assert!(publish(&mut net, "a", "2", QoS::AtLeastOnce).is_empty());
    let told = publish(&mut net, "b", "3", QoS::AtLeastOnce);
    assert_eq!(drain(&mut net, told), ["3"]);
    net.ask(1, &end("/ps/b?c=pump", b"b"));
    net.rest();
    assert!(net.bus.session(&ClientId::new("pump").unwrap()).is_none());
}

#[test]
fn rfc_7641_4_1_an_observation_that_is_registered_again_goes_on() {
    let mut net = net();
    let (first, _) = observe(&mut net, 1, PUMP, b"t");
    let told = one(publish(&mut net, "a", "1", QoS::AtLeastOnce));
    publish(&mut net, "a", "2", QoS::AtLeastOnce);
    let (again, more) = observe(&mut net, 1, PUMP, b"t");
    assert!(more.is_empty(), "the first is still under way");
    assert!(again.number(number::OBSERVE) >= first.number(number::OBSERVE));
    let more = net.acknowledge(&told);
    assert_eq!(drain(&mut net, more), ["2"]);
    assert_eq!(net.metrics.cancelled[Cancel::Asked as usize].get(), 0);
}

#[test]
fn rfc_7959_3_4_a_large_message_is_acknowledged_when_its_rest_was_fetched() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let body = "x".repeat(3_000);
    let told = one(publish(&mut net, "a", &body, QoS::AtLeastOnce));
    assert_eq!(told.packet.payload.len(), 1_024);
    net.acknowledge(&told);
    assert_eq!(pending(&net, "pump"), 1);
    for num in 1..3 {
        let rest = get("/ps/a?c=pump").block(number::BLOCK2, num, false, 1_024);
        assert_eq!(net.ask(1, &rest).code(), "2.05");
    }
    assert_eq!(pending(&net, "pump"), 0);
}

/// Waits, second by second; acknowledges notifications, of which it gives the texts, and answers pings.
fn wait(net: &mut Net, seconds: u64) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..seconds {
        for sent in net.advance(Duration::from_secs(1)) {
            if sent.is_empty_of(MessageType::Confirmable) {
                net.reset(&sent);
            } else {
                texts.push(sent.text());
                net.acknowledge(&sent);
            }
        }
    }
    texts
}

#[test]
fn rfc_7959_3_4_a_client_that_pauses_between_blocks_loses_nothing() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let large = "x".repeat(3_000);
    let told = one(publish(&mut net, "a", &large, QoS::AtLeastOnce));
    net.acknowledge(&told);
    assert!(publish(&mut net, "a", "next", QoS::AtLeastOnce).is_empty());
    let part = |num| get(PUMP).block(number::BLOCK2, num, false, 1_024);
    for num in [1, 2] {
        // A fifth of all datagrams is lost on the way, say.
        let waited = net.advance(Duration::from_secs(100));
        assert!(
            waited.iter().all(|sent| sent.text().is_empty()),
            "a ping at most"
        );
        for ping in waited {
            net.reset(&ping);
        }
        assert_eq!(pending(&net, "pump"), 2);
        let sent = net.send(1, &part(num).bytes());
        if num == 2 {
            assert_eq!(sent.last().unwrap().text(), "next");
        }
    }
    assert_eq!(pending(&net, "pump"), 1);
    assert_eq!(net.bus.counters().drops.get(DropReason::Unobserved), 0);
}

#[test]
fn rfc_7959_3_4_what_is_not_fetched_is_dropped_at_last_and_counted() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let told = one(publish(&mut net, "a", &"x".repeat(3_000), QoS::AtLeastOnce));
    net.acknowledge(&told);
    publish(&mut net, "a", "next", QoS::AtLeastOnce);
    assert_eq!(wait(&mut net, 300), ["next"]);
    assert_eq!(net.bus.counters().drops.get(DropReason::Unobserved), 1);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn a_message_comes_once_to_each_of_two_observations_and_is_acknowledged_by_both() {
    let mut net = net();
    observe(&mut net, 1, "/ps/a/1?c=pump&qos=1", b"a");
    observe(&mut net, 1, "/ps/a/+?c=pump&qos=1", b"b");
    let told = one(publish(&mut net, "a/1", "x", QoS::AtLeastOnce));
    let other = one(net.acknowledge(&told));
    assert_ne!(told.token(), other.token());
    assert_eq!(pending(&net, "pump"), 1);
    assert!(net.acknowledge(&other).is_empty());
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn what_is_retained_comes_with_the_answer_or_through_the_session() {
    let mut net = net();
    net.publish("a/1", "x", true);
    net.publish("a/2", "y", true);
    let (answer, told) = observe(&mut net, 1, "/ps/a/1?c=pump&qos=1", b"a");
    assert_eq!((answer.text().as_str(), told.len()), ("x", 0));
    let (answer, told) = observe(&mut net, 1, "/ps/a/#?c=pump&qos=1", b"b");
    assert_eq!(answer.text(), "");
    let mut texts = drain(&mut net, told);
    texts.sort();
    assert_eq!(texts, ["x", "y"]);
}

#[test]
fn content_format_and_max_age_come_through_the_session() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let mut properties = PropertiesBuilder::new();
    let json = MessageProperty::ContentType("application/json");
    properties.push(json).unwrap();
    let until = net.bus.now().plus_seconds(50);
    let mut message = Message::new(TopicName::new("a").unwrap(), b"{}");
    message.properties = properties.as_properties();
    message.expires_at = Some(until);
    message.qos = QoS::AtLeastOnce;
    let bus = Arc::clone(&net.bus);
    let _ = bus.batch(|worker| bus.publish(worker, message)).unwrap();
    let told = net.rest();
    let told = one(told);
    assert_eq!(told.number(number::CONTENT_FORMAT), Some(50));
    assert!((49..=50).contains(&told.number(number::MAX_AGE).unwrap()));
}

#[test]
fn a_client_of_another_protocol_takes_the_session_over() {
    struct Nothing;
    impl Encoder for Nothing {
        fn publish(
            &mut self,
            _: &mut Vec<u8>,
            _: &Message<'_>,
            _: &Outgoing<'_>,
        ) -> Result<(), TooLarge> {
            Ok(())
        }
        fn release(&mut self, _: &mut Vec<u8>, _: std::num::NonZeroU16) {}
        fn count_unacknowledged(&self, _: &[u8]) -> u64 {
            0
        }
    }
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let client = ClientId::new("pump").unwrap();
    let claim = now(net.bus.claim(&client));
    let request = ConnectRequest {
        clean_start: false,
        expiry: 60,
        will: None,
        receive_maximum: std::num::NonZeroU16::MAX,
        keep_alive: 0,
        encoder: Box::new(Nothing),
    };
    let bus = Arc::clone(&net.bus);
    let attached = bus.batch(|worker| bus.attach(worker, &client, claim, request));
    let (attachment, present) = attached.unwrap();
    assert!(present, "it is the same session");
    let goodbye = one(net.rest());
    assert_eq!(goodbye.code(), "5.03");
    assert!(goodbye.number(number::OBSERVE).is_none());
    assert_eq!(attachment.session().subscriptions().len(), 1);
}

/// Polls what does not wait.
fn now(claim: impl Future<Output = Result<Claim, StoreError>>) -> Claim {
    let mut claim = std::pin::pin!(claim);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match claim.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(claim) => claim.unwrap(),
        std::task::Poll::Pending => panic!("the memory engine does not wait"),
    }
}

#[test]
fn without_a_name_or_at_qos_0_there_is_no_session_and_an_expiry_needs_a_name() {
    let mut net = net();
    observe(&mut net, 1, "/ps/a?qos=1", b"a");
    observe(&mut net, 1, "/ps/a?c=pump", b"b");
    assert!(net.bus.sessions().is_empty());
    let refused = net.ask(1, &get("/ps/a?session_expiry=60").observe());
    assert_eq!(refused.code(), "4.00");
    observe(&mut net, 1, "/ps/a?c=pump&session_expiry=60", b"c");
    assert_eq!(
        net.bus.sessions().len(),
        1,
        "who asks for a session has one"
    );
}

#[test]
fn a_session_of_no_expiry_ends_with_its_last_observation() {
    let mut net = net();
    observe(&mut net, 1, "/ps/a?c=pump&session_expiry=0", b"t");
    let told = one(publish(&mut net, "a", "1", QoS::AtLeastOnce));
    net.reset(&told);
    net.rest();
    assert!(net.bus.sessions().is_empty());
    assert_eq!(net.bus.counters().drops.get(DropReason::SessionEnded), 1);
}

#[test]
fn rfc_7252_4_2_a_registration_that_is_repeated_while_it_waits_is_served_once() {
    let mut net = net();
    let request = get(PUMP).observe().token(b"t");
    let mut out = tidegate_coap::Outgoing::default();
    let bus = Arc::clone(&net.bus);
    for _ in 0..3 {
        let now = net.now;
        let server = &mut net.server;
        bus.batch(|worker| server.receive(worker, path(1), &request.bytes(), now, &mut out));
    }
    let answers = net.rest();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(net.bus.counters().takeovers.get(), 0);
}

#[test]
fn at_the_end_of_the_listener_sessions_are_given_back_and_stay() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let mut out = tidegate_coap::Outgoing::default();
    net.server.shut_down(net.now, &mut out);
    assert_eq!(out.iter().count(), 1, "a word to the observer");
    let session = net.bus.session(&ClientId::new("pump").unwrap()).unwrap();
    assert!(!session.is_connected());
    assert_eq!(session.subscriptions().len(), 1);
}

#[test]
fn rfc_7252_4_2_what_cannot_be_read_does_not_touch_a_session() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let told = one(publish(&mut net, "a", "1", QoS::AtLeastOnce));
    // Acknowledged from elsewhere, under another identifier, and by a ping.
    net.empty(9, Kind::Acknowledgement, told.id());
    net.empty(1, Kind::Acknowledgement, told.id().wrapping_add(1));
    net.empty(1, Kind::Confirmable, told.id());
    assert_eq!(pending(&net, "pump"), 1);
    let put = net.ask(1, &ask(Code::PUT, "/ps/b?c=pump"));
    assert_eq!(
        put.code(),
        "2.04",
        "a publish of the same client takes nothing over"
    );
    net.acknowledge(&told);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn a_registration_is_answered_when_its_subscription_is_kept() {
    let store = Arc::new(SlowStore::default());
    let mut net = Net::with(Arc::clone(&store) as _, |settings| {
        settings.unverified = Unverified::All;
    });
    assert!(
        net.send(1, &get(PUMP).observe().token(b"t").bytes())
            .is_empty()
    );
    store.complete(Err(StoreError::Full));
    assert_eq!(one(net.rest()).code(), "5.03");
    // What was not kept is asked for once more.
    assert!(
        net.send(1, &get(PUMP).observe().token(b"t").bytes())
            .is_empty()
    );
    store.complete(Ok(()));
    let answer = one(net.rest());
    assert!(answer.number(number::OBSERVE).is_some(), "{answer:?}");
}

#[test]
fn a_deregistration_is_answered_when_the_end_of_its_subscription_is_kept() {
    let store = Arc::new(SlowStore::default());
    let mut net = Net::with(Arc::clone(&store) as _, |settings| {
        settings.unverified = Unverified::All;
    });
    net.send(1, &get(PUMP).observe().token(b"t").bytes());
    store.complete(Ok(()));
    assert_eq!(one(net.rest()).code(), "2.05");
    let deregistration = get(PUMP).uint(number::OBSERVE, 1).token(b"t");
    let deregistration = deregistration.bytes();
    // Repeated, as it is not acknowledged yet.
    for _ in 0..3 {
        assert!(net.send(1, &deregistration).is_empty());
    }
    store.complete(Err(StoreError::Full));
    assert_eq!(one(net.rest()).code(), "5.03");
    // It observes no more, whatever the store says; and is told so when it asks again.
    let answer = one(net.send(1, &deregistration));
    assert_eq!(answer.code(), "2.05");
    assert!(answer.number(number::OBSERVE).is_none());
}

#[test]
fn who_loses_its_session_while_it_registers_does_not_take_it_back() {
    let store = Arc::new(SlowStore::default());
    let mut net = Net::with(Arc::clone(&store) as _, |settings| {
        settings.unverified = Unverified::All;
    });
    for port in [1, 2] {
        let registration = get(PUMP).observe().token(b"t").bytes();
        assert!(net.send(port, &registration).is_empty());
        assert_eq!(store.waiting(), usize::from(port));
    }
    store.complete(Ok(()));
    store.complete(Ok(()));
    let mut answers = net.rest();
    answers.sort_by_key(|sent| sent.port);
    assert_eq!((answers.len(), answers[0].code().as_str()), (2, "5.03"));
    assert!(answers[1].number(number::OBSERVE).is_some());
    assert_eq!(net.bus.counters().takeovers.get(), 1);
}

#[test]
fn a_token_that_is_used_again_for_another_topic_is_one_of_the_same_session() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    observe(&mut net, 1, "/ps/b?c=pump&qos=1", b"t");
    assert!(publish(&mut net, "a", "1", QoS::AtLeastOnce).is_empty());
    let told = publish(&mut net, "b", "2", QoS::AtLeastOnce);
    assert_eq!(drain(&mut net, told), ["2"]);
    assert_eq!(pending(&net, "pump"), 0);
    assert_eq!(net.bus.counters().subscriptions.get(), 1);
}

#[test]
fn the_end_of_one_observation_makes_room_for_another() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    observe(&mut net, 1, "/ps/b?c=pump&qos=1", b"u");
    let _told = publish(&mut net, "a", "under way", QoS::AtLeastOnce);
    // More than the window, and nothing of it is acknowledged.
    for number in 0..40 {
        publish(&mut net, "a", &number.to_string(), QoS::AtLeastOnce);
    }
    publish(&mut net, "b", "b1", QoS::AtLeastOnce);
    let mut sent = net.send(1, &get(PUMP).uint(number::OBSERVE, 1).token(b"t").bytes());
    assert_eq!(sent.remove(0).code(), "2.05");
    sent.extend(net.rest());
    assert_eq!(drain(&mut net, sent), ["b1"]);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn what_is_not_observed_anew_is_given_up_although_something_else_is_registered_again_and_again() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    observe(&mut net, 1, "/ps/b?c=pump&qos=1", b"u");
    let told = one(publish(&mut net, "a", "0", QoS::AtLeastOnce));
    net.reset(&told);
    let told = one(publish(&mut net, "b", "0", QoS::AtLeastOnce));
    net.reset(&told);
    for number in 0..20 {
        publish(&mut net, "b", &number.to_string(), QoS::AtLeastOnce);
    }
    publish(&mut net, "a", "1", QoS::AtLeastOnce);
    let mut texts = Vec::new();
    for _ in 0..5 {
        let (_, told) = observe(&mut net, 2, PUMP, b"t");
        texts.extend(drain(&mut net, told));
        texts.extend(wait(&mut net, 20));
    }
    assert_eq!(texts, ["0", "1"]);
    assert_eq!(pending(&net, "pump"), 0);
}

#[test]
fn rfc_7959_2_4_the_last_block_of_a_notification_is_sent_again_after_the_next_one() {
    let mut net = net();
    observe(&mut net, 1, PUMP, b"t");
    let told = one(publish(&mut net, "a", &"x".repeat(1_500), QoS::AtLeastOnce));
    net.acknowledge(&told);
    publish(&mut net, "a", &"y".repeat(1_500), QoS::AtLeastOnce);
    let request = get(PUMP).block(number::BLOCK2, 1, false, 1_024).bytes();
    let sent = net.send(1, &request);
    assert_eq!(sent[0].text(), "x".repeat(476));
    assert_eq!(sent[1].text(), "y".repeat(1_024), "the next one");
    // The answer was lost on its way.
    let again = net.send(1, &request);
    assert_eq!(again[0].text(), "x".repeat(476));
}

#[test]
fn rfc_7252_5_10_4_what_is_not_acceptable_is_not_subscribed_to() {
    let mut net = net();
    let mut properties = PropertiesBuilder::new();
    let json = MessageProperty::ContentType("application/json");
    properties.push(json).unwrap();
    let mut message = Message::new(TopicName::new("a").unwrap(), b"{}");
    message.properties = properties.as_properties();
    message.retain = true;
    let bus = Arc::clone(&net.bus);
    let _ = bus.batch(|worker| bus.publish(worker, message)).unwrap();
    let registration = get(PUMP).observe().uint(number::ACCEPT, 0).token(b"t");
    assert_eq!(net.ask(1, &registration).code(), "4.06");
    assert!(net.bus.sessions().is_empty());
    assert_eq!(net.bus.counters().subscriptions.get(), 0);
}

#[test]
fn rfc_7641_4_1_the_answer_to_a_registration_that_has_ended_meanwhile_is_nobody_elses() {
    let mut net = Net::new();
    let first = net.send(1, &get("/ps/x").observe().token(b"1").bytes());
    let answer = first
        .into_iter()
        .find(|sent| !sent.text().is_empty() || sent.number(number::OBSERVE).is_some())
        .unwrap();
    assert_eq!(answer.kind(), MessageType::Confirmable);
    // Waits behind that answer, and ends before it is sent.
    net.send(1, &get("/ps/y").observe().token(b"2").bytes());
    net.send(
        1,
        &get("/ps/y").uint(number::OBSERVE, 1).token(b"2").bytes(),
    );
    net.observe(2, "/ps/z", b"v");
    for sent in net.acknowledge(&answer) {
        assert!(sent.number(number::OBSERVE).is_none(), "{sent:?}");
    }
    let told = net.publish("z", "to the other", false);
    assert!(told.iter().all(|sent| sent.port == 2), "{told:?}");
}

//! Observers over a stream that have a session: what is published for them is theirs until a pong has said that it came.

use std::sync::Arc;
use std::time::Duration;

use tidegate_bus::*;
use tidegate_coap::codec::{Code, Signal, Token, number};
use tidegate_coap::{Cancel, Closed};

use crate::client::*;
use crate::slow::SlowStore;

const PUMP: &str = "/ps/a?c=pump&qos=1";

/// Publishes so that it must not be lost.
fn publish(net: &Net, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
    let mut message = Message::new(TopicName::new(topic).unwrap(), payload.as_ref());
    message.qos = qos;
    let _ = net
        .bus
        .batch(|worker| net.bus.publish(worker, message))
        .unwrap();
}

async fn observer(net: &Net, path: &str) -> Client {
    let mut client = net.greet(1 << 20).await;
    register(&mut client, path, b"t").await;
    client
}

/// Registers an observation; what waits for it may come as soon as that is answered.
async fn register(client: &mut Client, path: &str, token: &[u8]) -> Got {
    let answer = client.ask(&get(path).observe().token(token)).await;
    assert_eq!(answer.code, Code::CONTENT, "{}", answer.text());
    assert!(answer.option(number::OBSERVE).is_some(), "it is registered");
    answer
}

/// Takes notifications up to the ping behind them, which is not answered.
async fn told(client: &mut Client) -> (Vec<String>, Got) {
    let mut texts = Vec::new();
    loop {
        let got = client.next().await;
        if got.code == Code::PING {
            let custody = got.option(2);
            assert!(custody.is_some(), "it asks whether that was processed");
            return (texts, got);
        }
        assert_eq!(got.code, Code::CONTENT, "{}", got.text());
        assert!(got.option(number::OBSERVE).is_some());
        texts.push(got.text());
    }
}

async fn pong(client: &mut Client, token: &[u8], custody: bool) {
    let mut out = Vec::new();
    Signal::Pong { custody }.write(Token::new(token).unwrap(), &mut out);
    client.send(&out).await;
}

/// Takes so many notifications and acknowledges them.
async fn drain(client: &mut Client, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let (texts, ping) = told(client).await;
        pong(client, ping.token(), true).await;
        all.extend(texts);
    }
    all
}

async fn nothing_waits(net: &Net) {
    until(|| net.bus.pending_messages() == 0).await;
}

/// Whoever it was, it is gone.
async fn left(net: &Net, client: Client) {
    let closed = net.metrics.closed[Closed::Lost as usize].get();
    drop(client.stream);
    until(|| net.metrics.closed[Closed::Lost as usize].get() > closed).await;
}

#[tokio::test]
async fn rfc_8323_5_4_1_what_no_pong_has_acknowledged_is_told_again() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    publish(&net, "a", "1", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 1).await, ["1"]);
    nothing_waits(&net).await;
    publish(&net, "a", "2", QoS::AtLeastOnce);
    assert_eq!(told(&mut client).await.0, ["2"]);
    left(&net, client).await;
    for text in ["3", "4"] {
        publish(&net, "a", text, QoS::AtLeastOnce);
    }
    assert_eq!(net.bus.pending_messages(), 3);

    let mut client = observer(&net, PUMP).await;
    assert_eq!(drain(&mut client, 3).await, ["2", "3", "4"]);
    nothing_waits(&net).await;
    let drops = &net.bus.counters().drops;
    assert_eq!(drops.get(DropReason::ConnectionClosed), 0);
}

#[tokio::test]
async fn rfc_8323_5_4_only_the_answer_to_its_ping_acknowledges() {
    let net = Net::of(|settings| settings.ping_interval = Duration::from_millis(50)).await;
    let endpoint = Arc::clone(&net.endpoint);
    let looking = tokio::spawn(async move { endpoint.keep_time().await });
    let mut client = observer(&net, PUMP).await;
    // Asked whether it is there, before there is anything to tell.
    let alive = client.next().await;
    assert_eq!((alive.code, alive.token()), (Code::PING, &b""[..]));
    looking.abort();
    publish(&net, "a", "1", QoS::AtLeastOnce);
    let (texts, ping) = told(&mut client).await;
    assert_eq!(texts, ["1"]);
    // A heartbeat, an answer to something else, and one to the earlier ping by who copies no token.
    pong(&mut client, b"other", true).await;
    pong(&mut client, b"", true).await;
    pong(&mut client, b"", false).await;
    client.ask(&get("/ps/none")).await;
    assert_eq!(net.bus.pending_messages(), 1);
    // Now it is the ping's turn, as libcoap answers it.
    pong(&mut client, b"", true).await;
    nothing_waits(&net).await;
    // Without Custody, as aiocoap does.
    publish(&net, "a", "2", QoS::AtLeastOnce);
    let (_, second) = told(&mut client).await;
    assert_ne!(second.token(), ping.token());
    pong(&mut client, ping.token(), true).await;
    client.ask(&get("/ps/none")).await;
    assert_eq!(net.bus.pending_messages(), 1);
    pong(&mut client, second.token(), false).await;
    nothing_waits(&net).await;
}

#[tokio::test]
async fn one_pong_acknowledges_many_and_the_window_bounds_what_is_under_way() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    let count = 1_000;
    for number in 0..count {
        publish(&net, "a", number.to_string(), QoS::AtLeastOnce);
    }
    // The first ping went behind what was there when the connection was first woken.
    let (mut texts, mut ping) = told(&mut client).await;
    let mut pings = 1;
    pong(&mut client, ping.token(), true).await;
    while texts.len() < count {
        let more;
        (more, ping) = told(&mut client).await;
        assert!(more.len() <= 256, "{}", more.len());
        texts.extend(more);
        pings += 1;
        pong(&mut client, ping.token(), true).await;
    }
    let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
    assert!(pings < 100, "{pings}");
    nothing_waits(&net).await;
}

#[tokio::test]
async fn who_does_not_read_loses_nothing_of_its_session() {
    let net = Net::of(|settings| settings.max_waiting = 2).await;
    let mut slow = net
        .connect_with(|socket| socket.set_recv_buffer_size(4_096).unwrap())
        .await;
    slow.greet(1 << 20).await;
    register(&mut slow, PUMP, b"t").await;
    for number in 0..200 {
        let mut payload = body(20_000);
        payload[..3].copy_from_slice(format!("{number:03}").as_bytes());
        publish(&net, "a", payload, QoS::AtLeastOnce);
    }
    until(|| net.metrics.notifications[2].get() > 5).await;
    // As much as sockets hold, and a MiB that was taken from the session.
    assert!(net.metrics.notifications[2].get() < 200);
    let texts = drain(&mut slow, 200).await;
    let expected: Vec<_> = (0..200).map(|number| format!("{number:03}")).collect();
    let numbers: Vec<_> = texts.iter().map(|text| &text[..3]).collect();
    assert_eq!(numbers, expected);
    nothing_waits(&net).await;
    assert_eq!(net.bus.counters().drops.get(DropReason::Superseded), 0);
}

#[tokio::test]
async fn what_was_not_written_when_the_client_left_is_the_sessions_and_not_lost() {
    let net = Net::new().await;
    let mut client = net
        .connect_with(|socket| socket.set_recv_buffer_size(4_096).unwrap())
        .await;
    client.greet(1 << 20).await;
    register(&mut client, PUMP, b"t").await;
    for _ in 0..30 {
        publish(&net, "a", body(100_000), QoS::AtLeastOnce);
    }
    until(|| net.metrics.notifications[2].get() > 0).await;
    left(&net, client).await;
    assert_eq!(net.bus.pending_messages(), 30);
    let drops = &net.bus.counters().drops;
    assert_eq!(drops.get(DropReason::ConnectionClosed), 0);
    assert_eq!(drops.get(DropReason::SessionEnded), 0);
}

#[tokio::test]
async fn rfc_7959_3_4_a_large_message_is_acknowledged_when_its_rest_was_fetched() {
    let net = Net::new().await;
    let mut client = net.greet(1_152).await;
    register(&mut client, PUMP, b"t").await;
    let large = body(3_000);
    publish(&net, "a", &large, QoS::AtLeastOnce);
    let first = client.next().await;
    let mut whole = first.packet.payload.clone();
    assert_eq!(whole.len(), 1_024);
    for num in [1, 2] {
        assert_eq!(net.bus.pending_messages(), 1);
        let request = get(PUMP).block(number::BLOCK2, num, false, 6);
        let part = client.ask(&request).await;
        whole.extend(&part.packet.payload);
    }
    assert_eq!(whole, large);
    // The rest was sent: now a ping asks whether it came.
    let (texts, ping) = told(&mut client).await;
    assert!(texts.is_empty());
    assert_eq!(net.bus.pending_messages(), 1);
    pong(&mut client, ping.token(), true).await;
    nothing_waits(&net).await;
}

#[tokio::test]
async fn rfc_8323_5_3_1_what_the_client_cannot_take_is_dropped_and_holds_nothing_up() {
    let net = Net::new().await;
    let mut client = net.greet(64).await;
    register(&mut client, "/ps/#?c=pump&qos=1", b"t").await;
    publish(&net, &"long/".repeat(30), "1", QoS::AtLeastOnce);
    publish(&net, "a", "2", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 1).await, ["2"]);
    nothing_waits(&net).await;
    let drops = &net.bus.counters().drops;
    assert_eq!(drops.get(DropReason::PacketTooLarge), 1);
}

#[tokio::test]
async fn another_connection_takes_the_session_over_with_what_is_not_acknowledged() {
    let net = Net::new().await;
    let mut old = observer(&net, "/ps/a?c=pump&qos=2").await;
    publish(&net, "a", "1", QoS::ExactlyOnce);
    assert_eq!(told(&mut old).await.0, ["1"]);
    let mut new = observer(&net, "/ps/a?c=pump&qos=2").await;
    let goodbye = old.next().await;
    assert_eq!(
        (goodbye.code, goodbye.token()),
        (Code::SERVICE_UNAVAILABLE, &b"t"[..])
    );
    assert_eq!(net.metrics.cancelled[Cancel::TakenOver as usize].get(), 1);
    // It is not shut out: it only does not observe any more.
    assert_eq!(old.ask(&get("/ps/a")).await.code, Code::CONTENT);
    publish(&net, "a", "2", QoS::ExactlyOnce);
    assert_eq!(drain(&mut new, 2).await, ["1", "2"]);
    nothing_waits(&net).await;
}

#[tokio::test]
async fn rfc_7641_3_6_who_deregisters_the_last_observation_has_no_session_any_more() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    register(&mut client, "/ps/b?c=pump&qos=1", b"u").await;
    assert_eq!(net.bus.sessions().len(), 1);
    let deregister = |path: &str, token: &[u8]| get(path).uint(number::OBSERVE, 1).token(token);
    client.ask(&deregister(PUMP, b"t")).await;
    publish(&net, "a", "nobody's", QoS::AtLeastOnce);
    publish(&net, "b", "1", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 1).await, ["1"]);
    client.ask(&deregister("/ps/b?c=pump&qos=1", b"u")).await;
    until(|| net.bus.sessions().is_empty()).await;
    assert_eq!(net.bus.counters().subscriptions.get(), 0);
    // And may begin anew.
    register(&mut client, PUMP, b"t").await;
    publish(&net, "a", "2", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 1).await, ["2"]);
}

#[tokio::test]
async fn a_session_of_no_expiry_ends_with_its_connection_and_others_stay() {
    let net = Net::new().await;
    let client = observer(&net, "/ps/a?c=short&session_expiry=0").await;
    let other = observer(&net, "/ps/a?c=long&session_expiry=60").await;
    left(&net, client).await;
    left(&net, other).await;
    until(|| net.bus.sessions().len() == 1).await;
    assert_eq!(net.bus.counters().connections.get(), 0);
    publish(&net, "a", "1", QoS::AtLeastOnce);
    let mut other = observer(&net, "/ps/a?c=long&session_expiry=60").await;
    assert_eq!(drain(&mut other, 1).await, ["1"]);
}

#[tokio::test]
async fn one_connection_has_the_sessions_of_all_its_clients() {
    let net = Net::new().await;
    let mut gateway = net.greet(1 << 20).await;
    for client in ["one", "two"] {
        register(
            &mut gateway,
            &format!("/ps/a?c={client}&qos=1"),
            client.as_bytes(),
        )
        .await;
    }
    publish(&net, "a", "1", QoS::AtLeastOnce);
    assert_eq!(drain(&mut gateway, 2).await, ["1", "1"]);
    nothing_waits(&net).await;
    // One of them is taken over, and the other goes on.
    let mut two = observer(&net, "/ps/a?c=two&qos=1").await;
    assert_eq!(gateway.next().await.token(), b"two");
    publish(&net, "a", "2", QoS::AtLeastOnce);
    assert_eq!(drain(&mut gateway, 1).await, ["2"]);
    assert_eq!(drain(&mut two, 1).await, ["2"]);
    nothing_waits(&net).await;
}

#[tokio::test]
async fn sessions_of_one_connection_are_bounded_and_who_is_refused_takes_nothing_over() {
    let net = Net::of(|settings| settings.max_observations_per_endpoint = 2).await;
    let _third = observer(&net, "/ps/#?c=third&qos=1").await;
    let mut client = net.greet(1 << 20).await;
    for id in ["first", "second"] {
        register(&mut client, &format!("/ps/a?c={id}&qos=1"), id.as_bytes()).await;
    }
    let full = get("/ps/#?c=third&qos=1").observe();
    assert_eq!(client.ask(&full).await.code, Code::TOO_MANY_REQUESTS);
    assert_eq!(net.bus.sessions().len(), 3);
    assert_eq!(net.bus.counters().takeovers.get(), 0);
}

#[tokio::test]
async fn rfc_7641_4_1_an_observation_that_is_registered_again_goes_on() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    publish(&net, "a", "1", QoS::AtLeastOnce);
    let (texts, ping) = told(&mut client).await;
    assert_eq!(texts, ["1"]);
    register(&mut client, PUMP, b"t").await;
    pong(&mut client, ping.token(), true).await;
    nothing_waits(&net).await;
    publish(&net, "a", "2", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 1).await, ["2"]);
    assert_eq!(net.metrics.observations.get(), 1);
    // With another token the client has two, and each is told.
    register(&mut client, PUMP, b"u").await;
    publish(&net, "a", "3", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 2).await, ["3", "3"]);
    nothing_waits(&net).await;
}

#[tokio::test]
async fn what_is_retained_comes_with_the_answer_or_through_the_session() {
    let net = Net::new().await;
    net.publish("a/b", b"kept", true);
    let mut client = net.greet(1 << 20).await;
    let answer = register(&mut client, "/ps/a/b?c=pump&qos=1", b"t").await;
    assert_eq!(answer.text(), "kept");
    register(&mut client, "/ps/a/#?c=pump&qos=1", b"u").await;
    let got = client.next().await;
    assert_eq!((got.token(), got.text().as_str()), (&b"u"[..], "kept"));
    assert_eq!(got.option(65_000), Some(b"a/b".to_vec()));
}

#[tokio::test]
async fn who_answers_no_ping_is_left_and_its_messages_wait_for_it() {
    let net = Net::of(|settings| {
        settings.ping_interval = Duration::from_millis(100);
        settings.ping_timeout = Duration::from_millis(200);
    })
    .await;
    let endpoint = Arc::clone(&net.endpoint);
    let looking = tokio::spawn(async move { endpoint.keep_time().await });
    let mut client = observer(&net, PUMP).await;
    publish(&net, "a", "1", QoS::AtLeastOnce);
    // It says a lot, and nothing that counts.
    let ending = loop {
        client.send(&get("/ps/none").bytes()).await;
        let got = client.next().await;
        if got.code == Code::ABORT {
            break got;
        }
    };
    assert!(ending.text().contains("pong"), "{}", ending.text());
    until(|| net.metrics.closed[Closed::Silent as usize].get() == 1).await;
    looking.abort();
    let mut client = observer(&net, PUMP).await;
    assert_eq!(drain(&mut client, 1).await, ["1"]);
}

#[tokio::test]
async fn at_the_end_of_the_gateway_observers_hear_it_and_their_sessions_stay() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    publish(&net, "a", "1", QoS::AtLeastOnce);
    assert_eq!(told(&mut client).await.0, ["1"]);
    let endpoint = Arc::clone(&net.endpoint);
    let closing = tokio::spawn(async move { endpoint.shut_down(0).await });
    assert_eq!(client.next().await.code, Code::SERVICE_UNAVAILABLE);
    assert_eq!(client.next().await.code, Code::RELEASE);
    assert!(client.next_or_end().await.is_none());
    closing.await.unwrap();
    assert_eq!(net.bus.counters().connections.get(), 0);
    assert_eq!(net.bus.sessions().len(), 1);
    assert_eq!(net.bus.pending_messages(), 1);
}

#[tokio::test]
async fn what_is_not_named_or_at_qos_0_has_no_session() {
    let net = Net::new().await;
    for path in ["/ps/a?qos=1", "/ps/a?c=pump", "/ps/a?c=pump&qos=0"] {
        observer(&net, path).await;
    }
    assert!(net.bus.sessions().is_empty());
    let mut certified = Net::new().await;
    certified.certificate_name = Some("meter".into());
    observer(&certified, "/ps/a?session_expiry=60").await;
    assert_eq!(certified.bus.sessions().len(), 1);
}

#[tokio::test]
async fn what_is_not_registered_anew_is_not_waited_for_by_what_is() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    register(&mut client, "/ps/b?c=pump&qos=1", b"u").await;
    left(&net, client).await;
    for (topic, text) in [("a", "a1"), ("b", "b1"), ("a", "a2")] {
        publish(&net, topic, text, QoS::AtLeastOnce);
    }
    let mut client = net.greet(1 << 20).await;
    register(&mut client, "/ps/b?c=pump&qos=1", b"u").await;
    assert_eq!(drain(&mut client, 1).await, ["b1"]);
    register(&mut client, PUMP, b"t").await;
    assert_eq!(drain(&mut client, 2).await, ["a1", "a2"]);
    nothing_waits(&net).await;
}

#[tokio::test]
async fn a_token_that_is_used_again_for_another_topic_is_one_of_the_same_session() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    register(&mut client, "/ps/b?c=pump&qos=1", b"t").await;
    publish(&net, "a", "1", QoS::AtLeastOnce);
    publish(&net, "b", "2", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 1).await, ["2"]);
    nothing_waits(&net).await;
    assert_eq!(net.bus.counters().subscriptions.get(), 1);
}

#[tokio::test]
async fn the_end_of_one_of_two_observations_leaves_what_the_other_was_told() {
    let net = Net::new().await;
    let mut client = observer(&net, PUMP).await;
    register(&mut client, PUMP, b"u").await;
    publish(&net, "a", "1", QoS::AtLeastOnce);
    let (texts, ping) = told(&mut client).await;
    assert_eq!(texts, ["1", "1"]);
    client
        .ask(&get(PUMP).uint(number::OBSERVE, 1).token(b"t"))
        .await;
    assert_eq!(net.bus.pending_messages(), 1);
    pong(&mut client, ping.token(), true).await;
    nothing_waits(&net).await;
}

#[tokio::test]
async fn rfc_7252_5_10_4_what_is_not_acceptable_is_not_subscribed_to() {
    let net = Net::new().await;
    let mut client = net.greet(1 << 20).await;
    let json = put("/ps/a?retain", "{}").uint(number::CONTENT_FORMAT, 50);
    assert_eq!(client.ask(&json).await.code, Code::CHANGED);
    let registration = get(PUMP).observe().uint(number::ACCEPT, 0);
    assert_eq!(client.ask(&registration).await.code, Code::NOT_ACCEPTABLE);
    assert!(net.bus.sessions().is_empty());
}

// ---- the store ------------------------------------------------------------------------------

async fn slow() -> (Net, Arc<SlowStore>) {
    let store = Arc::new(SlowStore::default());
    let net = Net::with(Arc::clone(&store) as _, Arc::new(AllowAll), |_| {}).await;
    (net, store)
}

#[tokio::test]
async fn a_registration_is_answered_when_its_subscription_is_kept() {
    let (net, store) = slow().await;
    let mut client = net.greet(1 << 20).await;
    client.send(&get(PUMP).observe().token(b"t").bytes()).await;
    until(|| store.waiting() == 1).await;
    assert_eq!(net.metrics.requests.get(), 0);
    store.complete(Err(StoreError::Full));
    assert_eq!(client.next().await.code, Code::SERVICE_UNAVAILABLE);
    // What was not kept is asked for once more.
    client.send(&get(PUMP).observe().token(b"t").bytes()).await;
    until(|| store.waiting() == 1).await;
    store.complete(Ok(()));
    let answer = client.next().await;
    assert_eq!(answer.code, Code::CONTENT);
    assert!(answer.option(number::OBSERVE).is_some());
    publish(&net, "a", "1", QoS::AtLeastOnce);
    assert_eq!(drain(&mut client, 1).await, ["1"]);
}

#[tokio::test]
async fn who_loses_its_session_while_it_registers_does_not_take_it_back() {
    let (net, store) = slow().await;
    let mut first = net.greet(1 << 20).await;
    let registration = get(PUMP).observe().token(b"t").bytes();
    first.send(&registration).await;
    until(|| store.waiting() == 1).await;
    let mut second = net.greet(1 << 20).await;
    second.send(&registration).await;
    assert_eq!(first.next().await.code, Code::SERVICE_UNAVAILABLE);
    until(|| store.waiting() == 2).await;
    store.complete(Ok(()));
    store.complete(Ok(()));
    let answer = second.next().await;
    assert!(answer.option(number::OBSERVE).is_some());
    assert_eq!(net.bus.counters().takeovers.get(), 1);
    publish(&net, "a", "1", QoS::AtLeastOnce);
    assert_eq!(drain(&mut second, 1).await, ["1"]);
}

#[tokio::test]
async fn a_deregistration_is_answered_when_the_end_of_its_subscription_is_kept() {
    let (net, store) = slow().await;
    let mut client = net.greet(1 << 20).await;
    client.send(&get(PUMP).observe().token(b"t").bytes()).await;
    until(|| store.waiting() == 1).await;
    store.complete(Ok(()));
    assert_eq!(client.next().await.code, Code::CONTENT);
    let deregistration = get(PUMP).uint(number::OBSERVE, 1).token(b"t");
    client.send(&deregistration.bytes()).await;
    until(|| store.waiting() == 1).await;
    assert_eq!(net.metrics.requests.get(), 1);
    store.complete(Ok(()));
    let answer = client.next().await;
    assert_eq!(answer.code, Code::CONTENT);
    assert!(answer.option(number::OBSERVE).is_none());
}

//! `GET /api/v1/subscribe`: event streams as their clients see them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::*;
use tidegate_api::{ApiSettings, Settings};
use tidegate_bus::{
    ClientId, DropReason, EndReason, Message, MessageProperty, PropertiesBuilder, QoS,
    SlowConsumerPolicy, TopicName,
};
use tokio::io::AsyncReadExt;

const KEPT: &str = "filter=t&client_id=c&session_expiry=600";

#[tokio::test]
async fn a_message_is_one_event_with_its_id_topic_and_properties() {
    let site = site().await;
    let mut stream = site.subscribe("filter=greenhouse/%23&filter=x&qos=2").await;
    let head = &stream.head;
    assert_eq!(header(head, "content-type"), Some("text/event-stream"));
    assert_eq!(header(head, "cache-control"), Some("no-store"));
    let mut properties = PropertiesBuilder::new();
    for property in [
        MessageProperty::ContentType("text/plain"),
        MessageProperty::User("a", "1"),
        MessageProperty::CorrelationData(&[0xff]),
    ] {
        properties.push(property).unwrap();
    }
    let topic = TopicName::new("greenhouse/4").unwrap();
    let mut message = Message::new(topic, b"two\nlines");
    message.properties = properties.as_properties();
    message.qos = QoS::ExactlyOnce;
    message.expires_at = Some(site.bus.now().plus_seconds(60));
    let _ = site
        .bus
        .batch(|worker| site.bus.publish(worker, message))
        .unwrap();
    let event = stream.event().await;
    assert_eq!(event.name, "message");
    assert!(event.id.is_some());
    assert_eq!(
        event.data,
        json!({
            "topic": "greenhouse/4", "payload": "two\nlines", "encoding": "text", "qos": 2,
            "retain": false, "content_type": "text/plain", "correlation_data": "/w==",
            "message_expiry_interval": 60, "user_properties": [["a", "1"]],
        })
    );
    site.publish_on_bus("x", b"\xff\0", QoS::AtMostOnce, false);
    let event = stream.event().await;
    assert_eq!(
        (&event.data["payload"], &event.data["encoding"]),
        (&json!("/wA="), &json!("base64"))
    );
    until("all is acknowledged", || site.bus.pending_messages() == 0).await;
}

#[tokio::test]
async fn what_is_published_over_http_is_received_over_http() {
    let site = site().await;
    let mut stream = site.subscribe("filter=a/+&client_id=c&no_local").await;
    site.ask("POST", "/api/v1/publish?topic=a/1&client_id=c", "", b"own")
        .await;
    site.ask("POST", "/api/v1/publish?topic=a/2", "", b"other")
        .await;
    assert_eq!(stream.messages(1).await.0, ["other"]);
}

#[tokio::test]
async fn the_first_event_says_what_was_agreed_on() {
    let site = site().await;
    let query = "filter=%24share/g/t&client_id=c&session_expiry=4294967295&receive_maximum=9";
    let mut stream = Stream::request(site.address, query, "").await;
    let first = stream.event().await;
    assert_eq!(
        (first.name.as_str(), first.id, first.retry),
        ("session", None, Some(2_000))
    );
    let longest = 30 * 24 * 3600;
    assert_eq!(
        first.data,
        json!({
            "client_id": "c", "session_present": false, "session_expiry": longest,
            "receive_maximum": 9, "filters": ["$share/g/t"], "qos": 1,
        })
    );
    let mut nameless = Stream::request(site.address, "filter=t", "").await;
    let data = nameless.event().await.data;
    let id = data["client_id"].as_str().unwrap();
    assert!(id.starts_with("tidegate-http-") && id.len() > 40, "{id}");
    assert_eq!(data["qos"], 0);
}

#[tokio::test]
async fn mqtt_3_3_1_3_what_is_retained_comes_first() {
    let site = site().await;
    site.publish_on_bus("t", b"old", QoS::AtLeastOnce, true);
    let mut stream = site.subscribe(KEPT).await;
    site.publish_on_bus("t", b"new", QoS::AtLeastOnce, true);
    let (old, new) = (stream.event().await, stream.event().await);
    assert_eq!(
        (&old.data["payload"], &old.data["retain"]),
        (&json!("old"), &json!(true))
    );
    assert_eq!(
        (&new.data["payload"], &new.data["retain"]),
        (&json!("new"), &json!(false))
    );
    // Who comes back has had it.
    let last = format!("Last-Event-ID: {}\r\n", new.id.unwrap());
    let mut stream = site.subscribe_with(KEPT, &last).await;
    site.publish_on_bus("t", b"newer", QoS::AtLeastOnce, false);
    assert_eq!(stream.messages(1).await.0, ["newer"]);
}

#[tokio::test]
async fn last_event_id_acknowledges_what_was_received_and_the_rest_is_sent_again() {
    for qos in [1, 2] {
        let site = site().await;
        let query = format!("{KEPT}&qos={qos}");
        let mut stream = site.subscribe(&query).await;
        let publish = |n: u32| {
            let qos = QoS::from_u8(qos).unwrap();
            site.publish_on_bus("t", n.to_string().as_bytes(), qos, false);
        };
        (1..=5).for_each(publish);
        let (payloads, third) = stream.messages(3).await;
        assert_eq!(payloads, ["1", "2", "3"]);
        assert_eq!(stream.messages(2).await.0, ["4", "5"]);
        // Written is not received: the connection is cut with 4 and 5 on their way.
        drop(stream);
        until("it is gone", || site.bus.counters().connections.get() == 0).await;
        publish(6);
        let header = format!("Last-Event-ID: {third}\r\n");
        let mut stream = site.subscribe_with(&query, &header).await;
        let events = [
            stream.event().await,
            stream.event().await,
            stream.event().await,
        ];
        let said: Vec<_> = events
            .iter()
            .map(|event| {
                (
                    event.data["payload"].as_str().unwrap(),
                    event.data["duplicate"] == true,
                )
            })
            .collect();
        assert_eq!(said, [("4", true), ("5", true), ("6", false)]);
        drop(stream);
        // Said again, an old id takes nothing; without one all comes again.
        let mut stream = site.subscribe_with(&query, &header).await;
        assert_eq!(stream.messages(3).await.0, ["4", "5", "6"]);
        drop(stream);
        let mut stream = site.subscribe(&query).await;
        let (payloads, last) = stream.messages(3).await;
        assert_eq!(payloads, ["4", "5", "6"]);
        drop(stream);
        let stream = site
            .subscribe(&format!("{query}&last_event_id={last}"))
            .await;
        assert_eq!(site.bus.pending_messages(), 0);
        drop(stream);
    }
}

#[tokio::test]
async fn an_id_of_another_session_acknowledges_nothing() {
    let site = site().await;
    let mut stream = site.subscribe(KEPT).await;
    site.publish_on_bus("t", b"1", QoS::AtLeastOnce, false);
    let (_, id) = stream.messages(1).await;
    // The same client with a session of its own, in which the places begin anew.
    let fresh = format!("{KEPT}&clean_start");
    let mut stream = site.subscribe(&fresh).await;
    site.publish_on_bus("t", b"2", QoS::AtLeastOnce, false);
    assert_eq!(stream.messages(1).await.0, ["2"]);
    for id in [id.as_str(), "", "x", "0-99999999999", "-1"] {
        let mut stream = site
            .subscribe_with(KEPT, &format!("Last-Event-ID: {id}\r\n"))
            .await;
        assert_eq!(stream.messages(1).await.0, ["2"], "{id}");
    }
}

#[tokio::test]
async fn a_window_of_messages_ends_the_stream_and_its_end_goes_on_behind_them() {
    let site = site().await;
    let query = format!("{KEPT}&receive_maximum=3");
    drop(site.subscribe(&query).await);
    until("it has gone", || site.bus.counters().connections.get() == 0).await;
    for n in 1..=7 {
        site.publish_on_bus("t", n.to_string().as_bytes(), QoS::AtLeastOnce, false);
    }
    let mut last = String::new();
    for expected in [["1", "2", "3"], ["4", "5", "6"]] {
        let header = format!("Last-Event-ID: {last}\r\n");
        let mut stream = site.subscribe_with(&query, &header).await;
        let (payloads, id) = stream.messages(3).await;
        assert_eq!(payloads, expected);
        let rest = stream.rest().await;
        assert_eq!(rest.len(), 1, "{rest:?}");
        assert_eq!(rest[0].data, json!({"reason": "window"}));
        assert_eq!((&rest[0].id, rest[0].retry), (&None, Some(1)));
        last = id;
    }
    let mut stream = site
        .subscribe_with(&query, &format!("Last-Event-ID: {last}\r\n"))
        .await;
    assert_eq!(stream.messages(1).await.0, ["7"]);
    let ended: Vec<_> = site.api.counters().streams_ended().collect();
    assert!(ended.contains(&("window", 2)), "{ended:?}");
}

#[tokio::test]
async fn a_session_that_is_not_kept_needs_no_return() {
    let site = site().await;
    let mut stream = site.subscribe("filter=t&qos=1&receive_maximum=2").await;
    for n in 0..50 {
        site.publish_on_bus("t", format!("{n}").as_bytes(), QoS::AtLeastOnce, false);
    }
    let (payloads, _) = stream.messages(50).await;
    assert_eq!(payloads.last().unwrap(), "49");
    until("all is acknowledged", || site.bus.pending_messages() == 0).await;
    drop(stream);
    until("the session ends", || {
        site.bus.counters().sessions.get() == 0
    })
    .await;
    assert_eq!(site.bus.counters().drops.total(), 0);
}

#[tokio::test]
async fn mqtt_4_8_2_a_shared_subscription_divides_the_messages() {
    let site = site().await;
    let query = "filter=%24share/g/t&qos=1";
    let mut streams = [site.subscribe(query).await, site.subscribe(query).await];
    for n in 0..10 {
        site.publish_on_bus("t", format!("{n}").as_bytes(), QoS::AtLeastOnce, false);
    }
    let mut all = Vec::new();
    for stream in &mut streams {
        all.extend(stream.messages(5).await.0);
    }
    all.sort();
    let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn mqtt_3_1_4_3_a_stream_that_is_replaced_says_so() {
    let site = site().await;
    let mut first = site.subscribe("filter=t&client_id=c").await;
    let _second = site.subscribe("filter=t&client_id=c").await;
    let rest = first.rest().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(
        (rest[0].name.as_str(), &rest[0].data),
        ("end", &json!({"reason": "taken_over"}))
    );
    assert_eq!(rest[0].retry, Some(30_000));
    assert_eq!(site.bus.counters().takeovers.get(), 1);
}

#[tokio::test]
async fn an_operator_ends_a_stream_after_what_lies_encoded_for_it() {
    let site = site().await;
    let mut stream = site.subscribe("filter=t&client_id=c").await;
    site.publish_on_bus("t", b"last", QoS::AtMostOnce, false);
    let id = ClientId::new("c").unwrap();
    assert!(site.bus.disconnect(&id, EndReason::Administrative));
    let names: Vec<_> = stream
        .rest()
        .await
        .into_iter()
        .map(|event| event.name)
        .collect();
    assert_eq!(names, ["message", "end"]);
}

#[tokio::test]
async fn a_drain_ends_streams_with_a_word_and_waits_for_them() {
    let site = site().await;
    let mut kept = site.subscribe(KEPT).await;
    let mut other = site.subscribe("filter=t").await;
    site.publish_on_bus("t", b"last", QoS::AtLeastOnce, false);
    let reading = async { (kept.rest().await, other.rest().await) };
    let (from_both, ()) = tokio::join!(reading, site.api.shut_down());
    for events in [from_both.0, from_both.1] {
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[0].data["payload"], "last");
        assert_eq!(events[1].data, json!({"reason": "shutdown"}));
    }
    assert_eq!(site.api.counters().streams.get(), 0);
    assert_eq!(site.bus.counters().connections.get(), 0);
    site.get("/api/v1/subscribe?filter=t").await.problem(503);
}

#[tokio::test]
async fn a_server_that_stops_ends_streams_with_a_word_too() {
    let site = site().await;
    let mut stream = site.subscribe("filter=t").await;
    site.stop.send(()).unwrap();
    let rest = stream.rest().await;
    assert_eq!(rest[0].data, json!({"reason": "shutdown"}), "{rest:?}");
    soon("the server", site.served).await.unwrap();
}

#[tokio::test]
async fn a_stream_outlives_the_age_of_connections_and_idles_on_comments() {
    let site = Plan {
        http: Settings {
            max_connection_age: Duration::from_millis(50),
            close_timeout: Duration::from_millis(50),
            ..Settings::default()
        },
        api: ApiSettings {
            stream_keep_alive: Duration::from_millis(60),
            ..ApiSettings::default()
        },
        ..Plan::default()
    }
    .open()
    .await;
    let mut stream = site.subscribe("filter=t").await;
    for _ in 0..4 {
        let comment = stream.next().await.expect("it goes on");
        assert_eq!(comment, Event::default());
    }
    site.publish_on_bus("t", b"x", QoS::AtMostOnce, false);
    assert_eq!(stream.messages(1).await.0, ["x"]);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off_and_holds_no_more_than_its_share() {
    let mut bus = tidegate_bus::Settings::default();
    bus.max_outbox_bytes = 64 << 10;
    bus.max_queued_bytes = 64 << 10;
    let site = Plan {
        bus,
        api: ApiSettings {
            stream_keep_alive: Duration::from_millis(50),
            stream_write_timeout: Duration::from_millis(300),
            ..ApiSettings::default()
        },
        ..Plan::default()
    }
    .open()
    .await;
    let mut slow = site.subscribe("filter=t&client_id=slow").await;
    let mut quick = site.subscribe("filter=t/%23").await;
    let payload = vec![b'x'; 16 << 10];
    let mut sent = 0;
    // What the kernel holds for it is not ours to bound; once that is full the rest is dropped and counted.
    while site.bus.counters().drops.get(DropReason::OutboxFull) == 0 {
        site.publish_on_bus("t", &payload, QoS::AtMostOnce, false);
        sent += 1;
        assert!(quick.messages(1).await.0[0].len() == payload.len());
        assert!(sent < 10_000, "it takes everything");
        assert!(site.bus.memory().used() < 1 << 20);
    }
    until("it is cut off", || {
        site.api.counters().streams.get() == 1 && site.bus.counters().connections.get() == 1
    })
    .await;
    let ended: Vec<_> = site.api.counters().streams_ended().collect();
    assert!(ended.contains(&("slow", 1)), "{ended:?}");
    let mut bytes = Vec::new();
    let _ = soon("its end", slow.socket.read_to_end(&mut bytes)).await;
    site.publish_on_bus("t", b"on", QoS::AtMostOnce, false);
    assert_eq!(quick.messages(1).await.0, ["on"]);
    until("its memory is given back", || site.bus.memory().used() == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_is_told_when_the_policy_is_to_disconnect() {
    let mut bus = tidegate_bus::Settings::default();
    bus.max_outbox_bytes = 64 << 10;
    bus.max_queued_bytes = 64 << 10;
    bus.slow_consumer_policy = SlowConsumerPolicy::Disconnect;
    let site = Plan {
        bus,
        ..Plan::default()
    }
    .open()
    .await;
    let mut slow = site.subscribe("filter=t").await;
    let payload = vec![b'x'; 16 << 10];
    while site.bus.counters().drops.total() == 0 {
        site.publish_on_bus("t", &payload, QoS::AtMostOnce, false);
        tokio::task::yield_now().await;
    }
    let rest = slow.rest().await;
    assert_eq!(rest.last().unwrap().data, json!({"reason": "slow"}));
}

#[tokio::test]
async fn there_are_as_many_streams_as_there_may_be_and_other_requests_still_pass() {
    let site = Plan {
        api: ApiSettings {
            max_streams: 2,
            ..ApiSettings::default()
        },
        ..Plan::default()
    }
    .open()
    .await;
    let first = site.subscribe("filter=t").await;
    let _second = site.subscribe("filter=t").await;
    let reply = site.get("/api/v1/subscribe?filter=t").await;
    assert_eq!(reply.problem(503)["reason_code"], 0x89);
    assert_eq!(reply.header("retry-after"), Some("5"));
    assert_eq!(site.get("/livez").await.status, 200);
    assert_eq!(site.publish(r#"{"topic":"t"}"#).await.status, 202);
    assert_eq!(site.api.counters().streams_refused.get(), 1);
    drop(first);
    until("its place is free", || {
        site.api.counters().streams.get() == 1
    })
    .await;
    let _third = site.subscribe("filter=t").await;
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_and_touches_no_session() {
    let site = Plan {
        access: Arc::new(Doorman),
        ..Plan::default()
    }
    .open()
    .await;
    let mut stream = site.subscribe(KEPT).await;
    let deep = format!("filter={}", vec!["x"; 33].join("/"));
    let many = "filter=t&".repeat(101);
    for (query, status, reason) in [
        ("", 400, 0x81),
        ("filter=", 422, 0x8f),
        ("filter=a/%23/b", 422, 0x8f),
        ("filter=a%2Bb", 422, 0x8f),
        ("filter=a%00", 422, 0x8f),
        ("filter=%24share/g", 422, 0x8f),
        ("filter=%ff", 400, 0x81),
        (&deep, 422, 0x8f),
        (&many, 400, 0x81),
        ("filter=t&qos=3", 400, 0x81),
        ("filter=t&colour=red", 400, 0x81),
        ("filter=t&session_expiry=60", 400, 0x81),
        ("filter=t&receive_maximum=0", 400, 0x81),
        ("filter=t&receive_maximum=65536", 400, 0x81),
        ("filter=%24share/g/t&no_local", 400, 0x81),
        ("filter=t&client_id=", 422, 0x85),
        ("filter=t&client_id=c%00", 422, 0x85),
        ("filter=secret&client_id=c", 403, 0x87),
        ("filter=t&filter=secret/x&client_id=c", 403, 0x87),
    ] {
        let reply = site.get(&format!("/api/v1/subscribe?{query}")).await;
        assert_eq!(reply.problem(status)["reason_code"], reason, "{query}");
    }
    let accept = "Accept: application/json\r\n";
    site.ask("GET", "/api/v1/subscribe?filter=t", accept, b"")
        .await
        .problem(406);
    let head = site
        .ask("HEAD", &format!("/api/v1/subscribe?{KEPT}"), "", b"")
        .await;
    assert_eq!(head.status, 200);
    // Nobody took the session over.
    site.publish_on_bus("t", b"still here", QoS::AtMostOnce, false);
    assert_eq!(stream.messages(1).await.0, ["still here"]);
    assert_eq!(site.bus.counters().connects.get(), 1);
}

#[tokio::test]
async fn a_query_of_a_million_filters_is_not_read() {
    let site = site().await;
    let query = "filter=t&".repeat(1_000_000);
    let request = format!("GET /api/v1/subscribe?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let reply = exchange(site.address, request.as_bytes()).await;
    assert!([414, 431].contains(&reply.status), "{reply:?}");
    assert_eq!(site.bus.counters().connects.get(), 0);
}

#[tokio::test]
async fn as_many_subscriptions_as_a_client_may_have_and_no_more() {
    let mut bus = tidegate_bus::Settings::default();
    bus.max_subscriptions_per_client = 2;
    let site = Plan {
        bus,
        ..Plan::default()
    }
    .open()
    .await;
    let reply = site
        .get("/api/v1/subscribe?filter=a&filter=b&filter=c")
        .await;
    assert_eq!(reply.problem(429)["reason_code"], 0x97);
    until("its session has ended", || {
        site.bus.counters().sessions.get() == 0
    })
    .await;
    assert_eq!(site.bus.counters().subscriptions.get(), 0);
}

#[tokio::test]
async fn a_session_that_is_kept_while_the_store_refuses_is_not_promised() {
    let store = Arc::new(SlowStore::default());
    let site = Plan {
        store: Arc::clone(&store) as _,
        ..Plan::default()
    }
    .open()
    .await;
    store.refuse(true);
    let reply = site.get(&format!("/api/v1/subscribe?{KEPT}")).await;
    assert_eq!(reply.problem(503)["reason_code"], 0x97);
    let mut stream = site.subscribe("filter=t").await;
    site.publish_on_bus("t", b"live", QoS::AtMostOnce, false);
    assert_eq!(stream.messages(1).await.0, ["live"]);
}

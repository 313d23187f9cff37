//! `POST /api/v1/publish` as a client sees it: real sockets, and receivers on the bus.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::json;
use support::*;
use tidegate_api::{Api, ApiSettings, Settings};
use tidegate_bus::{DropReason, QoS, StoreError};

#[tokio::test]
async fn a_message_in_json_arrives_with_all_its_properties() {
    let site = site().await;
    let receiver = site.receiver("greenhouse/#", 0).await;
    let reply = site
        .publish(
            r#"{"topic":"greenhouse/4","payload":"21.5","qos":2,"retain":true,
                "content_type":"text/plain","response_topic":"answers/1","correlation_data":"AQI=",
                "payload_format_indicator":1,"message_expiry_interval":60,
                "user_properties":[["b","1"],["a","2"]]}"#,
        )
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let outcome = json!({"status": 202, "reason_code": 0, "reason": "Success"});
    assert_eq!(reply.json(), outcome);
    assert_eq!(
        receiver.lines(),
        [
            "greenhouse/4 21.5 2r 60s [PayloadIsUtf8(true), ContentType(\"text/plain\"), \
          ResponseTopic(\"answers/1\"), CorrelationData([1, 2]), User(\"b\", \"1\"), \
          User(\"a\", \"2\")]"
        ]
    );
}

#[tokio::test]
async fn mqtt_3_4_2_1_it_says_that_nobody_subscribes() {
    let site = site().await;
    let reply = site.publish(r#"{"topic":"t","payload":"p"}"#).await;
    let outcome = json!({"status": 202, "reason_code": 16, "reason": "No matching subscribers"});
    assert_eq!(reply.json(), outcome);
}

#[tokio::test]
async fn a_raw_body_is_the_payload_whatever_it_is() {
    let site = site().await;
    let receiver = site.receiver("#", 0).await;
    let target = "/api/v1/publish?topic=a/b+c&qos=0&message_expiry_interval=9&response_topic=r\
                  &correlation_data=AQ%3D%3D&payload_format_indicator=1&user_property=n%3Dv%3Dw\
                  &user_property=m%3D";
    let headers = "Content-Type: application/json; x=y\r\n";
    let reply = site.ask("POST", target, headers, b"{not json").await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(
        receiver.lines(),
        [
            "a/b c {not json 0 9s [PayloadIsUtf8(true), ContentType(\"application/json; x=y\"), \
          ResponseTopic(\"r\"), CorrelationData([1]), User(\"n\", \"v=w\"), User(\"m\", \"\")]"
        ]
    );
    // What curl says of a body when nobody has said anything, and what somebody has.
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    site.ask("POST", "/api/v1/publish?topic=t&retain", form, b"x")
        .await;
    let target = "/api/v1/publish?topic=t&content_type=text/plain;+charset=utf-8";
    site.ask("POST", target, form, b"y").await;
    assert_eq!(
        receiver.lines(),
        [
            "t x 1r []",
            "t y 1 [ContentType(\"text/plain; charset=utf-8\")]"
        ]
    );
}

#[tokio::test]
async fn a_list_is_published_in_its_order_and_answered_one_by_one() {
    let site = Plan {
        access: Arc::new(Doorman),
        ..Plan::default()
    }
    .open()
    .await;
    let receiver = site.receiver("t", 0).await;
    let messages: Vec<_> = (0..300)
        .map(|n| json!({"topic": "t", "payload": n.to_string()}))
        .collect();
    let reply = site.publish(&json!(messages).to_string()).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let results = reply.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 300);
    assert!(results.iter().all(|result| result["reason_code"] == 0));
    let payloads: Vec<String> = receiver
        .lines()
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap().to_owned())
        .collect();
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(payloads, expected);

    let list = r#"[{"topic":"t","payload":"1"},{"topic":"secret"},{"topic":"u"}]"#;
    let reply = site.publish(list).await;
    assert_eq!(reply.status, 207, "{reply:?}");
    let codes: Vec<_> = reply.json()["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            (
                result["status"].as_u64().unwrap(),
                result["reason_code"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(codes, [(202, 0), (403, 0x87), (202, 0x10)]);
    assert_eq!(receiver.lines().len(), 1);

    let reply = site
        .publish(r#"[{"topic":"secret"},{"topic":"secret/2"}]"#)
        .await;
    let problem = reply.problem(403);
    assert_eq!(problem["reason_code"], 0x87);
    assert_eq!(problem["results"].as_array().unwrap().len(), 2);
    assert_eq!(site.bus.counters().drops.get(DropReason::NotAuthorized), 3);
}

#[tokio::test]
async fn one_message_of_a_list_that_cannot_be_read_keeps_all_of_them_back() {
    let site = site().await;
    let receiver = site.receiver("#", 0).await;
    for (list, status) in [
        (r#"[{"topic":"a"},{"topic":"b/+"}]"#, 422),
        (
            r#"[{"topic":"a"},{"topic":"b","encoding":"base64","payload":"!"}]"#,
            400,
        ),
        (r#"[{"topic":"a"},{"topic":"b","colour":1}]"#, 400),
        (r#"[{"topic":"a"},3]"#, 400),
        ("[]", 400),
    ] {
        site.publish(list).await.problem(status);
    }
    let many = format!("[{}]", vec![r#"{"topic":"a"}"#; 1_001].join(","));
    site.publish(&many).await.problem(400);
    assert!(receiver.lines().is_empty());
    let reply = site.publish(r#"[{"topic":"a"},{"topic":"b/+"}]"#).await;
    let detail = reply.problem(422)["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("Message 1 of the list"), "{detail}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_says_why() {
    let site = site().await;
    let receiver = site.receiver("#", 0).await;
    let deep = format!(r#"{{"topic":"{}"}}"#, vec!["x"; 33].join("/"));
    let long = format!(r#"{{"topic":"{}"}}"#, "x".repeat(4_097));
    let nested = "[".repeat(100_000);
    for (body, status, reason) in [
        ("", 400, Some(0x81)),
        ("{", 400, Some(0x81)),
        ("null", 400, Some(0x81)),
        (r#"{"payload":"p"}"#, 400, Some(0x81)),
        (r#"{"topic":"t","Topic":"t"}"#, 400, Some(0x81)),
        (r#"{"topic":"t"} {}"#, 400, Some(0x81)),
        (
            r#"{"topic":"t","payload":"?","encoding":"base64"}"#,
            400,
            Some(0x81),
        ),
        (r#"{"topic":"t","qos":3}"#, 400, Some(0x81)),
        (r#"{"topic":"t","qos":-1}"#, 400, Some(0x81)),
        (r#"{"topic":"t","payload":"\ud800"}"#, 400, Some(0x81)),
        (r#"{"topic":""}"#, 422, Some(0x90)),
        (r#"{"topic":"a\u0000b"}"#, 422, Some(0x90)),
        (r#"{"topic":"a/+/b"}"#, 422, Some(0x90)),
        (r##"{"topic":"#"}"##, 422, Some(0x90)),
        (&deep, 422, Some(0x90)),
        (&long, 422, Some(0x90)),
        (&nested, 400, Some(0x81)),
    ] {
        let problem = site.publish(body).await.problem(status);
        let code = problem["reason_code"].as_u64();
        assert_eq!(code, reason, "{}: {problem}", &body[..body.len().min(80)]);
    }
    for (target, status) in [
        ("/api/v1/publish?topic=", 422),
        ("/api/v1/publish?topic=a/%00", 422),
        ("/api/v1/publish?topic=a/%23", 422),
        ("/api/v1/publish?topic=a/+", 422),
        ("/api/v1/publish?topic=%ff", 400),
        ("/api/v1/publish?topic=a&topic=b", 400),
        ("/api/v1/publish?topic=a&colour=red", 400),
        ("/api/v1/publish?topic=a&qos=9", 400),
        ("/api/v1/publish?topic=a&retain=maybe", 400),
        ("/api/v1/publish?topic=a&message_expiry_interval=-1", 400),
        ("/api/v1/publish?topic=a&user_property=x", 400),
        ("/api/v1/publish?topic=a&user_property=%00%3Dx", 400),
        ("/api/v1/publish?topic=a&content_type=%00", 400),
        ("/api/v1/publish?topic=a&correlation_data=*", 400),
        ("/api/v1/publish?topic=a&client_id=", 422),
    ] {
        site.ask("POST", target, "", b"x").await.problem(status);
    }
    assert!(receiver.lines().is_empty());
}

#[tokio::test]
async fn rfc_9110_15_5_16_json_says_that_it_is_json() {
    let site = site().await;
    let body = br#"{"topic":"t"}"#;
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/jsonp\r\n",
    ] {
        site.ask("POST", "/api/v1/publish", headers, body)
            .await
            .problem(415);
    }
    let headers = "Content-Type: Application/JSON; charset=utf-8\r\n";
    let reply = site.ask("POST", "/api/v1/publish", headers, body).await;
    assert_eq!(reply.status, 202);
}

#[tokio::test]
async fn a_message_is_as_large_as_an_mqtt_packet_may_be_and_no_larger() {
    let site = Plan {
        api: ApiSettings {
            max_packet_bytes: 1_000,
            ..ApiSettings::default()
        },
        ..Plan::default()
    }
    .open()
    .await;
    // Fixed header 3, topic 2 + 1, packet identifier 2, property length 1.
    let fits = vec![b'x'; 1_000 - 9];
    let target = "/api/v1/publish?topic=t";
    assert_eq!(site.ask("POST", target, "", &fits).await.status, 202);
    let more = vec![b'x'; 1_000 - 8];
    let problem = site.ask("POST", target, "", &more).await.problem(413);
    assert_eq!(problem["reason_code"], 0x95);
    site.ask("PUT", "/api/v1/retained/t", "", &more)
        .await
        .problem(413);
    let list = format!(
        r#"[{{"topic":"u"}},{{"topic":"t","payload":"{}"}}]"#,
        "x".repeat(992)
    );
    site.publish(&list).await.problem(413);
    assert_eq!(site.bus.counters().received(), 1);
}

#[tokio::test]
async fn rfc_9110_15_5_14_a_body_beyond_the_limit_is_refused_promised_or_not() {
    let site = Plan {
        api: ApiSettings {
            max_body_bytes: 10_000,
            ..ApiSettings::default()
        },
        ..Plan::default()
    }
    .open()
    .await;
    let head = "POST /api/v1/publish?topic=t HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let promised = format!("{head}Content-Length: 10001\r\nExpect: 100-continue\r\n\r\n");
    exchange(site.address, promised.as_bytes())
        .await
        .problem(413);
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(3)
    );
    exchange(site.address, chunked.as_bytes())
        .await
        .problem(413);
    let exact = vec![b'x'; 10_000];
    let reply = site
        .ask("POST", "/api/v1/publish?topic=t", "", &exact)
        .await;
    assert_eq!(reply.status, 202);
}

#[tokio::test]
async fn a_body_that_does_not_end_is_not_waited_for() {
    let site = Plan {
        api: ApiSettings {
            body_timeout: Duration::from_millis(50),
            ..ApiSettings::default()
        },
        ..Plan::default()
    }
    .open()
    .await;
    let request = "POST /api/v1/publish?topic=t HTTP/1.1\r\nHost: localhost\r\n\
                   Content-Length: 10\r\nConnection: close\r\n\r\nabc";
    exchange(site.address, request.as_bytes())
        .await
        .problem(408);
    assert_eq!(site.bus.counters().received(), 0);
}

#[tokio::test]
async fn bodies_are_charged_to_the_memory_that_waits_and_given_back() {
    let mut bus = tidegate_bus::Settings::default();
    bus.max_memory_bytes = 256 << 10;
    let site = Plan {
        bus,
        ..Plan::default()
    }
    .open()
    .await;
    let target = "/api/v1/publish?topic=t&qos=0";
    let large = vec![b'x'; 300 << 10];
    let problem = site.ask("POST", target, "", &large).await.problem(503);
    assert_eq!(problem["reason_code"], 0x97);
    let fits = vec![b'x'; 200 << 10];
    assert_eq!(site.ask("POST", target, "", &fits).await.status, 202);
    until("the memory is given back", || site.bus.memory().used() == 0).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_kept() {
    let store = Arc::new(SlowStore::default());
    let site = Plan {
        store: Arc::clone(&store) as _,
        ..Plan::default()
    }
    .open()
    .await;
    let _receiver = site.receiver("t", 3_600).await;
    let address = site.address;
    for (method, target) in [
        ("POST", "/api/v1/publish?topic=t&qos=1"),
        ("POST", "/api/v1/publish?topic=t&qos=2"),
        ("PUT", "/api/v1/retained/u"),
        ("PUT", "/api/v1/retained/u?qos=0"),
        ("DELETE", "/api/v1/retained/u"),
    ] {
        let body = if method == "DELETE" { "" } else { "x" };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let asking = tokio::spawn(async move { exchange(address, request.as_bytes()).await });
        store.wait_for(1).await;
        assert!(!asking.is_finished(), "{method} {target}");
        store.complete(&Ok(()));
        let reply = asking.await.unwrap();
        assert!(reply.status < 300, "{method} {target}: {reply:?}");
    }
    // QoS 0 that nobody must keep waits for nothing.
    let reply = site
        .ask("POST", "/api/v1/publish?topic=t&qos=0", "", b"x")
        .await;
    assert_eq!(reply.status, 202);
}

#[tokio::test]
async fn all_tickets_of_a_list_are_awaited() {
    let store = Arc::new(SlowStore::default());
    let site = Plan {
        store: Arc::clone(&store) as _,
        ..Plan::default()
    }
    .open()
    .await;
    let _receiver = site.receiver("t", 3_600).await;
    let list = r#"[{"topic":"t"},{"topic":"t"},{"topic":"t"}]"#;
    let asking = site.publish(list);
    let completing = async {
        // All are on their way before the first is kept: they are kept together.
        store.wait_for(3).await;
        store.complete(&Ok(()));
    };
    let (reply, ()) = tokio::join!(asking, completing);
    assert_eq!(reply.status, 202);
}

#[tokio::test]
async fn a_ticket_that_fails_is_told_and_comes_with_the_time_to_try_again() {
    let store = Arc::new(SlowStore::default());
    let site = Plan {
        store: Arc::clone(&store) as _,
        ..Plan::default()
    }
    .open()
    .await;
    let _receiver = site.receiver("t", 3_600).await;
    for (error, status) in [
        (StoreError::Failed("gone".into()), 503),
        (StoreError::Full, 507),
    ] {
        let asking = site.publish(r#"{"topic":"t"}"#);
        let failing = async {
            store.wait_for(1).await;
            store.complete(&Err(error));
        };
        let (reply, ()) = tokio::join!(asking, failing);
        assert_eq!(reply.problem(status)["reason_code"], 0x97);
        assert_eq!(reply.header("retry-after"), Some("5"));
    }
}

#[tokio::test]
async fn while_the_store_refuses_nobody_receives_what_would_have_to_be_kept() {
    let store = Arc::new(SlowStore::default());
    let site = Plan {
        store: Arc::clone(&store) as _,
        ..Plan::default()
    }
    .open()
    .await;
    let kept = site.receiver("t", 3_600).await;
    let live = site.receiver("#", 0).await;
    store.refuse(true);
    let reply = site.publish(r#"{"topic":"t"}"#).await;
    assert_eq!(reply.problem(503)["reason_code"], 0x97);
    assert_eq!(reply.header("retry-after"), Some("5"));
    for target in ["/api/v1/retained/t", "/api/v1/retained/t?qos=0"] {
        site.ask("PUT", target, "", b"x").await.problem(503);
    }
    assert!(kept.lines().is_empty() && live.lines().is_empty());
    store.refuse(false);
}

#[tokio::test]
async fn what_is_retained_beyond_the_limit_is_refused_with_507() {
    let mut bus = tidegate_bus::Settings::default();
    bus.max_retained_messages = 1;
    let site = Plan {
        bus,
        ..Plan::default()
    }
    .open()
    .await;
    let receiver = site.receiver("#", 0).await;
    let one = site.ask("PUT", "/api/v1/retained/a", "", b"x").await;
    assert_eq!(one.status, 200);
    let two = site.ask("PUT", "/api/v1/retained/b", "", b"x").await;
    assert_eq!(two.problem(507)["reason_code"], 0x97);
    assert_eq!(receiver.lines().len(), 1);
}

#[tokio::test]
async fn mqtt_4_7_2_topics_of_the_gateway_itself_are_not_published_to() {
    let site = site().await;
    for topic in ["$SYS", "$SYS/broker/uptime"] {
        let json = format!(r#"{{"topic":"{topic}"}}"#);
        assert_eq!(site.publish(&json).await.problem(403)["reason_code"], 0x87);
    }
    let reply = site.ask("PUT", "/api/v1/retained/$SYS/x", "", b"x").await;
    reply.problem(403);
}

#[tokio::test]
async fn rfc_7617_user_name_and_password_are_what_mqtt_asks_for() {
    let site = Plan {
        access: Arc::new(Doorman),
        ..Plan::default()
    }
    .open()
    .await;
    let basic = |pair: &str| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        format!("Authorization: Basic {encoded}\r\n")
    };
    let target = "/api/v1/publish?topic=t";
    let ask = async |headers: &str| site.ask("POST", target, headers, b"x").await;
    assert_eq!(ask("").await.status, 202);
    assert_eq!(ask(&basic("right:pass:word")).await.status, 202);
    for (headers, status, reason) in [
        (basic("right:unspoken"), 401, 0x86),
        ("Authorization: Bearer x\r\n".to_owned(), 401, 0x86),
        (basic("banned:x"), 403, 0x8a),
        (basic("away:x"), 503, 0x88),
    ] {
        let reply = ask(&headers).await;
        assert_eq!(reply.problem(status)["reason_code"], reason);
        let challenge = reply.header("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{challenge:?}");
        assert!(!reply.body.contains("unspoken"), "{reply:?}");
    }
    // Every way in asks.
    let headers = basic("right:unspoken");
    for (method, target) in [
        ("GET", "/api/v1/subscribe?filter=t"),
        ("GET", "/api/v1/retained"),
        ("GET", "/api/v1/retained/t"),
        ("PUT", "/api/v1/retained/t"),
        ("DELETE", "/api/v1/retained/t"),
    ] {
        site.ask(method, target, &headers, b"").await.problem(401);
    }
    assert_eq!(site.api.counters().refused_access.get(), 8);
}

#[tokio::test]
async fn a_large_fan_out_reaches_everybody() {
    let mut bus = tidegate_bus::Settings::default();
    bus.fanout_slice = 2;
    let site = Plan {
        bus,
        ..Plan::default()
    }
    .open()
    .await;
    let mut receivers = Vec::new();
    for filter in ["t", "+", "#", "t/#", "+/#"] {
        receivers.push(site.receiver(filter, 0).await);
    }
    let reply = site
        .publish(r#"[{"topic":"t","payload":"1"},{"topic":"t","payload":"2"}]"#)
        .await;
    assert_eq!(reply.status, 202);
    for receiver in receivers {
        let lines = receiver.lines();
        assert_eq!(lines, ["t 1 1 []", "t 2 1 []"]);
    }
}

#[tokio::test]
async fn before_the_bus_is_there_and_when_it_goes_the_api_says_so_and_probes_are_answered() {
    let bus = site().await.bus;
    let site = serve(Settings::default(), Api::default(), bus).await;
    for target in ["/api/v1/retained/t", "/api/v1/subscribe?filter=t"] {
        let reply = site.get(target).await;
        assert_eq!(reply.problem(503)["reason_code"], 0x88);
        assert_eq!(reply.header("retry-after"), Some("5"));
    }
    assert_eq!(site.get("/livez").await.status, 200);
    site.api.begin(&site.bus, ApiSettings::default());
    site.get("/api/v1/retained/t").await.problem(404);
    site.api.shut_down().await;
    let reply = site.publish(r#"{"topic":"t"}"#).await;
    assert_eq!(reply.problem(503)["reason_code"], 0x8b);
    assert_eq!(site.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_drain_waits_for_what_is_not_acknowledged_yet() {
    let store = Arc::new(SlowStore::default());
    let site = Plan {
        store: Arc::clone(&store) as _,
        ..Plan::default()
    }
    .open()
    .await;
    let _receiver = site.receiver("t", 3_600).await;
    let asking = site.publish(r#"{"topic":"t"}"#);
    let draining = async {
        store.wait_for(1).await;
        let mut drain = Box::pin(site.api.shut_down());
        let early = tokio::time::timeout(Duration::from_millis(20), &mut drain).await;
        assert!(early.is_err(), "it did not wait");
        store.complete(&Ok(()));
        soon("the drain", drain).await;
    };
    let (reply, ()) = tokio::join!(asking, draining);
    assert_eq!(reply.status, 202);
}

#[tokio::test]
async fn requests_and_messages_are_counted() {
    let site = Plan {
        access: Arc::new(Doorman),
        ..Plan::default()
    }
    .open()
    .await;
    site.publish(r#"[{"topic":"t","qos":0},{"topic":"secret"}]"#)
        .await;
    site.publish("{").await;
    site.get("/api/v1/nothing").await;
    site.get("/livez").await;
    let counters = site.api.counters();
    assert_eq!((counters.published.get(), counters.refused.get()), (1, 1));
    let requests: Vec<_> = counters.requests().collect();
    assert_eq!(
        requests,
        [("1xx", 0), ("2xx", 2), ("3xx", 0), ("4xx", 2), ("5xx", 0)]
    );
    // The bus counts them as messages of clients.
    assert_eq!(
        site.bus.counters().messages_received[QoS::AtMostOnce as usize].get(),
        1
    );
    assert_eq!(
        site.bus.counters().messages_received[QoS::AtLeastOnce as usize].get(),
        1
    );
}

//! `/api/v1/retained`, and what pages of browsers may do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::*;
use tidegate_api::Settings;
use tidegate_bus::QoS;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn what_is_put_is_there_and_whoever_subscribes_hears_of_it() {
    let site = site().await;
    let receiver = site.receiver("#", 0).await;
    let target = "/api/v1/retained/a%20b/%C3%BC/?message_expiry_interval=60&user_property=n%3D%C3%BC\
                  &response_topic=r/1&correlation_data=AQI%3D&payload_format_indicator=1";
    let headers = "Content-Type: text/x-mood\r\n";
    let reply = site.ask("PUT", target, headers, b"calm").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["reason_code"], 0);
    assert_eq!(
        receiver.lines(),
        [
            "a b/ü/ calm 1r 60s [PayloadIsUtf8(true), ContentType(\"text/x-mood\"), \
          ResponseTopic(\"r/1\"), CorrelationData([1, 2]), User(\"n\", \"ü\")]"
        ]
    );
    let reply = site.get("/api/v1/retained/a%20b/%c3%bc%2f").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "calm"));
    for (name, value) in [
        ("content-type", "text/x-mood"),
        ("mqtt-qos", "1"),
        ("mqtt-message-expiry-interval", "60"),
        ("mqtt-payload-format-indicator", "1"),
        ("mqtt-response-topic", "r/1"),
        ("mqtt-correlation-data", "AQI="),
        ("mqtt-user-property", "n=%C3%BC"),
        ("cache-control", "no-cache"),
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    let accept = "Accept: text/plain;q=0.1, application/json\r\n";
    let reply = site
        .ask("GET", "/api/v1/retained/a%20b/%C3%BC/", accept, b"")
        .await;
    assert_eq!(
        reply.json(),
        json!({
            "topic": "a b/ü/", "payload": "calm", "encoding": "text", "qos": 1, "retain": true,
            "content_type": "text/x-mood", "response_topic": "r/1", "correlation_data": "AQI=",
            "payload_format_indicator": 1, "message_expiry_interval": 60,
            "user_properties": [["n", "ü"]],
        })
    );
    let head = site
        .ask("HEAD", "/api/v1/retained/a%20b/%C3%BC/", "", b"")
        .await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some("4"));
}

#[tokio::test]
async fn mqtt_3_3_1_6_delete_clears_the_topic_and_is_heard() {
    let site = site().await;
    site.ask("PUT", "/api/v1/retained/t", "", b"x").await;
    let receiver = site.receiver("t", 0).await;
    assert_eq!(receiver.lines(), ["t x 1r []"]);
    for _ in 0..2 {
        let reply = site.ask("DELETE", "/api/v1/retained/t", "", b"").await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    }
    assert_eq!(receiver.lines(), ["t  1r []", "t  1r []"]);
    site.get("/api/v1/retained/t").await.problem(404);
    // An empty body would clear as well, and is not what PUT says.
    site.ask("PUT", "/api/v1/retained/t", "", b"")
        .await
        .problem(422);
}

#[tokio::test]
async fn rfc_9110_13_1_2_what_is_known_is_not_sent_again() {
    let site = site().await;
    site.ask("PUT", "/api/v1/retained/t", "", b"1").await;
    let target = "/api/v1/retained/t";
    let tag = site.get(target).await.header("etag").unwrap().to_owned();
    for known in [&tag, "*", &format!("\"x\", W/{tag}")] {
        let headers = format!("If-None-Match: {known}\r\n");
        let reply = site.ask("GET", target, &headers, b"").await;
        assert_eq!((reply.status, reply.body.as_str()), (304, ""), "{known}");
        assert_eq!(reply.header("etag"), Some(&*tag));
    }
    let known = format!("If-None-Match: {tag}\r\n");
    let as_json = format!("{known}Accept: application/json\r\n");
    assert_eq!(site.ask("GET", target, &as_json, b"").await.status, 200);
    site.ask("PUT", target, "", b"2").await;
    assert_eq!(site.ask("GET", target, &known, b"").await.body, "2");
    // A change on a condition would have to be refused when that does not hold.
    for method in ["PUT", "DELETE"] {
        let headers = format!("If-Match: {tag}\r\n");
        site.ask(method, target, &headers, b"3").await.problem(501);
    }
    assert_eq!(site.get(target).await.body, "2");
}

#[tokio::test]
async fn topics_are_decoded_and_what_is_none_is_refused() {
    let site = Plan {
        access: Arc::new(Doorman),
        ..Plan::default()
    }
    .open()
    .await;
    for (path, topic) in [
        ("/a", "/a"),
        ("a//b", "a//b"),
        ("a+b%2bc", ""),
        ("..%2Fx", "../x"),
    ] {
        let reply = site
            .ask("PUT", &format!("/api/v1/retained/{path}"), "", b"x")
            .await;
        if topic.is_empty() {
            reply.problem(422);
            continue;
        }
        assert_eq!(reply.status, 200, "{path}");
        let listed = site.get("/api/v1/retained?limit=1000").await.json();
        let topics = listed["messages"].as_array().unwrap();
        assert!(
            topics.iter().any(|message| message["topic"] == topic),
            "{topic}"
        );
    }
    let deep = vec!["x"; 33].join("/");
    for (path, status) in [
        ("a/%23", 422),
        ("+", 422),
        ("a%00", 422),
        ("%ff", 400),
        (&deep, 422),
        ("$share/g/t", 404),
        ("secret", 403),
        ("t?colour=red", 400),
    ] {
        site.get(&format!("/api/v1/retained/{path}"))
            .await
            .problem(status);
    }
}

#[tokio::test]
async fn what_a_device_says_of_itself_cannot_break_the_answer() {
    let site = site().await;
    let json = r#"{"topic":"t","payload":"x","retain":true,"content_type":"a\r\nSet-Cookie: b",
                   "response_topic":"r\r\nX: y","user_properties":[["a\r\n","b: c"]]}"#;
    assert_eq!(site.publish(json).await.status, 202);
    let reply = site.get("/api/v1/retained/t").await;
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(reply.header("set-cookie"), None);
    assert_eq!(reply.header("x"), None);
    assert_eq!(reply.header("mqtt-response-topic"), Some("r%0D%0AX%3A%20y"));
    assert_eq!(reply.header("mqtt-user-property"), Some("a%0D%0A=b%3A%20c"));
}

#[tokio::test]
async fn a_list_comes_page_by_page_and_a_page_ends_by_number_or_size() {
    let site = site().await;
    for n in 0..5 {
        site.publish_on_bus(&format!("a/{n}"), b"x", QoS::AtMostOnce, true);
    }
    site.publish_on_bus("b", &vec![b'y'; 700 << 10], QoS::AtMostOnce, true);
    site.publish_on_bus("c", &vec![b'z'; 700 << 10], QoS::AtMostOnce, true);
    let topics = |page: &Value| -> Vec<String> {
        let messages = page["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["topic"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut after = String::new();
    let mut pages = Vec::new();
    loop {
        let target = format!("/api/v1/retained?limit=3{after}");
        let page = site.get(&target).await.json();
        pages.push(topics(&page));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={}", next.replace('/', "%2F"));
    }
    assert_eq!(
        pages,
        [
            vec!["a/0", "a/1", "a/2"],
            vec!["a/3", "a/4", "b"],
            vec!["c"]
        ]
    );
    let page = site
        .get("/api/v1/retained?filter=a/%2B&after=a/3")
        .await
        .json();
    assert_eq!(
        (topics(&page), &page["next"]),
        (vec!["a/4".to_owned()], &Value::Null)
    );
    let page = site.get("/api/v1/retained?filter=nothing").await.json();
    assert_eq!(page, json!({"messages": [], "next": null}));
    for (query, status) in [
        ("limit=0", 400),
        ("limit=1001", 400),
        ("filter=a/%23/b", 422),
        ("filter=%24share/g/t", 422),
        ("filter=a&filter=b", 400),
        ("colour=red", 400),
    ] {
        site.get(&format!("/api/v1/retained?{query}"))
            .await
            .problem(status);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_charged_until_it_is_given_up() {
    let mut bus = tidegate_bus::Settings::default();
    bus.max_memory_bytes = 40 << 20;
    let site = Plan {
        bus,
        ..Plan::default()
    }
    .open()
    .await;
    // More than the kernel takes of it.
    let payload = vec![b'x'; 30 << 20];
    site.publish_on_bus("t", &payload, QoS::AtMostOnce, true);
    let mut slow = TcpStream::connect(site.address).await.unwrap();
    let request = b"GET /api/v1/retained/t HTTP/1.1\r\nHost: localhost\r\n\r\n";
    slow.write_all(request).await.unwrap();
    until("it is charged", || {
        site.bus.memory().used() >= payload.len()
    })
    .await;
    let problem = site.get("/api/v1/retained/t").await.problem(503);
    assert_eq!(problem["reason_code"], 0x97);
    drop(slow);
    until("it is given back", || site.bus.memory().used() == 0).await;
    assert_eq!(
        site.get("/api/v1/retained/t").await.body.len(),
        payload.len()
    );
}

// ---- browsers ---------------------------------------------------------------------------------

async fn with_origins() -> Site {
    Plan {
        http: Settings {
            allowed_origins: vec!["https://app.example".parse().unwrap()],
            ..Settings::default()
        },
        ..Plan::default()
    }
    .open()
    .await
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_and_read_and_no_other() {
    let site = with_origins().await;
    let origin = "Origin: https://app.example\r\n";
    let target = "/api/v1/retained/t";
    for (method, status) in [
        ("PUT", 200),
        ("GET", 200),
        ("DELETE", 204),
        ("GET", 404),
        ("PATCH", 405),
    ] {
        let reply = site.ask(method, target, origin, b"x").await;
        assert_eq!(reply.status, status, "{method}");
        let allowed = reply.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://app.example"), "{method}");
        let exposed = reply.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("MQTT-User-Property"), "{exposed}");
        assert!(
            reply.head.to_lowercase().contains("vary: origin"),
            "{reply:?}"
        );
    }
    for origin in ["http://evil.example", "null", "http://localhost:3000"] {
        for method in ["PUT", "OPTIONS"] {
            let headers = format!("Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n");
            let reply = site.ask(method, target, &headers, b"x").await;
            let problem = reply.problem(403);
            assert_eq!(reply.header("access-control-allow-origin"), None);
            assert!(!problem["detail"].as_str().unwrap().is_empty());
        }
    }
    site.get(target).await.problem(404);
    let rebound =
        b"GET /api/v1/retained/t HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    exchange(site.address, rebound).await.problem(421);
}

#[tokio::test]
async fn a_browser_that_asks_first_is_told_what_a_page_may_do() {
    let site = with_origins().await;
    let headers = "Origin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n\
                   Access-Control-Request-Headers: content-type,authorization\r\n";
    let reply = site
        .ask("OPTIONS", "/api/v1/retained/t", headers, b"")
        .await;
    assert_eq!(reply.status, 204, "{reply:?}");
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        (
            "access-control-allow-methods",
            "GET, HEAD, POST, PUT, DELETE",
        ),
        (
            "access-control-allow-headers",
            "Authorization, Content-Type, If-None-Match, Last-Event-ID",
        ),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    // Who does not ask for a page is told as of any method.
    let reply = site.ask("OPTIONS", "/api/v1/retained/t", "", b"").await;
    reply.problem(405);
}

#[tokio::test]
async fn what_a_foreign_page_embeds_without_an_origin_causes_nothing() {
    let site = site().await;
    for value in ["cross-site", "same-site"] {
        let headers = format!("Sec-Fetch-Site: {value}\r\n");
        let target = "/api/v1/subscribe?filter=t&client_id=victim";
        site.ask("GET", target, &headers, b"").await.problem(403);
    }
    assert_eq!(site.bus.counters().connects.get(), 0);
    for value in ["same-origin", "none"] {
        let headers = format!("Sec-Fetch-Site: {value}\r\n");
        let reply = site.ask("GET", "/api/v1/retained", &headers, b"").await;
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems_too() {
    let site = site().await;
    for target in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v2/publish",
        "/api/v1/retained/",
    ] {
        site.get(target).await.problem(404);
    }
    for (method, target, allow) in [
        ("GET", "/api/v1/publish", "POST"),
        ("POST", "/api/v1/subscribe", "GET,HEAD"),
        ("POST", "/api/v1/retained/t", "DELETE,GET,HEAD,PUT"),
        ("DELETE", "/api/v1/retained", "GET,HEAD"),
    ] {
        let reply = site.ask(method, target, "", b"").await;
        reply.problem(405);
        let mut allowed: Vec<_> = reply.header("allow").unwrap().split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{target}");
    }
}

// ---- the description --------------------------------------------------------------------------

/// Every operation that is described is answered, and every method that is not described is refused.
#[tokio::test]
async fn the_description_is_that_of_the_routes() {
    let site = site().await;
    let reply = site.get("/api/v1/openapi.json").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let document = reply.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let described: Vec<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(
        described,
        [
            "/api/v1/openapi.json",
            "/api/v1/publish",
            "/api/v1/retained",
            "/api/v1/retained/{topic}",
            "/api/v1/subscribe",
        ]
    );
    for (path, operations) in paths {
        let target = path.replace("{topic}", "t");
        for method in ["get", "put", "post", "delete", "patch"] {
            let reply = site.ask(&method.to_uppercase(), &target, "", b"").await;
            let is_described = operations.get(method).is_some();
            assert_eq!(
                reply.status != 405,
                is_described,
                "{method} {path}: {reply:?}"
            );
        }
    }
    // Every parameter that is described is known.
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            for parameter in operation["parameters"].as_array().unwrap_or(&Vec::new()) {
                if parameter["in"] != "query" {
                    continue;
                }
                let name = parameter["name"].as_str().unwrap();
                let first = if path.ends_with("/publish") && name != "topic" {
                    "topic=t&"
                } else {
                    ""
                };
                let target = format!("{}?{first}{name}=", path.replace("{topic}", "t"));
                let reply = site.ask(&method.to_uppercase(), &target, "", b"x").await;
                assert!(
                    !reply.body.contains("There is no parameter"),
                    "{method} {path} {name}"
                );
            }
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    let references = text.split("\"$ref\":\"").skip(1);
    let mut count = 0;
    for reference in references {
        let pointer = reference.split('"').next().unwrap().trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        count += 1;
    }
    assert!(count > 10, "{count}");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for schema in ["Message", "Publication", "Problem", "Outcome"] {
        assert!(
            schemas.contains_key(schema),
            "{schema}: {:?}",
            schemas.keys()
        );
    }
}

//! Against the gateway.

use serde_json::json;

use super::run::{Gateway, SCHEMES, Subscriber, fails, large, run, works};

#[test]
fn what_is_published_over_coap_is_received_over_coap_and_over_mqtt() {
    let gateway = Gateway::start(&[]);
    let (coap, mqtt) = (gateway.url("coap"), gateway.url("mqtt"));
    let arguments = ["-t", "home/temp", "-n", "3", "--json"];
    let subscribers = [&coap, &mqtt].map(|url| Subscriber::start(url, &arguments));
    let published = [
        "pub",
        "-t",
        "home/temp",
        "-m",
        "21.5",
        "-q",
        "1",
        "--content-type",
        "text/plain",
        "--message-expiry",
        "1h",
    ];
    assert_eq!(works(&coap, &published), "");
    works(
        &coap,
        &["pub", "-t", "home/temp", "-m", "22", "-q", "2", "-r"],
    );
    works(
        &mqtt,
        &["pub", "-t", "home/temp", "-m", "\u{e4}", "-q", "1"],
    );
    for (subscriber, is_coap) in subscribers.into_iter().zip([true, false]) {
        let messages = subscriber.messages();
        let payloads: Vec<_> = messages.iter().map(|it| it["payload"].clone()).collect();
        assert_eq!(payloads, ["21.5", "22", "\u{e4}"], "{is_coap}");
        let first = &messages[0];
        assert_eq!(first["topic"], "home/temp");
        assert_eq!(first["retain"], false);
        let properties = &first["properties"];
        assert_eq!(properties["content_type"], "text/plain;charset=utf-8");
        let expiry = properties["message_expiry"].as_u64().unwrap();
        assert!((3590..=3600).contains(&expiry), "{expiry}");
        assert_eq!(messages[2]["properties"], json!({}));
    }
    // What is retained is there before anything happens, and can be removed.
    let read = ["sub", "-t", "home/temp", "-n", "1", "--json"];
    let message: serde_json::Value = serde_json::from_str(&works(&coap, &read)).unwrap();
    assert_eq!(
        (&message["payload"], &message["retain"]),
        (&json!("22"), &json!(true))
    );
    works(&coap, &["pub", "-t", "home/temp", "--null", "-r"]);
    let nothing = ["sub", "-t", "home/temp", "-W", "300ms"];
    assert_eq!(works(&coap, &nothing), "");
    assert_eq!(works(&mqtt, &nothing), "");
}

#[test]
fn each_filter_is_an_observation_and_with_wildcards_the_topic_is_told() {
    let gateway = Gateway::start(&[]);
    for scheme in SCHEMES {
        let door = gateway.door(scheme);
        let level = scheme.replace('+', "-");
        let at = |topic: &str| format!("{level}/{topic}");
        let [one, literal, all] = ["a/+/c", "b", "d/#"].map(at);
        let filters = [
            "-t", &*one, "-t", &literal, "-t", &all, "-v", "-n", "5", "-q", "1",
        ];
        door.works(&["pub", "-t", &at("d/before"), "-m", "0", "-r"]);
        let subscriber = door.observe(&filters);
        for (topic, payload) in [
            ("a/1/c", "1"),
            ("a/b", "no"),
            ("b", "2"),
            ("d", "3"),
            ("d/e//", "4"),
        ] {
            door.works(&["pub", "-t", &at(topic), "-m", payload]);
        }
        let mut lines: Vec<_> = subscriber.printed().lines().map(str::to_owned).collect();
        // Between two observations there is no order.
        lines.sort();
        let expected = ["a/1/c 1", "b 2", "d 3", "d/before 0", "d/e// 4"];
        assert_eq!(lines, expected.map(at));
    }
}

#[test]
fn rfc7959_bodies_of_100_kb_go_both_ways_in_blocks() {
    let gateway = Gateway::start(&[]);
    let url = gateway.url("coap");
    let large = large();
    let file = gateway.write("large", large.as_bytes());
    for filter in ["big/one", "big/+"] {
        let subscriber = Subscriber::start(&url, &["-t", filter, "-n", "1"]);
        works(&url, &["pub", "-t", "big/one", "-f", &file]);
        assert!(subscriber.printed() == format!("{large}\n"), "{filter}");
    }
    // As the answer to a registration.
    works(&url, &["pub", "-t", "big/one", "-f", &file, "-r"]);
    for filter in ["big/one", "big/#"] {
        let printed = works(&url, &["sub", "-t", filter, "-n", "1"]);
        assert!(
            printed == format!("{large}\n"),
            "{filter}: {} bytes",
            printed.len()
        );
    }
}

#[test]
fn many_messages_are_published_in_their_order() {
    let gateway = Gateway::start(&[]);
    let url = gateway.url("coap");
    let subscriber = Subscriber::start(&gateway.url("mqtt"), &["-t", "n", "-n", "500", "-q", "1"]);
    let lines: String = (0..500).map(|n| format!("{n}\n")).collect();
    let file = gateway.write("lines", lines.as_bytes());
    let output = super::run::tidegate(&url, &["pub", "-t", "n", "-l", "-q", "1"])
        .stdin(std::fs::File::open(file).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(subscriber.printed(), lines);
}

#[test]
fn what_the_gateway_refuses_is_said_in_its_words() {
    let gateway = Gateway::start(&["listeners.coap.coap.max_body_size=2KiB"]);
    let url = gateway.url("coap");
    let file = gateway.write("large", large().as_bytes());
    let text = "the gateway refused a message to t: 4.13 Request Entity Too Large: the body is larger than it may be";
    fails(&url, &["pub", "-t", "t", "-f", &file], 3, text);
    let text = "the gateway refused a message to $SYS/x: 4.03 Forbidden: ";
    fails(&url, &["pub", "-t", "$SYS/x", "-m", "x"], 3, text);
    let elsewhere = format!("{url}/other");
    // Its words are more than an address is sent that has proved nothing (docs/coap.md).
    let text = "the gateway refused the filter t: 4.04 Not Found";
    fails(&elsewhere, &["sub", "-t", "t"], 3, text);
}

#[test]
fn a_gateway_that_shuts_down_is_told_from_one_that_is_lost() {
    let gateway = Gateway::start(&[]);
    let url = gateway.url("coap");
    let subscriber = Subscriber::start(&url, &["-t", "a", "-t", "b"]);
    gateway.stop();
    let ended = subscriber.end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let text = "5.03 Service Unavailable";
    assert!(ended.stderr.contains(text), "{}", ended.stderr);
}

#[test]
fn a_subscriber_that_has_lost_its_gateway_comes_back() {
    let gateway = Gateway::start(&[]);
    let (url, address) = (gateway.url("coap"), gateway.address("coap"));
    let options = [
        "-t",
        "a",
        "-n",
        "1",
        "-k",
        "1",
        "--reconnect",
        "--ack-timeout",
        "100ms",
    ];
    let mut subscriber = Subscriber::start(&url, &options);
    // Killed: nobody says goodbye.
    drop(gateway);
    subscriber.until("connecting again");
    let bind = format!("listeners.coap.bind={address}");
    let gateway = Gateway::start(&[&bind]);
    subscriber.until("subscribed to");
    works(&gateway.url("coap"), &["pub", "-t", "a", "-m", "b"]);
    assert_eq!(subscriber.printed(), "b\n");
}

#[test]
fn a_gateway_that_has_forgotten_what_is_observed_is_told_again() {
    let gateway = Gateway::start(&[]);
    let (url, address) = (gateway.url("coap"), gateway.address("coap"));
    // A long time to the first question, so that nobody asks while it is away.
    let subscriber = Subscriber::start(&url, &["-t", "a", "-n", "1", "-k", "3"]);
    drop(gateway);
    let bind = format!("listeners.coap.bind={address}");
    let gateway = Gateway::start(&[&bind]);
    let since = std::time::Instant::now();
    while gateway.subscriptions() == 0 {
        assert!(since.elapsed() < super::run::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    works(&url, &["pub", "-t", "a", "-m", "b"]);
    assert_eq!(subscriber.printed(), "b\n");
}

#[test]
fn a_name_with_several_addresses_is_reached_at_the_one_that_answers() {
    let gateway = Gateway::start(&[]);
    let url = format!("coap://localhost:{}", gateway.address("coap").port());
    works(&url, &["pub", "-t", "a", "-m", "b", "-r"]);
    assert_eq!(works(&url, &["sub", "-t", "a", "-n", "1"]), "b\n");
    drop(gateway);
    let ended = run(&url, &["pub", "-t", "a", "-m", "b"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot be reached"),
        "{}",
        ended.stderr
    );
}

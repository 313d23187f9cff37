//! The beginning of the process: health, metrics, the same address again, broken start-ups.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::net::TcpListener;
use std::process::{Command, Output};

use tempfile::TempDir;
use tidegate_tests::wire::{Connect, Publish, Version};
use tidegate_tests::{Gateway, get, tidegate, unique};

/// Runs the gateway with a configuration with which it must not start.
#[track_caller]
fn does_not_start(configuration: &str) -> (Output, String) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("tidegate.toml");
    std::fs::write(&file, configuration).unwrap();
    let output = Command::new(tidegate())
        .args(["run", "--config"])
        .arg(&file)
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!output.status.success(), "{said}");
    assert!(!said.contains("panicked at"), "{said}");
    (output, said)
}

#[test]
fn health_is_told_over_http() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(get(gateway.http(), path).status, 200, "{path}");
    }
    assert_eq!(get(gateway.http(), "/no/such/path").status, 404);
}

#[test]
fn metrics_count_connections_messages_and_bytes() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("metrics");
    let mut receiver = Connect::v5(&unique("metrics")).open(gateway.mqtt());
    receiver.subscribe(&topic, 0);
    let mut sender = Connect::v311(&unique("metrics")).open(gateway.mqtt());
    for _ in 0..25 {
        sender.publish(&Publish::new(&topic, "x").qos(1));
    }
    receiver.receive_texts(25);
    assert_eq!(gateway.metric("tidegate_connections", &[]), 2.0);
    assert_eq!(gateway.metric("tidegate_subscriptions", &[]), 1.0);
    let received = |qos: &str| gateway.metric("tidegate_messages_received_total", &[qos]);
    assert_eq!((received("qos=\"0\""), received("qos=\"1\"")), (0.0, 25.0));
    assert_eq!(
        gateway.metric("tidegate_messages_sent_total", &["qos=\"0\""]),
        25.0
    );
    assert_eq!(gateway.dropped(), 0);
    let body = get(gateway.http(), "/metrics").body;
    assert!(body.ends_with("# EOF\n"), "OpenMetrics ends so: {body}");
}

#[test]
fn the_same_address_can_be_bound_again_at_once() {
    let Some(mut gateway) = Gateway::configured("") else {
        return;
    };
    let address = gateway.mqtt();
    let _client = Connect::v311(&unique("first")).open(address);
    gateway.signal("TERM");
    assert!(gateway.wait(std::time::Duration::from_secs(10)).success());
    // Connections that linger in TIME_WAIT are no obstacle.
    let again = Gateway::configured(&format!(
        "[listeners.again]\nkind = \"mqtt\"\nbind = \"{address}\""
    ));
    let _again = again.unwrap();
    Connect::v311(&unique("second"))
        .open(address)
        .expect_nothing();
}

#[test]
fn several_listeners_are_one_bus() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let second = format!("[listeners.second]\nkind = \"mqtt\"\nbind = \"{port}\"");
    let Some(gateway) = Gateway::configured(&second) else {
        return;
    };
    let topic = unique("both");
    let mut receiver = Connect::v5(&unique("both")).open(port);
    receiver.subscribe(&topic, 1);
    let mut sender = Connect::new(Version::V31, &unique("both")).open(gateway.mqtt());
    sender.publish(&Publish::new(&topic, "across").qos(1));
    assert_eq!(receiver.receive().text(), "across");
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let (_, said) = does_not_start("[limits]\nmax_inflight = 5\n  no_such_limit = 3\n");
    assert!(said.contains("no_such_limit"), "{said}");
    assert!(said.contains("3:3"), "line and column: {said}");
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (_, said) = does_not_start(&format!(
        "[listeners.mqtt]\nbind = \"{address}\"\n[http]\nbind = \"127.0.0.1:0\""
    ));
    assert!(said.contains(&address.to_string()), "{said}");
}

#[test]
fn an_address_beyond_loopback_needs_a_word() {
    let (_, said) = does_not_start("[listeners.mqtt]\nbind = \"0.0.0.0:0\"");
    assert!(said.contains("allow_anonymous"), "{said}");
}

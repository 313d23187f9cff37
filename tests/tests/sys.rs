//! The `$SYS` tree: the gateway's own figures as messages, under the names that mosquitto gave them.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Client, Connect, Event, PATIENCE, Packet, Publish};
use tidegate_tests::{Gateway, unique};

/// A gateway that publishes its figures often.
#[track_caller]
fn gateway() -> Option<Gateway> {
    Gateway::configured("[telemetry]\nsys_interval = \"100ms\"")
}

/// The figures that come until `enough` of them is true, newest value of each.
#[track_caller]
fn figures(
    client: &mut Client,
    enough: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    let mut figures = BTreeMap::new();
    let end = Instant::now() + PATIENCE;
    while !enough(&figures) {
        assert!(Instant::now() < end, "{figures:#?}");
        if let Event::Packet(Packet::Publish(message)) = client.next(Duration::from_secs(1)) {
            let name = message
                .topic
                .strip_prefix("$SYS/broker/")
                .unwrap()
                .to_owned();
            figures.insert(name, message.text());
        }
    }
    figures
}

/// A figure as a number; `None` while it is not there.
fn value(figures: &BTreeMap<String, String>, name: &str) -> Option<f64> {
    figures.get(name)?.split(' ').next()?.parse().ok()
}

#[test]
fn the_tree_tells_what_the_specification_of_nobody_asks_but_everybody_reads() {
    let Some(gateway) = gateway() else { return };
    let mut client = Connect::v5(&unique("sys")).open(gateway.mqtt());
    client.subscribe("$SYS/#", 0);
    let names = [
        "version",
        "uptime",
        "clients/connected",
        "clients/total",
        "messages/received",
        "messages/sent",
        "bytes/received",
        "bytes/sent",
        "subscriptions/count",
        "retained messages/count",
        "load/messages/received/1min",
        "load/messages/received/5min",
        "load/messages/received/15min",
    ];
    let found = figures(&mut client, |found| {
        names.iter().all(|name| found.contains_key(*name))
    });
    for name in &names[1..] {
        assert!(
            value(&found, name).is_some_and(|value| value >= 0.0),
            "{name}: {:?}",
            found[*name]
        );
    }
    assert!(!found["version"].is_empty());
}

#[test]
fn the_figures_follow_what_happens() {
    let Some(gateway) = gateway() else { return };
    let topic = unique("follow");
    let mut client = Connect::v5(&unique("sys")).open(gateway.mqtt());
    client.subscribe("$SYS/#", 0);
    let mut others: Vec<Client> = (0..4)
        .map(|_| Connect::v311(&unique("other")).open(gateway.mqtt()))
        .collect();
    others[0].subscribe(&topic, 0);
    others[0].subscribe(&format!("{topic}/more"), 0);
    for number in 0..50 {
        others[1].publish(&Publish::new(&topic, number.to_string()).qos(1));
    }
    others[1].publish(&Publish::new(&unique("kept"), "x").qos(1).retain());
    figures(&mut client, |found| {
        value(found, "clients/connected") == Some(5.0)
            && value(found, "subscriptions/count") == Some(3.0)
            && value(found, "publish/messages/received") == Some(51.0)
            && value(found, "publish/messages/sent") >= Some(50.0)
    });
    others.truncate(1);
    figures(&mut client, |found| {
        value(found, "clients/connected") == Some(2.0)
    });
}

#[test]
fn the_figures_are_retained() {
    let Some(gateway) = gateway() else { return };
    let mut first = Connect::v5(&unique("sys")).open(gateway.mqtt());
    first.subscribe("$SYS/broker/version", 0);
    let version = first.receive();
    let mut second = Connect::v5(&unique("sys")).open(gateway.mqtt());
    second.subscribe("$SYS/broker/version", 0);
    let retained = second.receive();
    assert!(retained.retain);
    assert_eq!(retained.payload, version.payload);
}

#[test]
fn mqtt_4_7_2_1_the_tree_is_hidden_from_wildcards() {
    let Some(gateway) = gateway() else { return };
    let mut hidden = Connect::v5(&unique("hidden")).open(gateway.mqtt());
    hidden.subscribe("#", 0);
    hidden.subscribe("+/broker/version", 0);
    let mut shown = Connect::v5(&unique("shown")).open(gateway.mqtt());
    shown.subscribe("$SYS/broker/uptime", 0);
    // Several rounds have been published once the uptime came three times.
    shown.receive_texts(3);
    hidden.expect_nothing();
}

#[test]
fn clients_cannot_write_to_the_tree() {
    let Some(gateway) = gateway() else { return };
    let mut client = Connect::v5(&unique("feigns")).open(gateway.mqtt());
    let forged = Publish::new("$SYS/broker/version", "feigned")
        .qos(1)
        .retain();
    let refused = client.publish(&forged);
    assert_eq!(refused, 0x87, "not authorised");
    client.subscribe("$SYS/broker/version", 0);
    for text in client.receive_texts(3) {
        assert_ne!(text, "feigned");
    }
}

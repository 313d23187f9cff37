//! Sessions across connections (MQTT 5.0 sections 3.1.2.11.2, 3.14.2.2.2 and 4.1) where the gateway has a
//! choice or is told by its configuration. What the specification asks for is in the conformance suite.

use std::thread;
use std::time::Duration;

use tidegate_tests::wire::{Client, Connect, Property, Publish, Version, code, disconnect};
use tidegate_tests::{Gateway, unique};

#[track_caller]
fn client(gateway: &Gateway) -> Client {
    Connect::v5(&unique("sender")).open(gateway.mqtt())
}

#[test]
fn mqtt_4_1_qos_0_messages_do_not_wait_by_default() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("zero");
    let connect = Connect::lasting(Version::V5, &unique("zero"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "zero"));
    sender.publish(&Publish::new(&topic, "one").qos(1));
    let mut receiver = connect.open(gateway.mqtt());
    assert_eq!(receiver.receive().text(), "one");
    receiver.expect_nothing();
}

#[test]
fn mqtt_4_1_qos_0_messages_wait_where_that_is_configured() {
    let configured = Gateway::configured("[sessions]\nqueue_qos0_while_offline = true");
    let Some(gateway) = configured else { return };
    let topic = unique("zero");
    let connect = Connect::lasting(Version::V5, &unique("zero"));
    let mut receiver = connect.open(gateway.mqtt());
    receiver.subscribe(&topic, 1);
    receiver.disconnect();
    let mut sender = client(&gateway);
    sender.publish(&Publish::new(&topic, "zero"));
    sender.publish(&Publish::new(&topic, "one").qos(1));
    let mut receiver = connect.open(gateway.mqtt());
    assert_eq!(receiver.receive_texts(2), ["zero", "one"]);
}

#[test]
fn mqtt5_3_14_2_2_2_no_expiry_in_disconnect_where_connect_had_none() {
    let gateway = Gateway::start();
    let mut client = client(&gateway);
    client.send(&disconnect(0, &[Property::SessionExpiry(60)]));
    assert_eq!(client.expect_disconnect().code, code::PROTOCOL_ERROR);
}

#[test]
fn mqtt5_3_2_2_3_2_an_expiry_beyond_the_maximum_is_told() {
    let Some(gateway) = Gateway::configured("[sessions]\nmax_expiry = \"1h\"") else {
        return;
    };
    for asked in [3_601, u32::MAX] {
        let client = Connect::v5(&unique("long"))
            .expiry(asked)
            .open(gateway.mqtt());
        let told = &client.connack().properties;
        assert!(
            told.contains(&Property::SessionExpiry(3_600)),
            "{asked}: {told:?}"
        );
    }
    let client = Connect::v5(&unique("short"))
        .expiry(3_600)
        .open(gateway.mqtt());
    let differs =
        |property: &Property| matches!(property, Property::SessionExpiry(value) if *value != 3_600);
    assert!(!client.connack().properties.iter().any(differs));
}

#[test]
fn mqtt3_the_session_of_an_older_client_has_the_configured_expiry() {
    let Some(gateway) = Gateway::configured("[sessions]\nv3_expiry = \"1s\"") else {
        return;
    };
    let connect = Connect::lasting(Version::V311, &unique("older"));
    connect.open(gateway.mqtt()).disconnect();
    assert!(connect.open(gateway.mqtt()).session_present());
    thread::sleep(Duration::from_millis(2_500));
    assert!(!connect.open(gateway.mqtt()).session_present());
}

#[test]
fn mqtt_a_session_crosses_from_one_version_to_another() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("crosses"), unique("crosses/t"));
    let mut old = Connect::lasting(Version::V311, &id).open(gateway.mqtt());
    old.subscribe(&topic, 2);
    old.disconnect();
    let message = Publish::new(&topic, "queued")
        .qos(2)
        .with(Property::user("a", "b"));
    client(&gateway).publish(&message);
    let mut new = Connect::lasting(Version::V5, &id).open(gateway.mqtt());
    assert!(new.session_present());
    let received = new.receive();
    assert_eq!((received.text().as_str(), received.qos), ("queued", 2));
    assert_eq!(received.properties, [Property::user("a", "b")]);
}

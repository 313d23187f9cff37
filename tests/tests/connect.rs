//! CONNECT and CONNACK where the gateway chooses or is configured: MQTT 5.0 sections 3.1 and 3.2. What every
//! server is held to is in `tests/conformance`.

use tidegate_tests::wire::{Connect, Property, Publish, Version, auth, code};
use tidegate_tests::{Gateway, unique};

#[test]
fn mqtt5_4_13_each_end_of_a_connection_says_why() {
    let gateway = Gateway::start();
    let method = Property::AuthenticationMethod("SCRAM-SHA-256".into());

    let connect = Connect::v5(&unique("twice"));
    let mut client = connect.open(gateway.mqtt());
    client.send(&connect.encode());
    client.expect_end(code::PROTOCOL_ERROR);

    let mut old = connect.open(gateway.mqtt());
    let _new = connect.open(gateway.mqtt());
    old.expect_end(code::TAKEN_OVER);

    let silent = Connect::v5(&unique("silent")).keep_alive(1);
    silent.open(gateway.mqtt()).expect_end(code::KEEP_ALIVE);

    let with_method = Connect::v5(&unique("method")).with(method.clone());
    let refused = with_method.refused(gateway.mqtt());
    assert_eq!(refused.code, code::AUTH_METHOD);

    for reason in [0x18, 0x19] {
        let mut client = Connect::v5(&unique("auth")).open(gateway.mqtt());
        client.send(&auth(reason, std::slice::from_ref(&method)));
        client.expect_end(code::PROTOCOL_ERROR);
    }
}

#[test]
fn mqtt31_a_password_is_binary_as_in_later_versions() {
    let gateway = Gateway::start();
    let connect = Connect::new(Version::V31, &unique("binary"));
    let connect = connect.user_name("u").password(&[0xFF, 0x00, 0xFE, 0xC0]);
    connect.open(gateway.mqtt()).expect_nothing();
}

#[test]
fn a_disconnect_is_the_last_packet_that_is_processed() {
    let gateway = Gateway::start();
    let topic = unique("behind");
    let mut watcher = Connect::v5(&unique("watcher")).open(gateway.mqtt());
    watcher.subscribe(&topic, 0);
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("behind")).open(gateway.mqtt());
        let mut bytes = vec![0xE0, 0];
        bytes.extend(Publish::new(&topic, "must not pass").encode(version));
        client.send(&bytes);
        client.expect_close();
        watcher.expect_nothing();
    }
}

#[test]
fn mqtt5_3_2_2_21_the_server_keep_alive_is_told_and_used() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_keep_alive = \"1s\"") else {
        return;
    };
    for asked in [0, 600] {
        let id = unique("told");
        let mut client = Connect::v5(&id).keep_alive(asked).open(gateway.mqtt());
        let told = client
            .connack()
            .properties
            .contains(&Property::ServerKeepAlive(1));
        assert!(told, "{:?}", client.connack());
        client.expect_end(code::KEEP_ALIVE);
    }
}

#[test]
fn mqtt_3_1_3_5_client_ids_of_23_characters_and_more_are_taken() {
    let gateway = Gateway::start();
    for version in [Version::V311, Version::V5] {
        for length in [1, 23, 24, 200] {
            let id = "x".repeat(length);
            Connect::new(version, &id).open(gateway.mqtt()).disconnect();
        }
    }
}

#[test]
fn mqtt_3_1_4_3_a_takeover_crosses_versions_and_keeps_the_session() {
    let gateway = Gateway::start();
    let (id, topic) = (unique("crosses"), unique("crosses/t"));
    let mut old = Connect::lasting(Version::V5, &id).open(gateway.mqtt());
    old.subscribe(&topic, 1);
    let mut new = Connect::lasting(Version::V311, &id).open(gateway.mqtt());
    assert!(new.session_present());
    old.expect_end(code::TAKEN_OVER);
    new.publish(&Publish::new(&topic, "kept").qos(1));
    assert_eq!(new.receive().text(), "kept");
}

#[test]
fn mqtt5_3_2_2_the_connack_tells_what_the_server_can_do() {
    let gateway = Gateway::start();
    let client = Connect::v5(&unique("able")).open(gateway.mqtt());
    for property in &client.connack().properties {
        match property {
            // Absent means "yes"; everything here is supported, so 0 would be a lie.
            Property::RetainAvailable(value)
            | Property::WildcardAvailable(value)
            | Property::SubscriptionIdsAvailable(value)
            | Property::SharedAvailable(value) => assert_eq!(*value, 1, "{property:?}"),
            // 3.2.2.3.4: QoS 2 is said by saying nothing.
            Property::MaximumQos(_) => panic!("{property:?}"),
            Property::ReceiveMaximum(value) => assert!(*value > 0),
            Property::MaximumPacketSize(value) => assert!(*value > 0),
            _ => {}
        }
    }
}

#[test]
fn mqtt5_3_2_2_the_limits_of_the_connack_are_those_configured() {
    let limits = "[limits]\nreceive_maximum = 7\nmax_packet_size = 4321\ntopic_alias_maximum = 3";
    let Some(gateway) = Gateway::configured(limits) else {
        return;
    };
    let client = Connect::v5(&unique("limits")).open(gateway.mqtt());
    let properties = &client.connack().properties;
    for expected in [
        Property::ReceiveMaximum(7),
        Property::MaximumPacketSize(4321),
        Property::TopicAliasMaximum(3),
    ] {
        assert!(
            properties.contains(&expected),
            "{expected:?} in {properties:?}"
        );
    }
}

#[test]
fn mqtt5_3_2_2_3_15_response_information_is_told_to_those_who_ask() {
    let configured = Gateway::configured("[sessions]\nresponse_information = \"replies/here\"");
    let Some(gateway) = configured else { return };
    // What follows the configured beginning is the gateway's to choose.
    let information = |property: &Property| matches!(property, Property::ResponseInformation(text) if text.starts_with("replies/here"));
    for (asked, told) in [(None, false), (Some(0), false), (Some(1), true)] {
        let connect = Connect::v5(&unique("info"));
        let connect = match asked {
            Some(value) => connect.with(Property::RequestResponseInformation(value)),
            None => connect,
        };
        let client = connect.open(gateway.mqtt());
        let found = client.connack().properties.iter().any(information);
        assert_eq!(found, told, "asked: {asked:?}");
    }
}

#[test]
fn mqtt5_3_2_2_19_a_reason_is_left_out_where_it_would_not_fit() {
    let gateway = Gateway::start();
    // Five bytes are a CONNACK with no property at all.
    let connect = Connect::v5(&unique("tight"))
        .with(Property::MaximumPacketSize(5))
        .with(Property::AuthenticationMethod("none".into()));
    let refused = connect.refused(gateway.mqtt());
    assert_eq!(
        (refused.code, refused.properties),
        (code::AUTH_METHOD, vec![])
    );
}

#[test]
fn mqtt5_3_1_2_29_without_problem_information_no_reason_is_explained() {
    let limit = "[limits]\nmax_subscriptions_per_client = 1";
    let Some(gateway) = Gateway::configured(limit) else {
        return;
    };
    let connect = Connect::v5(&unique("terse")).with(Property::RequestProblemInformation(0));
    let mut client = connect.open(gateway.mqtt());
    let refused = client.subscribe_with(&[("a", 0), ("b", 0)], &[]);
    assert_eq!(
        (refused.codes, refused.properties),
        (vec![0, code::QUOTA], vec![])
    );
    let unknown = client.unsubscribe(&["never/subscribed"]);
    assert_eq!(
        (unknown.codes, unknown.properties),
        (vec![code::NO_SUBSCRIPTION], vec![])
    );
    client.send_publish(&Publish::new("nobody/listens", "x").qos(1).id(1));
    assert_eq!(client.await_puback(1).properties, []);
}

//! CONNECT and CONNACK: MQTT 5.0 sections 3.1 and 3.2, MQTT 3.1.1 sections 3.1 and 3.2.

use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{
    Client, Connect, Event, Packet, Property, Publish, Version, code, frame,
};
use tidegate_tests::{Gateway, unique};

/// A CONNECT body with this protocol name and level, a clean start and client id `c`.
fn raw_connect(name: &str, level: u8, flags: u8) -> Vec<u8> {
    let mut body = vec![0, name.len() as u8];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[level, flags, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(&[0, 1, b'c']);
    frame(0x10, &body)
}

#[test]
fn mqtt_3_1_every_version_connects_and_pings() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("hello")).open(gateway.mqtt());
        assert!(!client.session_present());
        client.expect_nothing();
        client.disconnect();
    }
}

#[test]
fn mqtt_3_1_0_1_the_first_packet_must_be_connect() {
    let gateway = Gateway::start();
    for bytes in [
        &[0xC0, 0][..],
        &[0x30, 3, 0, 1, b't'],
        &[0xE0, 0],
        &[0xF0, 0],
        &[0x40, 2, 0, 1],
    ] {
        let mut client = Client::dial(gateway.mqtt(), Version::V5);
        client.send(bytes);
        client.expect_close();
    }
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_is_a_protocol_error() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let connect = Connect::new(version, &unique("twice"));
        let mut client = connect.open(gateway.mqtt());
        client.send(&connect.encode());
        client.expect_end(code::PROTOCOL_ERROR);
    }
}

#[test]
fn mqtt_3_1_2_2_an_unknown_protocol_level_is_refused() {
    let gateway = Gateway::start();
    let mut client = Client::dial(gateway.mqtt(), Version::V311);
    client.send(&raw_connect("MQTT", 6, 2));
    // The answer, if there is one, has the form of whichever version the server knows.
    let mut seen = Vec::new();
    while let Some(bytes) = client.next_raw() {
        seen.extend_from_slice(&bytes);
    }
    let answered = match seen.as_slice() {
        [] | [0x20, 2, 0, 1] => true,
        answer => answer.starts_with(&[0x20]) && answer[2..4] == [0, code::UNSUPPORTED_VERSION],
    };
    assert!(answered, "{seen:02x?}");
}

#[test]
fn mqtt3_3_1_2_1_a_wrong_protocol_name_is_refused() {
    let gateway = Gateway::start();
    for (name, level) in [
        ("MQTT", 3),
        ("MQIsdp", 4),
        ("mqtt", 4),
        ("MQTTX", 4),
        ("", 4),
    ] {
        let mut client = Client::dial(gateway.mqtt(), Version::V311);
        client.send(&raw_connect(name, level, 2));
        let refused = client.expect_error();
        assert!(
            matches!(refused, None | Some(1 | 0x84)),
            "{name} {level}: {refused:?}"
        );
    }
}

#[test]
fn mqtt_3_1_2_3_the_reserved_flag_must_be_zero() {
    let gateway = Gateway::start();
    for (name, version) in [
        ("MQIsdp", Version::V31),
        ("MQTT", Version::V311),
        ("MQTT", Version::V5),
    ] {
        let mut client = Client::dial(gateway.mqtt(), version);
        client.send(&raw_connect(name, version.level(), 3));
        let refused = client.expect_error();
        if version == Version::V5 {
            assert!(
                matches!(refused, None | Some(code::MALFORMED)),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn mqtt_3_1_2_4_clean_start_discards_the_session() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let (id, topic) = (unique("clean"), unique("clean/t"));
        let mut client = Connect::lasting(version, &id).open(gateway.mqtt());
        client.subscribe(&topic, 1);
        client.disconnect();

        let client = Connect::new(version, &id).open(gateway.mqtt());
        assert!(!client.session_present(), "{version:?}");
        client.disconnect();
        let mut client = Connect::lasting(version, &id).open(gateway.mqtt());
        assert!(
            !client.session_present(),
            "{version:?}: a clean session leaves nothing behind"
        );
        client.publish(&Publish::new(&topic, "to nobody").qos(1));
        client.expect_nothing();
    }
}

#[test]
fn mqtt_3_1_2_5_without_clean_start_the_session_is_resumed() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let (id, topic) = (unique("resume"), unique("resume/t"));
        let mut client = Connect::lasting(version, &id).open(gateway.mqtt());
        assert!(
            !client.session_present(),
            "{version:?}: nothing to resume yet"
        );
        client.subscribe(&topic, 1);
        client.disconnect();

        let mut client = Connect::lasting(version, &id).open(gateway.mqtt());
        assert!(
            version == Version::V31 || client.session_present(),
            "{version:?}"
        );
        client.publish(&Publish::new(&topic, "still subscribed").qos(1));
        assert_eq!(client.receive().text(), "still subscribed", "{version:?}");
    }
}

#[test]
fn mqtt5_3_1_2_11_2_a_session_without_expiry_ends_with_its_connection() {
    let gateway = Gateway::start();
    let id = unique("ends");
    let mut client = Connect::v5(&id).open(gateway.mqtt());
    client.subscribe(&unique("ends/t"), 1);
    client.disconnect();
    assert!(
        !Connect::v5(&id)
            .resume()
            .open(gateway.mqtt())
            .session_present()
    );
}

#[test]
fn mqtt5_3_1_2_11_2_a_session_expires_after_its_interval() {
    let gateway = Gateway::start();
    let id = unique("expires");
    let mut client = Connect::v5(&id).expiry(1).open(gateway.mqtt());
    client.subscribe(&unique("expires/t"), 1);
    client.disconnect();
    // Time is what is tested: past the interval, and the second that a timer may be coarse.
    thread::sleep(Duration::from_millis(2_500));
    assert!(
        !Connect::v5(&id)
            .resume()
            .open(gateway.mqtt())
            .session_present()
    );
}

#[test]
fn mqtt5_3_1_2_11_2_a_session_outlives_a_shorter_absence() {
    let gateway = Gateway::start();
    let id = unique("outlives");
    Connect::v5(&id).expiry(30).open(gateway.mqtt()).vanish();
    thread::sleep(Duration::from_millis(1_200));
    assert!(
        Connect::v5(&id)
            .resume()
            .open(gateway.mqtt())
            .session_present()
    );
}

#[test]
fn mqtt_3_1_2_22_a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("silent"))
            .keep_alive(1)
            .open(gateway.mqtt());
        let since = Instant::now();
        match client.next(Duration::from_secs(10)) {
            Event::Packet(Packet::Disconnect(reason)) => {
                assert_eq!(reason.code, code::KEEP_ALIVE);
                client.expect_close();
            }
            // MQTT 5 leaves open whether a DISCONNECT comes before the close.
            Event::Closed => {}
            other => panic!("{version:?}: {other:?} after {:?}", since.elapsed()),
        }
        let waited = since.elapsed();
        assert!(
            waited >= Duration::from_millis(1_400),
            "{version:?}: closed after {waited:?}"
        );
        assert!(
            waited < Duration::from_secs(5),
            "{version:?}: closed after {waited:?}"
        );
    }
}

#[test]
fn mqtt_3_1_2_22_any_packet_keeps_a_client_alive() {
    let gateway = Gateway::start();
    let mut client = Connect::v311(&unique("alive"))
        .keep_alive(1)
        .open(gateway.mqtt());
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        thread::sleep(Duration::from_millis(700));
        client.send_publish(&Publish::new("alive/t", "here"));
    }
    client.expect_nothing();
}

#[test]
fn mqtt_3_1_2_22_keep_alive_zero_turns_it_off() {
    let gateway = Gateway::start();
    let mut client = Connect::v5(&unique("off"))
        .keep_alive(0)
        .open(gateway.mqtt());
    assert_eq!(client.next(Duration::from_secs(3)), Event::Silence);
    client.expect_nothing();
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
fn mqtt5_3_1_3_6_an_empty_client_id_is_assigned_one_that_can_be_used() {
    let gateway = Gateway::start();
    let assigned = |client: &Client| -> String {
        let properties = &client.connack().properties;
        let found = properties.iter().find_map(|property| match property {
            Property::AssignedClientId(id) => Some(id.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no id was assigned: {properties:?}"))
    };
    let first = Connect::v5("").expiry(60).open(gateway.mqtt());
    let second = Connect::v5("").open(gateway.mqtt());
    let id = assigned(&first);
    assert!(!id.is_empty());
    assert_ne!(id, assigned(&second), "each its own");
    first.disconnect();
    assert!(
        Connect::v5(&id)
            .resume()
            .open(gateway.mqtt())
            .session_present()
    );
}

#[test]
fn mqtt5_3_2_2_16_a_given_client_id_is_not_assigned() {
    let gateway = Gateway::start();
    let client = Connect::v5(&unique("given")).open(gateway.mqtt());
    let assigned = |property: &Property| matches!(property, Property::AssignedClientId(_));
    assert!(!client.connack().properties.iter().any(assigned));
}

#[test]
fn mqtt3_3_1_3_7_an_empty_client_id_needs_a_clean_session() {
    let gateway = Gateway::start();
    let mut client = Connect::v311("").open(gateway.mqtt());
    client.expect_nothing();
    assert_eq!(Connect::v311("").resume().refused(gateway.mqtt()).code, 2);
}

#[test]
fn mqtt31_an_empty_client_id_is_refused() {
    let gateway = Gateway::start();
    assert_eq!(
        Connect::new(Version::V31, "").refused(gateway.mqtt()).code,
        2
    );
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
fn mqtt_3_1_4_3_a_takeover_ends_the_older_connection() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let id = unique("taken");
        let mut first = Connect::new(version, &id).open(gateway.mqtt());
        let mut second = Connect::new(version, &id).open(gateway.mqtt());
        first.expect_end(code::TAKEN_OVER);
        second.expect_nothing();
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
fn mqtt_3_1_4_3_of_many_at_once_with_one_client_id_the_last_stays() {
    let gateway = Gateway::start();
    let id = unique("crowd");
    let server = gateway.mqtt();
    let clients: Vec<Client> = (0..16)
        .map(|_| {
            let mut client = Client::dial(server, Version::V5);
            client.send(&Connect::lasting(Version::V5, &id).encode());
            client
        })
        .collect();
    // All are under way at once. One that is replaced may hear so before its CONNACK or after.
    let mut alive = 0;
    for mut client in clients {
        let mut events = Vec::new();
        loop {
            match client.next(Duration::from_millis(400)) {
                Event::Packet(packet) => events.push(packet),
                Event::Closed => break,
                Event::Silence => {
                    client.expect_nothing();
                    alive += 1;
                    break;
                }
            }
        }
        for event in events {
            match event {
                Packet::ConnAck(answer) => assert_eq!(answer.code, 0),
                Packet::Disconnect(reason) => assert_eq!(reason.code, code::TAKEN_OVER),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(alive, 1);
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
fn mqtt5_3_1_2_28_no_response_information_unless_it_was_asked_for() {
    let gateway = Gateway::start();
    let client = Connect::v5(&unique("info")).open(gateway.mqtt());
    let told = |property: &Property| matches!(property, Property::ResponseInformation(_));
    assert!(!client.connack().properties.iter().any(told));
    // Asked for, it may be given or not (3.1.2.11.6); the request itself must be taken.
    let asked = Connect::v5(&unique("info")).with(Property::RequestResponseInformation(1));
    asked.open(gateway.mqtt()).disconnect();
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

#[test]
fn mqtt5_3_1_2_9_a_password_may_come_without_a_user_name() {
    let gateway = Gateway::start();
    let mut client = Connect::v5(&unique("token"))
        .password(b"secret")
        .open(gateway.mqtt());
    client.expect_nothing();
}

#[test]
fn mqtt_3_1_3_6_a_password_is_binary() {
    let gateway = Gateway::start();
    for version in Version::ALL {
        let connect = Connect::new(version, &unique("binary"));
        let connect = connect.user_name("u").password(&[0xFF, 0x00, 0xFE, 0xC0]);
        connect.open(gateway.mqtt()).expect_nothing();
    }
}

#[test]
fn mqtt3_3_1_2_22_a_password_needs_a_user_name() {
    let gateway = Gateway::start();
    let mut client = Client::dial(gateway.mqtt(), Version::V311);
    client.send(
        &Connect::v311(&unique("nameless"))
            .password(b"secret")
            .encode(),
    );
    client.expect_error();
}

#[test]
fn mqtt_3_1_a_connect_may_arrive_byte_by_byte() {
    let gateway = Gateway::start();
    let mut client = Client::dial(gateway.mqtt(), Version::V5);
    for byte in Connect::v5(&unique("crumbs")).encode() {
        client.send(&[byte]);
    }
    assert_eq!(client.expect_connack().code, 0);
}

#[test]
fn mqtt_3_1_4_a_client_need_not_wait_for_the_connack() {
    let gateway = Gateway::start();
    let topic = unique("eager");
    let mut client = Client::dial(gateway.mqtt(), Version::V311);
    let mut bytes = Connect::v311(&unique("eager")).encode();
    let mut subscribe = vec![0, 1, 0, topic.len() as u8];
    subscribe.extend_from_slice(topic.as_bytes());
    subscribe.push(0);
    bytes.extend(frame(0x82, &subscribe));
    bytes.extend(Publish::new(&topic, "early").encode(Version::V311));
    client.send(&bytes);
    assert_eq!(client.expect_connack().code, 0);
    let granted = client.expect("SUBACK", |packet| match packet {
        Packet::SubAck(answer) => Some(answer.codes.clone()),
        _ => None,
    });
    assert_eq!(granted, [0]);
    assert_eq!(client.expect_publish().text(), "early");
}

#[test]
fn mqtt5_3_1_4_6_nothing_after_a_refused_connect_is_processed() {
    let gateway = Gateway::start();
    let topic = unique("refused");
    let mut watcher = Connect::v5(&unique("watcher")).open(gateway.mqtt());
    watcher.subscribe(&topic, 0);
    let refused = Connect::v5(&unique("refused"))
        .with(Property::AuthenticationMethod("no-such-method".into()));
    let mut client = Client::dial(gateway.mqtt(), Version::V5);
    let mut bytes = refused.encode();
    bytes.extend(Publish::new(&topic, "must not pass").encode(Version::V5));
    client.send(&bytes);
    client.expect_error();
    watcher.expect_nothing();
}

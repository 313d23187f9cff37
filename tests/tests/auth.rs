//! Enhanced authentication: MQTT 5.0 sections 3.15 and 4.12. No method exists yet.

use tidegate_tests::wire::{Client, Connect, Property, Version, auth, code};
use tidegate_tests::{Gateway, unique};

fn method() -> Property {
    Property::AuthenticationMethod("SCRAM-SHA-256".into())
}

#[test]
fn mqtt5_4_12_0_1_a_method_that_is_not_supported_is_refused() {
    let gateway = Gateway::start();
    let connect = Connect::v5(&unique("method")).with(method());
    assert_eq!(connect.refused(gateway.mqtt()).code, code::AUTH_METHOD);
    let connect = connect.with(Property::AuthenticationData(b"client first".to_vec()));
    assert_eq!(connect.refused(gateway.mqtt()).code, code::AUTH_METHOD);
}

#[test]
fn mqtt5_3_1_2_11_10_data_without_a_method_is_a_protocol_error() {
    let gateway = Gateway::start();
    let connect = Connect::v5(&unique("data"));
    let connect = connect.with(Property::AuthenticationData(b"data".to_vec()));
    let mut client = Client::dial(gateway.mqtt(), Version::V5);
    client.send(&connect.encode());
    let refused = client.expect_error();
    let expected = [None, Some(code::PROTOCOL_ERROR), Some(code::MALFORMED)];
    assert!(expected.contains(&refused), "{refused:?}");
}

#[test]
fn mqtt5_4_12_an_auth_packet_after_a_connect_without_method_is_a_protocol_error() {
    let gateway = Gateway::start();
    for reason in [0x18, 0x19] {
        let mut client = Connect::v5(&unique("after")).open(gateway.mqtt());
        client.send(&auth(reason, &[method()]));
        assert_eq!(client.expect_disconnect().code, code::PROTOCOL_ERROR);
    }
}

#[test]
fn mqtt5_3_15_an_auth_packet_before_connect_closes_the_connection() {
    let gateway = Gateway::start();
    let mut client = Client::dial(gateway.mqtt(), Version::V5);
    client.send(&auth(0x18, &[method()]));
    client.expect_close();
}

#[test]
fn mqtt3_an_auth_packet_is_no_packet() {
    let gateway = Gateway::start();
    for version in [Version::V31, Version::V311] {
        let mut client = Connect::new(version, &unique("older")).open(gateway.mqtt());
        client.send(&[0xF0, 0x00]);
        client.expect_close();
    }
}

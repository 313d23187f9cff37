//! Every way to violate the specification with one packet: its own error, clause and reason code.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use tidegate_bus::{TopicFilterError, TopicNameError};
use tidegate_mqtt::codec::DecodeError as E;
use tidegate_mqtt::codec::Version::{V3_1, V3_1_1, V5};
use tidegate_mqtt::codec::{
    Connect, PacketType, PropertyId, PropertyScope, PublishProperties, ReasonCode, Split, Version,
    decode, split,
};

use ReasonCode::{MalformedPacket as Malformed, ProtocolError as Protocol};

/// A packet with a body of less than 128 bytes.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
    assert!(body.len() < 128);
    bytes.extend_from_slice(body);
    bytes
}

/// A CONNECT with its name, level, flags and what follows the keep alive.
fn connect(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0, u8::try_from(name.len()).unwrap()];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(rest);
    packet(0x10, &body)
}

fn outcome(version: Version, bytes: &[u8]) -> Result<(), E> {
    match split(bytes, 1_024)? {
        Split::Frame(frame) => decode(version, frame).map(|_| ()),
        Split::Incomplete { .. } => panic!("{bytes:02x?} is not a whole packet"),
    }
}

#[track_caller]
fn refused(version: Version, bytes: &[u8], error: E, clause: &str, reason: ReasonCode) {
    assert_eq!(outcome(version, bytes), Err(error));
    assert_eq!(error.clause(), clause);
    assert_eq!(error.reason_code(), reason);
    assert!(
        error.to_string().contains(clause),
        "{error} does not name {clause}"
    );
}

#[track_caller]
fn accepted(version: Version, bytes: &[u8]) {
    assert_eq!(outcome(version, bytes), Ok(()));
}

#[test]
fn section_2_1_2_packet_type_0_is_reserved() {
    let error = E::ReservedPacketType { number: 0 };
    for version in [V3_1, V3_1_1, V5] {
        refused(version, &[0x00, 0x00], error, "section 2.1.2", Malformed);
    }
    // One byte is enough.
    assert_eq!(split(&[0x00], 1_024), Err(error));
}

#[test]
fn section_2_1_2_auth_is_reserved_before_5() {
    let error = E::ReservedPacketType { number: 15 };
    for version in [V3_1, V3_1_1] {
        refused(version, &[0xf0, 0x00], error, "section 2.1.2", Malformed);
    }
    accepted(V5, &[0xf0, 0x00]);
}

#[test]
fn mqtt_2_1_3_1_flags_are_reserved() {
    use PacketType as P;
    let cases = [
        (P::Connect, 0, "MQTT-2.1.3-1"),
        (P::ConnAck, 0, "MQTT-2.1.3-1"),
        (P::PubAck, 0, "MQTT-2.1.3-1"),
        (P::PubRec, 0, "MQTT-2.1.3-1"),
        (P::PubRel, 2, "MQTT-3.6.1-1"),
        (P::PubComp, 0, "MQTT-2.1.3-1"),
        (P::Subscribe, 2, "MQTT-3.8.1-1"),
        (P::SubAck, 0, "MQTT-2.1.3-1"),
        (P::Unsubscribe, 2, "MQTT-3.10.1-1"),
        (P::UnsubAck, 0, "MQTT-2.1.3-1"),
        (P::PingReq, 0, "MQTT-2.1.3-1"),
        (P::PingResp, 0, "MQTT-2.1.3-1"),
        (P::Disconnect, 0, "MQTT-3.14.1-1"),
        (P::Auth, 0, "MQTT-3.15.1-1"),
    ];
    for (kind, required, clause) in cases {
        let error = E::ReservedFlags { packet: kind };
        for flags in (0..16).filter(|&flags| flags != required) {
            let first = (kind as u8) << 4 | flags;
            refused(V5, &[first, 0], error, clause, Malformed);
            refused(V3_1_1, &[first, 0], error, clause, Malformed);
            let dup_of_3_1 = required != 0 && flags == required | 0b1000;
            assert_eq!(
                split(&[first], 1_024).is_err(),
                !dup_of_3_1,
                "{kind} {flags}"
            );
        }
    }
}

#[test]
fn mqtt_3_1_dup_is_allowed_where_packets_are_sent_again() {
    let subscribe = packet(0x8a, &[0, 1, 0, 1, b'a', 0]);
    let unsubscribe = packet(0xaa, &[0, 1, 0, 1, b'a']);
    let pubrel = packet(0x6a, &[0, 1]);
    for bytes in [subscribe, unsubscribe, pubrel] {
        accepted(V3_1, &bytes);
        assert!(matches!(
            outcome(V3_1_1, &bytes),
            Err(E::ReservedFlags { .. })
        ));
        let mut other = bytes;
        other[0] ^= 0b0001;
        assert!(matches!(
            outcome(V3_1, &other),
            Err(E::ReservedFlags { .. })
        ));
    }
}

#[test]
fn mqtt_3_1_0_1_the_first_packet_is_connect() {
    let Split::Frame(frame) = split(&[0xc0, 0x00], 1_024).unwrap() else {
        panic!("the packet is whole");
    };
    let error = E::UnexpectedPacket {
        expected: PacketType::Connect,
        found: PacketType::PingReq,
    };
    assert_eq!(Connect::decode(frame), Err(error));
    assert_eq!(error.clause(), "MQTT-3.1.0-1");
    assert_eq!(error.reason_code(), Protocol);
    assert!(error.to_string().contains(error.clause()));
}

#[test]
fn section_3_1_2_11_4_too_large_before_the_body_arrives() {
    let error = E::PacketTooLarge {
        len: 102,
        maximum: 101,
    };
    assert_eq!(split(&[0x30, 100], 101), Err(error));
    assert_eq!(
        split(&[0x30, 100], 102),
        Ok(Split::Incomplete { needed: Some(102) })
    );
    assert_eq!(error.clause(), "section 3.1.2.11.4");
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
    assert!(error.to_string().contains(error.clause()));
    // The largest packet there is.
    assert_eq!(
        split(&[0x30, 0xff, 0xff, 0xff, 0x7f], u32::MAX),
        Ok(Split::Incomplete {
            needed: Some(268_435_460)
        })
    );
}

#[test]
fn mqtt_1_5_5_1_varints_are_minimal() {
    for bytes in [
        &[0xc0, 0x80, 0x00][..],
        &[0xc0, 0x80, 0x80, 0x00],
        &[0xc0, 0xff, 0x80, 0x80, 0x00],
    ] {
        refused(V5, bytes, E::VarintNotMinimal, "MQTT-1.5.5-1", Malformed);
    }
    let property_length = packet(0x30, &[0, 1, b'a', 0x80, 0x00]);
    refused(
        V5,
        &property_length,
        E::VarintNotMinimal,
        "MQTT-1.5.5-1",
        Malformed,
    );
    // The same rule for the identifier of a property and for a value.
    let identifier = packet(0x30, &[0, 1, b'a', 3, 0x81, 0x00, 0x00]);
    refused(
        V5,
        &identifier,
        E::VarintNotMinimal,
        "MQTT-1.5.5-1",
        Malformed,
    );
    let value = packet(0x30, &[0, 1, b'a', 3, 0x0b, 0x81, 0x00]);
    refused(V5, &value, E::VarintNotMinimal, "MQTT-1.5.5-1", Malformed);
}

#[test]
fn section_1_5_5_varints_have_four_bytes() {
    let bytes = [0xc0, 0x80, 0x80, 0x80, 0x80, 0x01];
    refused(V5, &bytes, E::VarintTooLong, "section 1.5.5", Malformed);
    assert_eq!(split(&bytes[..5], 1_024), Err(E::VarintTooLong));
}

#[test]
fn section_2_1_4_fields_end_with_the_packet() {
    let cases = [
        packet(0x10, &[0, 4, b'M', b'Q']),
        packet(0x20, &[0]),
        packet(0x30, &[0]),
        packet(0x30, &[0, 5, b'a']),
        packet(0x32, &[0, 1, b'a', 0]),
        packet(0x30, &[0, 1, b'a']),
        packet(0x30, &[0, 1, b'a', 0x80]),
        packet(0x40, &[0]),
        packet(0x82, &[0, 1, 0, 0, 1, b'a']),
        packet(0x82, &[0, 1, 0, 0, 2, b'a']),
        packet(0x90, &[0, 1]),
        packet(0xa2, &[0, 1, 0, 0, 2, b'a']),
        packet(0xb0, &[0]),
        packet(0xf0, &[0]),
    ];
    for bytes in cases {
        refused(V5, &bytes, E::UnexpectedEnd, "section 2.1.4", Malformed);
    }
}

#[test]
fn section_2_1_4_nothing_follows_the_last_field() {
    let v5 = [
        connect("MQTT", 5, 2, &[0, 0, 1, b'c', 9]),
        packet(0x20, &[0, 0, 0, 9]),
        packet(0x40, &[0, 1, 0, 0, 9]),
        packet(0xc0, &[9]),
        packet(0xd0, &[9]),
        packet(0xe0, &[0, 0, 9]),
        packet(0xf0, &[0, 0, 9]),
    ];
    for bytes in v5 {
        refused(V5, &bytes, E::TrailingBytes, "section 2.1.4", Malformed);
    }
    let v3 = [
        connect("MQTT", 4, 2, &[0, 1, b'c', 9]),
        packet(0x20, &[0, 0, 9]),
        packet(0x40, &[0, 1, 0]),
        packet(0x62, &[0, 1, 0]),
        packet(0xb0, &[0, 1, 0]),
        packet(0xe0, &[0]),
    ];
    for bytes in v3 {
        refused(V3_1_1, &bytes, E::TrailingBytes, "section 2.1.4", Malformed);
    }
}

#[test]
fn mqtt_1_5_4_1_strings_are_utf_8() {
    // A lone surrogate, an overlong form and a byte out of place.
    for text in [&[0xed, 0xa0, 0x80][..], &[0xc0, 0x80], &[0xff]] {
        let mut rest = vec![0, 0, u8::try_from(text.len()).unwrap()];
        rest.extend_from_slice(text);
        let bytes = connect("MQTT", 5, 2, &rest);
        refused(V5, &bytes, E::StringNotUtf8, "MQTT-1.5.4-1", Malformed);
    }
    let property = packet(0x30, &[0, 1, b'a', 4, 0x03, 0, 1, 0xff]);
    refused(V5, &property, E::StringNotUtf8, "MQTT-1.5.4-1", Malformed);
}

#[test]
fn mqtt_1_5_4_2_strings_hold_no_nul() {
    let bytes = connect("MQTT", 5, 2, &[0, 0, 1, 0]);
    refused(V5, &bytes, E::StringNul, "MQTT-1.5.4-2", Malformed);
    let filter = packet(0x82, &[0, 1, 0, 0, 2, b'a', 0, 0]);
    refused(V5, &filter, E::StringNul, "MQTT-1.5.4-2", Malformed);
    let user = packet(0x30, &[0, 1, b'a', 6, 0x26, 0, 0, 0, 1, 0]);
    refused(V5, &user, E::StringNul, "MQTT-1.5.4-2", Malformed);
}

#[test]
fn mqtt_2_2_1_3_packet_ids_are_not_0() {
    for (first, rest) in [
        (0x32, &[][..]),
        (0x34, &[]),
        (0x40, &[]),
        (0x50, &[]),
        (0x62, &[]),
        (0x70, &[]),
        (0x82, &[0, 0, 1, b'a', 0]),
        (0x90, &[0, 0]),
        (0xa2, &[0, 0, 1, b'a']),
        (0xb0, &[0, 0]),
    ] {
        let mut body = Vec::new();
        if first >> 4 == 3 {
            body.extend_from_slice(&[0, 1, b'a']);
        }
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(rest);
        let bytes = packet(first, &body);
        for version in [V3_1, V3_1_1, V5] {
            refused(version, &bytes, E::PacketIdZero, "MQTT-2.2.1-3", Protocol);
        }
    }
}

#[test]
fn section_2_4_reason_codes_belong_to_their_packets() {
    use PacketType as P;
    let cases = [
        (0x20, P::ConnAck, &[0][..], &[0][..], "MQTT-3.2.2-8"),
        (0x40, P::PubAck, &[0, 1], &[], "MQTT-3.4.2-1"),
        (0x50, P::PubRec, &[0, 1], &[], "MQTT-3.5.2-1"),
        (0x62, P::PubRel, &[0, 1], &[], "MQTT-3.6.2-1"),
        (0x70, P::PubComp, &[0, 1], &[], "MQTT-3.7.2-1"),
        (0x90, P::SubAck, &[0, 1, 0], &[], "MQTT-3.9.3-2"),
        (0xb0, P::UnsubAck, &[0, 1, 0], &[], "MQTT-3.11.3-2"),
        (0xe0, P::Disconnect, &[], &[], "MQTT-3.14.2-1"),
        (0xf0, P::Auth, &[], &[4, 0x15, 0, 1, b'm'], "MQTT-3.15.2-1"),
    ];
    for (first, kind, before, after, clause) in cases {
        for code in 0..=255 {
            let bytes = packet(first, &[before, &[code], after].concat());
            let allowed = ReasonCode::from_u8(code).is_some_and(|code| code.is_allowed_in(kind));
            if allowed {
                accepted(V5, &bytes);
            } else {
                let error = E::ReasonCodeNotAllowed { packet: kind, code };
                refused(V5, &bytes, error, clause, Protocol);
            }
        }
    }
}

#[test]
fn mqtt_3_9_3_2_of_3_1_1_suback_has_four_codes() {
    for code in 0..=255 {
        let bytes = packet(0x90, &[0, 1, code]);
        if matches!(code, 0 | 1 | 2 | 0x80) {
            accepted(V3_1_1, &bytes);
        } else {
            let packet = PacketType::SubAck;
            let error = E::ReasonCodeNotAllowed { packet, code };
            refused(V3_1_1, &bytes, error, "MQTT-3.9.3-2", Protocol);
        }
    }
}

#[test]
fn mqtt_3_9_3_1_and_3_11_3_1_there_is_a_reason_code_for_each_filter() {
    let error = E::ReasonCodesEmpty {
        packet: PacketType::SubAck,
    };
    refused(
        V5,
        &packet(0x90, &[0, 1, 0]),
        error,
        "MQTT-3.9.3-1",
        Protocol,
    );
    refused(
        V3_1_1,
        &packet(0x90, &[0, 1]),
        error,
        "MQTT-3.9.3-1",
        Protocol,
    );
    let error = E::ReasonCodesEmpty {
        packet: PacketType::UnsubAck,
    };
    refused(
        V5,
        &packet(0xb0, &[0, 1, 0]),
        error,
        "MQTT-3.11.3-1",
        Protocol,
    );
    accepted(V3_1_1, &packet(0xb0, &[0, 1]));
}

#[test]
fn section_2_2_2_1_properties_end_with_the_packet() {
    let error = E::PropertyLengthPastPacket;
    let bytes = packet(0x30, &[0, 1, b'a', 5, 0x01, 0x01]);
    refused(V5, &bytes, error, "section 2.2.2.1", Malformed);
    let bytes = packet(0xe0, &[0, 1]);
    refused(V5, &bytes, error, "section 2.2.2.1", Malformed);
}

#[test]
fn section_2_2_2_2_a_property_ends_with_the_properties() {
    // What would complete it follows, outside of the block.
    for block in [
        &[1, 0x01, 0x01][..],
        &[3, 0x02, 0, 0, 0, 0],
        &[4, 0x03, 0, 2, b'a', b'b'],
        &[2, 0x0b, 0x80, 0x01],
        &[4, 0x26, 0, 1, b'a', 0, 0],
    ] {
        let bytes = packet(0x30, &[&[0, 1, b'a'], block].concat());
        refused(
            V5,
            &bytes,
            E::PropertyPastBlock,
            "section 2.2.2.2",
            Malformed,
        );
    }
}

#[test]
fn section_2_2_2_2_unknown_properties() {
    for (block, number) in [
        (&[2, 0x7f, 1][..], 0x7f),
        (&[2, 0x00, 1], 0),
        (&[2, 0x0a, 1], 0x0a),
        (&[3, 0x81, 0x02, 1], 0x101),
    ] {
        let bytes = packet(0x30, &[&[0, 1, b'a'], block].concat());
        let error = E::PropertyUnknown { number };
        refused(V5, &bytes, error, "section 2.2.2.2", Malformed);
    }
}

#[test]
fn section_2_2_2_2_properties_belong_to_their_packets() {
    let bytes = packet(0x30, &[0, 1, b'a', 5, 0x11, 0, 0, 0, 1]);
    let error = E::PropertyNotAllowed {
        property: PropertyId::SessionExpiryInterval,
        scope: PropertyScope::Publish,
    };
    refused(V5, &bytes, error, "section 2.2.2.2", Malformed);
    // A reason string in an UNSUBSCRIBE.
    let bytes = packet(0xa2, &[0, 1, 3, 0x1f, 0, 0, 0, 1, b'a']);
    let error = E::PropertyNotAllowed {
        property: PropertyId::ReasonString,
        scope: PropertyScope::Unsubscribe,
    };
    refused(V5, &bytes, error, "section 2.2.2.2", Malformed);
    // The delay of a will outside of the will.
    let bytes = connect("MQTT", 5, 2, &[5, 0x18, 0, 0, 0, 1, 0, 1, b'c']);
    let error = E::PropertyNotAllowed {
        property: PropertyId::WillDelayInterval,
        scope: PropertyScope::Connect,
    };
    refused(V5, &bytes, error, "section 2.2.2.2", Malformed);
}

#[test]
fn section_2_2_2_2_properties_occur_once() {
    let bytes = packet(0x30, &[0, 1, b'a', 4, 0x01, 1, 0x01, 1]);
    let error = E::PropertyDuplicate {
        property: PropertyId::PayloadFormatIndicator,
    };
    refused(V5, &bytes, error, "section 2.2.2.2", Protocol);
    let bytes = packet(0x82, &[0, 1, 4, 0x0b, 1, 0x0b, 2, 0, 1, b'a', 0]);
    let error = E::PropertyDuplicate {
        property: PropertyId::SubscriptionIdentifier,
    };
    refused(V5, &bytes, error, "section 2.2.2.2", Protocol);
    // User properties everywhere, and subscription identifiers of a delivery, may repeat.
    accepted(V5, &packet(0x30, &[0, 1, b'a', 4, 0x0b, 1, 0x0b, 1]));
    accepted(
        V5,
        &packet(
            0xa2,
            &[0, 1, 10, 0x26, 0, 0, 0, 0, 0x26, 0, 0, 0, 0, 0, 1, b'a'],
        ),
    );
}

#[test]
fn sections_of_the_properties_that_are_0_or_1() {
    use PropertyId as P;
    for (property, clause) in [
        (P::PayloadFormatIndicator, "section 3.3.2.3.2"),
        (P::RequestResponseInformation, "section 3.1.2.11.6"),
        (P::RequestProblemInformation, "section 3.1.2.11.7"),
        (P::MaximumQos, "section 3.2.2.3.4"),
        (P::RetainAvailable, "section 3.2.2.3.5"),
        (P::WildcardSubscriptionAvailable, "section 3.2.2.3.11"),
        (P::SubscriptionIdentifierAvailable, "section 3.2.2.3.12"),
        (P::SharedSubscriptionAvailable, "section 3.2.2.3.13"),
    ] {
        let with = |value| {
            let block = [2, property as u8, value];
            if property == P::PayloadFormatIndicator {
                packet(0x30, &[&[0, 1, b'a'], &block[..]].concat())
            } else if PropertyScope::ConnAck.allows(property) {
                packet(0x20, &[&[0, 0], &block[..]].concat())
            } else {
                connect("MQTT", 5, 2, &[&block[..], &[0, 1, b'c']].concat())
            }
        };
        accepted(V5, &with(0));
        accepted(V5, &with(1));
        let error = E::PropertyFlagOutOfRange { property };
        refused(V5, &with(2), error, clause, Protocol);
    }
}

#[test]
fn section_3_8_2_1_2_subscription_identifiers_are_not_0() {
    let error = E::SubscriptionIdentifierZero;
    let bytes = packet(0x82, &[0, 1, 2, 0x0b, 0, 0, 1, b'a', 0]);
    refused(V5, &bytes, error, "section 3.8.2.1.2", Protocol);
    let bytes = packet(0x30, &[0, 1, b'a', 2, 0x0b, 0]);
    refused(V5, &bytes, error, "section 3.8.2.1.2", Protocol);
}

#[test]
fn section_3_1_2_11_3_receive_maximum_is_not_0() {
    let bytes = connect("MQTT", 5, 2, &[3, 0x21, 0, 0, 0, 1, b'c']);
    refused(
        V5,
        &bytes,
        E::ReceiveMaximumZero,
        "section 3.1.2.11.3",
        Protocol,
    );
}

#[test]
fn section_3_1_2_11_4_maximum_packet_size_is_not_0() {
    let bytes = connect("MQTT", 5, 2, &[5, 0x27, 0, 0, 0, 0, 0, 1, b'c']);
    refused(
        V5,
        &bytes,
        E::MaximumPacketSizeZero,
        "section 3.1.2.11.4",
        Protocol,
    );
}

#[test]
fn mqtt_3_3_2_8_topic_alias_is_not_0() {
    let bytes = packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 0]);
    let reason = ReasonCode::TopicAliasInvalid;
    refused(V5, &bytes, E::TopicAliasZero, "MQTT-3.3.2-8", reason);
}

#[test]
fn mqtt_4_7_3_1_response_topic_is_not_empty() {
    let bytes = packet(0x30, &[0, 1, b'a', 3, 0x08, 0, 0]);
    refused(V5, &bytes, E::ResponseTopicEmpty, "MQTT-4.7.3-1", Protocol);
}

#[test]
fn mqtt_3_3_2_14_response_topic_holds_no_wildcard() {
    let error = E::ResponseTopicWildcard;
    for wildcard in [b'+', b'#'] {
        let bytes = packet(0x30, &[0, 1, b'a', 4, 0x08, 0, 1, wildcard]);
        refused(V5, &bytes, error, "MQTT-3.3.2-14", Protocol);
        let will = [0, 0, 1, b'c', 4, 0x08, 0, 1, wildcard, 0, 1, b'w', 0, 0];
        refused(
            V5,
            &connect("MQTT", 5, 6, &will),
            error,
            "MQTT-3.3.2-14",
            Protocol,
        );
    }
}

#[test]
fn section_3_1_2_11_10_authentication_data_goes_with_a_method() {
    let error = E::AuthenticationDataWithoutMethod;
    let data = [4, 0x16, 0, 1, 9];
    for bytes in [
        connect("MQTT", 5, 2, &[&data[..], &[0, 1, b'c']].concat()),
        packet(0x20, &[&[0, 0], &data[..]].concat()),
        packet(0xf0, &[&[0x18], &data[..]].concat()),
    ] {
        refused(V5, &bytes, error, "section 3.1.2.11.10", Protocol);
    }
}

#[test]
fn section_3_15_2_2_2_auth_names_its_method() {
    let error = E::AuthenticationMethodMissing;
    for body in [&[0x18, 0][..], &[0x19, 0], &[0x00, 3, 0x1f, 0, 0]] {
        refused(
            V5,
            &packet(0xf0, body),
            error,
            "section 3.15.2.2.2",
            Protocol,
        );
    }
    accepted(V5, &packet(0xf0, &[]));
    accepted(V5, &packet(0xf0, &[0, 0]));
    accepted(V5, &packet(0xf0, &[0x19, 4, 0x15, 0, 1, b'm']));
}

#[test]
fn mqtt_3_1_2_1_and_2_unknown_names_and_levels() {
    let reason = ReasonCode::UnsupportedProtocolVersion;
    for (name, level) in [
        ("MQTT", 3),
        ("MQTT", 6),
        ("MQTT", 0x84),
        ("MQIsdp", 4),
        ("mqtt", 5),
        ("", 0),
    ] {
        let error = E::UnsupportedProtocolVersion { level };
        // What follows is not looked at: it may mean anything.
        let bytes = connect(name, level, 0xff, &[1, 2, 3]);
        refused(V5, &bytes, error, "MQTT-3.1.2-2", reason);
    }
}

#[test]
fn mqtt_3_1_2_3_the_reserved_connect_flag_is_0() {
    for (name, level) in [("MQIsdp", 3), ("MQTT", 4), ("MQTT", 5)] {
        let bytes = connect(name, level, 3, &[0, 0, 1, b'c']);
        refused(
            V5,
            &bytes,
            E::ConnectReservedFlag,
            "MQTT-3.1.2-3",
            Malformed,
        );
    }
}

#[test]
fn mqtt_3_1_2_11_no_will_qos_without_will() {
    let bytes = connect("MQTT", 5, 0b0000_1010, &[0, 0, 1, b'c']);
    refused(
        V5,
        &bytes,
        E::WillQosWithoutWill,
        "MQTT-3.1.2-11",
        Malformed,
    );
    let bytes = connect("MQTT", 4, 0b0001_0010, &[0, 1, b'c']);
    refused(
        V5,
        &bytes,
        E::WillQosWithoutWill,
        "MQTT-3.1.2-11",
        Malformed,
    );
    // MQTT 3.1 disregards it.
    accepted(V3_1, &connect("MQIsdp", 3, 0b0001_1010, &[0, 1, b'c']));
}

#[test]
fn mqtt_3_1_2_13_no_will_retain_without_will() {
    let bytes = connect("MQTT", 5, 0b0010_0010, &[0, 0, 1, b'c']);
    refused(
        V5,
        &bytes,
        E::WillRetainWithoutWill,
        "MQTT-3.1.2-13",
        Malformed,
    );
    let bytes = connect("MQTT", 4, 0b0010_0010, &[0, 1, b'c']);
    refused(
        V5,
        &bytes,
        E::WillRetainWithoutWill,
        "MQTT-3.1.2-13",
        Malformed,
    );
    accepted(V3_1, &connect("MQIsdp", 3, 0b0010_0010, &[0, 1, b'c']));
}

#[test]
fn mqtt_3_1_2_12_will_qos_is_not_3() {
    let will = [0, 0, 1, b'c', 0, 0, 1, b'w', 0, 0];
    accepted(V5, &connect("MQTT", 5, 0b0001_0110, &will));
    let bytes = connect("MQTT", 5, 0b0001_1110, &will);
    refused(V5, &bytes, E::WillQos3, "MQTT-3.1.2-12", Malformed);
}

#[test]
fn mqtt_3_1_2_22_of_3_1_1_no_password_without_user_name() {
    let rest = [0, 1, b'c', 0, 1, b'p'];
    let error = E::PasswordWithoutUserName;
    for (name, level) in [("MQIsdp", 3), ("MQTT", 4)] {
        let bytes = connect(name, level, 0b0100_0010, &rest);
        refused(V3_1_1, &bytes, error, "MQTT-3.1.2-22 (3.1.1)", Protocol);
    }
    accepted(
        V5,
        &connect("MQTT", 5, 0b0100_0010, &[&[0], &rest[..]].concat()),
    );
}

#[test]
fn mqtt_3_2_2_1_connack_flags_are_reserved() {
    for flags in 2..=255 {
        let error = E::ConnAckReservedFlags;
        refused(
            V5,
            &packet(0x20, &[flags, 0, 0]),
            error,
            "MQTT-3.2.2-1",
            Malformed,
        );
        refused(
            V3_1_1,
            &packet(0x20, &[flags, 0]),
            error,
            "MQTT-3.2.2-1",
            Malformed,
        );
        // MQTT 3.1 has no flags there and no rule for the byte.
        accepted(V3_1, &packet(0x20, &[flags, 0]));
    }
}

#[test]
fn mqtt_3_2_2_6_a_refusal_has_no_session_present() {
    let error = E::SessionPresentOnRefusal;
    refused(
        V5,
        &packet(0x20, &[1, 0x87, 0]),
        error,
        "MQTT-3.2.2-6",
        Protocol,
    );
    refused(
        V3_1_1,
        &packet(0x20, &[1, 5]),
        error,
        "MQTT-3.2.2-6",
        Protocol,
    );
}

#[test]
fn section_3_2_2_3_of_3_1_1_return_codes_above_5_are_reserved() {
    for version in [V3_1, V3_1_1] {
        accepted(version, &packet(0x20, &[0, 5]));
        let error = E::ConnectReturnCodeReserved { code: 6 };
        refused(
            version,
            &packet(0x20, &[0, 6]),
            error,
            "section 3.2.2.3 (3.1.1)",
            Protocol,
        );
    }
}

#[test]
fn mqtt_3_3_1_4_publish_qos_is_not_3() {
    for version in [V3_1, V3_1_1, V5] {
        let bytes = packet(0x36, &[0, 1, b'a', 0, 1, 0]);
        refused(version, &bytes, E::PublishQos3, "MQTT-3.3.1-4", Malformed);
    }
    assert_eq!(split(&[0x3f], 1_024), Err(E::PublishQos3));
}

#[test]
fn mqtt_3_3_1_2_no_dup_with_qos_0() {
    let bytes = packet(0x38, &[0, 1, b'a', 0]);
    refused(V5, &bytes, E::PublishDupQos0, "MQTT-3.3.1-2", Protocol);
    refused(V3_1_1, &bytes, E::PublishDupQos0, "MQTT-3.3.1-2", Protocol);
    accepted(V3_1, &bytes);
}

#[test]
fn section_3_3_2_1_publish_has_a_topic_or_an_alias() {
    let bytes = packet(0x30, &[0, 0, 0]);
    refused(
        V5,
        &bytes,
        E::TopicAndAliasMissing,
        "section 3.3.2.1",
        Protocol,
    );
    accepted(V5, &packet(0x30, &[0, 0, 3, 0x23, 0, 1]));
}

#[test]
fn mqtt_4_7_3_1_topic_names_are_not_empty() {
    let error = E::TopicName(TopicNameError::Empty);
    let reason = ReasonCode::TopicNameInvalid;
    refused(
        V3_1_1,
        &packet(0x30, &[0, 0]),
        error,
        "MQTT-4.7.3-1",
        reason,
    );
    let will = [0, 0, 1, b'c', 0, 0, 0, 0, 0];
    refused(
        V5,
        &connect("MQTT", 5, 6, &will),
        error,
        "MQTT-4.7.3-1",
        reason,
    );
}

#[test]
fn mqtt_3_3_2_2_topic_names_hold_no_wildcard() {
    let error = E::TopicName(TopicNameError::Wildcard);
    let reason = ReasonCode::TopicNameInvalid;
    for wildcard in [b'+', b'#'] {
        let bytes = packet(0x30, &[0, 1, wildcard, 0]);
        refused(V5, &bytes, error, "MQTT-3.3.2-2", reason);
        refused(V3_1_1, &bytes, error, "MQTT-3.3.2-2", reason);
    }
    let will = [0, 1, b'c', 0, 1, b'#', 0, 0];
    refused(
        V3_1_1,
        &connect("MQTT", 4, 6, &will),
        error,
        "MQTT-3.3.2-2",
        reason,
    );
}

#[test]
fn mqtt_3_3_2_1_and_4_7_3_2_topic_names_are_utf_8_without_nul() {
    let error = E::TopicName(TopicNameError::NotUtf8);
    refused(
        V5,
        &packet(0x30, &[0, 1, 0xff, 0]),
        error,
        "MQTT-3.3.2-1",
        Malformed,
    );
    let error = E::TopicName(TopicNameError::Nul);
    refused(
        V5,
        &packet(0x30, &[0, 1, 0, 0]),
        error,
        "MQTT-4.7.3-2",
        Malformed,
    );
}

#[test]
fn mqtt_3_8_3_2_subscribe_has_a_filter() {
    refused(
        V5,
        &packet(0x82, &[0, 1, 0]),
        E::SubscribeEmpty,
        "MQTT-3.8.3-2",
        Protocol,
    );
    refused(
        V3_1_1,
        &packet(0x82, &[0, 1]),
        E::SubscribeEmpty,
        "MQTT-3.8.3-2",
        Protocol,
    );
}

#[test]
fn mqtt_3_10_3_2_unsubscribe_has_a_filter() {
    let error = E::UnsubscribeEmpty;
    refused(
        V5,
        &packet(0xa2, &[0, 1, 0]),
        error,
        "MQTT-3.10.3-2",
        Protocol,
    );
    refused(
        V3_1_1,
        &packet(0xa2, &[0, 1]),
        error,
        "MQTT-3.10.3-2",
        Protocol,
    );
}

#[test]
fn mqtt_4_7_1_and_4_8_2_topic_filters() {
    let reason = ReasonCode::TopicFilterInvalid;
    for (filter, error, clause) in [
        ("", TopicFilterError::Empty, "MQTT-4.7.3-1"),
        ("a#", TopicFilterError::MultiLevelWildcard, "MQTT-4.7.1-1"),
        ("#/a", TopicFilterError::MultiLevelWildcard, "MQTT-4.7.1-1"),
        ("a+", TopicFilterError::SingleLevelWildcard, "MQTT-4.7.1-2"),
        ("$share/g", TopicFilterError::Share, "MQTT-4.8.2-1"),
    ] {
        let error = E::TopicFilter(error);
        let mut body = vec![0, 1, 0, 0, u8::try_from(filter.len()).unwrap()];
        body.extend_from_slice(filter.as_bytes());
        refused(V5, &packet(0xa2, &body), error, clause, reason);
        body.push(0);
        refused(V5, &packet(0x82, &body), error, clause, reason);
    }
}

#[test]
fn mqtt_3_8_3_5_subscription_options_are_reserved() {
    let error = E::SubscriptionOptionsReserved;
    for bit in 0..8 {
        let options = 1 << bit;
        let v5 = packet(0x82, &[0, 1, 0, 0, 1, b'a', options]);
        if bit < 6 {
            accepted(V5, &v5);
        } else {
            refused(V5, &v5, error, "MQTT-3.8.3-5", Malformed);
        }
        let v3 = packet(0x82, &[0, 1, 0, 1, b'a', options]);
        if bit < 2 {
            accepted(V3_1_1, &v3);
        } else {
            refused(V3_1_1, &v3, error, "MQTT-3.8.3-5", Malformed);
        }
    }
}

#[test]
fn section_3_8_3_1_subscription_qos_is_not_3() {
    let error = E::SubscriptionQos3;
    let bytes = packet(0x82, &[0, 1, 0, 0, 1, b'a', 3]);
    refused(V5, &bytes, error, "section 3.8.3.1", Protocol);
    let bytes = packet(0x82, &[0, 1, 0, 1, b'a', 3]);
    refused(V3_1_1, &bytes, error, "section 3.8.3.1", Protocol);
}

#[test]
fn section_3_8_3_1_retain_handling_is_not_3() {
    let bytes = packet(0x82, &[0, 1, 0, 0, 1, b'a', 0x30]);
    refused(V5, &bytes, E::RetainHandling3, "section 3.8.3.1", Protocol);
}

#[test]
fn mqtt_3_8_3_4_no_local_is_not_for_shared_subscriptions() {
    let mut body = vec![0, 1, 0, 0, 10];
    body.extend_from_slice(b"$share/g/a\x04");
    refused(
        V5,
        &packet(0x82, &body),
        E::NoLocalOnShared,
        "MQTT-3.8.3-4",
        Protocol,
    );
    // `$share` alone is a filter like any other.
    let mut body = vec![0, 1, 0, 0, 6];
    body.extend_from_slice(b"$share\x04");
    accepted(V5, &packet(0x82, &body));
}

#[test]
fn property_blocks_are_checked_without_a_packet_too() {
    assert_eq!(PublishProperties::parse(&[0x01]), Err(E::PropertyPastBlock));
    assert_eq!(
        PublishProperties::parse(&[0x23, 0, 0]),
        Err(E::TopicAliasZero)
    );
    assert_eq!(PublishProperties::parse(&[]), Ok(PublishProperties::EMPTY));
}

//! What valid packets mean, byte by byte: the short forms, the differences between the versions, and
//! what a delivery takes over from a PUBLISH.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::num::{NonZeroU16, NonZeroU32};

use tidegate_bus::{QoS, TopicName};
use tidegate_mqtt::codec::{
    Ack, AckType, Auth, ConnAck, Connect, ConnectReturnCode, Disconnect, Packet, PacketType,
    Properties, Property, PropertyBlock, PropertyId, PropertyScope, PublishHeader,
    PublishProperties, ReasonCode, RetainHandling, Split, SubscriptionOptions, Version, decode,
    split, varint,
};

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

#[track_caller]
fn decoded(version: Version, bytes: &[u8]) -> Packet<'_> {
    let Split::Frame(frame) = split(bytes, u32::MAX).unwrap() else {
        panic!("the packet is whole");
    };
    decode(version, frame).unwrap()
}

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

fn id(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).unwrap()
}

fn block(properties: &[Property<'_>]) -> PropertyBlock {
    let mut block = PropertyBlock::new();
    block.extend(properties.iter().copied());
    block
}

#[test]
fn section_1_5_5_table_1_1_of_varints() {
    for (value, bytes) in [
        (0, &[0x00][..]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
        (varint::MAX, &[0xff, 0xff, 0xff, 0x7f]),
    ] {
        let mut out = Vec::new();
        varint::put(value, &mut out);
        assert_eq!(out, bytes);
        assert_eq!(varint::len(value), bytes.len());
        assert_eq!(varint::decode(bytes), Ok(Some((value, bytes.len()))));
        assert_eq!(varint::decode(&bytes[..bytes.len() - 1]), Ok(None));
    }
}

#[test]
fn split_says_how_much_is_needed_once_it_knows() {
    let needed = |needed| Ok(Split::Incomplete { needed });
    assert_eq!(split(&[], 100), needed(None));
    assert_eq!(split(&[0x30], 100), needed(None));
    assert_eq!(split(&[0x30, 0x80], 300), needed(None));
    assert_eq!(split(&[0x30, 0x80, 0x01], 300), needed(Some(131)));
    // Only the first packet of several is taken.
    let Ok(Split::Frame(frame)) = split(&[0xc0, 0, 0xd0, 0], 100) else {
        panic!("the first packet is whole");
    };
    assert_eq!(
        (frame.len, frame.packet_type()),
        (2, Some(PacketType::PingReq))
    );
}

#[test]
fn mqtt_3_1_remaining_length_takes_precedence_over_user_name_and_password_flags() {
    let head = [
        0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 0xc2, 0, 60, 0, 1, b'c',
    ];
    let both = [&[0x10, 21][..], &head, &[0, 1, b'u', 0, 1, b'p']].concat();
    let name = [&[0x10, 18][..], &head, &[0, 1, b'u']].concat();
    let neither = [&[0x10, 15][..], &head].concat();
    for (bytes, user_name, password) in [
        (both, Some("u"), Some(&b"p"[..])),
        (name, Some("u"), None),
        (neither, None, None),
    ] {
        let Packet::Connect(connect) = decoded(Version::V3_1, &bytes) else {
            panic!("it is a CONNECT");
        };
        assert_eq!(connect.version, Version::V3_1);
        assert_eq!((connect.user_name, connect.password), (user_name, password));
    }
}

#[test]
fn connect_says_its_version_itself() {
    for version in VERSIONS {
        let connect = Connect {
            version,
            clean_start: false,
            keep_alive: 10,
            client_id: "",
            will: None,
            user_name: None,
            password: None,
            properties: Properties::EMPTY,
        };
        for other in VERSIONS {
            let bytes = encoded(other, &Packet::Connect(connect));
            assert_eq!(decoded(other, &bytes), Packet::Connect(connect));
        }
    }
}

#[test]
fn sections_3_4_to_3_7_short_forms_of_acknowledgements() {
    let properties = block(&[Property::ReasonString("no")]);
    let cases = [
        (AckType::PubAck, 0x40, ReasonCode::QuotaExceeded),
        (AckType::PubRec, 0x50, ReasonCode::QuotaExceeded),
        (AckType::PubRel, 0x62, ReasonCode::PacketIdentifierNotFound),
        (AckType::PubComp, 0x70, ReasonCode::PacketIdentifierNotFound),
    ];
    for (kind, first, reason) in cases {
        let code = reason.as_u8();
        let success = Ack::success(id(0x0102));
        let failure = Ack::with_reason(id(0x0102), reason);
        let explained = Ack {
            properties: properties.as_properties(),
            ..failure
        };
        for (ack, v5) in [
            (success, &[first, 2, 1, 2][..]),
            (failure, &[first, 3, 1, 2, code]),
            (
                explained,
                &[first, 9, 1, 2, code, 5, 0x1f, 0, 2, b'n', b'o'],
            ),
        ] {
            let mut out = Vec::new();
            ack.encode(kind, Version::V5, &mut out);
            assert_eq!(out, v5);
            out.clear();
            ack.encode(kind, Version::V3_1_1, &mut out);
            assert_eq!(out, [first, 2, 1, 2]);
        }
    }
    // The long forms of success are read as well.
    for bytes in [&[0x40, 3, 1, 2, 0][..], &[0x40, 4, 1, 2, 0, 0]] {
        assert_eq!(
            decoded(Version::V5, bytes),
            Packet::PubAck(Ack::success(id(0x0102)))
        );
    }
}

#[test]
fn section_3_14_2_1_disconnect_of_every_length() {
    let properties = block(&[Property::SessionExpiryInterval(9)]);
    let normal = Disconnect::default();
    let will = Disconnect::with_reason(ReasonCode::DisconnectWithWill);
    let expiring = Disconnect {
        properties: properties.as_properties(),
        ..normal
    };
    for (bytes, expected) in [
        (&[0xe0, 0][..], normal),
        (&[0xe0, 1, 0], normal),
        (&[0xe0, 1, 4], will),
        (&[0xe0, 2, 4, 0], will),
        (&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9], expiring),
    ] {
        assert_eq!(decoded(Version::V5, bytes), Packet::Disconnect(expected));
    }
    assert_eq!(encoded(Version::V5, &Packet::Disconnect(normal)), [0xe0, 0]);
    assert_eq!(
        encoded(Version::V5, &Packet::Disconnect(will)),
        [0xe0, 1, 4]
    );
    assert_eq!(
        encoded(Version::V3_1_1, &Packet::Disconnect(will)),
        [0xe0, 0]
    );
}

#[test]
fn section_3_15_auth_exists_in_5_only() {
    let auth = Packet::Auth(Auth::default());
    assert_eq!(encoded(Version::V5, &auth), [0xf0, 0]);
    assert_eq!(encoded(Version::V3_1_1, &auth), []);
}

#[test]
fn section_3_2_2_3_of_3_1_1_the_nearest_return_code() {
    use ConnectReturnCode as C;
    for (reason, code) in [
        (ReasonCode::Success, C::Accepted),
        (
            ReasonCode::UnsupportedProtocolVersion,
            C::UnacceptableProtocolVersion,
        ),
        (ReasonCode::ClientIdentifierNotValid, C::IdentifierRejected),
        (ReasonCode::BadUserNameOrPassword, C::BadUserNameOrPassword),
        (
            ReasonCode::BadAuthenticationMethod,
            C::BadUserNameOrPassword,
        ),
        (ReasonCode::NotAuthorized, C::NotAuthorized),
        (ReasonCode::Banned, C::NotAuthorized),
        (ReasonCode::ServerUnavailable, C::ServerUnavailable),
        (ReasonCode::ServerBusy, C::ServerUnavailable),
        (ReasonCode::QuotaExceeded, C::ServerUnavailable),
    ] {
        assert_eq!(C::from(reason), code);
        let ack = ConnAck {
            session_present: true,
            reason,
            properties: Properties::EMPTY,
        };
        let present = u8::from(code == C::Accepted);
        let bytes = encoded(Version::V3_1_1, &Packet::ConnAck(ack));
        assert_eq!(bytes, [0x20, 2, present, code.as_u8()]);
        // MQTT 3.1 does not know Session Present.
        let bytes = encoded(Version::V3_1, &Packet::ConnAck(ack));
        assert_eq!(bytes, [0x20, 2, 0, code.as_u8()]);
    }
    for code in (0..=5).filter_map(C::from_u8) {
        assert_eq!(C::from_reason(code.to_reason()), code);
    }
    assert_eq!(C::from_u8(6), None);
}

#[test]
fn section_2_4_reason_codes_have_their_numbers() {
    let known: Vec<_> = (0..=255).filter_map(ReasonCode::from_u8).collect();
    assert_eq!(known.len(), 43);
    for code in known {
        assert_eq!(ReasonCode::from_u8(code.as_u8()), Some(code));
        assert_eq!(code.is_error(), code.as_u8() >= 0x80);
    }
    assert_eq!(ReasonCode::granted(QoS::AtMostOnce).as_u8(), 0);
    assert_eq!(ReasonCode::granted(QoS::AtLeastOnce).as_u8(), 1);
    assert_eq!(ReasonCode::granted(QoS::ExactlyOnce).as_u8(), 2);
}

#[test]
fn section_3_8_3_1_subscription_options() {
    let bytes = [0x82, 8, 0, 1, 0, 0, 2, b'a', b'b', 0b0010_1110];
    let Packet::Subscribe(subscribe) = decoded(Version::V5, &bytes) else {
        panic!("it is a SUBSCRIBE");
    };
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    assert!(subscribe.filters.iter().eq([("ab", options)]));
    // Of these only the QoS is known to older versions.
    let v3 = encoded(Version::V3_1_1, &Packet::Subscribe(subscribe));
    assert_eq!(v3, [0x82, 7, 0, 1, 0, 2, b'a', b'b', 2]);
}

#[test]
fn table_2_4_which_packet_carries_which_property() {
    use PropertyScope as S;
    let scopes = [
        (S::Connect, "11 15 16 17 19 21 22 26 27"),
        (S::Will, "01 02 03 08 09 18 26"),
        (
            S::ConnAck,
            "11 12 13 15 16 1a 1c 1f 21 22 24 25 26 27 28 29 2a",
        ),
        (S::Publish, "01 02 03 08 09 0b 23 26"),
        (S::Ack, "1f 26"),
        (S::Subscribe, "0b 26"),
        (S::SubAck, "1f 26"),
        (S::Unsubscribe, "26"),
        (S::UnsubAck, "1f 26"),
        (S::Disconnect, "11 1c 1f 26"),
        (S::Auth, "15 16 1f 26"),
    ];
    for (scope, expected) in scopes {
        let allowed: Vec<_> = (0..=255)
            .filter_map(PropertyId::from_u8)
            .filter(|&property| scope.allows(property))
            .map(|property| format!("{:02x}", property as u8))
            .collect();
        assert_eq!(allowed.join(" "), expected, "{scope:?}");
    }
    assert_eq!((0..=255).filter_map(PropertyId::from_u8).count(), 27);
}

#[test]
fn properties_have_a_getter_each() {
    let connack = block(&[
        Property::SessionExpiryInterval(1),
        Property::AssignedClientIdentifier("client"),
        Property::ServerKeepAlive(2),
        Property::AuthenticationMethod("method"),
        Property::AuthenticationData(b"data"),
        Property::ResponseInformation("information"),
        Property::ServerReference("reference"),
        Property::ReasonString("reason"),
        Property::ReceiveMaximum(id(3)),
        Property::TopicAliasMaximum(4),
        Property::MaximumQos(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::UserProperty("b", "1"),
        Property::MaximumPacketSize(NonZeroU32::new(5).unwrap()),
        Property::UserProperty("a", "2"),
        Property::WildcardSubscriptionAvailable(true),
        Property::SubscriptionIdentifierAvailable(false),
        Property::SharedSubscriptionAvailable(true),
        Property::UserProperty("b", "1"),
    ]);
    let found = Properties::parse(PropertyScope::ConnAck, connack.raw()).unwrap();
    assert_eq!(found, connack.as_properties());
    assert_eq!(found.session_expiry_interval(), Some(1));
    assert_eq!(found.assigned_client_identifier(), Some("client"));
    assert_eq!(found.server_keep_alive(), Some(2));
    assert_eq!(found.authentication_method(), Some("method"));
    assert_eq!(found.authentication_data(), Some(&b"data"[..]));
    assert_eq!(found.response_information(), Some("information"));
    assert_eq!(found.server_reference(), Some("reference"));
    assert_eq!(found.reason_string(), Some("reason"));
    assert_eq!(found.receive_maximum(), Some(id(3)));
    assert_eq!(found.topic_alias_maximum(), Some(4));
    assert_eq!(found.maximum_qos(), Some(QoS::AtLeastOnce));
    assert_eq!(found.retain_available(), Some(false));
    assert_eq!(found.maximum_packet_size().map(NonZeroU32::get), Some(5));
    assert_eq!(found.wildcard_subscription_available(), Some(true));
    assert_eq!(found.subscription_identifier_available(), Some(false));
    assert_eq!(found.shared_subscription_available(), Some(true));
    assert_eq!(found.content_type(), None);
    assert!(
        found
            .user_properties()
            .eq([("b", "1"), ("a", "2"), ("b", "1")])
    );

    let connect = block(&[
        Property::RequestProblemInformation(false),
        Property::RequestResponseInformation(true),
    ]);
    let found = Properties::parse(PropertyScope::Connect, connect.raw()).unwrap();
    assert_eq!(found.request_problem_information(), Some(false));
    assert_eq!(found.request_response_information(), Some(true));

    let will = block(&[
        Property::PayloadFormatIndicator(1),
        Property::MessageExpiryInterval(6),
        Property::ContentType("type"),
        Property::ResponseTopic("response/topic"),
        Property::CorrelationData(&[0, 0xff]),
        Property::WillDelayInterval(7),
    ]);
    let found = Properties::parse(PropertyScope::Will, will.raw()).unwrap();
    assert_eq!(found.payload_format_indicator(), Some(1));
    assert_eq!(found.message_expiry_interval(), Some(6));
    assert_eq!(found.content_type(), Some("type"));
    assert_eq!(found.response_topic(), Some("response/topic"));
    assert_eq!(found.correlation_data(), Some(&[0, 0xff][..]));
    assert_eq!(found.will_delay_interval(), Some(7));
    let mut scratch = Vec::new();
    let kept = block(&[
        Property::PayloadFormatIndicator(1),
        Property::ContentType("type"),
        Property::ResponseTopic("response/topic"),
        Property::CorrelationData(&[0, 0xff]),
    ]);
    assert_eq!(found.forwardable(&mut scratch), kept.raw());
}

#[test]
fn mqtt_3_3_2_18_forwardable_properties_keep_their_order() {
    let all = block(&[
        Property::UserProperty("z", "1"),
        Property::TopicAlias(id(5)),
        Property::ContentType("text"),
        Property::SubscriptionIdentifier(300),
        Property::UserProperty("a", "2"),
        Property::MessageExpiryInterval(60),
        Property::SubscriptionIdentifier(1),
        Property::UserProperty("z", "1"),
    ]);
    let kept = block(&[
        Property::UserProperty("z", "1"),
        Property::ContentType("text"),
        Property::UserProperty("a", "2"),
        Property::UserProperty("z", "1"),
    ]);
    let found = PublishProperties::parse(all.raw()).unwrap();
    assert_eq!(found.topic_alias(), Some(id(5)));
    assert_eq!(found.message_expiry_interval(), Some(60));
    assert!(found.has_subscription_identifier());
    assert!(found.subscription_identifiers().eq([300, 1]));
    assert_eq!(found.as_properties().content_type(), Some("text"));

    let mut scratch = b"left over".to_vec();
    assert_eq!(found.forwardable(&mut scratch), kept.raw());

    // Nothing to leave out: the block itself, and the scratch is not touched.
    let mut scratch = b"left over".to_vec();
    let found = PublishProperties::parse(kept.raw()).unwrap();
    assert_eq!(
        found.forwardable(&mut scratch).as_ptr(),
        kept.raw().as_ptr()
    );
    assert_eq!(scratch, b"left over");
}

#[test]
fn section_3_3_headers_byte_by_byte() {
    let user = block(&[Property::UserProperty("k", "v")]);
    let header = PublishHeader {
        version: Version::V5,
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "ab",
        packet_id: Some(id(0x0102)),
        topic_alias: Some(id(3)),
        message_expiry_interval: Some(4),
        subscription_identifiers: &[5, 300],
        properties: user.raw(),
        payload_len: 6,
    };
    let mut out = vec![9, 9];
    let at = header.encode(&mut out);
    assert_eq!(
        out[2..],
        [
            0x3b, 33, 0, 2, b'a', b'b', 1, 2, 20, 0x23, 0, 3, 0x02, 0, 0, 0, 4, 0x0b, 5, 0x0b,
            0xac, 0x02, 0x26, 0, 1, b'k', 0, 1, b'v'
        ]
    );
    assert_eq!(at, 6);
    assert_eq!(out[2 + at..][..2], [1, 2]);
    assert_eq!(header.encoded_len(), out.len() - 2 + 6);

    let mut out = Vec::new();
    let older = PublishHeader {
        version: Version::V3_1_1,
        ..header
    };
    assert_eq!(older.encode(&mut out), 6);
    assert_eq!(out, [0x3b, 12, 0, 2, b'a', b'b', 1, 2]);
    assert_eq!(older.encoded_len(), out.len() + 6);

    let mut out = Vec::new();
    let unacknowledged = PublishHeader {
        qos: QoS::AtMostOnce,
        dup: false,
        packet_id: None,
        topic: "",
        message_expiry_interval: None,
        subscription_identifiers: &[],
        properties: &[],
        ..header
    };
    assert_eq!(unacknowledged.encode(&mut out), 4);
    assert_eq!(out, [0x31, 12, 0, 0, 3, 0x23, 0, 3]);
}

#[test]
fn fields_too_long_for_their_length_are_cut_between_characters() {
    let long = format!("a{}", "é".repeat(40_000));
    let block = block(&[
        Property::ReasonString(&long),
        Property::UserProperty("k", "v"),
    ]);
    let found = Properties::parse(PropertyScope::Ack, block.raw()).unwrap();
    assert_eq!(found.reason_string(), Some(&long[..65_535]));
    assert!(found.user_properties().eq([("k", "v")]));
}

#[test]
fn long_packets_have_long_lengths() {
    for payload in [0, 100, 20_000, 60_000] {
        let connect = Connect {
            version: Version::V3_1_1,
            clean_start: true,
            keep_alive: 0,
            client_id: "c",
            will: Some(tidegate_mqtt::codec::Will {
                qos: QoS::ExactlyOnce,
                retain: true,
                topic: TopicName::new("w").unwrap(),
                payload: &vec![7; payload],
                properties: Properties::EMPTY,
            }),
            user_name: Some("u"),
            password: Some(&vec![0xff; payload]),
            properties: Properties::EMPTY,
        };
        let bytes = encoded(Version::V3_1_1, &Packet::Connect(connect));
        assert_eq!(decoded(Version::V3_1_1, &bytes), Packet::Connect(connect));
    }
}

//! Decoding allocates nothing, and neither does writing a header into a buffer that has room.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::hint::black_box;
use std::num::NonZeroU16;

use allocation_counter::measure;
use tidegate_bus::{QoS, TopicName};
use tidegate_mqtt::codec::{
    Ack, AckType, Connect, Packet, Properties, Property, PropertyBlock, Publish, PublishHeader,
    PublishProperties, Split, Version, decode, split,
};

fn properties() -> PropertyBlock {
    let mut block = PropertyBlock::new();
    block
        .push(Property::TopicAlias(NonZeroU16::MIN))
        .push(Property::MessageExpiryInterval(60))
        .push(Property::ContentType("application/json"))
        .push(Property::UserProperty("name", "value"));
    block
}

fn publish(version: Version, block: &PropertyBlock) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Some(TopicName::new("site/7/line/3").unwrap()),
        packet_id: NonZeroU16::new(1),
        properties: PublishProperties::parse(block.raw()).unwrap(),
        payload: &[0; 100],
    };
    let mut bytes = Vec::new();
    publish.encode(version, &mut bytes);
    bytes
}

#[track_caller]
fn allocates_nothing(work: impl FnOnce()) {
    assert_eq!(measure(work).count_total, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(black_box(Box::new(1)))).count_total, 1);
}

#[test]
fn decoding_publish_allocates_nothing() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        let bytes = publish(version, &properties());
        allocates_nothing(|| {
            let Ok(Split::Frame(frame)) = split(black_box(&bytes), u32::MAX) else {
                panic!("the packet is whole");
            };
            let publish = Publish::decode(version, frame).unwrap();
            assert_eq!(black_box(publish.payload).len(), 100);
            assert_eq!(
                publish.properties.iter().count(),
                if version.is_v5() { 4 } else { 0 }
            );
        });
    }
}

#[test]
fn refusing_publish_allocates_nothing() {
    let mut bytes = publish(Version::V5, &properties());
    bytes[6] = b'#';
    allocates_nothing(|| {
        let Ok(Split::Frame(frame)) = split(black_box(&bytes), u32::MAX) else {
            panic!("the packet is whole");
        };
        assert!(Publish::decode(Version::V5, frame).is_err());
    });
}

#[test]
fn decoding_connect_and_acknowledgements_allocates_nothing() {
    let block = {
        let mut block = PropertyBlock::new();
        block.push(Property::SessionExpiryInterval(60));
        block
    };
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 60,
        client_id: "client",
        will: None,
        user_name: Some("user"),
        password: Some(b"password"),
        properties: block.as_properties(),
    };
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    let ack = Ack {
        packet_id: NonZeroU16::MIN,
        reason: Default::default(),
        properties: Properties::EMPTY,
    };
    ack.encode(AckType::PubAck, Version::V5, &mut bytes);
    allocates_nothing(|| {
        let mut rest = black_box(&bytes[..]);
        while let Ok(Split::Frame(frame)) = split(rest, u32::MAX) {
            let packet = decode(Version::V5, frame).unwrap();
            assert!(matches!(packet, Packet::Connect(_) | Packet::PubAck(_)));
            rest = &rest[frame.len..];
        }
        assert!(rest.is_empty());
    });
}

#[test]
fn delivering_allocates_nothing_when_there_is_room() {
    let block = properties();
    let properties = PublishProperties::parse(block.raw()).unwrap();
    let mut out = Vec::with_capacity(1_024);
    let mut scratch = Vec::with_capacity(1_024);
    allocates_nothing(|| {
        let header = PublishHeader {
            version: Version::V5,
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "site/7/line/3",
            packet_id: NonZeroU16::new(1),
            topic_alias: None,
            message_expiry_interval: Some(59),
            subscription_identifiers: &[1, 2],
            properties: properties.forwardable(&mut scratch),
            payload_len: 100,
        };
        header.encode(&mut out);
        out.extend_from_slice(&[0; 100]);
        assert_eq!(out.len(), header.encoded_len());
    });
}

#[test]
fn delivering_grows_the_buffer_once() {
    let mut out = Vec::new();
    let grown = measure(|| {
        let header = PublishHeader {
            version: Version::V5,
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "site/7/line/3",
            packet_id: None,
            topic_alias: NonZeroU16::new(1),
            message_expiry_interval: Some(59),
            subscription_identifiers: &[1, 2],
            properties: &[],
            payload_len: 5_000,
        };
        header.encode(&mut out);
        out.extend_from_slice(&[0; 5_000]);
    });
    assert_eq!(grown.count_total, 1);
}

//! What the benches of the codec share: the packets that are decoded and encoded.

use std::num::NonZeroU16;

use tidegate_bus::{QoS, TopicName};
use tidegate_mqtt::codec::{
    Property, PropertyBlock, Publish, PublishHeader, PublishProperties, Version,
};

pub(crate) const TOPIC: &str = "site/7/line/3/temperature";
pub(crate) const PAYLOAD: &[u8] = &[0x55; 64];

/// Properties that a telemetry client sends.
pub(crate) const SOME: &[Property<'_>] = &[
    Property::PayloadFormatIndicator(1),
    Property::MessageExpiryInterval(3_600),
    Property::ContentType("application/json"),
    Property::UserProperty("trace", "4bf92f3577b34da6"),
];

/// Appends a PUBLISH to `out`. The packet identifier is written when the QoS asks for one.
pub(crate) fn put_publish(
    version: Version,
    qos: QoS,
    packet_id: NonZeroU16,
    properties: &[Property<'_>],
    out: &mut Vec<u8>,
) {
    let mut block = PropertyBlock::new();
    block.extend(properties.iter().copied());
    let publish = Publish {
        dup: false,
        qos,
        retain: false,
        topic: TopicName::new(TOPIC).ok(),
        packet_id: qos.is_acknowledged().then_some(packet_id),
        properties: PublishProperties::parse(block.raw()).unwrap_or_default(),
        payload: PAYLOAD,
    };
    publish.encode(version, out);
}

/// A PUBLISH.
pub(crate) fn publish(version: Version, qos: QoS, properties: &[Property<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_publish(version, qos, NonZeroU16::MIN, properties, &mut bytes);
    bytes
}

/// A header with nothing that could be left out.
pub(crate) const PLAIN: PublishHeader<'_> = PublishHeader {
    version: Version::V5,
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: TOPIC,
    packet_id: None,
    topic_alias: None,
    message_expiry_interval: None,
    subscription_identifiers: &[],
    properties: &[],
    payload_len: PAYLOAD.len(),
};

/// Calls `work` with a header that has [`SOME`] properties, an expiry and a subscription identifier.
pub(crate) fn with_full_header<R>(work: impl FnOnce(&PublishHeader<'_>) -> R) -> R {
    let mut block = PropertyBlock::new();
    block.extend(SOME.iter().copied());
    let mut scratch = Vec::new();
    let properties = PublishProperties::parse(block.raw()).unwrap_or_default();
    work(&PublishHeader {
        qos: QoS::AtLeastOnce,
        packet_id: NonZeroU16::new(7),
        message_expiry_interval: Some(3_599),
        subscription_identifiers: &[300],
        properties: properties.forwardable(&mut scratch),
        ..PLAIN
    })
}

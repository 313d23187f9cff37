//! What one PUBLISH costs the codec: in, as a publisher's connection decodes it, and out, as every
//! delivery writes its header. Holding the figures is the instruction counts' work; this is for
//! looking.

use std::hint::black_box;
use std::num::NonZeroU16;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate_bus::{QoS, TopicName};
use tidegate_mqtt::codec::{
    Ack, AckType, Property, PropertyBlock, Publish, PublishHeader, PublishProperties, Split,
    Version, split,
};

const TOPIC: &str = "site/7/line/3/temperature";
const PAYLOAD: &[u8] = &[0x55; 64];

fn publish(version: Version, qos: QoS, properties: &[Property<'_>]) -> Vec<u8> {
    let mut block = PropertyBlock::new();
    block.extend(properties.iter().copied());
    let publish = Publish {
        dup: false,
        qos,
        retain: false,
        topic: TopicName::new(TOPIC).ok(),
        packet_id: if qos.is_acknowledged() {
            NonZeroU16::new(7)
        } else {
            None
        },
        properties: PublishProperties::parse(block.raw()).unwrap_or_default(),
        payload: PAYLOAD,
    };
    let mut bytes = Vec::new();
    publish.encode(version, &mut bytes);
    bytes
}

/// Properties that a telemetry client sends.
const SOME: &[Property<'_>] = &[
    Property::PayloadFormatIndicator(1),
    Property::MessageExpiryInterval(3_600),
    Property::ContentType("application/json"),
    Property::UserProperty("trace", "4bf92f3577b34da6"),
];

fn decode(c: &mut Criterion) {
    let cases = [
        (
            "v5 qos 0",
            Version::V5,
            publish(Version::V5, QoS::AtMostOnce, &[]),
        ),
        (
            "v5 qos 1",
            Version::V5,
            publish(Version::V5, QoS::AtLeastOnce, &[]),
        ),
        (
            "v5 qos 1, 4 properties",
            Version::V5,
            publish(Version::V5, QoS::AtLeastOnce, SOME),
        ),
        (
            "v3.1.1 qos 0",
            Version::V3_1_1,
            publish(Version::V3_1_1, QoS::AtMostOnce, &[]),
        ),
    ];
    let mut group = c.benchmark_group("split and decode PUBLISH");
    for (name, version, bytes) in cases {
        group.bench_function(name, |b| {
            b.iter(|| match split(black_box(&bytes), u32::MAX) {
                Ok(Split::Frame(frame)) => {
                    black_box(Publish::decode(black_box(version), frame)).is_ok()
                }
                _ => false,
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let plain = PublishHeader {
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
    let mut block = PropertyBlock::new();
    block.extend(SOME.iter().copied());
    let mut scratch = Vec::new();
    let properties = PublishProperties::parse(block.raw()).unwrap_or_default();
    let full = PublishHeader {
        qos: QoS::AtLeastOnce,
        packet_id: NonZeroU16::new(7),
        message_expiry_interval: Some(3_599),
        subscription_identifiers: &[300],
        properties: properties.forwardable(&mut scratch),
        ..plain
    };
    let cases = [
        ("v5 qos 0", plain),
        (
            "v3.1.1 qos 0",
            PublishHeader {
                version: Version::V3_1_1,
                ..plain
            },
        ),
        ("v5 qos 1, everything", full),
    ];
    let mut group = c.benchmark_group("encode PUBLISH header");
    for (name, header) in cases {
        let mut out = Vec::with_capacity(1 << 16);
        group.bench_function(name, |b| {
            b.iter(|| {
                if out.len() > 60_000 {
                    out.clear();
                }
                black_box(black_box(&header).encode(&mut out))
            });
        });
    }
    group.finish();

    let mut out = Vec::with_capacity(1 << 16);
    c.bench_function("encode PUBACK", |b| {
        b.iter(|| {
            if out.len() > 60_000 {
                out.clear();
            }
            Ack::success(black_box(NonZeroU16::MIN)).encode(AckType::PubAck, Version::V5, &mut out);
        });
    });
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);

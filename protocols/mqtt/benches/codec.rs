//! What one PUBLISH costs the codec: in, as a publisher's connection decodes it, and out, as every
//! delivery writes its header. This is for looking; the figures are held by the instruction counts in
//! `counts`.

#![allow(missing_docs, reason = "a bench is no library")]

mod support;

use std::hint::black_box;
use std::num::NonZeroU16;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate_bus::QoS;
use tidegate_mqtt::codec::{Ack, AckType, Publish, PublishHeader, Split, Version, split};

use support::{PLAIN, SOME, publish, with_full_header};

fn decode(c: &mut Criterion) {
    let cases = [
        ("v5 qos 0", Version::V5, QoS::AtMostOnce, &[][..]),
        ("v5 qos 1", Version::V5, QoS::AtLeastOnce, &[]),
        (
            "v5 qos 1, 4 properties",
            Version::V5,
            QoS::AtLeastOnce,
            SOME,
        ),
        ("v3.1.1 qos 0", Version::V3_1_1, QoS::AtMostOnce, &[]),
    ];
    let mut group = c.benchmark_group("split and decode PUBLISH");
    for (name, version, qos, properties) in cases {
        let bytes = publish(version, qos, properties);
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
    let v3 = PublishHeader {
        version: Version::V3_1_1,
        ..PLAIN
    };
    let mut group = c.benchmark_group("encode PUBLISH header");
    with_full_header(|full| {
        let cases = [
            ("v5 qos 0", &PLAIN),
            ("v3.1.1 qos 0", &v3),
            ("v5 qos 1, everything", full),
        ];
        for (name, header) in cases {
            let mut out = Vec::with_capacity(1 << 16);
            group.bench_function(name, |b| {
                b.iter(|| {
                    if out.len() > 60_000 {
                        out.clear();
                    }
                    black_box(black_box(header).encode(&mut out))
                });
            });
        }
    });
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

//! Instruction counts of MQTT: the codec alone, and the whole path of a message from the bytes that its
//! publisher's connection reads to those that its receivers' connections write. `cargo xtask counts`
//! runs them under callgrind and holds them against `baseline.json`.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a bench fails where it stands"
)]

// One file for both crates.
#[path = "../../../../router/bus/benches/counts/case.rs"]
mod case;
mod clients;
#[path = "../support/mod.rs"]
mod support;

use std::hint::black_box;
use std::num::NonZeroU16;
use std::process::ExitCode;

use tidegate_bus::QoS;
use tidegate_mqtt::codec::{Ack, AckType, Property, Publish, PublishHeader, Split, Version, split};

use case::{Case, main as run, repeat};
use clients::Clients;
use support::{PLAIN, SOME, publish, with_full_header};

fn main() -> ExitCode {
    use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
    use Version::{V3_1_1, V5};
    let v3 = PublishHeader {
        version: V3_1_1,
        ..PLAIN
    };
    run(&[
        Case::new("decode_v5_qos0", || decode(V5, AtMostOnce, &[])),
        Case::new("decode_v5_qos1_properties", || {
            decode(V5, AtLeastOnce, SOME)
        }),
        Case::new("decode_v3_qos0", || decode(V3_1_1, AtMostOnce, &[])),
        Case::new("encode_v5_qos0", || encode(&PLAIN)),
        Case::new("encode_v5_full", || with_full_header(encode)),
        Case::new("encode_v3_qos0", move || encode(&v3)),
        Case::new("encode_puback", encode_puback),
        Case::new("path_one_to_one_qos0", || path(1, AtMostOnce, 32)),
        Case::new("path_one_to_one_qos1", || path(1, AtLeastOnce, 32)),
        Case::new("path_one_to_one_qos2", || path(1, ExactlyOnce, 32)),
        Case::new("path_fan_out_100_qos0", || path(100, AtMostOnce, 4)),
        Case::new("path_fan_out_100_qos1", || path(100, AtLeastOnce, 4)),
    ])
}

const PACKETS: u64 = 1_000;

fn decode(version: Version, qos: QoS, properties: &[Property<'_>]) -> u64 {
    let bytes = publish(version, qos, properties);
    repeat(PACKETS, || match split(black_box(&bytes), u32::MAX) {
        Ok(Split::Frame(frame)) => {
            let decoded = Publish::decode(black_box(version), frame);
            assert!(black_box(&decoded).is_ok());
        }
        other => unreachable!("{other:?}"),
    })
}

fn encode(header: &PublishHeader<'_>) -> u64 {
    let mut out = Vec::with_capacity(256);
    repeat(PACKETS, || {
        out.clear();
        black_box(black_box(header).encode(&mut out));
    })
}

fn encode_puback() -> u64 {
    let mut out = Vec::with_capacity(256);
    repeat(PACKETS, || {
        out.clear();
        let ack = Ack::success(black_box(NonZeroU16::MIN));
        ack.encode(AckType::PubAck, black_box(Version::V5), &mut out);
        black_box(&out);
    })
}

/// A delivery over everything but sockets.
fn path(receivers: usize, qos: QoS, rounds: u64) -> u64 {
    Clients::connect(Version::V5, receivers, qos).count(rounds)
}

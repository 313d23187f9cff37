//! Instruction counts of the bus: match and deliver, without codec and sockets. `cargo xtask counts`
//! runs them under callgrind and holds them against `baseline.json`.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a bench fails where it stands"
)]

mod case;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use tidegate_bus::{QoS, TopicName};

use case::{Case, main as run, repeat, under_callgrind};
use support::{Delivering, TOPIC, connect, new_bus, publish, void_cache, wildcards};

fn main() -> ExitCode {
    run(&[
        Case::new("match_cached", match_cached),
        Case::new("match_walk_among_2000_wildcards", match_walk),
        Case::new("deliver_one_to_one_qos0", || deliver(1, QoS::AtMostOnce)),
        Case::new("deliver_fan_out_100_qos0", || deliver(100, QoS::AtMostOnce)),
        Case::new("deliver_one_to_one_qos1", || deliver(1, QoS::AtLeastOnce)),
    ])
}

/// A publish whose topic is in the worker's cache and has no receiver.
fn match_cached() -> u64 {
    const PUBLISHES: u64 = 1_000;
    let bus = new_bus();
    let publisher = connect(&bus, "publisher");
    let topic = TopicName::new("nobody/listens").expect("a valid topic");
    let batches = repeat(1, || {
        bus.batch(|worker| {
            for _ in 0..PUBLISHES {
                publish(&publisher, worker, topic, QoS::AtMostOnce);
            }
        });
    });
    batches * PUBLISHES
}

/// A publish for which the index is walked.
fn match_walk() -> u64 {
    const WALKS: u64 = 16;
    let bus = new_bus();
    let _others = wildcards(&bus);
    let publisher = connect(&bus, "publisher");
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    let walk = || bus.batch(|worker| publish(&publisher, worker, topic, QoS::AtMostOnce));
    walk();
    for _ in 0..WALKS {
        void_cache(&publisher);
        under_callgrind(&mut || walk());
    }
    WALKS
}

/// From publish to the bytes that the receiver's connection takes.
fn deliver(receivers: usize, qos: QoS) -> u64 {
    let mut delivering = Delivering::new(receivers, qos);
    let deliveries = delivering.deliveries_per_batch();
    repeat(8, || delivering.batch()) * deliveries
}

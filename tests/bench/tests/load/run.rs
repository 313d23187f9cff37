//! The process `load`, run to its end.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tidegate_bench::{Measurement, Order, Pace, Reply, Shape, Traffic, Version, Workload};

/// One publisher to one subscriber with QoS 0, MQTT 3.1.1, a window of 16.
pub(crate) fn one_to_one() -> Traffic {
    Traffic {
        version: Version::V3,
        shape: Shape::Pairs,
        publishers: 1,
        subscribers: 1,
        qos: 0,
        payload: 64,
        topics: 1,
        idle_filters: 0,
        properties: false,
        durable: false,
        pace: Pace::Window(16),
    }
}

/// An order to this broker, of a moment.
pub(crate) fn order(broker: SocketAddr, pid: u32, workload: Workload) -> Order {
    Order {
        v3: broker,
        v5: broker,
        scheme: "mqtt".to_owned(),
        authority: None,
        pid,
        data: None,
        metrics: None,
        warm_up: 0.0,
        seconds: 0.15,
        workload,
    }
}

/// All that it answered.
pub(crate) fn replies(order: &Order) -> Vec<Reply> {
    replies_to(&serde_json::to_string(order).unwrap())
}

/// All that it answered to this input.
pub(crate) fn replies_to(input: &str) -> Vec<Reply> {
    let mut load = Command::new(env!("CARGO_BIN_EXE_load"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = load.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = load.wait_with_output().unwrap();
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    let replies: Vec<Reply> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let failed = matches!(replies.last(), Some(Reply::Failed(_)));
    assert_eq!(output.status.success(), !failed, "{replies:?}");
    replies
}

/// What it measured.
#[track_caller]
pub(crate) fn measured(order: &Order) -> Measurement {
    let mut replies = replies(order);
    match replies.pop() {
        Some(Reply::Measured(measurement)) => *measurement,
        other => panic!("{order:?}: {other:?} after {replies:?}"),
    }
}

/// Why it failed.
#[track_caller]
pub(crate) fn failed(order: &Order) -> String {
    match replies(order).pop() {
        Some(Reply::Failed(why)) => why,
        other => panic!("{order:?}: {other:?}"),
    }
}

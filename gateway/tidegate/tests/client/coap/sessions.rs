//! Sessions of observers (`-i` and `-q 1`) on a way that loses a fifth of the datagrams: every message arrives, in order.

use std::fs::File;

use rustix::process::Signal;

use super::relay::{Relay, Weather};
use super::run::{Door, Gateway, tidegate};

const STORM: Weather = Weather {
    lost: 20,
    twice: 10,
    late: 15,
};

/// Two topics, each with numbers of its own.
const TOPICS: [&str; 2] = ["n/1", "n/2"];

/// Publishes these numbers with a client that loses nothing.
fn publish(gateway: &Gateway, numbers: std::ops::Range<u32>) {
    let lines: String = numbers.map(|n| format!("{n}\n")).collect();
    let file = gateway.write("lines", lines.as_bytes());
    for topic in TOPICS {
        let output = tidegate(&gateway.url("mqtt"), &["pub", "-t", topic, "-l", "-q", "1"])
            .stdin(File::open(&file).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

/// The numbers of a topic in what was printed.
fn of(topic: &str, lines: &[String]) -> Vec<u32> {
    let mut of = Vec::new();
    for line in lines {
        let (told, number) = line.split_once(' ').unwrap();
        if told == topic {
            of.push(number.parse().unwrap());
        }
    }
    of
}

fn every_message_arrives(scheme: &str) {
    let gateway = Gateway::start(&[]);
    let relay = Relay::start(gateway.address(scheme), STORM);
    let mut door = gateway.door(scheme);
    door.url = relay.url_of(scheme);
    let door: Door = door;
    let options = [
        "-t",
        TOPICS[0],
        "-t",
        TOPICS[1],
        "-v",
        "-q",
        "1",
        "-i",
        "meter-7",
        "-c",
        "--session-expiry",
        "1h",
        "--ack-timeout",
        "300ms",
        "-k",
        "5",
        "-W",
        "100",
    ];
    // It ends when it has had four messages of both topics together, and does not say so to the gateway.
    let first = door.observe(&[&options[..], &["-n", "4"]].concat());
    publish(&gateway, 0..3);
    let mut lines: Vec<_> = first.printed().lines().map(str::to_owned).collect();
    for topic in TOPICS {
        let told = of(topic, &lines);
        let expected: Vec<_> = (0..told.len() as u32).collect();
        assert_eq!(told, expected, "{topic}: {lines:?}");
    }
    // It is away, and so is the gateway for a while.
    publish(&gateway, 3..5);
    let gateway = gateway.restart(Signal::KILL, || {});
    publish(&gateway, 5..6);
    let mut second = door.begin(&options);
    publish(&gateway, 6..7);
    let ends = TOPICS.map(|topic| format!("{topic} 6"));
    lines.extend(second.lines_until_all(&ends));
    for topic in TOPICS {
        let mut told = of(topic, &lines);
        // What was printed when the acknowledgement was lost comes once more, at its place, and nothing else does.
        told.dedup();
        let expected: Vec<_> = (0..7).collect();
        assert_eq!(told, expected, "{topic}: {lines:?}");
    }
    assert!(relay.lost() > 5, "{}", relay.lost());
}

#[test]
fn every_message_of_a_session_arrives_in_order_on_a_way_that_loses_a_fifth() {
    // They wait most of the time: for what was lost to be repeated.
    std::thread::scope(|scope| {
        for scheme in ["coap", "coaps"] {
            scope.spawn(move || every_message_arrives(scheme));
        }
    });
}

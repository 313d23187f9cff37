//! Sessions of observers (`-i` and `-q 1`): every message arrives, in order, also on a way that loses a fifth of the
//! datagrams, and when a stream breaks underneath.

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

/// A subscriber with a session, that ends, comes back, and is away while the gateway is killed. What it has printed, of
/// seven messages of each topic.
fn come_and_go(gateway: Gateway, door: &Door, more: &[&str]) -> Vec<String> {
    let session = [
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
        "-W",
        "100",
    ];
    let options = [&session[..], more].concat();
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
    lines
}

/// What was told and not acknowledged comes again: a repetition begins further back, and nothing is passed over.
fn nothing_is_passed_over(topic: &str, lines: &[String], count: u32) {
    let mut next = 0;
    for number in of(topic, lines) {
        assert!(number <= next, "{number} instead of {next}: {lines:?}");
        next = next.max(number + 1);
    }
    assert_eq!(next, count, "{topic}: {lines:?}");
}

#[test]
fn every_message_of_a_session_arrives_in_order_on_a_way_that_loses_a_fifth() {
    // They wait most of the time: for what was lost to be repeated.
    std::thread::scope(|scope| {
        for scheme in ["coap", "coaps"] {
            scope.spawn(move || {
                let gateway = Gateway::start(&[]);
                let relay = Relay::start(gateway.address(scheme), STORM);
                let mut door = gateway.door(scheme);
                door.url = relay.url_of(scheme);
                let lines = come_and_go(gateway, &door, &["--ack-timeout", "300ms", "-k", "5"]);
                for topic in TOPICS {
                    let mut told = of(topic, &lines);
                    // One at a time is under way: it comes once more, at its place, and nothing else does.
                    told.dedup();
                    let expected: Vec<_> = (0..7).collect();
                    assert_eq!(told, expected, "{topic}: {lines:?}");
                }
                assert!(relay.lost() > 5, "{}", relay.lost());
            });
        }
    });
}

#[test]
fn every_message_of_a_session_arrives_in_order_over_streams() {
    for scheme in ["coap+tcp", "coaps+tcp"] {
        let gateway = Gateway::start(&[]);
        let door = gateway.door(scheme);
        let lines = come_and_go(gateway, &door, &[]);
        for topic in TOPICS {
            nothing_is_passed_over(topic, &lines, 7);
        }
    }
}

#[test]
fn what_a_stream_had_not_acknowledged_when_the_gateway_was_killed_comes_again() {
    for scheme in ["coap+tcp", "coaps+tcp"] {
        let mut gateway = Gateway::start(&[]);
        let door = gateway.door(scheme);
        let mut subscriber = door.observe(&[
            "-t",
            TOPICS[0],
            "-v",
            "-q",
            "1",
            "-i",
            "meter-7",
            "--session-expiry",
            "1h",
            "--reconnect",
        ]);
        for round in 0..3 {
            publish(&gateway, round * 50..(round + 1) * 50);
            gateway = gateway.restart(Signal::KILL, || {
                subscriber.until("connecting again");
            });
        }
        publish(&gateway, 150..151);
        let lines = subscriber.lines_until_all(&[format!("{} 150", TOPICS[0])]);
        nothing_is_passed_over(TOPICS[0], &lines, 151);
    }
}

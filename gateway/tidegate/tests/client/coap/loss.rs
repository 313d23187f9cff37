//! On a way that loses.

use super::relay::{Relay, Weather};
use super::run::{Gateway, Subscriber, large, works};

const STORM: Weather = Weather {
    lost: 20,
    twice: 10,
    late: 10,
};

#[test]
fn rfc7252_4_2_what_is_lost_is_repeated_and_what_comes_twice_counts_once() {
    let gateway = Gateway::start(&[]);
    let relay = Relay::start(gateway.address("coap"), STORM);
    let subscriber = Subscriber::start(&gateway.url("mqtt"), &["-t", "n", "-n", "51", "-q", "1"]);
    let options = [
        "pub",
        "-t",
        "n",
        "-m",
        "x",
        "-q",
        "1",
        "-n",
        "50",
        "--ack-timeout",
        "100ms",
    ];
    works(&relay.url(), &options);
    // The last one comes after all others, and after any too many.
    works(
        &gateway.url("coap"),
        &["pub", "-t", "n", "-m", "end", "-q", "1"],
    );
    let expected = format!("{}end\n", "x\n".repeat(50));
    assert_eq!(subscriber.printed(), expected);
    assert!(relay.lost() > 5, "{}", relay.lost());
}

#[test]
fn rfc7641_4_5_an_observer_gets_each_message_once_and_in_order() {
    let gateway = Gateway::start(&[]);
    let relay = Relay::start(gateway.address("coap"), STORM);
    let options = ["-t", "n", "-n", "12", "-q", "1", "--ack-timeout", "500ms"];
    let subscriber = Subscriber::start(&relay.url(), &options);
    for n in 0..12 {
        works(
            &gateway.url("coap"),
            &["pub", "-t", "n", "-m", &n.to_string()],
        );
    }
    let printed = subscriber.printed();
    let expected: String = (0..12).map(|n| format!("{n}\n")).collect();
    assert_eq!(printed, expected);
}

#[test]
fn rfc7959_large_bodies_survive_a_way_that_loses() {
    let gateway = Gateway::start(&[]);
    let relay = Relay::start(
        gateway.address("coap"),
        Weather {
            lost: 5,
            twice: 5,
            late: 5,
        },
    );
    let large = large();
    let file = gateway.write("large", large.as_bytes());
    let fast = ["--ack-timeout", "100ms"];
    let publish = ["pub", "-t", "big", "-r", "-f", &file];
    works(&relay.url(), &[&publish[..], &fast].concat());
    // The gateway repeats its answer after two seconds; the client is still there then.
    let read = ["sub", "-t", "big", "-n", "1", "--ack-timeout", "500ms"];
    let printed = works(&relay.url(), &read);
    assert!(printed == format!("{large}\n"), "{} bytes", printed.len());
    assert!(relay.lost() > 5, "{}", relay.lost());
}

//! On a way that loses.

use super::relay::{Relay, Weather};
use super::run::{Gateway, Subscriber, large, works};

const STORM: Weather = Weather {
    lost: 15,
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
fn rfc7641_4_5_an_observer_gets_each_message_once_at_most_and_in_order_and_the_last_one() {
    let gateway = Gateway::start(&[]);
    let relay = Relay::start(gateway.address("coap"), STORM);
    let options = ["-t", "n", "-q", "1", "--ack-timeout", "500ms"];
    let mut subscriber = Subscriber::start(&relay.url(), &options);
    for n in 0..12 {
        let payload = n.to_string();
        works(&gateway.url("coap"), &["pub", "-t", "n", "-m", &payload]);
    }
    // What has to be repeated gives way to what is newer (section 4.5.2).
    let told: Vec<u32> = subscriber
        .lines_until("11")
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
    assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
    assert!(relay.lost() > 0);
}

#[test]
fn rfc7959_large_bodies_survive_a_way_that_loses() {
    // Blocks as large as they may be: a client that has proved nothing yet would get thousands of small ones.
    let gateway = Gateway::start(&["listeners.coap.coap.unverified=all"]);
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

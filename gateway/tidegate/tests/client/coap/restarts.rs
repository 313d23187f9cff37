//! A gateway that starts anew underneath a subscriber.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::run::{Gateway, PATIENCE, SCHEMES};

/// Sooner than the default, so that the tests need not wait for it: a question after a second, repetitions soon.
fn quick(scheme: &str) -> &'static [&'static str] {
    match scheme {
        "coap" | "coaps" => &["-k", "1", "--ack-timeout", "100ms"],
        _ => &["-k", "1"],
    }
}

/// Waits until there are as many subscriptions.
fn until_subscriptions(gateway: &Gateway, count: u64) {
    let since = Instant::now();
    while gateway.subscriptions() != count {
        assert!(
            since.elapsed() < PATIENCE,
            "{} of {count}",
            gateway.subscriptions()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_subscriber_comes_back_over_each_listener_whether_the_gateway_was_killed_or_has_ended() {
    let mut gateway = Gateway::start(&[]);
    for signal in [Signal::KILL, Signal::TERM] {
        let mut subscribers = SCHEMES.map(|scheme| {
            let options = [
                &["-t", "a/+", "-t", "b", "-n", "2", "-q", "1", "--reconnect"],
                quick(scheme),
            ];
            gateway.door(scheme).observe(&options.concat())
        });
        gateway = gateway.restart(signal, || {
            for subscriber in &mut subscribers {
                subscriber.until("connecting again");
            }
        });
        for subscriber in &mut subscribers {
            subscriber.until("subscribed to");
            subscriber.until("subscribed to");
        }
        let door = gateway.door("coap");
        door.works(&["pub", "-t", "a/1", "-m", "first", "-q", "1"]);
        door.works(&["pub", "-t", "b", "-m", "second", "-q", "1"]);
        for (subscriber, scheme) in subscribers.into_iter().zip(SCHEMES) {
            let mut lines: Vec<_> = subscriber.printed().lines().map(str::to_owned).collect();
            // Between two observations there is no order.
            lines.sort();
            assert_eq!(lines, ["first", "second"], "{scheme} {signal:?}");
        }
    }
}

#[test]
fn a_gateway_that_was_away_for_less_than_a_question_is_told_again_of_every_filter() {
    let gateway = Gateway::start(&[]);
    // A long time to the first question, so that nobody asks while it is away.
    let options = ["-t", "a", "-t", "b", "-t", "c", "-v", "-n", "3", "-k", "3"];
    let subscriber = gateway.door("coap").observe(&options);
    let gateway = gateway.restart(Signal::KILL, || {});
    until_subscriptions(&gateway, 3);
    let door = gateway.door("coap");
    for topic in ["c", "b", "a"] {
        door.works(&["pub", "-t", topic, "-m", "x"]);
    }
    let mut lines: Vec<_> = subscriber.printed().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a x", "b x", "c x"]);
}

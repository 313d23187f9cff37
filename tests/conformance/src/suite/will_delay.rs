//! When a will is published, and when not: MQTT 5.0 section 3.1.3.2.2.

use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Property, Will};

use super::kit::subscribe;
use super::raw::{ends, flag, no_will_before, nothing_published, set_flags, vanishes, watcher};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] =
    &[
        test!(mqtt5_3_1_3_2_2_a_will_waits_for_its_delay)
            .mqtt5(&["3.1.2-8"])
            .fault(
                Fault::client(packet::CONNECT)
                    .nth(2)
                    .altered("no delay", |frame| {
                        // Will Delay Interval 2 s becomes 0.
                        let at = frame
                            .body
                            .windows(5)
                            .position(|five| five == b"\x18\0\0\0\x02");
                        if let Some(at) = at {
                            frame.body[at + 4] = 0;
                        }
                    }),
            ),
        test!(mqtt5_3_1_3_9_no_will_if_the_session_is_resumed_in_time)
            .mqtt5(&["3.1.3-9", "3.1.2-8"])
            .regression(&["delayed will fired although the session was resumed in time"])
            .fault(Fault::client(packet::CONNECT).nth(3).altered(
                "another client identifier",
                |frame| {
                    // One that was not there: the session stays without a connection.
                    let at = frame.body.windows(6).position(|six| six == b"intime");
                    if let Some(at) = at {
                        frame.body[at] = b'o';
                    }
                },
            )),
        test!(mqtt5_3_1_3_9_a_takeover_that_resumes_spares_a_delayed_will)
            .mqtt5(&["3.1.3-9"])
            .regression(&["delayed will fired although the session was resumed in time"])
            .fault(
                Fault::client(packet::CONNECT)
                    .nth(3)
                    .altered("a clean start", |frame| set_flags(frame, flag::CLEAN, true)),
            ),
        test!(mqtt5_3_1_2_5_a_delayed_will_comes_when_the_session_expires_before)
            .mqtt5(&["3.1.2-8"])
            .fault(Fault::server(packet::PUBLISH)),
        test!(mqtt5_3_1_2_5_without_a_session_to_outlive_it_there_is_no_delay)
            .mqtt5(&["3.1.2-8"])
            .fault(Fault::client(packet::CONNECT).nth(2).altered(
                "a session that lasts",
                |frame| {
                    frame.add_property(&Property::SessionExpiry(60));
                },
            )),
        test!(mqtt5_3_1_2_5_a_clean_start_sends_the_delayed_will)
            .mqtt5(&["3.1.2-8", "3.1.2-4"])
            .regression(&["delayed will not fired although takeover ended the session"])
            .fault(
                Fault::client(packet::CONNECT)
                    .nth(3)
                    .altered("no clean start", |frame| {
                        set_flags(frame, flag::CLEAN, false);
                    }),
            ),
        test!(mqtt5_3_1_4_a_takeover_with_clean_start_sends_the_delayed_will)
            .mqtt5(&["3.1.2-8", "3.1.4-3"])
            .regression(&["delayed will not fired although takeover ended the session"])
            .fault(
                Fault::client(packet::CONNECT)
                    .nth(3)
                    .altered("no clean start", |frame| {
                        set_flags(frame, flag::CLEAN, false);
                    }),
            ),
        test!(mqtt5_3_1_4_a_takeover_that_resumes_sends_a_will_without_delay)
            .mqtt5(&["3.1.2-8"])
            .fault(Fault::server(packet::PUBLISH)),
        test!(mqtt5_3_1_3_2_2_a_later_connection_replaces_the_will)
            .mqtt5(&["3.1.3-9", "3.1.2-7"])
            .fault(
                Fault::server(packet::PUBLISH)
                    .nth(1)
                    .altered("the first will", |frame| {
                        frame.set_payload(b"first");
                    }),
            ),
        test!(mqtt5_3_1_3_2_4_a_will_may_expire)
            .mqtt5(&["3.3.2-5"])
            .fault(Fault::client(packet::CONNECT).nth(3).altered(
                "no expiry of the will",
                |frame| {
                    // Message Expiry Interval 1 s becomes a long one.
                    let at = frame
                        .body
                        .windows(5)
                        .position(|five| five == b"\x02\0\0\0\x01");
                    if let Some(at) = at {
                        frame.body[at + 1] = 1;
                    }
                },
            )),
    ];

fn mqtt5_3_1_3_2_2_a_will_waits_for_its_delay(case: &Case) {
    let topic = case.topic("delayed");
    let mut watcher = watcher(case, &topic);
    let will = Will::new(&topic, "later").with(Property::WillDelay(2));
    let client = case.open(&case.connect("delayed").expiry(600).will(will));
    let since = Instant::now();
    client.vanish();
    thread::sleep(Duration::from_millis(1_500));
    watcher.expect_nothing();
    assert_eq!(watcher.receive().text(), "later");
    let waited = since.elapsed();
    assert!(waited < Duration::from_secs(5), "after {waited:?}");
}

fn mqtt5_3_1_3_9_no_will_if_the_session_is_resumed_in_time(case: &Case) {
    let topic = case.topic("spared");
    let mut watcher = watcher(case, &topic);
    let lasting = case.lasting("intime");
    let will = Will::new(&topic, "must not come").with(Property::WillDelay(1));
    vanishes(case, lasting.clone(), will);
    let back = case.open(&lasting);
    thread::sleep(Duration::from_millis(2_500));
    no_will_before(case, &mut watcher, &topic);
    assert!(back.session_present());
}

fn mqtt5_3_1_3_9_a_takeover_that_resumes_spares_a_delayed_will(case: &Case) {
    let topic = case.topic("resumes");
    let mut watcher = watcher(case, &topic);
    let lasting = case.lasting("resumes");
    let will = Will::new(&topic, "must not come").with(Property::WillDelay(1));
    let mut old = case.open(&lasting.clone().will(will));
    let new = case.open(&lasting);
    ends(&mut old, "the older connection");
    thread::sleep(Duration::from_millis(2_500));
    no_will_before(case, &mut watcher, &topic);
    assert!(new.session_present());
}

fn long_delayed(topic: &str) -> Will {
    Will::new(topic, "ended").with(Property::WillDelay(3_600))
}

fn mqtt5_3_1_2_5_a_delayed_will_comes_when_the_session_expires_before(case: &Case) {
    let topic = case.topic("expires");
    let mut watcher = watcher(case, &topic);
    let since = Instant::now();
    vanishes(
        case,
        case.connect("expires").expiry(1),
        long_delayed(&topic),
    );
    assert_eq!(watcher.receive().text(), "ended");
    let waited = since.elapsed();
    assert!(waited >= Duration::from_millis(900), "after {waited:?}");
}

fn mqtt5_3_1_2_5_without_a_session_to_outlive_it_there_is_no_delay(case: &Case) {
    let topic = case.topic("at-once");
    let mut watcher = watcher(case, &topic);
    vanishes(case, case.connect("at-once"), long_delayed(&topic));
    assert_eq!(watcher.receive().text(), "ended");
}

fn mqtt5_3_1_2_5_a_clean_start_sends_the_delayed_will(case: &Case) {
    let topic = case.topic("cleared");
    let mut watcher = watcher(case, &topic);
    let lasting = case.lasting("cleared");
    vanishes(case, lasting.clone(), long_delayed(&topic));
    watcher.expect_nothing();
    let _new = case.open(&lasting.clean());
    assert_eq!(watcher.receive().text(), "ended");
    nothing_published(&mut watcher, &topic);
}

fn mqtt5_3_1_4_a_takeover_with_clean_start_sends_the_delayed_will(case: &Case) {
    let topic = case.topic("replaced");
    let mut watcher = watcher(case, &topic);
    let lasting = case.lasting("replaced");
    let mut old = case.open(&lasting.clone().will(long_delayed(&topic)));
    let _new = case.open(&lasting.clean());
    ends(&mut old, "the older connection");
    assert_eq!(watcher.receive().text(), "ended");
    nothing_published(&mut watcher, &topic);
}

fn mqtt5_3_1_4_a_takeover_that_resumes_sends_a_will_without_delay(case: &Case) {
    let topic = case.topic("no-delay");
    let mut watcher = watcher(case, &topic);
    let lasting = case.lasting("no-delay");
    let _old = case.open(&lasting.clone().will(Will::new(&topic, "taken over")));
    let new = case.open(&lasting);
    assert_eq!(watcher.receive().text(), "taken over");
    assert!(new.session_present());
}

fn mqtt5_3_1_3_2_2_a_later_connection_replaces_the_will(case: &Case) {
    let topic = case.topic("newest");
    let mut watcher = watcher(case, &topic);
    let lasting = case.lasting("newest");
    let with = |text: &str| Will::new(&topic, text).with(Property::WillDelay(1));
    vanishes(case, lasting.clone(), with("first"));
    vanishes(case, lasting.clone(), with("second"));
    assert_eq!(watcher.receive().text(), "second");
    // And a connection without a will leaves none.
    vanishes(case, lasting.clone(), with("third"));
    case.open(&lasting).vanish();
    thread::sleep(Duration::from_millis(2_500));
    no_will_before(case, &mut watcher, &topic);
}

fn mqtt5_3_1_3_2_4_a_will_may_expire(case: &Case) {
    let topic = case.topic("stale");
    let lasting = case.lasting("reader");
    let mut reader = case.open(&lasting);
    subscribe(case, &mut reader, &topic, 1);
    let mut live = watcher(case, &topic);
    reader.disconnect();
    let will = Will::new(&topic, "stale")
        .qos(1)
        .with(Property::MessageExpiry(1));
    vanishes(case, case.connect("stale"), will);
    // It is published at once, and then waits for the reader for longer than it lives.
    assert_eq!(live.receive().text(), "stale");
    thread::sleep(Duration::from_millis(2_200));
    let mut reader = case.open(&lasting);
    nothing_published(&mut reader, &topic);
}

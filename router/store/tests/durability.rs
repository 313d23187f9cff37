//! What was acknowledged is there again.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

mod support;

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use support::*;
use tidegate_bus::{
    Message, Origin, Place, Presence, QoS, RetainHandling, SessionChange, Stage, Store,
    StoredMessage, StoredSubscription, StoredWill, SubscriptionOptions, Timestamp, TopicName,
};
use tidegate_store::Engine;

fn fill(engine: &Engine) {
    recover(engine);
    let (ann, bob) = (client("ann"), client("bob"));
    let ann_session = session(engine, &ann);
    let epoch = claim(engine, &bob);
    let will = StoredWill {
        message: message("wills/bob", b"gone"),
        delay: 5,
        expires_in: Some(9),
    };
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
    };
    let subscribed = |text: &str, owed| SessionChange::Subscribed {
        filter: filter(text),
        options,
        identifier: NonZeroU32::new(300_000),
        retained_owed: owed,
    };
    let changes = [
        SessionChange::Attached {
            fresh: true,
            expiry: 60,
            will: Some(will),
        },
        subscribed("a/+", true),
        subscribed("$share/g/b/#", true),
        subscribed("gone", false),
        SessionChange::Unsubscribed(filter("gone")),
        SessionChange::RetainedSent(filter("$share/g/b/#")),
    ];
    kept(&engine.change(&bob, epoch, &changes));
    let origin = |number| Origin {
        client: ann.clone(),
        session: ann_session,
        packet_id: id(number),
    };
    for number in 1..=6 {
        let body = message("a/b", format!("message {number}").as_bytes());
        let mut to = reference(&bob, epoch, number);
        if number == 5 {
            to.entry.stage = Stage::Sent(id(55));
            to.entry.shared = Some(filter("$share/g/b/#"));
        }
        kept(&publish_from(engine, &body, &[to], &origin(number as u16)));
    }
    let changes = [
        SessionChange::Done(Place(1)),
        SessionChange::Sent(Place(2), id(22)),
        SessionChange::Sent(Place(3), id(33)),
        SessionChange::Received(Place(3)),
        SessionChange::Detached {
            ends_at: Timestamp::from_millis(1_000),
            will_at: Some(Timestamp::from_millis(500)),
        },
    ];
    kept(&engine.change(&bob, epoch, &changes));
    kept(&engine.change(&ann, ann_session, &[SessionChange::Released(id(2))]));
    kept(&engine.retain("r/1", Some(&message("r/1", b"old"))));
    kept(&engine.retain("r/1", Some(&message("r/1", b"new"))));
    kept(&engine.retain("r/2", Some(&message("r/2", b"gone"))));
    kept(&engine.retain("r/2", None));
}

fn check(engine: &Engine) {
    let kept = recover(engine);
    assert_eq!(kept.sessions.len(), 2);
    assert_eq!(kept.retained.len(), 1);
    assert_eq!(kept.retained["r/1"], b"new");
    let ann = &kept.sessions["ann"];
    assert_eq!(ann.received, [1, 3, 4, 5, 6].map(id));
    assert!(matches!(ann.presence, Presence::Connected(_)));
    let bob = &kept.sessions["bob"];
    assert_eq!(bob.expiry, 60);
    assert_eq!(
        bob.presence,
        Presence::Away {
            ends_at: Timestamp::from_millis(1_000),
            will_at: Timestamp::from_millis(500),
        }
    );
    let will = bob.will.as_ref().unwrap();
    assert_eq!((will.delay, will.expires_in), (5, Some(9)));
    assert_eq!(will.message.topic(), "wills/bob");
    assert_eq!(will.message.as_message().payload, b"gone");
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
    };
    let subscription = |text: &str, owed| StoredSubscription {
        filter: filter(text),
        options,
        identifier: NonZeroU32::new(300_000),
        retained_owed: owed,
    };
    assert_eq!(
        bob.subscriptions,
        [
            subscription("$share/g/b/#", false),
            subscription("a/+", true)
        ]
    );
    let in_flight: Vec<_> = bob.in_flight.iter().map(|e| (e.place.0, e.stage)).collect();
    assert_eq!(
        in_flight,
        [
            (2, Stage::Sent(id(22))),
            (3, Stage::Received(id(33))),
            (5, Stage::Sent(id(55))),
        ]
    );
    assert_eq!(bob.in_flight[2].shared, Some(filter("$share/g/b/#")));
    assert_eq!(bob.in_flight[2].identifiers.as_slice(), [7, 8]);
    assert_eq!((bob.queued.first, bob.queued.last), (Place(4), Place(6)));
    assert_eq!((bob.queued.messages, bob.queued.bytes), (2, 2 * 12));
    assert_eq!(bob.last_place, Place(6));
    let entries = read(engine, &bob.client, bob.session);
    let places: Vec<_> = entries.iter().map(|(e, _)| e.place.0).collect();
    assert_eq!(places, [2, 3, 4, 5, 6]);
    assert_eq!(entries[1].1, None);
    assert_eq!(
        entries[4].1,
        Some(("a/b".to_owned(), b"message 6".to_vec()))
    );
    assert_eq!(engine.recovered().corrupt, 0);
}

#[test]
fn everything_is_back_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    fill(&open(directory.path()));
    check(&open(directory.path()));
    check(&open(directory.path()));
}

/// A directory of each format that a released gateway has written is kept beside this file, as
/// `fill` leaves it. The next one is written by
/// `TIDEGATE_WRITE_FORMAT=DIRECTORY cargo test -p tidegate-store --test durability of_every_format`.
#[test]
fn a_directory_of_every_format_is_read() {
    if let Some(directory) = std::env::var_os("TIDEGATE_WRITE_FORMAT") {
        let directory = Path::new(&directory);
        fill(&open(directory));
        // The room that a journal has ahead is given back when it is read.
        return check(&open(directory));
    }
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let mut read = 0;
    for format in fs::read_dir(formats).unwrap() {
        let directory = tempfile::tempdir().unwrap();
        copy(&format.unwrap().path(), directory.path());
        check(&open(directory.path()));
        read += 1;
    }
    assert!(read > 0);
}

#[test]
fn everything_acknowledged_is_back_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    let crashed = tempfile::tempdir().unwrap();
    copy(directory.path(), crashed.path());
    check(&open(crashed.path()));
    drop(engine);
}

#[test]
fn a_message_is_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let payload = vec![0xfe; 5_000];
    let mut original = Message::new(TopicName::new("t").unwrap(), &payload);
    original.qos = QoS::ExactlyOnce;
    original.retain = true;
    original.expires_at = Some(Timestamp::from_millis(123_456_789));
    let properties = [1, 1, 3, 0, 1, b'x'];
    original.properties = tidegate_bus::Properties::from_validated(&properties);
    original.publisher = tidegate_bus::PublisherKey::of(&ann);
    let original = Arc::new(StoredMessage::uncharged(&original));
    {
        let engine = open(directory.path());
        recover(&engine);
        kept(&engine.retain("t", Some(&original)));
    }
    struct Check(Arc<StoredMessage>, usize);
    impl tidegate_bus::Recovery for Check {
        fn retained(&mut self, message: Message<'_>) {
            let original = self.0.as_message();
            assert_eq!(message.topic, original.topic);
            assert_eq!(message.payload, original.payload);
            assert_eq!(message.properties, original.properties);
            assert_eq!(message.qos, original.qos);
            assert_eq!(message.retain, original.retain);
            assert_eq!(message.expires_at, original.expires_at);
            assert_eq!(message.publisher, original.publisher);
            self.1 += 1;
        }

        fn session(&mut self, _: tidegate_bus::StoredSession) {}
    }
    let mut check = Check(original, 0);
    open(directory.path()).recover(&mut check).unwrap();
    assert_eq!(check.1, 1);
}

#[test]
fn the_longest_names_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client(&"c".repeat(65_535));
    let long = "f".repeat(65_535);
    {
        let engine = open(directory.path());
        recover(&engine);
        let epoch = session(&engine, &ann);
        let subscribed = |text: &str| SessionChange::Subscribed {
            filter: filter(text),
            options: SubscriptionOptions::default(),
            identifier: None,
            retained_owed: true,
        };
        kept(&engine.change(&ann, epoch, &[subscribed(&long), subscribed("short")]));
        kept(&engine.change(&ann, epoch, &[SessionChange::RetainedSent(filter(&long))]));
        kept(&engine.retain(&long, Some(&message(&long, b"x"))));
    }
    let kept = recover(&open(directory.path()));
    let ann = &kept.sessions[ann.as_str()];
    assert_eq!(ann.subscriptions.len(), 2);
    let back = ann.subscriptions.iter().find(|s| s.filter == filter(&long));
    assert!(!back.unwrap().retained_owed);
    assert_eq!(kept.retained[&long], b"x");
}

#[test]
fn epochs_after_a_restart_are_above_those_before() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let mut last = 0;
    for _ in 0..3 {
        let engine = open(directory.path());
        for _ in 0..10 {
            let epoch = claim(&engine, &ann).0;
            assert!(epoch > last);
            last = epoch;
        }
    }
}

#[test]
fn a_session_that_was_connected_is_back_with_the_time_of_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    {
        let engine = open(directory.path());
        recover(&engine);
        session(&engine, &ann);
    }
    let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let kept = recover(&open(directory.path()));
    let Presence::Connected(at) = kept.sessions["ann"].presence else {
        panic!("it was connected");
    };
    let range = before.as_millis() as u64..=after.as_millis() as u64;
    assert!(
        range.contains(&at.as_millis()),
        "{at:?} is not in {range:?}"
    );
}

//! When the disk fails: what is refused, what waits, what is there afterwards.
//!
//! The process may not write beyond the first byte of any file for a while, so its tests are one, and
//! no other suite shares the process.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use support::*;
use tidegate_bus::{Place, SessionChange, Stage, Store, StoreError};
use tidegate_store::{Engine, Settings};

/// Bytes that may wait for the disk.
const WAITING: usize = 2 << 20;

fn disk_works(works: bool) {
    let (_, hard) = rlimit::getrlimit(rlimit::Resource::FSIZE).unwrap();
    let soft = if works { hard } else { 1 };
    rlimit::setrlimit(rlimit::Resource::FSIZE, soft, hard).unwrap();
}

#[test]
fn publications_are_refused_and_changes_wait_while_the_disk_fails() {
    // The signal would end the process; a write fails as well.
    let ignored = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (ann, bob) = (client("ann"), client("bob"));
    let (a, b);
    {
        let settings = Settings {
            intake_bytes: WAITING,
            ..Settings::default()
        };
        let engine = Engine::open(directory.path(), settings).unwrap();
        recover(&engine);
        a = session(&engine, &ann);
        let body = message("t", b"before");
        for place in 1..=3 {
            kept(&publish(&engine, &body, &[reference(&ann, a, place)]));
        }
        disk_works(false);
        let refused = publish(&engine, &body, &[reference(&ann, a, 4)]);
        assert!(matches!(result(&refused), Err(StoreError::Failed(_))));
        eventually("the engine says that it refuses", || {
            engine.accepts().is_err()
        });
        assert!(!engine.metrics().is_accepting());
        let refused = publish(&engine, &body, &[reference(&ann, a, 5)]);
        assert!(refused.result().unwrap().is_err(), "at once");
        let (entries, end) = read_some(&engine, &ann, a, 0, 9);
        assert!(entries.is_empty() && end.is_err());
        let done = engine.change(&ann, a, &[SessionChange::Done(Place(1))]);
        let sent = engine.change(&ann, a, &[SessionChange::Sent(Place(2), id(7))]);
        let retained = engine.retain("r", Some(&message("r", b"x")));
        b = claim(&engine, &bob);
        let other = engine.change(&bob, b, &[attached(true)]);
        let failures = engine.metrics().failures.get();
        eventually("it is tried again", || {
            engine.metrics().failures.get() > failures || engine.accepts().is_err()
        });
        for ticket in [&done, &sent, &retained, &other] {
            assert_eq!(ticket.result(), None);
        }
        let fenced = engine.change(&bob, a, &[SessionChange::Ended]);
        assert_eq!(result(&fenced), Err(StoreError::Fenced));
        // Of one topic the last message waits, so any number of them takes no room.
        let (r, again) = ["r", "again"]
            .map(|topic| message(topic, &[b'x'; 1 << 10]))
            .into();
        for _ in 0..WAITING >> 10 {
            let _ = engine.retain("r", Some(&r));
            let _ = engine.retain("again", Some(&again));
        }
        eventually("they are taken", || {
            engine.metrics().intake_changes.get() == 0
        });
        claim(&engine, &client("cid"));
        // What is told of many things does, and then nobody new is let in.
        for n in 0..WAITING >> 10 {
            let topic = format!("many/{n}");
            let _ = engine.retain(&topic, Some(&message(&topic, &[b'x'; 1 << 10])));
        }
        eventually("it is crowded", || {
            may_claim(&engine, &client("dan")).is_err()
        });
        let last = engine.retain("r", Some(&message("r", b"last")));
        disk_works(true);
        kept(&last);
        claim(&engine, &client("dan"));
        for ticket in [&done, &sent, &retained, &other] {
            kept(ticket);
        }
        assert_eq!(engine.accepts(), Ok(()));
        kept(&publish(&engine, &body, &[reference(&bob, b, 1)]));
        let places: Vec<_> = read(&engine, &ann, a).iter().map(|e| e.0.place.0).collect();
        assert_eq!(places, [2, 3]);
    }
    let engine = open(directory.path());
    let all = recover(&engine);
    assert_eq!(all.retained["r"], b"last");
    assert_eq!(all.retained["again"].len(), 1 << 10);
    assert_eq!(all.sessions["ann"].in_flight[0].stage, Stage::Sent(id(7)));
    assert_eq!(all.sessions["ann"].queued.messages, 1);
    assert_eq!(all.sessions["bob"].queued.messages, 1);
    drop(engine);
    let verified = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!(verified.problems, 0);
}

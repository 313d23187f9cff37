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
        let engine = open(directory.path());
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
        disk_works(true);
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
    assert_eq!(all.retained["r"], b"x");
    assert_eq!(all.sessions["ann"].in_flight[0].stage, Stage::Sent(id(7)));
    assert_eq!(all.sessions["ann"].queued.messages, 1);
    assert_eq!(all.sessions["bob"].queued.messages, 1);
    drop(engine);
    let verified = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!(verified.problems, 0);
}

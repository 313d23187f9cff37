//! A client identifier has one owner at a time.

mod support;

use support::*;
use tidegate_bus::{Place, SessionChange, Store, StoreError, Timestamp};

fn detached() -> SessionChange {
    SessionChange::Detached {
        ends_at: Timestamp::from_millis(1),
        will_at: None,
    }
}

#[test]
fn a_change_under_a_replaced_ownership_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let (first, second);
    {
        let engine = open(directory.path());
        recover(&engine);
        first = session(&engine, &ann);
        second = claim(&engine, &ann);
        // A claim alone takes nothing away.
        kept(&publish(
            &engine,
            &message("t", b"1"),
            &[reference(&ann, first, 1)],
        ));
        kept(&engine.change(&ann, first, &[SessionChange::Sent(Place(1), id(1))]));
        kept(&engine.change(&ann, second, &[attached(false)]));
        for change in [
            SessionChange::Done(Place(1)),
            detached(),
            SessionChange::Ended,
            attached(true),
        ] {
            let ticket = engine.change(&ann, first, &[change]);
            assert_eq!(ticket.result(), Some(Err(StoreError::Fenced)));
        }
        // The session has outlived its first connection.
        kept(&publish(
            &engine,
            &message("t", b"2"),
            &[reference(&ann, first, 2)],
        ));
    }
    let engine = open(directory.path());
    let kept = recover(&engine);
    let ann = &kept.sessions["ann"];
    assert_eq!((ann.session, ann.epoch), (first, second));
    assert_eq!(ann.in_flight.len(), 1);
    assert_eq!(ann.queued.messages, 1);
    let ticket = engine.change(&ann.client, first, &[detached()]);
    assert_eq!(ticket.result(), Some(Err(StoreError::Fenced)));
}

#[test]
fn a_late_connection_is_fenced_also_when_the_session_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let engine = open(directory.path());
    recover(&engine);
    let late = claim(&engine, &ann);
    let owner = session(&engine, &ann);
    kept(&engine.change(&ann, owner, &[SessionChange::Ended]));
    let ticket = engine.change(&ann, late, &[attached(true)]);
    assert_eq!(ticket.result(), Some(Err(StoreError::Fenced)));
}

#[test]
fn a_reference_to_a_session_that_has_ended_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let engine = open(directory.path());
    recover(&engine);
    let first = session(&engine, &ann);
    let second = claim(&engine, &ann);
    kept(&engine.change(&ann, second, &[attached(true)]));
    kept(&publish(
        &engine,
        &message("t", b"1"),
        &[reference(&ann, first, 1), reference(&ann, second, 1)],
    ));
    assert_eq!(read(&engine, &ann, first).len(), 0);
    assert_eq!(read(&engine, &ann, second).len(), 1);
}

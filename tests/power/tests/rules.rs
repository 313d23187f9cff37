//! Every rule, with a history of a few operations and an answer of the engine that breaks it.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

use tidegate_power::found::{Found, FoundEntry, FoundSession, NotOpened};
use tidegate_power::history::{History, Mark};
use tidegate_power::log::Event;
use tidegate_power::op::{Body, Op, Waiting};
use tidegate_power::rules::{Breach, judge};
use tidegate_power::state::{Session, Stage};

const EPOCH: u64 = 7;

fn body(number: u64) -> Body {
    Body { number, size: 20 }
}

fn publish(place: u64) -> Op {
    let to = vec![Waiting {
        client: "c".to_owned(),
        place,
        sent: None,
    }];
    Op::Publish {
        body: body(place),
        to,
        origin: None,
    }
}

/// A session, then messages at 1, 2, 3 and a retained one: the first three are acknowledged; 2 and 3 share a
/// ticket.
fn history() -> History {
    let attach = Op::Attach {
        client: "c".to_owned(),
        epoch: EPOCH,
        fresh: true,
        expiry: 60,
        will: None,
    };
    let retain = Op::Retain("r".to_owned(), Some(body(9)));
    let marks = [
        Mark::Resumed(0),
        Mark::Told(1, attach),
        Mark::Told(2, publish(1)),
        Mark::Kept(2),
        Mark::Told(3, publish(2)),
        Mark::Told(4, publish(3)),
        Mark::Joined(4, 3),
        Mark::Refused(publish(8)),
        Mark::Told(5, retain),
    ];
    let events = marks.iter().map(|mark| Event::Mark {
        text: mark.to_bytes().unwrap(),
    });
    History::new(&[], &events.collect::<Vec<_>>()).unwrap()
}

/// What an engine gives back that has messages up to a place.
fn found(places: u64) -> Found {
    let entries = (1..=places).map(|place| FoundEntry {
        place,
        stage: Stage::Queued,
        body: Some(body(place).text()),
    });
    let session = Session {
        session: EPOCH,
        epoch: EPOCH,
        expiry: 60,
        last: places,
        ..Session::default()
    };
    let session = FoundSession {
        client: "c".to_owned(),
        session,
        queued: places,
        entries: entries.collect(),
        ..FoundSession::default()
    };
    Found {
        sessions: vec![session],
        epoch: EPOCH + 1,
        ..Found::default()
    }
}

fn judged(found: Found) -> Result<usize, Vec<Breach>> {
    judge(&history().window(usize::MAX), &Ok(found))
}

#[test]
fn every_state_from_the_last_acknowledged_to_the_last_told_is_allowed() {
    assert_eq!(judged(found(1)), Ok(2));
    assert_eq!(judged(found(3)), Ok(4));
    let mut all = found(3);
    all.retained.push(("r".to_owned(), body(9).text()));
    assert_eq!(judged(all), Ok(5));
}

#[test]
fn an_engine_that_does_not_open_is_a_breach_whatever_it_says() {
    let error = NotOpened("acknowledged batches are missing".to_owned());
    let judged = judge(&history().window(usize::MAX), &Err(error)).unwrap_err();
    assert!(matches!(judged[..], [Breach::NotOpened(_)]));
}

#[test]
fn what_was_acknowledged_is_not_lost() {
    assert_eq!(judged(found(0)), Err(vec![Breach::Lost(1)]));
    // Before it was acknowledged it might have been.
    let history = history();
    assert_eq!(judge(&history.window(3), &Ok(found(0))), Ok(1));
}

#[test]
fn a_batch_is_whole_or_absent() {
    assert_eq!(judged(found(2)), Err(vec![Breach::Torn(3)]));
}

#[test]
fn what_was_refused_or_never_told_does_not_show_up() {
    let mut strange = found(1);
    strange.sessions[0].entries.push(FoundEntry {
        place: 8,
        stage: Stage::Queued,
        body: Some(body(8).text()),
    });
    strange.sessions[0].queued += 1;
    strange.sessions[0].session.last = 8;
    let judged = judged(strange).unwrap_err();
    let [Breach::NoState { missing, unknown }] = &judged[..] else {
        panic!("{judged:?}");
    };
    assert!(missing.is_empty());
    assert_eq!(unknown.len(), 1);
}

#[test]
fn batches_come_in_their_order() {
    let mut gap = found(3);
    gap.sessions[0].entries.remove(1);
    gap.sessions[0].queued = 2;
    assert!(matches!(
        judged(gap).unwrap_err()[..],
        [Breach::NoState { .. }]
    ));
}

#[test]
fn a_message_that_is_there_is_the_one_that_was_told() {
    let mut other = found(1);
    other.sessions[0].entries[0].body = Some(Body::describe(b"something that nobody wrote"));
    let judged = judged(other).unwrap_err();
    let [Breach::NoState { missing, unknown }] = &judged[..] else {
        panic!("{judged:?}");
    };
    assert_eq!((missing.len(), unknown.len()), (1, 1));
}

#[test]
fn a_retained_message_is_the_last_acknowledged_or_a_later_one() {
    let mut wrong = found(3);
    wrong.retained.push(("r".to_owned(), body(5).text()));
    assert!(matches!(
        judged(wrong).unwrap_err()[..],
        [Breach::NoState { .. }]
    ));
}

#[test]
fn places_are_in_order() {
    let mut turned = found(3);
    turned.sessions[0].entries.swap(0, 1);
    let breaches = judged(turned).unwrap_err();
    assert!(breaches.contains(&Breach::Order("c".to_owned())));
}

#[test]
fn every_entry_that_needs_its_message_has_it() {
    let mut bare = found(1);
    bare.sessions[0].entries[0].body = None;
    let breaches = judged(bare).unwrap_err();
    assert!(breaches.contains(&Breach::Bodyless("c".to_owned(), 1)));
}

#[test]
fn what_a_session_is_said_to_have_is_what_its_queue_has() {
    for change in [
        |s: &mut FoundSession| s.queued = 2,
        |s: &mut FoundSession| s.in_flight.push(1),
        |s: &mut FoundSession| s.session.last = 0,
    ] {
        let mut wrong = found(1);
        change(&mut wrong.sessions[0]);
        assert_eq!(judged(wrong), Err(vec![Breach::Counts("c".to_owned())]));
    }
}

#[test]
fn epochs_grow() {
    let mut again = found(1);
    again.epoch = EPOCH;
    let (given, used) = (EPOCH, EPOCH);
    assert_eq!(judged(again), Err(vec![Breach::Epoch { given, used }]));
}

#[test]
fn damage_that_is_reported_is_a_breach() {
    let mut damaged = found(1);
    damaged.reported.push("a record".to_owned());
    assert!(matches!(
        judged(damaged).unwrap_err()[..],
        [Breach::Reported(_)]
    ));
}

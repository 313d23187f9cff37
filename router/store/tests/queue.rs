//! What waits for sessions: order, copies, cancellation, ends.

mod support;

use support::*;
use tidegate_bus::{Place, SessionChange, Stage, Store};

#[test]
fn entries_are_read_in_the_order_of_places() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let engine = open(directory.path());
    recover(&engine);
    let session = session(&engine, &ann);
    for place in [300, 2, 70_000, 1, 256, 255] {
        let body = message("t", place.to_string().as_bytes());
        publish(&engine, &body, &[reference(&ann, session, place)]);
    }
    let entries = read(&engine, &ann, session);
    assert_eq!(payloads(&entries), ["1", "2", "255", "256", "300", "70000"]);
    let (entries, end) = read_some(&engine, &ann, session, 255, 2);
    assert_eq!(payloads(&entries), ["255", "256"]);
    assert_eq!(end, Ok(false));
    let (entries, end) = read_some(&engine, &ann, session, 70_001, 2);
    assert!(entries.is_empty());
    assert_eq!(end, Ok(true));
}

#[test]
fn a_read_sees_what_was_told_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let engine = open(directory.path());
    recover(&engine);
    let session = session(&engine, &ann);
    for place in 1..=200 {
        publish(
            &engine,
            &message("t", b"x"),
            &[reference(&ann, session, place)],
        );
        let seen = read(&engine, &ann, session);
        assert_eq!(seen.last().unwrap().0.place, Place(place));
        if place % 2 == 0 {
            engine.change(&ann, session, &[SessionChange::Done(Place(place - 1))]);
        }
    }
    assert_eq!(read(&engine, &ann, session).len(), 100);
}

#[test]
fn a_message_is_kept_once_however_many_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let clients: Vec<_> = (0..20).map(|n| client(&format!("c{n}"))).collect();
    {
        let engine = open(directory.path());
        recover(&engine);
        let to: Vec<_> = clients
            .iter()
            .map(|client| reference(client, session(&engine, client), 1))
            .collect();
        kept(&publish(&engine, &message("t", b"to all"), &to));
        let large = message("t", &[b'x'; 2_000]);
        kept(&publish(
            &engine,
            &large,
            &[reference(&clients[0], to[0].session, 2)],
        ));
    }
    let counts = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!((counts.bodies, counts.entries), (2, 21));
    {
        // Counted anew after the restart.
        let engine = open(directory.path());
        let all = recover(&engine);
        for (n, client) in clients.iter().enumerate().skip(1) {
            let session = all.sessions[client.as_str()].session;
            assert_eq!(payloads(&read(&engine, client, session)), ["to all"]);
            let change = match n % 2 {
                0 => SessionChange::Done(Place(1)),
                _ => SessionChange::Ended,
            };
            kept(&engine.change(client, session, &[change]));
        }
        let session = all.sessions["c0"].session;
        assert_eq!(read(&engine, &clients[0], session).len(), 2);
        kept(&engine.change(&clients[0], session, &[SessionChange::Done(Place(1))]));
        kept(&engine.change(&clients[0], session, &[SessionChange::Done(Place(2))]));
    }
    let counts = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!((counts.bodies, counts.entries), (0, 0));
    assert_eq!(counts.problems, 0);
}

#[test]
fn a_message_that_was_received_is_needed_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    {
        let engine = open(directory.path());
        recover(&engine);
        let session = session(&engine, &ann);
        let large = message("t", &[b'x'; 2_000]);
        kept(&publish(&engine, &large, &[reference(&ann, session, 1)]));
        kept(&engine.change(&ann, session, &[SessionChange::Sent(Place(1), id(9))]));
        kept(&engine.change(&ann, session, &[SessionChange::Received(Place(1))]));
        let entries = read(&engine, &ann, session);
        assert_eq!(entries[0].0.stage, Stage::Received(id(9)));
        assert_eq!(entries[0].1, None);
    }
    let counts = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!((counts.bodies, counts.entries), (0, 1));
}

#[test]
fn what_is_done_before_it_was_written_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let engine = open(directory.path());
    recover(&engine);
    let session = session(&engine, &ann);
    let metrics = engine.metrics();
    // The committer may take the intake between the two calls; then it is tried again.
    let cancelled = (1..1_000).any(|place| {
        let before = (metrics.commits.get(), metrics.cancelled.get());
        publish(
            &engine,
            &message("t", b"x"),
            &[reference(&ann, session, place)],
        );
        kept(&engine.change(&ann, session, &[SessionChange::Done(Place(place))]));
        (metrics.commits.get(), metrics.cancelled.get()) == (before.0, before.1 + 1)
    });
    assert!(cancelled);
    assert!(read(&engine, &ann, session).is_empty());
}

#[test]
fn nothing_of_a_session_that_ended_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (ann, bob) = (client("ann"), client("bob"));
    {
        let engine = open(directory.path());
        recover(&engine);
        let (a, b) = (session(&engine, &ann), session(&engine, &bob));
        let subscribed = SessionChange::Subscribed {
            filter: filter("t"),
            options: tidegate_bus::SubscriptionOptions::default(),
            identifier: None,
            retained_owed: false,
        };
        kept(&engine.change(&ann, a, &[subscribed]));
        let shared = message("t", b"to both");
        let tickets: Vec<_> = (1..=5_000)
            .map(|place| {
                let to = [reference(&ann, a, place), reference(&bob, b, place)];
                publish(&engine, &shared, &to)
            })
            .collect();
        tickets.iter().for_each(kept);
        kept(&engine.change(&ann, a, &[SessionChange::Ended]));
        let metrics = engine.metrics();
        eventually("5,000 entries and a subscription are swept", || {
            metrics.swept.get() == 5_001
        });
        assert!(read(&engine, &ann, a).is_empty());
        assert_eq!(read(&engine, &bob, b).len(), 5_000);
    }
    let counts = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!((counts.sessions, counts.subscriptions), (1, 0));
    assert_eq!((counts.entries, counts.bodies), (5_000, 5_000));
    {
        let engine = open(directory.path());
        let all = recover(&engine);
        kept(&engine.change(&bob, all.sessions["bob"].session, &[SessionChange::Ended]));
    }
    // What was not swept before the end is swept after the next start.
    let left = tidegate_store::verify(directory.path(), None)
        .unwrap()
        .entries;
    {
        let engine = open(directory.path());
        assert!(recover(&engine).sessions.is_empty());
        let metrics = engine.metrics();
        eventually("everything is swept", || metrics.swept.get() == left);
    }
    let counts = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!((counts.entries, counts.bodies), (0, 0));
    assert_eq!(counts.problems, 0);
}

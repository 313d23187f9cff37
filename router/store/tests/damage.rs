//! Records that do not read, and messages that are missing: never silent, and never in the way of the
//! rest.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

mod support;

use std::path::Path;
use std::time::Duration;

use fjall::{Database, Keyspace, PersistMode};
use support::*;
use tidegate_bus::Epoch;
use tidegate_store::{Engine, Settings, Sync, verify};

fn edit(directory: &Path, keyspace: &str, edit: impl FnOnce(&Keyspace)) {
    let db = Database::builder(directory.join("db")).open().unwrap();
    edit(&db.keyspace(keyspace, Default::default).unwrap());
    db.persist(PersistMode::SyncAll).unwrap();
}

/// A session with three messages, the second of them in `bodies`.
fn three(directory: &Path) -> Epoch {
    let engine = open(directory);
    recover(&engine);
    let ann = client("ann");
    let session = session(&engine, &ann);
    for place in 1..=3 {
        let payload = vec![b'0' + place; if place == 2 { 2_000 } else { 1 }];
        let to = [reference(&ann, session, u64::from(place))];
        kept(&publish(&engine, &message("t", &payload), &to));
    }
    session
}

fn key(session: Epoch, place: u64) -> Vec<u8> {
    let mut key = session.0.to_be_bytes().to_vec();
    key.extend(place.to_be_bytes());
    key
}

#[test]
fn an_entry_that_does_not_read_is_reported_and_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let session = three(directory.path());
    edit(directory.path(), "queue", |queue| {
        queue.insert(key(session, 1), [1, 99, 99]).unwrap();
    });
    let verified = verify(directory.path(), None).unwrap();
    assert_eq!((verified.problems, verified.entries), (1, 3));
    assert_eq!(verified.named[0].key, key(session, 1));
    let engine = open(directory.path());
    let all = recover(&engine);
    assert_eq!(all.sessions["ann"].queued.messages, 2);
    let recovered = engine.recovered();
    assert_eq!(recovered.corrupt, 1);
    assert_eq!(recovered.corrupt_records[0].keyspace, "queue");
    let entries = read(&engine, &client("ann"), session);
    assert_eq!(entries.len(), 2);
    assert_eq!(engine.metrics().corrupt.get(), 2);
}

#[test]
fn a_message_that_is_missing_is_reported_and_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let session = three(directory.path());
    edit(directory.path(), "bodies", |bodies| {
        for guard in bodies.iter() {
            bodies.remove(guard.key().unwrap()).unwrap();
        }
    });
    let verified = verify(directory.path(), None).unwrap();
    assert_eq!(verified.problems, 1);
    let engine = open(directory.path());
    recover(&engine);
    assert_eq!(
        payloads(&read(&engine, &client("ann"), session)),
        ["1", "3"]
    );
    assert_eq!(engine.metrics().corrupt.get(), 1);
}

#[test]
fn what_may_belong_to_a_session_that_does_not_read_is_not_swept() {
    let directory = tempfile::tempdir().unwrap();
    three(directory.path());
    edit(directory.path(), "sessions", |sessions| {
        sessions.insert("ann", [9]).unwrap();
    });
    {
        let engine = open(directory.path());
        assert!(recover(&engine).sessions.is_empty());
        assert_eq!(engine.recovered().corrupt_records[0].key, b"ann");
        session(&engine, &client("bob"));
    }
    let verified = verify(directory.path(), None).unwrap();
    assert_eq!((verified.entries, verified.bodies), (3, 1));
}

#[test]
fn at_an_interval_tickets_come_first_and_the_sync_follows() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        sync: Sync::Interval(Duration::from_millis(50)),
        ..Settings::default()
    };
    let engine = Engine::open(directory.path(), settings).unwrap();
    recover(&engine);
    let metrics = engine.metrics();
    for round in 1..=3 {
        session(&engine, &client("ann"));
        eventually("it is synced", || metrics.syncs.get() == round);
    }
    assert_eq!(metrics.commits.get(), 3);
}

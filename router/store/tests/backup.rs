//! Backup and restore.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

mod support;

use std::fs;

use support::*;
use tidegate_bus::Store;
use tidegate_store::{RestoreError, restore, verify};

fn backup() -> (Vec<u8>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    recover(&engine);
    let (ann, bob) = (client("ann"), client("bob"));
    let (a, b) = (session(&engine, &ann), session(&engine, &bob));
    for place in 1..=50 {
        let to = [reference(&ann, a, place), reference(&bob, b, place)];
        let to = &to[..1 + place as usize % 2];
        publish(&engine, &message("t", place.to_string().as_bytes()), to);
    }
    kept(&engine.retain("r", Some(&message("r", &[b'x'; 10_000]))));
    let mut stream = Vec::new();
    let records = engine.backup(&mut stream, &mut |_, _| {}).unwrap();
    (stream, records)
}

#[test]
fn what_was_backed_up_is_restored() {
    let (stream, records) = backup();
    let directory = tempfile::tempdir().unwrap();
    let restored = restore(&*stream, directory.path(), &mut |_| {}).unwrap();
    assert_eq!(restored, records);
    let verified = verify(directory.path(), None).unwrap();
    assert_eq!((verified.sessions, verified.entries), (2, 75));
    assert_eq!((verified.bodies, verified.problems), (25, 0));
    let engine = open(directory.path());
    let all = recover(&engine);
    assert_eq!(all.retained["r"].len(), 10_000);
    let ann = &all.sessions["ann"];
    let read = payloads(&read(&engine, &ann.client, ann.session));
    assert_eq!(read, (1..=50).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_directory_that_is_not_empty_is_not_restored_into() {
    let (stream, _) = backup();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mine"), "x").unwrap();
    let refused = restore(&*stream, directory.path(), &mut |_| {});
    assert!(matches!(refused, Err(RestoreError::NotEmpty(_))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_backup_that_was_cut_or_altered_is_refused_and_leaves_nothing() {
    let (stream, _) = backup();
    let directory = tempfile::tempdir().unwrap();
    let refuse = |stream: &[u8], what: &str| {
        assert!(
            restore(stream, directory.path(), &mut |_| {}).is_err(),
            "{what}"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{what}");
    };
    for length in [0, 15, stream.len() / 2, stream.len() - 1] {
        refuse(&stream[..length], &format!("cut at {length}"));
    }
    for at in (0..stream.len()).step_by(stream.len() / 10) {
        let mut altered = stream.clone();
        altered[at] ^= 1;
        refuse(&altered, &format!("byte {at}"));
    }
    let mut longer = stream.clone();
    longer.push(0);
    refuse(&longer, "longer");
    restore(&*stream, directory.path(), &mut |_| {}).unwrap();
}

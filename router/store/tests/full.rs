//! When the disk is full: on a small file system that this test mounts for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::fs;
use std::path::Path;

use support::*;
use tidegate_bus::{Place, SessionChange, Store, StoreError};
use tidegate_store::{Engine, Settings, verify};

#[test]
fn a_full_disk_refuses_publications_until_there_is_room() {
    let name = "a_full_disk_refuses_publications_until_there_is_room";
    let script = r#"mount -t tmpfs -o size=200m none "$TIDEGATE_MOUNTED" && exec "$0" "$@""#;
    if let Some(small) = mounted(name, script) {
        fill_and_empty(&small);
    }
}

fn fill_and_empty(small: &Path) {
    let directory = small.join("store");
    fs::create_dir(&directory).unwrap();
    fs::write(small.join("ballast"), vec![1; 80 << 20]).unwrap();
    let settings = Settings {
        memtable_bytes: 4 << 20,
        journal_bytes: 64 << 20,
        ..Settings::default()
    };
    let engine = Engine::open(&directory, settings.clone()).unwrap();
    recover(&engine);
    let ann = client("ann");
    let session = session(&engine, &ann);
    let mut random = 1_u64;
    let mut body = || {
        let bytes: Vec<u8> = (0..100_000)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        message("t", &bytes)
    };
    let mut kept_places = Vec::new();
    let mut place = 0;
    let error = loop {
        place += 1;
        match result(&publish(
            &engine,
            &body(),
            &[reference(&ann, session, place)],
        )) {
            Ok(()) => kept_places.push(place),
            Err(error) => break error,
        }
        assert!(place < 100_000, "the disk is not small");
    };
    assert_eq!(error, StoreError::Full, "after {place} messages");
    eventually("it says so", || engine.accepts() == Err(StoreError::Full));
    let done = engine.change(&ann, session, &[SessionChange::Done(Place(1))]);
    assert_eq!(done.result(), None);
    fs::remove_file(small.join("ballast")).unwrap();
    kept(&done);
    kept_places.remove(0);
    place += 1;
    kept(&publish(
        &engine,
        &body(),
        &[reference(&ann, session, place)],
    ));
    kept_places.push(place);
    drop(engine);
    assert_eq!(verify(&directory, None).unwrap().problems, 0);
    let engine = Engine::open(&directory, settings).unwrap();
    recover(&engine);
    let entries = read(&engine, &ann, session);
    let places: Vec<_> = entries.iter().map(|(e, _)| e.place.0).collect();
    assert_eq!(places, kept_places);
}

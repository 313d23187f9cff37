//! When the disk is full: on a small file system that this test mounts for itself, in namespaces of its own
//! (`unshare` of util-linux), and runs in as a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use support::*;
use tidegate_bus::{Place, SessionChange, Store, StoreError};
use tidegate_store::{Engine, Settings, verify};

/// Names the small file system, to the process that runs on it.
const SMALL_DISK: &str = "TIDEGATE_SMALL_DISK";

#[test]
fn a_full_disk_refuses_publications_until_there_is_room() {
    if let Some(small) = env::var_os(SMALL_DISK) {
        return fill_and_empty(&PathBuf::from(small));
    }
    let small = tempfile::tempdir().unwrap();
    let mounted = r#"mount -t tmpfs -o size=200m none "$TIDEGATE_SMALL_DISK" && exec "$0" "$@""#;
    let name = "a_full_disk_refuses_publications_until_there_is_room";
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mounted])
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(SMALL_DISK, small.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
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

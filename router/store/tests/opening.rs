//! What keeps an engine from starting, and what it says then.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

mod support;

use std::fs;
use std::path::Path;

use support::*;
use tidegate_store::{Engine, OpenError, Settings, Sync, status, verify};

fn journal(directory: &Path) -> std::path::PathBuf {
    let journals = fs::read_dir(directory.join("db")).unwrap();
    journals
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jnl"))
        .max()
        .unwrap()
}

/// The journal without the room it has.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&b| b != 0).unwrap() + 1
}

/// A crash after `count` messages, each acknowledged.
fn crashed(count: u64, settings: &Settings) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), settings.clone()).unwrap();
    recover(&engine);
    let ann = client("ann");
    let session = session(&engine, &ann);
    for place in 1..=count {
        let body = message("topic", format!("message number {place}").as_bytes());
        kept(&publish(&engine, &body, &[reference(&ann, session, place)]));
    }
    copy(directory.path(), crashed.path());
    crashed
}

fn waiting(engine: &Engine) -> u64 {
    recover(engine).sessions["ann"].queued.messages
}

#[test]
fn a_directory_is_used_by_one_engine() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let refused = Engine::open(directory.path(), Settings::default()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }));
    assert!(
        refused
            .to_string()
            .contains(directory.path().to_str().unwrap())
    );
    assert!(matches!(
        verify(directory.path(), None),
        Err(OpenError::InUse { .. })
    ));
    assert!(status(directory.path()).unwrap().in_use);
    drop(engine);
    assert!(!status(directory.path()).unwrap().in_use);
    open(directory.path());
}

#[test]
fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nowhere");
    let refused = Engine::open(&path, Settings::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }));
    assert!(refused.to_string().contains("nowhere"));
}

#[test]
fn a_file_in_the_place_of_the_database_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("db"), "x").unwrap();
    let refused = Engine::open(directory.path(), Settings::default()).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains(directory.path().to_str().unwrap())
    );
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    {
        let db = fjall::Database::builder(directory.path().join("db"))
            .open()
            .unwrap();
        let meta = db.keyspace("meta", Default::default).unwrap();
        meta.insert("format", 7_u32.to_be_bytes()).unwrap();
        db.persist(fjall::PersistMode::SyncAll).unwrap();
    }
    let refused = Engine::open(directory.path(), Settings::default()).unwrap_err();
    assert!(matches!(
        refused,
        OpenError::Newer {
            found: 7,
            known: 1,
            ..
        }
    ));
    let text = refused.to_string();
    assert!(text.contains('7') && text.contains('1'), "{text}");
}

#[test]
fn a_database_whose_making_was_interrupted_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("db.new")).unwrap();
    fs::write(directory.path().join("db.new/0.jnl"), [0; 100]).unwrap();
    let engine = open(directory.path());
    assert!(recover(&engine).sessions.is_empty());
}

#[test]
fn a_database_that_lacks_a_part_is_refused_and_left_as_it_is() {
    let crashed = crashed(10, &Settings::default());
    fs::remove_file(crashed.path().join("commit.mark")).unwrap();
    fs::remove_file(crashed.path().join("db/version")).unwrap();
    let error = Engine::open(crashed.path(), Settings::default()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(journal(crashed.path()).exists());
}

#[test]
fn a_torn_batch_is_gone_as_a_whole_and_the_rest_is_there() {
    let settings = Settings {
        sync: Sync::Interval(std::time::Duration::from_secs(3_600)),
        ..Settings::default()
    };
    let crashed = crashed(10, &settings);
    let path = journal(crashed.path());
    let whole = fs::read(&path).unwrap();
    let end = used(&whole);
    for torn in [1, 3, 40, 60] {
        fs::write(&path, &whole[..end - torn]).unwrap();
        let copied = tempfile::tempdir().unwrap();
        copy(crashed.path(), copied.path());
        let engine = open(copied.path());
        assert_eq!(waiting(&engine), 9, "{torn} bytes are missing");
        let recovered = engine.recovered();
        assert!(recovered.torn_bytes > 0);
        assert_eq!((recovered.missing_batches, recovered.corrupt), (0, 0));
    }
    // Its pages may reach the disk in any order.
    let mut holed = whole.clone();
    holed[end - 60..end - 20].fill(0);
    fs::write(&path, holed).unwrap();
    assert_eq!(waiting(&open(crashed.path())), 9);
}

#[test]
fn a_batch_that_was_acknowledged_and_is_gone_stops_the_start() {
    let crashed = crashed(10, &Settings::default());
    let path = journal(crashed.path());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..used(&whole) - 5]).unwrap();
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        let refused = Engine::open(crashed.path(), Settings::default()).unwrap_err();
        assert!(
            matches!(refused, OpenError::Lost { missing: 1, .. }),
            "{refused}"
        );
    }
    assert_eq!(
        fs::read(&path).unwrap(),
        before,
        "the evidence is untouched"
    );
    let refused = verify(crashed.path(), None).unwrap_err();
    assert!(refused.to_string().contains("1 of"), "{refused}");
    let settings = Settings {
        accept_loss: true,
        ..Settings::default()
    };
    let engine = Engine::open(crashed.path(), settings).unwrap();
    assert_eq!(waiting(&engine), 9);
    assert_eq!(engine.recovered().missing_batches, 1);
    drop(engine);
    assert_eq!(waiting(&open(crashed.path())), 9);
}

#[test]
fn a_journal_that_is_gone_stops_the_start() {
    let crashed = crashed(10, &Settings::default());
    fs::remove_file(journal(crashed.path())).unwrap();
    let refused = Engine::open(crashed.path(), Settings::default()).unwrap_err();
    assert!(
        matches!(refused, OpenError::Lost { missing: 12, .. }),
        "{refused}"
    );
}

#[test]
fn a_flipped_byte_anywhere_in_the_journal_is_never_silent() {
    let crashed = crashed(10, &Settings::default());
    let path = journal(crashed.path());
    let whole = fs::read(&path).unwrap();
    let end = used(&whole);
    let copied = tempfile::tempdir().unwrap();
    copy(crashed.path(), copied.path());
    let copied_journal = journal(copied.path());
    for at in 0..end {
        let mut flipped = whole[..end].to_vec();
        flipped[at] ^= 0x10;
        fs::write(&copied_journal, &flipped).unwrap();
        let refused = Engine::open(copied.path(), Settings::default());
        let Err(error) = refused else {
            // The sequence number is in no checksum, and of no meaning for what is kept.
            let engine = refused.unwrap();
            assert_eq!(waiting(&engine), 10, "byte {at}");
            drop(engine);
            fs::remove_dir_all(copied.path()).unwrap();
            copy(crashed.path(), copied.path());
            continue;
        };
        assert!(
            matches!(error, OpenError::Lost { .. } | OpenError::Damaged { .. }),
            "byte {at}: {error}"
        );
    }
}

#[test]
fn a_damaged_journal_in_front_of_another_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        memtable_bytes: 8 << 20,
        ..Settings::default()
    };
    let journals = |path: &Path| {
        let mut journals: Vec<_> = fs::read_dir(path.join("db"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "jnl"))
            .collect();
        journals.sort();
        journals
    };
    let engine = Engine::open(directory.path(), settings.clone()).unwrap();
    recover(&engine);
    let ann = client("ann");
    let session = session(&engine, &ann);
    let body = message("t", &[b'x'; 200_000]);
    let mut place = 0;
    // The first one stays for the session's sake, which is in no table yet.
    while journals(directory.path()).len() < 2 {
        place += 1;
        kept(&publish(&engine, &body, &[reference(&ann, session, place)]));
        assert!(place < 10_000, "there is still one journal");
    }
    kept(&publish(
        &engine,
        &body,
        &[reference(&ann, session, place + 1)],
    ));
    let crashed = tempfile::tempdir().unwrap();
    copy(directory.path(), crashed.path());
    drop(engine);
    let first = journals(crashed.path()).remove(0);
    let mut bytes = fs::read(&first).unwrap();
    let middle = used(&bytes) / 2;
    bytes[middle] ^= 1;
    fs::write(&first, &bytes).unwrap();
    let refused = Engine::open(crashed.path(), settings.clone()).unwrap_err();
    assert!(
        matches!(refused, OpenError::Lost { missing: 2.., .. }),
        "{refused}"
    );
    assert_eq!(
        fs::read(&first).unwrap(),
        bytes,
        "the evidence is untouched"
    );
    let settings = Settings {
        accept_loss: true,
        ..settings
    };
    let engine = Engine::open(crashed.path(), settings).unwrap();
    assert!(waiting(&engine) > 0);
    assert!(engine.recovered().missing_batches > 0);
}

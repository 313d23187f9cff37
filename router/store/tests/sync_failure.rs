//! A sync that fails after everything was written: what was refused may be on the disk all the same, and has to go.
//!
//! The process runs this test again with a library before it that makes the syncs fail while a file is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::*;
use tidegate_bus::{Origin, Store as _, StoreError};
use tidegate_store::verify;

/// Names the file while which is there syncs fail.
const FAIL: &str = "TIDEGATE_SYNCS_FAIL";

const SHIM: &str = r#"
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(void) {
    const char *file = getenv("TIDEGATE_SYNCS_FAIL");
    return file && access(file, F_OK) == 0;
}

int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}
"#;

/// Runs this test again with the library; `None` in the process that did that.
fn with_failing_syncs(name: &str) -> Option<PathBuf> {
    if let Some(file) = env::var_os(FAIL) {
        return Some(file.into());
    }
    let directory = tempfile::tempdir().unwrap();
    let (source, library) = (
        directory.path().join("shim.c"),
        directory.path().join("shim.so"),
    );
    fs::write(&source, SHIM).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.unwrap().success());
    let status = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env("LD_PRELOAD", &library)
        .env(FAIL, directory.path().join("fail"))
        .status();
    assert!(status.unwrap().success());
    None
}

/// Messages that wait for `ann`, and QoS 2 messages of hers that are not released.
fn found(directory: &Path) -> (u64, usize) {
    let engine = open(directory);
    let all = recover(&engine);
    let ann = &all.sessions["ann"];
    (ann.queued.messages, ann.received.len())
}

#[test]
fn what_was_refused_and_reached_the_disk_is_undone() {
    let name = "what_was_refused_and_reached_the_disk_is_undone";
    let Some(fail) = with_failing_syncs(name) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let ann = client("ann");
    let a;
    {
        let engine = open(directory.path());
        recover(&engine);
        a = session(&engine, &ann);
        let body = message("t", b"message");
        let from_ann = |number| Origin {
            client: ann.clone(),
            session: a,
            packet_id: id(number),
        };
        let publish = |place| {
            let origin = from_ann(place as u16);
            publish_from(&engine, &body, &[reference(&ann, a, place)], &origin)
        };
        kept(&publish(1));
        fs::write(&fail, "").unwrap();
        assert!(matches!(result(&publish(2)), Err(StoreError::Failed(_))));
        // It is there: a crash at this moment would find it.
        copy(directory.path(), scratch.path());
        fs::remove_file(&fail).unwrap();
        eventually("the engine takes again", || engine.accepts().is_ok());
        kept(&publish(3));
        let places: Vec<_> = read(&engine, &ann, a).iter().map(|e| e.0.place.0).collect();
        assert_eq!(places, [1, 3]);
    }
    assert_eq!(found(scratch.path()), (2, 2));
    assert_eq!(found(directory.path()), (2, 2));
    let engine = open(directory.path());
    let received = recover(&engine).sessions["ann"].received.clone();
    assert_eq!(received, [id(1), id(3)]);
    let places: Vec<_> = read(&engine, &ann, a).iter().map(|e| e.0.place.0).collect();
    assert_eq!(places, [1, 3]);
    drop(engine);
    assert_eq!(verify(directory.path(), None).unwrap().problems, 0);
}

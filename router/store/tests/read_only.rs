//! A directory that cannot be written: on a file system that this test mounts for itself, as in `full.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::fs;
use std::path::Path;

use support::*;
use tidegate_store::{Engine, Settings, verify};

#[test]
fn a_read_only_directory_is_named_and_left_as_it_is() {
    let name = "a_read_only_directory_is_named_and_left_as_it_is";
    // The same test twice in one mount: while it can be written, and when it cannot any more.
    let script = r#"mount -t tmpfs none "$TIDEGATE_MOUNTED" && "$0" "$@" \
        && mount -o remount,ro "$TIDEGATE_MOUNTED" && exec "$0" "$@""#;
    let Some(mounted) = mounted(name, script) else {
        return;
    };
    let (used, empty) = (mounted.join("used"), mounted.join("empty"));
    if !used.exists() {
        fs::create_dir(&used).unwrap();
        fs::create_dir(&empty).unwrap();
        let engine = open(&used);
        recover(&engine);
        let ann = client("ann");
        let session = session(&engine, &ann);
        let message = message("t", b"kept");
        kept(&publish(&engine, &message, &[reference(&ann, session, 1)]));
        return;
    }
    for directory in [&used, &empty] {
        let before = listing(directory);
        let opened = Engine::open(directory, Settings::default()).map(|_| ());
        // It cuts off what a crash has torn.
        let verified = verify(directory, None).map(|_| ());
        for error in [opened.unwrap_err(), verified.unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains(&directory.display().to_string()), "{text}");
            assert!(text.contains("Read-only file system"), "{text}");
        }
        assert_eq!(listing(directory), before);
    }
}

fn listing(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

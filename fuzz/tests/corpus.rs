//! Replays the corpus of every target, and what fuzzing has found before, without a fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tidegate_fuzz::{TARGETS, connection, differential};

/// The inputs in a folder, in the order of their names.
fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(target);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs a target with all its inputs and names those that fail.
fn replay(name: &str) {
    let (_, run) = TARGETS.iter().find(|(other, _)| *other == name).unwrap();
    let corpus = inputs("corpus", name);
    assert!(!corpus.is_empty(), "there is no corpus of {name}");
    let all = corpus.into_iter().chain(inputs("regressions", name));
    let failed: Vec<PathBuf> = all
        .filter(|file| {
            let bytes = fs::read(file).unwrap();
            catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "findings: {failed:#?}");
}

#[test]
fn coap_frame() {
    replay("coap_frame");
}

#[test]
fn coap_message() {
    replay("coap_message");
}

#[test]
fn coap_server() {
    replay("coap_server");
}

#[test]
fn coap_stream() {
    replay("coap_stream");
}

#[test]
fn codec_v31() {
    replay("codec_v31");
}

#[test]
fn codec_v311() {
    replay("codec_v311");
}

#[test]
fn codec_v5() {
    replay("codec_v5");
}

#[test]
fn connection() {
    replay("connection");
}

/// The target itself does not cross versions within a session; what was found when it did stays found.
#[test]
fn connection_across_versions() {
    let found = inputs("regressions", "connection");
    assert!(!found.is_empty(), "there are no regressions of connection");
    for file in found {
        connection::run_across_versions(&fs::read(file).unwrap());
    }
}

#[test]
fn differential() {
    replay("differential");
}

#[test]
fn http_api() {
    replay("http_api");
}

#[test]
fn topic_filter() {
    replay("topic_filter");
}

#[test]
fn websocket() {
    replay("websocket");
}

/// A rule that nothing takes may excuse what nobody has looked at.
#[test]
fn every_rule_of_the_differential_target_is_taken() {
    let all = inputs("corpus", "differential")
        .into_iter()
        .chain(inputs("regressions", "differential"));
    let taken: BTreeSet<String> = all
        .flat_map(|file| differential::rules_taken(&fs::read(file).unwrap()))
        .collect();
    let rules = differential::rules();
    let never: Vec<&String> = rules.iter().filter(|rule| !taken.contains(*rule)).collect();
    assert!(never.is_empty(), "rules that nothing takes: {never:#?}");
}

/// The fuzzer cuts longer inputs, and the replay would test what it never runs.
#[test]
fn no_input_is_longer_than_the_fuzzers_longest() {
    for (target, _) in TARGETS {
        for folder in ["corpus", "regressions"] {
            for file in inputs(folder, target) {
                let len = fs::metadata(&file).unwrap().len();
                assert!(len <= 2_048, "{}: {len}", file.display());
            }
        }
    }
}

/// A target without a test, or a folder without a target, would never be replayed.
#[test]
fn every_target_has_an_entry_and_every_folder_a_target() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| {
        let entries = fs::read_dir(package.join(folder)).unwrap();
        let names = entries.map(|entry| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("targets"), targets);
    assert_eq!(names("corpus"), targets);
    for folder in names("regressions") {
        assert!(targets.contains(&folder.as_str()), "{folder}");
    }
    let this = include_str!("corpus.rs");
    for name in targets {
        assert!(this.contains(&format!("replay(\"{name}\")")), "{name}");
    }
}

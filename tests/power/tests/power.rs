//! The loop itself: a real engine, recorded, and power failures in what it did. And engines and disks that do
//! not keep what they promise, which must be found out.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what goes wrong in a test is to end it"
)]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_power::choice::Choice;
use tidegate_power::disk::{Disk, Tree};
use tidegate_power::failure::{Failure, Forget, Names, keep};
use tidegate_power::log::{Event, parse};
use tidegate_power::plan::Plan;
use tidegate_power::record::{Recorder, Recording};
use tidegate_power::rules::Breach;
use tidegate_power::run::Trial;
use tidegate_power::scratch;

/// Each is busy with all cores and much memory.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn recorder() -> (TempDir, Recorder) {
    let scratch = scratch().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_power"));
    let recorder = Recorder::new(program, scratch.path()).unwrap();
    (scratch, recorder)
}

fn told(recording: &Recording, failure: &Failure) -> String {
    let kept = keep(recording, failure, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let kept = kept.display();
    format!("{failure}kept in {kept}; again with\ncargo xtask power --again {kept}")
}

fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// What the ordinary run holds the engine to: names that become durable in their order, as on journaling file
/// systems. Where they may come in any order fjall has a gap: the rename of a manifest may be lost
/// although the removal of the one before it is not. `cargo xtask power` looks at both.
const NAMES: Names = Names::Ordered;

/// Tries points of a recording and says how many there were.
fn survives(trial: &Trial<'_>, seed: u64, most: usize, until: Instant) -> usize {
    let found = trial.run(seed, most, Some(until), NAMES, Forget::Nothing);
    let (points, failure) = found.unwrap();
    if let Some(failure) = failure {
        panic!("{}", told(trial.recording, &failure));
    }
    let mut figures = trial.figures();
    figures.points = points;
    println!("seed {seed}: {figures}");
    points
}

#[test]
fn what_is_recorded_comes_to_what_was_done() {
    let _alone = alone();
    let (_scratch, recorder) = recorder();
    let mut recording = recorder
        .record(&Plan::new(1, 1), Tree::empty(), vec![])
        .unwrap();
    let disk = recording.disk_at(recording.events.len(), false).unwrap();
    let rebuilt = Choice::everything(&disk).tree(&disk);
    assert_eq!(
        rebuilt.differences(recording.end.as_ref().unwrap()),
        [""; 0]
    );
    // fjall renames its manifests past the C library.
    let renames =
        |event: &&Event| matches!(event, Event::Rename { to, .. } if to.ends_with("current"));
    assert!(recording.events.iter().filter(renames).count() > 5);
    // One write that is not recorded is noticed.
    let last = recording
        .events
        .iter()
        .rposition(|event| matches!(event, Event::Write { .. }));
    recording.events.remove(last.unwrap());
    assert!(Trial::new(&recorder, &recording).is_err());
}

/// What a shell does to a directory under the shim: its exit code, and what was recorded comes to.
fn shell(script: &str) -> (Option<i32>, Tree, Tree) {
    let (scratch, recorder) = recorder();
    let [directory, log] = ["recorded", "log"].map(|name| recorder.scratch().join(name));
    std::fs::create_dir(&directory).unwrap();
    let mut command = recorder.command(Path::new("/bin/sh"), &directory, &log);
    command.args(["-c", script, "sh"]);
    let command = command.arg(&directory).arg(recorder.marks());
    let status = command.status().unwrap();
    let mut disk = Disk::new(&Tree::empty(), false);
    for (number, event) in parse(&std::fs::read(log).unwrap())
        .unwrap()
        .iter()
        .enumerate()
    {
        disk.apply(number, event).unwrap();
    }
    let end = Tree::read(&directory).unwrap();
    drop(scratch);
    (status.code(), Choice::everything(&disk).tree(&disk), end)
}

#[test]
fn the_shim_follows_paths_and_descriptors_and_fails_on_what_it_does_not_know() {
    let script = r#"cd "$1"; exec 7>a; echo one >&7; exec 8>&7 7>&-; echo two >&8; echo >>./b; echo 3 >>"$1//b""#;
    let (code, recorded, end) = shell(script);
    assert_eq!(code, Some(0));
    assert_eq!(recorded.differences(&end), [""; 0]);
    let (code, recorded, end) = shell(r#"echo one >"$1/a"; printf end >"$2"; echo two >"$1/a""#);
    assert_eq!(code, Some(98), "it ends when it is told to");
    assert_eq!(recorded.differences(&end), [""; 0]);
    let (code, ..) = shell(r#"cd /; echo one >"$1/x/../a""#);
    assert_eq!(code, Some(99));
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails_and_not_when_it_fails_again() {
    let _alone = alone();
    let end = Instant::now() + Duration::from_secs(14);
    for seed in 1.. {
        let (_scratch, recorder) = recorder();
        let first = Plan::new(seed, 1);
        let first = recorder.record(&first, Tree::empty(), vec![]).unwrap();
        let trial = Trial::new(&recorder, &first).unwrap();
        assert!(survives(&trial, seed, 150, in_seconds(8)) > 0);
        let survived = trial.survivor(seed, NAMES).unwrap();
        let (base, before) = survived.unwrap_or_else(|f| panic!("{}", told(&first, &f)));
        let second = Plan::new(seed + 1_000, 1);
        let second = recorder.record(&second, base, before).unwrap();
        let trial = Trial::new(&recorder, &second).unwrap();
        assert!(survives(&trial, seed, 50, in_seconds(4)) > 0);
        if Instant::now() >= end {
            break;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_while_journals_are_made_and_removed() {
    let _alone = alone();
    let (_scratch, recorder) = recorder();
    let recording = recorder
        .record(&Plan::new(1, 6), Tree::empty(), vec![])
        .unwrap();
    let trial = Trial::new(&recorder, &recording).unwrap();
    let [journals, removed, tables, gone] = trial.figures().files;
    assert!(
        journals > 1 && removed > 0 && tables > 0 && gone > 0,
        "{}",
        trial.figures()
    );
    assert!(survives(&trial, 1, 200, in_seconds(10)) > 0);
}

/// What goes wrong when an engine or a disk is careless.
fn found_out(careless: bool, names: Names, forget: Forget) -> Vec<Breach> {
    let _alone = alone();
    let (_scratch, recorder) = recorder();
    let plan = Plan {
        careless,
        ..Plan::new(3, 1)
    };
    let recording = recorder.record(&plan, Tree::empty(), vec![]).unwrap();
    let trial = Trial::new(&recorder, &recording).unwrap();
    let (_, failure) = trial.run(3, 400, None, names, forget).unwrap();
    let failure = failure.expect("it is not found out");
    assert!(!failure.losses.is_empty(), "{failure}");
    failure.breaches
}

fn is_loss(breaches: &[Breach]) -> bool {
    let loss = |breach: &Breach| match breach {
        Breach::Lost(_) => true,
        Breach::NoState { missing, .. } => !missing.is_empty(),
        Breach::NotOpened(why) => why.contains("lost what was acknowledged"),
        // That it was given was acknowledged, too; which loss is seen first is a matter of time.
        Breach::Epoch { .. } => true,
        _ => false,
    };
    breaches.iter().any(loss)
}

#[test]
fn an_engine_that_acknowledges_before_it_syncs_is_found_out() {
    let breaches = found_out(true, Names::Ordered, Forget::Nothing);
    assert!(is_loss(&breaches), "{breaches:?}");
}

#[test]
fn a_disk_that_does_not_sync_journals_is_found_out() {
    let breaches = found_out(false, Names::Ordered, Forget::Journals);
    assert!(is_loss(&breaches), "{breaches:?}");
}

#[test]
fn a_disk_that_does_not_sync_directories_is_found_out() {
    found_out(false, Names::Strict, Forget::Directories);
}

//! What outlives the gateway's process, seen from outside: restarts, and `tidegate data`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tidegate_tests::wire::{Connect, Publish, Version};
use tidegate_tests::{Gateway, Outcome, run_without_input, tidegate};

const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
fn data(directory: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(tidegate());
    command.arg("data").args(arguments).arg("--data-dir");
    run_without_input(command.arg(directory), PATIENCE)
}

/// Everything the durable clients of these tests wait for.
#[track_caller]
fn fill(gateway: &Gateway) {
    let mut lasting = Connect::lasting(Version::V5, "lasting").open(gateway.mqtt());
    lasting.subscribe("t/#", 2);
    lasting.disconnect();
    let mut publisher = Connect::v5("publisher").open(gateway.mqtt());
    for n in 0..3 {
        publisher.publish(&Publish::new("t/1", format!("m{n}")).qos(2));
    }
    publisher.publish(&Publish::new("r", "retained").qos(1).retain());
}

#[track_caller]
fn check(gateway: &Gateway) {
    let resuming = Connect::lasting(Version::V5, "lasting").resume();
    let mut lasting = resuming.open(gateway.mqtt());
    assert!(lasting.session_present());
    assert_eq!(lasting.receive_texts(3), ["m0", "m1", "m2"]);
    let mut reader = Connect::v5("reader").open(gateway.mqtt());
    reader.subscribe("r", 1);
    assert_eq!(reader.receive_texts(1), ["retained"]);
}

#[test]
fn sessions_queues_and_retained_messages_outlive_an_orderly_end() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    fill(&gateway);
    let gateway = gateway.restart("TERM");
    check(&gateway);
    assert!(
        gateway
            .output()
            .contains("Everything that was kept is back.")
    );
}

#[test]
fn sessions_queues_and_retained_messages_outlive_a_kill() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    fill(&gateway);
    check(&gateway.restart("KILL"));
}

#[test]
fn the_memory_engine_keeps_nothing() {
    let Some(gateway) = Gateway::configured("[store]\nengine = \"memory\"") else {
        return;
    };
    fill(&gateway);
    let gateway = gateway.restart("TERM");
    let resuming = Connect::lasting(Version::V5, "lasting").resume();
    assert!(!resuming.open(gateway.mqtt()).session_present());
    assert!(!gateway.directory().join("data/store").exists());
}

#[test]
fn a_backup_is_taken_while_the_gateway_runs_and_restored_elsewhere() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    fill(&gateway);
    let here = gateway.directory().join("data");
    let file = gateway.directory().join("backup");
    let file = file.to_str().unwrap_or_default();
    let taken = data(&here, &["backup", file]);
    assert!(taken.status.success(), "{}", taken.said);
    let again = data(&here, &["backup", file]);
    assert!(again.said.contains("exists already"), "{}", again.said);
    let there = gateway.directory().join("elsewhere");
    let restored = data(&there, &["restore", file]);
    assert!(restored.status.success(), "{}", restored.said);
    let verified = data(&there, &["verify"]);
    assert!(verified.status.success(), "{}", verified.said);
    let told = "1 sessions, 1 subscriptions, 1 retained messages, 3 queued or in flight";
    assert!(verified.said.contains(told), "{}", verified.said);
    // A part of it is none.
    let bytes = fs::read(file).unwrap_or_default();
    let part = gateway.directory().join("part");
    assert!(fs::write(&part, &bytes[..bytes.len() - 1]).is_ok());
    let nowhere = gateway.directory().join("nowhere");
    let refused = data(&nowhere, &["restore", part.to_str().unwrap_or_default()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.said.contains("not complete"), "{}", refused.said);
    // The data that is restored is that of a gateway.
    let data_dir = gateway.directory().join("data");
    let mut gateway = gateway;
    gateway.signal("TERM");
    assert!(gateway.wait(PATIENCE).success());
    assert!(fs::remove_dir_all(data_dir.join("store")).is_ok());
    let restored = data(&data_dir, &["restore", file]);
    assert!(restored.status.success(), "{}", restored.said);
}

#[test]
fn one_process_has_a_data_directory_and_status_says_so() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let here = gateway.directory().join("data");
    let status = data(&here, &["status"]);
    assert!(
        status.said.contains("in use                yes"),
        "{}",
        status.said
    );
    let verified = data(&here, &["verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(verified.said.contains("in use by another process"));
    let mut second = Command::new(tidegate());
    second.arg("run").arg("--data-dir").arg(&here);
    for bind in ["mqtt", "mqtts", "ws", "wss", "quic"] {
        second.args(["--set", &format!("listeners.{bind}.bind=127.0.0.1:0")]);
    }
    second.args(["--set", "http.bind=127.0.0.1:0"]);
    let second = run_without_input(&mut second, PATIENCE);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        second.said.contains("in use by another process"),
        "{}",
        second.said
    );
}

#[test]
fn what_is_kept_is_for_the_eyes_of_the_gateway_only() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    for (path, mode) in [("data/store", 0o700), ("data/control.sock", 0o600)] {
        let found = fs::metadata(gateway.directory().join(path));
        let found = found.map(|found| found.permissions().mode() & 0o777);
        assert_eq!(found.ok(), Some(mode), "{path}");
    }
    assert_eq!(gateway.metric("tidegate_store_accepting", &[]), 1.0);
    fill(&gateway);
    assert!(gateway.metric("tidegate_store_commits_total", &[]) > 0.0);
}

//! Files change and the listener follows, whichever way they change; what is not good is not taken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

#[path = "support/log.rs"]
mod log;
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use log::Log;
use rustls::pki_types::CertificateDer;
use support::*;
use tidegate_tls::{CertificateFiles, Identity, Outcome, Watcher};

struct Watched {
    identity: Arc<Identity>,
    outcomes: mpsc::Receiver<Outcome>,
    watcher: Watcher,
}

fn watch(files: CertificateFiles) -> Watched {
    let identity = Identity::load("test", settings(vec![files])).unwrap();
    let (sender, outcomes) = mpsc::channel();
    let watcher = Watcher::start(vec![identity.clone()], move |_, outcome| {
        let _ = sender.send(outcome);
    })
    .unwrap();
    Watched {
        identity,
        outcomes,
        watcher,
    }
}

impl Watched {
    /// Waits until this certificate is shown. Says nothing of what came before it.
    fn wait_for(&self, pair: &Pair) {
        let expected = fingerprint(&der(pair));
        while self.identity.status().certificates[0].fingerprint != expected {
            self.outcomes
                .recv_timeout(PATIENCE)
                .expect("the change should have been noticed");
        }
        assert_eq!(self.identity.status().last_error, None);
    }

    fn wait_for_failure(&self) -> String {
        loop {
            if let Some(error) = self.identity.status().last_error {
                return error;
            }
            self.outcomes
                .recv_timeout(PATIENCE)
                .expect("the change should have been noticed");
        }
    }
}

fn fingerprint(der: &CertificateDer<'_>) -> String {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().unwrap().common.hash_provider.hash(der);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn server(authority: &Authority) -> Pair {
    authority.issue(Leaf::server(&["localhost"]))
}

#[test]
fn files_written_over_in_place_are_taken() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &server(&authority));
    let watched = watch(files.clone());
    for _ in 0..3 {
        let next = server(&authority);
        fs::write(&files.chain, &next.chain).unwrap();
        fs::write(&files.key, &next.key).unwrap();
        watched.wait_for(&next);
    }
}

#[test]
fn files_renamed_into_place_are_taken() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let watched = watch(folder.write_pair("server", &server(&authority)));
    for _ in 0..3 {
        let next = server(&authority);
        folder.write_pair("server", &next);
        watched.wait_for(&next);
    }
}

/// As the kubelet does: `tls.crt` → `..data/tls.crt`, `..data` → a directory of the version, swapped
/// by renaming a new link over the old; then the old directory goes.
fn publish(folder: &Path, version: usize, pair: &Pair) {
    let data = folder.join(format!("..version_{version}"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("tls.crt"), &pair.chain).unwrap();
    fs::write(data.join("tls.key"), &pair.key).unwrap();
    let link = folder.join("..data_tmp");
    symlink(data.file_name().unwrap(), &link).unwrap();
    fs::rename(&link, folder.join("..data")).unwrap();
    if version > 0 {
        fs::remove_dir_all(folder.join(format!("..version_{}", version - 1))).unwrap();
    }
}

#[test]
fn a_symbolic_link_swapped_as_kubernetes_does_is_followed() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    publish(folder.0.path(), 0, &server(&authority));
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), folder.path(name)).unwrap();
    }
    let files = CertificateFiles {
        chain: folder.path("tls.crt"),
        key: folder.path("tls.key"),
    };
    let watched = watch(files);
    for version in 1..=3 {
        let next = server(&authority);
        publish(folder.0.path(), version, &next);
        watched.wait_for(&next);
        assert_eq!(watched.identity.status().reloads_succeeded, version as u64);
        assert_eq!(watched.identity.status().reloads_failed, 0);
    }
}

#[test]
fn files_swapped_while_they_are_read_are_nobodys_mistake() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    publish(folder.0.path(), 0, &server(&authority));
    let data = folder.path("..data");
    let files = CertificateFiles {
        chain: data.join("tls.crt"),
        key: data.join("tls.key"),
    };
    let identity = Identity::load("test", settings(vec![files])).unwrap();
    for version in 1..=300 {
        let next = server(&authority);
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| publish(folder.0.path(), version, &next));
            while !swapping.is_finished() {
                identity.check();
            }
        });
        identity.check();
        let status = identity.status();
        assert_eq!(status.certificates[0].fingerprint, fingerprint(&der(&next)));
        assert_eq!(status.reloads_failed, 0, "{version}");
    }
}

#[test]
fn a_link_far_up_the_path_and_a_target_elsewhere_are_followed() {
    let (authority, folder, elsewhere) = (Authority::new("CA"), Folder::new(), Folder::new());
    let release = |name: &str, pair: &Pair| -> PathBuf {
        let directory = elsewhere.path(name).join("tls");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("server.crt"), &pair.chain).unwrap();
        fs::write(directory.join("server.key"), &pair.key).unwrap();
        elsewhere.path(name)
    };
    symlink(release("1", &server(&authority)), folder.path("current")).unwrap();
    let directory = folder.path("current").join("tls");
    let watched = watch(CertificateFiles {
        chain: directory.join("server.crt"),
        key: directory.join("server.key"),
    });
    // Several times: the first may be seen by the look with which the watcher begins.
    for name in ["2", "3", "4"] {
        let next = server(&authority);
        symlink(release(name, &next), folder.path("next")).unwrap();
        fs::rename(folder.path("next"), folder.path("current")).unwrap();
        watched.wait_for(&next);
    }
    // The place watched now is the new one.
    let last = server(&authority);
    release("4", &last);
    watched.wait_for(&last);
}

#[test]
fn a_directory_removed_and_made_again_is_found_again() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let directory = folder.path("a").join("b");
    let write = |pair: &Pair| {
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("server.crt"), &pair.chain).unwrap();
        fs::write(directory.join("server.key"), &pair.key).unwrap();
    };
    let first = server(&authority);
    write(&first);
    let watched = watch(CertificateFiles {
        chain: directory.join("server.crt"),
        key: directory.join("server.key"),
    });
    fs::remove_dir_all(folder.path("a")).unwrap();
    let error = watched.wait_for_failure();
    assert!(error.contains("there is no such file"), "{error}");
    assert_eq!(watched.identity.status().certificates.len(), 1);
    let second = server(&authority);
    write(&second);
    watched.wait_for(&second);
    // Moved aside, and another in its place.
    fs::rename(&directory, folder.path("aside")).unwrap();
    let third = server(&authority);
    write(&third);
    watched.wait_for(&third);
    // And that one is watched now, not the one moved aside.
    let fourth = server(&authority);
    write(&fourth);
    watched.wait_for(&fourth);
}

#[test]
fn a_bad_change_is_reported_once_and_what_was_good_stays() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let first = server(&authority);
    let files = folder.write_pair("server", &first);
    let identity = Identity::load("test", settings(vec![files.clone()])).unwrap();
    let before = identity.config();
    assert_eq!(identity.check(), Outcome::Unchanged);

    fs::write(&files.chain, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    assert_eq!(identity.check(), Outcome::Failed);
    assert_eq!(identity.check(), Outcome::Unchanged);
    assert!(Arc::ptr_eq(&before, &identity.config()));
    let status = identity.status();
    let error = status.last_error.unwrap();
    assert!(error.starts_with(str(&files.chain)), "{error}");
    assert_eq!((status.reloads_succeeded, status.reloads_failed), (0, 1));
    assert_eq!(
        status.certificates[0].fingerprint,
        fingerprint(&der(&first))
    );

    fs::remove_file(&files.chain).unwrap();
    assert_eq!(identity.check(), Outcome::Failed);
    assert_eq!(identity.check(), Outcome::Unchanged);

    // The same as in use: taken again, so that nothing is said to be wrong any longer.
    fs::write(&files.chain, &first.chain).unwrap();
    assert_eq!(identity.check(), Outcome::Replaced);
    assert_eq!(identity.status().last_error, None);
    assert_eq!(identity.status().reloads_failed, 2);
}

#[test]
fn certificate_and_key_written_at_different_times_end_well() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &server(&authority));
    let watched = watch(files.clone());
    let next = server(&authority);
    fs::write(&files.chain, &next.chain).unwrap();
    let error = watched.wait_for_failure();
    assert!(error.contains("does not belong to"), "{error}");
    fs::write(&files.key, &next.key).unwrap();
    watched.wait_for(&next);
}

#[test]
fn a_look_can_be_asked_for() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &server(&authority));
    let watched = watch(files);
    for _ in 0..20 {
        watched.watcher.check_now();
    }
    // Nothing has changed, so nothing is reported.
    assert!(
        watched
            .outcomes
            .recv_timeout(Duration::from_millis(500))
            .is_err()
    );
    let next = server(&authority);
    folder.write_pair("server", &next);
    watched.watcher.check_now();
    watched.wait_for(&next);
}

#[test]
fn whoever_asks_for_a_look_is_told_once_what_still_fails() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let good = watch(folder.write_pair("good", &server(&authority)));
    let files = folder.write_pair("server", &server(&authority));
    let watched = watch(files.clone());
    let log = Log::of(str(&files.chain));
    fs::write(&files.chain, "nonsense").unwrap();
    watched.wait_for_failure();
    let first = log.next();
    assert!(first.contains("have changed and cannot be used"), "{first}");
    for _ in 0..2 {
        good.watcher.check_now();
        watched.watcher.check_now();
        let again = log.next();
        assert!(again.contains("still cannot be used"), "{again}");
        assert!(again.contains("there is no certificate"), "{again}");
    }
    // Looking because something has changed, and finding it as it was, is no news.
    fs::write(&files.chain, "nonsense").unwrap();
    log.nothing_within(Duration::from_secs(1));
    let next = server(&authority);
    folder.write_pair("server", &next);
    watched.wait_for(&next);
    watched.watcher.check_now();
    log.nothing_within(Duration::from_millis(500));
}

#[tokio::test]
async fn connections_stay_while_certificates_change_and_new_ones_see_the_new() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &server(&authority));
    let echo = Server::start(settings(vec![files])).await;
    let any = tidegate_tls::client::config(None, None, true).unwrap();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let next = server(&authority);
        folder.write_pair("server", &next);
        assert_eq!(echo.identity.check(), Outcome::Replaced);
        let mut config = (*any).clone();
        config.resumption = rustls::client::Resumption::disabled();
        let stream = connect(echo.address, &Arc::new(config), "localhost")
            .await
            .unwrap();
        assert!(shown(&stream) == der(&next));
        streams.push(stream);
    }
    for stream in &mut streams {
        ping(stream).await.unwrap();
    }
    assert_eq!(echo.identity.status().reloads_succeeded, 10);
}

#[test]
fn what_should_not_stay_as_it_is_is_told_when_it_begins_and_when_it_ends() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let set_mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&files.key, mode).unwrap();
    };
    set_mode(0o600);
    let identity = Identity::load("test", settings(vec![files.clone()])).unwrap();
    assert_eq!(identity.status().warnings, [""; 0]);
    assert_eq!(identity.check(), Outcome::Unchanged);
    // The files hold what they held.
    set_mode(0o644);
    assert_eq!(identity.check(), Outcome::Warned);
    let warnings = identity.status().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("can be read by other users"),
        "{warnings:?}"
    );
    assert_eq!(identity.check(), Outcome::Unchanged);
    set_mode(0o600);
    assert_eq!(identity.check(), Outcome::Warned);
    assert_eq!(identity.status().warnings, [""; 0]);
    assert_eq!(identity.status().reloads_succeeded, 0);
}

//! A process that is killed in the middle of its work: what it was acknowledged is there, and nothing
//! behind a gap.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use support::*;
use tidegate_bus::{Place, SessionChange, Store, Ticket};

const DIRECTORY: &str = "TIDEGATE_KILL_DIRECTORY";
const CLIENTS: u64 = 3;

/// The part of the process that is killed.
fn work_until_killed(directory: &Path) {
    let engine = open(directory);
    let all = recover(&engine);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (engine, all) = (&engine, &all);
            scope.spawn(move || {
                let client = client(&format!("c{number}"));
                let back = all.sessions.get(client.as_str());
                let session = back.map_or_else(|| session(engine, &client), |back| back.session);
                let mut place = back.map_or(0, |back| back.last_place.0);
                let mut waiting = VecDeque::<(u64, Ticket)>::new();
                loop {
                    while waiting.len() < 50 {
                        place += 1;
                        let body = message("t", &vec![b'x'; 1 + (place as usize * 37) % 3_000]);
                        let to = [reference(&client, session, place)];
                        waiting.push_back((place, publish(engine, &body, &to)));
                    }
                    if let Some((place, ticket)) = waiting.pop_front() {
                        kept(&ticket);
                        let line = format!("{number} {place}\n");
                        if std::io::stdout().write_all(line.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return work_until_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; CLIENTS as usize];
    for round in 1..=6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "what_was_acknowledged_outlives_a_kill",
                "--exact",
                "--nocapture",
            ])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut read = |line: &str| {
            let numbers = line.trim_end().split_once(' ');
            let numbers = numbers.and_then(|(c, p)| Some((c.parse().ok()?, p.parse().ok()?)));
            let Some((client, place)) = numbers else {
                return;
            };
            let client: usize = client;
            acknowledged[client] = place;
        };
        for _ in 0..round * 500 {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            read(&line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        // The last line may be cut.
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        whole.lines().for_each(&mut read);
        let verified = tidegate_store::verify(directory.path(), None).unwrap();
        assert_eq!((verified.problems, verified.named), (0, vec![]));
        let engine = open(directory.path());
        let all = recover(&engine);
        for (number, &acknowledged) in acknowledged.iter().enumerate() {
            let back = &all.sessions[&format!("c{number}")];
            let places: Vec<_> = read_places(&engine, back);
            let last = places.last().copied().unwrap_or(0);
            assert!(last >= acknowledged, "{last} of {acknowledged} places");
            assert!(places.iter().copied().eq(1..=last), "there is a gap");
        }
    }
    let engine = open(directory.path());
    let all = recover(&engine);
    for back in all.sessions.values() {
        let done: Vec<_> = read_places(&engine, back)
            .into_iter()
            .map(|place| SessionChange::Done(Place(place)))
            .collect();
        kept(&engine.change(&back.client, back.epoch, &done));
    }
    drop((engine, all));
    let verified = tidegate_store::verify(directory.path(), None).unwrap();
    assert_eq!((verified.entries, verified.bodies), (0, 0));
}

fn read_places(engine: &tidegate_store::Engine, session: &tidegate_bus::StoredSession) -> Vec<u64> {
    let entries = read(engine, &session.client, session.session);
    entries.iter().map(|(entry, _)| entry.place.0).collect()
}

//! What the model of the disk keeps and loses, with logs of a few events.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

use std::collections::BTreeMap;

use tidegate_power::choice::{Choice, Fate};
use tidegate_power::content::Content;
use tidegate_power::disk::{Disk, Tree};
use tidegate_power::log::Event;
use tidegate_power::random::Random;

const NAMES: i32 = 3;
const FILE: i32 = 4;

fn open(fd: i32, path: &str, create: bool) -> Event {
    Event::Open {
        fd,
        path: path.to_owned(),
        create,
        truncate: false,
    }
}

fn write(offset: u64, text: &str) -> Event {
    Event::Write {
        fd: FILE,
        offset,
        data: text.into(),
    }
}

fn rename(from: &str, to: &str) -> Event {
    Event::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn sync(fd: i32, token: u64) -> [Event; 2] {
    [Event::SyncBegin { fd, token }, Event::SyncEnd { token }]
}

fn disk(ordered_names: bool, events: &[Event]) -> Disk {
    let mut disk = Disk::new(&Tree::empty(), ordered_names);
    for (number, event) in events.iter().enumerate() {
        disk.apply(number, event).unwrap();
    }
    disk
}

/// The files that are there, as text, and `None` for a directory.
fn files(tree: &Tree) -> BTreeMap<&str, Option<String>> {
    let Tree::Directory(entries) = tree else {
        unreachable!("the root is a directory");
    };
    let text = |below: &Tree| match below {
        Tree::File(content) => Some(String::from_utf8(content.bytes()).unwrap()),
        Tree::Directory(_) => None,
    };
    let entries = entries.iter();
    entries
        .map(|(name, below)| (name.as_str(), text(below)))
        .collect()
}

fn nothing(disk: &Disk) -> Tree {
    Choice::default().tree(disk)
}

#[test]
fn a_file_is_there_after_a_sync_of_its_directory_and_holds_what_its_own_sync_covered() {
    let mut log = vec![
        open(NAMES, "", false),
        open(FILE, "a", true),
        write(0, "one"),
    ];
    log.extend(sync(FILE, 1));
    assert_eq!(files(&nothing(&disk(false, &log))), [].into());
    log.push(write(3, "two"));
    log.extend(sync(NAMES, 2));
    let after = disk(false, &log);
    assert_eq!(
        files(&nothing(&after)),
        [("a", Some("one".to_owned()))].into()
    );
    let all = Choice::everything(&after).tree(&after);
    assert_eq!(files(&all), [("a", Some("onetwo".to_owned()))].into());
}

#[test]
fn in_the_other_model_any_sync_makes_earlier_names_durable() {
    let mut log = vec![open(5, "b", true), open(FILE, "a", true)];
    log.extend(sync(FILE, 1));
    log.push(open(6, "c", true));
    let left = nothing(&disk(true, &log));
    let files = files(&left);
    let there: Vec<_> = files.keys().copied().collect();
    assert_eq!(there, ["a", "b"]);
}

#[test]
fn what_is_written_while_a_sync_is_made_is_not_covered() {
    let log = [
        open(NAMES, "", false),
        open(FILE, "a", true),
        write(0, "one"),
        Event::SyncBegin { fd: FILE, token: 1 },
        write(3, "two"),
        Event::SyncEnd { token: 1 },
        Event::SyncBegin {
            fd: NAMES,
            token: 2,
        },
        Event::SyncEnd { token: 2 },
    ];
    assert_eq!(
        files(&nothing(&disk(false, &log)))["a"],
        Some("one".to_owned())
    );
    // The sync of the directory has not succeeded yet.
    assert_eq!(files(&nothing(&disk(false, &log[..7]))), [].into());
}

#[test]
fn a_rename_happens_or_does_not_and_a_removed_file_may_come_back() {
    let mut log = vec![
        open(NAMES, "", false),
        open(FILE, "a", true),
        write(0, "old"),
    ];
    log.extend(sync(FILE, 1));
    log.extend([open(FILE, "t", true), write(0, "new")]);
    log.extend(sync(FILE, 2));
    log.extend(sync(NAMES, 3));
    log.push(rename("t", "a"));
    let renamed = disk(false, &log);
    let both = [("a", Some("old".to_owned())), ("t", Some("new".to_owned()))];
    assert_eq!(files(&nothing(&renamed)), both.into());
    let all = Choice::everything(&renamed).tree(&renamed);
    assert_eq!(files(&all), [("a", Some("new".to_owned()))].into());
    log.extend(sync(NAMES, 4));
    log.push(Event::Unlink {
        path: "a".to_owned(),
    });
    let removed = disk(false, &log);
    assert_eq!(
        files(&nothing(&removed)),
        [("a", Some("new".to_owned()))].into()
    );
    assert_eq!(
        files(&Choice::everything(&removed).tree(&removed)),
        [].into()
    );
}

#[test]
fn parts_of_a_write_are_left_and_a_length_without_its_bytes_reads_as_zeros() {
    let mut log = vec![open(NAMES, "", false), open(FILE, "a", true)];
    log.extend(sync(NAMES, 1));
    log.push(write(0, "abcdef"));
    let event = log.len() - 1;
    let disk = disk(false, &log);
    let node = *disk.data.keys().next().unwrap();
    let choice = Choice {
        data: [(event, Fate::Parts(vec![(1, 3)]))].into(),
        lengths: [(node, 5)].into(),
        ..Choice::default()
    };
    assert_eq!(files(&choice.tree(&disk))["a"], Some("\0bc\0\0".to_owned()));
    assert_eq!(choice.lost(&disk).len(), 1);
    assert_eq!(
        files(&choice.without(&choice.lost(&disk)).tree(&disk))["a"],
        Some("abcdef".to_owned())
    );
}

#[test]
fn a_directory_whose_name_is_lost_takes_all_below_it_along() {
    let mut log = vec![Event::MakeDirectory {
        path: "d".to_owned(),
    }];
    log.extend([
        open(NAMES, "d", false),
        open(FILE, "d/a", true),
        write(0, "one"),
    ]);
    log.extend(sync(FILE, 1));
    log.extend(sync(NAMES, 2));
    assert_eq!(files(&nothing(&disk(false, &log))), [].into());
    assert_eq!(files(&nothing(&disk(true, &log))), [("d", None)].into());
}

#[test]
fn what_was_not_recorded_is_noticed() {
    let mut disk = Disk::new(&Tree::empty(), false);
    assert!(disk.apply(0, &open(FILE, "unknown", false)).is_err());
    assert!(disk.apply(1, &write(0, "to nothing")).is_err());
    let other = Tree::Directory([("a".to_owned(), Tree::File(Content::default()))].into());
    assert_eq!(
        nothing(&disk).differences(&other),
        ["/a: only in the second"]
    );
}

#[test]
fn choices_of_a_seed_are_the_same_and_together_they_leave_everything_between_nothing_and_all() {
    let mut log = vec![open(NAMES, "", false), open(FILE, "a", true)];
    log.extend(sync(NAMES, 1));
    let text = "x".repeat(9_000);
    log.extend([write(0, &text), write(9_000, &text)]);
    let disk = disk(false, &log);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let choice = Choice::random(&disk, &mut Random::new(seed));
        assert_eq!(choice, Choice::random(&disk, &mut Random::new(seed)));
        let left = files(&choice.tree(&disk))["a"].clone().unwrap();
        seen.insert((left.len(), left.matches('x').count()));
    }
    assert!(seen.contains(&(0, 0)) && seen.contains(&(18_000, 18_000)));
    assert!(seen.contains(&(18_000, 0)), "a length without its bytes");
    assert!(seen.contains(&(9_000, 9_000)), "the first write only");
    assert!(
        seen.iter().any(|(length, _)| *length == 17_920),
        "torn at a sector"
    );
}

//! One rebuilt directory: opened with the engine, and judged.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tidegate_bus::{Message, Store, StoredMessage, TopicName};
use tidegate_store::{Engine, Settings};

use crate::disk::Tree;
use crate::found::{Found, NotOpened, open};
use crate::history::Window;
use crate::op::Body;
use crate::rules::{Breach, judge};

const LIMIT: Duration = Duration::from_secs(60);
/// The topic of what is told after the failure.
const AFTER: &str = "after";

/// Writes the directory to `path`, opens it and judges what is there. With `on`, the engine also goes on: what is
/// told now is kept as well, and nothing in the store is unsound. The number of the state that was
/// found, or the rules that do not hold.
///
/// # Errors
///
/// When the directory cannot be written.
pub fn check(
    tree: &Tree,
    path: &Path,
    window: &Window<'_>,
    settings: &Settings,
    on: bool,
) -> Result<Result<usize, Vec<Breach>>> {
    tree.write(path)?;
    let judged = (|| {
        let (engine, found) = match open(path, settings) {
            Ok((engine, found)) => (Some(engine), Ok(found)),
            Err(error) => (None, Err(error)),
        };
        let number = judge(window, &found)?;
        if let (Some(engine), Ok(found), true) = (engine, found, on) {
            go_on(engine, &found, path, settings)?;
        }
        Ok(number)
    })();
    fs::remove_dir_all(path)?;
    Ok(judged)
}

fn go_on(
    engine: Engine,
    before: &Found,
    path: &Path,
    settings: &Settings,
) -> Result<(), Vec<Breach>> {
    let fail = |why: &dyn std::fmt::Display| vec![Breach::NotOpened(format!("afterwards: {why}"))];
    let body = Body {
        number: 1,
        size: 3_000,
    };
    let payload = body.payload();
    let topic = TopicName::new(AFTER).map_err(|e| fail(&e))?;
    let message = Arc::new(StoredMessage::uncharged(&Message::new(topic, &payload)));
    let ticket = engine.retain(AFTER, Some(&message));
    let end = Instant::now() + LIMIT;
    let result = loop {
        match ticket.result() {
            Some(result) => break result,
            None if Instant::now() > end => return Err(fail(&"a ticket does not complete")),
            None => thread::yield_now(),
        }
    };
    result.map_err(|e| fail(&e))?;
    drop(engine);
    let mut expected = before.lines();
    expected.set(format!("retained {AFTER}"), body.text());
    let (engine, found) = open(path, settings).map_err(|NotOpened(why)| fail(&why))?;
    drop(engine);
    if found.lines() != expected {
        return Err(fail(&"what was told after the failure, or before, is gone"));
    }
    if found.epoch <= before.epoch {
        let (given, used) = (found.epoch, before.epoch);
        return Err(vec![Breach::Epoch { given, used }]);
    }
    let verified = tidegate_store::verify(path, None).map_err(|e| fail(&e))?;
    if verified.problems > 0 {
        let named = verified.named.iter();
        return Err(vec![Breach::Reported(
            named
                .map(|r| format!("{} {}: {}", r.keyspace, r.key.escape_ascii(), r.reason))
                .collect(),
        )]);
    }
    Ok(())
}

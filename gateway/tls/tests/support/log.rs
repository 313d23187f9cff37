//! What the crate logs.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its part of this"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::fmt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::PATIENCE;

/// The events of the log, which is one for the process, that contain a text.
pub struct Log {
    events: mpsc::Receiver<String>,
    text: String,
}

impl Log {
    /// One test of each process may have it.
    pub fn of(text: &str) -> Self {
        let (sender, events) = mpsc::channel();
        tracing::subscriber::set_global_default(Recorder(sender)).unwrap();
        Self {
            events,
            text: text.to_owned(),
        }
    }

    /// The next one; waits for it.
    pub fn next(&self) -> String {
        loop {
            let event = self.events.recv_timeout(PATIENCE);
            let event = event.expect("there should be an event in the log");
            if event.contains(&self.text) {
                return event;
            }
        }
    }

    /// There is none for this long.
    pub fn nothing_within(&self, time: Duration) {
        let until = Instant::now() + time;
        let left = || until.saturating_duration_since(Instant::now());
        while let Ok(event) = self.events.recv_timeout(left()) {
            assert!(!event.contains(&self.text), "{event}");
        }
    }
}

/// Sends each event as text.
struct Recorder(mpsc::Sender<String>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let _ = self.0.send(text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

//! An event stream that is open: what comes on it, by the letter of the HTML standard, section 9.2, and whether it may.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use http_body::Body as _;
use serde_json::Value;

use super::said::Said;

pub(super) struct Events {
    body: Body,
    read: Vec<u8>,
    /// The filter of it, where all that comes is known.
    filter: Option<&'static str>,
    /// What was retained when it began and was not received yet, and what was published since.
    retained: BTreeMap<String, Said>,
    live: VecDeque<Said>,
    has_begun: bool,
    pub(super) has_ended: bool,
}

impl Events {
    pub(super) fn new(
        body: Body,
        filter: Option<&'static str>,
        retained: &BTreeMap<String, Said>,
    ) -> Self {
        let all = retained.iter();
        let matching = all.filter(|(topic, _)| filter.is_some_and(|f| matches(f, topic)));
        Self {
            body,
            read: Vec::new(),
            filter,
            retained: matching
                .map(|(t, said)| (t.clone(), said.clone()))
                .collect(),
            live: VecDeque::new(),
            has_begun: false,
            has_ended: false,
        }
    }

    /// Somebody has published.
    pub(super) fn published(&mut self, said: &Said) {
        if self
            .filter
            .is_some_and(|filter| matches(filter, &said.topic))
        {
            self.live.push_back(said.clone());
        }
    }

    /// Takes what has come.
    pub(super) fn receive(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.has_ended {
            match Pin::new(&mut self.body).poll_frame(&mut cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.has_ended = true,
                Poll::Ready(Some(frame)) => {
                    let frame = frame.expect("a stream does not break off");
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
        while let Some(end) = self.read.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.read.drain(..end + 2).collect();
            let event = std::str::from_utf8(&event[..end]).expect("events are text");
            self.comes(event);
        }
        if self.has_ended {
            assert!(self.read.is_empty(), "half an event: {:?}", self.read);
            return;
        }
        self.live.retain(|said| !is_worthless(said));
        let is_all = self.live.is_empty() && self.retained.is_empty();
        assert!(is_all, "not received: {:?} {:?}", self.retained, self.live);
    }

    fn comes(&mut self, event: &str) {
        let (mut name, mut data, mut id) = ("message", None, None);
        for line in event.split('\n') {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "event" => name = value,
                "data" => assert_eq!(data.replace(value), None, "one line of data"),
                "id" => id = Some(value),
                "retry" => assert!(value.parse::<u32>().is_ok(), "{value}"),
                ":" | "" => {}
                _ => panic!("there is no such field: {line}"),
            }
        }
        let Some(data) = data else {
            return;
        };
        let data: Value = serde_json::from_str(data).expect("data is JSON");
        match name {
            "session" => {
                assert!(
                    !std::mem::replace(&mut self.has_begun, true),
                    "it begins once"
                );
                assert!(
                    data["client_id"].is_string() && data["filters"].is_array(),
                    "{data}"
                );
            }
            "message" => {
                assert!(self.has_begun && id.is_some(), "{event}");
                self.is_told(&Said::of_json(&data));
            }
            "end" => assert!(data["reason"].is_string(), "{data}"),
            _ => panic!("there is no such event: {name}"),
        }
    }

    fn is_told(&mut self, said: &Said) {
        let Some(filter) = self.filter else {
            return;
        };
        if said.retain {
            let kept = self.retained.remove(&said.topic);
            let kept = kept.unwrap_or_else(|| panic!("{filter} is told {said:?}, not retained"));
            return assert!(
                kept.is_received_as(said),
                "{said:?}, and {kept:?} was retained"
            );
        }
        while let Some(next) = self.live.pop_front() {
            if next.is_received_as(said) {
                return;
            }
            assert!(is_worthless(&next), "{said:?}, and {next:?} was published");
        }
        panic!("{filter} is told {said:?}");
    }
}

/// It need not be told: it has expired, or is about to.
fn is_worthless(said: &Said) -> bool {
    said.expiry == Some(0)
}

/// Whether a filter of the target matches a topic (MQTT 5.0 section 4.7).
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

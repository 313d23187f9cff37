//! Runs cases and catches what their tests say.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use serde::{Deserialize, Serialize};
use tidegate_tests::Server;
use tidegate_tests::wire::{Event, Packet, Version, patience};

use crate::case::{Case, DoesNotApply, Target};
use crate::fault::Fault;
use crate::proxy::FaultyProxy;
use crate::suite::tests;
use crate::test::Test;

/// A test at one version.
#[derive(Clone, Copy)]
pub struct CaseId {
    /// The test.
    pub test: &'static Test,
    /// The version.
    pub version: Version,
}

impl CaseId {
    /// Whether its fault spoils what carries MQTT, so that it takes a server with WebSocket to seed it.
    #[must_use]
    pub fn spoils_frames(&self) -> bool {
        let fault = self.test.fault_at(self.version);
        fault.is_some_and(Fault::is_of_bytes)
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.test.name, name(self.version))
    }
}

/// The number of a version.
pub(crate) fn name(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The server does what the statements ask for.
    Pass,
    /// It does not.
    Fail,
    /// They ask nothing of this server.
    DoesNotApply,
    /// It does so sometimes.
    Varies,
}

/// How a case ended, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// Why it did not pass; empty if it did.
    pub observed: String,
}

impl Outcome {
    fn passed() -> Self {
        Self {
            verdict: Verdict::Pass,
            observed: String::new(),
        }
    }

    /// The same with what was seen in one short line, for a record that is read by people: without the
    /// names that tests make up, without times, and without the place in the source.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        const MOST: usize = 200;
        let said = self
            .observed
            .rsplit_once(" (")
            .map_or(&*self.observed, |(said, place)| {
                if place.contains(".rs:") {
                    said
                } else {
                    &self.observed
                }
            });
        let mut text: String = said
            .split(|c: char| c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(|word| without_numbers(&whole_seconds(word)))
            .collect::<Vec<_>>()
            .join(" ");
        if text.chars().count() > MOST {
            text = text.chars().take(MOST).chain(['…']).collect();
        }
        self.observed = text;
        self
    }
}

/// `5.000004653s` is another time in every run.
fn whole_seconds(word: &str) -> String {
    let time = word.trim_end_matches([':', ',', ';']);
    let seconds = time
        .strip_suffix('s')
        .and_then(|time| time.parse::<f64>().ok());
    match seconds {
        Some(seconds) => format!("{seconds:.0}s{}", &word[time.len()..]),
        None => word.to_owned(),
    }
}

/// `twice-1f2e-3` is a name of `tidegate_tests::unique`: only the stem is worth keeping.
fn without_numbers(word: &str) -> String {
    let own = format!("-{:x}-", std::process::id());
    let Some((stem, rest)) = word.split_once(&own) else {
        return word.to_owned();
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    format!("{stem}{}", without_numbers(rest))
}

/// Every case of every test.
#[must_use]
pub fn cases() -> Vec<CaseId> {
    let each = |test: &'static Test| {
        let versions = test.versions().into_iter();
        versions.map(move |version| CaseId { test, version })
    };
    tests().into_iter().flat_map(each).collect()
}

/// Runs a case against a server.
#[must_use]
pub fn run(id: CaseId, target: &Target) -> Outcome {
    // No server has to speak MQTT 3.1.
    let first = if id.version == Version::V31 {
        attempt(speaks, id.version, target)
    } else {
        Outcome::passed()
    };
    match first.verdict {
        Verdict::Pass => attempt(id.test.run, id.version, target),
        _ => first,
    }
}

/// Runs a function of a test and catches its panic.
fn attempt(test: fn(&Case), version: Version, target: &Target) -> Outcome {
    quiet();
    let case = Case::new(target.clone(), version);
    SAID.set(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(|| test(&case)));
    let said = SAID.take().unwrap_or_default();
    match result {
        Ok(()) => Outcome::passed(),
        Err(payload) => match payload.downcast::<DoesNotApply>() {
            Ok(why) => Outcome {
                verdict: Verdict::DoesNotApply,
                observed: why.0,
            },
            Err(payload) => Outcome {
                verdict: Verdict::Fail,
                observed: if said.is_empty() {
                    text(&*payload)
                } else {
                    said
                },
            },
        },
    }
}

/// Passes if the server accepts a CONNECT of the version.
fn speaks(case: &Case) {
    let mut client = case.dial();
    client.send(&case.connect("speaks").encode());
    match client.next(patience()) {
        Event::Packet(Packet::ConnAck(answer)) if answer.code == 0 => {}
        Event::Packet(Packet::ConnAck(_)) | Event::Closed => {
            case.does_not_apply("the server does not speak this version")
        }
        other => panic!("CONNECT was answered with {other:?}"),
    }
}

/// Runs a case against a server at `target` (TCP) through a proxy with the case's fault, or, if
/// `with_fault` is false, with none. Returns the outcome and how often the fault struck.
///
/// # Panics
///
/// If the proxy cannot be started.
#[must_use]
pub fn run_with_fault(id: CaseId, target: &Target, with_fault: bool) -> (Outcome, usize) {
    let fault = id.test.fault_at(id.version).copied().filter(|_| with_fault);
    let before = |server: &Server| {
        FaultyProxy::start(server.address(), fault)
            .unwrap_or_else(|error| panic!("no proxy: {error}"))
    };
    let one = target.v3.address() == target.v5.address();
    let first = before(&target.v5);
    let second = (!one).then(|| before(&target.v3));
    let v5 = target.v5.clone().at(first.address());
    let v3 = match &second {
        Some(second) => target.v3.clone().at(second.address()),
        None => v5.clone(),
    };
    let outcome = attempt(id.test.run, id.version, &Target { v3, v5 });
    let struck = first.struck() + second.map_or(0, |proxy| proxy.struck());
    (outcome, struck)
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("the test panicked")
        .to_owned()
}

thread_local! {
    /// What the panic of the case on this thread said; `None` on threads that run no case.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of cases are kept, not printed: a failure is a result here.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept = SAID.with_borrow_mut(|said| match said {
                Some(said) => {
                    if !info.payload().is::<DoesNotApply>() {
                        let place = info.location().map(|place| {
                            let file = place.file().rsplit('/').next().unwrap_or_default();
                            format!(" ({file}:{})", place.line())
                        });
                        *said = format!("{}{}", text(info.payload()), place.unwrap_or_default());
                    }
                    true
                }
                None => false,
            });
            if !kept {
                usual(info);
            }
        }));
    });
}

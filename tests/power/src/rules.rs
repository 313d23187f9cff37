//! What must hold after a power failure, whatever was left of what was not synced.
//!
//! The state that is found must be, to the last line, one of those between the last acknowledged operation and
//! the last one told. That is every rule in one; [`Breach`] says which of them it is that does not hold.

use std::fmt;

use crate::found::{Found, NotOpened};
use crate::history::Window;
use crate::state::{Lines, Stage, State};

/// So many lines of one kind are told.
const NAMED: usize = 8;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The engine does not open the directory.
    NotOpened(String),
    /// Something is reported as damaged or missing.
    Reported(Vec<String>),
    /// Entries of a client do not come in the order of their places.
    Order(String),
    /// An entry that needs its message comes without it.
    Bodyless(String, u64),
    /// What a session is said to have in flight or waiting is not what its queue has.
    Counts(String),
    /// An epoch is not above all that were used.
    Epoch {
        /// The one that was given out.
        given: u64,
        /// The highest that was used.
        used: u64,
    },
    /// The state is an old one: this many acknowledged operations are missing.
    Lost(usize),
    /// The state is one within a batch, after this operation.
    Torn(usize),
    /// The state is none that ever was.
    NoState {
        /// What every allowed state has, and this one has not or otherwise.
        missing: Vec<String>,
        /// What no allowed state has.
        unknown: Vec<String>,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpened(why) => f.write_str(why),
            Self::Reported(what) => write!(f, "reported: {}", what.join("; ")),
            Self::Order(client) => write!(f, "the queue of {client} is out of order"),
            Self::Bodyless(client, place) => {
                write!(f, "the message at place {place} of {client} is missing")
            }
            Self::Counts(client) => {
                write!(f, "what {client} is said to have is not what its queue has")
            }
            Self::Epoch { given, used } => {
                write!(f, "epoch {given} was given out after {used} was used")
            }
            Self::Lost(operations) => write!(
                f,
                "acknowledged operations are lost: the last {operations} of them"
            ),
            Self::Torn(number) => write!(f, "a batch is torn after operation {number}"),
            Self::NoState { missing, unknown } => {
                writeln!(f, "the state is none that ever was")?;
                for line in missing {
                    writeln!(f, "  missing: {line}")?;
                }
                for line in unknown {
                    writeln!(f, "  unknown: {line}")?;
                }
                Ok(())
            }
        }
    }
}

/// Holds what was found against what may be found. The number of the state that it is.
///
/// # Errors
///
/// The rules that do not hold.
pub fn judge(window: &Window<'_>, found: &Result<Found, NotOpened>) -> Result<usize, Vec<Breach>> {
    let found = match found {
        Ok(found) => found,
        Err(error) => return Err(vec![Breach::NotOpened(error.to_string())]),
    };
    let mut breaches = Vec::new();
    if !found.reported.is_empty() {
        breaches.push(Breach::Reported(found.reported.clone()));
    }
    if found.epoch <= window.epoch {
        breaches.push(Breach::Epoch {
            given: found.epoch,
            used: window.epoch,
        });
    }
    sessions(found, &mut breaches);
    let lines = found.lines();
    let told = window.ops.len();
    let allowed = (window.kept..=told).rev();
    let mut same = allowed.filter(|&n| window.sums[n] == lines.sum());
    let torn = match same.clone().find(|&n| window.is_boundary(n)) {
        Some(number) if breaches.is_empty() => return Ok(number),
        Some(_) => return Err(breaches),
        None => same.next(),
    };
    let old = (0..window.kept)
        .rev()
        .find(|&n| window.sums[n] == lines.sum());
    breaches.push(match (torn, old) {
        (Some(number), _) => Breach::Torn(number),
        (None, Some(number)) => Breach::Lost(window.kept - number),
        (None, None) => compare(window, &lines),
    });
    Err(breaches)
}

fn sessions(found: &Found, breaches: &mut Vec<Breach>) {
    for s in &found.sessions {
        if !s.entries.is_sorted_by(|one, next| one.place < next.place) {
            breaches.push(Breach::Order(s.client.clone()));
        }
        for entry in &s.entries {
            if entry.body.is_none() && !matches!(entry.stage, Stage::Received(_)) {
                breaches.push(Breach::Bodyless(s.client.clone(), entry.place));
            }
        }
        let in_flight = s.entries.iter().filter(|e| e.stage != Stage::Queued);
        let in_flight: Vec<_> = in_flight.map(|e| e.place).collect();
        let queued = s.entries.len() - in_flight.len();
        let last = s.entries.last().map_or(0, |e| e.place);
        if in_flight != s.in_flight || queued as u64 != s.queued || s.session.last < last {
            breaches.push(Breach::Counts(s.client.clone()));
        }
    }
}

/// What tells the found state from all that may be found.
fn compare(window: &Window<'_>, found: &Lines) -> Breach {
    let mut state = State::after(window.ops[..window.kept].iter().copied());
    let mut always = state.lines.all().clone();
    let mut unknown = found.all().clone();
    unknown.retain(|about, what| state.lines.all().get(about) != Some(what));
    for op in &window.ops[window.kept..] {
        state.apply(op);
        let lines = state.lines.all();
        always.retain(|about, what| lines.get(about) == Some(what));
        unknown.retain(|about, what| lines.get(about) != Some(what));
    }
    let missing = always
        .iter()
        .filter(|(about, what)| found.all().get(*about) != Some(what));
    let text = |(about, what): (&String, &String)| format!("{about}: {what}");
    Breach::NoState {
        missing: missing.map(text).take(NAMED).collect(),
        unknown: unknown.iter().map(text).take(NAMED).collect(),
    }
}

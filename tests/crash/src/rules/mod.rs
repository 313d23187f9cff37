//! The rules that a gateway has to keep, as functions over what has happened.
//!
//! Each rule looks at a history and says what breaks it. Those of [`Stage::Running`] can be asked at any
//! time; those of [`Stage::End`] take for granted that everything that was on its way has had time to come.

mod content;
mod loss;
mod order;
mod retained;
mod session;
mod shared;
mod twice;
mod will;

use std::fmt;

use crate::event::Event;
use crate::ledger::Ledger;

/// How far a history goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// More is to come.
    Running,
    /// Everybody is there, and nothing comes any more.
    End,
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A session that something was acknowledged to is there when its client comes back.
    SessionIsPresent,
    /// Nothing acknowledged is lost, for each session that had subscribed before it was sent.
    NothingIsLost,
    /// Nothing of QoS 2 arrives twice.
    NothingTwice,
    /// What a publisher sends to a topic arrives first in the order it was sent.
    OrderIsKept,
    /// What arrives is what was sent, where it was sent, at the QoS that it has to have.
    ContentIsKept,
    /// The gateway has room for all that is sent here, so it refuses nothing.
    NothingIsRefused,
    /// Each message reaches a member of the shared group; at QoS 2 one, once.
    SharedOnce,
    /// What is retained is the last that was acknowledged, or a later one.
    RetainedIsLast,
    /// The will of a client that the crash cut off and that did not come back arrives.
    WillArrives,
    /// The will of a client that came back before its delay was over does not.
    WillIsSpared,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionIsPresent => "session not present",
            Self::NothingIsLost => "acknowledged message lost",
            Self::NothingTwice => "QoS 2 message arrived twice",
            Self::OrderIsKept => "order not kept",
            Self::ContentIsKept => "content not kept",
            Self::NothingIsRefused => "publish refused",
            Self::SharedOnce => "shared group",
            Self::RetainedIsLast => "wrong retained message",
            Self::WillArrives => "will did not arrive",
            Self::WillIsSpared => "will of a client that came back",
        })
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When it could be seen.
    pub at: u64,
    /// By which message.
    pub message: Option<u64>,
    /// At whom.
    pub client: Option<String>,
    /// What is wrong.
    pub text: String,
}

/// What breaks the rules in this history, by time.
#[must_use]
pub fn check(events: &[Event], stage: Stage) -> Vec<Violation> {
    let ledger = Ledger::new(events);
    let mut rules: Vec<fn(&Ledger<'_>) -> Vec<Violation>> = vec![
        session::present,
        twice::once,
        order::kept,
        content::kept,
        content::taken,
        retained::last,
        shared::at_most_once,
        will::spared,
    ];
    if stage == Stage::End {
        rules.extend([
            loss::none as fn(&Ledger<'_>) -> _,
            shared::at_least_once,
            will::arrived,
        ]);
    }
    let mut found: Vec<Violation> = rules.iter().flat_map(|rule| rule(&ledger)).collect();
    found.sort_by_key(|violation| (violation.at, violation.rule));
    found
}

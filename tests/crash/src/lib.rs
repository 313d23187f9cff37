//! Kills the gateway at random moments and holds what was acknowledged against what arrived.
//!
//! The clients are not ours: paho-mqtt, several sessions in each of a few processes (`paho/crew.py`). They
//! publish and subscribe at QoS 1 and 2, leave and come back, lose their connections and are killed
//! themselves, while the gateway is killed with SIGKILL and started again on the same directory and port.
//! What happens to them they report as [`Event`]s; [`check`] says what is wrong with these. The harness
//! knows the gateway as a stranger does: its command line, its sockets, its data directory as a whole.
//!
//! A seed decides the clients' actions, their messages and the moments of the kills. It does not decide
//! which instruction the gateway is at: a failure may take several runs of its seed to come again.
//!
//! Environment: `TIDEGATE_BIN` is the gateway's binary, as for the other suites; `TIDEGATE_CRASH_PYTHON` an
//! interpreter that has paho, `python3` without it.

mod clock;
mod crew;
mod doomed;
mod drain;
mod event;
mod gateway;
mod history;
mod ledger;
mod moment;
mod outcome;
mod plan;
mod proxy;
mod rules;
mod run;

pub use event::{Event, What};
pub use gateway::Crash;
pub use history::{history, round};
pub use outcome::{Outcome, Program};
pub use rules::{Rule, Stage, Violation, check};

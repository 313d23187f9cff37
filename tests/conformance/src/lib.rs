//! MQTT 3.1.1 and 5.0, statement by statement, against any broker.
//!
//! A [`Statement`] is a row of the appendix of a specification, in our own words. A [`Test`] is a function
//! over raw sockets that names the statements it proves; a case is a test at one version. Nothing here
//! knows the gateway: brokers are addresses ([`Target`]). That a test can fail is shown by a
//! [`FaultyProxy`] between it and the server, with a [`Fault`] that the test names.

mod broker;
mod case;
mod differences;
mod document;
mod fault;
mod figures;
mod frame;
mod measure;
mod proxy;
mod regressions;
mod results;
mod runner;
mod statement;
mod statements;
mod suite;
mod test;

pub use broker::{Broker, Instance};
pub use case::{Case, Target};
pub use document::{PAGE, idle_explanations, proving, render, unexplained};
pub use fault::Fault;
pub use figures::Figures;
pub use measure::{alone, apart, catches, each, faults, shared};
pub use proxy::FaultyProxy;
pub use regressions::REGRESSIONS;
pub use results::{FILES, Faults, Recorded, Results, workspace};
pub use runner::{CaseId, Outcome, Verdict, cases, run, run_with_fault};
pub use statement::{Binds, Statement};
pub use statements::{mqtt3, mqtt5};
pub use suite::tests;
pub use test::Test;

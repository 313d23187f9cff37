//! The broker benchmark, `cargo xtask bench`: each broker is a process of its own, the load another
//! beside it, and every figure compares brokers within one run.
//!
//! `bench` starts brokers and writes the report, `load` drives one broker with one workload. They speak
//! JSON: an [`Order`] on the load's standard input, a [`Reply`] a line on its standard output.

mod broker;
mod chart;
mod disk;
mod figure;
mod interrupt;
mod load;
mod machine;
mod order;
mod page;
mod progress;
mod reply;
mod report;
mod round;
mod run;
mod scenario;
mod table;
mod verdict;

pub use broker::{Broker, Carrier, Certificate, Instance, NotStarted, Start};
pub use chart::Chart;
pub use interrupt::{is_interrupted, listen};
pub use load::load;
pub use machine::Machine;
pub use order::{
    Handshakes, Idle, Order, Pace, Queues, Retained, Sessions, Shape, Traffic, Version, Workload,
};
pub use page::{DATA, DIRECTORY, files, plain, read, write};
pub use reply::{Appends, Connections, Durable, Latency, Measurement, Queued, Reply, Stored};
pub use report::{
    Absent, AtBroker, Compared, Earlier, Figures, Missing, Outcome, Ran, Report, Settings, Spread,
};
pub use round::Setting;
pub use run::run;
pub use scenario::{REFERENCE, Scenario, Target};
pub use table::{Table, missing};
pub use verdict::{Verdict, Word, verdicts};

//! The short run of `tests/crash`, which needs the environment of the suites in Python.

use super::place::Place;
use super::report::Report;
use super::rust::{self, Built};
use super::{CRASH, python};

use anyhow::Result;

pub(super) fn run(place: &Place, built: &Built, report: &mut Report) -> Result<()> {
    match python::environment(place) {
        Ok(python) => rust::crash(place, built, &python, report),
        Err(error) => {
            report.skipped(CRASH, &format!("{error:#}"));
            Ok(())
        }
    }
}

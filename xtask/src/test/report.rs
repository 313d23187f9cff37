//! Counts per suite and the closing summary.

use std::collections::BTreeMap;

use super::failures::Failures;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Count {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Everything that is to be told at the end.
pub(super) struct Report {
    /// Whether a skip is a failure.
    strict: bool,
    suites: BTreeMap<String, Count>,
    notes: Vec<String>,
    failures: Failures,
}

impl Report {
    pub(super) fn new(strict: bool) -> Self {
        Self {
            strict,
            suites: BTreeMap::new(),
            notes: Vec::new(),
            failures: Failures::default(),
        }
    }

    /// A suite ran. One that executed nothing has failed.
    pub(super) fn ran(&mut self, suite: &str, mut count: Count) {
        if count.passed + count.failed == 0 {
            count.failed = 1;
            self.notes.push(format!("{suite} executed no test"));
        }
        self.suites.entry(suite.to_owned()).or_default().add(count);
    }

    /// A suite could not be run for want of a tool.
    pub(super) fn skipped(&mut self, suite: &str, why: &str) {
        self.notes.push(format!("{suite} was skipped: {why}"));
        self.suites.entry(suite.to_owned()).or_default().skipped += 1;
    }

    /// Something failed that is no test: a build, a runner.
    pub(super) fn broken(&mut self, suite: &str, why: &str) {
        self.notes.push(format!("{suite} failed: {why}"));
        self.suites.entry(suite.to_owned()).or_default().failed += 1;
    }

    /// What a runner said of the tests that failed.
    pub(super) fn said(&mut self, failures: Failures) {
        self.failures.add(failures);
    }

    /// Whether a test of this suite has failed so far.
    pub(super) fn has_failure(&self, suite: &str) -> bool {
        self.suites.iter().any(|(name, count)| {
            let within = name.strip_prefix(suite);
            within.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) && count.failed > 0
        })
    }

    fn total(&self) -> Count {
        let mut total = Count::default();
        self.suites.values().for_each(|count| total.add(*count));
        total
    }

    pub(super) fn failed(&self) -> bool {
        let total = self.total();
        total.failed > 0 || (self.strict && total.skipped > 0) || total == Count::default()
    }

    /// Prints the table, the notes, and the totals alone on the last line.
    pub(super) fn print(&self) {
        let width = self.suites.keys().map(String::len).max().unwrap_or(0);
        println!(
            "\n{:width$}  {:>6}  {:>6}  {:>7}",
            "suite", "passed", "failed", "skipped"
        );
        for (
            suite,
            Count {
                passed,
                failed,
                skipped,
            },
        ) in &self.suites
        {
            println!("{suite:width$}  {passed:>6}  {failed:>6}  {skipped:>7}");
        }
        self.failures.print();
        for note in &self.notes {
            println!("{note}");
        }
        let Count {
            passed,
            failed,
            skipped,
        } = self.total();
        if self.strict && skipped > 0 {
            println!("CI=true: what was skipped counts as a failure");
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(passed: usize) -> Count {
        Count {
            passed,
            ..Count::default()
        }
    }

    #[test]
    fn a_suite_that_executes_nothing_fails() {
        let mut report = Report::new(false);
        report.ran("full", passed(3));
        assert!(!report.failed());
        report.ran(
            "empty",
            Count {
                skipped: 2,
                ..Count::default()
            },
        );
        assert!(report.failed() && report.has_failure("empty") && !report.has_failure("full"));
    }

    #[test]
    fn a_skip_fails_only_in_ci() {
        for strict in [false, true] {
            let mut report = Report::new(strict);
            report.ran("full", passed(1));
            report.skipped("node", "no node");
            assert_eq!(report.failed(), strict);
        }
    }

    #[test]
    fn no_suite_at_all_is_a_failure() {
        assert!(Report::new(false).failed());
    }
}

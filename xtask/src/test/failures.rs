//! What the runners say of the tests that failed, to be said again at the end: of a long log often only that is kept.

/// Lines that are kept of all failures together.
const MOST: usize = 150;

/// Keeps the part of a runner's output that tells of failures.
#[derive(Debug, Default)]
pub(super) struct Failures {
    lines: Vec<String>,
    left_out: usize,
    /// Where the part that is being read ends.
    until: Option<fn(&str) -> bool>,
}

impl Failures {
    /// Reads one more line of the output of cargo, pytest or node.
    pub(super) fn line(&mut self, line: &str) {
        let begun: Option<fn(&str) -> bool> = if line.starts_with("---- ") {
            Some(|line| line.starts_with("test result: "))
        } else if line.starts_with("====")
            && [" FAILURES ", " ERRORS "].iter().any(|w| line.contains(w))
        {
            Some(|_| false)
        } else if line.trim_start().starts_with("not ok ") {
            Some(|line| line.trim_start().starts_with("..."))
        } else {
            None
        };
        self.until = begun.or(self.until);
        let Some(is_over) = self.until else {
            return;
        };
        if self.lines.len() < MOST {
            self.lines.push(line.to_owned());
        } else {
            self.left_out += 1;
        }
        if is_over(line) {
            self.until = None;
        }
    }

    /// Adds those of another runner.
    pub(super) fn add(&mut self, other: Self) {
        for line in other.lines {
            if self.lines.len() < MOST {
                self.lines.push(line);
            } else {
                self.left_out += 1;
            }
        }
        self.left_out += other.left_out;
    }

    pub(super) fn print(&self) {
        for line in &self.lines {
            println!("{line}");
        }
        if self.left_out > 0 {
            println!("({} lines more are above)", self.left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(output: &str) -> Vec<String> {
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.line(line));
        failures.lines
    }

    #[test]
    fn of_each_runner_the_failures_are_kept_and_nothing_else() {
        let cargo = "running 2 tests\n\
                     test one ... ok\n\
                     test two ... FAILED\n\
                     \n\
                     failures:\n\
                     \n\
                     ---- two stdout ----\n\
                     left: 3\n\
                     test result: FAILED. 1 passed; 1 failed\n\
                     Running tests/other.rs";
        let three = [
            "---- two stdout ----",
            "left: 3",
            "test result: FAILED. 1 passed; 1 failed",
        ];
        assert_eq!(kept(cargo), three);
        let tap = "ok 1 - one\nnot ok 2 - two\n  ---\n  error: 'left'\n  ...\nok 3 - three";
        assert_eq!(
            kept(tap),
            ["not ok 2 - two", "  ---", "  error: 'left'", "  ..."]
        );
        let pytest = "test_a.py::one PASSED\n==== FAILURES ====\nE  left\n==== 1 failed ====";
        assert_eq!(
            kept(pytest),
            ["==== FAILURES ====", "E  left", "==== 1 failed ===="]
        );
        assert!(kept("ok 1 - one\ntest one ... ok").is_empty());
    }

    #[test]
    fn no_more_is_kept_than_fits() {
        let mut failures = Failures::default();
        failures.line("---- one ----");
        (0..MOST).for_each(|_| failures.line("more"));
        let mut all = Failures::default();
        all.add(failures);
        assert_eq!((all.lines.len(), all.left_out), (MOST, 1));
    }
}

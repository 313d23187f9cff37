//! What is shown while brokers are measured: one line that changes at a terminal, otherwise a line for
//! each round that is over.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows how far a run is.
pub(crate) struct Progress {
    terminal: bool,
    rounds: usize,
    done: usize,
    /// What all rounds, and those that are done, were expected to take.
    expected: Duration,
    expected_done: Duration,
    begun: Instant,
}

impl Progress {
    /// Of so many rounds that are expected to take so long.
    pub(crate) fn new(rounds: usize, expected: Duration) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            rounds,
            done: 0,
            expected,
            expected_done: Duration::ZERO,
            begun: Instant::now(),
        }
    }

    /// What goes on in the round that runs.
    pub(crate) fn show(&self, round: &str, text: &str) {
        if self.terminal {
            let line = format!("{} {round}: {text}; {}", self.count(), self.left());
            self.line(&line, "");
        }
    }

    /// A round is over that was expected to take so long.
    pub(crate) fn over(&mut self, round: &str, result: &str, expected: Duration) {
        self.done += 1;
        self.expected_done += expected;
        let line = format!("{} {round}: {result}", self.count());
        if self.terminal {
            self.line(&line, "\n");
        } else {
            self.line(&format!("{line}; {}", self.left()), "\n");
        }
    }

    /// Rounds that will not be run.
    pub(crate) fn skip(&mut self, rounds: usize, expected: Duration) {
        self.rounds -= rounds;
        self.expected = self.expected.saturating_sub(expected);
    }

    fn line(&self, line: &str, end: &str) {
        // Back to the first column, and away with what stood there.
        let begin = if self.terminal { "\r\x1b[2K" } else { "" };
        let mut out = io::stderr().lock();
        // Nobody may be looking; that changes no figure.
        let _ = write!(out, "{begin}{line}{end}").and_then(|()| out.flush());
    }

    fn count(&self) -> String {
        let current = if self.terminal {
            (self.done + 1).min(self.rounds)
        } else {
            self.done
        };
        format!("[{current}/{}]", self.rounds)
    }

    /// The time that is left, if all goes on as it went.
    fn left(&self) -> String {
        let factor = if self.expected_done.is_zero() {
            1.0
        } else {
            self.begun.elapsed().as_secs_f64() / self.expected_done.as_secs_f64()
        };
        let left = self.expected.saturating_sub(self.expected_done);
        let seconds = left.as_secs_f64() * factor;
        if seconds < 90.0 {
            format!("{seconds:.0} s left")
        } else {
            format!("{:.0} min left", seconds / 60.0)
        }
    }
}

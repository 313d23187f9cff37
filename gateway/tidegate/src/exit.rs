//! What the process's exit code says.

use std::process::{ExitCode, Termination};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Done = 0,
    /// It could not be done.
    Failed = 1,
    /// The command line or the configuration is wrong; clap uses the same number.
    Usage = 2,
    /// The gateway said no, with a reason code: to the connection, a subscription or a message.
    Refused = 3,
    /// What was waited for did not come in time.
    TimedOut = 4,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

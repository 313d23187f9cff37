//! The log: sentences with fields, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Telemetry};

/// Starts the log of this process.
pub(crate) fn start(telemetry: &Telemetry) {
    // The filter was checked with the configuration.
    let filter = EnvFilter::new(&telemetry.log);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match telemetry.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

//! The log: sentences with fields, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Telemetry};

/// quinn warns of single packets, and anybody may send those.
const QUIET: &str = "quinn_proto=error";

/// Starts the log of this process.
pub(crate) fn start(telemetry: &Telemetry) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(&telemetry.log))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match telemetry.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// The filter was checked with the configuration. What it says of quinn holds, as it comes later.
fn filter(directives: &str) -> EnvFilter {
    match directives {
        "off" => EnvFilter::new(directives),
        _ => EnvFilter::new(format!("{QUIET},{directives}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quinn_is_heard_where_it_is_named() {
        let of = |directives| {
            let filter = filter(directives).to_string();
            let mut parts: Vec<String> = filter.split(',').map(str::to_owned).collect();
            parts.sort();
            parts.join(",")
        };
        assert_eq!(of("off"), "off");
        assert_eq!(of("info"), "info,quinn_proto=error");
        assert_eq!(of("debug,quinn_proto=trace"), "debug,quinn_proto=trace");
    }
}

//! `[telemetry]`: what the gateway tells about itself.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::reader::Section;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The section `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Telemetry {
    /// Which log events are written: a level, or directives such as "info,tidegate_mqtt=debug".
    pub(crate) log: String,
    /// How they are written.
    pub(crate) log_format: LogFormat,
    /// How often the `$SYS` tree is published; zero is never.
    pub(crate) sys_interval: Duration,
}

pub(crate) fn read(section: &mut Section<'_>) -> Telemetry {
    Telemetry {
        log: section.text("log", "info", check_filter),
        log_format: section.choice(
            "log_format",
            LogFormat::Text,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        ),
        sys_interval: section.duration_where(
            "sys_interval",
            Duration::from_secs(10),
            Duration::ZERO..=Duration::from_secs(24 * 3600),
            |interval| {
                if interval.is_zero() || interval >= Duration::from_millis(100) {
                    Ok(())
                } else {
                    Err("must be 0 (off) or at least 100ms".to_owned())
                }
            },
        ),
    }
}

fn check_filter(text: &str) -> Result<(), String> {
    EnvFilter::builder().parse(text).map(|_| ()).map_err(|_| {
        "must be off, error, warn, info, debug or trace, or directives such as \
             \"info,tidegate_mqtt=debug\""
            .to_owned()
    })
}

//! What every Prometheus user expects to know about a process: which build it is, since when it
//! runs and what it uses.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Adds `tidegate_build_info` and the `process_*` family to `registry`, which has no prefix.
pub fn register_process(registry: &mut Registry, version: &'static str) {
    registry.register(
        "tidegate_build",
        "Which build this is",
        Info::new([("version", version)]),
    );
    registry.register_collector(Box::new(Process {
        started: SystemTime::now(),
    }));
}

#[derive(Debug)]
struct Process {
    started: SystemTime,
}

/// What the kernel knows; each is left out where it does not tell.
#[derive(Debug, Default)]
struct Usage {
    cpu: Option<Duration>,
    resident_bytes: Option<u64>,
    threads: Option<i64>,
    open_files: Option<usize>,
    max_open_files: Option<u64>,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let encoder = &mut encoder;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge(
            encoder,
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            started.as_secs_f64(),
        )?;
        let usage = Usage::now();
        if let Some(cpu) = usage.cpu {
            let counter = ConstCounter::new(cpu.as_secs_f64());
            let descriptor = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time used, in user and system mode",
                None,
                counter.metric_type(),
            )?;
            counter.encode(descriptor)?;
        }
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory that is resident",
                usage.resident_bytes.map(|bytes| bytes as f64),
            ),
            (
                "process_threads",
                "Threads",
                usage.threads.map(|threads| threads as f64),
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                usage.open_files.map(|files| files as f64),
            ),
            (
                "process_max_fds",
                "File descriptors that may be open",
                usage.max_open_files.map(|files| files as f64),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                gauge(encoder, name, help, value)?;
            }
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(descriptor)
}

#[cfg(target_os = "linux")]
impl Usage {
    fn now() -> Self {
        use procfs::process::{LimitValue, Process};

        let Ok(process) = Process::myself() else {
            return Self::default();
        };
        let stat = process.stat().ok();
        let ticks = |stat: &procfs::process::Stat| {
            Duration::from_secs_f64(
                (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            )
        };
        let limit = process
            .limits()
            .ok()
            .map(|limits| limits.max_open_files.soft_limit);
        Self {
            cpu: stat.as_ref().map(ticks),
            resident_bytes: stat.as_ref().map(|stat| stat.rss * procfs::page_size()),
            threads: stat.as_ref().map(|stat| stat.num_threads),
            open_files: process.fd_count().ok(),
            max_open_files: match limit {
                Some(LimitValue::Value(files)) => Some(files),
                Some(LimitValue::Unlimited) | None => None,
            },
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Usage {
    fn now() -> Self {
        Self::default()
    }
}

//! One scenario at one broker, once: the broker is started, the load process drives it, both end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::broker::{Broker, Certificate, Instance, NotStarted, Start};
use crate::disk::{appends, is_in_memory};
use crate::interrupt::is_interrupted;
use crate::load::{resident, resume};
use crate::order::{Order, Sessions, Version, Workload};
use crate::reply::{Measurement, Reply, Stored};
use crate::report::Outcome;
use crate::scenario::Scenario;

/// What the load process may take beyond what is expected of it. It has limits of its own; this one is
/// for when they fail.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long a broker whose connections broke may take to have ended: its sockets close before its last
/// thread is gone, and only then does the kernel tell how it ended.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// How often it is looked whether the run was interrupted.
const TICK: Duration = Duration::from_millis(100);

/// What all rounds have in common.
pub struct Setting {
    /// The program `load`.
    pub load: PathBuf,
    /// What brokers show.
    pub certificate: Certificate,
    /// Seconds of load before anything counts.
    pub warm_up: f64,
    /// Seconds that count.
    pub seconds: f64,
    /// How long a broker may take to listen.
    pub patience: Duration,
    /// Where brokers have what they must keep.
    pub disk: PathBuf,
}

impl Setting {
    /// Runs a scenario at a broker once. `progress` is told what goes on.
    pub fn round(
        &self,
        broker: &Broker,
        scenario: &Scenario,
        progress: &mut dyn FnMut(&str),
    ) -> Outcome {
        let data = match self.data(scenario) {
            Ok(Ok(data)) => data,
            Ok(Err(why)) => return Outcome::DoesNotFit(why),
            Err(error) => return Outcome::Failed(format!("{error:#}")),
        };
        let start = Start {
            carrier: scenario.carrier,
            certificate: &self.certificate,
            data: data.as_ref().map(TempDir::path),
            patience: self.patience,
        };
        progress("starting");
        let mut instance = match broker.start(start) {
            Ok(instance) => instance,
            Err(NotStarted::NotCompared(why)) => return Outcome::NotCompared(why),
            Err(NotStarted::Failed(error)) => {
                return Outcome::Failed(format!("the broker did not start: {error:#}"));
            }
        };
        let at_rest = resident(instance.pid());
        let outcome = match self.drive(&instance, scenario, start, progress) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        // A broker that is gone explains what the load process saw.
        let outcome = match outcome {
            Outcome::Failed(why) if is_interrupted() => Outcome::Failed(why),
            Outcome::Failed(why) => match instance.ended_within(LAST_BREATH) {
                Some(end) => Outcome::Failed(format!("{end} ({why})")),
                None => Outcome::Failed(why),
            },
            Outcome::Measured(measurement) => match instance.ended_within(Duration::ZERO) {
                Some(end) => Outcome::Failed(end),
                None => Outcome::Measured(measurement),
            },
            outcome => outcome,
        };
        let measurement = match outcome {
            Outcome::Measured(measurement) => measurement,
            outcome => {
                return match instance.end() {
                    Ok(()) => outcome,
                    Err(error) => Outcome::Failed(format!("the broker did not end: {error:#}")),
                };
            }
        };
        let followed = match &scenario.workload {
            Workload::Sessions(sessions) => {
                instance.kill();
                start_again(broker, start, sessions, at_rest, &measurement, progress)
            }
            _ => instance
                .end()
                .context("the broker did not end")
                .and_then(|()| compare_with_disk(start.data, *measurement, progress)),
        };
        match followed {
            Ok(measurement) => Outcome::Measured(Box::new(measurement)),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }

    /// A directory for what must be kept, if anything must be; or why there is none.
    fn data(&self, scenario: &Scenario) -> Result<Result<Option<TempDir>, String>> {
        if !scenario.is_durable() {
            return Ok(Ok(None));
        }
        let named = || format!("{}", self.disk.display());
        fs::create_dir_all(&self.disk).with_context(named)?;
        if is_in_memory(&self.disk)? {
            let why =
                "is in memory (tmpfs), where a sync costs nothing; --disk names another directory";
            return Ok(Err(format!("{} {why}", self.disk.display())));
        }
        let directory = TempDir::with_prefix_in("bench-", &self.disk).with_context(named)?;
        Ok(Ok(Some(directory)))
    }

    fn drive(
        &self,
        instance: &Instance,
        scenario: &Scenario,
        start: Start<'_>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Outcome> {
        let order = Order {
            v3: instance.v3,
            v5: instance.v5,
            scheme: scenario.carrier.scheme().to_owned(),
            authority: Some(self.certificate.authority()),
            pid: instance.pid(),
            data: start.data.map(Path::to_path_buf),
            metrics: instance.metrics,
            warm_up: self.warm_up,
            seconds: self.seconds,
            workload: scenario.workload.clone(),
        };
        let mut load = Load::start(&self.load, &order)?;
        let end = Instant::now() + scenario.expected(self.warm_up, self.seconds) + PATIENCE;
        loop {
            match load.next()? {
                Some(Reply::Progress(text)) => progress(&text),
                Some(Reply::Measured(measurement)) => {
                    let counts = scenario.workload.delivers();
                    if counts && measurement.deliveries == 0 {
                        let lost = measurement.lost;
                        bail!("nothing was delivered, {lost} deliveries are missing");
                    }
                    return Ok(Outcome::Measured(measurement));
                }
                Some(Reply::DoesNotFit(why)) => return Ok(Outcome::DoesNotFit(why)),
                Some(Reply::Failed(why)) => return Ok(Outcome::Failed(why)),
                None if is_interrupted() => bail!("interrupted"),
                None if Instant::now() >= end => bail!("the load process did not end"),
                None => {}
            }
        }
    }
}

/// Puts what the disk does with a bare file beside what was kept.
fn compare_with_disk(
    data: Option<&Path>,
    measurement: Measurement,
    progress: &mut dyn FnMut(&str),
) -> Result<Measurement> {
    let (Some(data), Some(mut durable)) = (data, measurement.durable) else {
        return Ok(measurement);
    };
    progress("appending to a bare file");
    durable.disk = appends(data, &durable)?;
    Ok(Measurement {
        durable: Some(durable),
        ..measurement
    })
}

/// Starts a broker that was killed again: its sessions must be there, and soon.
fn start_again(
    broker: &Broker,
    start: Start<'_>,
    sessions: &Sessions,
    at_rest: Result<u64>,
    measurement: &Measurement,
    progress: &mut dyn FnMut(&str),
) -> Result<Measurement> {
    let at_rest = at_rest?;
    progress("starting again");
    let began = Instant::now();
    let instance = match broker.start(start) {
        Ok(instance) => instance,
        Err(NotStarted::NotCompared(why)) => bail!(why),
        Err(NotStarted::Failed(error)) => {
            return Err(error.context("the broker did not start again"));
        }
    };
    let address = match sessions.version {
        Version::V3 => instance.v3,
        Version::V5 => instance.v5,
    };
    let resumed = resume(address, sessions.version, sessions.sessions)?;
    progress(&format!("waiting {} s", sessions.settle));
    thread::sleep(Duration::try_from_secs_f64(sessions.settle)?);
    let again = resident(instance.pid())?;
    instance.end().context("the broker did not end")?;
    let stored = measurement.sessions.context("sessions without figures")?;
    Ok(Measurement {
        lost: resumed.missing,
        sessions: Some(Stored {
            memory_again: (again as f64 - at_rest as f64) / f64::from(sessions.sessions),
            restart: (resumed.first - began).as_secs_f64(),
            ..stored
        }),
        ..*measurement
    })
}

/// The load process; it ends with this.
struct Load {
    child: Child,
    replies: Receiver<Result<Reply>>,
}

impl Load {
    fn start(program: &PathBuf, order: &Order) -> Result<Self> {
        let named = || format!("{}", program.display());
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(named)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, replies) = mpsc::channel();
        let load = Self { child, replies };
        let mut input = input.context("no standard input of the load process")?;
        serde_json::to_writer(&input, order).with_context(named)?;
        input.write_all(b"\n").with_context(named)?;
        let output = output.context("no standard output of the load process")?;
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let reply = line.map_err(anyhow::Error::from).and_then(|line| {
                    let reply = serde_json::from_str(&line);
                    reply.with_context(|| format!("the load process wrote: {line}"))
                });
                // Nobody listens any more once the round is over.
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        Ok(load)
    }

    /// The next reply; `None` if none came for a moment.
    fn next(&mut self) -> Result<Option<Reply>> {
        match self.replies.recv_timeout(TICK) {
            Ok(reply) => reply.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                bail!("the load process ended with {status} and no figures")
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Ended already is fine: what matters is that it runs no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

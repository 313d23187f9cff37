//! One scenario at one broker, once: the broker is started, the load process drives it, both end.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::broker::{Broker, Certificate, Instance, NotStarted};
use crate::interrupt::is_interrupted;
use crate::order::{Order, Workload};
use crate::reply::Reply;
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
}

impl Setting {
    /// Runs a scenario at a broker once. `progress` is told what goes on.
    pub fn round(
        &self,
        broker: &Broker,
        scenario: &Scenario,
        progress: &mut dyn FnMut(&str),
    ) -> Outcome {
        progress("starting");
        let started = broker.start(scenario.carrier, &self.certificate, self.patience);
        let mut instance = match started {
            Ok(instance) => instance,
            Err(NotStarted::NotCompared(why)) => return Outcome::NotCompared(why),
            Err(NotStarted::Failed(error)) => {
                return Outcome::Failed(format!("the broker did not start: {error:#}"));
            }
        };
        let outcome = match self.drive(&instance, scenario, progress) {
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
        match instance.end() {
            Ok(()) => outcome,
            Err(error) => Outcome::Failed(format!("the broker did not end: {error:#}")),
        }
    }

    fn drive(
        &self,
        instance: &Instance,
        scenario: &Scenario,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Outcome> {
        let order = Order {
            v3: instance.v3,
            v5: instance.v5,
            scheme: scenario.carrier.scheme().to_owned(),
            authority: Some(self.certificate.authority()),
            pid: instance.pid(),
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
                    let counts = !matches!(scenario.workload, Workload::Idle(_));
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

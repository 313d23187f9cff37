//! A process with clients of paho: orders go in, events come out.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::event::Event;
use crate::plan;

/// What a process says.
pub(crate) enum Told {
    /// Something has happened.
    Event(Event),
    /// It says something that is no event.
    Nonsense(String),
    /// It says nothing more; the crew and the number of its process.
    End(&'static str, usize),
}

/// The interpreter with paho and the directory of logs.
pub(crate) struct Place {
    pub(crate) python: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) address: SocketAddr,
}

/// The process of a crew.
pub(crate) struct Crew {
    pub(crate) plan: plan::Crew,
    /// How many processes it has had.
    pub(crate) lives: usize,
    child: Child,
    orders: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
}

impl Crew {
    pub(crate) fn start(plan: plan::Crew, place: &Place, told: Sender<Told>) -> Result<Self> {
        Self::live(plan, 1, place, told)
    }

    fn live(plan: plan::Crew, life: usize, place: &Place, told: Sender<Told>) -> Result<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("paho/crew.py");
        let log = place.logs.join(format!("{}.log", plan.name));
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = Command::new(&place.python)
            .arg(program)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be run", place.python.display()))?;
        let output = child.stdout.take().context("no standard output")?;
        let name = plan.name;
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line);
                let line = event.map_or(Told::Nonsense(line), Told::Event);
                // Nobody listens any more when the run is over.
                let _ = told.send(line);
            }
            let _ = told.send(Told::End(name, life));
        });
        let mut crew = Self {
            orders: child.stdin.take(),
            child,
            reader: Some(reader),
            lives: life,
            plan,
        };
        let mut first = serde_json::to_value(&crew.plan)?;
        first["address"] = json!([place.address.ip(), place.address.port()]);
        crew.order(&first)?;
        Ok(crew)
    }

    /// Tells it to do something.
    pub(crate) fn order(&mut self, order: &Value) -> Result<()> {
        let orders = self.orders.as_mut().context("the crew has ended")?;
        orders
            .write_all(format!("{order}\n").as_bytes())
            .with_context(|| {
                format!(
                    "the clients of {} have ended; see their log",
                    self.plan.name
                )
            })
    }

    /// Kills the process; when this returns, all that it has said is in the channel.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        if let Some(reader) = self.reader.take() {
            // It has no reason to panic, and nothing to give back.
            let _ = reader.join();
        }
        Ok(())
    }

    /// Another process for the crew, after [`Self::kill`].
    pub(crate) fn again(&mut self, place: &Place, told: Sender<Told>) -> Result<()> {
        *self = Self::live(self.plan.clone(), self.lives + 1, place, told)?;
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.kill();
    }
}

//! The process that is recorded: an engine, and the workload that tells it things.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tidegate_bus::{
    ClientId, Epoch, Message, Origin, Place, Publication, QoS, QueueEntry, Reference,
    SessionChange, Stage, Store, StoreError, StoredMessage, StoredWill, SubscriptionOptions,
    Ticket, Timestamp, TopicFilter, TopicName,
};
use tidegate_store::{Engine, Settings, Sync};

use crate::found::{claim, open};
use crate::history::Mark;
use crate::op::{Body, Op, Waiting};
use crate::state::State;
use crate::workload::{Step, Workload};

/// Ends the process.
const END: &[u8] = b"end";
/// Its exit code then.
pub const ENDED: i32 = 98;

/// No ticket takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The directory of the engine.
    pub directory: PathBuf,
    /// Where marks are written.
    pub marks: PathBuf,
    /// Of the workload.
    pub seed: u64,
    /// How many operations are told.
    pub operations: usize,
    /// Messages of a megabyte among them.
    pub ballast: u64,
    /// At most so many operations wait for their tickets.
    pub window: usize,
    /// Bytes of a memtable.
    pub memtable_bytes: u64,
    /// The engine completes tickets without a sync, which must be found out.
    pub careless: bool,
    /// The process ends without closing the engine.
    pub abort: bool,
    /// What was told before.
    pub told: Vec<Op>,
    /// How much of it was acknowledged.
    pub kept: usize,
}

/// The settings of the engine.
pub fn settings(memtable_bytes: u64, careless: bool) -> Settings {
    let sync = if careless {
        Sync::Interval(Duration::from_secs(3_600))
    } else {
        Sync::Always
    };
    Settings {
        sync,
        cache_bytes: 4 << 20,
        journal_bytes: 64 << 20,
        memtable_bytes,
        ..Settings::default()
    }
}

/// Does the job that is in a file.
///
/// # Errors
///
/// When the engine does what it must not, without any power failure.
pub fn run(job: &Path) -> Result<()> {
    let job: Job = serde_json::from_slice(&fs::read(job)?)?;
    let settings = settings(job.memtable_bytes, job.careless);
    let (engine, found) = open(&job.directory, &settings).map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut state = State::after(&job.told[..job.kept]);
    let sum = found.lines().sum();
    let mut number = job.kept;
    while state.lines.sum() != sum {
        ensure!(
            number < job.told.len(),
            "what the engine gives back was never told"
        );
        state.apply(&job.told[number]);
        number += 1;
    }
    let mut teller = Teller {
        marks: OpenOptions::new().write(true).open(&job.marks)?,
        waker: Waker::from(Arc::new(Unpark(thread::current()))),
        engine,
        number,
        open: VecDeque::new(),
    };
    teller.mark(&Mark::Resumed(number))?;
    let mut workload = Workload::new(job.seed, job.ballast);
    for _ in 0..job.operations {
        let engine = &teller.engine;
        // No engine refuses a claim; a wrong epoch would be found.
        let (step, wait) = workload.next(&state, || claim(engine).unwrap_or(0));
        if wait {
            teller.wait(0)?;
        }
        match step {
            Step::Tell(op) => {
                teller.tell(&op, &state)?;
                state.apply(&op);
            }
            Step::Stale(client) => teller.stale(&client, &state)?,
        }
        teller.wait(job.window)?;
    }
    if job.abort {
        // The shim ends the process between two calls of other threads.
        teller.marks.write_all(END)?;
    }
    teller.wait(0)?;
    drop(teller);
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Teller {
    marks: File,
    waker: Waker,
    engine: Engine,
    number: usize,
    open: VecDeque<(usize, Ticket)>,
}

impl Teller {
    fn mark(&mut self, mark: &Mark) -> Result<()> {
        Ok(self.marks.write_all(&mark.to_bytes()?)?)
    }

    fn tell(&mut self, op: &Op, state: &State) -> Result<()> {
        self.number += 1;
        let number = self.number;
        self.mark(&Mark::Told(number, op.clone()))?;
        let ticket = tell(&self.engine, op, state)?;
        let joined = self.open.iter().find(|(_, open)| open.is_same(&ticket));
        if let Some(&(first, _)) = joined {
            self.mark(&Mark::Joined(number, first))?;
        }
        self.open.push_back((number, ticket));
        Ok(())
    }

    fn stale(&mut self, client: &str, state: &State) -> Result<()> {
        let session = state.sessions[client].session;
        let op = Op::Subscribe(client.to_owned(), "stale".to_owned(), false);
        let change = subscribed("stale", false)?;
        let ticket = self
            .engine
            .change(&ClientId::new(client)?, Epoch(session), &[change]);
        ensure!(
            ticket.result() == Some(Err(StoreError::Fenced)),
            "a change under an old epoch is taken"
        );
        self.mark(&Mark::Refused(op))
    }

    /// Takes tickets that have completed, until at most so many are open.
    fn wait(&mut self, most: usize) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while let Some((number, ticket)) = self.open.front() {
            let number = *number;
            match ticket.poll(Context::from_waker(&self.waker).waker()) {
                Poll::Ready(result) => {
                    result.with_context(|| format!("operation {number}"))?;
                    self.open.pop_front();
                    self.mark(&Mark::Kept(number))?;
                }
                Poll::Pending if self.open.len() <= most => break,
                Poll::Pending => {
                    ensure!(Instant::now() < end, "operation {number} is never kept");
                    thread::park_timeout(Duration::from_secs(1));
                }
            }
        }
        Ok(())
    }
}

fn message(topic: &str, body: Body) -> Result<Arc<StoredMessage>> {
    let payload = body.payload();
    let mut message = Message::new(TopicName::new(topic)?, &payload);
    message.qos = QoS::ExactlyOnce;
    Ok(Arc::new(StoredMessage::uncharged(&message)))
}

fn subscribed(filter: &str, retained_owed: bool) -> Result<SessionChange> {
    Ok(SessionChange::Subscribed {
        filter: TopicFilter::new(filter)?,
        options: SubscriptionOptions::default(),
        identifier: None,
        retained_owed,
    })
}

fn packet_id(id: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(id).context("packet identifier 0")
}

fn publish(
    engine: &Engine,
    body: Body,
    to: &[Waiting],
    origin: Option<&(String, u16)>,
    state: &State,
) -> Result<Ticket> {
    let session = |client: &str| Epoch(state.sessions[client].session);
    let mut references = Vec::new();
    for one in to {
        let stage = match one.sent {
            None => Stage::Queued,
            Some(id) => Stage::Sent(packet_id(id)?),
        };
        references.push(Reference {
            client: ClientId::new(&one.client)?,
            session: session(&one.client),
            entry: QueueEntry {
                place: Place(one.place),
                stage,
                qos: QoS::ExactlyOnce,
                retain: false,
                identifiers: [7].into_iter().collect(),
                shared: None,
            },
        });
    }
    let origin = match origin {
        None => None,
        Some((client, id)) => Some(Origin {
            client: ClientId::new(client)?,
            session: session(client),
            packet_id: packet_id(*id)?,
        }),
    };
    Ok(engine.append(&Publication {
        message: &message("t", body)?,
        references: &references,
        origin: origin.as_ref(),
    }))
}

/// Tells the engine, whose state before is `state`.
fn tell(engine: &Engine, op: &Op, state: &State) -> Result<Ticket> {
    let (client, change) = match op {
        Op::Publish { body, to, origin } => {
            return publish(engine, *body, to, origin.as_ref(), state);
        }
        Op::Retain(topic, body) => {
            let body = body.map(|body| message(topic, body)).transpose()?;
            return Ok(engine.retain(topic, body.as_ref()));
        }
        Op::Attach {
            client,
            epoch,
            fresh,
            expiry,
            will,
        } => {
            let will = will.map(|body| message("w", body)).transpose()?;
            let attached = SessionChange::Attached {
                fresh: *fresh,
                expiry: *expiry,
                will: will.map(|message| StoredWill {
                    message,
                    delay: 5,
                    expires_in: None,
                }),
            };
            return Ok(engine.change(&ClientId::new(client)?, Epoch(*epoch), &[attached]));
        }
        Op::Detach {
            client,
            ends_at,
            will_at,
        } => {
            let (ends_at, will_at) = (
                Timestamp::from_millis(*ends_at),
                will_at.map(Timestamp::from_millis),
            );
            (client, SessionChange::Detached { ends_at, will_at })
        }
        Op::WillPublished(client) => (client, SessionChange::WillPublished),
        Op::End(client) => (client, SessionChange::Ended),
        Op::Subscribe(client, filter, owed) => (client, subscribed(filter, *owed)?),
        Op::RetainedSent(client, filter) => (
            client,
            SessionChange::RetainedSent(TopicFilter::new(filter)?),
        ),
        Op::Unsubscribe(client, filter) => (
            client,
            SessionChange::Unsubscribed(TopicFilter::new(filter)?),
        ),
        Op::Sent(client, place, id) => {
            (client, SessionChange::Sent(Place(*place), packet_id(*id)?))
        }
        Op::Received(client, place) => (client, SessionChange::Received(Place(*place))),
        Op::Done(client, place) => (client, SessionChange::Done(Place(*place))),
        Op::Released(client, id) => (client, SessionChange::Released(packet_id(*id)?)),
    };
    let Some(s) = state.sessions.get(client) else {
        bail!("{client} has no session");
    };
    Ok(engine.change(&ClientId::new(client)?, Epoch(s.epoch), &[change]))
}

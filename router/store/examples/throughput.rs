//! How many messages a second the engine keeps.
//!
//! `cargo run --release -p tidegate-store --example throughput -- [DIRECTORY] [THREADS] [SECONDS]`
//!
//! Fifty producers with a window of 64 each, on so many threads (50), publish messages of 64 bytes that one session each
//! waits for: first with `Done` told right after, then never. Then the bytes of the second are written into a
//! bare file in groups of the same size, with fdatasync after each.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tidegate_bus::{
    ClientId, Message, Place, Publication, QoS, QueueEntry, Recovery, Reference, SessionChange,
    Stage, Store, StoredMessage, StoredSession, Ticket, TopicName,
};
use tidegate_store::{Engine, Metrics, Settings};

const PRODUCERS: usize = 50;
const WINDOW: usize = 64;

struct Nobody;

impl Recovery for Nobody {
    fn retained(&mut self, _: Message<'_>) {}

    fn session(&mut self, _: StoredSession) {}
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let threads: usize = arguments.next().map_or(Ok(PRODUCERS), |t| t.parse())?;
    let seconds = arguments.next().map_or(Ok(10), |t| t.parse())?;
    let lasts = Duration::from_secs(seconds);
    for done in [true, false] {
        let directory = base.join(format!("throughput-{}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let (rate, group, bytes) = run(&directory, threads, lasts, done)?;
        std::fs::remove_dir_all(&directory)?;
        if !done {
            let bare = bare(&base, group, bytes, lasts / 2)?;
            println!(
                "bare file: {bare:.0}/s; the engine has {:.2} of it",
                rate / bare
            );
        }
    }
    Ok(())
}

fn run(
    directory: &Path,
    threads: usize,
    lasts: Duration,
    done: bool,
) -> Result<(f64, u64, u64), Box<dyn Error>> {
    let engine = Engine::open(directory, Settings::default())?;
    engine.recover(&mut Nobody)?;
    let start = Instant::now();
    let end = start + lasts;
    let kept = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|number| {
                let engine = &engine;
                scope
                    .spawn(move || produce(engine, number, PRODUCERS / threads * WINDOW, end, done))
            })
            .collect();
        let kept = threads.into_iter().map(|t| t.join().unwrap_or(0));
        kept.sum::<u64>()
    });
    let took = start.elapsed();
    let metrics = engine.metrics();
    let rate = kept as f64 / took.as_secs_f64();
    let commits = metrics.commits.get().max(1);
    println!(
        "{}: {rate:.0}/s",
        if done {
            "done right after"
        } else {
            "never done"
        }
    );
    say(&metrics, kept);
    drop(engine);
    println!("  closed after {:?}", start.elapsed() - took);
    Ok((rate, kept / commits, metrics.written_bytes.get() / commits))
}

fn say(metrics: &Metrics, kept: u64) {
    let per =
        |latency: &tidegate_store::Latency| latency.sum() * 1e3 / latency.count().max(1) as f64;
    println!(
        "  {} commits, {} empty, {:.2} ms each, {} syncs of {:.2} ms, {:.0} changes a commit",
        metrics.commits.get(),
        metrics.empty_commits.get(),
        per(&metrics.commit),
        metrics.syncs.get(),
        per(&metrics.sync),
        metrics.changes.get() as f64 / metrics.commit.count().max(1) as f64,
    );
    println!(
        "  {} of {kept} cancelled, {} bytes a message, {} stalls of {} ms together, journals {} MiB, disk {} MiB",
        metrics.cancelled.get(),
        metrics.written_bytes.get() / kept.max(1),
        metrics.stalls.get(),
        metrics.stalled_nanos.get() / 1_000_000,
        metrics.journal_bytes.get() >> 20,
        metrics.disk_bytes.get() >> 20,
    );
}

fn produce(engine: &Engine, number: usize, window: usize, end: Instant, done: bool) -> u64 {
    let Ok(client) = ClientId::new(&format!("client-{number}")) else {
        return 0;
    };
    let Poll::Ready(Ok(claim)) = engine
        .claim(&client)
        .as_mut()
        .poll(&mut std::task::Context::from_waker(Waker::noop()))
    else {
        return 0;
    };
    let attached = SessionChange::Attached {
        fresh: true,
        expiry: 3_600,
        will: None,
    };
    engine.change(&client, claim.epoch, &[attached]);
    let Ok(topic) = TopicName::new("bench/some/topic") else {
        return 0;
    };
    let mut message = Message::new(topic, &[b'x'; 64]);
    message.qos = QoS::AtLeastOnce;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut waiting = VecDeque::<Ticket>::new();
    let (mut kept, mut place) = (0, 0);
    while Instant::now() < end {
        while waiting.len() < window {
            place += 1;
            let reference = Reference {
                client: client.clone(),
                session: claim.epoch,
                entry: QueueEntry {
                    place: Place(place),
                    stage: Stage::Sent(std::num::NonZeroU16::MIN),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    identifiers: tidegate_bus::SubscriptionIdentifiers::new(),
                    shared: None,
                },
            };
            waiting.push_back(engine.append(&Publication {
                message: &Arc::new(StoredMessage::uncharged(&message)),
                references: &[reference],
                origin: None,
            }));
            if done {
                engine.change(&client, claim.epoch, &[SessionChange::Done(Place(place))]);
            }
        }
        while let Some(ticket) = waiting.front() {
            match ticket.poll(&waker) {
                Poll::Ready(Ok(())) => {
                    kept += 1;
                    waiting.pop_front();
                }
                Poll::Ready(Err(_)) => return kept,
                Poll::Pending if waiting.len() == window => thread::park(),
                Poll::Pending => break,
            }
        }
    }
    kept
}

fn bare(base: &Path, group: u64, bytes: u64, lasts: Duration) -> Result<f64, Box<dyn Error>> {
    let path = base.join(format!("bare-{}", std::process::id()));
    let mut file = File::create(&path)?;
    let block = vec![0x5a; bytes as usize];
    let start = Instant::now();
    let mut groups = 0_u64;
    while start.elapsed() < lasts {
        file.write_all(&block)?;
        file.sync_data()?;
        groups += 1;
    }
    let took = start.elapsed();
    std::fs::remove_file(&path)?;
    println!(
        "bare file: {groups} groups of {group} messages and {bytes} bytes, {:.2} ms each",
        took.as_secs_f64() * 1e3 / groups as f64
    );
    Ok((groups * group) as f64 / took.as_secs_f64())
}

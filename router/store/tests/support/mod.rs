//! A bus small enough to be seen through.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each suite uses its part of it, and what goes wrong in a test is to end it"
)]

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use std::{env, fs};

use tidegate_bus::{
    ClientId, Epoch, Message, Origin, Place, Publication, QoS, QueueEntry, QueueReader, Recovery,
    Reference, SessionChange, Stage, Store, StoreError, StoredMessage, StoredSession, Ticket,
    TopicFilter, TopicName,
};
use tidegate_store::{Engine, Settings};

pub const LIMIT: Duration = Duration::from_secs(20);

pub fn open(path: &Path) -> Engine {
    Engine::open(path, Settings::default()).unwrap()
}

pub fn client(name: &str) -> ClientId {
    ClientId::new(name).unwrap()
}

pub fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

pub fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

pub fn message(topic: &str, payload: &[u8]) -> Arc<StoredMessage> {
    let mut message = Message::new(TopicName::new(topic).unwrap(), payload);
    message.qos = QoS::AtLeastOnce;
    Arc::new(StoredMessage::uncharged(&message))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What the ticket says, waited for.
pub fn result(ticket: &Ticket) -> Result<(), StoreError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let end = Instant::now() + LIMIT;
    loop {
        if let Poll::Ready(result) = ticket.poll(&waker) {
            return result;
        }
        assert!(Instant::now() < end, "the ticket does not complete");
        thread::park_timeout(Duration::from_secs(1));
    }
}

pub fn kept(ticket: &Ticket) {
    result(ticket).unwrap();
}

/// Waits until `holds` does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::yield_now();
    }
}

pub fn claim(engine: &Engine, client: &ClientId) -> Epoch {
    may_claim(engine, client).unwrap()
}

/// As [`claim`], where it may be refused.
pub fn may_claim(engine: &Engine, client: &ClientId) -> Result<Epoch, StoreError> {
    let mut future = engine.claim(client);
    let mut context = std::task::Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(claim) => claim.map(|claim| claim.epoch),
        Poll::Pending => panic!("a claim is answered at once"),
    }
}

pub fn attached(fresh: bool) -> SessionChange {
    SessionChange::Attached {
        fresh,
        expiry: 3_600,
        will: None,
    }
}

/// A new session of the client.
pub fn session(engine: &Engine, client: &ClientId) -> Epoch {
    let epoch = claim(engine, client);
    kept(&engine.change(client, epoch, &[attached(true)]));
    epoch
}

pub fn entry(place: u64, stage: Stage) -> QueueEntry {
    QueueEntry {
        place: Place(place),
        stage,
        qos: QoS::AtLeastOnce,
        retain: false,
        identifiers: [7, 8].into_iter().collect(),
        shared: None,
    }
}

pub fn reference(client: &ClientId, session: Epoch, place: u64) -> Reference {
    Reference {
        client: client.clone(),
        session,
        entry: entry(place, Stage::Queued),
    }
}

pub fn publish(engine: &Engine, message: &Arc<StoredMessage>, to: &[Reference]) -> Ticket {
    engine.append(&Publication {
        message,
        references: to,
        origin: None,
    })
}

pub fn publish_from(
    engine: &Engine,
    message: &Arc<StoredMessage>,
    to: &[Reference],
    origin: &Origin,
) -> Ticket {
    engine.append(&Publication {
        message,
        references: to,
        origin: Some(origin),
    })
}

/// Everything an engine gives back.
#[derive(Default)]
pub struct Kept {
    pub sessions: BTreeMap<String, StoredSession>,
    pub retained: BTreeMap<String, Vec<u8>>,
}

impl Recovery for Kept {
    fn retained(&mut self, message: Message<'_>) {
        self.retained
            .insert(message.topic.to_string(), message.payload.to_vec());
    }

    fn session(&mut self, session: StoredSession) {
        let name = session.client.to_string();
        assert!(self.sessions.insert(name, session).is_none());
    }
}

pub fn recover(engine: &Engine) -> Kept {
    let mut kept = Kept::default();
    engine.recover(&mut kept).unwrap();
    kept
}

/// An entry as it was read, with topic and payload.
pub type ReadEntry = (QueueEntry, Option<(String, Vec<u8>)>);

struct Collector {
    entries: Vec<ReadEntry>,
    wanted: usize,
    out: mpsc::Sender<(Vec<ReadEntry>, Result<bool, StoreError>)>,
}

impl QueueReader for Collector {
    fn entry(&mut self, entry: QueueEntry, message: Option<Message<'_>>) -> ControlFlow<()> {
        let message = message.map(|m| (m.topic.to_string(), m.payload.to_vec()));
        self.entries.push((entry, message));
        if self.entries.len() == self.wanted {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn end(self: Box<Self>, result: Result<bool, StoreError>) {
        let _ = self.out.send((self.entries, result));
    }
}

pub fn read_some(
    engine: &Engine,
    client: &ClientId,
    session: Epoch,
    from: u64,
    wanted: usize,
) -> (Vec<ReadEntry>, Result<bool, StoreError>) {
    let (out, answer) = mpsc::channel();
    let reader = Box::new(Collector {
        entries: Vec::new(),
        wanted,
        out,
    });
    engine.read(client, session, Place(from), reader);
    answer.recv_timeout(LIMIT).unwrap()
}

pub fn read(engine: &Engine, client: &ClientId, session: Epoch) -> Vec<ReadEntry> {
    let (entries, end) = read_some(engine, client, session, 0, usize::MAX);
    assert_eq!(end, Ok(true));
    entries
}

pub fn payloads(entries: &[ReadEntry]) -> Vec<String> {
    let payload = |(_, message): &ReadEntry| {
        let (_, payload) = message.as_ref().unwrap();
        String::from_utf8(payload.clone()).unwrap()
    };
    entries.iter().map(payload).collect()
}

/// What a crash would leave: the files as they are.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Names the file system of [`mounted`], to the process that runs on it.
const MOUNTED: &str = "TIDEGATE_MOUNTED";

/// Runs the test of this name again as a process in namespaces of its own (`unshare` of util-linux), where
/// `script` mounts what it needs at `$TIDEGATE_MOUNTED` and then runs `"$0" "$@"`, the test. In that process
/// it returns the mount; in the first one `None`, once the other has passed.
pub fn mounted(name: &str, script: &str) -> Option<PathBuf> {
    if let Some(mounted) = env::var_os(MOUNTED) {
        return Some(mounted.into());
    }
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MOUNTED, directory.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    None
}

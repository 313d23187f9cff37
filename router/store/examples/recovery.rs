//! How long a start takes.
//!
//! `cargo run --release -p tidegate-store --example recovery -- [DIRECTORY] [SESSIONS] [MESSAGES]`
//!
//! Makes so many sessions (100,000) with a subscription each and so many messages (1,000,000) spread over them, and
//! opens the store anew.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tidegate_bus::{
    ClientId, Epoch, Message, Place, Publication, QoS, QueueEntry, Recovery, Reference,
    SessionChange, Stage, Store, StoredMessage, StoredSession, SubscriptionIdentifiers,
    SubscriptionOptions, TopicFilter, TopicName,
};
use tidegate_store::{Engine, Settings};

#[derive(Default)]
struct Counter(u64);

impl Recovery for Counter {
    fn retained(&mut self, _: Message<'_>) {}

    fn session(&mut self, session: StoredSession) {
        self.0 += session.subscriptions.len() as u64;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let sessions: u64 = arguments.next().map_or(Ok(100_000), |t| t.parse())?;
    let messages: u64 = arguments.next().map_or(Ok(1_000_000), |t| t.parse())?;
    let directory = base.join(format!("recovery-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let start = Instant::now();
    fill(&directory, sessions, messages)?;
    println!("filled in {:?}", start.elapsed());
    for _ in 0..2 {
        let start = Instant::now();
        let settings = Settings {
            progress: Some(Arc::new(|progress| println!("  {progress:?}"))),
            ..Settings::default()
        };
        let engine = Engine::open(&directory, settings)?;
        let opened = start.elapsed();
        let mut counter = Counter::default();
        engine.recover(&mut counter)?;
        println!(
            "opened in {opened:?}, recovered {} subscriptions in {:?}; {:?}",
            counter.0,
            start.elapsed() - opened,
            engine.recovered(),
        );
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn fill(directory: &std::path::Path, sessions: u64, messages: u64) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(directory, Settings::default())?;
    engine.recover(&mut Counter::default())?;
    let mut all = Vec::<(ClientId, Epoch)>::new();
    for number in 0..sessions {
        let client = ClientId::new(&format!("client-{number}"))?;
        let claim = engine
            .claim(&client)
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(claim) = claim else {
            return Err("a claim waits".into());
        };
        let epoch = claim?.epoch;
        let changes = [
            SessionChange::Attached {
                fresh: true,
                expiry: 3_600,
                will: None,
            },
            SessionChange::Subscribed {
                filter: TopicFilter::new(&format!("devices/{number}/commands/#"))?,
                options: SubscriptionOptions::default(),
                identifier: None,
                retained_owed: false,
            },
        ];
        engine.change(&client, epoch, &changes);
        all.push((client, epoch));
    }
    for number in 0..messages {
        while engine.accepts().is_err() {
            std::thread::yield_now();
        }
        let Some((client, session)) = all.get((number % sessions) as usize) else {
            break;
        };
        let message = Message::new(TopicName::new("devices/some/commands/x")?, &[b'x'; 64]);
        let reference = Reference {
            client: client.clone(),
            session: *session,
            entry: QueueEntry {
                place: Place(number / sessions + 1),
                stage: Stage::Queued,
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers: SubscriptionIdentifiers::new(),
                shared: None,
            },
        };
        engine.append(&Publication {
            message: &Arc::new(StoredMessage::uncharged(&message)),
            references: &[reference],
            origin: None,
        });
    }
    Ok(())
}

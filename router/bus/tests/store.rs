//! The contract with a durable engine: what is told, in which order, and who waits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use support::TestBus;
use tidegate_bus::*;

/// An engine that keeps nothing, writes down what it is told, and completes tickets on demand.
#[derive(Default)]
struct Recorder {
    log: Mutex<Vec<String>>,
    open: Mutex<Vec<Completion>>,
    epochs: Mutex<u64>,
    /// What the next claim finds.
    kept: Mutex<Option<StoredSession>>,
}

impl Recorder {
    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn complete_all(&self, result: &Result<(), StoreError>) {
        for completion in self.open.lock().unwrap().drain(..) {
            completion.complete(result.clone());
        }
    }

    fn note(&self, line: String) -> Ticket {
        self.log.lock().unwrap().push(line);
        let (ticket, completion) = Ticket::pending();
        self.open.lock().unwrap().push(completion);
        ticket
    }
}

impl Store for Recorder {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        let mut epochs = self.epochs.lock().unwrap();
        *epochs += 1;
        let epoch = Epoch(*epochs);
        Box::pin(std::future::ready(Ok(Claim {
            epoch,
            session: self.kept.lock().unwrap().take(),
        })))
    }

    fn append(&self, publication: &Publication<'_>) -> Ticket {
        let references: Vec<_> = publication
            .references
            .iter()
            .map(|r| format!("{}@{}", r.client, r.epoch.0))
            .collect();
        self.note(format!(
            "append {} retain={} publisher={:?} for [{}]",
            publication.message.topic(),
            publication.retain,
            publication
                .publisher
                .map(|(client, epoch, id)| (client.as_str(), epoch.0, id.get())),
            references.join(" ")
        ))
    }

    fn change(&self, client: &ClientId, epoch: Epoch, change: &SessionChange<'_>) -> Ticket {
        self.note(format!("{client}@{} {change:?}", epoch.0))
    }
}

fn setup() -> (TestBus, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (
        TestBus::with_store(|_| {}, Arc::clone(&recorder) as _),
        recorder,
    )
}

#[test]
fn one_publish_is_one_append_with_every_durable_session_that_waits_for_it() {
    let (bus, recorder) = setup();
    let online = bus.connect_durable("online");
    let away = bus.connect_durable("away");
    let passing = bus.connect("passing");
    for client in [&online, &away, &passing] {
        client.subscribe("t", QoS::AtLeastOnce);
    }
    away.disconnect(Departure::Normal);
    recorder.take_log();
    let published = passing.publish("t", "m", QoS::AtLeastOnce);
    assert_eq!(
        recorder.take_log(),
        ["append t retain=false publisher=None for [online@1 away@2]"]
    );
    assert_eq!(published.ticket.poll(Waker::noop()), Poll::Pending);
    recorder.complete_all(&Ok(()));
    assert_eq!(published.ticket.poll(Waker::noop()), Poll::Ready(Ok(())));
}

#[test]
fn nothing_that_must_not_outlive_the_process_is_told() {
    let (bus, recorder) = setup();
    let durable = bus.connect_durable("durable");
    durable.subscribe("t", QoS::AtLeastOnce);
    recorder.take_log();
    let published = durable.publish("t", "m", QoS::AtMostOnce);
    assert_eq!(published.ticket.result(), Some(Ok(())));
    let published = durable.publish("nobody", "m", QoS::AtLeastOnce);
    assert_eq!(published.ticket.result(), Some(Ok(())));
    assert_eq!(recorder.take_log(), Vec::<String>::new());
}

#[test]
fn changes_carry_the_epoch_of_their_connection_and_a_fenced_one_tells_nothing() {
    let (bus, recorder) = setup();
    let old = bus.connect_durable("c");
    let new = bus.connect_durable("c");
    recorder.take_log();
    new.subscribe("t", QoS::AtMostOnce);
    assert!(new.unsubscribe("t"));
    let id = std::num::NonZeroU16::new(3).unwrap();
    new.attachment.begin_receiving(id).unwrap();
    let (released, ticket) = new.attachment.release(id).unwrap();
    assert_eq!(released, Released::Here);
    assert!(ticket.result().is_none());
    assert_eq!(old.attachment.release(id).unwrap_err(), Fenced);
    old.disconnect(Departure::Normal);
    let log = recorder.take_log();
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log.iter().all(|line| line.starts_with("c@2 ")), "{log:?}");
}

#[test]
fn what_the_engine_kept_of_qos_2_is_of_an_earlier_connection() {
    let (bus, recorder) = setup();
    let id = std::num::NonZeroU16::new(3).unwrap();
    let mut kept = StoredSession::default();
    kept.received.push(id);
    *recorder.kept.lock().unwrap() = Some(kept);
    let client = bus.connect_durable("c");
    assert_eq!(client.attachment.begin_receiving(id), Ok(false));
    assert_eq!(client.attachment.release(id).unwrap().0, Released::Before);
}

#[test]
fn the_claim_of_a_client_that_is_turned_away_is_given_back() {
    let recorder = Arc::new(Recorder::default());
    let bus = TestBus::with_store(
        |settings| settings.max_sessions = 1,
        Arc::clone(&recorder) as _,
    );
    let _first = bus.connect("first");
    recorder.take_log();
    let id = ClientId::new("second").unwrap();
    let claim = support::now_or_never(bus.bus.claim(&id)).unwrap();
    let request = ConnectRequest {
        clean_start: true,
        expiry: 0,
        will: None,
        receive_maximum: std::num::NonZeroU16::MAX,
        keep_alive: 0,
        encoder: Box::new(support::LineEncoder { max_payload: 0 }),
    };
    let attached = bus
        .bus
        .batch(|worker| bus.bus.attach(worker, &id, claim, request));
    assert_eq!(attached.err(), Some(AttachRefusal::QuotaExceeded));
    assert_eq!(recorder.take_log(), ["second@2 Ended"]);
}

#[test]
fn a_ticket_that_nobody_completes_fails_instead_of_waiting_for_ever() {
    let (ticket, completion) = Ticket::pending();
    assert_eq!(ticket.poll(Waker::noop()), Poll::Pending);
    drop(completion);
    assert!(matches!(ticket.result(), Some(Err(StoreError::Failed(_)))));
}

#[test]
fn the_memory_store_fences_every_owner_but_the_newest() {
    let store = MemoryStore::new();
    let client = ClientId::new("c").unwrap();
    let first = support::now_or_never(store.claim(&client)).unwrap().epoch;
    let second = support::now_or_never(store.claim(&client)).unwrap().epoch;
    assert!(second > first);
    let ended = SessionChange::Ended;
    assert_eq!(
        store.change(&client, first, &ended).result(),
        Some(Err(StoreError::Fenced))
    );
    assert_eq!(store.change(&client, second, &ended).result(), Some(Ok(())));
    assert_eq!(
        store.change(&client, second, &ended).result(),
        Some(Err(StoreError::Fenced))
    );
}

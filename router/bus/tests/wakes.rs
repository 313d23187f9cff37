//! A connection sleeps when the bus has nothing for it, and is woken as soon as it has: at whatever moment the
//! engine is done.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use support::*;
use tidegate_bus::*;

/// A durable engine that keeps a message some turns of a loop after it was told of it, on a thread that never
/// sleeps: sooner or later exactly while the connection looks.
#[derive(Default)]
struct RacingStore {
    open: Mutex<Option<Completion>>,
    turns: AtomicU32,
    over: AtomicBool,
}

impl RacingStore {
    fn run(&self) {
        while !self.over.load(Ordering::Acquire) {
            let completion = self.open.lock().unwrap().take();
            if let Some(completion) = completion {
                pass_time(self.turns.load(Ordering::Relaxed));
                completion.complete(Ok(()));
            } else {
                std::thread::yield_now();
            }
        }
    }
}

impl Store for RacingStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        Box::pin(std::future::ready(Ok(Claim {
            epoch: Epoch(1),
            session: None,
        })))
    }

    fn append(&self, _publication: &Publication<'_>) -> Ticket {
        let (ticket, completion) = Ticket::pending();
        *self.open.lock().unwrap() = Some(completion);
        ticket
    }

    fn retain(&self, _topic: &str, _message: Option<&Arc<StoredMessage>>) -> Ticket {
        Ticket::ready()
    }

    fn change(&self, _client: &ClientId, _epoch: Epoch, _changes: &[SessionChange]) -> Ticket {
        Ticket::ready()
    }

    fn read(&self, _: &ClientId, _: Epoch, _: Place, reader: Box<dyn QueueReader>) {
        reader.end(Ok(true));
    }
}

/// Some turns of a loop, of about a nanosecond each.
fn pass_time(turns: u32) {
    for turn in 0..turns {
        std::hint::black_box(turn);
    }
}

/// Whether the connection was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn mqtt_4_3_3_a_message_that_waits_for_the_engine_wakes_its_receiver_at_whatever_moment_it_is_kept()
{
    const MESSAGES: u32 = 10_000;
    let store = Arc::new(RacingStore::default());
    let bus = TestBus::with_store(|_| {}, Arc::clone(&store) as _);
    let client = bus.connect_durable("receiver");
    client.subscribe("t", QoS::ExactlyOnce);
    let woken = Arc::new(Woken::default());
    client.attachment.set_waker(Waker::from(Arc::clone(&woken)));
    std::thread::scope(|scope| {
        scope.spawn(|| store.run());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..MESSAGES {
                // From before the look to after it.
                store.turns.store(number % 4_000, Ordering::Relaxed);
                bus.publish_as("t", "m", QoS::ExactlyOnce, |_| {});
                pass_time(1_000);
                let since = Instant::now();
                let mut out = Vec::new();
                loop {
                    // A task that is woken runs once, however often that was before.
                    woken.0.store(false, Ordering::Release);
                    let _ = client
                        .attachment
                        .take_output(&mut out, bus.bus.now())
                        .unwrap();
                    if !out.is_empty() {
                        break;
                    }
                    // Asleep, both threads would be given one core, and never meet.
                    while !woken.0.load(Ordering::Acquire) {
                        assert!(
                            since.elapsed() < Duration::from_secs(10),
                            "{number} was kept, and nobody was woken"
                        );
                        std::thread::yield_now();
                    }
                }
                let got = parse(&out).remove(0);
                let (id, now) = (got.id(), bus.bus.now());
                client.attachment.received(now, id, false).unwrap();
                assert!(client.attachment.complete(now, id).unwrap());
            }
        }));
        store.over.store(true, Ordering::Release);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

//! What one thread needs while it publishes a batch.

use std::cell::Cell;
use std::sync::Arc;

use crate::index::Run;
use crate::mailbox::Mailbox;
use crate::message::Encodings;
use crate::routes::Routes;
use crate::store::Reference;
use crate::subscriber::Subscriber;
use crate::time::Timestamp;

/// The state of a batch: a connection reads, publishes every complete packet, and at the end every
/// receiver that was touched is woken once. Handed out by [`crate::Bus::batch`].
pub struct Worker {
    pub(crate) bus: u64,
    pub(crate) now: Timestamp,
    pub(crate) routes: Routes,
    pub(crate) touched: Vec<Arc<dyn Subscriber>>,
    pub(crate) mailbox: Mailbox,
    pub(crate) encodings: Encodings,
    pub(crate) tally: Tally,
    pub(crate) random: Random,
    pub(crate) run: Run,
    /// Durable sessions that wait for the message being routed.
    pub(crate) references: Vec<Reference>,
}

/// What a batch has counted, told to the shared counters once at its end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) received: [u64; 3],
    pub(crate) payload_bytes: u64,
    pub(crate) unmatched: u64,
    /// Deliveries, whatever became of them.
    pub(crate) served: usize,
}

/// Deliveries of one batch after which a connection handles no further packet: some milliseconds.
const BATCH_DELIVERIES: usize = 16_384;

thread_local! {
    /// The worker of the bus that this thread used last.
    static WORKER: Cell<Option<Box<Worker>>> = const { Cell::new(None) };
}

impl Worker {
    /// This thread's worker for the bus numbered `bus`; a new one when the thread worked for
    /// another bus, or is in the middle of a batch.
    pub(crate) fn take(bus: u64, route_cache_bytes: usize) -> Box<Self> {
        match WORKER.take() {
            Some(worker) if worker.bus == bus => worker,
            _ => Box::new(Self {
                bus,
                now: Timestamp::default(),
                routes: Routes::new(route_cache_bytes),
                touched: Vec::new(),
                mailbox: Mailbox::default(),
                encodings: Encodings::default(),
                tally: Tally::default(),
                random: Random::new(),
                run: Run::default(),
                references: Vec::new(),
            }),
        }
    }

    pub(crate) fn put_back(self: Box<Self>) {
        WORKER.set(Some(self));
    }

    /// Whether the batch has served so many receivers that others should have their turn.
    pub const fn is_exhausted(&self) -> bool {
        self.tally.served >= BATCH_DELIVERIES
    }

    /// When the batch began.
    pub const fn now(&self) -> Timestamp {
        self.now
    }
}

/// Numbers that are random enough to spread load (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers that differ between threads and runs.
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(0_u8) | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

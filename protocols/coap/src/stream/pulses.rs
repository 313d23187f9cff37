//! Which connections are open, when each was heard last, and how those are woken that have something to do because time
//! has passed: one task looks after all of them, so that an idle one needs no timer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::{Notify, watch};

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Pulses {
    began: Instant,
    open: Mutex<Slab<Arc<Pulse>>>,
    /// `true` once everybody is to go.
    closing: watch::Sender<bool>,
    left: Notify,
}

/// One connection, as the task that looks after all sees it.
#[derive(Debug, Default)]
struct Pulse {
    /// When it was heard last, in milliseconds.
    heard: AtomicU64,
    /// It is waiting for time to pass.
    waits: AtomicBool,
    /// A task keeps its waker for life.
    task: OnceLock<Waker>,
}

/// A connection's place among all; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Beat {
    pulses: Arc<Pulses>,
    pulse: Arc<Pulse>,
    place: usize,
}

impl Pulses {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            open: Mutex::default(),
            closing: watch::Sender::new(false),
            left: Notify::new(),
        })
    }

    /// A place for a connection that begins now.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Beat {
        let pulse = Arc::new(Pulse::default());
        pulse.heard.store(self.millis(now), Relaxed);
        let place = self.open.lock().insert(Arc::clone(&pulse));
        Beat {
            pulses: Arc::clone(self),
            pulse,
            place,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Wakes those that were not heard for `silence`, and those that wait for time to pass.
    pub(super) fn look(&self, silence: Duration, now: Instant) {
        let before = self.millis(now).saturating_sub(silence.as_millis() as u64);
        for (_, pulse) in &*self.open.lock() {
            if pulse.heard.load(Relaxed) <= before || pulse.waits.load(Relaxed) {
                pulse.wake();
            }
        }
    }

    // ---- the end ----------------------------------------------------------------------------

    /// Nobody begins any more.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Completes when nobody begins any more.
    pub(super) async fn closing(&self) {
        // The sender lives as long as this does.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Wakes the connections after the first `passed_over`, and at most so many.
    pub(super) fn wake_some(&self, passed_over: usize, most: usize) -> usize {
        let open = self.open.lock();
        let some = open.iter().skip(passed_over).take(most);
        some.map(|(_, pulse)| pulse.wake()).count()
    }

    /// Completes when no connection is open.
    pub(super) async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.len() == 0 {
                return;
            }
            left.await;
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_millis() as u64
    }
}

impl Pulse {
    fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl Beat {
    /// From now on it is woken when time has passed.
    pub(super) fn set_waker(&self, waker: &Waker) {
        // Set once: it is the same for life.
        let _ = self.pulse.task.set(waker.clone());
    }

    /// Something has come.
    pub(super) fn heard(&self, now: Instant) {
        self.pulse.heard.store(self.pulses.millis(now), Relaxed);
    }

    /// How long nothing has come.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let heard = self.pulse.heard.load(Relaxed);
        Duration::from_millis(self.pulses.millis(now).saturating_sub(heard))
    }

    /// Whether it is to be woken at every look, too.
    pub(super) fn set_waits(&self, waits: bool) {
        self.pulse.waits.store(waits, Relaxed);
    }

    /// Whether everybody is to go.
    pub(super) fn is_closing(&self) -> bool {
        *self.pulses.closing.borrow()
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        let mut open = self.pulses.open.lock();
        open.remove(self.place);
        let none = open.is_empty();
        if open.capacity() > 4 * open.len().max(1_024) {
            // A crowd that has left gives its memory back.
            open.shrink_to_fit();
        }
        drop(open);
        if none {
            self.pulses.left.notify_waiters();
        }
    }
}

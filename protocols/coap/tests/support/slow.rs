//! A store that keeps subscriptions, and their ends, when it is told to, and everything else at once.

#![allow(unreachable_pub, reason = "part of several binaries")]

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_bus::*;

/// Keeps subscriptions, and their ends, when it is told to.
#[derive(Default)]
pub struct SlowStore {
    inner: MemoryStore,
    waiting: Mutex<Vec<Completion>>,
}

impl SlowStore {
    /// How many of them wait.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// What has waited longest is kept, or is not.
    pub fn complete(&self, result: Result<(), StoreError>) {
        let completion = self.waiting.lock().remove(0);
        completion.complete(result);
    }
}

impl Store for SlowStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, client: &'a ClientId) -> StoreFuture<'a, Claim> {
        self.inner.claim(client)
    }

    fn append(&self, publication: &Publication<'_>) -> Ticket {
        self.inner.append(publication)
    }

    fn change(&self, _: &ClientId, _: Epoch, changes: &[SessionChange]) -> Ticket {
        let is_slow = |change: &SessionChange| {
            matches!(
                change,
                SessionChange::Subscribed { .. } | SessionChange::Unsubscribed(_)
            )
        };
        if !changes.iter().any(is_slow) {
            return Ticket::ready();
        }
        let (ticket, completion) = Ticket::pending();
        self.waiting.lock().push(completion);
        ticket
    }

    fn retain(&self, topic: &str, message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.inner.retain(topic, message)
    }

    fn read(&self, client: &ClientId, session: Epoch, from: Place, reader: Box<dyn QueueReader>) {
        self.inner.read(client, session, from, reader);
    }
}

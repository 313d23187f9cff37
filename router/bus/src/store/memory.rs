//! The engine without a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Claim, Epoch, Place, Publication, QueueReader, SessionChange, Store, StoreFuture, Ticket,
};
use crate::client_id::ClientId;
use crate::message::StoredMessage;

/// The engine without a disk: it hands out epochs and keeps nothing. The bus, which holds every session
/// itself, fences on its own.
#[derive(Debug, Default)]
pub struct MemoryStore {
    last: AtomicU64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        let epoch = Epoch(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        Box::pin(std::future::ready(Ok(Claim {
            epoch,
            session: None,
        })))
    }

    fn append(&self, _publication: &Publication<'_>) -> Ticket {
        Ticket::ready()
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

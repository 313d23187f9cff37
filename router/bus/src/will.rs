//! The will: a message published for a client that goes without saying so (MQTT 5.0 section 3.1.2.5).

use std::sync::Arc;

use crate::budget::MemoryBudget;
use crate::message::{Message, StoredMessage};
use crate::store::StoredWill;

/// A will and how long it waits.
#[derive(Clone, Debug)]
pub struct Will {
    pub(crate) message: Arc<StoredMessage>,
    /// The expiry counts from the publication, not from CONNECT.
    pub(crate) expires_in: Option<u32>,
    pub(crate) delay: u32,
}

impl Will {
    /// The will as an engine keeps it.
    pub(crate) fn to_stored(&self) -> StoredWill {
        StoredWill {
            message: Arc::clone(&self.message),
            delay: self.delay,
            expires_in: self.expires_in,
        }
    }

    /// A will that is published `delay` seconds after the connection ended, or when the session
    /// ends if that is sooner (MQTT-3.1.3-9). The message expires `expires_in` seconds after that.
    /// `None` when `budget` has no room for it.
    pub fn new(
        message: &Message<'_>,
        delay: u32,
        expires_in: Option<u32>,
        budget: &Arc<MemoryBudget>,
    ) -> Option<Self> {
        let message = Arc::new(StoredMessage::new(message, budget)?);
        Some(Self {
            message,
            expires_in,
            delay,
        })
    }
}

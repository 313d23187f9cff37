//! Effects of a delivery that must not happen inside it.
//!
//! A delivery runs under its receiver's lock on the publisher's thread. What it wants done
//! elsewhere (a rule that publishes, a receiver that asks for another's end) is left here and run
//! after the batch. Two bounds keep a loop of rules from running for ever: the mailbox holds
//! [`CAPACITY`] effects, and a message that was published by an effect [`MAX_HOPS`] deep is dropped.

use std::sync::Arc;

use crate::client_id::ClientId;
use crate::message::StoredMessage;
use crate::session::EndReason;

/// Most effects that wait at once; one more is refused and counted.
pub const CAPACITY: usize = 1_024;

/// How often a message may cause another.
pub const MAX_HOPS: u8 = 8;

/// Something to do after the batch.
#[derive(Debug)]
pub enum Effect {
    /// Publish a message.
    Publish(Arc<StoredMessage>),
    /// End the connection of a client.
    Disconnect(ClientId, EndReason),
}

/// The effects of one batch.
#[derive(Debug, Default)]
pub struct Mailbox {
    pub(crate) waiting: Vec<(Effect, u8)>,
    /// Hops of the message that is being delivered now.
    pub(crate) hops: u8,
    pub(crate) refused: u64,
}

impl Mailbox {
    /// Leaves `effect` to be run after the batch; `false` when it was refused, which is counted.
    pub fn send(&mut self, effect: Effect) -> bool {
        if self.waiting.len() >= CAPACITY || self.hops >= MAX_HOPS {
            self.refused += 1;
            return false;
        }
        self.waiting.push((effect, self.hops + 1));
        true
    }
}

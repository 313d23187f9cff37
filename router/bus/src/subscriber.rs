//! The contract between the bus and whatever receives messages.

use std::sync::Arc;

use crate::drops::DropReason;
use crate::mailbox::Mailbox;
use crate::message::Message;
use crate::store::Reference;
use crate::subscription::Subscription;
use crate::time::Timestamp;

/// What became of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Written to the receiver's outbox. `wake`: the receiver was idle and wants a
    /// [`Subscriber::flush`] at the end of the batch.
    Sent {
        /// Whether to flush.
        wake: bool,
    },
    /// Kept until the receiver can take it.
    Queued {
        /// Whether to flush.
        wake: bool,
    },
    /// Lost, and counted by the receiver.
    Dropped {
        /// Why.
        reason: DropReason,
        /// Whether to flush, because the receiver's connection is to end for it.
        wake: bool,
    },
    /// Not meant for this receiver: no-local, or a subscription that has ended.
    Skipped,
}

/// What a delivery may use beside the message.
pub struct DeliveryContext<'a> {
    /// When the batch began.
    pub now: Timestamp,
    /// Where effects go that must not happen inside a delivery.
    pub mailbox: &'a mut Mailbox,
    /// A receiver that would need the message again after a restart leaves here how it waits for it.
    pub references: &'a mut Vec<Reference>,
}

/// Whatever receives messages: a session, a rule, a bridge, a peer node.
///
/// `deliver` runs on the publisher's thread. It does not block, publish, disconnect anybody or take
/// a second subscriber's lock; it leaves such effects in the mailbox.
pub trait Subscriber: Send + Sync {
    /// A number that no other subscriber of this bus has.
    fn key(&self) -> u64;

    /// Called once per message that matches, with every subscription of this subscriber that
    /// matched (at least one).
    fn deliver(
        &self,
        message: &Message<'_>,
        subscriptions: &[Arc<Subscription>],
        context: &mut DeliveryContext<'_>,
    ) -> Delivery;

    /// Called once at the end of the publisher's batch when a delivery asked for it: wake the
    /// writer.
    fn flush(&self);

    /// Messages in flight and queued, for the shared strategy `least_inflight`.
    fn load(&self) -> u32 {
        0
    }

    /// Whether the receiver can take a message now; shared groups prefer those.
    fn is_available(&self) -> bool {
        true
    }

    /// Whether an acknowledged message for this receiver must be kept by the engine. Asked only while the
    /// engine cannot keep anything.
    fn is_kept(&self) -> bool {
        false
    }

    /// Whether the receiver is on this node, for the shared strategy `local_first`.
    fn is_local(&self) -> bool {
        true
    }
}

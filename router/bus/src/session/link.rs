//! The connected side of a session: what is encoded for the socket, and how.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use super::channels::Channels;
use super::outbox::Outbox;
use crate::budget::MemoryBudget;
use crate::channel::Channel;
use crate::message::Message;
use crate::qos::QoS;
use crate::store::{Epoch, Place, Ticket};

/// How one message is delivered to one client.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// min(published, granted).
    pub qos: QoS,
    /// The retain flag to send.
    pub retain: bool,
    /// Whether it was sent before, on a connection that has ended.
    pub dup: bool,
    /// The packet identifier, at QoS 1 and 2.
    pub packet_id: Option<NonZeroU16>,
    /// The Subscription Identifiers of all matching subscriptions; inside this crate the numbers of their
    /// channels may stand in front of them.
    pub subscription_identifiers: &'a [u32],
    /// The stream that it goes out on, unless that is the one that the connection has begun on.
    pub channel: Option<Channel>,
    /// Seconds until the message expires, time in the gateway deducted (MQTT-3.3.2-6).
    pub expires_in: Option<u32>,
    /// Where an acknowledged message stands among those of its session, also after a restart; they go out in
    /// this order. 0 at QoS 0.
    pub place: Place,
}

/// The packet is larger than the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// How a connection writes what the bus has for it. Lives under the session's lock.
pub trait Encoder: Send {
    /// Told once, before anything is written: what the session is called, for protocols whose clients name it when
    /// they come back. `kept_as` is its name if it outlives the process, `key` that of this process.
    fn begin(&mut self, kept_as: Option<Epoch>, key: u64) {
        let _ = (kept_as, key);
    }

    /// Appends the message to `out`; nothing when it is too large for the client.
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge>;

    /// Appends the second step of a QoS 2 delivery (PUBREL).
    fn release(&mut self, out: &mut Vec<u8>, packet_id: NonZeroU16);

    /// How many QoS 0 messages lie in `unsent`, which begins at the start of a packet and may end
    /// inside one: for the drop ledger, when a connection ends with bytes left.
    fn count_unacknowledged(&self, unsent: &[u8]) -> u64;
}

/// Why the bus ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// Another connection uses the client identifier (MQTT-3.1.4-3).
    TakenOver,
    /// The client does not keep up and the policy is to disconnect it.
    SlowConsumer,
    /// Nothing was heard for one and a half times the keep alive (MQTT-3.1.2-22).
    KeepAliveTimeout,
    /// The engine could not give back what waits for the client.
    StoreFailed,
    /// The gateway shuts down.
    ServerShuttingDown,
    /// An operator ended it.
    Administrative,
}

/// Bytes are taken from the memory budget in pieces of this size.
const GRANULE: usize = 16 << 10;

pub(crate) struct Link {
    pub(crate) encoder: Box<dyn Encoder>,
    pub(super) outbox: Outbox,
    /// The connection knows that there is something to take.
    pub(super) scheduled: bool,
    /// Messages that may still be sent before one is acknowledged (MQTT 5.0 section 4.9).
    pub(super) quota: u16,
    pub(super) window: u16,
    pub(super) end: Option<EndReason>,
    /// Exchanges that are to be sent, in order: those of earlier connections after a resume, then new ones
    /// that had to wait for the engine.
    pub(super) to_send: VecDeque<NonZeroU16>,
    /// How many of those are of earlier connections.
    pub(super) resuming: usize,
    /// What the first of them waits for.
    pub(super) blocked_on: Option<Ticket>,
    /// 1.5 times the keep alive, in milliseconds; 0 is for ever.
    pub(super) patience_millis: u64,
    /// Sent since the counters were told, by QoS, and their payload.
    pub(super) sent: [u32; 3],
    pub(super) sent_payload: u64,
    /// The streams of the connection beside the one it has begun on.
    pub(super) channels: Channels,
    charged: usize,
    /// Charged for what the connection has taken and not yet written.
    taken: usize,
}

impl Link {
    pub(super) fn new(encoder: Box<dyn Encoder>, window: u16, patience_millis: u64) -> Self {
        Self {
            encoder,
            outbox: Outbox::default(),
            scheduled: false,
            quota: window,
            window,
            end: None,
            to_send: VecDeque::new(),
            resuming: 0,
            blocked_on: None,
            patience_millis,
            sent: [0; 3],
            sent_payload: 0,
            channels: Channels::default(),
            charged: 0,
            taken: 0,
        }
    }

    /// Whether `size` more bytes fit the outbox. Small outboxes are not charged: they exist for the
    /// time of a batch.
    #[inline]
    pub(super) fn has_room(&mut self, size: usize, limit: usize, budget: &MemoryBudget) -> bool {
        let length = self.outbox.len();
        if length + size <= GRANULE.min(limit) || length == 0 {
            return true;
        }
        length + size <= limit && self.charge_for(length + size, budget)
    }

    fn charge_for(&mut self, length: usize, budget: &MemoryBudget) -> bool {
        while self.charged + GRANULE < length {
            if !budget.reserve(GRANULE) {
                return false;
            }
            self.charged += GRANULE;
        }
        true
    }

    /// Moves the first of what waits into `out`, which the connection asks for only when everything
    /// it took before is written. `true`: there is more.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, budget: &MemoryBudget) -> bool {
        let more = self.outbox.take(out);
        if self.taken > 0 {
            budget.release(self.taken);
        }
        // What is left stays charged; the rest goes with what was taken.
        let left = self.charged.min(self.outbox.len());
        self.taken = self.charged - left;
        self.charged = left;
        more
    }

    /// Gives everything back, at the end of the connection.
    pub(super) fn release_charge(&mut self, budget: &MemoryBudget) {
        budget.release(self.taken + self.charged);
        (self.taken, self.charged) = (0, 0);
    }

    /// Why the connection is to end, when it is.
    pub(crate) const fn end(&self) -> Option<EndReason> {
        self.end
    }

    /// How long the client may be silent, in milliseconds; 0 is for ever.
    pub(crate) const fn patience_millis(&self) -> u64 {
        self.patience_millis
    }

    /// Takes the first exchange off the list; `true`: it is of an earlier connection.
    pub(super) fn next_exchange(&mut self) -> bool {
        self.to_send.pop_front();
        let old = self.resuming > 0;
        self.resuming -= usize::from(old);
        old
    }

    /// One exchange more takes from the window.
    pub(super) fn take_quota(&mut self) {
        self.quota = self.quota.saturating_sub(1);
    }

    /// One exchange is closed, and another message may go (MQTT 5.0 section 4.9).
    pub(super) fn restore_quota(&mut self) {
        self.quota = (self.quota + 1).min(self.window);
    }
}

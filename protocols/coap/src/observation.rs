//! The bus's side of an observation (RFC 7641): messages wait here until the listener sends them.
//!
//! An observer is promised the newest state, not every state. What is published faster than it can be sent waits, up
//! to a bound; beyond that older states of topics give way to newer ones, and where each is the newest of its topic the
//! oldest of all. It is counted.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_bus::{
    Bus, Delivery, DeliveryContext, DropReason, Message, StoredMessage, Subscriber, Subscription,
};

use crate::ready::Ready;

/// One observation, as the bus knows it.
pub(crate) struct Observation {
    key: u64,
    /// Where the listener has it.
    place: usize,
    bus: Arc<Bus>,
    ready: Arc<Ready>,
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<StoredMessage>>,
    /// The listener knows that there is something.
    scheduled: bool,
    ended: bool,
}

impl Waiting {
    /// Of each topic only the newest message goes on waiting. Gives back how many gave way.
    fn supersede(&mut self) -> u64 {
        let before = self.messages.len();
        let mut topics = HashSet::with_capacity(before);
        let newest: Vec<bool> = self
            .messages
            .iter()
            .rev()
            .map(|message| topics.insert(message.topic()))
            .collect();
        drop(topics);
        let mut newest = newest.into_iter().rev();
        self.messages.retain(|_| newest.next() == Some(true));
        (before - self.messages.len()) as u64
    }

    /// Makes room for a message of this topic. Gives back how many gave way.
    #[cold]
    fn make_room(&mut self, topic: &str) -> u64 {
        let mut older = self.messages.iter();
        if let Some(same) = older.position(|older| older.topic() == topic) {
            self.messages.remove(same);
            return 1;
        }
        let superseded = self.supersede();
        if superseded > 0 {
            return superseded;
        }
        // So many topics are not kept apart.
        self.messages.pop_front();
        1
    }
}

impl Observation {
    /// `most`: messages that wait at once.
    pub(crate) fn new(bus: &Arc<Bus>, ready: &Arc<Ready>, place: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            key: bus.new_subscriber_key(),
            place,
            bus: Arc::clone(bus),
            ready: Arc::clone(ready),
            most,
            waiting: Mutex::default(),
        })
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().messages.is_empty()
    }

    /// The next message. With none left the next delivery announces itself again.
    pub(crate) fn take(&self) -> Option<Arc<StoredMessage>> {
        let mut waiting = self.waiting.lock();
        let message = waiting.messages.pop_front();
        if waiting.messages.is_empty() {
            waiting.scheduled = false;
            // What a burst took is given back; room for one message stays, so that the next one needs none.
            waiting.messages.shrink_to(1);
        }
        message
    }

    /// Lets a message wait that comes from a session, where the number of those is bounded.
    pub(crate) fn push(&self, message: Arc<StoredMessage>) {
        self.waiting.lock().messages.push_back(message);
    }

    /// What waits is still the session's.
    pub(crate) fn clear(&self) {
        self.waiting.lock().messages.clear();
    }

    /// Of each topic only the newest message goes on waiting (RFC 7641 section 4.5.2).
    pub(crate) fn supersede(&self) {
        let dropped = self.waiting.lock().supersede();
        self.bus.count_dropped(DropReason::Superseded, dropped);
    }

    /// The retained messages that an observer begins with stand before all that was published meanwhile; of that,
    /// what is in them goes. Gives back how many did not fit.
    pub(crate) fn begin_with(&self, retained: Vec<Arc<StoredMessage>>) -> u64 {
        let mut waiting = self.waiting.lock();
        // A message is retained before it is delivered: one that waits here is in what was read since, or older.
        waiting
            .messages
            .retain(|message| !message.as_message().retain);
        let room = self.most.saturating_sub(waiting.messages.len());
        let left_out = retained.len().saturating_sub(room);
        for message in retained.into_iter().take(room).rev() {
            waiting.messages.push_front(message);
        }
        let has_some = !waiting.messages.is_empty();
        let announce = has_some && !std::mem::replace(&mut waiting.scheduled, has_some);
        drop(waiting);
        if announce {
            self.ready.add(self.place);
        }
        self.bus
            .count_dropped(DropReason::QueueFull, left_out as u64);
        left_out as u64
    }

    /// Nothing is taken any more; what waits is lost, and counted.
    pub(crate) fn end(&self) {
        let mut waiting = self.waiting.lock();
        waiting.ended = true;
        let lost = std::mem::take(&mut waiting.messages).len();
        drop(waiting);
        self.bus
            .count_dropped(DropReason::SessionEnded, lost as u64);
    }
}

impl Subscriber for Observation {
    fn key(&self) -> u64 {
        self.key
    }

    fn deliver(
        &self,
        message: &Message<'_>,
        subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        let mut waiting = self.waiting.lock();
        if waiting.ended
            || !subscriptions
                .iter()
                .any(|subscription| subscription.is_live())
        {
            return Delivery::Skipped;
        }
        let Some(stored) = message.store(self.bus.memory()) else {
            self.bus.count_dropped(DropReason::MemoryFull, 1);
            return Delivery::Dropped {
                reason: DropReason::MemoryFull,
                wake: false,
            };
        };
        if waiting.messages.len() >= self.most {
            let dropped = waiting.make_room(message.topic.as_str());
            self.bus.count_dropped(DropReason::Superseded, dropped);
        }
        waiting.messages.push_back(stored);
        Delivery::Queued {
            wake: !std::mem::replace(&mut waiting.scheduled, true),
        }
    }

    fn flush(&self) {
        self.ready.add(self.place);
    }

    fn load(&self) -> u32 {
        self.waiting.lock().messages.len() as u32
    }

    fn is_available(&self) -> bool {
        let waiting = self.waiting.lock();
        !waiting.ended && waiting.messages.len() < self.most
    }
}

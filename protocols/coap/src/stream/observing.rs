//! The observations of one connection (RFC 7641, RFC 8323 section 7): who is told what, as fast as it reads.
//!
//! A notification is neither confirmed nor repeated; that the client reads is seen by the bytes that it takes. While it
//! takes none, messages wait where the bus has put them, as many as may; then the oldest gives way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;
use tidegate_bus::{QoS, StoredMessage, Subscription, SubscriptionOptions, TopicFilter};

use super::endpoint::Endpoint;
use crate::codec::{Block, Token};
use crate::duplicates::EXCHANGE_LIFETIME;
use crate::metrics::Cancel;
use crate::observation::Observation;
use crate::ready::Ready;
use crate::topics::NO_IDENTIFIER;

/// The number in the answer to a registration; notifications have others (RFC 7641 section 3.4). Over a stream a client
/// does not look at them (RFC 8323 section 7.1).
pub(super) const REGISTERED: u32 = 1;

/// How long a client may take from one block of a notification to the next before it is told something newer.
const FETCH: Duration = Duration::from_secs(10);

/// Places in a list that is empty, without being given back.
const KEPT: usize = 8;

/// An observation.
pub(super) struct Watch {
    pub(super) token: Token,
    pub(super) observation: Arc<Observation>,
    subscription: Arc<Subscription>,
    pub(super) qos: QoS,
    sequence: u32,
    /// What was told in part, for as long as the rest of it may be fetched.
    last: Option<Parted>,
}

/// A notification of which the first blocks were sent.
struct Parted {
    message: Arc<StoredMessage>,
    /// When a block of it was last sent.
    moved: Instant,
    /// The last block was sent, too.
    is_whole: bool,
}

/// The observations of one connection.
pub(super) struct Observing {
    endpoint: Arc<Endpoint>,
    ready: Arc<Ready>,
    watches: Slab<Watch>,
    /// Places of those that have something to tell, in their turn.
    due: VecDeque<usize>,
    /// Places of those whose client fetches the rest of what it was told.
    busy: Vec<usize>,
    awake: Vec<usize>,
}

impl Watch {
    pub(super) fn has_wildcard(&self) -> bool {
        self.subscription.filter().has_wildcard()
    }

    /// The number of the next notification, 24 bits.
    pub(super) fn next_number(&mut self) -> u32 {
        self.sequence = (self.sequence + 1) & 0xFF_FFFF;
        if self.sequence == REGISTERED {
            self.sequence += 1;
        }
        self.sequence
    }

    /// The rest of this will be fetched.
    pub(super) fn told_in_part(&mut self, message: Option<Arc<StoredMessage>>, now: Instant) {
        self.last = message.map(|message| Parted {
            message,
            moved: now,
            is_whole: false,
        });
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.last
            .as_ref()
            .is_some_and(|parted| !parted.is_whole && parted.moved + FETCH > now)
    }
}

impl Observing {
    /// `task` is woken when there is something to tell.
    pub(super) fn new(endpoint: &Arc<Endpoint>, task: &Waker) -> Box<Self> {
        Box::new(Self {
            endpoint: Arc::clone(endpoint),
            ready: Arc::new(Ready::of_task(task.clone())),
            watches: Slab::new(),
            due: VecDeque::new(),
            busy: Vec::new(),
            awake: Vec::new(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Whether something waits for time to pass.
    pub(super) fn waits(&self) -> bool {
        self.watches.iter().any(|(_, watch)| watch.last.is_some())
    }

    /// What nobody fetches any more is not kept.
    pub(super) fn expire(&mut self, now: Instant) {
        for (_, watch) in &mut self.watches {
            watch
                .last
                .take_if(|parted| parted.moved + EXCHANGE_LIFETIME <= now);
        }
    }

    pub(super) fn watch(&mut self, place: usize) -> Option<&mut Watch> {
        self.watches.get_mut(place)
    }

    /// Subscribes; `None` when there are as many as may be.
    pub(super) fn register(
        &mut self,
        token: Token,
        filter: TopicFilter,
        qos: QoS,
    ) -> Option<usize> {
        let Endpoint {
            bus,
            settings,
            metrics,
            ..
        } = &*self.endpoint;
        if self.watches.len() >= settings.max_observations_per_endpoint
            || !metrics.observations.take(settings.max_observations)
        {
            return None;
        }
        let entry = self.watches.vacant_entry();
        let place = entry.key();
        let observation = Observation::new(bus, &self.ready, place, settings.max_waiting);
        let options = SubscriptionOptions::with_qos(qos);
        let subscription = Arc::new(Subscription::new(filter, options, NO_IDENTIFIER));
        entry.insert(Watch {
            token,
            observation: Arc::clone(&observation),
            subscription: Arc::clone(&subscription),
            qos,
            sequence: REGISTERED,
            last: None,
        });
        bus.add_subscription(observation, subscription);
        Some(place)
    }

    /// Ends the observation with this token, if there is one.
    pub(super) fn deregister(&mut self, token: Token) {
        let same = self.watches.iter().find(|(_, watch)| watch.token == token);
        if let Some((place, _)) = same {
            self.cancel(place, Cancel::Asked);
        }
    }

    pub(super) fn cancel(&mut self, place: usize, why: Cancel) {
        let Some(watch) = self.watches.try_remove(place) else {
            return;
        };
        let Endpoint { bus, metrics, .. } = &*self.endpoint;
        metrics.cancelled[why as usize].add(1);
        metrics.observations.give_back(1);
        watch.observation.end();
        bus.remove_subscription(&watch.subscription);
        self.busy.retain(|other| *other != place);
    }

    /// The tokens of all.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.watches.iter().map(|(_, watch)| watch.token)
    }

    // ---- telling ----------------------------------------------------------------------------

    /// The next message to tell, and of which observation.
    pub(super) fn next(&mut self, now: Instant) -> Option<(usize, Arc<StoredMessage>)> {
        self.ready.take(&mut self.awake);
        self.due.extend(self.awake.drain(..));
        if !self.busy.is_empty() {
            let watches = &self.watches;
            let is_free = |place: &usize| watches.get(*place).is_none_or(|w| !w.is_busy(now));
            self.due
                .extend(self.busy.extract_if(.., |place| is_free(place)));
        }
        while let Some(place) = self.due.pop_front() {
            // It may have ended meanwhile, and its place be another's, who then has nothing to tell.
            let Some(watch) = self.watches.get(place) else {
                continue;
            };
            if watch.is_busy(now) {
                if !watch.observation.is_empty() && !self.busy.contains(&place) {
                    self.busy.push(place);
                }
                continue;
            }
            let Some(message) = watch.observation.take() else {
                continue;
            };
            if !watch.observation.is_empty() {
                self.due.push_back(place);
            }
            return Some((place, message));
        }
        self.due.shrink_to(KEPT);
        self.awake.shrink_to(KEPT);
        None
    }

    /// What an observer of this filter was told in part, when the rest of it is fetched.
    pub(super) fn notified(
        &self,
        filter: &TopicFilter,
        block: Option<Block>,
    ) -> Option<Arc<StoredMessage>> {
        block.filter(|block| block.num > 0)?;
        let same = self
            .watches
            .iter()
            .filter(|(_, watch)| watch.subscription.filter() == filter);
        // Of several observations of the same, the one that was told something last.
        let parted = same
            .filter_map(|(_, watch)| watch.last.as_ref())
            .max_by_key(|last| last.moved);
        parted.map(|parted| Arc::clone(&parted.message))
    }

    /// So far was fetched of what an observer was told: with the end of it the next may be told.
    pub(super) fn fetched(&mut self, filter: &TopicFilter, end: usize, now: Instant) {
        for (_, watch) in &mut self.watches {
            if watch.subscription.filter() == filter
                && let Some(parted) = &mut watch.last
            {
                parted.moved = now;
                parted.is_whole |= end >= parted.message.as_message().payload.len();
            }
        }
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        let places: Vec<usize> = self.watches.iter().map(|(place, _)| place).collect();
        for place in places {
            self.cancel(place, Cancel::Closed);
        }
    }
}

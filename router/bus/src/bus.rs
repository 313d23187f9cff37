//! The bus: routes a message to everybody who asked for it.
//!
//! What a publish does, in order:
//!
//! 1. A retained message replaces the one before in the retained tree. It does so before the
//!    receivers are looked up: a subscriber that is added meanwhile finds it in the tree, in the
//!    live stream, or in both, and never an older value after a newer one.
//! 2. The topic's receivers come from the worker's cache or the index.
//! 3. Each receives the message borrowed; those that must keep it share one copy. Beyond
//!    [`Settings::fanout_slice`] receivers the rest is left to a [`FanOut`], so that one publish
//!    never holds a worker for long.
//! 4. A durable engine is told everything in one append; its ticket is the caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::access::{Access, Denial};
use crate::budget::MemoryBudget;
use crate::channel::Channel;
use crate::client_id::ClientId;
use crate::counters::Counters;
use crate::drops::{ClientDrops, DropReason};
use crate::index::{Entry, Index, Run, Targets};
use crate::mailbox::{Effect, Mailbox};
use crate::message::{Message, PublisherKey, StoredMessage};
use crate::registry::{PastDrops, Registry};
use crate::retained::{Retained, RetainedFull};
use crate::session::{EndReason, Orphan, Session, Shared};
use crate::settings::Settings;
use crate::store::{Origin, Publication, Reference, Store, StoreError, Ticket};
use crate::subscriber::{Delivery, DeliveryContext, Subscriber};
use crate::subscription::Subscription;
use crate::time::{Clock, Timestamp};
use crate::timers::Timers;
use crate::topic::{TopicFilter, TopicName};
use crate::worker::Worker;

/// Why a message was not accepted from its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishRefusal {
    /// The client may not publish this (MQTT 5: 0x87).
    NotAuthorized,
    /// The topic is longer or deeper than the limits allow (MQTT 5: 0x90).
    TopicNameInvalid,
    /// As much is retained as may be (MQTT 5: 0x97).
    QuotaExceeded,
    /// The engine cannot keep anything now (MQTT 5: 0x97).
    StoreUnavailable,
    /// The connection has been replaced by another.
    Fenced,
}

/// What became of a publish.
#[derive(Debug)]
#[must_use = "the acknowledgement waits for the ticket, and the rest of a large fan-out for its turn"]
pub struct Published {
    /// Completes when everything that must outlive the process is kept.
    pub ticket: Ticket,
    /// Whether anybody subscribes to the topic.
    pub matched: bool,
    /// Receivers that were not served yet.
    pub rest: Option<Box<FanOut>>,
}

/// The rest of a large fan-out. Served by [`Bus::continue_fan_out`] until it is done; the
/// publisher's next packet and its acknowledgement wait for that.
#[derive(Debug)]
pub struct FanOut {
    message: Arc<StoredMessage>,
    targets: Arc<Targets>,
    next: usize,
    references: Vec<Reference>,
    memory_full: bool,
    origin: Option<Origin>,
    /// Of the retained tree.
    retained: Ticket,
}

impl std::fmt::Debug for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Targets")
            .field("plain", &self.plain.len())
            .finish_non_exhaustive()
    }
}

/// The shared message bus of one node.
pub struct Bus {
    number: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: Index,
    pub(crate) retained: Retained,
    pub(crate) registry: Registry,
    pub(crate) past_drops: PastDrops,
    pub(crate) timers: Timers,
    pub(crate) access: Arc<dyn Access>,
    clock: Arc<dyn Clock>,
    next_key: AtomicU64,
    channels: AtomicU32,
    purge_turn: AtomicU64,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Bus {
    /// A bus with `settings`.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        access: Arc<dyn Access>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let mut settings = settings;
        settings.max_topic_levels = settings.max_topic_levels.min(Settings::MAX_TOPIC_LEVELS);
        let budget = Arc::new(MemoryBudget::new(settings.max_memory_bytes));
        let counters = Counters::default();
        Arc::new(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            shared: Arc::new(Shared {
                settings,
                budget,
                counters,
                durable: store.is_durable(),
                store,
            }),
            index: Index::new(),
            retained: Retained::new(),
            registry: Registry::new(),
            past_drops: PastDrops::default(),
            timers: Timers::default(),
            access,
            clock,
            // 0 is the gateway itself: `PublisherKey::GATEWAY`.
            next_key: AtomicU64::new(1),
            channels: AtomicU32::new(0),
            purge_turn: AtomicU64::new(0),
        })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// What it counts.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The durable engine.
    pub fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    pub(crate) fn shared_state(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn shared_arc(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The memory that waits for clients.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.shared.budget
    }

    /// The access decision.
    pub fn access(&self) -> &dyn Access {
        &*self.access
    }

    /// The bus's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A number for a stream that no other has.
    pub(crate) fn new_channel(&self) -> Channel {
        Channel::nth(self.channels.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a subscriber that is no session.
    pub fn new_subscriber_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Messages that wait for clients now, in flight included. Walks all sessions.
    pub fn pending_messages(&self) -> u64 {
        let mut pending = 0;
        self.registry
            .for_each(|session| pending += u64::from(session.load()));
        pending
    }

    /// The session of `client`, when there is one.
    pub fn session(&self, client: &ClientId) -> Option<Arc<Session>> {
        self.registry.get(client)
    }

    /// Every session, connected or not.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        self.registry
            .for_each(|session| all.push(Arc::clone(session)));
        all
    }

    /// Messages of `client` that were not delivered, by reason: of its session now and of those
    /// that ended not long ago.
    pub fn client_drops(&self, client: &ClientId) -> ClientDrops {
        let mut drops = self.past_drops.get(client);
        if let Some(session) = self.session(client) {
            drops.merge(&session.drops());
        }
        drops
    }

    /// Asks the connection of `client` to end; `false` when it has none.
    pub fn disconnect(&self, client: &ClientId, reason: EndReason) -> bool {
        match self.session(client) {
            Some(session) if session.is_connected() => {
                session.end(reason);
                true
            }
            _ => false,
        }
    }

    // ---- batches ----------------------------------------------------------------------------

    /// Runs `work` as one batch: at its end every receiver it touched is woken once and the
    /// effects that deliveries asked for are run. `work` must not wait.
    pub fn batch<R>(&self, work: impl FnOnce(&mut Worker) -> R) -> R {
        let mut worker = Worker::take(self.number, self.shared.settings.route_cache_bytes);
        worker.now = self.now();
        worker.routes.maintain(worker.now);
        worker.run = Run::default();
        let result = work(&mut worker);
        self.finish(&mut worker);
        worker.put_back();
        result
    }

    fn finish(&self, worker: &mut Worker) {
        self.flush(worker);
        // Effects may leave further effects; hops bound that.
        while !worker.mailbox.waiting.is_empty() {
            for (effect, hops) in std::mem::take(&mut worker.mailbox.waiting) {
                worker.mailbox.hops = hops;
                match effect {
                    Effect::Publish(message) => self.publish_stored(worker, &message),
                    Effect::Disconnect(client, reason) => {
                        self.disconnect(&client, reason);
                    }
                }
            }
            worker.mailbox.hops = 0;
            self.flush(worker);
        }
        let refused = std::mem::take(&mut worker.mailbox.refused);
        if refused > 0 {
            self.shared
                .counters
                .drops
                .add(DropReason::MailboxFull, refused);
        }
        let counters = &self.shared.counters;
        let tally = std::mem::take(&mut worker.tally);
        for (counter, received) in counters.messages_received.iter().zip(tally.received) {
            counter.add(received);
        }
        counters.payload_bytes_received.add(tally.payload_bytes);
        counters.unmatched.add(tally.unmatched);
        counters
            .route_cache_hits
            .add(std::mem::take(&mut worker.routes.hits));
        counters
            .route_cache_misses
            .add(std::mem::take(&mut worker.routes.misses));
    }

    fn flush(&self, worker: &mut Worker) {
        for subscriber in worker.touched.drain(..) {
            subscriber.flush();
        }
    }

    // ---- publishing -------------------------------------------------------------------------

    /// Routes a message that is published by the gateway itself, all of it at once.
    pub fn publish(
        &self,
        worker: &mut Worker,
        message: Message<'_>,
    ) -> Result<Ticket, PublishRefusal> {
        let published = self.route(worker, message, None)?;
        Ok(self.serve_all(worker, published))
    }

    /// Serves all receivers that are left of a publish, for who cannot wait for its turn.
    pub fn serve_all(&self, worker: &mut Worker, published: Published) -> Ticket {
        let mut ticket = published.ticket;
        let mut rest = published.rest;
        while let Some(fan_out) = rest {
            (ticket, rest) = match self.continue_fan_out(worker, fan_out) {
                Progress::Done(done) => (done, None),
                Progress::More(more) => (ticket, Some(more)),
            };
        }
        ticket
    }

    /// Counts messages that a subscriber which is no session did not deliver.
    pub fn count_dropped(&self, reason: DropReason, count: u64) {
        self.shared.counters.drops.add(reason, count);
    }

    /// Publishes a message of a client that has no session, as a request has none: with the limits, the access
    /// decision and the counts of [`crate::Attachment::publish`].
    pub fn publish_for(
        &self,
        worker: &mut Worker,
        client: &ClientId,
        mut message: Message<'_>,
    ) -> Result<Published, PublishRefusal> {
        message.publisher = PublisherKey::of(client);
        self.take_in(worker, client, &message)?;
        self.route(worker, message, None)
    }

    /// Counts a message of a client and decides whether it may be published.
    #[inline]
    pub(crate) fn take_in(
        &self,
        worker: &mut Worker,
        client: &ClientId,
        message: &Message<'_>,
    ) -> Result<(), PublishRefusal> {
        worker.tally.received[message.qos as usize] += 1;
        worker.tally.payload_bytes += message.payload.len() as u64;
        self.check_topic(message.topic)?;
        self.access()
            .publish(client, message.topic, message.qos, message.retain)
            .map_err(|_: Denial| {
                self.refuse(DropReason::NotAuthorized);
                PublishRefusal::NotAuthorized
            })
    }

    /// As [`Self::publish`], for a message that was kept: a will, an effect. A refusal was counted.
    pub(crate) fn publish_stored(&self, worker: &mut Worker, message: &Arc<StoredMessage>) {
        let _ = self.publish(worker, message.as_shared_message());
    }

    pub(crate) fn refuse(&self, reason: DropReason) {
        self.shared.counters.drops.add(reason, 1);
    }

    pub(crate) fn check_topic(&self, topic: TopicName<'_>) -> Result<(), PublishRefusal> {
        let settings = &self.shared.settings;
        let text = topic.as_str();
        // A topic of n bytes has at most n + 1 levels: short ones need no count.
        if text.len() > settings.max_topic_bytes
            || (text.len() >= settings.max_topic_levels
                && topic.levels().count() > settings.max_topic_levels)
        {
            self.refuse(DropReason::TopicTooLong);
            return Err(PublishRefusal::TopicNameInvalid);
        }
        Ok(())
    }

    pub(crate) fn route(
        &self,
        worker: &mut Worker,
        mut message: Message<'_>,
        origin: Option<Origin>,
    ) -> Result<Published, PublishRefusal> {
        let durable = self.shared.durable;
        if durable && message.qos.is_acknowledged() && self.store().accepts().is_err() {
            let targets = &worker.routes.get(&self.index, message.topic).targets;
            self.check_store(&message, targets, origin.is_some())?;
        }
        message.repeats = origin.is_some();
        let mut retained = Ticket::ready();
        if message.retain {
            retained = self.retain(&mut message)?;
        }
        let Worker {
            now,
            routes,
            touched,
            mailbox,
            encodings,
            tally,
            random,
            run,
            references,
            ..
        } = worker;
        references.clear();
        let route = routes.get(&self.index, message.topic);
        let targets = &route.targets;
        encodings.clear();
        // The same message, for the shorter time of the route and the encodings.
        let mut message = message;
        message.interned_topic = Some(&route.topic);
        if targets.plain.len() > 1 {
            message.encodings = Some(encodings);
        }
        let mut post = Post::new(*now, touched, mailbox, references);
        for group in &targets.groups {
            let chosen = group.pick(
                self.shared.settings.shared_strategy,
                &message,
                random.next(),
                run,
            );
            self.deliver_to_one(&mut post, &message, chosen);
        }
        let slice = self.shared.settings.fanout_slice.max(1);
        let (first, later) = targets.plain.split_at(targets.plain.len().min(slice));
        for target in first {
            post.deliver(&target.subscriber, &message, &target.subscriptions);
        }
        // The gateway's own figures are not what an operator looks for here.
        if targets.is_empty() && message.publisher != PublisherKey::GATEWAY {
            tally.unmatched += 1;
        }
        let matched = !targets.is_empty();
        if !later.is_empty() {
            if let Some(stored) = message.store(&self.shared.budget) {
                let rest = FanOut {
                    message: stored,
                    targets: Arc::clone(targets),
                    next: first.len(),
                    references: std::mem::take(post.context.references),
                    memory_full: post.memory_full,
                    origin,
                    retained,
                };
                return Ok(Published {
                    ticket: Ticket::ready(),
                    matched,
                    rest: Some(Box::new(rest)),
                });
            }
            // No memory for a copy: better one long turn than receivers that are left out.
            for target in later {
                post.deliver(&target.subscriber, &message, &target.subscriptions);
            }
        }
        tally.served += post.served;
        let refused = post.memory_full;
        let mut ticket = retained;
        if durable {
            ticket = self.keep(&message, post.context.references, origin.as_ref(), ticket);
        }
        if refused {
            ticket = Ticket::failed(StoreError::Full);
        }
        Ok(Published {
            ticket,
            matched,
            rest: None,
        })
    }

    /// Serves the next slice of a large fan-out.
    pub fn continue_fan_out(&self, worker: &mut Worker, mut fan_out: Box<FanOut>) -> Progress {
        let stored = Arc::clone(&fan_out.message);
        let Worker {
            now,
            touched,
            mailbox,
            encodings,
            ..
        } = worker;
        encodings.clear();
        let mut message = stored.as_shared_message();
        message.repeats = fan_out.origin.is_some();
        message.encodings = Some(encodings);
        let mut post = Post::new(*now, touched, mailbox, &mut fan_out.references);
        let end = fan_out.next + self.shared.settings.fanout_slice.max(1);
        let end = end.min(fan_out.targets.plain.len());
        for target in &fan_out.targets.plain[fan_out.next..end] {
            post.deliver(&target.subscriber, &message, &target.subscriptions);
        }
        fan_out.next = end;
        fan_out.memory_full |= post.memory_full;
        if end < fan_out.targets.plain.len() {
            return Progress::More(fan_out);
        }
        let mut ticket = std::mem::take(&mut fan_out.retained);
        if self.shared.durable {
            let origin = fan_out.origin.as_ref();
            ticket = self.keep(&message, &fan_out.references, origin, ticket);
            if message.qos.is_acknowledged() {
                // Those who were served before may have waited for this, and sleep.
                let targets = &fan_out.targets;
                let all = targets.plain.iter().map(|target| &target.subscriber);
                let members = targets.groups.iter().flat_map(|group| &group.members);
                let all = all.chain(members.map(|member| &member.subscriber));
                touched.extend(all.map(Arc::clone));
            }
        }
        if fan_out.memory_full {
            ticket = Ticket::failed(StoreError::Full);
        }
        Progress::Done(ticket)
    }

    /// Refuses what would have to be kept while the engine can keep nothing, before anybody receives it.
    /// Messages that nobody is kept for flow on.
    #[cold]
    fn check_store(
        &self,
        message: &Message<'_>,
        targets: &Targets,
        repeats: bool,
    ) -> Result<(), PublishRefusal> {
        let members = targets.groups.iter().flat_map(|group| &group.members);
        let must_keep = message.retain
            || repeats
            || targets.plain.iter().any(|t| t.subscriber.is_kept())
            || members
                .map(|member| &member.subscriber)
                .any(|s| s.is_kept());
        if must_keep {
            self.refuse(DropReason::StoreFailed);
            return Err(PublishRefusal::StoreUnavailable);
        }
        Ok(())
    }

    fn retain(&self, message: &mut Message<'_>) -> Result<Ticket, PublishRefusal> {
        if message.payload.is_empty() {
            return Ok(self.retained.clear(message, &self.shared));
        }
        self.retained
            .set(message, &self.shared)
            .map_err(|RetainedFull| {
                self.refuse(DropReason::RetainedFull);
                PublishRefusal::QuotaExceeded
            })
    }

    /// Delivers to the first member that is there for it.
    fn deliver_to_one<'a>(
        &self,
        post: &mut Post<'_>,
        message: &Message<'_>,
        members: impl Iterator<Item = &'a Entry>,
    ) {
        for member in members {
            let subscriptions = std::slice::from_ref(&member.subscription);
            if post.deliver(&member.subscriber, message, subscriptions) != Delivery::Skipped {
                return;
            }
        }
        self.refuse(DropReason::NoSharedMember);
    }

    /// Tells a durable engine what must outlive the process. `before` is the ticket of what belongs to the
    /// publish and was told already.
    fn keep(
        &self,
        message: &Message<'_>,
        references: &[Reference],
        origin: Option<&Origin>,
        before: Ticket,
    ) -> Ticket {
        let ticket = if references.is_empty() && origin.is_none() {
            before
        } else {
            match message.store(&self.shared.budget) {
                Some(stored) => self.shared.store.append(&Publication {
                    message: &stored,
                    references,
                    origin,
                }),
                None => Ticket::failed(StoreError::Full),
            }
        };
        // Those who hold the message back wait for it.
        if let Some(stored) = message.stored() {
            stored.set_kept(&ticket);
        }
        ticket
    }

    /// Finds another member for messages whose member has gone (MQTT 5.0 section 4.8.2).
    pub(crate) fn redistribute(&self, worker: &mut Worker, orphans: Vec<Orphan>) {
        let Worker {
            now,
            touched,
            mailbox,
            random,
            run,
            references,
            ..
        } = worker;
        for Orphan {
            message,
            subscription,
        } in orphans
        {
            let filter = subscription.filter();
            let group = filter
                .share_name()
                .and_then(|n| self.index.group(n, filter.pattern()));
            // With a durable engine as a copy of its own, whose ticket is that of this append.
            let mut message_view = if self.shared.durable {
                message.as_message()
            } else {
                message.as_shared_message()
            };
            // It was retained when it was published, and may have been replaced since.
            message_view.retain = false;
            references.clear();
            let mut post = Post::new(*now, touched, mailbox, references);
            match group {
                Some(group) => {
                    let strategy = self.shared.settings.shared_strategy;
                    let chosen = group.pick(strategy, &message_view, random.next(), run);
                    self.deliver_to_one(&mut post, &message_view, chosen);
                }
                None => self.refuse(DropReason::NoSharedMember),
            }
            if self.shared.durable {
                let references = post.context.references;
                let _ = self.keep(&message_view, references, None, Ticket::ready());
            }
        }
    }

    // ---- subscribers that are no sessions -----------------------------------------------------

    /// Subscribes whatever receives messages: a rule, a bridge, a peer node.
    pub fn add_subscription(
        &self,
        subscriber: Arc<dyn Subscriber>,
        subscription: Arc<Subscription>,
    ) {
        self.shared.counters.subscriptions.add(1);
        self.index.insert(Entry {
            subscriber,
            subscription,
        });
    }

    /// Ends a subscription made by [`Self::add_subscription`]; `false` when there is none.
    pub fn remove_subscription(&self, subscription: &Subscription) -> bool {
        subscription.end();
        let removed = self.index.remove(subscription);
        if removed {
            self.shared.counters.subscriptions.sub(1);
        }
        removed
    }

    /// The retained messages that `filter` matches.
    pub fn retained(&self, filter: &TopicFilter) -> Vec<Arc<StoredMessage>> {
        self.retained.matching(filter, self.now())
    }

    /// As [`Self::retained`], in the order of the topics' bytes: those behind `after`, and `limit` of them at the
    /// most.
    pub fn retained_page(
        &self,
        filter: &TopicFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Arc<StoredMessage>> {
        self.retained.page(filter, self.now(), after, limit)
    }

    pub(crate) fn purge_retained(&self, now: Timestamp) {
        let turn = self.purge_turn.fetch_add(1, Ordering::Relaxed) as usize;
        let purged = self.retained.purge(turn, now, &self.shared);
        self.shared.counters.drops.add(DropReason::Expired, purged);
    }
}

/// How far a fan-out has come.
#[derive(Debug)]
pub enum Progress {
    /// Everybody is served.
    Done(Ticket),
    /// There are more.
    More(Box<FanOut>),
}

/// The deliveries of one publish.
struct Post<'a> {
    context: DeliveryContext<'a>,
    touched: &'a mut Vec<Arc<dyn Subscriber>>,
    served: usize,
    /// A session that must not lose the message had no memory for it.
    memory_full: bool,
}

impl<'a> Post<'a> {
    const fn new(
        now: Timestamp,
        touched: &'a mut Vec<Arc<dyn Subscriber>>,
        mailbox: &'a mut Mailbox,
        references: &'a mut Vec<Reference>,
    ) -> Self {
        Self {
            context: DeliveryContext {
                now,
                mailbox,
                references,
            },
            touched,
            served: 0,
            memory_full: false,
        }
    }

    #[inline]
    fn deliver(
        &mut self,
        subscriber: &Arc<dyn Subscriber>,
        message: &Message<'_>,
        subscriptions: &[Arc<Subscription>],
    ) -> Delivery {
        self.served += 1;
        let delivery = subscriber.deliver(message, subscriptions, &mut self.context);
        let wake = match delivery {
            Delivery::Sent { wake } | Delivery::Queued { wake } => wake,
            Delivery::Dropped { reason, wake } => {
                self.memory_full |=
                    reason == DropReason::MemoryFull && message.qos.is_acknowledged();
                wake
            }
            Delivery::Skipped => false,
        };
        if wake {
            self.touched.push(Arc::clone(subscriber));
        }
        delivery
    }
}

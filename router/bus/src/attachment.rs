//! A connection's hold on its session: the verbs of the bus, for one client.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::task::Waker;

use crate::access::Denial;
use crate::bus::{Bus, Origin, PublishRefusal, Published};
use crate::client_id::ClientId;
use crate::drops::DropReason;
use crate::message::Message;
use crate::qos::QoS;
use crate::session::{Encoder, Ended, Fenced, Leftovers, Received, Released, Session};
use crate::store::{Claim, Epoch, SessionChange, StoreError, Ticket};
use crate::subscriber::Subscriber;
use crate::subscription::{RetainHandling, Subscription, SubscriptionOptions};
use crate::time::Timestamp;
use crate::timers::{Due, Timer};
use crate::topic::TopicFilter;
use crate::will::Will;
use crate::worker::Worker;

/// What a client asks for when it connects.
pub struct ConnectRequest {
    /// A session that exists ends first (MQTT-3.1.2-4).
    pub clean_start: bool,
    /// Seconds the session has after its connection ends; 0: it ends with it.
    pub expiry: u32,
    /// What is published when the client goes without saying so.
    pub will: Option<Will>,
    /// Acknowledged messages the client takes at once (Receive Maximum); the limit of the bus
    /// lowers it.
    pub receive_maximum: NonZeroU16,
    /// Seconds of silence after which the connection ends: 1.5 times this. 0 is for ever.
    pub keep_alive: u16,
    /// How messages are written for this connection.
    pub encoder: Box<dyn Encoder>,
}

/// Why a subscription was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeRefusal {
    /// The client may not subscribe to this (MQTT 5: 0x87).
    NotAuthorized,
    /// The filter is longer or deeper than the limits allow (MQTT 5: 0x8F).
    TopicFilterInvalid,
    /// The client has as many subscriptions as it may (MQTT 5: 0x97).
    QuotaExceeded,
    /// The connection has been replaced by another.
    Fenced,
}

/// Why a connection was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachRefusal {
    /// A newer connection uses the client identifier.
    Fenced,
    /// There are as many sessions as there may be (MQTT 5: 0x97).
    QuotaExceeded,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// As the protocol has it: the will is forgotten (MQTT-3.14.4-3).
    Normal,
    /// Otherwise, or by wish of the client: the will is owed.
    WithWill,
}

/// A connection's hold on its session. The connection that is attached last holds the session;
/// calls of one before are [`Fenced`].
///
/// Dropped without [`Attachment::detach`], as when its task fails, it gives the session back with the
/// will owed.
#[derive(Debug)]
pub struct Attachment {
    bus: Arc<Bus>,
    session: Arc<Session>,
    epoch: Epoch,
    detached: bool,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if !self.detached {
            let bus = Arc::clone(&self.bus);
            bus.batch(|worker| self.give_back(worker, Departure::WithWill, None));
        }
    }
}

impl Bus {
    /// Makes the caller the next owner of `client`; the first half of a connect. It may have to
    /// wait for the engine.
    pub async fn claim(&self, client: &ClientId) -> Result<Claim, StoreError> {
        self.store.claim(client).await
    }

    /// Attaches a connection to the session of `client`, which is made, resumed or replaced; the
    /// second half of a connect. `true`: there was a session (MQTT: Session Present).
    ///
    /// A connection that held the session before is told [`crate::EndReason::TakenOver`].
    pub fn attach(
        self: &Arc<Self>,
        worker: &mut Worker,
        client: &ClientId,
        claim: Claim,
        request: ConnectRequest,
    ) -> Result<(Attachment, bool), AttachRefusal> {
        let now = worker.now();
        let epoch = claim.epoch;
        let counters = self.counters();
        let mut leftovers = None;
        let mut owed_will = None;
        let mut replaced = None;
        let mut sessions = self.registry.lock(client);
        let known = sessions.get(client).cloned();
        let mut resumed = None;
        if known.is_none()
            && claim.session.is_none()
            && counters.sessions.get() >= self.settings().max_sessions as u64
        {
            // The claim is given back: nothing is kept for a client that is turned away.
            let _ = self.store.change(client, epoch, &SessionChange::Ended);
            return Err(AttachRefusal::QuotaExceeded);
        }
        if let Some(session) = known {
            let mut state = session.lock();
            if state.epoch > epoch {
                return Err(AttachRefusal::Fenced);
            }
            let connected = state.link.is_some();
            if connected {
                counters.takeovers.add(1);
                counters.connections.sub(1);
                replaced = session.set_waker(None);
            }
            // A session without expiry ends with the connection that is replaced.
            let over = state.expiry == 0 || (!connected && state.ends_at <= now);
            if !request.clean_start && !over {
                // MQTT 5.0 section 3.1.3.2.2: a delayed will is not sent when the session goes on;
                // one without delay is, since the connection it belongs to ends.
                if connected {
                    owed_will = state.will.take().filter(|will| will.delay == 0);
                }
                state.detach(self.shared_state());
                resumed = Some(Arc::clone(&session));
            } else {
                leftovers = Some((Arc::clone(&session), state.end(self.shared_state())));
                sessions.remove(client);
                counters.sessions.sub(1);
            }
        }
        let present = resumed.is_some();
        let session = resumed.unwrap_or_else(|| {
            counters.sessions.add(1);
            let key = self.new_subscriber_key();
            let session = Session::new(key, client.clone(), Arc::clone(self.shared_arc()));
            let session = Arc::new(session);
            sessions.insert(client.clone(), Arc::clone(&session));
            session
        });
        let window = request
            .receive_maximum
            .get()
            .min(self.settings().max_inflight.max(1));
        let patience = u64::from(request.keep_alive) * 1_500;
        {
            let mut state = session.lock();
            state.expiry = self.clamp_expiry(request.expiry);
            state.will = request.will.map(Box::new);
            state.attach(epoch, request.encoder, window, patience);
        }
        session.heard(now);
        counters.connects.add(1);
        counters.connections.add(1);
        counters
            .connections_peak
            .raise_to(counters.connections.get());
        drop(sessions);

        if let Some(waker) = replaced {
            waker.wake();
        }
        if let Some((ended, leftovers)) = leftovers {
            self.settle(worker, &ended, leftovers);
        }
        if let Some(will) = owed_will {
            self.publish_will(worker, &will);
        }
        if patience > 0 {
            let at = now.plus(std::time::Duration::from_millis(patience));
            self.schedule(now, at, Due::KeepAlive, &session, epoch);
        }
        let attachment = Attachment {
            bus: Arc::clone(self),
            session,
            epoch,
            detached: false,
        };
        let stored = claim.session.filter(|_| !present && !request.clean_start);
        let fresh = !present && stored.is_none();
        attachment.keep(&SessionChange::Attached { fresh });
        if let Some(stored) = stored {
            attachment.restore(stored);
        }
        Ok((attachment, !fresh))
    }

    /// The expiry a session gets when it asks for `seconds`.
    pub fn clamp_expiry(&self, seconds: u32) -> u32 {
        let longest = self.settings().max_session_expiry.as_secs();
        seconds.min(u32::try_from(longest).unwrap_or(u32::MAX))
    }

    pub(crate) fn schedule(
        &self,
        now: Timestamp,
        at: Timestamp,
        due: Due,
        session: &Arc<Session>,
        epoch: Epoch,
    ) {
        let timer = Timer {
            due,
            session: Arc::downgrade(session),
            epoch,
        };
        self.timers.schedule(now, at, timer);
    }

    /// Counts QoS 0 messages that a connection of `session` took and never wrote.
    pub fn count_unsent(&self, session: &Session, count: u64) {
        let mut state = session.lock();
        state.drop_messages(self.shared_state(), DropReason::ConnectionClosed, count);
        if state.ended
            && let Some(drops) = state.drops.take()
        {
            self.past_drops.add(session.id(), &drops);
        }
    }

    /// Sees to what an ended session leaves behind.
    pub(crate) fn settle(&self, worker: &mut Worker, session: &Session, leftovers: Leftovers) {
        for subscription in &leftovers.subscriptions {
            self.remove_subscription(subscription);
        }
        if let Some(drops) = &leftovers.drops {
            self.past_drops.add(session.id(), drops);
        }
        self.redistribute(worker, leftovers.orphans);
        if let Some(will) = leftovers.will {
            self.publish_will(worker, &will);
        }
    }

    pub(crate) fn publish_will(&self, worker: &mut Worker, will: &Will) {
        let now = worker.now();
        let mut message = will.message.as_message();
        message.expires_at = will
            .expires_in
            .map(|seconds| now.plus_seconds(u64::from(seconds)));
        // A refusal was counted.
        let _ = self.publish(worker, message);
    }
}

impl Attachment {
    /// The session.
    pub const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The bus.
    pub const fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// Under which ownership the connection works.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Sets who is woken when there is output, or an end.
    pub fn set_waker(&self, waker: Waker) {
        // Under the session's lock, so that a connection that was replaced in between does not
        // take the place of its successor's waker.
        if let Ok(_held) = self.session.lock_as(self.epoch) {
            self.session.set_waker(Some(waker));
        }
    }

    /// Tells that something was received, for the keep alive.
    pub fn heard(&self, now: Timestamp) {
        self.session.heard(now);
    }

    /// Publishes a message. `packet_id` is the one of a QoS 2 PUBLISH.
    pub fn publish(
        &self,
        worker: &mut Worker,
        mut message: Message<'_>,
        packet_id: Option<NonZeroU16>,
    ) -> Result<Published, PublishRefusal> {
        message.publisher = self.session.publisher_key();
        worker.tally.received[message.qos as usize] += 1;
        worker.tally.payload_bytes += message.payload.len() as u64;
        self.bus.check_topic(message.topic)?;
        let client = self.session.id();
        self.bus
            .access()
            .publish(client, message.topic, message.qos, message.retain)
            .map_err(|_: Denial| {
                self.bus.refuse(DropReason::NotAuthorized);
                PublishRefusal::NotAuthorized
            })?;
        let origin = match packet_id {
            Some(packet_id) if self.bus.store.is_durable() => Some(Origin {
                client: client.clone(),
                epoch: self.epoch,
                packet_id,
            }),
            _ => None,
        };
        self.bus.route(worker, message, origin)
    }

    /// Makes or replaces a subscription and lets its retained messages go out.
    pub fn subscribe(
        &self,
        now: Timestamp,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
    ) -> Result<QoS, SubscribeRefusal> {
        let settings = self.bus.settings();
        if filter.as_str().len() > settings.max_topic_bytes
            || filter.levels().count() > settings.max_topic_levels
        {
            return Err(SubscribeRefusal::TopicFilterInvalid);
        }
        self.bus
            .access()
            .subscribe(self.session.id(), &filter, options.qos)
            .map_err(|_: Denial| SubscribeRefusal::NotAuthorized)?;
        let subscription = Arc::new(Subscription::new(filter, options, identifier));
        let mut state = self
            .session
            .lock_as(self.epoch)
            .map_err(|Fenced| SubscribeRefusal::Fenced)?;
        let filter = subscription.filter();
        let place = state
            .subscriptions
            .binary_search_by(|s| s.filter().cmp(filter));
        let limit = settings.max_subscriptions_per_client;
        let replaced = match place {
            Ok(at) => Some(std::mem::replace(
                &mut state.subscriptions[at],
                Arc::clone(&subscription),
            )),
            Err(_) if state.subscriptions.len() >= limit => {
                return Err(SubscribeRefusal::QuotaExceeded);
            }
            Err(at) => {
                state.subscriptions.insert(at, Arc::clone(&subscription));
                None
            }
        };
        // MQTT 5.0 section 4.8.2: a shared subscription receives no retained message.
        let wants_retained = filter.share_name().is_none()
            && match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => replaced.is_none(),
                RetainHandling::DoNotSend => false,
            };
        if wants_retained {
            state.hold();
        }
        // The new one is found before the old one ends: no message passes between them
        // (MQTT-3.8.4-4).
        let subscriber: Arc<dyn Subscriber> = Arc::clone(&self.session) as _;
        self.bus
            .add_subscription(subscriber, Arc::clone(&subscription));
        if let Some(replaced) = replaced {
            self.bus.remove_subscription(&replaced);
        }
        drop(state);
        if wants_retained {
            let mut retained = self.bus.retained.matching(subscription.filter(), now);
            if options.no_local {
                // MQTT-3.8.3-3
                let own = self.session.publisher_key();
                retained.retain(|message| message.publisher() != own);
            }
            if let Ok(mut state) = self.session.lock_as(self.epoch) {
                state.release_retained(self.bus.shared_state(), retained, &subscription);
            }
        }
        self.keep(&SessionChange::Subscribed(
            subscription.filter(),
            options,
            identifier,
        ));
        Ok(options.qos)
    }

    /// Ends a subscription; `false` when there is none (MQTT 5: 0x11).
    pub fn unsubscribe(&self, filter: &TopicFilter) -> Result<bool, Fenced> {
        let ended = {
            let mut state = self.session.lock_as(self.epoch)?;
            let place = state
                .subscriptions
                .binary_search_by(|s| s.filter().cmp(filter));
            place.ok().map(|at| {
                let ended = state.subscriptions.remove(at);
                if state.subscriptions.is_empty() {
                    state.subscriptions = Vec::new();
                }
                ended
            })
        };
        let Some(subscription) = ended else {
            return Ok(false);
        };
        self.bus.remove_subscription(&subscription);
        self.keep(&SessionChange::Unsubscribed(filter));
        Ok(true)
    }

    /// The client acknowledged a QoS 1 message, or refused it; `false` when there is none.
    pub fn acknowledge(
        &self,
        now: Timestamp,
        packet_id: NonZeroU16,
        refused: bool,
    ) -> Result<bool, Fenced> {
        let known = self
            .session
            .acknowledge(self.epoch, packet_id, refused, now)?;
        if known {
            self.keep(&SessionChange::Acknowledged(packet_id));
        }
        Ok(known)
    }

    /// The client acknowledged QoS 1 messages: as [`Self::acknowledge`] for each, at the price of one.
    /// Empties `packet_ids`.
    pub fn acknowledge_all(
        &self,
        now: Timestamp,
        packet_ids: &mut Vec<NonZeroU16>,
    ) -> Result<(), Fenced> {
        let done = self.session.acknowledge_all(self.epoch, packet_ids, now);
        if done.is_ok() && self.bus.store.is_durable() {
            for packet_id in packet_ids.iter() {
                self.keep(&SessionChange::Acknowledged(*packet_id));
            }
        }
        packet_ids.clear();
        done
    }

    /// The client received a QoS 2 message, or refused it. PUBREL waits for the ticket.
    pub fn received(
        &self,
        now: Timestamp,
        packet_id: NonZeroU16,
        refused: bool,
    ) -> Result<(Received, Ticket), Fenced> {
        let received = self.session.received(self.epoch, packet_id, refused, now)?;
        let ticket = match received {
            Received::Release => self.keep(&SessionChange::Received(packet_id)),
            Received::Refused => self.keep(&SessionChange::Acknowledged(packet_id)),
            Received::Unknown => Ticket::ready(),
        };
        Ok((received, ticket))
    }

    /// The client completed a QoS 2 delivery; `false` when there is none.
    pub fn complete(&self, now: Timestamp, packet_id: NonZeroU16) -> Result<bool, Fenced> {
        let known = self.session.complete(self.epoch, packet_id, now)?;
        if known {
            self.keep(&SessionChange::Acknowledged(packet_id));
        }
        Ok(known)
    }

    /// Notes that the client publishes a QoS 2 message; `false` when it has done so already and not
    /// yet released it: a duplicate (MQTT-4.3.3-10).
    pub fn begin_receiving(&self, packet_id: NonZeroU16) -> Result<bool, Fenced> {
        self.note_receiving(packet_id, self.epoch)
    }

    fn note_receiving(&self, packet_id: NonZeroU16, epoch: Epoch) -> Result<bool, Fenced> {
        let mut state = self.session.lock_as(self.epoch)?;
        Ok(state.receiving.insert(packet_id, epoch))
    }

    /// Takes [`Self::begin_receiving`] back: the message was refused, its identifier is free. `false`
    /// when the client has released it meanwhile.
    pub fn refuse_receiving(&self, packet_id: NonZeroU16) -> Result<bool, Fenced> {
        Ok(self.forget_receiving(packet_id)? == Some(self.epoch))
    }

    /// The client released a QoS 2 message. PUBCOMP waits for the ticket.
    pub fn release(&self, packet_id: NonZeroU16) -> Result<(Released, Ticket), Fenced> {
        let released = match self.forget_receiving(packet_id)? {
            None => return Ok((Released::Unknown, Ticket::ready())),
            Some(epoch) if epoch == self.epoch => Released::Here,
            Some(_) => Released::Before,
        };
        Ok((released, self.keep(&SessionChange::Released(packet_id))))
    }

    /// The connection that the message came on, if there is one.
    fn forget_receiving(&self, packet_id: NonZeroU16) -> Result<Option<Epoch>, Fenced> {
        let mut state = self.session.lock_as(self.epoch)?;
        Ok(state.receiving.remove(packet_id))
    }

    /// QoS 2 messages the client has published and not yet released.
    pub fn receiving(&self) -> Result<usize, Fenced> {
        Ok(self.session.lock_as(self.epoch)?.receiving.len())
    }

    /// Moves what is to be written into `out`, which is at a packet boundary. `true`: there is
    /// more; ask again when this is written.
    pub fn take_output(&self, out: &mut Vec<u8>, now: Timestamp) -> Result<bool, Ended> {
        self.session.take_output(self.epoch, out, now)
    }

    /// Why the connection is to end, when it is: for a connection that cannot take output now,
    /// because what it took before is not written yet.
    pub fn ended(&self) -> Option<Ended> {
        match self.session.lock_as(self.epoch) {
            Ok(state) => state.link.as_ref().and_then(|link| link.end()).map(Ended),
            Err(Fenced) => Some(Ended(crate::session::EndReason::TakenOver)),
        }
    }

    /// Ends the connection. `expiry` replaces the session's (MQTT 5.0 section 3.14.2.2.2).
    pub fn detach(mut self, worker: &mut Worker, departure: Departure, expiry: Option<u32>) {
        self.detached = true;
        self.give_back(worker, departure, expiry);
    }

    fn give_back(&self, worker: &mut Worker, departure: Departure, expiry: Option<u32>) {
        let bus = &self.bus;
        let now = worker.now();
        let mut due_will = None;
        let mut leftovers = None;
        {
            let mut sessions = bus.registry.lock(self.session.id());
            let Ok(mut state) = self.session.lock_as(self.epoch) else {
                return;
            };
            state.detach(bus.shared_state());
            self.session.set_waker(None);
            bus.counters().connections.sub(1);
            if departure == Departure::Normal {
                state.will = None;
            }
            if let Some(expiry) = expiry {
                state.expiry = bus.clamp_expiry(expiry);
            }
            if state.expiry == 0 {
                leftovers = Some(state.end(bus.shared_state()));
                sessions.remove(self.session.id());
                bus.counters().sessions.sub(1);
            } else {
                let ends_at = now.plus_seconds(u64::from(state.expiry));
                state.ends_at = ends_at;
                bus.schedule(now, ends_at, Due::SessionExpiry, &self.session, self.epoch);
                self.keep(&SessionChange::Detached {
                    expires_at: ends_at,
                });
                match state.will.as_ref().map(|will| will.delay) {
                    None => {}
                    Some(0) => due_will = state.will.take(),
                    Some(delay) => {
                        let at = now.plus_seconds(u64::from(delay)).min(ends_at);
                        state.will_at = at;
                        bus.schedule(now, at, Due::Will, &self.session, self.epoch);
                    }
                }
            }
        }
        if let Some(leftovers) = leftovers {
            let _ = bus
                .store
                .change(self.session.id(), self.epoch, &SessionChange::Ended);
            bus.settle(worker, &self.session, leftovers);
        }
        if let Some(will) = due_will {
            bus.publish_will(worker, &will);
        }
    }

    /// Tells a durable engine of a change.
    fn keep(&self, change: &SessionChange<'_>) -> Ticket {
        if self.bus.store.is_durable() {
            self.bus.store.change(self.session.id(), self.epoch, change)
        } else {
            Ticket::ready()
        }
    }

    /// Gives a session that the engine has kept its subscriptions and identifiers back.
    fn restore(&self, stored: crate::store::StoredSession) {
        for (filter, options, identifier) in stored.subscriptions {
            let options = SubscriptionOptions {
                retain_handling: RetainHandling::DoNotSend,
                ..options
            };
            // Refused only when limits have been lowered since.
            let _ = self.subscribe(Timestamp::default(), filter, options, identifier);
        }
        for packet_id in stored.received {
            // Of an earlier connection, whichever it was.
            let _ = self.note_receiving(packet_id, Epoch::default());
        }
    }
}

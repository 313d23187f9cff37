//! A connection's hold on its session: the verbs of the bus, for one client.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::task::Waker;

use crate::access::Denial;
use crate::bus::{Bus, PublishRefusal, Published};
use crate::channel::Channel;
use crate::client_id::ClientId;
use crate::drops::DropReason;
use crate::message::Message;
use crate::qos::QoS;
use crate::session::{
    Durable, Encoder, Ended, Fenced, Inbound, Leftovers, Receive, Received, Released, Session,
};
use crate::store::{Claim, Epoch, Origin, Place, SessionChange, StoreError, Ticket};
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
    /// The session is kept, and the engine cannot keep anything now (MQTT 5: 0x97).
    StoreUnavailable,
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
    /// Of the attachment itself.
    ticket: Ticket,
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
        self.store().claim(client).await
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
        let was_kept = claim.session.is_some();
        let mut kept = claim.session.filter(|_| !request.clean_start);
        let mut owed_will = None;
        let mut replaced = None;
        let (mut sessions, resumed) = loop {
            let mut sessions = self.registry.lock(client);
            let Some(session) = sessions.get(client).cloned() else {
                break (sessions, None);
            };
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
                drop(state);
                break (sessions, Some(session));
            }
            let leftovers = state.end(self.shared_state());
            let ended_epoch = state.epoch;
            drop(state);
            sessions.remove(client);
            counters.sessions.sub(1);
            drop(sessions);
            if let Some(waker) = replaced.take() {
                waker.wake();
            }
            // What goes to others is with the engine before it is told to forget this session.
            self.settle(worker, &session, leftovers);
            self.forget(&session, ended_epoch);
        };
        if resumed.is_none()
            && kept.is_none()
            && counters.sessions.get() >= self.settings().max_sessions as u64
        {
            return Err(AttachRefusal::QuotaExceeded);
        }
        if let Some(will) = owed_will {
            // Before the engine is told that the session has another.
            self.publish_will(worker, &will);
        }
        let mut present = resumed.is_some();
        let session = resumed.unwrap_or_else(|| {
            counters.sessions.add(1);
            let session = match kept.take() {
                Some(kept) => {
                    present = true;
                    self.take_up(now, kept)
                }
                None => {
                    let key = self.new_subscriber_key();
                    let shared = Arc::clone(self.shared_arc());
                    Arc::new(Session::new(key, client.clone(), shared))
                }
            };
            sessions.insert(client.clone(), Arc::clone(&session));
            session
        });
        let window = request
            .receive_maximum
            .get()
            .min(self.settings().max_inflight.max(1));
        let patience = u64::from(request.keep_alive) * 1_500;
        let mut retained_owed = Vec::new();
        let ticket = {
            let mut state = session.lock();
            state.expiry = self.clamp_expiry(request.expiry);
            state.will = request.will.map(Box::new);
            state.attach(epoch, request.encoder, window, patience);
            if self.shared.durable && (state.expiry > 0 || state.will.is_some()) {
                state
                    .durable
                    .get_or_insert_with(|| Box::new(Durable::new(client.clone(), epoch)));
            }
            let change = SessionChange::Attached {
                fresh: !present,
                expiry: state.expiry,
                will: state.will.as_deref().map(Will::to_stored),
            };
            if let Some(durable) = &mut state.durable {
                durable.note(change);
                retained_owed = durable.take_retained_owed();
            } else if was_kept {
                // It is replaced by one that is not kept.
                let ended = [SessionChange::Ended];
                let _ = self.store().change(client, epoch, &ended);
            }
            let kept_as = state.durable.as_deref().map(|durable| durable.session);
            if let Some(link) = &mut state.link {
                link.encoder.begin(kept_as, session.key());
            }
            state.tell(self.shared_state())
        };
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
        if patience > 0 {
            let at = now.plus(std::time::Duration::from_millis(patience));
            self.schedule(now, at, Due::KeepAlive, &session, epoch);
        }
        let attachment = Attachment {
            bus: Arc::clone(self),
            session,
            epoch,
            ticket,
            detached: false,
        };
        for filter in retained_owed {
            attachment.send_retained_again(now, &filter);
        }
        Ok((attachment, present))
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

    /// Counts QoS 0 messages that a connection of `session` took and did not write.
    pub fn count_unsent(&self, session: &Session, reason: DropReason, count: u64) {
        let mut state = session.lock();
        state.drop_messages(self.shared_state(), reason, count);
        if state.ended
            && let Some(drops) = state.drops.take()
        {
            self.past_drops.add(session.id(), &drops);
        }
    }

    /// Tells a durable engine that a session has ended, after what it left behind was seen to.
    pub(crate) fn forget(&self, session: &Session, epoch: Epoch) {
        if session.lock().durable.take().is_some() {
            let _ = self
                .store()
                .change(session.id(), epoch, &[SessionChange::Ended]);
        }
    }

    /// Tells a durable engine that the will is not owed any more.
    pub(crate) fn will_is_published(&self, session: &Session, epoch: Epoch) {
        let mut state = session.lock();
        if state.epoch == epoch
            && let Some(durable) = &mut state.durable
        {
            durable.note(SessionChange::WillPublished);
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

    /// The name of a session that outlives the process: no other session has it, also after a restart. `None` for
    /// one that does not.
    pub fn kept_as(&self) -> Option<Epoch> {
        let state = self.session.lock_as(self.epoch).ok()?;
        state.durable.as_deref().map(|durable| durable.session)
    }

    /// Completes when the engine knows of the connection: only then is a session that was replaced forgotten
    /// for good.
    pub const fn ticket(&self) -> &Ticket {
        &self.ticket
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
        self.bus.take_in(worker, self.session.id(), &message)?;
        let origin = match packet_id {
            Some(packet_id) if self.bus.shared.durable => self.origin(packet_id)?,
            _ => None,
        };
        self.bus.route(worker, message, origin)
    }

    /// By what a repetition of a QoS 2 PUBLISH is recognised after a restart: nothing, if the session is
    /// not kept.
    fn origin(&self, packet_id: NonZeroU16) -> Result<Option<Origin>, PublishRefusal> {
        let state = self.session.lock_as(self.epoch);
        let state = state.map_err(|Fenced| PublishRefusal::Fenced)?;
        let kept = state.durable.as_deref().filter(|_| state.expiry > 0);
        Ok(kept.map(|durable| Origin {
            client: self.session.id().clone(),
            session: durable.session,
            packet_id,
        }))
    }

    /// One stream more, for a connection that has several.
    pub fn open_channel(&self) -> Result<Channel, Fenced> {
        let mut state = self.session.lock_as(self.epoch)?;
        let channel = self.bus.new_channel();
        state.open_channel(channel);
        Ok(channel)
    }

    /// The client says nothing more on a stream: what it would receive there goes out on the first one from now
    /// on. Gives back how many QoS 2 messages that take from its Receive Maximum were received on the stream
    /// and not released: nobody can release them there.
    pub fn end_channel(&self, channel: Channel) -> Result<u32, Fenced> {
        Ok(self.session.lock_as(self.epoch)?.end_channel(channel))
    }

    /// The stream is no more. `out` gets everything that is encoded for the client, so that nothing encoded
    /// later is meant for it. `lost`: the client may not have got what was sent on it; acknowledged messages
    /// are sent again on the first stream, and those encoded and not yet sent among them.
    pub fn close_channel(
        &self,
        channel: Channel,
        lost: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Fenced> {
        let mut state = self.session.lock_as(self.epoch)?;
        state.close_channel(self.bus.shared_state(), channel, lost, out);
        Ok(())
    }

    /// Makes or replaces a subscription and lets its retained messages go out. SUBACK waits for the ticket.
    pub fn subscribe(
        &self,
        now: Timestamp,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
    ) -> Result<(QoS, Ticket), SubscribeRefusal> {
        self.subscribe_on(None, now, filter, options, identifier)
    }

    /// The same on one of the streams of the connection.
    pub fn subscribe_on(
        &self,
        channel: Option<Channel>,
        now: Timestamp,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
    ) -> Result<(QoS, Ticket), SubscribeRefusal> {
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
        let subscription = Subscription::new(filter, options, identifier).on(channel);
        let subscription = Arc::new(subscription);
        let mut state = self
            .session
            .lock_as(self.epoch)
            .map_err(|Fenced| SubscribeRefusal::Fenced)?;
        if state.keeper().is_some() && self.bus.store().accepts().is_err() {
            return Err(SubscribeRefusal::StoreUnavailable);
        }
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
        let change = |retained_owed| SessionChange::Subscribed {
            filter: filter.clone(),
            options,
            identifier,
            retained_owed,
        };
        if wants_retained {
            state.hold();
        }
        // Told before a message can come through it.
        let retained_owed = wants_retained && options.qos.is_acknowledged();
        if let Some(durable) = state.keeper() {
            durable.note(change(retained_owed));
        }
        let mut ticket = state.tell(self.bus.shared_state());
        // The new one is found before the old one ends: no message passes between them
        // (MQTT-3.8.4-4).
        let subscriber: Arc<dyn Subscriber> = Arc::clone(&self.session) as _;
        self.bus
            .add_subscription(subscriber, Arc::clone(&subscription));
        if let Some(replaced) = replaced {
            self.bus.remove_subscription(&replaced);
        }
        drop(state);
        if wants_retained && let Some(told) = self.send_retained(now, &subscription) {
            ticket = told;
        }
        Ok((options.qos, ticket))
    }

    /// Looks the retained messages of a subscription up, for which the session holds, and lets them go.
    fn send_retained(&self, now: Timestamp, subscription: &Arc<Subscription>) -> Option<Ticket> {
        let mut retained = self.bus.retained.matching(subscription.filter(), now);
        if subscription.options().no_local {
            // MQTT-3.8.3-3
            let own = self.session.publisher_key();
            retained.retain(|message| message.publisher() != own);
        }
        let mut state = self.session.lock_as(self.epoch).ok()?;
        let owed = state.release_retained(self.bus.shared_state(), retained, subscription);
        if !owed
            && subscription.options().qos.is_acknowledged()
            && let Some(durable) = state.keeper()
        {
            let filter = subscription.filter().clone();
            durable.note(SessionChange::RetainedSent(filter));
        }
        Some(state.tell(self.bus.shared_state()))
    }

    /// The retained messages of `filter` were on their way when the process ended.
    fn send_retained_again(&self, now: Timestamp, filter: &TopicFilter) {
        let subscription = {
            let Ok(mut state) = self.session.lock_as(self.epoch) else {
                return;
            };
            let place = state
                .subscriptions
                .binary_search_by(|s| s.filter().cmp(filter));
            let Ok(at) = place else {
                return;
            };
            state.hold();
            Arc::clone(&state.subscriptions[at])
        };
        self.send_retained(now, &subscription);
    }

    /// Ends a subscription; `false` when there is none (MQTT 5: 0x11). UNSUBACK waits for the ticket.
    pub fn unsubscribe(&self, filter: &TopicFilter) -> Result<(bool, Ticket), Fenced> {
        let (ended, ticket) = {
            let mut state = self.session.lock_as(self.epoch)?;
            let place = state
                .subscriptions
                .binary_search_by(|s| s.filter().cmp(filter));
            let ended = place.ok().map(|at| state.subscriptions.remove(at));
            if state.subscriptions.is_empty() {
                state.subscriptions = Vec::new();
            }
            // Also when there is none: its end may be on its way to the engine.
            if let Some(durable) = state.keeper() {
                durable.note(SessionChange::Unsubscribed(filter.clone()));
            }
            (ended, state.tell(self.bus.shared_state()))
        };
        if let Some(ended) = &ended {
            self.bus.remove_subscription(ended);
        }
        Ok((ended.is_some(), ticket))
    }

    /// The client acknowledged a QoS 1 message, or refused it; `false` when there is none.
    pub fn acknowledge(
        &self,
        now: Timestamp,
        packet_id: NonZeroU16,
        refused: bool,
    ) -> Result<bool, Fenced> {
        self.session
            .acknowledge(self.epoch, packet_id, refused, now)
    }

    /// The client acknowledged QoS 1 messages: as [`Self::acknowledge`] for each, at the price of one.
    /// Empties `packet_ids`.
    pub fn acknowledge_all(
        &self,
        now: Timestamp,
        packet_ids: &mut Vec<NonZeroU16>,
    ) -> Result<(), Fenced> {
        let done = self.session.acknowledge_all(self.epoch, packet_ids, now);
        packet_ids.clear();
        done
    }

    /// The client has received everything up to `place` ([`crate::Outgoing::place`]), for protocols that
    /// acknowledge by saying how far they have come: every exchange up to there is closed, of whatever QoS, and
    /// those of which only the end is missing. How many that were.
    pub fn acknowledge_through(&self, now: Timestamp, place: Place) -> Result<usize, Fenced> {
        self.session.acknowledge_through(self.epoch, place, now)
    }

    /// The client received a QoS 2 message, or refused it. PUBREL waits for the ticket.
    pub fn received(
        &self,
        now: Timestamp,
        packet_id: NonZeroU16,
        refused: bool,
    ) -> Result<(Received, Ticket), Fenced> {
        self.session.received(self.epoch, packet_id, refused, now)
    }

    /// The client completed a QoS 2 delivery; `false` when there is none.
    pub fn complete(&self, now: Timestamp, packet_id: NonZeroU16) -> Result<bool, Fenced> {
        self.session.complete(self.epoch, packet_id, now)
    }

    /// Notes that the client publishes a QoS 2 message; `dup` is what it says of it.
    pub fn begin_receiving(
        &self,
        message: impl Into<Inbound>,
        dup: bool,
    ) -> Result<Receive, Fenced> {
        let mut state = self.session.lock_as(self.epoch)?;
        Ok(state.receiving.insert(message.into(), dup, self.epoch))
    }

    /// The QoS 2 message is kept when `ticket` is complete; a repetition is acknowledged then, too.
    pub fn receiving_until(
        &self,
        message: impl Into<Inbound>,
        ticket: &Ticket,
    ) -> Result<(), Fenced> {
        if self.bus.shared.durable {
            let mut state = self.session.lock_as(self.epoch)?;
            state.receiving.set_ticket(message.into(), ticket);
        }
        Ok(())
    }

    /// Takes [`Self::begin_receiving`] back: the message was refused, its identifier is free. `false`
    /// when the client has released it meanwhile.
    pub fn refuse_receiving(&self, message: impl Into<Inbound>) -> Result<bool, Fenced> {
        let mut state = self.session.lock_as(self.epoch)?;
        Ok(state.receiving.remove(message.into()) == Some(self.epoch))
    }

    /// The client released a QoS 2 message. PUBCOMP waits for the ticket.
    pub fn release(&self, message: impl Into<Inbound>) -> Result<(Released, Ticket), Fenced> {
        let message = message.into();
        let mut state = self.session.lock_as(self.epoch)?;
        let released = match state.receiving.release(message, self.epoch) {
            None => Released::Unknown,
            Some(epoch) if epoch == self.epoch => Released::Here,
            Some(_) => Released::Before,
        };
        // Also when it is unknown: an earlier PUBREL may be on its way to the engine. The engine knows nothing of
        // streams: where two of them use one identifier, it is free when both have released it.
        if state.keeper().is_some()
            && !state.receiving.has(message.packet_id)
            && let Some(durable) = state.keeper()
        {
            durable.note(SessionChange::Released(message.packet_id));
        }
        Ok((released, state.tell(self.bus.shared_state())))
    }

    /// QoS 2 messages the client has published and not yet released.
    pub fn receiving(&self) -> Result<usize, Fenced> {
        Ok(self.session.lock_as(self.epoch)?.receiving.len())
    }

    /// Moves what is to be written into `out`, which is at a packet boundary. `true`: there is
    /// more; ask again when this is written. Where `out` stays empty the waker is woken as soon as there is
    /// something.
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
                let mut will_at = None;
                match state.will.as_ref().map(|will| will.delay) {
                    None => {}
                    Some(0) => {
                        will_at = Some(now);
                        due_will = state.will.take();
                    }
                    Some(delay) => {
                        let at = now.plus_seconds(u64::from(delay)).min(ends_at);
                        will_at = Some(at);
                        state.will_at = at;
                        bus.schedule(now, at, Due::Will, &self.session, self.epoch);
                    }
                }
                if let Some(durable) = &mut state.durable {
                    durable.note(SessionChange::Detached { ends_at, will_at });
                }
            }
        }
        if let Some(leftovers) = leftovers {
            bus.settle(worker, &self.session, leftovers);
            bus.forget(&self.session, self.epoch);
        }
        if let Some(will) = due_will {
            bus.publish_will(worker, &will);
            bus.will_is_published(&self.session, self.epoch);
        }
    }
}

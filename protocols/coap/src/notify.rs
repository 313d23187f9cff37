//! Observations (RFC 7641), from the listener's side: who is told what, and when.
//!
//! An endpoint has one confirmable message outstanding (NSTART). While it waits for that, nothing else is sent to it;
//! when it has to be repeated and there is something newer, the newer goes instead (section 4.5.2). Notifications that
//! are not confirmable keep the pace of one a round trip (section 4.5.1), and as long as no round trip is known, none
//! is sent: the first is confirmable and measures it.
//!
//! - *fresh*: nothing was confirmed lately, or the endpoint is not verified: the next notification is confirmable.
//! - *confirmed*: notifications of QoS 0 are not confirmable, those of QoS 1 and 2 are.
//! - *waiting*: a confirmable one is outstanding.
//! - *ended*: by the client (deregistration, Reset, the same token anew), or because the last repetition was not
//!   acknowledged; then all observations of the endpoint end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_bus::{
    DropReason, QoS, StoredMessage, Subscription, SubscriptionOptions, Ticket, TopicFilter,
};

use crate::answers::Exchange;
use crate::client_session::{Observed, full};
use crate::codec::{Code, Kind, Token, Writer};
use crate::duplicates::EXCHANGE_LIFETIME;
use crate::metrics::Cancel;
use crate::observation::Observation;
use crate::outgoing::{Outgoing, Path};
use crate::peer::{ACK_TIMEOUT, MAX_RETRANSMIT, Outstanding, Separate, What};
use crate::request::Request;
use crate::response::Response;
use crate::server::Server;
use crate::settings::Unverified;
use crate::topics::{self, FOR_EVER, NO_IDENTIFIER, tag};
use crate::watch::{Fetched, Parted, Watch};

impl Server {
    /// Registers an observation (section 4.1), or answers as if Observe were not there. `session`: the place of the
    /// session that it is of.
    #[expect(clippy::too_many_arguments, reason = "as for the other requests")]
    pub(crate) fn observe(
        &mut self,
        exchange: &Exchange,
        request: &Request<'_>,
        filter: &TopicFilter,
        qos: QoS,
        session: Option<usize>,
        now: Instant,
        out: &mut Outgoing,
    ) {
        // One of a session that is registered once more goes on: what it is owed stays owed.
        let again = session.and_then(|session| self.watch_of(exchange, filter, session));
        if again.is_none() {
            self.deregister(exchange, session, now);
        }
        let registered = again.or_else(|| self.register(exchange, filter, qos, session, now));
        let Some(place) = registered else {
            self.metrics.full.add(1);
            let is_plain = !filter.has_wildcard() && filter.share_name().is_none();
            let response = if !is_plain || session.is_some() {
                full()
            } else {
                self.read(exchange, request, filter)
            };
            return self.answer(exchange, response, now, out);
        };
        // The subscription stands: what is published from now on is told. What is retained is read after that, so that
        // nothing falls between.
        let observation = Arc::clone(&self.watches[place].observation);
        let mut response = if session.is_some() {
            // What is retained comes through the session, or is the answer.
            match filter.has_wildcard() {
                true => Response::new(Code::CONTENT),
                false => topics::first_value(&self.bus, request, filter),
            }
        } else if filter.has_wildcard() {
            observation.begin_with(self.bus.retained(filter));
            Response::new(Code::CONTENT)
        } else {
            let response = topics::first_value(&self.bus, request, filter);
            observation.begin_with(Vec::new());
            response
        };
        if !response.code.is_success() {
            // Not acceptable, say: no value of it will be either.
            self.cancel(place, Cancel::Closed, now);
            return self.answer(exchange, response, now, out);
        }
        let watch = &mut self.watches[place];
        response.observe = Some(watch.sequence);
        response.max_age = response.max_age.or(Some(FOR_EVER));
        let peer = watch.peer;
        let mut first = response.clone();
        self.part(&mut first, exchange.block2);
        let fits = self.measure(exchange.token, &first) + 4 <= self.peers[peer].limit();
        let may_wait = fits || self.settings.unverified == Unverified::Ping;
        let at = &self.peers[peer];
        if !at.verified && !fits && self.settings.unverified == Unverified::Echo {
            // It is answered with an Echo, and observes when that comes back.
            self.cancel(place, Cancel::Closed, now);
            response.observe = None;
            return self.answer(exchange, response, now, out);
        }
        if at.verified || self.settings.unverified == Unverified::All || !may_wait {
            let said = self.answer_with(exchange, response, now, out);
            if !said.is_success() {
                // Not even a part of it could be sent: the client does not observe, and is not kept as if it did.
                return self.cancel(place, Cancel::Closed, now);
            }
        } else {
            // An answer that the client acknowledges: it is there, at this address, and so far away. A forged address
            // costs its owner an answer that is given up soon, and not all the notifications. One that is too large for
            // that waits for a ping, or is a part in an acknowledgement, and the first notification asks for the proof.
            let mut exchange = *exchange;
            if fits && exchange.kind == Kind::Confirmable {
                let start = out.bytes.len();
                Writer::empty(&mut out.bytes, Kind::Acknowledgement, exchange.id);
                self.peers[peer].spend(out.bytes.len() - start);
                out.finish(exchange.path, start);
                exchange.kind = Kind::NonConfirmable;
            }
            self.count(&response);
            let what = What::Notification(place);
            if !self.queue(&exchange, response, what, now, out) {
                self.cancel(place, Cancel::Closed, now);
            }
        }
        self.pump(peer, now, out);
    }

    fn register(
        &mut self,
        exchange: &Exchange,
        filter: &TopicFilter,
        qos: QoS,
        session: Option<usize>,
        now: Instant,
    ) -> Option<usize> {
        if self.watches.len() >= self.settings.max_observations {
            return None;
        }
        let peer = self.peer(exchange.path, exchange.len, now)?;
        if self.peers[peer].watches.len() >= self.settings.max_observations_per_endpoint {
            return None;
        }
        let entry = self.watches.vacant_entry();
        let place = entry.key();
        let observation =
            Observation::new(&self.bus, &self.ready, place, self.settings.max_waiting);
        let options = SubscriptionOptions::with_qos(qos);
        let subscription = Arc::new(Subscription::new(filter.clone(), options, NO_IDENTIFIER));
        entry.insert(Box::new(Watch {
            peer,
            token: exchange.token,
            observation: Arc::clone(&observation),
            subscription: Arc::clone(&subscription),
            qos,
            // Clients take a number for older that is far above (section 3.4): any beginning will do.
            sequence: 1,
            last_id: None,
            last: None,
            fetched: None,
            confirmed: None,
            member: None,
        }));
        self.peers[peer].watches.push(place);
        match session {
            Some(session) => self.join(session, place),
            None => self.bus.add_subscription(observation, subscription),
        }
        Some(place)
    }

    /// The observation of this session and filter that was made with this token.
    fn watch_of(&self, exchange: &Exchange, filter: &TopicFilter, session: usize) -> Option<usize> {
        let peer = self.peer_at(exchange.path.remote)?;
        let same = |place: &&usize| {
            let watch = &self.watches[**place];
            let member = watch.member.as_ref();
            watch.token == exchange.token
                && watch.filter() == filter
                && member.is_some_and(|member| member.session == session)
        };
        self.peers[peer].watches.iter().find(same).copied()
    }

    /// Ends the observation that was made with this token, if there is one. It is ended for good when the ticket is
    /// complete. `joined`: the place of the session that another one is about to join.
    pub(crate) fn deregister(
        &mut self,
        exchange: &Exchange,
        joined: Option<usize>,
        now: Instant,
    ) -> Ticket {
        let Some(peer) = self.peer_at(exchange.path.remote) else {
            return Ticket::ready();
        };
        let watches = &self.watches;
        let same = |place: &&usize| watches[**place].token == exchange.token;
        match self.peers[peer].watches.iter().find(same) {
            Some(&place) => self.end_observation(place, Cancel::Asked, joined, now),
            None => Ticket::ready(),
        }
    }

    /// Ends an observation that the client has not asked to end.
    pub(crate) fn cancel(&mut self, place: usize, why: Cancel, now: Instant) {
        self.end_observation(place, why, None, now);
    }

    fn end_observation(
        &mut self,
        place: usize,
        why: Cancel,
        joined: Option<usize>,
        now: Instant,
    ) -> Ticket {
        let Some(watch) = self.watches.try_remove(place) else {
            return Ticket::ready();
        };
        self.metrics.cancelled[why as usize].add(1);
        let kept = match &watch.member {
            Some(member) => {
                // What waits is still the session's.
                watch.observation.clear();
                self.observation_ended(place, member.session, &watch, why, joined, now)
            }
            None => {
                watch.observation.end();
                self.bus.remove_subscription(&watch.subscription);
                Ticket::ready()
            }
        };
        let peer = &mut self.peers[watch.peer];
        peer.watches.retain(|other| *other != place);
        // Its place may be another's next.
        peer.forget_notification(place);
        if peer
            .outstanding
            .as_ref()
            .is_some_and(|o| o.what == What::Notification(place))
        {
            peer.outstanding = None;
        }
        self.reschedule(watch.peer, now);
        kept
    }

    /// What an observer of this filter was notified of last, when the rest of it is fetched; or before, when the request
    /// for the last block of that is repeated.
    pub(crate) fn notified(
        &self,
        exchange: &Exchange,
        filter: &TopicFilter,
        request: &Request<'_>,
    ) -> Option<Arc<StoredMessage>> {
        request.block2.filter(|block| block.num > 0)?;
        let peer = self.peer_at(exchange.path.remote)?;
        let places = self.peers[peer].watches.iter();
        let watches = places.map(|place| &self.watches[*place]);
        let same = watches.filter(|watch| watch.subscription.filter() == filter);
        let mut fetched = same.clone().filter_map(|watch| watch.fetched.as_deref());
        if let Some(fetched) = fetched.find(|fetched| fetched.id == exchange.id) {
            return Some(Arc::clone(&fetched.message));
        }
        // Of several observations of the same, the one that was told something last.
        let parted = same
            .filter_map(|watch| watch.last.as_ref())
            .max_by_key(|last| last.moved);
        parted.map(|parted| Arc::clone(&parted.message))
    }

    /// A block of what an observer was told was fetched: with the last one the next may be told.
    pub(crate) fn fetched(
        &mut self,
        exchange: &Exchange,
        filter: &TopicFilter,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let Some(block) = exchange.block2.filter(|block| block.num > 0) else {
            return;
        };
        let Some(at) = self.peer_at(exchange.path.remote) else {
            return;
        };
        for place in self.peers[at].watches.clone() {
            let watch = &mut self.watches[place];
            if watch.subscription.filter() == filter
                && let Some(parted) = &mut watch.last
            {
                let len = parted.message.as_message().payload.len();
                parted.moved = now;
                let is_end = block.start() + block.size() >= len;
                if is_end && !std::mem::replace(&mut parted.is_whole, true) {
                    watch.fetched = Some(Box::new(Fetched {
                        id: exchange.id,
                        message: Arc::clone(&parted.message),
                        at: now,
                    }));
                    self.received(place, now);
                }
            }
        }
        self.pump(at, now, out);
    }

    // ---- sending ----------------------------------------------------------------------------

    /// Sends an endpoint what may be sent to it now.
    pub(crate) fn pump(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        while self.peers[at].outstanding.is_none() {
            if self.is_to_prove(at) {
                self.ping(at, now, out);
                break;
            }
            if let Some(separate) = self.peers[at].next_response() {
                self.send_response(at, separate, now, out);
                continue;
            }
            let Some(place) = self.next_watch(at, now) else {
                break;
            };
            if !self.notify(at, place, now, out) {
                break;
            }
        }
        self.reschedule(at, now);
    }

    /// Whether the next response waits until the endpoint has shown that it receives: it is too large to be sent before.
    fn is_to_prove(&mut self, at: usize) -> bool {
        let peer = &self.peers[at];
        if peer.verified || self.settings.unverified != Unverified::Ping {
            return false;
        }
        let (limit, next) = (peer.limit(), peer.responses().next());
        let Some(Separate {
            token,
            response,
            block2,
            ..
        }) = next
        else {
            return false;
        };
        let (token, mut response, block2) = (*token, response.clone(), *block2);
        self.part(&mut response, block2);
        response.may_be_parted() && self.measure(token, &response) > limit
    }

    /// The observation whose turn it is, of those that have something to say.
    fn next_watch(&mut self, at: usize, now: Instant) -> Option<usize> {
        let peer = &mut self.peers[at];
        let count = peer.watches.len();
        for step in 0..count {
            let turn = (peer.turn as usize + step) % count;
            let place = peer.watches[turn];
            if self.watches[place].is_due(now) {
                peer.turn = turn as u32 + 1;
                return Some(place);
            }
        }
        None
    }

    /// Sends the next notification of an observation. `false`: it has to wait for its pace.
    fn notify(&mut self, at: usize, place: usize, now: Instant, out: &mut Outgoing) -> bool {
        let confirm_interval = self.settings.confirm_interval;
        let peer = &mut self.peers[at];
        let watch = &mut self.watches[place];
        let is_confirmed = watch
            .confirmed
            .is_some_and(|when| now.duration_since(when) < confirm_interval);
        let confirmable =
            watch.qos.is_acknowledged() || !is_confirmed || !peer.verified || !peer.knows_rtt();
        if !confirmable && peer.pace(now).is_some() {
            return false;
        }
        if watch.is_fetching() {
            self.not_fetched(place, now);
        }
        let watch = &mut self.watches[place];
        let Some(message) = watch.observation.take() else {
            return true;
        };
        if let Some(member) = &mut watch.member {
            member.send_next();
        }
        if message.is_expired(self.bus.now()) {
            self.bus.count_dropped(DropReason::Expired, 1);
            self.received(place, now);
            return true;
        }
        self.send_state(at, place, &message, confirmable, now, out);
        true
    }

    /// Sends a state of what is observed.
    fn send_state(
        &mut self,
        at: usize,
        place: usize,
        message: &Arc<StoredMessage>,
        confirmable: bool,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let max_age = self.max_age(message).unwrap_or(FOR_EVER);
        let watch = &mut self.watches[place];
        watch.sequence = (watch.sequence + 1) & 0xFF_FFFF;
        let mut response = Response::content(message);
        response.observe = Some(watch.sequence);
        response.max_age = Some(max_age);
        response.names_topic = watch.subscription.filter().has_wildcard();
        let (token, is_of_session) = (watch.token, watch.member.is_some());
        self.metrics.notifications[usize::from(confirmable)].add(1);
        self.part(&mut response, None);
        let is_parted = response.block2.is_some();
        if is_parted || response.body_len() > self.peers[at].limit() {
            response.etag = Some(tag(message));
            self.watches[place].last = Some(Parted {
                message: Arc::clone(message),
                moved: now,
                is_whole: !is_parted,
            });
        } else {
            self.watches[place].last = None;
        }
        let what = What::Notification(place);
        if confirmable {
            self.send(at, token, response, what, now, out);
        } else {
            let start = out.bytes.len();
            let (id, path) = (self.peers[at].next_id(), self.peers[at].path);
            self.watches[place].last_id = Some(id);
            let kind = Kind::NonConfirmable;
            let writer = Writer::new(&mut out.bytes, kind, response.code, id, token);
            response.write(writer, &mut self.scratch);
            out.finish(path, start);
        }
        if is_of_session {
            // It was counted when it was taken from there.
            return;
        }
        let counters = self.bus.counters();
        let qos = usize::from(confirmable);
        counters.messages_sent[qos].add(1);
        counters
            .payload_bytes_sent
            .add(message.as_message().payload.len() as u64);
    }

    /// Sends a confirmable message.
    pub(crate) fn send(
        &mut self,
        at: usize,
        token: Token,
        mut response: Response,
        what: What,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let timeout = self.first_timeout();
        let peer = &mut self.peers[at];
        let (id, path, limit) = (peer.next_id(), peer.path, peer.limit());
        let start = out.bytes.len();
        let kind = Kind::Confirmable;
        self.write_within(
            limit,
            &mut response,
            path,
            now,
            out,
            |response, out, scratch| {
                let writer = Writer::new(out, kind, response.code, id, token);
                response.write(writer, scratch);
            },
        );
        let is_refused = what != What::Response && !response.code.is_success();
        let is_too_large = out.bytes.len() - start > limit;
        if is_refused || (is_too_large && self.settings.unverified != Unverified::All) {
            // An address that was sent all that it may be, and has proved nothing: it is told nothing more.
            out.bytes.truncate(start);
            if let What::Notification(place) = what {
                self.cancel(place, Cancel::Timeout, now);
            }
            return;
        }
        let bytes: Box<[u8]> = out.bytes[start..].into();
        out.finish(path, start);
        if let What::Notification(place) = what {
            self.watches[place].last_id = Some(id);
        }
        let peer = &mut self.peers[at];
        peer.spend(bytes.len());
        peer.outstanding = Some(Box::new(Outstanding {
            id,
            what,
            bytes,
            sent: now,
            due: now + timeout,
            timeout,
            attempts: 0,
        }));
    }

    /// Between ACK_TIMEOUT and that times ACK_RANDOM_FACTOR (RFC 7252 section 4.2).
    fn first_timeout(&mut self) -> Duration {
        let random = self.random.next() % 1_000;
        ACK_TIMEOUT + ACK_TIMEOUT / 2 * random as u32 / 1_000
    }

    // ---- what comes back --------------------------------------------------------------------

    /// A message of ours was acknowledged.
    pub(crate) fn acknowledged(&mut self, path: Path, id: u16, now: Instant, out: &mut Outgoing) {
        let Some(outstanding) = self.settle(path, id) else {
            return self.metrics.ignored.add(1);
        };
        let (at, outstanding) = outstanding;
        self.prove(at);
        let peer = &mut self.peers[at];
        if outstanding.attempts == 0 {
            // Of one that was repeated it is not known which was acknowledged (RFC 6298 section 3).
            peer.measured(now.duration_since(outstanding.sent));
        }
        if let What::Notification(place) = outstanding.what
            && let Some(watch) = self.watches.get_mut(place)
        {
            watch.confirmed = Some(now);
            if !watch.is_fetching() {
                self.received(place, now);
            }
        }
        self.pump(at, now, out);
    }

    /// A message of ours was of no use to its receiver: an observation that it has forgotten (section 3.6).
    pub(crate) fn reset(&mut self, path: Path, id: u16, now: Instant, out: &mut Outgoing) {
        let settled = self.settle(path, id);
        let Some(at) = self.peer_at(path.remote) else {
            return self.metrics.ignored.add(1);
        };
        let watches = &self.watches;
        let of = |place: &&usize| watches[**place].last_id == Some(id);
        let place = self.peers[at].watches.iter().find(of).copied();
        match (place, settled) {
            (Some(place), _) => self.cancel(place, Cancel::Reset, now),
            // A pong, or the end of a response that nobody waits for.
            (None, Some((_, outstanding))) => {
                self.prove(at);
                if outstanding.attempts == 0 {
                    self.peers[at].measured(now.duration_since(outstanding.sent));
                }
            }
            (None, None) => return self.metrics.ignored.add(1),
        }
        self.pump(at, now, out);
    }

    /// Takes the message that is outstanding, if it has this identifier.
    fn settle(&mut self, path: Path, id: u16) -> Option<(usize, Box<Outstanding>)> {
        let at = self.peer_at(path.remote)?;
        let outstanding = self.peers[at].outstanding.take_if(|o| o.id == id)?;
        Some((at, outstanding))
    }

    // ---- time -------------------------------------------------------------------------------

    /// Sets when the endpoint is to be looked at again.
    fn reschedule(&mut self, at: usize, now: Instant) {
        let peer = &self.peers[at];
        let due = if let Some(outstanding) = &peer.outstanding {
            let waiting = peer.responses().filter_map(|waiting| waiting.request);
            waiting
                .map(|(_, due)| due)
                .fold(outstanding.due, Instant::min)
        } else if peer.is_idle() {
            self.rest_ends(at)
        } else if let Some(due) = self.next_notification(at, now) {
            due
        } else {
            // An observer is asked whether it lives, and what is kept to be fetched is not kept for ever.
            let watches = peer.watches.iter().map(|place| &self.watches[*place]);
            let kept = watches.flat_map(|watch| {
                let parted = watch.last.as_ref().map(|parted| parted.moved);
                let fetched = watch.fetched.as_ref().map(|fetched| fetched.at);
                parted.into_iter().chain(fetched)
            });
            let ends = kept.map(|since| since + EXCHANGE_LIFETIME);
            ends.fold(peer.heard + self.settings.confirm_interval, Instant::min)
        };
        self.schedule(at, Some(due));
    }

    /// When the next notification may go to an endpoint, if there is one.
    fn next_notification(&self, at: usize, now: Instant) -> Option<Instant> {
        let peer = &self.peers[at];
        let watches = peer.watches.iter().map(|place| &self.watches[*place]);
        let waiting = watches.filter(|watch| !watch.observation.is_empty());
        let paced = peer.paced_until(now);
        waiting
            .map(|watch| watch.busy_until().map_or(paced, |until| until.max(paced)))
            .min()
    }

    /// Does what is due for an endpoint.
    pub(crate) fn look_at(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        self.acknowledge_waiting(at, now, out);
        let peer = &mut self.peers[at];
        if peer
            .outstanding
            .as_ref()
            .is_some_and(|outstanding| outstanding.due <= now)
        {
            self.repeat(at, now, out);
        } else if peer.is_idle() && self.rest_ends(at) <= now {
            return self.forget(at);
        } else if !self.peers[at].watches.is_empty()
            && self.peers[at].outstanding.is_none()
            && now.duration_since(self.peers[at].heard) >= self.settings.confirm_interval
        {
            self.ping(at, now, out);
        }
        if self.peers.contains(at) {
            for place in self.peers[at].watches.clone() {
                let watch = &mut self.watches[place];
                let is_over = |fetched: &mut Box<Fetched>| fetched.at + EXCHANGE_LIFETIME <= now;
                watch.fetched.take_if(is_over);
                let last = &mut watch.last;
                let over =
                    last.take_if(|parted| now.duration_since(parted.moved) >= EXCHANGE_LIFETIME);
                if over.is_some_and(|parted| !parted.is_whole) {
                    self.not_fetched(place, now);
                }
            }
            self.pump(at, now, out);
        }
    }

    /// Asks whether an endpoint lives, unless something is under way whose acknowledgement says so.
    pub(crate) fn ask_whether_it_lives(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        if self.peers[at].outstanding.is_none() {
            self.ping(at, now, out);
            self.reschedule(at, now);
        }
    }

    /// Asks whether an endpoint lives (RFC 7252 section 4.3).
    fn ping(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        let timeout = self.first_timeout();
        let peer = &mut self.peers[at];
        let id = peer.next_id();
        let start = out.bytes.len();
        Writer::empty(&mut out.bytes, Kind::Confirmable, id);
        let bytes: Box<[u8]> = out.bytes[start..].into();
        if bytes.len() > peer.limit() && self.settings.unverified != Unverified::All {
            // It was sent all that it may be, and has proved nothing.
            out.bytes.truncate(start);
            return self.give_up(at, What::Ping, now);
        }
        peer.spend(bytes.len());
        out.finish(peer.path, start);
        peer.outstanding = Some(Box::new(Outstanding {
            id,
            what: What::Ping,
            bytes,
            sent: now,
            due: now + timeout,
            timeout,
            attempts: 0,
        }));
    }

    /// A message of ours was not acknowledged in time.
    fn repeat(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        let peer = &mut self.peers[at];
        let Some(mut outstanding) = peer.outstanding.take() else {
            return;
        };
        let room = peer.limit() >= outstanding.bytes.len();
        if outstanding.attempts >= MAX_RETRANSMIT || !room {
            return self.give_up(at, outstanding.what, now);
        }
        self.metrics.retransmissions.add(1);
        let (attempts, timeout) = (outstanding.attempts + 1, outstanding.timeout * 2);
        if let What::Notification(place) = outstanding.what
            && peer.verified
            && let Some(watch) = self.watches.get(place)
            && !watch.observation.is_empty()
            && watch.member.is_none()
        {
            // What is newer goes instead, and its repetitions go on counting (section 4.5.2).
            watch.observation.supersede();
            self.bus.count_dropped(DropReason::Superseded, 1);
            if let Some(message) = watch.observation.take() {
                self.send_state(at, place, &message, true, now, out);
                if let Some(newer) = &mut self.peers[at].outstanding {
                    (newer.attempts, newer.timeout) = (attempts, timeout);
                    newer.due = now + timeout;
                }
                return;
            }
        }
        let peer = &mut self.peers[at];
        let start = out.bytes.len();
        out.bytes.extend_from_slice(&outstanding.bytes);
        out.finish(peer.path, start);
        peer.spend(outstanding.bytes.len());
        outstanding.attempts = attempts;
        outstanding.timeout = timeout;
        outstanding.due = now + timeout;
        peer.outstanding = Some(outstanding);
    }

    /// The last repetition was not acknowledged: nobody is there (section 4.5).
    fn give_up(&mut self, at: usize, what: What, now: Instant) {
        if what == What::Response {
            return;
        }
        self.peers[at].clear_responses();
        for place in std::mem::take(&mut self.peers[at].watches) {
            self.cancel(place, Cancel::Timeout, now);
        }
    }
}

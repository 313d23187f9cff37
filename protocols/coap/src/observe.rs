//! Who observes what (RFC 7641): observations over datagrams, from their registration to their end, and what of a large
//! notification was fetched. What observers are told, and when, is in `notify.rs`.

use std::sync::Arc;
use std::time::Instant;

use tidegate_bus::{QoS, StoredMessage, Subscription, SubscriptionOptions, Ticket, TopicFilter};

use crate::answers::Exchange;
use crate::client_session::{Observed, full};
use crate::codec::{Code, Kind, Writer};
use crate::metrics::Cancel;
use crate::observation::Observation;
use crate::outgoing::Outgoing;
use crate::peer::What;
use crate::request::Request;
use crate::response::Response;
use crate::server::Server;
use crate::settings::Unverified;
use crate::topics::{self, FOR_EVER, NO_IDENTIFIER};
use crate::watch::{Fetched, Watch};

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
}

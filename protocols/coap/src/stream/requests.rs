//! What requests over a stream ask for, and how they are answered; what they come to on the bus is in [`crate::topics`].

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use tidegate_bus::{Claim, ClientId, QoS, StoreError, Ticket, TopicFilter, Worker};

use super::endpoint::Endpoint;
use super::observing::{Observing, REGISTERED};
use super::protocol::{Asking, Flow, Protocol};
use super::seats::WINDOW;
use crate::client_session::{self, Attached, full, not_kept};
use crate::codec::{Block, Code, Token};
use crate::metrics::Cancel;
use crate::request::{Request, Target};
use crate::response::Response;
use crate::topics::{self, FOR_EVER, Publish};
use crate::transfers::{Step, Transfers};

/// A request, as it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) token: Token,
    /// Classes of responses that are not wanted (RFC 7967).
    pub(super) no_response: u32,
    /// The block of the answer that was asked for.
    pub(super) block2: Option<Block>,
}

/// A request, and who asks.
pub(super) struct Asked<'a, 'r> {
    pub(super) exchange: Exchange,
    pub(super) request: &'a Request<'r>,
    pub(super) topic: &'a str,
    pub(super) client: &'a ClientId,
}

impl Protocol {
    /// Does what a request asks for.
    pub(super) fn handle(
        &mut self,
        worker: &mut Worker,
        asked: &Asked<'_, '_>,
        task: &Waker,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Flow {
        let exchange = &asked.exchange;
        match (&asked.request.target, asked.request.code) {
            (Target::Links, Code::GET) => {
                self.answer(exchange, topics::links(asked.request), scratch);
            }
            (Target::Topic, Code::GET) => return self.get(asked, task, scratch, now),
            (Target::Topic, Code::PUT | Code::POST) => self.put(worker, asked, scratch, now),
            (Target::Topic, Code::DELETE) => {
                let published = self.publish(worker, asked, &[], true);
                self.answer_after(exchange, published, Code::DELETED, None, scratch);
            }
            (target, _) => {
                let refusal = topics::no_such_method(*target == Target::Topic);
                self.answer(exchange, refusal, scratch);
            }
        }
        Flow::Next
    }

    fn put(
        &mut self,
        worker: &mut Worker,
        asked: &Asked<'_, '_>,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) {
        let Asked {
            exchange, request, ..
        } = asked;
        let settings = &self.endpoint.settings;
        let whole;
        let body = match request.block1 {
            None if request.payload.len() > settings.max_body_bytes => {
                let refusal = topics::too_large(settings);
                return self.answer(exchange, refusal, scratch);
            }
            None => request.payload,
            Some(block) => {
                let step = self.add(asked, block, now);
                let Endpoint {
                    settings, metrics, ..
                } = &*self.endpoint;
                match topics::whole(step, block, settings, metrics) {
                    Ok(body) => {
                        whole = body;
                        &whole
                    }
                    Err(response) => return self.answer(exchange, response, scratch),
                }
            }
        };
        let published = self.publish(worker, asked, body, request.query.retain);
        self.answer_after(exchange, published, Code::CHANGED, request.block1, scratch);
    }

    /// Takes a part of a body. Its place is one of those of the listener.
    fn add(&mut self, asked: &Asked<'_, '_>, block: Block, now: Instant) -> Step {
        let Endpoint {
            bus,
            settings,
            metrics,
            hasher,
            ..
        } = &*self.endpoint;
        let begins = block.num == 0 && block.more;
        if begins && !metrics.transfers.take(settings.max_transfers) {
            return Step::Full;
        }
        let transfers = self.transfers.get_or_insert_with(|| {
            let most = settings.max_transfers_per_endpoint;
            Box::new(Transfers::new(
                bus.memory(),
                most,
                most,
                settings.max_body_bytes,
            ))
        });
        let Asked {
            request,
            topic,
            client,
            ..
        } = asked;
        let which = topics::which(hasher, request, topic, client);
        let taken = transfers.len() + usize::from(begins);
        let step = transfers.add((), which, block, request.payload, request.size1, now);
        let left = transfers.len();
        metrics.transfers.give_back((taken - left) as u64);
        if left == 0 {
            self.transfers = None;
        }
        step
    }

    /// Publishes. Over a stream a request arrives, or the client hears that it may not have: it has QoS 1 unless it says
    /// otherwise.
    fn publish(
        &self,
        worker: &mut Worker,
        asked: &Asked<'_, '_>,
        payload: &[u8],
        retain: bool,
    ) -> Result<Ticket, Response> {
        let publish = Publish {
            request: asked.request,
            topic: asked.topic,
            client: asked.client,
            payload,
            retain,
            qos: QoS::AtLeastOnce,
        };
        topics::publish(&self.endpoint.bus, worker, &publish)
    }

    // ---- reading ----------------------------------------------------------------------------

    fn get(
        &mut self,
        asked: &Asked<'_, '_>,
        task: &Waker,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Flow {
        let Asked {
            exchange,
            request,
            topic,
            client,
        } = asked;
        let endpoint = Arc::clone(&self.endpoint);
        let bus = &endpoint.bus;
        if let Some(Asking::Refused(refusal)) = self.asking.take().map(|asking| *asking) {
            self.answer(exchange, refusal, scratch);
            return Flow::Next;
        }
        if request.query.session_expiry.is_some() && !self.is_named(request) {
            self.answer(exchange, topics::session_needs_name(), scratch);
            return Flow::Next;
        }
        let qos = topics::observed_qos(request);
        let filter = match topics::filter(bus, topic, client, qos) {
            Ok(filter) => filter,
            Err(refusal) => {
                self.answer(exchange, refusal, scratch);
                return Flow::Next;
            }
        };
        // The rest of a notification is fetched without Observe (RFC 7959 section 3.3).
        let is_first = request.block2.is_none_or(|block| block.num == 0);
        match request.observe {
            Some(0) if is_first => {
                if !filter.has_wildcard() {
                    // What is not acceptable, say, is not subscribed to.
                    let value = topics::first_value(bus, request, &filter);
                    if !value.code.is_success() {
                        self.answer(exchange, value, scratch);
                        return Flow::Next;
                    }
                }
                match self.seat(asked, &filter, qos, now) {
                    Seat::Bus => self.observe(asked, &filter, qos, None, task, scratch, now),
                    Seat::Session(place) => {
                        self.observe(asked, &filter, qos, Some(place), task, scratch, now);
                    }
                    Seat::Wait(asking) => {
                        self.asking = Some(Box::new(asking));
                        return Flow::Wait;
                    }
                    Seat::Refused(refusal) => self.answer(exchange, refusal, scratch),
                }
                return Flow::Next;
            }
            Some(1) => {
                let kept = self.deregister(exchange.token, now);
                match kept.result() {
                    None => {
                        self.asking = Some(Box::new(Asking::Ended(kept)));
                        return Flow::Wait;
                    }
                    Some(Err(_)) => {
                        self.answer(exchange, not_kept(), scratch);
                        return Flow::Next;
                    }
                    Some(Ok(())) => {}
                }
            }
            _ => {}
        }
        let observing = self.observing.as_ref();
        let notified = observing.and_then(|it| it.notified(&filter, request.block2));
        let response = topics::read(bus, request, &filter, notified);
        let sent = self.answer_with(exchange, response, scratch);
        if let Some(observing) = &mut self.observing
            && let Some(block) = sent.block2.filter(|block| block.num > 0)
        {
            let end = block.start() + block.size() * sent.blocks;
            observing.fetched(&filter, end, now);
        }
        Flow::Next
    }

    /// Registers an observation (RFC 7641 section 4.1), or answers as if Observe were not there. `session`: the place
    /// of the session that it is of.
    #[expect(clippy::too_many_arguments, reason = "as for the other requests")]
    fn observe(
        &mut self,
        asked: &Asked<'_, '_>,
        filter: &TopicFilter,
        qos: QoS,
        session: Option<usize>,
        task: &Waker,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) {
        let Asked {
            exchange, request, ..
        } = asked;
        let token = exchange.token;
        let endpoint = Arc::clone(&self.endpoint);
        let bus = &endpoint.bus;
        let observing = self
            .observing
            .get_or_insert_with(|| Observing::new(&endpoint, task));
        // One of a session that is registered once more goes on: what it is owed stays owed.
        let again = session.and_then(|session| observing.of_session(token, filter, session));
        if again.is_none() {
            observing.deregister(token, session, now);
        }
        let place = again.or_else(|| observing.register(token, filter.clone(), qos, session));
        let Some((place, watch)) = place.and_then(|place| Some((place, observing.watch(place)?)))
        else {
            endpoint.metrics.full.add(1);
            let is_plain = !filter.has_wildcard() && filter.share_name().is_none();
            let response = if !is_plain || session.is_some() {
                full()
            } else {
                topics::read(bus, request, filter, None)
            };
            return self.answer(exchange, response, scratch);
        };
        // The subscription stands: what is published from now on is told. What is retained is read after that, so that
        // nothing falls between.
        let mut response = match (session, filter.has_wildcard()) {
            // What is retained comes through the session, or is the answer.
            (Some(_), true) => Response::new(Code::CONTENT),
            (Some(_), false) => topics::first_value(bus, request, filter),
            (None, true) => {
                watch.observation.begin_with(bus.retained(filter));
                Response::new(Code::CONTENT)
            }
            (None, false) => {
                let response = topics::first_value(bus, request, filter);
                watch.observation.begin_with(Vec::new());
                response
            }
        };
        if response.code.is_success() {
            response.observe = Some(REGISTERED);
            response.max_age = response.max_age.or(Some(FOR_EVER));
        }
        let sent = self.answer_with(exchange, response, scratch);
        if !sent.code.is_success()
            && let Some(observing) = &mut self.observing
        {
            // Not acceptable, say, or its options alone are more than the client takes: no value of it will be either.
            observing.cancel(place, Cancel::Closed, now);
        }
    }

    fn deregister(&mut self, token: Token, now: Instant) -> Ticket {
        let Some(observing) = &mut self.observing else {
            return Ticket::ready();
        };
        let kept = observing.deregister(token, None, now);
        if observing.is_empty() {
            self.observing = None;
        }
        kept
    }

    // ---- sessions ---------------------------------------------------------------------------

    /// Whether the client has said who it is, or has proved it.
    fn is_named(&self, request: &Request<'_>) -> bool {
        request.query.client.is_some() || self.has_certificate()
    }

    /// Finds the seat of an observation that is to be registered.
    fn seat(
        &mut self,
        asked: &Asked<'_, '_>,
        filter: &TopicFilter,
        qos: QoS,
        now: Instant,
    ) -> Seat {
        let Asked {
            request, client, ..
        } = asked;
        if !self.is_named(request) || !qos.is_acknowledged() {
            return Seat::Bus;
        }
        let Endpoint { bus, settings, .. } = &*self.endpoint;
        let found = self.observing.as_mut().and_then(|observing| {
            let seats = observing.seats.as_mut()?;
            seats.of(client).map(|session| (seats, session))
        });
        let Some((seats, session)) = found else {
            if self.observing.as_ref().is_some_and(|it| it.is_full()) {
                // Nobody loses a session to a registration for which there is no room.
                self.endpoint.metrics.full.add(1);
                return Seat::Refused(full());
            }
            return Seat::Wait(Asking::Session {
                client: (*client).clone(),
                expiry: client_session::expiry(request, settings),
                claim: client_session::claim(bus, client),
            });
        };
        match seats.subscribe(bus, session, filter, qos, now) {
            Err(refusal) => Seat::Refused(refusal),
            Ok(ticket) => match ticket.result() {
                Some(Ok(())) => Seat::Session(session),
                Some(Err(_)) => Seat::Refused(not_kept()),
                None => Seat::Wait(Asking::Kept {
                    client: (*client).clone(),
                    ticket,
                }),
            },
        }
    }

    /// Makes this connection that of a client's session.
    pub(super) fn take_seat(
        &mut self,
        client: &ClientId,
        expiry: u32,
        claim: Result<Claim, StoreError>,
        task: &Waker,
        now: Instant,
    ) -> Result<(), Response> {
        let (endpoint, remote) = (Arc::clone(&self.endpoint), self.address());
        let bus = &endpoint.bus;
        let attached = bus.batch(|worker| {
            let waker = task.clone();
            Attached::new(
                bus, worker, client, remote, claim, expiry, WINDOW, waker, now,
            )
        })?;
        let observing = self
            .observing
            .get_or_insert_with(|| Observing::new(&endpoint, task));
        observing.take_seat(attached);
        Ok(())
    }
}

/// Where an observation gets its messages.
enum Seat {
    /// Straight from the bus.
    Bus,
    /// From the session at this place.
    Session(usize),
    /// The request is handed in again after that.
    Wait(Asking),
    Refused(Response),
}

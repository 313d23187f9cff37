//! What requests in datagrams ask for, and how they are answered; what they come to on the bus is in [`crate::topics`].

use std::task::Poll;
use std::time::Instant;

use tidegate_bus::{ClientId, QoS, StoredMessage, Ticket, TopicFilter, Worker};

use crate::answers::Exchange;
use crate::client_session::not_kept;
use crate::codec::{Block, Code, Kind};
use crate::identity::{Login, denied};
use crate::outgoing::Outgoing;
use crate::request::{Request, Target};
use crate::response::Response;
use crate::seats::{Seat, Wait};
use crate::server::Server;
use crate::topics::{self, Publish};

impl Server {
    /// Who asks; otherwise whom to ask, or how the request is refused.
    pub(crate) fn log_in(
        &self,
        request: &Request<'_>,
        from: std::net::SocketAddr,
        now: Instant,
    ) -> Result<ClientId, Result<Login, Response>> {
        match self.identities.find(&request.query, from, now) {
            Some(Ok(client)) => Ok(client),
            Some(Err(denial)) => Err(Err(denied(denial))),
            None => {
                let longest = self.settings.max_client_id_bytes;
                let proved = self.sessions.proved(from);
                Err(Login::of(&request.query, from, proved, longest))
            }
        }
    }

    /// Does what a request asks for. What is given back is waited for, and the request served again then.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is used; a struct of them would live for one call"
    )]
    pub(crate) fn handle(
        &mut self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        now: Instant,
        out: &mut Outgoing,
    ) -> Option<Wait> {
        let response = match (&request.target, request.code) {
            (Target::Links, Code::GET) => topics::links(request),
            (Target::Topic, Code::GET) => {
                return self.get(exchange, request, topic, client, now, out);
            }
            (Target::Topic, Code::PUT | Code::POST) => {
                self.put(worker, exchange, request, topic, client, now, out);
                return None;
            }
            (Target::Topic, Code::DELETE) => {
                let published = self.publish(worker, exchange, request, topic, client, &[], true);
                match published {
                    Ok(ticket) => {
                        let done = Response::new(Code::DELETED);
                        self.answer_after(exchange, done, ticket, now, out);
                    }
                    Err(refusal) => self.answer(exchange, refusal, now, out),
                }
                return None;
            }
            (target, _) => topics::no_such_method(*target == Target::Topic),
        };
        self.answer(exchange, response, now, out);
        None
    }

    // ---- publishing -------------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn put(
        &mut self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let Some(block) = request.block1 else {
            if request.payload.len() > self.settings.max_body_bytes {
                let refusal = topics::too_large(&self.settings);
                return self.answer(exchange, refusal, now, out);
            }
            return self.put_whole(
                worker,
                exchange,
                request,
                topic,
                client,
                request.payload,
                now,
                out,
            );
        };
        let which = topics::which(self.transfers_hasher(), request, topic, client);
        let remote = exchange.path.remote;
        let step = self
            .transfers
            .add(remote, which, block, request.payload, request.size1, now);
        // Smaller ones when this is what the operator wants (RFC 7959 section 2.3).
        let preferred = Block {
            szx: block.szx.min(Block::szx_within(self.settings.block_bytes)),
            ..block
        };
        match topics::whole(step, preferred, &self.settings, &self.metrics) {
            Ok(body) => self.put_whole(worker, exchange, request, topic, client, &body, now, out),
            Err(response) => self.answer(exchange, response, now, out),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn put_whole(
        &mut self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        body: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) {
        let retain = request.query.retain;
        let published = self.publish(worker, exchange, request, topic, client, body, retain);
        let (mut response, ticket) = match published {
            Ok(ticket) => (Response::new(Code::CHANGED), ticket),
            Err(refusal) => (refusal, Ticket::ready()),
        };
        response.block1 = request.block1;
        self.answer_after(exchange, response, ticket, now, out);
    }

    /// Publishes. What is asked for in a confirmable message has QoS 1 unless it says otherwise.
    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn publish(
        &self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        payload: &[u8],
        retain: bool,
    ) -> Result<Ticket, Response> {
        let qos = match exchange.kind {
            Kind::Confirmable => QoS::AtLeastOnce,
            _ => QoS::AtMostOnce,
        };
        let publish = Publish {
            request,
            topic,
            client,
            payload,
            retain,
            qos,
        };
        topics::publish(&self.bus, worker, &publish)
    }

    // ---- reading ----------------------------------------------------------------------------

    fn get(
        &mut self,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        now: Instant,
        out: &mut Outgoing,
    ) -> Option<Wait> {
        if request.query.session_expiry.is_some() && !self.is_named(request, exchange.path.remote) {
            let refusal = topics::session_needs_name();
            self.answer(exchange, refusal, now, out);
            return None;
        }
        let qos = topics::observed_qos(request);
        let filter = match topics::filter(&self.bus, topic, client, qos) {
            Ok(filter) => filter,
            Err(refusal) => {
                self.answer(exchange, refusal, now, out);
                return None;
            }
        };
        // The rest of a notification is fetched without Observe (RFC 7959 section 3.3).
        let is_first = request.block2.is_none_or(|block| block.num == 0);
        match request.observe {
            Some(0) if is_first => {
                if !filter.has_wildcard() {
                    // What is not acceptable, say, is not subscribed to.
                    let value = topics::first_value(&self.bus, request, &filter);
                    if !value.code.is_success() {
                        self.answer(exchange, value, now, out);
                        return None;
                    }
                }
                let remote = exchange.path.remote;
                let session = match self.seat(request, &filter, client, remote, qos, now) {
                    Seat::Bus => None,
                    Seat::Session(place) => Some(place),
                    Seat::Wait(wait) => return Some(wait),
                    Seat::Refused(refusal) => {
                        self.answer(exchange, refusal, now, out);
                        return None;
                    }
                };
                self.observe(exchange, request, &filter, qos, session, now, out);
            }
            Some(1) => {
                let kept = self.deregister(exchange, None, now);
                let response = match kept.poll(&self.waker) {
                    Poll::Pending => return Some(Wait::Ended(kept)),
                    Poll::Ready(Err(_)) => not_kept(),
                    Poll::Ready(Ok(())) => self.read(exchange, request, &filter),
                };
                self.answer(exchange, response, now, out);
            }
            _ => {
                let response = self.read(exchange, request, &filter);
                if self.answer_with(exchange, response, now, out).is_success() {
                    self.fetched(exchange, &filter, now, out);
                }
            }
        }
        None
    }

    /// The value of a topic, or what an observer was notified of last.
    pub(crate) fn read(
        &self,
        exchange: &Exchange,
        request: &Request<'_>,
        filter: &TopicFilter,
    ) -> Response {
        let notified = self.notified(exchange, filter, request);
        topics::read(&self.bus, request, filter, notified)
    }

    /// Seconds until the message expires.
    pub(crate) fn max_age(&self, message: &StoredMessage) -> Option<u32> {
        topics::max_age(&self.bus, message)
    }
}

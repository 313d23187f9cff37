//! Answers: in the acknowledgement of a request, or later as a message of their own; whole or in blocks; and never more
//! than an address may be sent that has not proved that it receives.

use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate_bus::Ticket;

use crate::codec::{Block, Code, Kind, Token, Writer};
use crate::outgoing::{Outgoing, Path};
use crate::peer::{Separate, What};
use crate::response::{Body, Response};
use crate::server::Server;
use crate::settings::Unverified;
use crate::topics::not_kept;

/// A request that takes longer than this is acknowledged first and answered later (RFC 7252 section 5.2.2): well before
/// the client repeats it.
const PIGGYBACK: Duration = Duration::from_secs(1);

/// Most responses that wait for one endpoint.
const MOST_RESPONSES: usize = 8;

/// A request, as it is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(crate) path: Path,
    pub(crate) kind: Kind,
    pub(crate) id: u16,
    pub(crate) token: Token,
    /// Classes of responses that are not wanted (RFC 7967).
    pub(crate) no_response: u32,
    /// The block of the answer that was asked for.
    pub(crate) block2: Option<Block>,
    /// Bytes of the request.
    pub(crate) len: usize,
}

/// A publish that the engine has not kept yet.
pub(crate) struct Pending {
    pub(crate) exchange: Exchange,
    response: Response,
    ticket: Ticket,
    /// When the request is acknowledged without an answer; `None`: it was.
    pub(crate) acknowledge: Option<Instant>,
}

impl Server {
    /// Answers a request when `ticket` is complete.
    pub(crate) fn answer_after(
        &mut self,
        exchange: &Exchange,
        response: Response,
        ticket: Ticket,
        now: Instant,
        out: &mut Outgoing,
    ) {
        match ticket.poll(&self.waker) {
            Poll::Ready(Ok(())) => self.answer(exchange, response, now, out),
            Poll::Ready(Err(_)) => self.answer(exchange, not_kept(&response), now, out),
            Poll::Pending => self.pending.push_back(Pending {
                exchange: *exchange,
                response,
                ticket,
                acknowledge: (exchange.kind == Kind::Confirmable).then(|| now + PIGGYBACK),
            }),
        }
    }

    /// Answers what the engine has kept meanwhile.
    pub(crate) fn take_tickets(&mut self, now: Instant, out: &mut Outgoing) {
        // In their order, as an engine keeps them, many at a time: the first that it has not kept yet wakes this again.
        while let Some(pending) = self.pending.pop_front() {
            let response = match pending.ticket.poll(&self.waker) {
                Poll::Ready(Ok(())) => pending.response,
                Poll::Ready(Err(_)) => not_kept(&pending.response),
                Poll::Pending => return self.pending.push_front(pending),
            };
            let exchange = &pending.exchange;
            if exchange.kind == Kind::Confirmable && pending.acknowledge.is_none() {
                self.answer_separately(exchange, response, now, out);
            } else {
                self.answer(exchange, response, now, out);
            }
        }
    }

    /// Acknowledges the requests that have waited so long that their clients would repeat them.
    pub(crate) fn acknowledge_late(&mut self, now: Instant, out: &mut Outgoing) {
        for at in 0..self.pending.len() {
            let pending = &mut self.pending[at];
            match pending.acknowledge {
                None => continue,
                // They stand in the order of their requests.
                Some(due) if due > now => return,
                Some(_) => pending.acknowledge = None,
            }
            let Exchange { path, id, .. } = pending.exchange;
            let start = out.bytes.len();
            Writer::empty(&mut out.bytes, Kind::Acknowledgement, id);
            self.duplicates
                .answered(self.sessions.endpoint(path.remote), id, &out.bytes[start..]);
            self.sent(path, out.bytes.len() - start);
            out.finish(path, start);
        }
    }

    /// Sends a response as a message of its own, as soon as nothing else is outstanding.
    fn answer_separately(
        &mut self,
        exchange: &Exchange,
        response: Response,
        now: Instant,
        out: &mut Outgoing,
    ) {
        if response.is_unwanted(exchange.no_response) {
            return;
        }
        self.count(&response);
        // It was acknowledged, and that is paid for: four bytes.
        let exchange = &Exchange {
            kind: Kind::NonConfirmable,
            len: exchange.len - 2,
            ..*exchange
        };
        if !self.queue(exchange, response, What::Response, now, out) {
            // It was acknowledged and will never be answered: the client gives up and tries again.
            self.metrics.full.add(1);
        }
    }

    /// Queues a response for when the endpoint may be sent it. `false`: there is no room.
    pub(crate) fn queue(
        &mut self,
        exchange: &Exchange,
        response: Response,
        what: What,
        now: Instant,
        out: &mut Outgoing,
    ) -> bool {
        let Some(at) = self.peer(exchange.path, exchange.len, now) else {
            return false;
        };
        let peer = &mut self.peers[at];
        // A request that is repeated because its acknowledgement was lost is answered once.
        let is_known = peer
            .responses()
            .any(|waiting| waiting.token == exchange.token);
        if !is_known {
            if peer.responses().len() >= MOST_RESPONSES {
                return false;
            }
            let is_confirmable = exchange.kind == Kind::Confirmable;
            peer.add_response(Separate {
                request: is_confirmable.then(|| (exchange.id, now + PIGGYBACK)),
                token: exchange.token,
                response,
                block2: exchange.block2,
                what,
            });
        }
        self.pump(at, now, out);
        true
    }

    /// Sends the next response to an endpoint that may be sent it.
    pub(crate) fn send_response(
        &mut self,
        at: usize,
        separate: Separate,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let Separate {
            request,
            token,
            mut response,
            block2,
            what,
        } = separate;
        if let What::Notification(place) = what
            && !self
                .watches
                .get(place)
                .is_some_and(|watch| watch.peer == at && watch.token == token)
        {
            // It has ended meanwhile.
            return;
        }
        self.part(&mut response, block2);
        let Some((id, _)) = request else {
            return self.send(at, token, response, what, now, out);
        };
        let peer = &self.peers[at];
        let (path, limit) = (peer.path, peer.limit());
        let start = out.bytes.len();
        self.write_within(
            limit,
            &mut response,
            path,
            now,
            out,
            |response, out, scratch| {
                let writer = Writer::new(out, Kind::Acknowledgement, response.code, id, token);
                response.write(writer, scratch);
            },
        );
        self.duplicates
            .answered(self.sessions.endpoint(path.remote), id, &out.bytes[start..]);
        self.peers[at].spend(out.bytes.len() - start);
        out.finish(path, start);
    }

    /// Acknowledges requests of an endpoint that have waited for their answers for so long that they would be repeated.
    pub(crate) fn acknowledge_waiting(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        let peer = &mut self.peers[at];
        let path = peer.path;
        let mut spent = 0;
        for waiting in peer.responses_mut() {
            if let Some((id, _)) = waiting.request.take_if(|(_, due)| *due <= now) {
                let start = out.bytes.len();
                Writer::empty(&mut out.bytes, Kind::Acknowledgement, id);
                self.duplicates.answered(
                    self.sessions.endpoint(path.remote),
                    id,
                    &out.bytes[start..],
                );
                spent += out.bytes.len() - start;
                out.finish(path, start);
            }
        }
        peer.spend(spent);
    }

    /// Answers a request: in its acknowledgement when it is confirmable.
    pub(crate) fn answer(
        &mut self,
        exchange: &Exchange,
        response: Response,
        now: Instant,
        out: &mut Outgoing,
    ) {
        self.answer_with(exchange, response, now, out);
    }

    /// As [`Self::answer`]; tells what was said in the end: nothing, or an Echo, where there was no room for more.
    pub(crate) fn answer_with(
        &mut self,
        exchange: &Exchange,
        mut response: Response,
        now: Instant,
        out: &mut Outgoing,
    ) -> Code {
        let Exchange {
            path,
            kind,
            id,
            token,
            ..
        } = *exchange;
        let start = out.bytes.len();
        if response.is_unwanted(exchange.no_response) {
            if kind == Kind::Confirmable {
                Writer::empty(&mut out.bytes, Kind::Acknowledgement, id);
                self.duplicates.answered(
                    self.sessions.endpoint(path.remote),
                    id,
                    &out.bytes[start..],
                );
                self.sent(path, out.bytes.len() - start);
                out.finish(path, start);
            }
            return response.code;
        }
        self.count(&response);
        let peer = self.peer_at(path.remote);
        let (kind, id) = match (kind, peer) {
            (Kind::Confirmable, _) => (Kind::Acknowledgement, id),
            (_, Some(peer)) => (Kind::NonConfirmable, self.peers[peer].next_id()),
            // As no request of the client has the identifier of another, so no answer has.
            (_, None) => (Kind::NonConfirmable, id),
        };
        let limit = peer.map_or(exchange.len * 3, |peer| self.peers[peer].limit());
        let may_wait = self.settings.unverified == Unverified::Ping;
        let unparted =
            (may_wait && limit < usize::MAX && response.may_be_parted()).then(|| response.clone());
        self.part(&mut response, exchange.block2);
        if let Some(unparted) = unparted {
            // All of it, once it is known that it goes to who has asked for it.
            let fits = self.measure(token, &response) <= limit;
            if !fits && self.queue(exchange, unparted, What::Response, now, out) {
                self.metrics.limited.add(1);
                return response.code;
            }
        }
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
        if out.bytes.len() - start > limit && self.settings.unverified != Unverified::All {
            // Too much was sent to this address already. Who asks again may be sent more.
            out.bytes.truncate(start);
            return Code::EMPTY;
        }
        if let Some(peer) = peer {
            self.peers[peer].spend(out.bytes.len() - start);
        }
        if kind == Kind::Acknowledgement {
            self.duplicates
                .answered(self.sessions.endpoint(path.remote), id, &out.bytes[start..]);
        }
        out.finish(path, start);
        response.code
    }

    /// Bytes of a response.
    pub(crate) fn measure(&mut self, token: Token, response: &Response) -> usize {
        let mut out = Vec::new();
        let writer = Writer::new(&mut out, Kind::Confirmable, response.code, 0, token);
        response.write(writer, &mut self.scratch);
        out.len()
    }

    pub(crate) fn count(&self, response: &Response) {
        self.metrics.answered(response.code);
    }

    /// Chooses the block of the body that goes out (RFC 7959 section 2.4), when not all of it does.
    pub(crate) fn part(&self, response: &mut Response, asked: Option<Block>) {
        let most = Block::szx_within(self.settings.block_bytes);
        if !response.may_be_parted() {
            return;
        }
        response.block2 = match asked {
            Some(block) => Some(block.resized(block.szx.min(most))),
            None if response.body_len() > 16 << most => Some(Block {
                num: 0,
                more: false,
                szx: most,
            }),
            None => None,
        };
    }

    /// Appends a message that is no longer than `limit`, if there is any way: with smaller blocks, without the words
    /// of a refusal, or with nothing but an Echo.
    pub(crate) fn write_within(
        &mut self,
        limit: usize,
        response: &mut Response,
        path: Path,
        now: Instant,
        out: &mut Outgoing,
        mut write: impl FnMut(&Response, &mut Vec<u8>, &mut Vec<u8>),
    ) {
        let start = out.bytes.len();
        write(response, &mut out.bytes, &mut self.scratch);
        if self.settings.unverified == Unverified::All || out.bytes.len() - start <= limit {
            return;
        }
        self.metrics.limited.add(1);
        if !response.may_be_parted() {
            response.body = Body::Empty;
            response.content_format = None;
        } else if self.settings.unverified != Unverified::Echo {
            response.is_tight = true;
            let mut block = response.block2.unwrap_or(Block {
                num: 0,
                more: false,
                szx: Block::szx_within(self.settings.block_bytes),
            });
            loop {
                response.block2 = Some(block);
                out.bytes.truncate(start);
                write(response, &mut out.bytes, &mut self.scratch);
                if out.bytes.len() - start <= limit {
                    return;
                }
                if block.szx == 0 {
                    break;
                }
                block = block.resized(block.szx - 1);
            }
        }
        if response.may_be_parted() {
            *response = Response {
                echo: Some(self.echo.value(path.remote, now)),
                ..Response::new(Code::UNAUTHORIZED)
            };
        }
        out.bytes.truncate(start);
        write(response, &mut out.bytes, &mut self.scratch);
    }
}

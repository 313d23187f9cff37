//! What a message means: one connection without its socket. Messages, the time and wakes go
//! in, bytes come out.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tidegate_bus::{ClientId, Denial, DropReason, Ticket, Worker};

use super::ending::{Ending, release};
use super::endpoint::{Endpoint, Peer};
use super::limits::Limits;
use super::observing::Observing;
use super::pending::{Pending, Waiting};
use super::pulses::Beat;
use super::requests::{Asked, Exchange};
use super::scratch::Work;
use crate::codec::{Block, Code, Frame, Signal, Token};
use crate::identity::{Known, Login, denied};
use crate::request::Request;
use crate::response::Response;
use crate::sessions::Proved;
use crate::topics::{self, FOR_EVER};
use crate::transfers::Transfers;

/// Bytes that are to be written before nothing more is read, and nobody is told anything more; one answer on top.
pub(super) const MAX_UNSENT: usize = 64 << 10;

/// Most answers that wait for the store before nothing more is read.
const MAX_PENDING: usize = 1_024;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It was dealt with.
    Next,
    /// It is to be handed in again when [`Protocol::takes_requests`] says so.
    Wait,
}

/// An access decision that is under way.
struct Asking {
    login: Login,
    decision: Pin<Box<dyn Future<Output = Result<(), Denial>> + Send>>,
}

/// Who ends the connection, in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Client,
    Gateway,
}

/// One connection, after the first message of its client.
pub(super) struct Protocol {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) beat: Beat,
    peer: Peer,
    pub(super) limits: Limits,
    /// Answers that are to be written.
    pub(super) out: Vec<u8>,
    identity: Option<Box<Known>>,
    asking: Option<Box<Asking>>,
    pending: Pending,
    pub(super) transfers: Option<Box<Transfers<()>>>,
    pub(super) observing: Option<Box<Observing>>,
    /// When the client was asked whether it is there.
    pinged: Option<Instant>,
    leaving: Option<Leaving>,
}

impl Protocol {
    pub(super) fn new(endpoint: Arc<Endpoint>, beat: Beat, peer: Peer, limits: Limits) -> Self {
        Self {
            endpoint,
            beat,
            peer,
            limits,
            out: Vec::new(),
            identity: None,
            asking: None,
            pending: Pending::default(),
            transfers: None,
            observing: None,
            pinged: None,
            leaving: None,
        }
    }

    /// Where the client is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.peer.address
    }

    /// Whether the next message may be handed in.
    pub(super) fn takes_requests(&self) -> bool {
        self.asking.is_none() && self.leaving.is_none() && self.pending.len() < MAX_PENDING
    }

    /// Something has come from the client.
    pub(super) fn heard(&mut self, now: Instant) {
        self.beat.heard(now);
        self.pinged = None;
    }

    // ---- what comes -------------------------------------------------------------------------

    /// Takes a message.
    pub(super) fn on_frame(
        &mut self,
        worker: &mut Worker,
        frame: &Frame<'_>,
        task: &Waker,
        work: &mut Work,
        now: Instant,
    ) -> Result<Flow, Ending> {
        if frame.code.is_signal() {
            self.on_signal(frame)?;
        } else if frame.code.is_request() {
            return Ok(self.on_request(worker, frame, task, work, now));
        } else if frame.code != Code::EMPTY {
            // An answer to nothing, or a code of the future. An empty message keeps a connection open (RFC 8323
            // section 3.4).
            self.endpoint.metrics.ignored.add(1);
        }
        Ok(Flow::Next)
    }

    fn on_signal(&mut self, frame: &Frame<'_>) -> Result<(), Ending> {
        match Signal::read(frame)? {
            Signal::Csm(csm) => self.limits.learn(csm),
            Signal::Ping { custody: true } if !self.pending.is_empty() => {
                self.pending
                    .push(Waiting::Pong(frame.token), Ticket::ready());
            }
            Signal::Ping { custody } => Signal::Pong { custody }.write(frame.token, &mut self.out),
            // It was heard, which is all that it says.
            Signal::Pong { .. } => {}
            Signal::Release(_) => self.leaving = Some(Leaving::Client),
            Signal::Abort { why, .. } => return Err(Ending::Aborted(why.to_owned())),
        }
        Ok(())
    }

    fn on_request(
        &mut self,
        worker: &mut Worker,
        frame: &Frame<'_>,
        task: &Waker,
        work: &mut Work,
        now: Instant,
    ) -> Flow {
        let mut topic = std::mem::take(&mut work.topic);
        let mut exchange = Exchange {
            token: frame.token,
            no_response: 0,
            block2: None,
        };
        let mut flow = Flow::Next;
        match Request::read_frame(frame, &mut topic) {
            Ok(request) => {
                exchange.no_response = request.no_response;
                exchange.block2 = request.block2;
                match self.log_in(&request, now) {
                    Ok(Some(client)) => {
                        let asked = Asked {
                            exchange,
                            request: &request,
                            topic: &topic,
                            client: &client,
                        };
                        self.handle(worker, &asked, task, &mut work.body, now);
                    }
                    Ok(None) => flow = Flow::Wait,
                    Err(refusal) => self.answer(&exchange, refusal, &mut work.body),
                }
            }
            Err(refusal) => self.answer(&exchange, refusal, &mut work.body),
        }
        if flow == Flow::Next {
            self.endpoint.metrics.requests.add(1);
        }
        work.topic = topic;
        flow
    }

    // ---- access -----------------------------------------------------------------------------

    /// Who asks; `None`: that is being found out.
    fn log_in(
        &mut self,
        request: &Request<'_>,
        now: Instant,
    ) -> Result<Option<ClientId>, Response> {
        let known = self.identity.as_ref();
        match known.and_then(|known| known.answers(&request.query, now)) {
            Some(Ok(client)) => Ok(Some(client)),
            Some(Err(denial)) => Err(denied(denial)),
            None => {
                let longest = self.endpoint.settings.max_client_id_bytes;
                let proved = self.peer.certificate_name.clone();
                let proved = proved.map(Proved::Certificate);
                let login = Login::of(&request.query, self.peer.address, proved.as_ref(), longest)?;
                let decision = login.ask(&self.endpoint.bus, self.peer.address);
                self.asking = Some(Box::new(Asking { login, decision }));
                Ok(None)
            }
        }
    }

    // ---- notifications ----------------------------------------------------------------------

    /// Appends notifications as long as there is room.
    pub(super) fn notify(&mut self, out: &mut Vec<u8>, scratch: &mut Vec<u8>, now: Instant) {
        let Some(observing) = &mut self.observing else {
            return;
        };
        let Endpoint { bus, metrics, .. } = &*self.endpoint;
        while out.len() < MAX_UNSENT {
            let Some((place, message)) = observing.next(now) else {
                break;
            };
            if message.is_expired(bus.now()) {
                bus.count_dropped(DropReason::Expired, 1);
                continue;
            }
            let Some(watch) = observing.watch(place) else {
                continue;
            };
            let mut response = Response::content(&message);
            response.observe = Some(watch.next_number());
            response.max_age = Some(topics::max_age(bus, &message).unwrap_or(FOR_EVER));
            response.names_topic = watch.has_wildcard();
            let start = out.len();
            self.limits
                .write(watch.token, &mut response, None, out, scratch);
            let is_parted = response.block2.is_some();
            if is_parted {
                // What the rest belongs to.
                out.truncate(start);
                response.etag = Some(topics::tag(&message));
                response.block2 = None;
                self.limits
                    .write(watch.token, &mut response, None, out, scratch);
            }
            if !response.code.is_success() {
                // Its topic and options alone are more than the client takes. An error would end the observation (RFC
                // 7641 section 3.2), and with it what does fit.
                out.truncate(start);
                bus.count_dropped(DropReason::PacketTooLarge, 1);
                continue;
            }
            let len = message.as_message().payload.len();
            watch.told_in_part(is_parted.then_some(message), now);
            let counters = bus.counters();
            counters.messages_sent[usize::from(watch.qos.is_acknowledged())].add(1);
            counters.payload_bytes_sent.add(len as u64);
            metrics.notifications[2].add(1);
        }
    }

    // ---- answers ----------------------------------------------------------------------------

    /// Answers a request when what it has published is kept.
    pub(super) fn answer_after(
        &mut self,
        exchange: &Exchange,
        published: Result<Ticket, Response>,
        code: Code,
        block1: Option<Block>,
        scratch: &mut Vec<u8>,
    ) {
        let response = match published {
            Ok(ticket) => {
                let response = Response {
                    block1,
                    ..Response::new(code)
                };
                match ticket.result() {
                    Some(Ok(())) => response,
                    Some(Err(_)) => topics::not_kept(&response),
                    None => {
                        let waiting = Waiting::Answer {
                            token: exchange.token,
                            no_response: exchange.no_response,
                            code,
                            block1,
                        };
                        return self.pending.push(waiting, ticket);
                    }
                }
            }
            Err(refusal) => Response { block1, ..refusal },
        };
        self.answer(exchange, response, scratch);
    }

    pub(super) fn answer(
        &mut self,
        exchange: &Exchange,
        response: Response,
        scratch: &mut Vec<u8>,
    ) {
        self.answer_with(exchange, response, scratch);
    }

    /// As [`Self::answer`]; tells what it has become, which may be a part, or no more than that it does not fit.
    pub(super) fn answer_with(
        &mut self,
        exchange: &Exchange,
        mut response: Response,
        scratch: &mut Vec<u8>,
    ) -> Response {
        if response.is_unwanted(exchange.no_response) {
            return response;
        }
        self.endpoint.metrics.answered(response.code);
        let Exchange { token, block2, .. } = *exchange;
        self.limits
            .write(token, &mut response, block2, &mut self.out, scratch);
        response
    }

    // ---- what comes from elsewhere ----------------------------------------------------------

    /// Takes access decisions, what the store has kept, the time, and the end.
    pub(super) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), Ending> {
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(decision) = asking.decision.as_mut().poll(cx)
            && let Some(asking) = self.asking.take()
        {
            self.identity = Some(Box::new(Known::new(asking.login, decision, now)));
        }
        while let Some((waiting, result)) = self.pending.next(cx.waker()) {
            match waiting {
                Waiting::Pong(token) => {
                    Signal::Pong { custody: true }.write(token, &mut self.out);
                }
                Waiting::Answer {
                    token,
                    no_response,
                    code,
                    block1,
                } => {
                    let mut response = Response {
                        block1,
                        ..Response::new(code)
                    };
                    if result.is_err() {
                        response = topics::not_kept(&response);
                    }
                    let exchange = Exchange {
                        token,
                        no_response,
                        block2: None,
                    };
                    self.answer(&exchange, response, scratch);
                }
            }
        }
        if self.leaving.is_none() && self.beat.is_closing() {
            self.say_goodbye(scratch);
        }
        self.expire(now);
        self.look_for_client(now)
    }

    /// Observers hear that they are observers no more (RFC 7641 section 3.2: a notification with an error is the last),
    /// and the client that the gateway leaves.
    fn say_goodbye(&mut self, scratch: &mut Vec<u8>) {
        self.leaving = Some(Leaving::Gateway);
        if let Some(observing) = self.observing.take() {
            for token in observing.tokens() {
                let why = "the gateway shuts down";
                let mut goodbye = Response::later(Code::SERVICE_UNAVAILABLE, 5, why);
                self.limits
                    .write(token, &mut goodbye, None, &mut self.out, scratch);
            }
        }
        release(None, &mut self.out);
    }

    fn expire(&mut self, now: Instant) {
        let mut waits = false;
        if let Some(transfers) = &mut self.transfers {
            let before = transfers.len();
            transfers.expire(now);
            let metrics = &self.endpoint.metrics;
            metrics
                .transfers
                .give_back((before - transfers.len()) as u64);
            waits = true;
        }
        if let Some(observing) = &mut self.observing {
            observing.expire(now);
            waits |= observing.waits();
        }
        self.beat.set_waits(waits);
    }

    /// Asks a client that says nothing whether it is there (RFC 8323 section 5.4), and leaves when it is not.
    fn look_for_client(&mut self, now: Instant) -> Result<(), Ending> {
        let settings = &self.endpoint.settings;
        if !self.takes_requests() || self.beat.silence(now) < settings.ping_interval {
            // What is not read cannot be heard.
            return Ok(());
        }
        match self.pinged {
            None => {
                self.pinged = Some(now);
                Signal::Ping { custody: false }.write(Token::default(), &mut self.out);
            }
            Some(at) if at + settings.ping_timeout <= now => {
                return Err(Ending::Silent("no pong came in time"));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// How the connection ends, when nothing is left to be waited for.
    pub(super) fn is_done(&self) -> Option<Ending> {
        let leaving = self.leaving.filter(|_| self.pending.is_empty())?;
        Some(match leaving {
            Leaving::Client => Ending::Released,
            Leaving::Gateway => Ending::ShutDown,
        })
    }

    /// Nobody is told anything any more.
    pub(super) fn end(&mut self) {
        self.observing = None;
        if let Some(transfers) = self.transfers.take() {
            let metrics = &self.endpoint.metrics;
            metrics.transfers.give_back(transfers.len() as u64);
        }
    }
}

impl Drop for Protocol {
    fn drop(&mut self) {
        self.end();
    }
}

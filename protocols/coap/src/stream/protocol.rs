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
use crate::client_session::{Claiming, not_kept, taken_over};
use crate::codec::{Block, Code, Frame, Signal, Token};
use crate::identity::{Known, Login, denied};
use crate::request::Request;
use crate::response::Response;
use crate::sessions::Proved;
use crate::settings::Settings;
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

/// What the next message waits for; it is handed in again then.
pub(super) enum Asking {
    /// An access decision.
    Access {
        login: Login,
        decision: Pin<Box<dyn Future<Output = Result<(), Denial>> + Send>>,
    },
    /// The session of its client.
    Session {
        client: ClientId,
        expiry: u32,
        claim: Claiming,
    },
    /// That the subscription is kept that it asks for.
    Kept { client: ClientId, ticket: Ticket },
    /// That the end of a subscription is kept.
    Ended(Ticket),
    /// Nothing more: it is refused.
    Refused(Response),
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
    pub(super) asking: Option<Box<Asking>>,
    pending: Pending,
    pub(super) transfers: Option<Box<Transfers<()>>>,
    pub(super) observing: Option<Box<Observing>>,
    /// When the client was asked whether it is there.
    pinged: Option<Instant>,
    /// Such pings that have no pong. Their token is empty.
    unanswered: u16,
    /// Pings that have asked whether notifications have come. The token of each is its number.
    custody: u32,
    /// When the last of those was sent, if it has no pong; until then there is no other.
    asked: Option<Instant>,
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
            unanswered: 0,
            custody: 0,
            asked: None,
            leaving: None,
        }
    }

    /// Where the client is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.peer.address
    }

    /// Whether it has shown a certificate.
    pub(super) const fn has_certificate(&self) -> bool {
        self.peer.certificate_name.is_some()
    }

    /// Whether the next message may be handed in.
    pub(super) fn takes_requests(&self) -> bool {
        let asks = |asking: &Asking| !matches!(asking, Asking::Refused(_));
        !self.asking.as_deref().is_some_and(asks)
            && self.leaving.is_none()
            && self.pending.len() < MAX_PENDING
    }

    /// Something has come from the client.
    pub(super) fn heard(&mut self, now: Instant) {
        self.beat.heard(now);
        self.pinged = None;
    }

    /// The client has taken what it had not taken before: that is a sign of life, too.
    pub(super) fn reads(&mut self, now: Instant) {
        self.heard(now);
        if self.asked.is_some() {
            // It may not have come to the ping yet.
            self.asked = Some(now);
        }
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
            Signal::Pong { custody } => self.on_pong(frame.token, custody),
            Signal::Release(_) => self.leaving = Some(Leaving::Client),
            Signal::Abort { why, .. } => return Err(Ending::Aborted(why.to_owned())),
        }
        Ok(())
    }

    /// What went before a ping that has asked for Custody has been dealt with, once that is answered. Any other pong was
    /// heard, and says nothing else.
    fn on_pong(&mut self, token: Token, custody: bool) {
        if token == Token::default() {
            if let Some(others) = self.unanswered.checked_sub(1) {
                self.unanswered = others;
                return;
            }
            if !custody {
                return;
            }
            // libcoap (4.3) copies no token, and says Custody always. It answers in the order in which it was asked.
        } else if token != custody_token(self.custody) {
            return;
        }
        if self.asked.take().is_none() {
            return;
        }
        let seats = self.observing.as_mut().and_then(|it| it.seats.as_mut());
        if let Some(seats) = seats {
            seats.acknowledged(&self.endpoint.bus);
        }
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
                        flow = self.handle(worker, &asked, task, &mut work.body, now);
                    }
                    Ok(None) => flow = Flow::Wait,
                    Err(refusal) => self.answer(&exchange, refusal, &mut work.body),
                }
            }
            Err(refusal) => self.answer(&exchange, refusal, &mut work.body),
        }
        if flow == Flow::Next {
            // A refusal was of this request.
            self.asking = None;
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
                self.asking = Some(Box::new(Asking::Access { login, decision }));
                Ok(None)
            }
        }
    }

    // ---- notifications ----------------------------------------------------------------------

    /// Appends notifications as long as there is room, and the ping that asks whether they have come.
    pub(super) fn notify(&mut self, out: &mut Vec<u8>, scratch: &mut Vec<u8>, now: Instant) {
        let Some(observing) = &mut self.observing else {
            return;
        };
        let Endpoint { bus, metrics, .. } = &*self.endpoint;
        while out.len() < MAX_UNSENT {
            let Some((place, told)) = observing.next(now) else {
                break;
            };
            if told.message.is_expired(bus.now()) {
                bus.count_dropped(DropReason::Expired, 1);
                observing.passed_over(place, &told);
                continue;
            }
            let Some(watch) = observing.watch(place) else {
                continue;
            };
            let message = &told.message;
            let mut response = Response::content(message);
            response.observe = Some(watch.next_number());
            response.max_age = Some(topics::max_age(bus, message).unwrap_or(FOR_EVER));
            response.names_topic = watch.has_wildcard();
            let start = out.len();
            self.limits
                .write(watch.token, &mut response, None, out, scratch);
            let is_parted = response.block2.is_some();
            if is_parted {
                // What the rest belongs to.
                out.truncate(start);
                response.etag = Some(topics::tag(message));
                response.block2 = None;
                self.limits
                    .write(watch.token, &mut response, None, out, scratch);
            }
            if !response.code.is_success() {
                // Its topic and options alone are more than the client takes. An error would end the observation (RFC
                // 7641 section 3.2), and with it what does fit.
                out.truncate(start);
                bus.count_dropped(DropReason::PacketTooLarge, 1);
                observing.passed_over(place, &told);
                continue;
            }
            if watch.member.is_none() {
                // What is of a session was counted when it was taken from there.
                let counters = bus.counters();
                counters.messages_sent[usize::from(watch.qos.is_acknowledged())].add(1);
                let len = message.as_message().payload.len();
                counters.payload_bytes_sent.add(len as u64);
            }
            metrics.notifications[2].add(1);
            observing.told(place, told, is_parted, now);
        }
        if self.asked.is_none()
            && let Some(seats) = &mut observing.seats
            && seats.is_to_ask()
        {
            seats.ask();
            self.asked = Some(now);
            self.custody = self.custody.wrapping_add(1);
            Signal::Ping { custody: true }.write(custody_token(self.custody), out);
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
        self.look_at_sessions(scratch, now);
        self.look_at_what_is_asked(cx, now);
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
            self.say_goodbye(scratch, now);
        }
        self.expire(now);
        self.look_for_client(now)
    }

    /// Sees whether what the next message waits for is there.
    fn look_at_what_is_asked(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(mut asking) = self.asking.take() else {
            return;
        };
        self.asking = match &mut *asking {
            Asking::Access { login, decision } => match decision.as_mut().poll(cx) {
                Poll::Pending => Some(asking),
                Poll::Ready(decision) => {
                    self.identity = Some(Box::new(Known::new(login.clone(), decision, now)));
                    None
                }
            },
            Asking::Session {
                client,
                expiry,
                claim,
            } => match claim.as_mut().poll(cx) {
                Poll::Pending => Some(asking),
                Poll::Ready(claim) => self
                    .take_seat(client, *expiry, claim, cx.waker(), now)
                    .err()
                    .map(|refusal| Box::new(Asking::Refused(refusal))),
            },
            Asking::Kept { ticket, .. } | Asking::Ended(ticket) => match ticket.poll(cx.waker()) {
                Poll::Pending => Some(asking),
                Poll::Ready(Ok(())) => None,
                Poll::Ready(Err(_)) => Some(Box::new(Asking::Refused(not_kept()))),
            },
            Asking::Refused(_) => Some(asking),
        };
    }

    /// Takes from the sessions what may be under way; who has lost one hears it.
    fn look_at_sessions(&mut self, scratch: &mut Vec<u8>, now: Instant) {
        let Some(observing) = &mut self.observing else {
            return;
        };
        if observing.seats.is_none() {
            return;
        }
        for token in observing.draw(now) {
            let mut goodbye = taken_over();
            self.limits
                .write(token, &mut goodbye, None, &mut self.out, scratch);
        }
        if let Some(Asking::Kept { client, .. }) = self.asking.as_deref()
            && let Some(seats) = &observing.seats
            && seats.of(client).is_none()
        {
            // Two that take it from each other would go on for ever.
            self.asking = Some(Box::new(Asking::Refused(taken_over())));
        }
    }

    /// Observers hear that they are observers no more (RFC 7641 section 3.2: a notification with an error is the last),
    /// and the client that the gateway leaves.
    fn say_goodbye(&mut self, scratch: &mut Vec<u8>, now: Instant) {
        self.leaving = Some(Leaving::Gateway);
        if let Some(observing) = &mut self.observing {
            for token in observing.tokens() {
                let why = "the gateway shuts down";
                let mut goodbye = Response::later(Code::SERVICE_UNAVAILABLE, 5, why);
                self.limits
                    .write(token, &mut goodbye, None, &mut self.out, scratch);
            }
            observing.end(now);
        }
        release(None, &mut self.out);
    }

    fn expire(&mut self, now: Instant) {
        let mut waits = self.asked.is_some();
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
            // What there is room for is drawn at the next look.
            waits |= observing.expire(now);
            waits |= observing.waits();
            // What is still to be written may be of a session.
            if observing.is_empty() && self.leaving.is_none() {
                self.observing = None;
            }
        }
        self.beat.set_waits(waits);
    }

    /// Asks a client that says nothing whether it is there (RFC 8323 section 5.4), and leaves when it is not.
    fn look_for_client(&mut self, now: Instant) -> Result<(), Ending> {
        let Settings {
            ping_interval,
            ping_timeout,
            ..
        } = self.endpoint.settings;
        if !self.takes_requests() {
            // What is not read cannot be heard.
            return Ok(());
        }
        let silent = Ending::Silent("no pong came in time");
        if let Some(asked) = self.asked
            && asked + ping_interval + ping_timeout <= now
        {
            // It may say whatever it likes: what it was told is not acknowledged, and cannot be.
            return Err(silent);
        }
        if self.beat.silence(now) < ping_interval {
            return Ok(());
        }
        match self.pinged {
            None => {
                self.pinged = Some(now);
                self.unanswered = self.unanswered.saturating_add(1);
                Signal::Ping { custody: false }.write(Token::default(), &mut self.out);
            }
            Some(at) if at + ping_timeout <= now => return Err(silent),
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

    /// The tokens of observers whose session still has what they were told.
    pub(super) fn tokens_of_sessions(&self) -> Vec<Token> {
        let observing = self.observing.as_ref();
        observing.map_or_else(Vec::new, |observing| observing.tokens_of_sessions())
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

/// The token of the ping with this number that has asked for Custody.
fn custody_token(number: u32) -> Token {
    // Four bytes are a token.
    Token::new(&number.to_be_bytes()).unwrap_or_default()
}

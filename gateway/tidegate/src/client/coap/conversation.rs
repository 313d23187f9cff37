//! A client of topics, without a socket: requests one after the other, and observations beside them.
//!
//! It knows what is asked for and what it is told; [`Carrier`] knows how messages travel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_coap::codec::{Code, Token, number};

use super::arrival::{Arrival, GaveUp};
use super::call::{Call, Step};
use super::carrier::Carrier;
use super::chance::Chance;
use super::draft::Draft;
use super::observation::{Observation, Promise, Stand};
use super::response::Response;
use super::status::Status;
use crate::client::error::ClientError;

/// What happened. `usize` is the place of an observation, in the order in which they were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// What was published last was answered.
    Answered(Response),
    /// The gateway tells from now on what happens.
    Observed(usize),
    /// It refuses to, or will no longer.
    Over(usize, Status),
    /// A message; with `true` it was there before.
    Message(usize, Response, bool),
    /// A message came, and the rest of it could not be had.
    Incomplete(usize, Status),
    /// Nothing can be asked until then.
    Exhausted(Instant),
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Publish,
    Register(usize),
    /// The rest of the answer to a registration that stands.
    First(usize),
    /// The rest of a notification.
    Rest(usize),
    Leave(usize),
}

/// The state of one client.
#[derive(Debug)]
pub(super) struct Conversation {
    carrier: Carrier,
    chance: Chance,
    waiting: VecDeque<(Purpose, Call)>,
    current: Option<Current>,
    observations: Vec<Observation>,
    events: VecDeque<Event>,
    /// When anything came last.
    heard: Instant,
    /// After so long without anything the gateway is asked whether it is there; zero is never.
    keep_alive: Duration,
    pinged: bool,
    /// Whether a gateway that has forgotten what is observed answers as before: then a registration asks, and no ping.
    is_forgetful: bool,
    exhausted: bool,
    deaf: bool,
}

#[derive(Debug)]
struct Current {
    purpose: Purpose,
    call: Call,
    token: Token,
}

impl Conversation {
    pub(super) fn new(
        carrier: Carrier,
        keep_alive: Duration,
        is_forgetful: bool,
        now: Instant,
    ) -> Self {
        Self {
            carrier,
            chance: Chance::new(),
            waiting: VecDeque::new(),
            current: None,
            observations: Vec::new(),
            events: VecDeque::new(),
            heard: now,
            keep_alive,
            pinged: false,
            is_forgetful,
            exhausted: false,
            deaf: false,
        }
    }

    // ---- what is asked for ------------------------------------------------------------------

    /// Publishes `body` as `request` says; answered with [`Event::Answered`].
    pub(super) fn publish(
        &mut self,
        request: Draft,
        body: Arc<[u8]>,
        now: Instant,
    ) -> Result<(), ClientError> {
        let call = Call::new(request, body, self.carrier.largest());
        self.waiting.push_back((Purpose::Publish, call));
        self.advance(now)
    }

    /// Observes `filter` with `request`, which asks for this promise.
    pub(super) fn observe(
        &mut self,
        filter: String,
        mut request: Draft,
        promise: Promise,
        now: Instant,
    ) -> Result<(), ClientError> {
        request.uint(number::OBSERVE, 0);
        let token = self.chance.token();
        let place = self.observations.len();
        self.observations
            .push(Observation::new(filter, request, promise, token));
        self.register(place);
        self.advance(now)
    }

    /// Observes nothing any more, and tells the gateway. Messages are no longer reported.
    pub(super) fn leave(&mut self, now: Instant) -> Result<(), ClientError> {
        self.deaf = true;
        self.events.clear();
        self.waiting.clear();
        for (place, observation) in self.observations.iter_mut().enumerate() {
            observation.refresh = None;
            if observation.stand == Stand::Over {
                continue;
            }
            let mut request = observation.request.clone();
            request.without(number::OBSERVE).uint(number::OBSERVE, 1);
            let call = Call::new(request, Arc::default(), self.carrier.largest());
            self.waiting.push_back((Purpose::Leave(place), call));
        }
        self.advance(now)
    }

    /// Whether the gateway has said what it has to say before it is asked anything.
    pub(super) const fn is_ready(&self) -> bool {
        self.carrier.is_ready()
    }

    /// Whether everything that was asked for is answered.
    pub(super) fn is_settled(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    fn register(&mut self, place: usize) {
        let observation = &mut self.observations[place];
        observation.refresh = None;
        let request = observation.request.clone();
        let call = Call::new(request, Arc::default(), self.carrier.largest());
        self.waiting.push_back((Purpose::Register(place), call));
    }

    /// Begins the next call when none is under way.
    fn advance(&mut self, now: Instant) -> Result<(), ClientError> {
        if self.current.is_some() || self.waiting.is_empty() {
            return Ok(());
        }
        if self.is_released() {
            return Err(ClientError::Closed);
        }
        if let Some(until) = self.carrier.exhausted_until(now) {
            if !self.exhausted {
                self.exhausted = true;
                self.events.push_back(Event::Exhausted(until));
            }
            return Ok(());
        }
        self.exhausted = false;
        let Some((purpose, call)) = self.waiting.pop_front() else {
            return Ok(());
        };
        let token = match purpose {
            Purpose::Register(place) | Purpose::Leave(place) => self.observations[place].token,
            _ => self.chance.token(),
        };
        self.send(purpose, call, token, now)
    }

    fn send(
        &mut self,
        purpose: Purpose,
        call: Call,
        token: Token,
        now: Instant,
    ) -> Result<(), ClientError> {
        let mut draft = call.next()?;
        draft.token = token;
        self.carrier.send(&draft, now);
        self.current = Some(Current {
            purpose,
            call,
            token,
        });
        Ok(())
    }

    // ---- what comes -------------------------------------------------------------------------

    /// Takes bytes from the gateway.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), ClientError> {
        self.carrier.feed(bytes);
        while let Some(arrival) = self.carrier.arrival(now)? {
            self.heard = now;
            match arrival {
                Arrival::Pong => self.pinged = false,
                Arrival::Reset(_) => {
                    let text = "it answered a request with Reset: it cannot read it";
                    return Err(ClientError::Protocol(text.to_owned()));
                }
                Arrival::Response(response) => self.take(response, now)?,
            }
        }
        self.advance(now)
    }

    /// Whether the gateway wants to end, what was under way is answered, and nothing more may be asked (RFC 8323
    /// section 5.5).
    fn is_released(&self) -> bool {
        self.carrier.is_released() && self.current.is_none()
    }

    fn take(&mut self, response: Response, now: Instant) -> Result<(), ClientError> {
        let answered = self
            .current
            .take_if(|current| current.token == response.token);
        let Some(Current {
            mut purpose,
            mut call,
            token,
        }) = answered
        else {
            return self.notified(response, now);
        };
        if let Purpose::Register(place) = purpose
            && self.observations[place].stand == Stand::Observed
            && self.observations[place].is_owed(&response)
        {
            // It is registered again, and this came in a message of its own: the answer, or a notification that is owed
            // and has overtaken it. Nothing tells one from the other, so it is handed on, once too often perhaps.
            return self.notified(response, now);
        }
        if let Purpose::Register(place) = purpose
            && response.code.is_success()
            && let Some(number) = response.observe
        {
            let observation = &mut self.observations[place];
            observation.stand = Stand::Observed;
            observation.order.forget();
            let topic = response.topic.as_deref().unwrap_or_default();
            observation.order.is_newer(topic, number, now);
            observation.told(&response, now, self.chance.next());
            purpose = Purpose::First(place);
        }
        let step = call.take(response)?;
        if let Purpose::Leave(place) = purpose
            && call.is_reading()
        {
            // Who leaves has no use for the rest of what is there.
            self.observations[place].stand = Stand::Over;
            self.forget(token);
            return Ok(());
        }
        match step {
            Step::Send => {
                // The token of an observation is that of its notifications; the rest of the first has another.
                let is_kept = matches!(purpose, Purpose::Register(_) | Purpose::Leave(_));
                let next = if is_kept { token } else { self.chance.token() };
                if next != token {
                    self.forget(token);
                }
                self.send(purpose, call, next, now)
            }
            Step::Done(response) => {
                self.done(purpose, response);
                self.forget(token);
                Ok(())
            }
            Step::Overtaken => {
                self.overtaken(purpose);
                self.forget(token);
                Ok(())
            }
        }
    }

    /// No more answers are waited for, unless it is the token of an observation.
    fn forget(&mut self, token: Token) {
        let mut observed = self.observations.iter();
        let is_kept = observed.any(|it| it.token == token && it.stand == Stand::Observed);
        if !is_kept {
            self.carrier.forget(token);
        }
    }

    /// A call is answered.
    fn done(&mut self, purpose: Purpose, response: Response) {
        match purpose {
            Purpose::Publish => self.events.push_back(Event::Answered(response)),
            Purpose::First(place) => {
                self.events.push_back(Event::Observed(place));
                let is_news = self.observations[place].is_news(&response);
                if response.code.is_success() && is_news {
                    self.message(place, response, true);
                }
            }
            // Refused, though it may have stood before.
            Purpose::Register(place) => {
                let observation = &mut self.observations[place];
                observation.stand = Stand::Over;
                observation.refresh = None;
                let status = if response.code.is_success() {
                    Status::new(response.code, "it is read, and not observed")
                } else {
                    Status::of(&response)
                };
                self.events.push_back(Event::Over(place, status));
            }
            Purpose::Rest(place) if response.code.is_success() => {
                self.message(place, response, false);
            }
            Purpose::Rest(place) => {
                let status = Status::of(&response);
                self.events.push_back(Event::Incomplete(place, status));
            }
            Purpose::Leave(place) => self.observations[place].stand = Stand::Over,
        }
    }

    /// A value has changed again and again while it was fetched. A server that observes tells the newest one by itself.
    fn overtaken(&mut self, purpose: Purpose) {
        let text = "it changes faster than its blocks can be fetched";
        let status = Status::new(Code::CONTENT, text);
        match purpose {
            Purpose::First(place) => {
                self.events.push_back(Event::Observed(place));
                self.events.push_back(Event::Incomplete(place, status));
            }
            Purpose::Rest(place) => self.events.push_back(Event::Incomplete(place, status)),
            Purpose::Register(place) => {
                self.observations[place].stand = Stand::Over;
                self.events.push_back(Event::Over(place, status));
            }
            // Neither reads.
            Purpose::Publish | Purpose::Leave(_) => {}
        }
    }

    /// What no request asked for: a notification.
    fn notified(&mut self, response: Response, now: Instant) -> Result<(), ClientError> {
        let mut all = self.observations.iter();
        let Some(place) = all.position(|it| it.token == response.token) else {
            return Ok(());
        };
        let observation = &mut self.observations[place];
        if observation.stand != Stand::Observed || self.deaf {
            return Ok(());
        }
        let Some(number) = response.observe.filter(|_| response.code.is_success()) else {
            // The last one (section 3.2).
            observation.stand = Stand::Over;
            observation.refresh = None;
            let token = observation.token;
            self.carrier.forget(token);
            let status = match response.code.is_success() {
                true => Status::new(response.code, "it is no longer observed"),
                false => Status::of(&response),
            };
            self.events.push_back(Event::Over(place, status));
            return Ok(());
        };
        let topic = response.topic.as_deref().unwrap_or_default();
        // An observer that is to get every message gets old ones too, one confirmable one after the other.
        let is_ordered = !self.carrier.may_reorder() || observation.is_owed(&response);
        if !is_ordered && !observation.order.is_newer(topic, number, now) {
            return Ok(());
        }
        observation.told(&response, now, self.chance.next());
        // What is not fetched yet of one before, nobody has any more.
        let before = self.waiting.len();
        self.waiting
            .retain(|(purpose, _)| *purpose != Purpose::Rest(place));
        let old = self
            .current
            .take_if(|current| current.purpose == Purpose::Rest(place));
        if let Some(old) = &old {
            self.carrier.forget(old.token);
        }
        let is_lost = old.is_some() || self.waiting.len() < before;
        if is_lost && self.observations[place].wants_every() {
            let text = "a newer one came before all of it was there";
            let status = Status::new(Code::CONTENT, text);
            self.events.push_back(Event::Incomplete(place, status));
        }
        match response.block2 {
            Some(part) if part.more && response.payload.len() >= part.size() => {
                let request = self.observations[place].request.clone();
                let call = Call::rest(request, response, part.szx);
                self.waiting.push_front((Purpose::Rest(place), call));
            }
            _ => self.message(place, response, false),
        }
        Ok(())
    }

    fn message(&mut self, place: usize, response: Response, is_first: bool) {
        if !self.deaf {
            self.observations[place].remember(&response);
            let event = Event::Message(place, response, is_first);
            self.events.push_back(event);
        }
    }

    // ---- time -------------------------------------------------------------------------------

    /// When an observation is to be registered again. Over a stream it lives as long as the stream, and a notification
    /// could not be told from the answer: where every one is to be told it is left as it is.
    fn refresh_of(&self, place: usize) -> Option<Instant> {
        let observation = &self.observations[place];
        let is_safe = self.carrier.may_reorder() || !observation.wants_every();
        observation.refresh.filter(|_| is_safe)
    }

    /// When something must be done although nothing happens.
    pub(super) fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.is_released() {
            return Some(now);
        }
        let places = 0..self.observations.len();
        let refresh = places.filter_map(|place| self.refresh_of(place)).min();
        let is_idle = self.is_settled() && !self.pinged && !self.keep_alive.is_zero();
        let ping = is_idle.then(|| self.heard + self.keep_alive);
        let resume = match self.current {
            None if !self.waiting.is_empty() => self.carrier.exhausted_until(now),
            _ => None,
        };
        refresh
            .into_iter()
            .chain(ping)
            .chain(resume)
            .chain(self.carrier.due())
            .min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        if self.is_released() {
            return Err(ClientError::Closed);
        }
        self.carrier
            .handle_timeout(now)
            .map_err(|what| match what {
                GaveUp::Request => ClientError::Silent("a request"),
                GaveUp::Ping => ClientError::Silent("a ping"),
            })?;
        for place in 0..self.observations.len() {
            if self.refresh_of(place).is_some_and(|at| at <= now) {
                self.register(place);
            }
        }
        let is_silent = !self.keep_alive.is_zero() && self.heard + self.keep_alive <= now;
        if is_silent && self.is_settled() && !self.pinged {
            self.ask(now);
        }
        self.advance(now)
    }

    /// Asks whether the gateway is there, and whether it knows what is observed.
    fn ask(&mut self, now: Instant) {
        let mut asked = false;
        for place in 0..self.observations.len() {
            if self.is_forgetful && self.observations[place].may_be_renewed() {
                self.register(place);
                asked = true;
            }
        }
        if !asked {
            self.pinged = true;
            self.carrier.ping(now);
        }
    }

    /// The next thing that happened.
    pub(super) fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next bytes for the gateway: a datagram where there are datagrams.
    pub(super) fn output(&mut self) -> Option<Vec<u8>> {
        if self.events.is_empty() {
            self.carrier.processed();
        }
        self.carrier.output()
    }

    /// The filter of an observation.
    pub(super) fn filter(&self, place: usize) -> &str {
        &self.observations[place].filter
    }

    /// The last word to the gateway, where there is one.
    pub(super) fn goodbye(&mut self) {
        self.carrier.goodbye();
    }
}

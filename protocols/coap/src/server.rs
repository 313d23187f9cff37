//! A server of CoAP over datagrams, without a socket and without a clock: datagrams and the time go in, datagrams come
//! out (RFC 7252 section 4).
//!
//! Who asks and is answered at once costs nothing afterwards but a place in the table of [`Duplicates`]. A [`Peer`]
//! is kept for who observes, and for who is owed an answer that could not be given at once.
//!
//! Three things come from elsewhere: messages of the bus ([`Ready`]), tickets of the store and access decisions,
//! which wake the listener; see [`Server::wake`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;
use tidegate_bus::{Attachment, Bus, ClientId, Worker};

use crate::answers::{Exchange, Pending};
use crate::client_session::Attached;
use crate::codec::{Code, Kind, Message, ParseError, Writer};
use crate::duplicates::{Answer, Duplicates, Seen};
use crate::echo::EchoKey;
use crate::identity::Identities;
use crate::metrics::{Cancel, Metrics};
use crate::outgoing::{Outgoing, Path};
use crate::peer::Peer;
use crate::peers::Peers;
use crate::postponed::{Asked, Reason};
use crate::ready::Ready;
use crate::request::Request;
use crate::response::Response;
use crate::sessions::{Proved, Sessions};
use crate::settings::{Settings, Unverified};
use crate::transfers::Transfers;
use crate::watch::Watch;

/// How often what is kept for nobody is looked for.
const TICK: Duration = Duration::from_secs(5);

/// How long an endpoint is kept that nothing else is kept for.
const REST: Duration = Duration::from_secs(60);

/// The server side of one listener.
pub struct Server {
    pub(crate) bus: Arc<Bus>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: Arc<Ready>,
    pub(crate) waker: Waker,
    pub(crate) peers: Peers,
    pub(crate) sessions: Sessions,
    /// Endpoints that have not proved that they receive.
    unverified: usize,
    /// In boxes, too.
    pub(crate) watches: Slab<Box<Watch>>,
    pub(crate) client_sessions: Slab<Attached>,
    /// Of several sessions of one client the newest.
    pub(crate) client_sessions_by_id: HashMap<ClientId, usize>,
    /// Those that are given back, and whether they end.
    pub(crate) leaving: Vec<(Attachment, Option<u32>)>,
    pub(crate) duplicates: Duplicates,
    pub(crate) transfers: Transfers<SocketAddr>,
    pub(crate) identities: Identities,
    timers: BTreeSet<(Instant, usize)>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) asked: Vec<Asked>,
    hasher: RandomState,
    pub(crate) echo: EchoKey,
    next_tick: Instant,
    pub(crate) random: Random,
    /// The topic of the request at hand.
    topic: String,
    pub(crate) scratch: Vec<u8>,
    awake: Vec<usize>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("peers", &self.peers.len())
            .field("observations", &self.watches.len())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server for the topics of `bus`.
    #[must_use]
    pub fn new(bus: Arc<Bus>, settings: Settings, metrics: Arc<Metrics>, now: Instant) -> Self {
        let ready = Arc::new(Ready::default());
        Self {
            waker: Waker::from(Arc::clone(&ready)),
            ready,
            peers: Peers::default(),
            sessions: Sessions::default(),
            unverified: 0,
            watches: Slab::new(),
            client_sessions: Slab::new(),
            client_sessions_by_id: HashMap::new(),
            leaving: Vec::new(),
            duplicates: Duplicates::new(settings.max_exchanges),
            transfers: Transfers::new(
                bus.memory(),
                settings.max_transfers,
                settings.max_transfers_per_endpoint,
                settings.max_body_bytes,
            ),
            // Of one more the oldest decision is asked for again: who forges addresses takes no more memory than this.
            identities: Identities::new(settings.max_exchanges),
            timers: BTreeSet::new(),
            pending: VecDeque::new(),
            asked: Vec::new(),
            hasher: RandomState::new(),
            echo: EchoKey::new(now),
            next_tick: now + TICK,
            random: Random::new(),
            topic: String::new(),
            scratch: Vec::new(),
            awake: Vec::new(),
            bus,
            settings,
            metrics,
        }
    }

    /// What names bodies that come in blocks: nobody outside can make two of them the same.
    pub(crate) const fn transfers_hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// What wakes the task that serves the listener: then [`Self::wake`] is due.
    #[must_use]
    pub fn ready(&self) -> Arc<Ready> {
        Arc::clone(&self.ready)
    }

    // ---- what comes -------------------------------------------------------------------------

    /// Takes a datagram.
    pub fn receive(
        &mut self,
        worker: &mut Worker,
        path: Path,
        datagram: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) {
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(ParseError::Format {
                kind: Kind::Confirmable,
                id,
                ..
            }) => {
                return self.reject(path, id, out);
            }
            Err(_) => return self.metrics.ignored.add(1),
        };
        if let Some(peer) = self.peers.at(path.remote) {
            let peer = &mut self.peers[peer];
            peer.earn(datagram.len());
            peer.heard = now;
            // Notifications go to where the endpoint speaks to.
            peer.path = path;
        }
        match message.kind {
            Kind::Acknowledgement => self.acknowledged(path, message.id, now, out),
            Kind::Reset => self.reset(path, message.id, now, out),
            _ if message.code.is_request() => {
                self.request(worker, path, &message, datagram, now, out);
            }
            // A ping (section 4.3), a response to nothing, a code of the future.
            Kind::Confirmable => self.reject(path, message.id, out),
            Kind::NonConfirmable => self.metrics.ignored.add(1),
        }
    }

    /// Says that a message is of no use here (section 4.2).
    fn reject(&mut self, path: Path, id: u16, out: &mut Outgoing) {
        self.metrics.rejected.add(1);
        self.send_empty(path, Kind::Reset, id, out);
    }

    fn send_empty(&mut self, path: Path, kind: Kind, id: u16, out: &mut Outgoing) {
        let start = out.bytes.len();
        Writer::empty(&mut out.bytes, kind, id);
        self.sent(path, out.bytes.len() - start);
        out.finish(path, start);
    }

    fn request(
        &mut self,
        worker: &mut Worker,
        path: Path,
        message: &Message<'_>,
        datagram: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) {
        let mut exchange = Exchange {
            path,
            kind: message.kind,
            id: message.id,
            token: message.token,
            no_response: 0,
            block2: None,
            len: datagram.len(),
        };
        // To ask twice changes nothing (section 4.5).
        if message.code != Code::GET {
            match self.duplicates.begin(
                self.sessions.endpoint(path.remote),
                message.id,
                message.kind,
                now,
            ) {
                Seen::New => {}
                Seen::Before(answer) => {
                    self.metrics.duplicates.add(1);
                    // Who repeats a part of a request, under somebody's address, draws no whole answer.
                    let peer = self.peer_at(path.remote);
                    let limit = peer.map_or(datagram.len() * 3, |peer| self.peers[peer].limit());
                    let may = |answer: &Answer| {
                        let is_free = self.settings.unverified == Unverified::All;
                        message.kind == Kind::Confirmable && (is_free || answer.len() <= limit)
                    };
                    if let Some(answer) = answer.filter(may) {
                        let start = out.bytes.len();
                        out.bytes.extend_from_slice(&answer);
                        self.sent(path, answer.len());
                        out.finish(path, start);
                    }
                    return;
                }
                Seen::Full => {
                    self.metrics.full.add(1);
                    let why = "as many requests are remembered as may be";
                    let refusal = Response::later(Code::SERVICE_UNAVAILABLE, 30, why);
                    return self.answer(&exchange, refusal, now, out);
                }
            }
        }
        if self.is_postponed(path.remote, message.id) {
            // It is repeated while it waits, and answered once.
            return self.metrics.duplicates.add(1);
        }
        self.metrics.requests.add(1);
        self.serve(worker, &mut exchange, message, datagram, now, out);
    }

    /// Serves a request that was not here before.
    pub(crate) fn serve(
        &mut self,
        worker: &mut Worker,
        exchange: &mut Exchange,
        message: &Message<'_>,
        datagram: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) {
        let mut topic = std::mem::take(&mut self.topic);
        match Request::read(message, &mut topic) {
            Ok(request) => {
                exchange.no_response = request.no_response;
                exchange.block2 = request.block2;
                let remote = exchange.path.remote;
                if request
                    .echo
                    .is_some_and(|value| self.echo.is_good(value, remote, now))
                {
                    self.verify(exchange.path, now);
                }
                let login = match self.log_in(&request, remote, now) {
                    Err(Ok(login)) => self.decide_at_once(&request, login, remote),
                    known => known.map_err(|refused| refused.map(|login| (login, None))),
                };
                match login {
                    Ok(client) => {
                        let wait =
                            self.handle(worker, exchange, &request, &topic, &client, now, out);
                        if let Some(wait) = wait {
                            let reason = Reason::Session(wait);
                            self.postpone(exchange, reason, datagram, now, out);
                        }
                    }
                    Err(Ok((login, decision))) => {
                        let decision = decision.unwrap_or_else(|| login.ask(&self.bus, remote));
                        let reason = Reason::Access { login, decision };
                        self.postpone(exchange, reason, datagram, now, out);
                    }
                    Err(Err(refusal)) => self.answer(exchange, refusal, now, out),
                }
            }
            Err(refusal) => {
                if refusal.code == Code::BAD_OPTION && exchange.kind == Kind::NonConfirmable {
                    // RFC 7252 section 5.4.1
                    self.reject(exchange.path, exchange.id, out);
                } else {
                    self.answer(exchange, refusal, now, out);
                }
            }
        }
        self.topic = topic;
    }

    // ---- endpoints --------------------------------------------------------------------------

    /// The endpoint, from now on kept; `None` when there are as many as may be. `len`: bytes of what it has sent.
    pub(crate) fn peer(&mut self, path: Path, len: usize, now: Instant) -> Option<usize> {
        if let Some(peer) = self.peers.at(path.remote) {
            return Some(peer);
        }
        // Who forges addresses does not take all the places.
        let unverified = self.settings.max_endpoints.div_ceil(8);
        let verified = self.sessions.has(path.remote);
        let is_full = self.peers.len() >= self.settings.max_endpoints;
        if is_full || (!verified && self.unverified >= unverified) {
            return None;
        }
        self.unverified += usize::from(!verified);
        let first_id = self.random.next() as u16;
        let mut peer = Peer::new(path, first_id, now);
        peer.verified = verified;
        peer.earn(len);
        let peer = self.peers.insert(peer);
        self.schedule(peer, Some(now + REST));
        Some(peer)
    }

    /// So much was sent to an address.
    pub(crate) fn sent(&mut self, path: Path, bytes: usize) {
        if let Some(peer) = self.peer_at(path.remote) {
            self.peers[peer].spend(bytes);
        }
    }

    /// The endpoint at an address.
    pub(crate) fn peer_at(&self, address: SocketAddr) -> Option<usize> {
        self.peers.at(address)
    }

    /// The endpoint has shown that it receives.
    fn verify(&mut self, path: Path, now: Instant) {
        if let Some(peer) = self.peer(path, 0, now) {
            self.prove(peer);
        }
    }

    /// As [`Self::verify`], for one that is kept.
    pub(crate) fn prove(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        if !std::mem::replace(&mut peer.verified, true) {
            self.unverified -= 1;
            if !self.asked.is_empty() {
                // It may be what a registration waits for.
                self.waker.wake_by_ref();
            }
        }
    }

    /// Sets when the endpoint is to be looked at.
    pub(crate) fn schedule(&mut self, peer: usize, at: Option<Instant>) {
        let timer = &mut self.peers[peer].timer;
        if *timer == at {
            return;
        }
        if let Some(before) = std::mem::replace(timer, at) {
            self.timers.remove(&(before, peer));
        }
        if let Some(at) = at {
            self.timers.insert((at, peer));
        }
    }

    /// Forgets an endpoint that nothing is kept for.
    pub(crate) fn forget(&mut self, peer: usize) {
        self.schedule(peer, None);
        let peer = self.peers.remove(peer);
        self.unverified -= usize::from(!peer.verified);
    }

    /// When an endpoint that rests is forgotten.
    pub(crate) fn rest_ends(&self, peer: usize) -> Instant {
        self.peers[peer].heard + REST
    }

    // ---- sessions ---------------------------------------------------------------------------

    /// A session with the endpoint at this address begins, whose address is proved with that, and who it is, if it was
    /// asked for that. One that there was before has ended.
    pub fn session_begins(&mut self, remote: SocketAddr, proved: Option<Proved>) {
        self.sessions.begin(remote, proved);
    }

    /// The session with the endpoint at this address has ended, and with it all that was asked for in it (RFC 7252
    /// section 9.1): its observations end, its bodies that are not whole are given up, and whatever it is still owed is
    /// never sent to who comes to this address next. What is in `out` for it is taken back.
    pub fn session_ends(&mut self, remote: SocketAddr, now: Instant, out: &mut Outgoing) {
        self.sessions.end(remote);
        out.forget(remote);
        self.asked.retain(|asked| asked.path.remote != remote);
        self.pending
            .retain(|pending| pending.exchange.path.remote != remote);
        self.transfers.end(remote);
        self.identities.end(remote);
        if let Some(at) = self.peer_at(remote) {
            let peer = &mut self.peers[at];
            peer.outstanding = None;
            peer.clear_responses();
            for place in std::mem::take(&mut peer.watches) {
                self.cancel(place, Cancel::Session, now);
            }
            self.forget(at);
        }
    }

    // ---- time -------------------------------------------------------------------------------

    /// When [`Self::timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let peer = self.timers.first().map(|(at, _)| *at);
        // They come in the order of their requests.
        let late = self.pending.iter().find_map(|pending| pending.acknowledge);
        [peer, late]
            .into_iter()
            .flatten()
            .fold(self.next_tick, Instant::min)
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Instant, out: &mut Outgoing) {
        self.acknowledge_late(now, out);
        while let Some(&(at, peer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.schedule(peer, None);
            self.look_at(peer, now, out);
        }
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.transfers.expire(now);
            self.identities.expire(now);
            self.expire_client_sessions(now);
            let metrics = &self.metrics;
            metrics.observations.set(self.watches.len() as u64);
            metrics.endpoints.set(self.peers.len() as u64);
            metrics.exchanges.set(self.duplicates.len() as u64);
            metrics.transfers.set(self.transfers.len() as u64);
        }
    }

    /// Takes what has come from elsewhere: messages of the bus, tickets, access decisions.
    pub fn wake(&mut self, worker: &mut Worker, now: Instant, out: &mut Outgoing) {
        self.detach(worker);
        self.take_postponed(worker, now, out);
        self.take_tickets(now, out);
        let mut awake = std::mem::take(&mut self.awake);
        self.ready.take(&mut awake);
        for place in awake.drain(..) {
            if let Some(watch) = self.watches.get(place) {
                let peer = watch.peer;
                self.pump(peer, now, out);
            }
        }
        self.ready.take_sessions(&mut awake);
        for place in awake.drain(..) {
            self.look_at_session(place, now, out);
        }
        self.awake = awake;
        self.detach(worker);
    }

    /// Ends all observations, and tells the observers (RFC 7641 section 3.2: a notification with an error is the last).
    pub fn shut_down(&mut self, now: Instant, out: &mut Outgoing) {
        let places: Vec<usize> = self.watches.iter().map(|(place, _)| place).collect();
        for place in places {
            self.say_goodbye(place, "the gateway shuts down", out);
            self.cancel(place, Cancel::Closed, now);
        }
        let bus = Arc::clone(&self.bus);
        bus.batch(|worker| self.detach(worker));
    }

    /// Tells an observer that it is none any more.
    pub(crate) fn say_goodbye(&mut self, place: usize, why: &'static str, out: &mut Outgoing) {
        let watch = &self.watches[place];
        let (at, token) = (watch.peer, watch.token);
        let peer = &mut self.peers[at];
        let (path, id) = (peer.path, peer.next_id());
        let start = out.bytes.len();
        let goodbye = Response::later(Code::SERVICE_UNAVAILABLE, 5, why);
        let kind = Kind::NonConfirmable;
        let writer = Writer::new(&mut out.bytes, kind, goodbye.code, id, token);
        goodbye.write(writer, &mut self.scratch);
        let len = out.bytes.len() - start;
        if len <= self.peers[at].limit() {
            self.sent(path, len);
            out.finish(path, start);
        } else {
            out.bytes.truncate(start);
        }
    }
}

/// Numbers that nobody outside knows: identifiers and delays (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(0_u8) | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

//! Observers that have a session: those that name themselves (`?c=`), or have proved who they are, and observe with
//! QoS 1 or 2.
//!
//! Such an observation is a subscription of the client's session, as one of MQTT: what is published while the client
//! is away waits for it, is on disk before its publisher hears so, and survives a restart. The listener is the
//! session's connection for as long as the client observes anything.
//!
//! ```text
//!  GET, Observe 0           proof           claim            attach, subscribe           kept
//!  ─────────────▶ proving ───────▶ claiming ───────▶ attached ───────────────▶ keeping ────────▶ observing
//!                                                                                                  │
//!     deregistered: the subscription ends                      ◀───────────────────────────────────┤
//!     Reset, no acknowledgement, the listener closes: the subscription stays  ◀────────────────────┤
//!     another connection takes the session over: 5.03, and the subscription stays ◀────────────────┘
//! ```
//!
//! The invariants:
//!
//! 1. A message at QoS 1 or 2 is acknowledged to the session when a notification with it was acknowledged by every
//!    observation that it is for, and, of a large one, when its rest was fetched. Until then it is the session's, and
//!    the next registration is told it again.
//! 2. Of one observation nothing is passed over: no newer state takes the place of an older one.
//! 3. As many messages are taken from the session as [`WINDOW`] allows for; the rest waits there, within its limits.
//! 4. Nobody takes a session over, or has one made, under an address that is not proved: whoever forges addresses could
//!    disconnect others, and fill the disk. A ping asks for the proof, and the registration waits for its answer.
//! 5. A message for a subscription that was not registered anew waits for [`GRACE`]: who has started anew registers
//!    one observation after another. Then it is dropped, and counted.
//!
//! The identifier of a subscription (MQTT 5.0 section 3.8.2.1.2) is a hash of its filter, so that what was queued
//! before a restart finds its observation after it.

use std::collections::VecDeque;
use std::future::Future;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tidegate_bus::{
    AttachRefusal, Attachment, Claim, ClientId, ConnectRequest, Departure, DropReason, Encoder,
    QoS, RetainHandling, StoreError, StoredMessage, SubscribeRefusal, SubscriptionOptions, Ticket,
    TopicFilter, Worker,
};

use crate::codec::Code;
use crate::delivery::{self, Delivery, DeliveryEncoder, Identifiers};
use crate::metrics::Cancel;
use crate::outgoing::Outgoing;
use crate::ready::Ready;
use crate::request::Request;
use crate::response::Response;
use crate::server::Server;
use crate::settings::Unverified;

/// Messages of one session that wait for the client's acknowledgements. One at a time is under way to an endpoint, so
/// more would gain nothing but a larger repetition after a restart.
const WINDOW: NonZeroU16 = NonZeroU16::new(16).unwrap();

/// How long what was queued waits for its observation to be registered anew.
const GRACE: Duration = Duration::from_secs(60);

/// Most registrations that wait for a ping to be answered.
const MAX_PROVING: usize = 256;

/// Subscription identifiers have 28 bits (MQTT 5.0 section 3.8.2.1.2).
const IDENTIFIERS: u64 = 0x0FFF_FFFF;

pub(crate) type Claiming = Pin<Box<dyn Future<Output = Result<Claim, StoreError>> + Send>>;

/// What a registration waits for.
pub(crate) enum Wait {
    /// That its address is proved.
    Proof,
    /// The client's session; `None`: an earlier request has asked for it.
    Claim {
        client: ClientId,
        expiry: u32,
        claim: Option<Claiming>,
    },
    /// That the subscription is kept.
    Kept(Ticket),
}

/// Where an observation gets its messages.
pub(crate) enum Seat {
    /// Straight from the bus.
    Bus,
    /// From the session at this place.
    Session(usize),
    /// The request is served again after that.
    Wait(Wait),
    Refused(Response),
}

/// The listener's hold on the session of a client.
pub(crate) struct Attached {
    /// Where the client observes.
    remote: SocketAddr,
    attachment: Attachment,
    /// Places of its observations.
    watches: SmallVec<[usize; 1]>,
    /// What was subscribed to by this connection.
    filters: Vec<(TopicFilter, QoS)>,
    /// What was taken from the session, from `read` on.
    output: Vec<u8>,
    read: usize,
    taken: VecDeque<Taken>,
    next: u64,
    /// Until when what has no observation waits for one.
    grace: Instant,
}

/// A message that was taken from the session and not acknowledged yet.
struct Taken {
    number: u64,
    message: Arc<StoredMessage>,
    packet_id: Option<NonZeroU16>,
    /// Subscriptions whose observers have not acknowledged it.
    pending: Identifiers,
}

/// What an observation knows of its session.
pub(crate) struct Member {
    pub(crate) session: usize,
    identifier: u32,
    /// Numbers of the messages that wait in the observation, in their order.
    owed: VecDeque<u64>,
    /// The one that was sent and is not acknowledged.
    sending: Option<u64>,
}

impl Member {
    /// The next message that waits is sent now.
    pub(crate) fn send_next(&mut self) {
        self.sending = self.owed.pop_front();
    }
}

/// Tells the listener that a session has something.
struct SessionWaker {
    ready: Arc<Ready>,
    place: usize,
}

impl Wake for SessionWaker {
    fn wake(self: Arc<Self>) {
        self.ready.add_session(self.place);
    }
}

fn identifier(filter: &TopicFilter) -> NonZeroU32 {
    let hash = foldhash::quality::FixedState::default().hash_one(filter.as_str());
    let number = (hash % IDENTIFIERS) as u32 + 1;
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

impl Server {
    // ---- registering ------------------------------------------------------------------------

    /// Finds the seat of an observation that is to be registered.
    pub(crate) fn seat(
        &mut self,
        request: &Request<'_>,
        filter: &TopicFilter,
        client: &ClientId,
        from: SocketAddr,
        qos: QoS,
        now: Instant,
    ) -> Seat {
        if !self.is_named(request, from) || !qos.is_acknowledged() {
            return Seat::Bus;
        }
        let place = self.client_sessions_by_id.get(client).copied();
        let here = |place: &usize| self.client_sessions[*place].remote == from;
        let Some(place) = place.filter(here) else {
            if !self.is_proved(from) {
                return self.ask_for_proof(from, now);
            }
            let usual = self.settings.session_expiry.as_secs();
            let usual = u32::try_from(usual).unwrap_or(u32::MAX);
            return self.claim(client, request.query.session_expiry.unwrap_or(usual));
        };
        let session = &mut self.client_sessions[place];
        session.grace = now + GRACE;
        let known = |(known, granted): &(TopicFilter, QoS)| known == filter && *granted == qos;
        if session.filters.iter().any(known) {
            return Seat::Session(place);
        }
        let options = SubscriptionOptions {
            retain_handling: if filter.has_wildcard() {
                // Who comes back has had them.
                RetainHandling::SendIfNew
            } else {
                // The answer has it.
                RetainHandling::DoNotSend
            },
            ..SubscriptionOptions::with_qos(qos)
        };
        let at = self.bus.now();
        let subscribed =
            session
                .attachment
                .subscribe(at, filter.clone(), options, Some(identifier(filter)));
        match subscribed {
            Err(refusal) => Seat::Refused(not_subscribed(refusal)),
            Ok((_, ticket)) => {
                session.filters.retain(|(known, _)| known != filter);
                session.filters.push((filter.clone(), qos));
                // What is retained waits to be taken.
                self.ready.add_session(place);
                match ticket.poll(&self.waker) {
                    Poll::Ready(Ok(())) => Seat::Session(place),
                    Poll::Ready(Err(_)) => Seat::Refused(not_kept()),
                    Poll::Pending => Seat::Wait(Wait::Kept(ticket)),
                }
            }
        }
    }

    /// Whether it is known that an address receives.
    pub(crate) fn is_proved(&self, address: SocketAddr) -> bool {
        let peer = self.peer_at(address);
        self.settings.unverified == Unverified::All
            || peer.is_some_and(|peer| self.peers[peer].verified)
    }

    /// A ping, where it may be waited for; otherwise Echo, for which nothing is kept (RFC 9175 section 2.3).
    fn ask_for_proof(&self, address: SocketAddr, now: Instant) -> Seat {
        if self.settings.unverified != Unverified::Echo && self.proving() < MAX_PROVING {
            return Seat::Wait(Wait::Proof);
        }
        Seat::Refused(Response {
            echo: Some(self.echo.value(address, now)),
            ..Response::new(Code::UNAUTHORIZED)
        })
    }

    /// Whether the client has said who it is, or has proved it.
    pub(crate) fn is_named(&self, request: &Request<'_>, from: SocketAddr) -> bool {
        request.query.client.is_some() || self.sessions.proved(from).is_some()
    }

    fn claim(&self, client: &ClientId, expiry: u32) -> Seat {
        let is_claiming = self.is_claiming(client);
        let claim: Option<Claiming> = (!is_claiming).then(|| {
            let (bus, client) = (Arc::clone(&self.bus), client.clone());
            Box::pin(async move { bus.claim(&client).await }) as _
        });
        Seat::Wait(Wait::Claim {
            client: client.clone(),
            expiry,
            claim,
        })
    }

    /// Attaches the listener to the session of a client that observes from `remote`.
    pub(crate) fn attach(
        &mut self,
        worker: &mut Worker,
        client: &ClientId,
        remote: SocketAddr,
        claim: Result<Claim, StoreError>,
        expiry: u32,
        now: Instant,
    ) -> Result<(), Response> {
        let claim = claim.map_err(|_| not_kept())?;
        let request = ConnectRequest {
            clean_start: false,
            expiry,
            will: None,
            receive_maximum: WINDOW,
            // Whether the client is there is found out by asking it.
            keep_alive: 0,
            encoder: Box::new(DeliveryEncoder),
        };
        let attached = self.bus.attach(worker, client, claim, request);
        let (attachment, _present) = attached.map_err(|refusal| match refusal {
            AttachRefusal::QuotaExceeded => {
                let why = "there are as many sessions as there may be";
                Response::later(Code::SERVICE_UNAVAILABLE, 30, why)
            }
            _ => taken_over(),
        })?;
        let place = self.client_sessions.vacant_key();
        attachment.set_waker(Waker::from(Arc::new(SessionWaker {
            ready: self.ready(),
            place,
        })));
        self.client_sessions.insert(Attached {
            remote,
            attachment,
            watches: SmallVec::new(),
            filters: Vec::new(),
            output: Vec::new(),
            read: 0,
            taken: VecDeque::new(),
            next: 0,
            grace: now + GRACE,
        });
        // One that was here before hears that it is replaced.
        self.client_sessions_by_id.insert(client.clone(), place);
        self.ready.add_session(place);
        Ok(())
    }

    /// Makes an observation one of its session; what was taken for it already waits in it from now on.
    pub(crate) fn join(&mut self, session: usize, place: usize) {
        let identifier = identifier(self.watches[place].filter()).get();
        let attached = &mut self.client_sessions[session];
        attached.watches.push(place);
        let mut owed = VecDeque::new();
        for taken in &attached.taken {
            if taken.pending.contains(&identifier) {
                owed.push_back(taken.number);
                self.watches[place].push(Arc::clone(&taken.message));
            }
        }
        self.watches[place].member = Some(Box::new(Member {
            session,
            identifier,
            owed,
            sending: None,
        }));
    }

    // ---- telling ----------------------------------------------------------------------------

    /// Sees what the session at this place has.
    pub(crate) fn look_at_session(&mut self, place: usize, now: Instant, out: &mut Outgoing) {
        let Some(session) = self.client_sessions.get(place) else {
            return;
        };
        let remote = session.remote;
        if session.attachment.ended().is_some() || !self.draw(place, now) {
            return self.end_session(place, now, out);
        }
        if let Some(peer) = self.peer_at(remote) {
            self.pump(peer, now, out);
        }
    }

    /// Takes as much from the session as may be under way. `false`: the session is another's.
    fn draw(&mut self, place: usize, now: Instant) -> bool {
        let at = self.bus.now();
        while let Some(session) = self.client_sessions.get_mut(place)
            && session.taken.len() < usize::from(WINDOW.get())
        {
            if session.read == session.output.len() {
                (session.output, session.read) = (Vec::new(), 0);
                match session.attachment.take_output(&mut session.output, at) {
                    Err(_ended) => return false,
                    Ok(more) if session.output.is_empty() && !more => break,
                    Ok(_) => continue,
                }
            }
            if !self.take_delivery(place, now) {
                break;
            }
        }
        true
    }

    /// Takes one delivery. `false`: memory has no room for it now.
    fn take_delivery(&mut self, place: usize, now: Instant) -> bool {
        let at = self.bus.now();
        let session = &mut self.client_sessions[place];
        let mut rest = &session.output[session.read..];
        let (message, packet_id, mut pending) = match delivery::next(&mut rest) {
            // The encoder has written whole deliveries and nothing else.
            None => {
                session.read = session.output.len();
                return true;
            }
            Some(Delivery::Release(packet_id)) => {
                session.read = session.output.len() - rest.len();
                // One that was replaced hears of it by the next look.
                let _ = session.attachment.complete(at, packet_id);
                return true;
            }
            Some(Delivery::Message {
                message,
                packet_id,
                identifiers,
            }) => (message.store(self.bus.memory()), packet_id, identifiers),
        };
        let read = session.output.len() - rest.len();
        let Some(message) = message else {
            if packet_id.is_some() {
                return false;
            }
            session.read = read;
            let session = session.attachment.session();
            self.bus.count_unsent(session, DropReason::MemoryFull, 1);
            return true;
        };
        session.read = read;
        let watches = &self.watches;
        let is_observed = |identifier: &u32| {
            let places = session.watches.iter();
            let mut members = places.filter_map(|place| watches[*place].member.as_deref());
            members.any(|member| member.identifier == *identifier)
        };
        if pending.is_empty() {
            // A subscription that was made over MQTT without an identifier.
            pending.push(0);
        }
        if now >= session.grace {
            pending.retain(|identifier| is_observed(identifier));
        }
        let taken = Taken {
            number: session.next,
            message,
            packet_id,
            pending,
        };
        session.next += 1;
        if taken.pending.is_empty() {
            self.settle_taken(place, &taken);
            let session = self.client_sessions[place].attachment.session();
            self.bus.count_unsent(session, DropReason::Unobserved, 1);
            return true;
        }
        for watch in &session.watches {
            let watch = &mut self.watches[*watch];
            if let Some(member) = &mut watch.member
                && taken.pending.contains(&member.identifier)
            {
                member.owed.push_back(taken.number);
                watch.push(Arc::clone(&taken.message));
            }
        }
        self.client_sessions[place].taken.push_back(taken);
        true
    }

    /// The client has what it was sent last by this observation.
    pub(crate) fn received(&mut self, watch: usize, now: Instant) {
        let Some(member) = self.watches.get_mut(watch).and_then(|w| w.member.as_mut()) else {
            return;
        };
        let (session, identifier) = (member.session, member.identifier);
        if let Some(number) = member.sending.take() {
            self.forget_taken(session, identifier, Some(number));
            // There is room for another.
            self.draw(session, now);
        }
    }

    /// A subscription is not owed the message with this number, or any, any more.
    fn forget_taken(&mut self, session: usize, identifier: u32, number: Option<u64>) {
        let mut settled = SmallVec::<[Taken; 1]>::new();
        let taken = &mut self.client_sessions[session].taken;
        let mut at = 0;
        while at < taken.len() {
            if number.is_none_or(|number| number == taken[at].number) {
                taken[at].pending.retain(|pending| *pending != identifier);
            }
            if !taken[at].pending.is_empty() {
                at += 1;
            } else if let Some(one) = taken.remove(at) {
                settled.push(one);
            }
        }
        if taken.is_empty() {
            *taken = VecDeque::new();
        }
        for taken in &settled {
            self.settle_taken(session, taken);
        }
    }

    /// Acknowledges a message to the session.
    fn settle_taken(&self, session: usize, taken: &Taken) {
        let attachment = &self.client_sessions[session].attachment;
        let (at, qos) = (self.bus.now(), taken.message.qos());
        // One that was replaced hears of it by the next look.
        match taken.packet_id {
            Some(packet_id) if qos == QoS::ExactlyOnce => {
                let _ = attachment.received(at, packet_id, false);
                // What PUBREL and PUBCOMP would say, the acknowledgement has said.
                let _ = attachment.complete(at, packet_id);
            }
            Some(packet_id) => {
                let _ = attachment.acknowledge(at, packet_id, false);
            }
            None => {}
        }
    }

    // ---- ends -------------------------------------------------------------------------------

    /// An observation has ended that was one of a session.
    pub(crate) fn observation_ended(
        &mut self,
        place: usize,
        member: &Member,
        filter: &TopicFilter,
        why: Cancel,
        now: Instant,
    ) {
        let Some(session) = self.client_sessions.get_mut(member.session) else {
            return;
        };
        session.watches.retain(|other| *other != place);
        session.grace = now + GRACE;
        let watches = &self.watches;
        let mut others = session.watches.iter();
        let is_last = !others.any(|other| {
            let member_of = watches[*other].member.as_deref();
            member_of.is_some_and(|other| other.identifier == member.identifier)
        });
        if why == Cancel::Asked && is_last {
            session.filters.retain(|(known, _)| known != filter);
            // The answer to the client does not say that it is kept: who asks again ends nothing.
            let _ = session.attachment.unsubscribe(filter);
            self.forget_taken(member.session, member.identifier, None);
        }
        if self.client_sessions[member.session].watches.is_empty() {
            self.leave(member.session, why == Cancel::Asked);
        }
    }

    /// Gives a session back; `deliberately`: it ends if nothing is subscribed to any more.
    fn leave(&mut self, place: usize, deliberately: bool) {
        let Some(session) = self.client_sessions.try_remove(place) else {
            return;
        };
        let Attached {
            attachment,
            output,
            read,
            taken,
            ..
        } = session;
        let client = attachment.session().id();
        if self.client_sessions_by_id.get(client) == Some(&place) {
            self.client_sessions_by_id.remove(client);
        }
        let unacknowledged = taken.iter().filter(|taken| taken.packet_id.is_none());
        let lost =
            unacknowledged.count() as u64 + DeliveryEncoder.count_unacknowledged(&output[read..]);
        self.bus
            .count_unsent(attachment.session(), DropReason::ConnectionClosed, lost);
        let is_over = deliberately && attachment.session().subscriptions().is_empty();
        self.leaving.push((attachment, is_over.then_some(0)));
        self.waker.wake_by_ref();
    }

    /// Gives the sessions back that were left.
    pub(crate) fn detach(&mut self, worker: &mut Worker) {
        for (attachment, expiry) in self.leaving.drain(..) {
            attachment.detach(worker, Departure::Normal, expiry);
        }
    }

    /// Another connection has the session, or an operator has ended it: the observers hear that they are none any more.
    fn end_session(&mut self, place: usize, now: Instant, out: &mut Outgoing) {
        for watch in self.client_sessions[place].watches.clone() {
            self.say_goodbye(watch, "another connection has this session", out);
            self.cancel(watch, Cancel::TakenOver, now);
        }
        // Where nothing was observed yet.
        self.leave(place, false);
    }

    /// Drops what has waited for its observation for long enough, and goes on where memory had no room.
    pub(crate) fn expire_client_sessions(&mut self, now: Instant) {
        for (place, session) in &self.client_sessions {
            if session.read < session.output.len() {
                self.ready.add_session(place);
            }
        }
        let over = self
            .client_sessions
            .iter()
            .filter(|(_, session)| session.grace <= now);
        let over: SmallVec<[usize; 8]> = over
            .filter(|(_, session)| session.watches.is_empty() || !session.taken.is_empty())
            .map(|(place, _)| place)
            .collect();
        for place in over {
            let session = &mut self.client_sessions[place];
            if session.watches.is_empty() {
                self.leave(place, false);
                continue;
            }
            let watches = &self.watches;
            let members = session.watches.iter();
            let members = members.filter_map(|place| watches[*place].member.as_deref());
            let observed: SmallVec<[u32; 4]> = members.map(|member| member.identifier).collect();
            let pending = session
                .taken
                .iter()
                .flat_map(|taken| taken.pending.iter().copied());
            let lost: SmallVec<[u32; 4]> = pending.filter(|one| !observed.contains(one)).collect();
            if lost.is_empty() {
                continue;
            }
            let before = session.taken.len();
            for identifier in lost {
                self.forget_taken(place, identifier, None);
            }
            let dropped = before - self.client_sessions[place].taken.len();
            let session = self.client_sessions[place].attachment.session();
            self.bus
                .count_unsent(session, DropReason::Unobserved, dropped as u64);
            self.draw(place, now);
            self.ready.add_session(place);
        }
    }
}

pub(crate) fn not_kept() -> Response {
    let why = "the subscription cannot be kept now";
    Response::later(Code::SERVICE_UNAVAILABLE, 30, why)
}

fn taken_over() -> Response {
    let why = "another connection has taken this session";
    Response::later(Code::SERVICE_UNAVAILABLE, 5, why)
}

fn not_subscribed(refusal: SubscribeRefusal) -> Response {
    match refusal {
        SubscribeRefusal::NotAuthorized => {
            Response::refusal(Code::FORBIDDEN, "the client may not read this topic")
        }
        SubscribeRefusal::TopicFilterInvalid => Response::refusal(
            Code::BAD_REQUEST,
            "the topic is longer or deeper than it may be",
        ),
        SubscribeRefusal::QuotaExceeded => Response::later(
            Code::TOO_MANY_REQUESTS,
            30,
            "the client has as many subscriptions as it may",
        ),
        SubscribeRefusal::Fenced => taken_over(),
        _ => not_kept(),
    }
}

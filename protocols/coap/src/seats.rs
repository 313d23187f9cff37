//! How an observation over datagrams comes by its messages: straight from the bus, or from its client's session, of which
//! the listener is the connection ([`crate::client_session`]).
//!
//! Nobody takes a session over, or has one made, under an address that is not proved: whoever forges addresses could
//! disconnect others, and fill the disk. A ping asks for the proof, and the registration waits for its answer.
//!
//! ```text
//!  GET, Observe 0           proof           claim
//!  ─────────────▶ proving ───────▶ claiming ───────▶ attached ...
//! ```
//!
//! A notification has arrived when its acknowledgement has (RFC 7252 section 4.2), one is under way at a time, and who
//! acknowledges none, or answers with Reset, observes no more: the subscription stays.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Instant;

use smallvec::SmallVec;
use tidegate_bus::{Claim, ClientId, Departure, QoS, StoreError, Ticket, TopicFilter, Worker};

use crate::client_session::{self, Aged, Attached, Claiming, Ended, full, not_kept};
use crate::codec::Code;
use crate::metrics::Cancel;
use crate::outgoing::Outgoing;
use crate::ready::Ready;
use crate::request::Request;
use crate::response::Response;
use crate::server::Server;
use crate::settings::Unverified;
use crate::watch::Watch;

/// Messages of one session that wait for the client's acknowledgements. One at a time is under way to an endpoint, so
/// more would gain nothing but a larger repetition after a restart.
const WINDOW: NonZeroU16 = NonZeroU16::new(16).unwrap();

/// Most registrations that wait for a ping to be answered.
const MAX_PROVING: usize = 256;

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
    Kept { client: ClientId, ticket: Ticket },
    /// That the end of the subscription is kept.
    Ended(Ticket),
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
            if self.is_full(from) {
                // Nobody loses a session to a registration for which there is no room.
                self.metrics.full.add(1);
                return Seat::Refused(full());
            }
            let expiry = client_session::expiry(request, &self.settings);
            return self.claim(client, expiry);
        };
        match self.client_sessions[place].subscribe(&self.bus, filter, qos, now) {
            Err(refusal) => Seat::Refused(refusal),
            Ok(ticket) => {
                // What is retained waits to be taken.
                self.ready.add_session(place);
                match ticket.poll(&self.waker) {
                    Poll::Ready(Ok(())) => Seat::Session(place),
                    Poll::Ready(Err(_)) => Seat::Refused(not_kept()),
                    Poll::Pending => Seat::Wait(Wait::Kept {
                        client: client.clone(),
                        ticket,
                    }),
                }
            }
        }
    }

    /// Whether the listener is the connection of this client's session, for what it observes at this address.
    pub(crate) fn has_seat(&self, client: &ClientId, remote: SocketAddr) -> bool {
        let place = self.client_sessions_by_id.get(client);
        place.is_some_and(|place| self.client_sessions[*place].remote == remote)
    }

    /// Whether there are as many observations as may be.
    fn is_full(&self, from: SocketAddr) -> bool {
        let most = self.settings.max_observations_per_endpoint;
        let peer = self.peer_at(from);
        self.watches.len() >= self.settings.max_observations
            || peer.is_some_and(|peer| self.peers[peer].watches.len() >= most)
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
        let claim = (!is_claiming).then(|| client_session::claim(&self.bus, client));
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
        let place = self.client_sessions.vacant_key();
        let waker = Waker::from(Arc::new(SessionWaker {
            ready: self.ready(),
            place,
        }));
        let attached = Attached::new(
            &self.bus, worker, client, remote, claim, expiry, WINDOW, waker, now,
        )?;
        self.client_sessions.insert(attached);
        // One that was here before hears that it is replaced.
        self.client_sessions_by_id.insert(client.clone(), place);
        self.ready.add_session(place);
        Ok(())
    }

    /// Makes an observation one of its session.
    pub(crate) fn join(&mut self, session: usize, place: usize) {
        self.client_sessions[session].join(session, place, &mut self.watches[place]);
    }

    // ---- telling ----------------------------------------------------------------------------

    /// Sees what the session at this place has.
    pub(crate) fn look_at_session(&mut self, place: usize, now: Instant, out: &mut Outgoing) {
        let Some(session) = self.client_sessions.get(place) else {
            return;
        };
        let remote = session.remote;
        if session.has_ended() || !self.draw(place, now) {
            return self.end_session(place, now, out);
        }
        if let Some(peer) = self.peer_at(remote) {
            self.pump(peer, now, out);
        }
    }

    /// Takes as much from the session as may be under way. `false`: the session is another's.
    fn draw(&mut self, place: usize, now: Instant) -> bool {
        let session = self.client_sessions.get_mut(place);
        session.is_none_or(|session| {
            // Its endpoint looks at all of them.
            session.draw(&self.bus, &mut self.watches, now, |_| {})
        })
    }

    /// The client has what it was sent last by this observation.
    pub(crate) fn received(&mut self, watch: usize, now: Instant) {
        let member = self.watches.get_mut(watch);
        let Some(member) = member.and_then(|watch| watch.member.as_mut()) else {
            return;
        };
        let (session, identifier) = (member.session, member.identifier);
        if let Some(number) = member.sent() {
            self.client_sessions[session].received(&self.bus, identifier, Some(number));
            // There is room for another.
            self.draw(session, now);
        }
    }

    /// The client has fetched no more of what it was sent last by this observation, for as long as it might.
    pub(crate) fn not_fetched(&mut self, watch: usize, now: Instant) {
        let member = self.watches.get_mut(watch);
        let Some(member) = member.and_then(|watch| watch.member.as_mut()) else {
            return;
        };
        let (session, identifier) = (member.session, member.identifier);
        if let Some(number) = member.sent() {
            self.client_sessions[session].not_fetched(&self.bus, identifier, number);
            self.draw(session, now);
        }
    }

    // ---- ends -------------------------------------------------------------------------------

    /// The observation that was at `place` has ended, which was one of the session at the place `session`. `joined`: the
    /// place of the session that another one is about to join, which is not left.
    pub(crate) fn observation_ended(
        &mut self,
        place: usize,
        session: usize,
        watch: &Watch,
        why: Cancel,
        joined: Option<usize>,
        now: Instant,
    ) -> Ticket {
        let Some(attached) = self.client_sessions.get_mut(session) else {
            return Ticket::ready();
        };
        let Ended { kept, was_last } =
            attached.observation_ended(&self.bus, &self.watches, place, watch, why, now);
        if was_last && joined != Some(session) {
            self.leave(session, why == Cancel::Asked);
        } else {
            // There may be room for what others observe.
            self.ready.add_session(session);
        }
        kept
    }

    /// Gives a session back; `deliberately`: it ends if nothing is subscribed to any more.
    fn leave(&mut self, place: usize, deliberately: bool) {
        let Some(session) = self.client_sessions.try_remove(place) else {
            return;
        };
        if self.client_sessions_by_id.get(session.client()) == Some(&place) {
            self.client_sessions_by_id.remove(session.client());
        }
        self.leaving.push(session.leave(&self.bus, deliberately));
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
        let mut unused = SmallVec::<[usize; 8]>::new();
        for (place, session) in &mut self.client_sessions {
            let aged = session.expire(&self.bus, &self.watches, now);
            if aged == Aged::Unused {
                unused.push(place);
            } else if aged == Aged::Moved || session.is_held_up() {
                self.ready.add_session(place);
            }
        }
        for place in unused {
            self.leave(place, true);
        }
    }
}

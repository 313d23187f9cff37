//! The server: whom a datagram is for, who is let in, and when something is due.
//!
//! It has no socket and no clock. One server is for one thread; several that share a listener's socket by
//! the client's address (`SO_REUSEPORT`) each have their own, with the same [`Credentials`] and [`Counters`].
//!
//! What is kept of an address before it has shown, with a cookie, that what is sent there arrives: nothing. It is
//! answered at the most once, and with less than three times what came. A client that has a session and says hello
//! again, because it has started anew, keeps its session until the new handshake has proved who it is (RFC 6347,
//! 4.2.8): anybody can send a hello with its address.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::Config;
use foldhash::{HashMap, HashMapExt};

use crate::association::{Association, MAX_PLAINTEXT, Step};
use crate::callbacks::{self, Resolver};
use crate::cookie::Cookies;
use crate::handshakes::alert_for;
use crate::rate::Rate;
use crate::record::{self, Kind};
use crate::reply;
use crate::{
    Counters, Credentials, Dropped, End, Failure, Method, Output, Path, SendError, SessionId,
    Settings, SetupError, Who,
};

/// Datagrams of a handshake that wait for one that is missing.
const MAX_WAITING: usize = 16;

/// No engine is called more often than this without a datagram.
const TICK: Duration = Duration::from_millis(1);

/// The server side of DTLS for any number of clients at one socket.
pub struct Server {
    pub(crate) settings: Settings,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cookies: Cookies,
    /// For handshakes with a pre-shared key, and with a certificate.
    pub(crate) psk: Option<Arc<Config>>,
    pub(crate) certificate: Option<Arc<Config>>,
    pub(crate) places: HashMap<SocketAddr, Place>,
    /// Places of each IP address.
    pub(crate) by_ip: HashMap<IpAddr, usize>,
    pub(crate) rate: Rate,
    pub(crate) sessions: usize,
    pub(crate) handshakes: usize,
    pub(crate) next_number: u64,
    timers: BTreeSet<Due>,
    /// For what engines have to say.
    pub(crate) buffer: Vec<u8>,
    /// For what is said without them.
    pub(crate) scratch: Vec<u8>,
}

/// What there is at an address. Never neither.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) session: Option<Box<Association>>,
    pub(crate) handshake: Option<Box<Association>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Session,
    Handshake,
}

impl Place {
    fn slot(&mut self, which: Which) -> &mut Option<Box<Association>> {
        match which {
            Which::Session => &mut self.session,
            Which::Handshake => &mut self.handshake,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    number: u64,
    peer: SocketAddr,
}

/// Why an association is worked on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Datagram(&'a [u8]),
    Time,
    Nothing,
}

impl Server {
    /// A server without clients. Servers of one listener share `counters`.
    ///
    /// # Errors
    ///
    /// The engine does not take the settings, or the system has no randomness.
    pub fn new(
        settings: Settings,
        credentials: Arc<Credentials>,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Result<Self, SetupError> {
        let builder = || {
            Config::builder()
                .with_crypto_provider(callbacks::provider())
                .mtu(settings.mtu)
                .max_queue_rx(MAX_WAITING)
                .handshake_timeout(settings.handshake_timeout)
        };
        let psk = credentials.keys().map(|keys| {
            let hint = credentials.hint().map(|hint| hint.as_bytes().to_vec());
            let resolver = Arc::new(Resolver(Arc::clone(keys)));
            builder().with_psk_server(hint, resolver).build()
        });
        let certificate = credentials.pair().map(|_| {
            builder()
                .require_client_certificate(credentials.asks_clients())
                .build()
        });
        Ok(Self {
            cookies: Cookies::new(now).ok_or(SetupError::NoRandomness)?,
            psk: psk.transpose().map_err(SetupError::Engine)?.map(Arc::new),
            certificate: certificate
                .transpose()
                .map_err(SetupError::Engine)?
                .map(Arc::new),
            buffer: vec![0; MAX_PLAINTEXT],
            scratch: Vec::new(),
            rate: Rate::new(settings.max_handshake_rate, now),
            settings,
            credentials,
            counters,
            places: HashMap::new(),
            by_ip: HashMap::new(),
            sessions: 0,
            handshakes: 0,
            next_number: 0,
            timers: BTreeSet::new(),
        })
    }

    /// A datagram has come.
    pub fn receive(&mut self, path: Path, datagram: &[u8], now: Instant, out: &mut impl Output) {
        let peer = path.peer;
        if datagram.len() > self.settings.max_datagram {
            return self.counters.drop_of(Dropped::TooLarge);
        }
        let Some(kind) = record::kind(datagram) else {
            return self.counters.drop_of(Dropped::Malformed);
        };
        if kind == Kind::ClientHello {
            return self.hello(path, datagram, now, out);
        }
        let Some(place) = self.places.get(&peer) else {
            return self.counters.drop_of(Dropped::NoSession);
        };
        let (handshake, session) = (place.handshake.is_some(), place.session.as_ref());
        let input = Input::Datagram(datagram);
        match (kind, session) {
            // Of a session that is being replaced nothing plain is of interest.
            (Kind::Plain, _) if handshake => self.work(peer, Which::Handshake, input, now, out),
            // The last flight once more: it may not have seen ours. Nothing else that is plain can be believed.
            (Kind::Plain, Some(session)) if session.method != Method::Certificate13 => {
                self.work(peer, Which::Session, input, now, out);
            }
            (Kind::Plain, _) => self.counters.drop_of(Dropped::Plain),
            (_, None) => self.work(peer, Which::Handshake, input, now, out),
            (_, Some(_)) if !handshake => self.work(peer, Which::Session, input, now, out),
            (Kind::Protected12 { handshake: true }, _) => {
                self.work(peer, Which::Handshake, input, now, out);
            }
            // Data, and alerts, are the session's until the handshake is complete. For what comes too early the client
            // is to try again, as for everything that is lost.
            (Kind::Protected12 { .. }, _) => self.work(peer, Which::Session, input, now, out),
            // Nothing tells whose it is. Whichever has the key takes it.
            (Kind::Protected13 | Kind::ClientHello, _) => {
                self.work(peer, Which::Session, input, now, out);
                self.work(peer, Which::Handshake, input, now, out);
            }
        }
    }

    /// Sends `plaintext` as one datagram.
    ///
    /// # Errors
    ///
    /// If there is nobody to send it to, or it is too much.
    pub fn send(
        &mut self,
        session: SessionId,
        plaintext: &[u8],
        now: Instant,
        out: &mut impl Output,
    ) -> Result<(), SendError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(SendError::TooLarge);
        }
        let association = self.session_mut(session).ok_or(SendError::NoSession)?;
        if association.is_worn_out() {
            self.end(session.peer, End::WornOut, now, out);
            return Err(SendError::NoSession);
        }
        let sent = association
            .dtls
            .handle_timeout(now)
            .and_then(|()| association.dtls.send_application_data(plaintext));
        if sent.is_err() {
            self.end(session.peer, End::Failed, now, out);
            return Err(SendError::NoSession);
        }
        self.work(session.peer, Which::Session, Input::Nothing, now, out);
        Ok(())
    }

    /// Ends a session; its client is told, once. Nothing happens if it has ended.
    pub fn close(&mut self, session: SessionId, now: Instant, out: &mut impl Output) {
        if self.session_mut(session).is_some() {
            self.end(session.peer, End::Local, now, out);
        }
    }

    /// Ends all sessions; their clients are told. Handshakes are forgotten.
    pub fn close_all(&mut self, now: Instant, out: &mut impl Output) {
        let peers: Vec<SocketAddr> = self.places.keys().copied().collect();
        for peer in peers {
            self.end(peer, End::Local, now, out);
            self.abandon(peer, Failure::Shutdown, out);
        }
    }

    /// The session that there is at an address.
    #[must_use]
    pub fn session(&self, peer: SocketAddr) -> Option<SessionId> {
        let association = self.places.get(&peer)?.session.as_ref()?;
        let number = association.number;
        Some(SessionId { peer, number })
    }

    /// Who is at the other end of a session.
    #[must_use]
    pub fn who(&self, session: SessionId) -> Option<&Who> {
        let association = self.places.get(&session.peer)?.session.as_ref()?;
        let association = Some(association).filter(|it| it.number == session.number)?;
        association.who.as_ref()
    }

    /// When [`Server::handle_timeout`] is to be called at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|due| due.at)
    }

    /// Does what is due: flights once more, the end of what took too long.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Output) {
        while let Some(due) = self.timers.first().copied()
            && due.at <= now
        {
            self.timers.pop_first();
            let Some(place) = self.places.get_mut(&due.peer) else {
                continue;
            };
            let is_it = |it: &Option<Box<Association>>| {
                it.as_ref().is_some_and(|it| it.number == due.number)
            };
            let which = if is_it(&place.session) {
                Which::Session
            } else {
                Which::Handshake
            };
            let Some(association) = place
                .slot(which)
                .as_mut()
                .filter(|it| it.number == due.number)
            else {
                continue;
            };
            association.scheduled = None;
            let is_over = association.deadline <= now;
            let is_due = association.due() <= now;
            match which {
                Which::Session if is_over => self.end(due.peer, End::Idle, now, out),
                Which::Handshake if is_over => self.abandon(due.peer, Failure::Timeout, out),
                _ if is_due => self.work(due.peer, which, Input::Time, now, out),
                _ => self.schedule(due.peer, which),
            }
        }
    }

    /// What is counted.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn session_mut(&mut self, session: SessionId) -> Option<&mut Association> {
        let association = self.places.get_mut(&session.peer)?.session.as_deref_mut()?;
        (association.number == session.number).then_some(association)
    }

    /// Gives an association what there is for it, and passes on what it has to say.
    pub(crate) fn work(
        &mut self,
        peer: SocketAddr,
        mut which: Which,
        input: Input<'_>,
        now: Instant,
        out: &mut impl Output,
    ) {
        let Some(place) = self.places.get_mut(&peer) else {
            return;
        };
        let Some(association) = place.slot(which) else {
            return;
        };
        let session = SessionId {
            peer,
            number: association.number,
        };
        let taken = match input {
            Input::Datagram(datagram) => association.receive(datagram, now),
            Input::Time => association.dtls.handle_timeout(now),
            Input::Nothing => Ok(()),
        };
        if let Err(error) = taken {
            return match which {
                Which::Handshake => {
                    let why = association.failure(&error);
                    tracing::debug!(
                        listener = self.credentials.listener(),
                        %peer,
                        %error,
                        "The DTLS engine has given up a handshake."
                    );
                    self.fail(peer, why, out);
                }
                Which::Session => {
                    let alert = association.failure(&error) == Failure::Alert;
                    self.end(peer, if alert { End::Alert } else { End::Failed }, now, out);
                }
            };
        }
        let heard = later(now, self.settings.idle_timeout);
        loop {
            let Some(association) = place.slot(which) else {
                return;
            };
            match association.poll(&mut self.buffer, session, &self.credentials, heard, out) {
                Step::Waiting => {
                    // An engine that wants to be called at once would be called for ever.
                    association.wake = association.wake.max(later(now, TICK));
                    return self.schedule(peer, which);
                }
                Step::Connected => {
                    association.deadline = heard;
                    let method = association.method;
                    let who = association.who.clone().unwrap_or(Who::Anonymous);
                    let before = std::mem::replace(&mut place.session, place.handshake.take());
                    if let Some(before) = before {
                        unschedule(&mut self.timers, peer, &before);
                        self.counters.session_ends(End::Replaced);
                        let before = SessionId {
                            number: before.number,
                            ..session
                        };
                        out.ended(before, End::Replaced);
                    } else {
                        self.sessions += 1;
                    }
                    self.handshakes -= 1;
                    self.counters.session_begins(method);
                    which = Which::Session;
                    out.established(session, &who, method);
                }
                Step::Closed => return self.end(peer, End::Closed, now, out),
                Step::Refused(why) => return self.fail(peer, why, out),
            }
        }
    }

    /// Ends a handshake, and tells its client if that is possible.
    fn fail(&mut self, peer: SocketAddr, why: Failure, out: &mut impl Output) {
        let handshake = self.places.get(&peer).and_then(|it| it.handshake.as_ref());
        if let Some(association) = handshake
            // In DTLS 1.3 nothing plain is believed by now.
            && association.method != Method::Certificate13
            && let Some(alert) = alert_for(why)
        {
            reply::alert(&mut self.scratch, association.next_plain, alert);
            let local = association.local;
            out.transmit(Path { peer, local }, &self.scratch);
        }
        self.abandon(peer, why, out);
    }

    /// Forgets a handshake, if there is one.
    pub(crate) fn abandon(&mut self, peer: SocketAddr, why: Failure, out: &mut impl Output) {
        let Some(place) = self.places.get_mut(&peer) else {
            return;
        };
        let Some(association) = place.handshake.take() else {
            return;
        };
        unschedule(&mut self.timers, peer, &association);
        self.handshakes -= 1;
        self.counters.handshake_fails(why);
        self.tidy(peer);
        out.failed(peer, why);
    }

    /// Ends a session, if there is one.
    fn end(&mut self, peer: SocketAddr, why: End, now: Instant, out: &mut impl Output) {
        let Some(place) = self.places.get_mut(&peer) else {
            return;
        };
        let Some(mut association) = place.session.take() else {
            return;
        };
        unschedule(&mut self.timers, peer, &association);
        self.sessions -= 1;
        let session = SessionId {
            peer,
            number: association.number,
        };
        if matches!(why, End::Local | End::Idle | End::WornOut) {
            // What cannot be told is found out by the client itself.
            let told = association
                .dtls
                .handle_timeout(now)
                .and_then(|()| association.dtls.close());
            if told.is_ok() {
                association.poll(&mut self.buffer, session, &self.credentials, now, out);
            }
        }
        self.counters.session_ends(why);
        self.tidy(peer);
        out.ended(session, why);
    }

    /// Forgets an address where there is nothing.
    fn tidy(&mut self, peer: SocketAddr) {
        let is_empty = (self.places.get(&peer))
            .is_some_and(|place| place.session.is_none() && place.handshake.is_none());
        if !is_empty {
            return;
        }
        self.places.remove(&peer);
        let ip = peer.ip().to_canonical();
        if let Some(count) = self.by_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.by_ip.remove(&ip);
            }
        }
    }

    /// Sees to it that an association is called in time. What stands among the timers too early is left there: it is put
    /// right when its time comes, so that no datagram costs a change.
    fn schedule(&mut self, peer: SocketAddr, which: Which) {
        let Some(association) = (self.places.get_mut(&peer)).and_then(|it| it.slot(which).as_mut())
        else {
            return;
        };
        let at = association.due();
        if association.scheduled.is_some_and(|before| before <= at) {
            return;
        }
        unschedule(&mut self.timers, peer, association);
        association.scheduled = Some(at);
        self.timers.insert(Due {
            at,
            number: association.number,
            peer,
        });
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("sessions", &self.sessions)
            .field("handshakes", &self.handshakes)
            .finish_non_exhaustive()
    }
}

fn unschedule(timers: &mut BTreeSet<Due>, peer: SocketAddr, association: &Association) {
    if let Some(at) = association.scheduled {
        timers.remove(&Due {
            at,
            number: association.number,
            peer,
        });
    }
}

/// A time that cannot be told is as good as never.
pub(crate) fn later(now: Instant, after: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(after).unwrap_or_else(|| now + YEAR)
}

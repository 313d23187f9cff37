//! What observers over datagrams are told (RFC 7641), and when. Who observes what is in `observe.rs`.
//!
//! An endpoint has one confirmable message outstanding (NSTART). While it waits for that, nothing else is sent to it;
//! when it has to be repeated and there is something newer, the newer goes instead (section 4.5.2). Notifications that
//! are not confirmable keep the pace of one a round trip (section 4.5.1), and as long as no round trip is known, none
//! is sent: the first is confirmable and measures it.
//!
//! - *fresh*: nothing was confirmed lately, or the endpoint is not verified: the next notification is confirmable.
//! - *confirmed*: notifications of QoS 0 are not confirmable, those of QoS 1 and 2 are.
//! - *waiting*: a confirmable one is outstanding.
//! - *ended*: by the client (deregistration, Reset, the same token anew), or because the last repetition was not
//!   acknowledged; then all observations of the endpoint end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_bus::{DropReason, StoredMessage};

use crate::codec::{Kind, Token, Writer};
use crate::duplicates::EXCHANGE_LIFETIME;
use crate::metrics::Cancel;
use crate::outgoing::{Outgoing, Path};
use crate::peer::{ACK_TIMEOUT, MAX_RETRANSMIT, Outstanding, Separate, What};
use crate::response::Response;
use crate::server::Server;
use crate::settings::Unverified;
use crate::topics::{FOR_EVER, tag};
use crate::watch::{Fetched, Parted};

impl Server {
    // ---- sending ----------------------------------------------------------------------------

    /// Sends an endpoint what may be sent to it now.
    pub(crate) fn pump(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        while self.peers[at].outstanding.is_none() {
            if self.is_to_prove(at) {
                self.ping(at, now, out);
                break;
            }
            if let Some(separate) = self.peers[at].next_response() {
                self.send_response(at, separate, now, out);
                continue;
            }
            let Some(place) = self.next_watch(at, now) else {
                break;
            };
            if !self.notify(at, place, now, out) {
                break;
            }
        }
        self.reschedule(at, now);
    }

    /// Whether the next response waits until the endpoint has shown that it receives: it is too large to be sent before.
    fn is_to_prove(&mut self, at: usize) -> bool {
        let peer = &self.peers[at];
        if peer.verified || self.settings.unverified != Unverified::Ping {
            return false;
        }
        let (limit, next) = (peer.limit(), peer.responses().next());
        let Some(Separate {
            token,
            response,
            block2,
            ..
        }) = next
        else {
            return false;
        };
        let (token, mut response, block2) = (*token, response.clone(), *block2);
        self.part(&mut response, block2);
        response.may_be_parted() && self.measure(token, &response) > limit
    }

    /// The observation whose turn it is, of those that have something to say.
    fn next_watch(&mut self, at: usize, now: Instant) -> Option<usize> {
        let peer = &mut self.peers[at];
        let count = peer.watches.len();
        for step in 0..count {
            let turn = (peer.turn as usize + step) % count;
            let place = peer.watches[turn];
            if self.watches[place].is_due(now) {
                peer.turn = turn as u32 + 1;
                return Some(place);
            }
        }
        None
    }

    /// Sends the next notification of an observation. `false`: it has to wait for its pace.
    fn notify(&mut self, at: usize, place: usize, now: Instant, out: &mut Outgoing) -> bool {
        let confirm_interval = self.settings.confirm_interval;
        let peer = &mut self.peers[at];
        let watch = &mut self.watches[place];
        let is_confirmed = watch
            .confirmed
            .is_some_and(|when| now.duration_since(when) < confirm_interval);
        let confirmable =
            watch.qos.is_acknowledged() || !is_confirmed || !peer.verified || !peer.knows_rtt();
        if !confirmable && peer.pace(now).is_some() {
            return false;
        }
        if watch.is_fetching() {
            self.not_fetched(place, now);
        }
        let watch = &mut self.watches[place];
        let Some(message) = watch.observation.take() else {
            return true;
        };
        if let Some(member) = &mut watch.member {
            member.send_next();
        }
        if message.is_expired(self.bus.now()) {
            self.bus.count_dropped(DropReason::Expired, 1);
            self.received(place, now);
            return true;
        }
        self.send_state(at, place, &message, confirmable, now, out);
        true
    }

    /// Sends a state of what is observed.
    fn send_state(
        &mut self,
        at: usize,
        place: usize,
        message: &Arc<StoredMessage>,
        confirmable: bool,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let max_age = self.max_age(message).unwrap_or(FOR_EVER);
        let watch = &mut self.watches[place];
        watch.sequence = (watch.sequence + 1) & 0xFF_FFFF;
        let mut response = Response::content(message);
        response.observe = Some(watch.sequence);
        response.max_age = Some(max_age);
        response.names_topic = watch.subscription.filter().has_wildcard();
        let (token, is_of_session) = (watch.token, watch.member.is_some());
        self.metrics.notifications[usize::from(confirmable)].add(1);
        self.part(&mut response, None);
        let is_parted = response.block2.is_some();
        if is_parted || response.body_len() > self.peers[at].limit() {
            response.etag = Some(tag(message));
            self.watches[place].last = Some(Parted {
                message: Arc::clone(message),
                moved: now,
                is_whole: !is_parted,
            });
        } else {
            self.watches[place].last = None;
        }
        let what = What::Notification(place);
        if confirmable {
            self.send(at, token, response, what, now, out);
        } else {
            let start = out.bytes.len();
            let (id, path) = (self.peers[at].next_id(), self.peers[at].path);
            self.watches[place].last_id = Some(id);
            let kind = Kind::NonConfirmable;
            let writer = Writer::new(&mut out.bytes, kind, response.code, id, token);
            response.write(writer, &mut self.scratch);
            out.finish(path, start);
        }
        if is_of_session {
            // It was counted when it was taken from there.
            return;
        }
        let counters = self.bus.counters();
        let qos = usize::from(confirmable);
        counters.messages_sent[qos].add(1);
        counters
            .payload_bytes_sent
            .add(message.as_message().payload.len() as u64);
    }

    /// Sends a confirmable message.
    pub(crate) fn send(
        &mut self,
        at: usize,
        token: Token,
        mut response: Response,
        what: What,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let timeout = self.first_timeout();
        let peer = &mut self.peers[at];
        let (id, path, limit) = (peer.next_id(), peer.path, peer.limit());
        let start = out.bytes.len();
        let kind = Kind::Confirmable;
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
        let is_refused = what != What::Response && !response.code.is_success();
        let is_too_large = out.bytes.len() - start > limit;
        if is_refused || (is_too_large && self.settings.unverified != Unverified::All) {
            // An address that was sent all that it may be, and has proved nothing: it is told nothing more.
            out.bytes.truncate(start);
            if let What::Notification(place) = what {
                self.cancel(place, Cancel::Timeout, now);
            }
            return;
        }
        let bytes: Box<[u8]> = out.bytes[start..].into();
        out.finish(path, start);
        if let What::Notification(place) = what {
            self.watches[place].last_id = Some(id);
        }
        let peer = &mut self.peers[at];
        peer.spend(bytes.len());
        peer.outstanding = Some(Box::new(Outstanding {
            id,
            what,
            bytes,
            sent: now,
            due: now + timeout,
            timeout,
            attempts: 0,
        }));
    }

    /// Between ACK_TIMEOUT and that times ACK_RANDOM_FACTOR (RFC 7252 section 4.2).
    fn first_timeout(&mut self) -> Duration {
        let random = self.random.next() % 1_000;
        ACK_TIMEOUT + ACK_TIMEOUT / 2 * random as u32 / 1_000
    }

    // ---- what comes back --------------------------------------------------------------------

    /// A message of ours was acknowledged.
    pub(crate) fn acknowledged(&mut self, path: Path, id: u16, now: Instant, out: &mut Outgoing) {
        let Some(outstanding) = self.settle(path, id) else {
            return self.metrics.ignored.add(1);
        };
        let (at, outstanding) = outstanding;
        self.prove(at);
        let peer = &mut self.peers[at];
        if outstanding.attempts == 0 {
            // Of one that was repeated it is not known which was acknowledged (RFC 6298 section 3).
            peer.measured(now.duration_since(outstanding.sent));
        }
        if let What::Notification(place) = outstanding.what
            && let Some(watch) = self.watches.get_mut(place)
        {
            watch.confirmed = Some(now);
            if !watch.is_fetching() {
                self.received(place, now);
            }
        }
        self.pump(at, now, out);
    }

    /// A message of ours was of no use to its receiver: an observation that it has forgotten (section 3.6).
    pub(crate) fn reset(&mut self, path: Path, id: u16, now: Instant, out: &mut Outgoing) {
        let settled = self.settle(path, id);
        let Some(at) = self.peer_at(path.remote) else {
            return self.metrics.ignored.add(1);
        };
        let watches = &self.watches;
        let of = |place: &&usize| watches[**place].last_id == Some(id);
        let place = self.peers[at].watches.iter().find(of).copied();
        match (place, settled) {
            (Some(place), _) => self.cancel(place, Cancel::Reset, now),
            // A pong, or the end of a response that nobody waits for.
            (None, Some((_, outstanding))) => {
                self.prove(at);
                if outstanding.attempts == 0 {
                    self.peers[at].measured(now.duration_since(outstanding.sent));
                }
            }
            (None, None) => return self.metrics.ignored.add(1),
        }
        self.pump(at, now, out);
    }

    /// Takes the message that is outstanding, if it has this identifier.
    fn settle(&mut self, path: Path, id: u16) -> Option<(usize, Box<Outstanding>)> {
        let at = self.peer_at(path.remote)?;
        let outstanding = self.peers[at].outstanding.take_if(|o| o.id == id)?;
        Some((at, outstanding))
    }

    // ---- time -------------------------------------------------------------------------------

    /// Sets when the endpoint is to be looked at again.
    pub(crate) fn reschedule(&mut self, at: usize, now: Instant) {
        let peer = &self.peers[at];
        let due = if let Some(outstanding) = &peer.outstanding {
            let waiting = peer.responses().filter_map(|waiting| waiting.request);
            waiting
                .map(|(_, due)| due)
                .fold(outstanding.due, Instant::min)
        } else if peer.is_idle() {
            self.rest_ends(at)
        } else if let Some(due) = self.next_notification(at, now) {
            due
        } else {
            // An observer is asked whether it lives, and what is kept to be fetched is not kept for ever.
            let watches = peer.watches.iter().map(|place| &self.watches[*place]);
            let kept = watches.flat_map(|watch| {
                let parted = watch.last.as_ref().map(|parted| parted.moved);
                let fetched = watch.fetched.as_ref().map(|fetched| fetched.at);
                parted.into_iter().chain(fetched)
            });
            let ends = kept.map(|since| since + EXCHANGE_LIFETIME);
            ends.fold(peer.heard + self.settings.confirm_interval, Instant::min)
        };
        self.schedule(at, Some(due));
    }

    /// When the next notification may go to an endpoint, if there is one.
    fn next_notification(&self, at: usize, now: Instant) -> Option<Instant> {
        let peer = &self.peers[at];
        let watches = peer.watches.iter().map(|place| &self.watches[*place]);
        let waiting = watches.filter(|watch| !watch.observation.is_empty());
        let paced = peer.paced_until(now);
        waiting
            .map(|watch| watch.busy_until().map_or(paced, |until| until.max(paced)))
            .min()
    }

    /// Does what is due for an endpoint.
    pub(crate) fn look_at(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        self.acknowledge_waiting(at, now, out);
        let peer = &mut self.peers[at];
        if peer
            .outstanding
            .as_ref()
            .is_some_and(|outstanding| outstanding.due <= now)
        {
            self.repeat(at, now, out);
        } else if peer.is_idle() && self.rest_ends(at) <= now {
            return self.forget(at);
        } else if !self.peers[at].watches.is_empty()
            && self.peers[at].outstanding.is_none()
            && now.duration_since(self.peers[at].heard) >= self.settings.confirm_interval
        {
            self.ping(at, now, out);
        }
        if self.peers.contains(at) {
            for place in self.peers[at].watches.clone() {
                let watch = &mut self.watches[place];
                let is_over = |fetched: &mut Box<Fetched>| fetched.at + EXCHANGE_LIFETIME <= now;
                watch.fetched.take_if(is_over);
                let last = &mut watch.last;
                let over =
                    last.take_if(|parted| now.duration_since(parted.moved) >= EXCHANGE_LIFETIME);
                if over.is_some_and(|parted| !parted.is_whole) {
                    self.not_fetched(place, now);
                }
            }
            self.pump(at, now, out);
        }
    }

    /// Asks whether an endpoint lives, unless something is under way whose acknowledgement says so.
    pub(crate) fn ask_whether_it_lives(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        if self.peers[at].outstanding.is_none() {
            self.ping(at, now, out);
            self.reschedule(at, now);
        }
    }

    /// Asks whether an endpoint lives (RFC 7252 section 4.3).
    fn ping(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        let timeout = self.first_timeout();
        let peer = &mut self.peers[at];
        let id = peer.next_id();
        let start = out.bytes.len();
        Writer::empty(&mut out.bytes, Kind::Confirmable, id);
        let bytes: Box<[u8]> = out.bytes[start..].into();
        if bytes.len() > peer.limit() && self.settings.unverified != Unverified::All {
            // It was sent all that it may be, and has proved nothing.
            out.bytes.truncate(start);
            return self.give_up(at, What::Ping, now);
        }
        peer.spend(bytes.len());
        out.finish(peer.path, start);
        peer.outstanding = Some(Box::new(Outstanding {
            id,
            what: What::Ping,
            bytes,
            sent: now,
            due: now + timeout,
            timeout,
            attempts: 0,
        }));
    }

    /// A message of ours was not acknowledged in time.
    fn repeat(&mut self, at: usize, now: Instant, out: &mut Outgoing) {
        let peer = &mut self.peers[at];
        let Some(mut outstanding) = peer.outstanding.take() else {
            return;
        };
        let room = peer.limit() >= outstanding.bytes.len();
        if outstanding.attempts >= MAX_RETRANSMIT || !room {
            return self.give_up(at, outstanding.what, now);
        }
        self.metrics.retransmissions.add(1);
        let (attempts, timeout) = (outstanding.attempts + 1, outstanding.timeout * 2);
        if let What::Notification(place) = outstanding.what
            && peer.verified
            && let Some(watch) = self.watches.get(place)
            && !watch.observation.is_empty()
            && watch.member.is_none()
        {
            // What is newer goes instead, and its repetitions go on counting (section 4.5.2).
            watch.observation.supersede();
            self.bus.count_dropped(DropReason::Superseded, 1);
            if let Some(message) = watch.observation.take() {
                self.send_state(at, place, &message, true, now, out);
                if let Some(newer) = &mut self.peers[at].outstanding {
                    (newer.attempts, newer.timeout) = (attempts, timeout);
                    newer.due = now + timeout;
                }
                return;
            }
        }
        let peer = &mut self.peers[at];
        let start = out.bytes.len();
        out.bytes.extend_from_slice(&outstanding.bytes);
        out.finish(peer.path, start);
        peer.spend(outstanding.bytes.len());
        outstanding.attempts = attempts;
        outstanding.timeout = timeout;
        outstanding.due = now + timeout;
        peer.outstanding = Some(outstanding);
    }

    /// The last repetition was not acknowledged: nobody is there (section 4.5).
    fn give_up(&mut self, at: usize, what: What, now: Instant) {
        if what == What::Response {
            return;
        }
        self.peers[at].clear_responses();
        for place in std::mem::take(&mut self.peers[at].watches) {
            self.cancel(place, Cancel::Timeout, now);
        }
    }
}

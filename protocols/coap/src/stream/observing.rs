//! The observations of one connection (RFC 7641, RFC 8323 section 7): who is told what, as fast as it reads.
//!
//! A notification is neither confirmed nor repeated; that the client reads is seen by the bytes that it takes. While it
//! takes none, messages wait where the bus has put them, as many as may; then the oldest gives way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use slab::Slab;
use tidegate_bus::{QoS, StoredMessage, Subscription, SubscriptionOptions, Ticket, TopicFilter};

use super::endpoint::Endpoint;
use super::seats::Seats;
use crate::client_session::{Attached, Member, Observed};
use crate::codec::{Block, Token};
use crate::duplicates::EXCHANGE_LIFETIME;
use crate::metrics::Cancel;
use crate::observation::Observation;
use crate::ready::Ready;
use crate::topics::NO_IDENTIFIER;
use crate::watch::patience;

/// The number in the answer to a registration; notifications have others (RFC 7641 section 3.4). Over a stream a client
/// does not look at them (RFC 8323 section 7.1).
pub(super) const REGISTERED: u32 = 1;

/// Places in a list that is empty, without being given back.
const KEPT: usize = 8;

/// An observation.
pub(super) struct Watch {
    pub(super) token: Token,
    pub(super) observation: Arc<Observation>,
    subscription: Arc<Subscription>,
    pub(super) qos: QoS,
    sequence: u32,
    /// What was told in part, for as long as the rest of it may be fetched.
    last: Option<Parted>,
    /// What it is of a session, if it is of one.
    pub(super) member: Option<Box<Member>>,
}

/// What is to be told.
pub(super) struct Told {
    pub(super) message: Arc<StoredMessage>,
    /// Of a session: which of its messages it is.
    number: Option<u64>,
}

/// A notification of which the first blocks were sent.
struct Parted {
    message: Arc<StoredMessage>,
    /// When a block of it was last sent.
    moved: Instant,
    /// The last block was sent, too.
    is_whole: bool,
    /// Of a session: which of its messages it is, until it is on its way as a whole.
    number: Option<u64>,
}

/// The observations of one connection.
pub(super) struct Observing {
    endpoint: Arc<Endpoint>,
    ready: Arc<Ready>,
    /// In boxes, so that room for more holds little.
    watches: Slab<Box<Watch>>,
    /// Places of those that have something to tell, in their turn.
    due: VecDeque<usize>,
    /// Places of those whose client fetches the rest of what it was told.
    busy: Vec<usize>,
    awake: Vec<usize>,
    /// The sessions that observations are of.
    pub(super) seats: Option<Box<Seats>>,
}

impl Watch {
    pub(super) fn has_wildcard(&self) -> bool {
        self.subscription.filter().has_wildcard()
    }

    /// The number of the next notification, 24 bits.
    pub(super) fn next_number(&mut self) -> u32 {
        self.sequence = (self.sequence + 1) & 0xFF_FFFF;
        if self.sequence == REGISTERED {
            self.sequence += 1;
        }
        self.sequence
    }

    fn is_busy(&self, now: Instant) -> bool {
        let patience = patience(self.member.is_some());
        self.last
            .as_ref()
            .is_some_and(|parted| !parted.is_whole && parted.moved + patience > now)
    }
}

impl Observing {
    /// `task` is woken when there is something to tell.
    pub(super) fn new(endpoint: &Arc<Endpoint>, task: &Waker) -> Box<Self> {
        Box::new(Self {
            endpoint: Arc::clone(endpoint),
            ready: Arc::new(Ready::of_task(task.clone())),
            watches: Slab::new(),
            due: VecDeque::new(),
            busy: Vec::new(),
            awake: Vec::new(),
            seats: None,
        })
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty() && self.seats.as_ref().is_none_or(|seats| seats.is_empty())
    }

    /// Whether something waits for time to pass.
    pub(super) fn waits(&self) -> bool {
        self.seats.as_ref().is_some_and(|seats| seats.waits())
            || self.watches.iter().any(|(_, watch)| watch.last.is_some())
    }

    /// What nobody fetches any more is not kept, nor what nobody observes. `true`: there is room for more.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        for (_, watch) in &mut self.watches {
            let expired = |parted: &mut Parted| parted.moved + EXCHANGE_LIFETIME <= now;
            if let Some(parted) = watch.last.take_if(expired)
                && let (Some(seats), Some(member), Some(number)) =
                    (&mut self.seats, &watch.member, parted.number)
            {
                seats.not_fetched(&self.endpoint.bus, member, number);
            }
        }
        let mut moved = false;
        if let Some(seats) = &mut self.seats {
            let bus = &self.endpoint.bus;
            moved = seats.expire(bus, &self.watches, now);
            seats.detach(bus);
        }
        moved
    }

    pub(super) fn watch(&mut self, place: usize) -> Option<&mut Watch> {
        self.watches.get_mut(place).map(|watch| &mut **watch)
    }

    /// Whether there are as many observations, or sessions, as may be.
    pub(super) fn is_full(&self) -> bool {
        let most = self.endpoint.settings.max_observations_per_endpoint;
        self.watches.len() >= most || self.seats.as_ref().is_some_and(|it| it.len() >= most)
    }

    /// This connection is that of a session from now on.
    pub(super) fn take_seat(&mut self, attached: Attached) {
        self.seats.get_or_insert_default().take_seat(attached);
    }

    /// Observes; `None` when there are as many as may be. `session`: the place of the session that it is of.
    pub(super) fn register(
        &mut self,
        token: Token,
        filter: TopicFilter,
        qos: QoS,
        session: Option<usize>,
    ) -> Option<usize> {
        let Endpoint {
            bus,
            settings,
            metrics,
            ..
        } = &*self.endpoint;
        if self.watches.len() >= settings.max_observations_per_endpoint
            || !metrics.observations.take(settings.max_observations)
        {
            return None;
        }
        let entry = self.watches.vacant_entry();
        let place = entry.key();
        let observation = Observation::new(bus, &self.ready, place, settings.max_waiting);
        let options = SubscriptionOptions::with_qos(qos);
        let subscription = Arc::new(Subscription::new(filter, options, NO_IDENTIFIER));
        let watch = entry.insert(Box::new(Watch {
            token,
            observation: Arc::clone(&observation),
            subscription: Arc::clone(&subscription),
            qos,
            sequence: REGISTERED,
            last: None,
            member: None,
        }));
        match (session, &mut self.seats) {
            (Some(session), Some(seats)) => {
                seats.join(session, place, watch);
                self.due.push_back(place);
            }
            _ => bus.add_subscription(observation, subscription),
        }
        Some(place)
    }

    /// The observation of this session and filter that was made with this token.
    pub(super) fn of_session(
        &self,
        token: Token,
        filter: &TopicFilter,
        session: usize,
    ) -> Option<usize> {
        let same = self.watches.iter().find(|(_, watch)| {
            let member = watch.member.as_ref();
            watch.token == token
                && watch.filter() == filter
                && member.is_some_and(|member| member.session == session)
        });
        same.map(|(place, _)| place)
    }

    /// Ends the observation with this token, if there is one. It is ended for good when the ticket is complete. `joined`:
    /// the place of the session that another one is about to join.
    pub(super) fn deregister(
        &mut self,
        token: Token,
        joined: Option<usize>,
        now: Instant,
    ) -> Ticket {
        let same = self.watches.iter().find(|(_, watch)| watch.token == token);
        match same {
            Some((place, _)) => self.end_observation(place, Cancel::Asked, joined, now),
            None => Ticket::ready(),
        }
    }

    /// Ends an observation that the client has not asked to end.
    pub(super) fn cancel(&mut self, place: usize, why: Cancel, now: Instant) {
        self.end_observation(place, why, None, now);
    }

    fn end_observation(
        &mut self,
        place: usize,
        why: Cancel,
        joined: Option<usize>,
        now: Instant,
    ) -> Ticket {
        let Some(watch) = self.watches.try_remove(place) else {
            return Ticket::ready();
        };
        let Endpoint { bus, metrics, .. } = &*self.endpoint;
        metrics.cancelled[why as usize].add(1);
        metrics.observations.give_back(1);
        self.busy.retain(|other| *other != place);
        match &mut self.seats {
            Some(seats) if watch.member.is_some() => {
                // What waits is still the session's.
                watch.observation.clear();
                seats.observation_ended(bus, &self.watches, place, &watch, why, joined, now)
            }
            _ => {
                watch.observation.end();
                bus.remove_subscription(&watch.subscription);
                Ticket::ready()
            }
        }
    }

    /// The tokens of all.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.watches.iter().map(|(_, watch)| watch.token)
    }

    /// The tokens of those whose session still has what they were told.
    pub(super) fn tokens_of_sessions(&self) -> Vec<Token> {
        let members = self.watches.iter();
        let members = members.filter(|(_, watch)| watch.member.is_some());
        let ended = self.seats.iter().flat_map(|seats| seats.tokens());
        members.map(|(_, watch)| watch.token).chain(ended).collect()
    }

    /// Ends all, and gives the sessions back.
    pub(super) fn end(&mut self, now: Instant) {
        let places: Vec<usize> = self.watches.iter().map(|(place, _)| place).collect();
        for place in places {
            self.cancel(place, Cancel::Closed, now);
        }
        if let Some(seats) = &mut self.seats {
            let bus = &self.endpoint.bus;
            seats.leave_all(bus);
            seats.detach(bus);
        }
    }

    // ---- telling ----------------------------------------------------------------------------

    /// Takes from the sessions what may be under way. Gives back the tokens of those who observe no more, as another
    /// connection has their session.
    pub(super) fn draw(&mut self, now: Instant) -> Vec<Token> {
        let mut goodbyes = Vec::new();
        let Some(seats) = &mut self.seats else {
            return goodbyes;
        };
        let endpoint = Arc::clone(&self.endpoint);
        let bus = &endpoint.bus;
        for session in seats.draw(bus, &mut self.watches, &mut self.due, now) {
            let seats = self.seats.as_ref();
            for place in seats.map_or_else(Vec::new, |seats| seats.watches_of(session)) {
                goodbyes.extend(self.watches.get(place).map(|watch| watch.token));
                self.cancel(place, Cancel::TakenOver, now);
            }
            if let Some(seats) = &mut self.seats {
                // Where nothing was observed yet.
                seats.leave(bus, session, false);
            }
        }
        if let Some(seats) = &mut self.seats {
            seats.detach(bus);
        }
        goodbyes
    }

    /// The next message to tell, and of which observation.
    pub(super) fn next(&mut self, now: Instant) -> Option<(usize, Told)> {
        self.ready.take(&mut self.awake);
        self.due.extend(self.awake.drain(..));
        if !self.busy.is_empty() {
            let watches = &self.watches;
            let is_free = |place: &usize| watches.get(*place).is_none_or(|w| !w.is_busy(now));
            self.due
                .extend(self.busy.extract_if(.., |place| is_free(place)));
        }
        while let Some(place) = self.due.pop_front() {
            // It may have ended meanwhile, and its place be another's, who then has nothing to tell.
            let Some(watch) = self.watches.get_mut(place) else {
                continue;
            };
            if watch.is_busy(now) {
                if !watch.observation.is_empty() && !self.busy.contains(&place) {
                    self.busy.push(place);
                }
                continue;
            }
            let Some(message) = watch.observation.take() else {
                continue;
            };
            if !watch.observation.is_empty() {
                self.due.push_back(place);
            }
            let number = watch.member.as_mut().and_then(|member| member.next());
            return Some((place, Told { message, number }));
        }
        self.due.shrink_to(KEPT);
        self.awake.shrink_to(KEPT);
        None
    }

    /// It was told, and where it is parted the rest will be fetched.
    pub(super) fn told(&mut self, place: usize, told: Told, is_parted: bool, now: Instant) {
        let Some(watch) = self.watches.get_mut(place) else {
            return;
        };
        let Told { message, number } = told;
        let mut last = is_parted.then_some(Parted {
            message,
            moved: now,
            is_whole: false,
            number,
        });
        std::mem::swap(&mut watch.last, &mut last);
        let member = watch.member.as_deref();
        if let (Some(seats), Some(member), Some(before)) = (
            &mut self.seats,
            member,
            last.and_then(|before| before.number),
        ) {
            seats.not_fetched(&self.endpoint.bus, member, before);
        }
        let number = number.filter(|_| !is_parted);
        has_gone(&mut self.seats, place, member, number);
    }

    /// It is worth nothing any more, and is not told.
    pub(super) fn passed_over(&mut self, place: usize, told: &Told) {
        let Some(watch) = self.watches.get(place) else {
            return;
        };
        if let (Some(seats), Some(member), Some(number)) =
            (&mut self.seats, &watch.member, told.number)
        {
            seats.settle(&self.endpoint.bus, member, number);
        }
    }

    /// What an observer of this filter was told in part, when the rest of it is fetched.
    pub(super) fn notified(
        &self,
        filter: &TopicFilter,
        block: Option<Block>,
    ) -> Option<Arc<StoredMessage>> {
        block.filter(|block| block.num > 0)?;
        let same = self
            .watches
            .iter()
            .filter(|(_, watch)| watch.subscription.filter() == filter);
        // Of several observations of the same, the one that was told something last.
        let parted = same
            .filter_map(|(_, watch)| watch.last.as_ref())
            .max_by_key(|last| last.moved);
        parted.map(|parted| Arc::clone(&parted.message))
    }

    /// So far was fetched of what an observer was told: with the end of it the next may be told.
    pub(super) fn fetched(&mut self, filter: &TopicFilter, end: usize, now: Instant) {
        for (place, watch) in &mut self.watches {
            if watch.subscription.filter() == filter
                && let Some(parted) = &mut watch.last
            {
                parted.moved = now;
                parted.is_whole |= end >= parted.message.as_message().payload.len();
                if parted.is_whole {
                    let number = parted.number.take();
                    has_gone(&mut self.seats, place, watch.member.as_deref(), number);
                }
            }
        }
    }
}

/// A message of a session was sent, all of it.
fn has_gone(
    seats: &mut Option<Box<Seats>>,
    watch: usize,
    member: Option<&Member>,
    number: Option<u64>,
) {
    if let (Some(seats), Some(member), Some(number)) = (seats, member, number) {
        seats.sent(watch, member, number);
    }
}

impl Observed for Watch {
    fn filter(&self) -> &TopicFilter {
        self.subscription.filter()
    }

    fn observation(&self) -> &Observation {
        &self.observation
    }

    fn member(&self) -> Option<&Member> {
        self.member.as_deref()
    }

    fn member_mut(&mut self) -> &mut Option<Box<Member>> {
        &mut self.member
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}

//! Sessions of observers: those that name themselves (`?c=`), or have proved who they are, and observe with QoS 1 or 2.
//!
//! Such an observation is a subscription of the client's session, as one of MQTT: what is published while the client
//! is away waits for it, is on disk before its publisher hears so, and survives a restart. A listener for datagrams, or
//! a connection over a stream, is the session's connection for as long as the client observes anything there. Here is
//! what both do with it; how one is come by is in `seats.rs` and `stream/seats.rs`.
//!
//! ```text
//!  GET, Observe 0         claim            attach, subscribe           kept
//!  ─────────────▶ claiming ───────▶ attached ───────────────▶ keeping ────────▶ observing
//!                                                                                  │
//!     deregistered: the subscription ends                            ◀─────────────┤
//!     the client is not there any more: the subscription stays       ◀─────────────┤
//!     another connection takes the session over: 5.03, it stays      ◀─────────────┘
//! ```
//!
//! The invariants:
//!
//! 1. A message at QoS 1 or 2 is acknowledged to the session when the client has acknowledged the notification with it,
//!    for every subscription that it came through, and, of a large one, when its rest was fetched. Until then it is the
//!    session's, and the next registration is told it again.
//! 2. Of one observation nothing is passed over: no newer state takes the place of an older one.
//! 3. As many messages are taken from the session as its window allows for, and no more than [`MOST_TAKEN`] bytes; the
//!    rest waits there, within its limits.
//! 4. A message for a subscription that was not registered anew waits for [`GRACE`]: who has started anew registers
//!    one observation after another. Then it is dropped, and counted; as is a large one of which no more was fetched
//!    for the life of an exchange.
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
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;
use smallvec::SmallVec;
use tidegate_bus::{
    AttachRefusal, Attachment, Bus, Claim, ClientId, ConnectRequest, DropReason, Encoder, QoS,
    RetainHandling, StoreError, StoredMessage, SubscribeRefusal, SubscriptionOptions, Ticket,
    TopicFilter, Worker,
};

use crate::codec::Code;
use crate::delivery::{self, Delivery, DeliveryEncoder, Identifiers};
use crate::metrics::Cancel;
use crate::observation::Observation;
use crate::request::Request;
use crate::response::Response;
use crate::settings::Settings;

/// How long what was queued waits for its observation to be registered anew.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// Bytes of messages that wait for the client's acknowledgements before no more are taken; one message on top.
const MOST_TAKEN: usize = 1 << 20;

/// Subscriptions that were ended and are remembered.
const MOST_ENDED: usize = 64;

/// Subscription identifiers have 28 bits (MQTT 5.0 section 3.8.2.1.2).
const IDENTIFIERS: u64 = 0x0FFF_FFFF;

pub(crate) type Claiming = Pin<Box<dyn Future<Output = Result<Claim, StoreError>> + Send>>;

/// An observation, as sessions see it.
pub(crate) trait Observed {
    /// What is observed.
    fn filter(&self) -> &TopicFilter;
    fn observation(&self) -> &Observation;
    /// What it is of a session, if it is of one.
    fn member(&self) -> Option<&Member>;
    fn member_mut(&mut self) -> &mut Option<Box<Member>>;

    /// Its subscription's identifier, if it is one of a session.
    fn identifier(&self) -> Option<u32> {
        self.member().map(|member| member.identifier)
    }

    /// How many messages of the session wait in it.
    fn owed(&self) -> usize {
        self.member().map_or(0, |member| member.owed.len())
    }
}

impl<T: Observed> Observed for Box<T> {
    fn filter(&self) -> &TopicFilter {
        (**self).filter()
    }

    fn observation(&self) -> &Observation {
        (**self).observation()
    }

    fn member(&self) -> Option<&Member> {
        (**self).member()
    }

    fn member_mut(&mut self) -> &mut Option<Box<Member>> {
        (**self).member_mut()
    }
}

/// A hold on the session of a client.
pub(crate) struct Attached {
    /// Where the client observes.
    pub(crate) remote: SocketAddr,
    attachment: Attachment,
    /// Most messages that are taken and not acknowledged.
    window: NonZeroU16,
    /// Places of its observations.
    pub(crate) watches: SmallVec<[usize; 1]>,
    /// What was subscribed to by this connection, and whether that is kept.
    filters: Vec<(TopicFilter, QoS, Ticket)>,
    /// What was taken from the session, from `read` on.
    output: Vec<u8>,
    read: usize,
    taken: VecDeque<Taken>,
    taken_bytes: usize,
    next: u64,
    /// Until when what has no observation waits for one.
    grace: Instant,
    /// Subscriptions that were ended: what is still queued for them is not waited for.
    ended: VecDeque<u32>,
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
    /// The place of the session.
    pub(crate) session: usize,
    pub(crate) identifier: u32,
    /// Numbers of the messages that wait in the observation, in their order.
    owed: VecDeque<u64>,
    /// Of datagrams: the one that was sent and is not acknowledged.
    sending: Option<u64>,
}

impl Member {
    /// The number of the next message that waits, which is sent now.
    pub(crate) fn next(&mut self) -> Option<u64> {
        self.owed.pop_front()
    }

    /// As [`Self::next`], where one is under way at a time.
    pub(crate) fn send_next(&mut self) {
        self.sending = self.owed.pop_front();
    }

    /// What is under way has arrived.
    pub(crate) const fn sent(&mut self) -> Option<u64> {
        self.sending.take()
    }
}

/// What the end of an observation comes to.
pub(crate) struct Ended {
    /// The client hears of it when this is complete.
    pub(crate) kept: Ticket,
    /// Nothing of the session is observed any more.
    pub(crate) was_last: bool,
}

/// What became of a session as time passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aged {
    /// Nothing.
    Same,
    /// Room was made: more may be taken.
    Moved,
    /// Nobody observes anything of it: it is to be left.
    Unused,
}

fn identifier(filter: &TopicFilter) -> NonZeroU32 {
    let hash = foldhash::quality::FixedState::default().hash_one(filter.as_str());
    let number = (hash % IDENTIFIERS) as u32 + 1;
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// For how many seconds the session of who asks is kept when the client is away.
pub(crate) fn expiry(request: &Request<'_>, settings: &Settings) -> u32 {
    let usual = settings.session_expiry.as_secs();
    let usual = u32::try_from(usual).unwrap_or(u32::MAX);
    request.query.session_expiry.unwrap_or(usual)
}

/// Becomes the next owner of a client's session.
pub(crate) fn claim(bus: &Arc<Bus>, client: &ClientId) -> Claiming {
    let (bus, client) = (Arc::clone(bus), client.clone());
    Box::pin(async move { bus.claim(&client).await })
}

impl Attached {
    // ---- beginning --------------------------------------------------------------------------

    /// Attaches to the session of a client that observes from `remote`, and takes as many messages of it as `window`.
    /// `waker` is woken when the session has something, or has ended.
    #[expect(clippy::too_many_arguments, reason = "what a session is made of")]
    pub(crate) fn new(
        bus: &Arc<Bus>,
        worker: &mut Worker,
        client: &ClientId,
        remote: SocketAddr,
        claim: Result<Claim, StoreError>,
        expiry: u32,
        window: NonZeroU16,
        waker: Waker,
        now: Instant,
    ) -> Result<Self, Response> {
        let claim = claim.map_err(|_| not_kept())?;
        let request = ConnectRequest {
            clean_start: false,
            expiry,
            will: None,
            receive_maximum: window,
            // Whether the client is there is found out by asking it.
            keep_alive: 0,
            encoder: Box::new(DeliveryEncoder),
        };
        let attached = bus.attach(worker, client, claim, request);
        let (attachment, _present) = attached.map_err(|refusal| match refusal {
            AttachRefusal::QuotaExceeded => {
                let why = "there are as many sessions as there may be";
                Response::later(Code::SERVICE_UNAVAILABLE, 30, why)
            }
            _ => taken_over(),
        })?;
        attachment.set_waker(waker);
        Ok(Self {
            remote,
            attachment,
            window,
            watches: SmallVec::new(),
            filters: Vec::new(),
            output: Vec::new(),
            read: 0,
            taken: VecDeque::new(),
            taken_bytes: 0,
            next: 0,
            grace: now + GRACE,
            ended: VecDeque::new(),
        })
    }

    /// Whose session it is.
    pub(crate) fn client(&self) -> &ClientId {
        self.attachment.session().id()
    }

    /// Whether another connection has the session, or an operator has ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.attachment.ended().is_some()
    }

    /// Subscribes to what is to be observed, unless it is subscribed to. The ticket is complete when that is kept.
    pub(crate) fn subscribe(
        &mut self,
        bus: &Bus,
        filter: &TopicFilter,
        qos: QoS,
        now: Instant,
    ) -> Result<Ticket, Response> {
        let known = self.filters.iter_mut();
        let mut known = known.filter(|(known, granted, _)| known == filter && *granted == qos);
        if let Some((_, _, ticket)) = known.next() {
            match ticket.result() {
                None => return Ok(ticket.clone()),
                Some(Ok(())) => {
                    // What it is complete with is not kept any longer.
                    *ticket = Ticket::ready();
                    return Ok(Ticket::ready());
                }
                // Once more.
                Some(Err(_)) => {}
            }
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
        let number = identifier(filter);
        let subscribed =
            self.attachment
                .subscribe(bus.now(), filter.clone(), options, Some(number));
        let (_, ticket) = subscribed.map_err(not_subscribed)?;
        // Another may be registered anew behind this one.
        self.grace = now + GRACE;
        self.ended.retain(|ended| *ended != number.get());
        self.filters.retain(|(known, ..)| known != filter);
        self.filters.push((filter.clone(), qos, ticket.clone()));
        Ok(ticket)
    }

    /// Makes the observation at `place` one of this session, which is at the place `session`; what was taken for it
    /// already waits in it from now on.
    pub(crate) fn join<W: Observed>(&mut self, session: usize, place: usize, watch: &mut W) {
        let identifier = identifier(watch.filter()).get();
        self.watches.push(place);
        let mut owed = VecDeque::new();
        for taken in &self.taken {
            if taken.pending.contains(&identifier) {
                owed.push_back(taken.number);
                watch.observation().push(Arc::clone(&taken.message));
            }
        }
        *watch.member_mut() = Some(Box::new(Member {
            session,
            identifier,
            owed,
            sending: None,
        }));
    }

    // ---- telling ----------------------------------------------------------------------------

    /// Takes as much from the session as may be under way; `told` has the places of the observations in which something
    /// waits then. `false`: the session is another's.
    pub(crate) fn draw<W: Observed>(
        &mut self,
        bus: &Bus,
        watches: &mut Slab<W>,
        now: Instant,
        mut told: impl FnMut(usize),
    ) -> bool {
        let window = usize::from(self.window.get());
        let mut places = self.watches.iter();
        if places.any(|place| watches[*place].owed() >= 2 * window) {
            // Of two that observe the same, one lags behind.
            return true;
        }
        while self.taken.len() < window && self.taken_bytes < MOST_TAKEN {
            if self.read == self.output.len() {
                (self.output, self.read) = (Vec::new(), 0);
                match self.attachment.take_output(&mut self.output, bus.now()) {
                    Err(_ended) => return false,
                    Ok(more) if self.output.is_empty() && !more => break,
                    Ok(_) => continue,
                }
            }
            if !self.take_delivery(bus, watches, now, &mut told) {
                break;
            }
        }
        true
    }

    /// Takes one delivery. `false`: memory has no room for it now.
    fn take_delivery<W: Observed>(
        &mut self,
        bus: &Bus,
        watches: &mut Slab<W>,
        now: Instant,
        told: &mut impl FnMut(usize),
    ) -> bool {
        let mut rest = &self.output[self.read..];
        let (message, packet_id, mut pending) = match delivery::next(&mut rest) {
            // The encoder has written whole deliveries and nothing else.
            None => {
                self.read = self.output.len();
                return true;
            }
            Some(Delivery::Release(packet_id)) => {
                self.read = self.output.len() - rest.len();
                // One that was replaced hears of it by the next look.
                let _ = self.attachment.complete(bus.now(), packet_id);
                return true;
            }
            Some(Delivery::Message {
                message,
                packet_id,
                identifiers,
            }) => (message.store(bus.memory()), packet_id, identifiers),
        };
        let read = self.output.len() - rest.len();
        let Some(message) = message else {
            if packet_id.is_some() {
                return false;
            }
            self.read = read;
            bus.count_unsent(self.attachment.session(), DropReason::MemoryFull, 1);
            return true;
        };
        self.read = read;
        if pending.is_empty() {
            // A subscription that was made over MQTT without an identifier.
            pending.push(0);
        }
        pending.retain(|identifier| !self.ended.contains(identifier));
        if now >= self.grace {
            pending.retain(|identifier| {
                let mut places = self.watches.iter();
                places.any(|place| watches[*place].identifier() == Some(*identifier))
            });
        }
        let taken = Taken {
            number: self.next,
            message,
            packet_id,
            pending,
        };
        self.next += 1;
        if taken.pending.is_empty() {
            self.settle(bus, &taken);
            bus.count_unsent(self.attachment.session(), DropReason::Unobserved, 1);
            return true;
        }
        for place in &self.watches {
            let watch = &mut watches[*place];
            if let Some(member) = watch.member_mut()
                && taken.pending.contains(&member.identifier)
            {
                member.owed.push_back(taken.number);
                watch.observation().push(Arc::clone(&taken.message));
                told(*place);
            }
        }
        self.taken_bytes += bytes_of(&taken);
        self.taken.push_back(taken);
        true
    }

    /// A subscription is not owed the message with this number, or any, any more: the client has it.
    pub(crate) fn received(&mut self, bus: &Bus, identifier: u32, number: Option<u64>) {
        let mut settled = SmallVec::<[Taken; 1]>::new();
        let mut at = 0;
        while at < self.taken.len() {
            let taken = &mut self.taken[at];
            if number.is_some_and(|number| number < taken.number) {
                // They stand in the order of their numbers.
                break;
            }
            if number.is_none_or(|number| number == taken.number) {
                taken.pending.retain(|pending| *pending != identifier);
            }
            if !taken.pending.is_empty() {
                at += 1;
            } else if let Some(one) = self.taken.remove(at) {
                self.taken_bytes -= bytes_of(&one);
                settled.push(one);
            }
        }
        if self.taken.is_empty() {
            self.taken = VecDeque::new();
        }
        for taken in &settled {
            self.settle(bus, taken);
        }
    }

    /// The client has fetched no more of a large message for as long as it might: it is lost to it.
    pub(crate) fn not_fetched(&mut self, bus: &Bus, identifier: u32, number: u64) {
        let before = self.taken.len();
        self.received(bus, identifier, Some(number));
        if self.taken.len() < before {
            bus.count_unsent(self.attachment.session(), DropReason::Unobserved, 1);
        }
    }

    /// Acknowledges a message to the session.
    fn settle(&self, bus: &Bus, taken: &Taken) {
        let (at, qos) = (bus.now(), taken.message.qos());
        // One that was replaced hears of it by the next look.
        match taken.packet_id {
            Some(packet_id) if qos == QoS::ExactlyOnce => {
                let _ = self.attachment.received(at, packet_id, false);
                // What PUBREL and PUBCOMP would say, the acknowledgement has said.
                let _ = self.attachment.complete(at, packet_id);
            }
            Some(packet_id) => {
                let _ = self.attachment.acknowledge(at, packet_id, false);
            }
            None => {}
        }
    }

    // ---- ends -------------------------------------------------------------------------------

    /// An observation has ended that was at `place` and is not in `watches` any more.
    pub(crate) fn observation_ended<W: Observed>(
        &mut self,
        bus: &Bus,
        watches: &Slab<W>,
        place: usize,
        watch: &impl Observed,
        why: Cancel,
        now: Instant,
    ) -> Ended {
        let mut kept = Ticket::ready();
        let identifier = watch.identifier();
        self.watches.retain(|other| *other != place);
        self.grace = now + GRACE;
        let mut others = self.watches.iter();
        let is_last = !others.any(|other| watches[*other].identifier() == identifier);
        if let Some(identifier) = identifier
            && why == Cancel::Asked
            && is_last
        {
            let filter = watch.filter();
            self.filters.retain(|(known, ..)| known != filter);
            if self.ended.len() >= MOST_ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(identifier);
            if let Ok((_, ticket)) = self.attachment.unsubscribe(filter) {
                kept = ticket;
            }
            self.received(bus, identifier, None);
        }
        Ended {
            kept,
            was_last: self.watches.is_empty(),
        }
    }

    /// What is left when the session is given back, and what becomes of its expiry. `deliberately`: it ends if nothing
    /// is subscribed to any more.
    pub(crate) fn leave(self, bus: &Bus, deliberately: bool) -> (Attachment, Option<u32>) {
        let Self {
            attachment,
            output,
            read,
            taken,
            ..
        } = self;
        let unacknowledged = taken.iter().filter(|taken| taken.packet_id.is_none());
        let lost =
            unacknowledged.count() as u64 + DeliveryEncoder.count_unacknowledged(&output[read..]);
        bus.count_unsent(attachment.session(), DropReason::ConnectionClosed, lost);
        let is_over = deliberately && attachment.session().subscriptions().is_empty();
        (attachment, is_over.then_some(0))
    }

    /// Whether memory had no room for what is next: it is to be tried again.
    pub(crate) const fn is_held_up(&self) -> bool {
        self.read < self.output.len()
    }

    /// Whether something waits for time to pass.
    pub(crate) fn waits(&self) -> bool {
        self.watches.is_empty() || !self.taken.is_empty() || self.is_held_up()
    }

    /// Drops what has waited for its observation for long enough.
    pub(crate) fn expire<W: Observed>(
        &mut self,
        bus: &Bus,
        watches: &Slab<W>,
        now: Instant,
    ) -> Aged {
        if self.grace > now {
            return Aged::Same;
        }
        if self.watches.is_empty() {
            return Aged::Unused;
        }
        let is_observed = |identifier: u32| {
            let mut places = self.watches.iter();
            places.any(|place| watches[*place].identifier() == Some(identifier))
        };
        let pending = self
            .taken
            .iter()
            .flat_map(|taken| taken.pending.iter().copied());
        let lost: SmallVec<[u32; 4]> = pending.filter(|one| !is_observed(*one)).collect();
        if lost.is_empty() {
            return Aged::Same;
        }
        let before = self.taken.len();
        for identifier in lost {
            self.received(bus, identifier, None);
        }
        let dropped = before - self.taken.len();
        let session = self.attachment.session();
        bus.count_unsent(session, DropReason::Unobserved, dropped as u64);
        Aged::Moved
    }
}

/// Bytes that a message counts for.
fn bytes_of(taken: &Taken) -> usize {
    taken.message.as_message().payload.len()
}

pub(crate) fn full() -> Response {
    let why = "as many observations are open as may be";
    Response::later(Code::TOO_MANY_REQUESTS, 30, why)
}

pub(crate) fn not_kept() -> Response {
    let why = "the subscription cannot be kept now";
    Response::later(Code::SERVICE_UNAVAILABLE, 30, why)
}

pub(crate) fn taken_over() -> Response {
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

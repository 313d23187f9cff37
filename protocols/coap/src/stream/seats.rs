//! How an observation over a stream comes by its messages: straight from the bus, or from its client's session, of which
//! this connection is one ([`crate::client_session`]).
//!
//! A stream says that what was sent has left, not that it was read. So behind the notifications of a session goes a ping
//! with Custody, whose pong says that everything before it was processed (RFC 8323 section 5.4.1): that is the
//! acknowledgement. A client that does not know Custody answers all the same, and then has read as far, which is as
//! much as the acknowledgement of a datagram says (RFC 7252 section 4.2).
//!
//! One such ping is under way at a time, and acknowledges all that went before it: one round trip for many
//! notifications. Who leaves, or is left, without a pong is told them again when it comes back.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Instant;

use slab::Slab;
use tidegate_bus::{Attachment, Bus, ClientId, Departure, QoS, Ticket, TopicFilter};

use super::observing::Watch;
use crate::client_session::{Aged, Attached, Ended, Member};
use crate::codec::Token;
use crate::metrics::Cancel;
use crate::response::Response;

/// Messages of one session that wait for a pong.
pub(super) const WINDOW: NonZeroU16 = NonZeroU16::new(256).unwrap();

/// Tokens that are remembered of observations that have ended.
const MOST_TOKENS: usize = 64;

/// The sessions whose connection this is: mostly one.
#[derive(Default)]
pub(super) struct Seats {
    sessions: Slab<Session>,
    /// What is to be given back.
    leaving: Vec<(Attachment, Option<u32>)>,
    /// Of observations that have ended, and whose session still has what they were told.
    tokens: VecDeque<Token>,
}

struct Session {
    attached: Attached,
    /// What the client was sent and has not acknowledged, in its order.
    sent: VecDeque<Sent>,
}

struct Sent {
    /// The place of the observation.
    watch: usize,
    identifier: u32,
    number: u64,
    /// A ping went behind it.
    asked: bool,
}

impl Seats {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.leaving.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn take_seat(&mut self, attached: Attached) {
        self.sessions.insert(Session {
            attached,
            sent: VecDeque::new(),
        });
    }

    /// The place of this client's session.
    pub(super) fn of(&self, client: &ClientId) -> Option<usize> {
        let mut sessions = self.sessions.iter();
        let same = sessions.find(|(_, session)| session.attached.client() == client);
        same.map(|(place, _)| place)
    }

    /// Subscribes to what is to be observed.
    pub(super) fn subscribe(
        &mut self,
        bus: &Bus,
        session: usize,
        filter: &TopicFilter,
        qos: QoS,
        now: Instant,
    ) -> Result<Ticket, Response> {
        let attached = &mut self.sessions[session].attached;
        attached.subscribe(bus, filter, qos, now)
    }

    pub(super) fn join(&mut self, session: usize, place: usize, watch: &mut Watch) {
        let attached = &mut self.sessions[session].attached;
        attached.join(session, place, watch);
    }

    // ---- telling ----------------------------------------------------------------------------

    /// Takes from the sessions what may be under way, and gives the places of observations that have something to tell
    /// to `due`. The places of sessions that are another's now are given back.
    pub(super) fn draw(
        &mut self,
        bus: &Bus,
        watches: &mut Slab<Box<Watch>>,
        due: &mut VecDeque<usize>,
        now: Instant,
    ) -> Vec<usize> {
        let mut ended = Vec::new();
        for (place, Session { attached, .. }) in &mut self.sessions {
            let told = |watch| due.push_back(watch);
            if attached.has_ended() || !attached.draw(bus, watches, now, told) {
                ended.push(place);
            }
        }
        ended
    }

    /// Places of the observations of a session.
    pub(super) fn watches_of(&self, session: usize) -> Vec<usize> {
        self.sessions[session].attached.watches.to_vec()
    }

    /// An observation's message with this number was sent, and all of it.
    pub(super) fn sent(&mut self, watch: usize, member: &Member, number: u64) {
        self.sessions[member.session].sent.push_back(Sent {
            watch,
            identifier: member.identifier,
            number,
            asked: false,
        });
    }

    /// An observation's message with this number is worth nothing any more.
    pub(super) fn settle(&mut self, bus: &Bus, member: &Member, number: u64) {
        let attached = &mut self.sessions[member.session].attached;
        attached.received(bus, member.identifier, Some(number));
    }

    /// The client has fetched no more of an observation's message with this number for as long as it might.
    pub(super) fn not_fetched(&mut self, bus: &Bus, member: &Member, number: u64) {
        let attached = &mut self.sessions[member.session].attached;
        attached.not_fetched(bus, member.identifier, number);
    }

    /// Whether something was sent behind which no ping has gone.
    pub(super) fn is_to_ask(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|(_, session)| session.sent.back().is_some_and(|last| !last.asked))
    }

    /// A ping goes behind all that was sent.
    pub(super) fn ask(&mut self) {
        for (_, session) in &mut self.sessions {
            for sent in session.sent.iter_mut().rev() {
                if std::mem::replace(&mut sent.asked, true) {
                    break;
                }
            }
        }
    }

    /// The pong has come: the client has what was sent before the ping.
    pub(super) fn acknowledged(&mut self, bus: &Bus) {
        for (_, Session { attached, sent }) in &mut self.sessions {
            while let Some(one) = sent.pop_front_if(|one| one.asked) {
                attached.received(bus, one.identifier, Some(one.number));
            }
            if sent.is_empty() {
                *sent = VecDeque::new();
            }
        }
    }

    // ---- ends -------------------------------------------------------------------------------

    /// An observation has ended that was one of a session. `joined`: the place of the session that another one is about
    /// to join, which is not left.
    #[expect(clippy::too_many_arguments, reason = "all that is known of an end")]
    pub(super) fn observation_ended(
        &mut self,
        bus: &Bus,
        watches: &Slab<Box<Watch>>,
        place: usize,
        watch: &Watch,
        why: Cancel,
        joined: Option<usize>,
        now: Instant,
    ) -> Ticket {
        let Some(member) = watch.member.as_deref() else {
            return Ticket::ready();
        };
        let Some(Session { attached, sent }) = self.sessions.get_mut(member.session) else {
            return Ticket::ready();
        };
        // What a pong says of it is of no use to whoever registers it anew.
        sent.retain(|sent| sent.watch != place);
        if why != Cancel::Asked && !self.tokens.contains(&watch.token) {
            if self.tokens.len() >= MOST_TOKENS {
                self.tokens.pop_front();
            }
            self.tokens.push_back(watch.token);
        }
        let Ended { kept, was_last } =
            attached.observation_ended(bus, watches, place, watch, why, now);
        if was_last && joined != Some(member.session) {
            self.leave(bus, member.session, why == Cancel::Asked);
        }
        kept
    }

    /// Leaves a session; `deliberately`: it ends if nothing is subscribed to any more.
    pub(super) fn leave(&mut self, bus: &Bus, session: usize, deliberately: bool) {
        if let Some(session) = self.sessions.try_remove(session) {
            self.leaving.push(session.attached.leave(bus, deliberately));
        }
    }

    /// Leaves all.
    pub(super) fn leave_all(&mut self, bus: &Bus) {
        let places: Vec<usize> = self.sessions.iter().map(|(place, _)| place).collect();
        for place in places {
            self.leave(bus, place, false);
        }
    }

    /// Gives the sessions back that were left. Not within a batch.
    pub(super) fn detach(&mut self, bus: &Bus) {
        if self.leaving.is_empty() {
            return;
        }
        bus.batch(|worker| {
            for (attachment, expiry) in self.leaving.drain(..) {
                attachment.detach(worker, Departure::Normal, expiry);
            }
        });
    }

    /// Tokens of observations that have ended, and of which the session still has what they were told.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.tokens.iter().copied()
    }

    /// Drops what has waited for its observation for long enough, and leaves sessions of which nothing is observed.
    /// `true`: there is room for more.
    pub(super) fn expire(&mut self, bus: &Bus, watches: &Slab<Box<Watch>>, now: Instant) -> bool {
        let (mut unused, mut moved) = (Vec::new(), false);
        for (place, Session { attached, .. }) in &mut self.sessions {
            match attached.expire(bus, watches, now) {
                Aged::Unused => unused.push(place),
                Aged::Moved => moved = true,
                Aged::Same => {}
            }
        }
        for place in unused {
            self.leave(bus, place, true);
        }
        moved
    }

    /// Whether something waits for time to pass.
    pub(super) fn waits(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|(_, session)| session.attached.waits())
    }
}

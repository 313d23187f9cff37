//! What is kept of an endpoint: of observers, and of those whom an answer is owed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::codec::{Block, Token};
use crate::outgoing::Path;
use crate::response::Response;

/// RFC 7252 section 4.8
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// RFC 7252 section 4.8
pub(crate) const MAX_RETRANSMIT: u8 = 4;

/// Most notifications that are not confirmable and go out at once, when their pace allows for more than one since
/// the last (RFC 7641 section 4.5.1 speaks of an average).
const BURST: u32 = 16;

/// The pace as long as no round trip is known (RFC 7641 section 4.5.1).
const UNKNOWN_RTT: Duration = Duration::from_secs(3);

pub(crate) struct Peer {
    pub(crate) path: Path,
    /// It has shown that it receives at its address.
    pub(crate) verified: bool,
    next_id: u16,
    /// Bytes that may be sent to it as long as it is not verified.
    credit: u32,
    /// The one message that may wait for an acknowledgement (NSTART, RFC 7252 section 4.7).
    pub(crate) outstanding: Option<Box<Outstanding>>,
    /// Responses that have to wait for their turn; mostly there are none.
    #[expect(
        clippy::box_collection,
        reason = "a list that is empty would take 32 bytes"
    )]
    responses: Option<Box<VecDeque<Separate>>>,
    /// Places of its observations.
    pub(crate) watches: SmallVec<[usize; 2]>,
    /// Whose turn it is.
    pub(crate) turn: u32,
    /// Microseconds, smoothed (RFC 6298).
    rtt: Option<u32>,
    /// When the next notification that is not confirmable may go.
    non_at: Instant,
    /// When it was last heard, or confirmed.
    pub(crate) heard: Instant,
    /// When it is to be looked at.
    pub(crate) timer: Option<Instant>,
}

/// A response that waits: it goes out as a message of its own (RFC 7252 section 5.2.2), unless its request is not
/// acknowledged yet.
pub(crate) struct Separate {
    /// The request that is to be acknowledged, and when it is whether there is an answer or not.
    pub(crate) request: Option<(u16, Instant)>,
    pub(crate) token: Token,
    pub(crate) response: Response,
    /// The block that was asked for.
    pub(crate) block2: Option<Block>,
    pub(crate) what: What,
}

/// What a confirmable message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Response,
    Notification(usize),
    Ping,
}

/// A confirmable message that is not acknowledged yet.
pub(crate) struct Outstanding {
    pub(crate) id: u16,
    pub(crate) what: What,
    pub(crate) bytes: Box<[u8]>,
    pub(crate) sent: Instant,
    pub(crate) due: Instant,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u8,
}

impl Peer {
    pub(crate) fn new(path: Path, first_id: u16, now: Instant) -> Self {
        Self {
            path,
            verified: false,
            next_id: first_id,
            credit: 0,
            outstanding: None,
            responses: None,
            watches: SmallVec::new(),
            turn: 0,
            rtt: None,
            non_at: now,
            heard: now,
            timer: None,
        }
    }

    /// An identifier for a message of ours.
    pub(crate) fn next_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// How many bytes may be sent to it now.
    pub(crate) const fn limit(&self) -> usize {
        if self.verified {
            usize::MAX
        } else {
            self.credit as usize
        }
    }

    /// It has sent so many bytes: three times as many may be sent to it (RFC 9175 section 2.6).
    pub(crate) fn earn(&mut self, bytes: usize) {
        let more = u32::try_from(bytes * 3).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(more);
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        let less = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_sub(less);
    }

    /// Takes a measured round trip (RFC 6298 section 2).
    pub(crate) fn measured(&mut self, rtt: Duration) {
        // An hour is longer than anything is waited for.
        let rtt = rtt.as_micros().min(3_600_000_000) as u64;
        let smoothed = self
            .rtt
            .map_or(rtt, |before| (u64::from(before) * 7 + rtt) / 8);
        self.rtt = Some(smoothed as u32);
    }

    /// Whether a round trip is known.
    pub(crate) fn knows_rtt(&self) -> bool {
        self.rtt.is_some()
    }

    /// When the next notification that is not confirmable may go; `None`: now, and then this one has its place.
    pub(crate) fn pace(&mut self, now: Instant) -> Option<Instant> {
        if self.non_at > now {
            return Some(self.non_at);
        }
        let step = self
            .rtt
            .map_or(UNKNOWN_RTT, |rtt| Duration::from_micros(rtt.into()));
        let earliest = now.checked_sub(step * BURST).unwrap_or(now);
        self.non_at = self.non_at.max(earliest) + step;
        None
    }

    /// When the next notification that is not confirmable may go.
    pub(crate) fn paced_until(&self, now: Instant) -> Instant {
        self.non_at.max(now)
    }

    /// The responses that wait, in their order.
    pub(crate) fn responses(&self) -> impl ExactSizeIterator<Item = &Separate> {
        let waiting = self.responses.as_deref();
        waiting.map_or_else(Default::default, VecDeque::iter)
    }

    pub(crate) fn responses_mut(&mut self) -> impl Iterator<Item = &mut Separate> {
        self.responses
            .iter_mut()
            .flat_map(|waiting| waiting.iter_mut())
    }

    pub(crate) fn add_response(&mut self, response: Separate) {
        self.responses.get_or_insert_default().push_back(response);
    }

    /// The answer to the registration of the observation at this place is not sent any more.
    pub(crate) fn forget_notification(&mut self, place: usize) {
        if let Some(waiting) = &mut self.responses {
            waiting.retain(|waiting| waiting.what != What::Notification(place));
            if waiting.is_empty() {
                self.responses = None;
            }
        }
    }

    pub(crate) fn clear_responses(&mut self) {
        self.responses = None;
    }

    /// The next response that waits. With none left nothing is kept for them: most endpoints rest most of the time.
    pub(crate) fn next_response(&mut self) -> Option<Separate> {
        let waiting = self.responses.as_mut()?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.responses = None;
        }
        next
    }

    /// Whether nothing is kept for it but itself.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.is_none() && self.responses.is_none() && self.watches.is_empty()
    }
}

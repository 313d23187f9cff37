//! One observation, from the listener's side: what is observed, what was told last, and what is to be told next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_bus::{QoS, StoredMessage, Subscription, TopicFilter};

use crate::client_session::{Member, Observed};
use crate::codec::Token;
use crate::duplicates::EXCHANGE_LIFETIME;
use crate::observation::Observation;

/// How long a client may take from one block of a notification to the next before it is told something newer. In a
/// session nothing is passed over: there it has as long as the rest may be fetched at all.
pub(crate) const fn patience(is_of_session: bool) -> Duration {
    if is_of_session {
        EXCHANGE_LIFETIME
    } else {
        Duration::from_secs(10)
    }
}

/// An observation, as the listener has it.
pub(crate) struct Watch {
    pub(crate) peer: usize,
    pub(crate) token: Token,
    pub(crate) observation: Arc<Observation>,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) qos: QoS,
    /// The number of the last notification (section 3.4), 24 bits.
    pub(crate) sequence: u32,
    /// The message that carried it.
    pub(crate) last_id: Option<u16>,
    /// What it was, for as long as the rest of it may be fetched.
    pub(crate) last: Option<Parted>,
    /// What was fetched last, whole, for as long as the request for its last block may be repeated.
    pub(crate) fetched: Option<Box<Fetched>>,
    /// When the client last acknowledged one.
    pub(crate) confirmed: Option<Instant>,
    /// What it is of a session, if it is of one.
    pub(crate) member: Option<Box<Member>>,
}

/// A notification of which the first block was sent.
pub(crate) struct Parted {
    pub(crate) message: Arc<StoredMessage>,
    /// When a block of it was last sent.
    pub(crate) moved: Instant,
    /// The last block was sent, too.
    pub(crate) is_whole: bool,
}

/// A notification of which all blocks were fetched.
pub(crate) struct Fetched {
    /// The identifier of the request for the last one.
    pub(crate) id: u16,
    pub(crate) message: Arc<StoredMessage>,
    pub(crate) at: Instant,
}

impl Watch {
    /// The client is fetching the rest of what it was told last.
    pub(crate) fn is_fetching(&self) -> bool {
        self.last.as_ref().is_some_and(|parted| !parted.is_whole)
    }

    /// Whether there is something to tell, and the client is not busy with the rest of what it was told last.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.busy_until().is_none_or(|until| until <= now) && !self.observation.is_empty()
    }

    /// Until when the next notification waits for the client to fetch the rest of the one before.
    pub(crate) fn busy_until(&self) -> Option<Instant> {
        let parted = self.last.as_ref().filter(|parted| !parted.is_whole)?;
        Some(parted.moved + patience(self.member.is_some()))
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

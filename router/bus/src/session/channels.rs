//! Several streams under one connection ([`Channel`]).
//!
//! A message that matched a subscription of such a stream has the stream's number in front of its Subscription
//! Identifiers, in the queue and in flight. Whether that stream is still there is looked at when the message is
//! encoded: numbers of streams that have ended may stay behind.
//!
//! ```text
//!            open_channel              end_channel                close_channel
//!  (none) ───────────────▶ open ─────────────────────▶ ended ─────────────────────▶ (none)
//!                            │    nothing new goes out          what was sent and is not acknowledged
//!                            │    on it                         is sent again on the first stream, if lost
//!                            └──────────────────────────────────────▲
//! ```
//!
//! Invariant: an exchange that was sent has the stream it was sent on and no other; when that is closed as lost, the
//! exchange is owed again, as after a reconnect (MQTT-4.4.0-1), with DUP.

use std::num::NonZeroU16;

use super::inflight::{Identifiers, Step};
use super::state::State;
use super::{Locked, Outgoing, Shared};
use crate::channel::{Channel, part};
use crate::drops::DropReason;
use crate::topic::TopicName;

/// The streams of one connection beside the one it has begun on.
#[derive(Default)]
pub(super) struct Channels(
    #[expect(clippy::box_collection, reason = "most connections never have any")]
    Option<Box<Vec<(Channel, Phase)>>>,
);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Ended,
}

impl Channels {
    /// Where a message goes that has channels in front of its Subscription Identifiers.
    pub(super) fn choose<'a>(&self, outgoing: &Outgoing<'a>) -> Outgoing<'a> {
        let (channels, identifiers) = part(outgoing.subscription_identifiers);
        Outgoing {
            subscription_identifiers: identifiers,
            channel: self.first_open(channels),
            ..*outgoing
        }
    }

    fn first_open(&self, list: &[u32]) -> Option<Channel> {
        let known = self.0.as_deref()?;
        let mut list = list.iter().filter_map(|number| Channel::from_u32(*number));
        list.find(|channel| known.contains(&(*channel, Phase::Open)))
    }

    fn remove(&mut self, channel: Channel) {
        if let Some(known) = &mut self.0 {
            known.retain(|(known, _)| *known != channel);
            if known.is_empty() {
                self.0 = None;
            }
        }
    }
}

/// Puts a stream in front of the Subscription Identifiers of a message.
#[cold]
#[inline(never)]
pub(super) fn add_channel(identifiers: &mut Identifiers, channel: Channel) {
    identifiers.insert(0, channel.get());
}

impl State {
    pub(crate) fn open_channel(&mut self, channel: Channel) {
        if let Some(link) = self.link.as_deref_mut() {
            let known = link.channels.0.get_or_insert_default();
            known.push((channel, Phase::Open));
        }
    }

    /// Nothing more goes out on a stream, and nothing comes on it. Gives back how many QoS 2 messages were
    /// received on it and not released.
    pub(crate) fn end_channel(&mut self, channel: Channel) -> u32 {
        if let Some(link) = self.link.as_deref_mut() {
            for (known, phase) in link
                .channels
                .0
                .iter_mut()
                .flat_map(|known| known.iter_mut())
            {
                if *known == channel {
                    *phase = Phase::Ended;
                }
            }
        }
        self.receiving.set_adrift(channel, self.epoch)
    }

    /// The stream is no more. Everything that is encoded goes to `out`, so that nothing for it is behind this.
    /// `lost`: the client may not have got what was sent on it.
    pub(crate) fn close_channel(
        &mut self,
        shared: &Shared,
        channel: Channel,
        lost: bool,
        out: &mut Vec<u8>,
    ) {
        let Some(link) = self.link.as_deref_mut() else {
            return;
        };
        while link.take(out, &shared.budget) {}
        let owed = if lost {
            self.exchanges_of(channel)
        } else {
            Vec::new()
        };
        for id in owed.iter().rev() {
            self.owe(shared, *id);
        }
        if let Some(link) = self.link.as_deref_mut() {
            link.channels.remove(channel);
            link.scheduled = true;
        }
    }

    /// Exchanges that were sent on a stream, in the order of sending.
    fn exchanges_of(&mut self, channel: Channel) -> Vec<NonZeroU16> {
        let Some(link) = self.link.as_deref_mut() else {
            return Vec::new();
        };
        let mut sent: Vec<(u64, NonZeroU16)> = self
            .inflight
            .iter()
            .filter(|(_, flight)| flight.identifiers.first() == Some(&channel.get()))
            .map(|(id, flight)| (flight.sequence, id))
            .collect();
        let mut waiting: Vec<NonZeroU16> = link.to_send.iter().copied().collect();
        waiting.sort_unstable();
        sent.retain(|(_, id)| waiting.binary_search(id).is_err());
        sent.sort_unstable();
        sent.into_iter().map(|(_, id)| id).collect()
    }

    /// The client may not have got the last packet of this exchange.
    fn owe(&mut self, shared: &Shared, id: NonZeroU16) {
        let resumable = self.is_resumable();
        let (Some(flight), Some(link)) = (self.inflight.get_mut(id), self.link.as_deref_mut())
        else {
            return;
        };
        if flight.step != Step::Complete {
            // It takes from the window again when it is sent again.
            if std::mem::replace(&mut flight.counted, false) {
                link.restore_quota();
            }
            if flight.message.is_none() && !resumable {
                // Nothing was kept of it.
                self.inflight.remove(id);
                self.drop_messages(shared, DropReason::ConnectionClosed, 1);
                return;
            }
        }
        flight.owed = true;
        link.to_send.push_front(id);
        link.resuming += 1;
    }
}

impl Locked<'_> {
    /// Puts the streams of the subscriptions that match a topic in front of the Subscription Identifiers of a
    /// message that was kept without them.
    pub(super) fn add_channels(&self, topic: TopicName<'_>, identifiers: &mut Identifiers) {
        let link = self.link.as_deref();
        if link.is_none_or(|link| link.channels.0.is_none()) {
            return;
        }
        for subscription in &self.subscriptions {
            if let Some(channel) = subscription.channel()
                && subscription.filter().share_name().is_none()
                && subscription.filter().matches(topic)
            {
                add_channel(identifiers, channel);
            }
        }
    }
}

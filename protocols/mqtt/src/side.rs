//! What the protocol keeps of one stream of a connection.

use std::num::NonZeroU16;

use tidegate_bus::{Channel, FanOut, Inbound};

use crate::aliases::InboundAliases;
use crate::codec::PacketType;
use crate::pending::{PendingAck, PendingAcks, PendingAnswers};

/// What the protocol keeps of one stream of a connection. Most connections have one.
///
/// Packets on one stream have an order, those on two have none: topic aliases, acknowledgements and the packet
/// identifiers of what the client publishes belong to the stream.
#[derive(Default)]
pub(crate) struct Side {
    /// Which stream, unless it is the one that the connection has begun on.
    pub(crate) channel: Option<Channel>,
    pub(crate) aliases: InboundAliases,
    pub(crate) acks: PendingAcks,
    pub(crate) answers: PendingAnswers,
    /// A large fan-out that is under way, and what its PUBLISH is answered when it is over.
    pub(crate) fan_out: Option<(Box<FanOut>, Option<PendingAck>)>,
    /// Answers on their way to the client.
    pub(crate) replies: Vec<u8>,
}

impl Side {
    /// A PUBLISH of the client on this stream.
    #[inline]
    pub(crate) const fn inbound(&self, packet_id: NonZeroU16) -> Inbound {
        Inbound {
            packet_id,
            channel: self.channel,
        }
    }

    /// Whether nothing is handled before a fan-out is over.
    pub(crate) const fn is_busy(&self) -> bool {
        self.fan_out.is_some()
    }

    /// Answers that wait for the store.
    pub(crate) fn waiting(&self) -> usize {
        self.acks.len() + self.answers.len()
    }

    /// Whether a client may send such a packet here: streams beside the first carry PUBLISH to UNSUBACK, in the
    /// numbers of MQTT 5.0 section 2.1.2.
    pub(crate) fn may_carry(&self, packet: PacketType) -> bool {
        let range = PacketType::Publish as u8..=PacketType::UnsubAck as u8;
        self.channel.is_none() || range.contains(&(packet as u8))
    }
}

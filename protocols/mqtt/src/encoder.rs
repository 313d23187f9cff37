//! How a delivery is written for one MQTT connection. Runs under the session's lock on the
//! publisher's thread.

use std::num::NonZeroU16;

use tidegate_bus::{Channel, Encoder, Message, Outgoing, QoS, TooLarge};

use crate::aliases::{Aliased, OutboundAliases};
use crate::codec::{Ack, AckType, PacketType, PublishHeader, Split, Version, split};

/// The largest packet the wire format allows: five bytes of fixed header and 268,435,455.
pub(crate) const LARGEST_PACKET: u32 = 268_435_460;

/// A packet that goes out on another stream than the one the connection has begun on has this octet and the number
/// of that [`Channel`] in front of it, for the connection to see. No packet begins with it: type 0 is forbidden
/// (MQTT 5.0 section 2.1.2).
const ELSEWHERE: u8 = 0;

/// Octets in front of such a packet.
const ELSEWHERE_BYTES: usize = 1 + size_of::<u32>();

/// A packet as it lies encoded.
pub(crate) struct Encoded<'a> {
    /// The stream it goes out on, unless that is the one the connection has begun on.
    pub(crate) channel: Option<Channel>,
    /// The packet.
    pub(crate) bytes: &'a [u8],
    /// Where the next one begins.
    pub(crate) next: usize,
}

impl Encoded<'_> {
    /// Whether it is a PUBLISH that is not acknowledged.
    pub(crate) fn is_qos0(&self) -> bool {
        let Some(&first) = self.bytes.first() else {
            return false;
        };
        PacketType::from_first_byte(first) == Some(PacketType::Publish)
            && QoS::from_u8(first >> 1 & 3) == Some(QoS::AtMostOnce)
    }
}

/// The packets of `encoded`, which begins with one. What cannot be a packet ends it, and one that is cut.
pub(crate) fn packets(encoded: &[u8]) -> impl Iterator<Item = Encoded<'_>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let mut rest = encoded.get(next..)?;
        let mut channel = None;
        if let Some((&ELSEWHERE, tail)) = rest.split_first() {
            let (number, tail) = tail.split_first_chunk()?;
            channel = Channel::from_u32(u32::from_be_bytes(*number));
            next += ELSEWHERE_BYTES;
            rest = tail;
        }
        let Ok(Split::Frame(frame)) = split(rest, LARGEST_PACKET) else {
            return None;
        };
        next += frame.len;
        let bytes = &rest[..frame.len];
        Some(Encoded {
            channel,
            bytes,
            next,
        })
    })
}

pub(crate) struct MqttEncoder {
    version: Version,
    /// The client's Maximum Packet Size.
    maximum_packet_size: u32,
    aliases: Option<Box<OutboundAliases>>,
}

impl MqttEncoder {
    pub(crate) fn new(version: Version, maximum_packet_size: u32, alias_maximum: u16) -> Self {
        let aliases = (alias_maximum > 0).then(|| Box::new(OutboundAliases::new(alias_maximum)));
        Self {
            version,
            maximum_packet_size,
            aliases,
        }
    }
}

impl MqttEncoder {
    #[inline]
    fn publish_here(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        let start = out.len();
        let topic = message.topic.as_str();
        let mut aliased = self
            .aliases
            .as_ref()
            .map_or(Aliased::Full, |aliases| aliases.get(topic));
        let mut header = PublishHeader {
            version: self.version,
            dup: outgoing.dup,
            qos: outgoing.qos,
            retain: outgoing.retain,
            topic: aliased.written(topic),
            packet_id: outgoing.packet_id,
            topic_alias: aliased.alias(),
            message_expiry_interval: outgoing.expires_in,
            subscription_identifiers: outgoing.subscription_identifiers,
            properties: message.properties.as_bytes(),
            payload_len: message.payload.len(),
        };
        if self.maximum_packet_size < LARGEST_PACKET {
            let maximum = self.maximum_packet_size as usize;
            if header.encoded_len() > maximum && matches!(aliased, Aliased::New(_)) {
                // A new alias is three bytes that the packet can do without.
                aliased = Aliased::Full;
                header.topic_alias = None;
            }
            if header.encoded_len() > maximum {
                return Err(TooLarge);
            }
        }
        if header.topic_alias.is_none() && outgoing.subscription_identifiers.is_empty() {
            let slot =
                2 * usize::from(self.version.is_v5()) + usize::from(outgoing.packet_id.is_some());
            message.encode_once(slot, out, |out| {
                header.encode(out);
            });
            patch(&mut out[start..], topic.len(), outgoing);
        } else {
            header.encode(out);
            if let (Aliased::New(alias), Some(aliases)) = (aliased, &mut self.aliases) {
                aliases.set(topic, alias);
            }
        }
        out.extend_from_slice(message.payload);
        Ok(())
    }

    /// Apart, so that it costs those nothing who have one stream.
    #[cold]
    #[inline(never)]
    fn publish_elsewhere(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
        channel: Channel,
    ) -> Result<(), TooLarge> {
        let start = out.len();
        out.push(ELSEWHERE);
        out.extend_from_slice(&channel.get().to_be_bytes());
        // An alias is known to the client on the stream that has told it only.
        let aliases = self.aliases.take();
        let published = self.publish_here(out, message, outgoing);
        self.aliases = aliases;
        if published.is_err() {
            out.truncate(start);
        }
        published
    }
}

impl Encoder for MqttEncoder {
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        match outgoing.channel {
            None => self.publish_here(out, message, outgoing),
            Some(channel) => self.publish_elsewhere(out, message, outgoing, channel),
        }
    }

    fn release(&mut self, out: &mut Vec<u8>, packet_id: NonZeroU16) {
        Ack::success(packet_id).encode(AckType::PubRel, self.version, out);
    }

    fn count_unacknowledged(&self, unsent: &[u8]) -> u64 {
        count_qos0(unsent, 0)
    }
}

/// Writes what differs between receivers into a header that was encoded for another one.
#[inline]
fn patch(header: &mut [u8], topic_len: usize, outgoing: &Outgoing<'_>) {
    let flags = u8::from(outgoing.dup) << 3 | (outgoing.qos as u8) << 1 | u8::from(outgoing.retain);
    header[0] = (PacketType::Publish as u8) << 4 | flags;
    if let Some(id) = outgoing.packet_id {
        let length_width = header[1..5]
            .iter()
            .position(|byte| byte & 0x80 == 0)
            .map_or(4, |last| last + 1);
        let at = 1 + length_width + 2 + topic_len;
        header[at..at + 2].copy_from_slice(&id.get().to_be_bytes());
    }
}

/// QoS 0 PUBLISH packets in `encoded` that do not end within the first `written` bytes. `encoded`
/// begins at the start of a packet.
pub(crate) fn count_qos0(encoded: &[u8], written: usize) -> u64 {
    packets(encoded)
        .filter(|packet| packet.next > written && packet.is_qos0())
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_bus::TopicName;

    #[test]
    fn unsent_qos_0_messages_are_counted_from_the_packet_that_was_cut() {
        let mut encoder = MqttEncoder::new(Version::V5, LARGEST_PACKET, 0);
        let message = Message::new(TopicName::new("t").unwrap(), b"payload");
        let mut out = Vec::new();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
            let outgoing = Outgoing {
                qos,
                retain: false,
                dup: false,
                packet_id: qos.is_acknowledged().then_some(NonZeroU16::MIN),
                subscription_identifiers: &[],
                channel: None,
                expires_in: None,
                place: tidegate_bus::Place(0),
            };
            encoder.publish(&mut out, &message, &outgoing).unwrap();
        }
        let first = 2 + 3 + 1 + 7;
        assert_eq!(count_qos0(&out, 0), 2);
        assert_eq!(count_qos0(&out, first - 1), 2);
        assert_eq!(count_qos0(&out, first), 1);
        assert_eq!(count_qos0(&out, out.len()), 0);
    }
}

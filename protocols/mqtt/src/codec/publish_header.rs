//! The part of a PUBLISH before its payload, as a delivery writes it (MQTT 5.0 section 3.3). It runs
//! once for every receiver, so its lengths are added up first and nothing is written twice.

use std::num::NonZeroU16;

use tidegate_bus::QoS;

use super::{PacketType, PropertyId, Version, varint};

/// Everything of a PUBLISH but its payload.
///
/// Before MQTT 5.0 the alias, the expiry, the subscription identifiers and the properties are left
/// out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishHeader<'a> {
    /// How to write it.
    pub version: Version,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// How hard delivery is tried.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// The topic name, at most 65,535 bytes; empty when the alias stands for it.
    pub topic: &'a str,
    /// The packet identifier: given exactly when the QoS is above 0.
    pub packet_id: Option<NonZeroU16>,
    /// The alias that stands for the topic, or will.
    pub topic_alias: Option<NonZeroU16>,
    /// Seconds left until the message expires.
    pub message_expiry_interval: Option<u32>,
    /// The identifiers of the subscriptions that matched.
    pub subscription_identifiers: &'a [u32],
    /// The other properties: what `PublishProperties::forwardable` gave.
    pub properties: &'a [u8],
    /// Length of the payload that will follow.
    pub payload_len: usize,
}

impl PublishHeader<'_> {
    /// Length of the whole packet: header and payload.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        let remaining = self.remaining_len(self.properties_len());
        1 + varint::len(remaining as u32) + remaining
    }

    /// Appends everything but the payload, which the caller appends next: `out` is grown once, for
    /// both. Returns where in the packet the packet identifier is, or would be.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        debug_assert_eq!(
            self.qos.is_acknowledged(),
            self.packet_id.is_some(),
            "a packet identifier goes with a QoS above 0 (MQTT-2.2.1-2)"
        );
        debug_assert!(
            self.topic.len() <= usize::from(u16::MAX),
            "a topic has 65,535 bytes at most"
        );
        let properties_len = self.properties_len();
        let remaining = self.remaining_len(properties_len);
        let (length, width) = varint::encode(remaining as u32);
        out.reserve(1 + width + remaining);

        let flags = u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain);
        out.push((PacketType::Publish as u8) << 4 | flags);
        out.extend_from_slice(&length[..width]);
        out.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        if let Some(packet_id) = self.packet_id {
            out.extend_from_slice(&packet_id.get().to_be_bytes());
        }
        if self.version.is_v5() {
            self.encode_properties(properties_len, out);
        }
        1 + width + 2 + self.topic.len()
    }

    #[inline]
    fn encode_properties(&self, len: usize, out: &mut Vec<u8>) {
        if len == 0 {
            out.push(0);
            return;
        }
        varint::put(len as u32, out);
        if let Some(alias) = self.topic_alias {
            let [high, low] = alias.get().to_be_bytes();
            out.extend_from_slice(&[PropertyId::TopicAlias as u8, high, low]);
        }
        if let Some(seconds) = self.message_expiry_interval {
            let [a, b, c, d] = seconds.to_be_bytes();
            out.extend_from_slice(&[PropertyId::MessageExpiryInterval as u8, a, b, c, d]);
        }
        for &identifier in self.subscription_identifiers {
            out.push(PropertyId::SubscriptionIdentifier as u8);
            varint::put(identifier, out);
        }
        out.extend_from_slice(self.properties);
    }

    /// Length of the properties without their length; 0 before MQTT 5.0.
    #[inline]
    fn properties_len(&self) -> usize {
        if !self.version.is_v5() {
            return 0;
        }
        let alias = if self.topic_alias.is_some() { 3 } else { 0 };
        let expiry = if self.message_expiry_interval.is_some() {
            5
        } else {
            0
        };
        let identifiers: usize = self
            .subscription_identifiers
            .iter()
            .map(|&identifier| 1 + varint::len(identifier))
            .sum();
        alias + expiry + identifiers + self.properties.len()
    }

    /// The Remaining Length.
    #[inline]
    fn remaining_len(&self, properties_len: usize) -> usize {
        let packet_id = if self.packet_id.is_some() { 2 } else { 0 };
        let properties = if self.version.is_v5() {
            varint::len(properties_len as u32) + properties_len
        } else {
            0
        };
        2 + self.topic.len() + packet_id + properties + self.payload_len
    }
}

//! PUBLISH (MQTT 5.0 section 3.3), as it arrives. Deliveries are written by `publish_header`.

use std::num::NonZeroU16;

use tidegate_bus::{QoS, TopicName};

use super::reader::Reader;
use super::{DecodeError, Frame, PacketType, PublishHeader, PublishProperties, Version};

/// A PUBLISH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// How hard delivery is tried.
    pub qos: QoS,
    /// Whether the message is kept for later subscribers, or was.
    pub retain: bool,
    /// Where to; `None`, in MQTT 5.0 only, when the topic alias stands for it.
    pub topic: Option<TopicName<'a>>,
    /// The packet identifier: there is one exactly when the QoS is above 0 (MQTT-2.2.1-2).
    pub packet_id: Option<NonZeroU16>,
    /// The properties; empty before MQTT 5.0.
    pub properties: PublishProperties<'a>,
    /// The application message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Decodes a PUBLISH in one pass.
    ///
    /// Whether the payload is the UTF-8 text that its Payload Format Indicator may promise is not
    /// looked at.
    #[inline]
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect_type(PacketType::Publish)?;
        let dup = frame.first & 0b1000 != 0;
        let retain = frame.first & 0b0001 != 0;
        let Some(qos) = QoS::from_u8(frame.first >> 1 & 0b11) else {
            return Err(DecodeError::PublishQos3);
        };
        // MQTT 3.1 says only what DUP means above QoS 0.
        if dup && !qos.is_acknowledged() && version != Version::V3_1 {
            return Err(DecodeError::PublishDupQos0);
        }
        let mut reader = Reader::new(frame.body);
        let topic = reader.binary()?;
        let packet_id = if qos.is_acknowledged() {
            Some(reader.packet_id()?)
        } else {
            None
        };
        let properties = if version.is_v5() {
            PublishProperties::parse(reader.property_block()?)?
        } else {
            PublishProperties::EMPTY
        };
        let topic = if topic.is_empty() && version.is_v5() {
            if properties.topic_alias().is_none() {
                return Err(DecodeError::TopicAndAliasMissing);
            }
            None
        } else {
            Some(TopicName::from_bytes(topic).map_err(DecodeError::TopicName)?)
        };
        Ok(Self {
            dup,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    /// Appends the packet, its properties as they are.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let header = PublishHeader {
            version,
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic.map_or("", TopicName::as_str),
            packet_id: self.packet_id,
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: &[],
            properties: self.properties.raw(),
            payload_len: self.payload.len(),
        };
        header.encode(out);
        out.extend_from_slice(self.payload);
    }
}

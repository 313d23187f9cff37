//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5.0 sections 3.4 to 3.7), which differ in their type and
//! in the reason codes they carry.

use std::num::NonZeroU16;

use super::reader::Reader;
use super::writer::{put_packet, put_property_block, put_u16};
use super::{DecodeError, Frame, PacketType, Properties, PropertyScope, ReasonCode, Version};

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckType {
    /// PUBACK: a QoS 1 message has arrived.
    PubAck,
    /// PUBREC: a QoS 2 message has arrived.
    PubRec,
    /// PUBREL: its sender lets go of it.
    PubRel,
    /// PUBCOMP: its receiver lets go of it.
    PubComp,
}

impl AckType {
    /// The same as a packet type.
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The identifier of the PUBLISH.
    pub packet_id: NonZeroU16,
    /// The result; always success before MQTT 5.0.
    pub reason: ReasonCode,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// The acknowledgement of success, without properties.
    pub const fn success(packet_id: NonZeroU16) -> Self {
        Self::with_reason(packet_id, ReasonCode::Success)
    }

    /// An acknowledgement without properties.
    pub const fn with_reason(packet_id: NonZeroU16, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: Properties::EMPTY,
        }
    }

    /// The packet identifier of an acknowledgement of type `ack` that says no more than that, as nearly
    /// all do; `None` where [`Self::decode`] has to look. Of every version.
    #[inline]
    pub fn plain(ack: AckType, frame: Frame<'a>) -> Option<NonZeroU16> {
        let &[high, low] = frame.body else {
            return None;
        };
        let packet_id = NonZeroU16::new(u16::from_be_bytes([high, low]))?;
        (frame.first == ack.packet_type().first_byte()).then_some(packet_id)
    }

    /// Decodes a packet that must be of type `ack`.
    pub fn decode(ack: AckType, version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        let packet = ack.packet_type();
        frame.expect(packet, version)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        // Two bytes: success. Three: a reason code. From four on, properties follow.
        if !version.is_v5() || reader.is_empty() {
            reader.finish()?;
            return Ok(Self::success(packet_id));
        }
        let reason = reader.reason(packet)?;
        let properties = if reader.is_empty() {
            Properties::EMPTY
        } else {
            Properties::read(PropertyScope::Ack, &mut reader)?
        };
        reader.finish()?;
        Ok(Self {
            packet_id,
            reason,
            properties,
        })
    }

    /// Appends the packet as one of type `ack`, in its shortest form. Before MQTT 5.0 the reason
    /// code and the properties are left out.
    pub fn encode(&self, ack: AckType, version: Version, out: &mut Vec<u8>) {
        let first = ack.packet_type().first_byte();
        let [high, low] = self.packet_id.get().to_be_bytes();
        if !version.is_v5() || (self.properties.is_empty() && self.reason == ReasonCode::Success) {
            out.extend_from_slice(&[first, 2, high, low]);
        } else if self.properties.is_empty() {
            out.extend_from_slice(&[first, 3, high, low, self.reason.as_u8()]);
        } else {
            put_packet(first, out, |out| {
                put_u16(self.packet_id.get(), out);
                out.push(self.reason.as_u8());
                put_property_block(self.properties.raw(), out);
            });
        }
    }
}

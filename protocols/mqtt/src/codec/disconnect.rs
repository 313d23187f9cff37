//! DISCONNECT (MQTT 5.0 section 3.14).

use super::reader::Reader;
use super::writer::{put_packet, put_property_block};
use super::{DecodeError, Frame, PacketType, Properties, PropertyScope, ReasonCode, Version};

/// A DISCONNECT packet. Before MQTT 5.0 only clients send it, and it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why the connection ends; [`ReasonCode::Success`] is a normal disconnection.
    pub reason: ReasonCode,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A packet without properties.
    pub const fn with_reason(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: Properties::EMPTY,
        }
    }

    /// Decodes a DISCONNECT.
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect(PacketType::Disconnect, version)?;
        let mut reader = Reader::new(frame.body);
        // Nothing: a normal disconnection. One byte: a reason code. From two on, properties follow.
        if !version.is_v5() || reader.is_empty() {
            reader.finish()?;
            return Ok(Self::default());
        }
        let reason = reader.reason(PacketType::Disconnect)?;
        let properties = if reader.is_empty() {
            Properties::EMPTY
        } else {
            Properties::read(PropertyScope::Disconnect, &mut reader)?
        };
        reader.finish()?;
        Ok(Self { reason, properties })
    }

    /// Appends the packet in its shortest form. Before MQTT 5.0 the reason code and the properties
    /// are left out.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketType::Disconnect.first_byte();
        if !version.is_v5() || *self == Self::default() {
            out.extend_from_slice(&[first, 0]);
        } else if self.properties.is_empty() {
            out.extend_from_slice(&[first, 1, self.reason.as_u8()]);
        } else {
            put_packet(first, out, |out| {
                out.push(self.reason.as_u8());
                put_property_block(self.properties.raw(), out);
            });
        }
    }
}

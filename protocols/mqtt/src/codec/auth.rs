//! AUTH (MQTT 5.0 section 3.15): a step of enhanced authentication.

use super::reader::Reader;
use super::writer::{put_packet, put_property_block};
use super::{DecodeError, Frame, PacketType, Properties, PropertyScope, ReasonCode, Version};

/// An AUTH packet, which exists in MQTT 5.0 only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or authenticate anew.
    pub reason: ReasonCode,
    /// The properties: method, data, reason string and user properties.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// Decodes an AUTH.
    ///
    /// Section 3.15.2.2.2 makes it an error to omit the Authentication Method, and section 3.15.2.1
    /// gives a form for success that has no properties at all: that one form goes without it.
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect_type(PacketType::Auth)?;
        if !version.is_v5() {
            return Err(DecodeError::ReservedPacketType {
                number: PacketType::Auth as u8,
            });
        }
        frame.expect(PacketType::Auth, version)?;
        let mut reader = Reader::new(frame.body);
        if reader.is_empty() {
            return Ok(Self::default());
        }
        let reason = reader.reason(PacketType::Auth)?;
        let properties = Properties::read(PropertyScope::Auth, &mut reader)?;
        reader.finish()?;
        let bare = reason == ReasonCode::Success && properties.is_empty();
        if !bare && properties.authentication_method().is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(Self { reason, properties })
    }

    /// Appends the packet in its shortest form; nothing before MQTT 5.0, which has no such packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if !version.is_v5() {
            return;
        }
        let first = PacketType::Auth.first_byte();
        if *self == Self::default() {
            out.extend_from_slice(&[first, 0]);
            return;
        }
        put_packet(first, out, |out| {
            out.push(self.reason.as_u8());
            put_property_block(self.properties.raw(), out);
        });
    }
}

//! CONNACK (MQTT 5.0 section 3.2).

use super::reader::Reader;
use super::writer::{put_packet, put_property_block};
use super::{
    ConnectReturnCode, DecodeError, Frame, PacketType, Properties, PropertyScope, ReasonCode,
    Version,
};

/// A CONNACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server has kept the session; never when the connection is refused, and unknown to
    /// MQTT 3.1.
    pub session_present: bool,
    /// The result. Before MQTT 5.0 it travels as the nearest [`ConnectReturnCode`].
    pub reason: ReasonCode,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    /// Decodes a CONNACK.
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect(PacketType::ConnAck, version)?;
        let mut reader = Reader::new(frame.body);
        let flags = reader.u8()?;
        let session_present = match (version, flags) {
            // The byte is reserved and has no rule (MQTT 3.1 section 3.2).
            (Version::V3_1, _) | (_, 0) => false,
            (_, 1) => true,
            _ => return Err(DecodeError::ConnAckReservedFlags),
        };
        let (reason, properties) = if version.is_v5() {
            let reason = reader.reason(PacketType::ConnAck)?;
            (
                reason,
                Properties::read(PropertyScope::ConnAck, &mut reader)?,
            )
        } else {
            let code = reader.u8()?;
            let code = ConnectReturnCode::from_u8(code)
                .ok_or(DecodeError::ConnectReturnCodeReserved { code })?;
            (code.to_reason(), Properties::EMPTY)
        };
        reader.finish()?;
        if session_present && reason != ReasonCode::Success {
            return Err(DecodeError::SessionPresentOnRefusal);
        }
        Ok(Self {
            session_present,
            reason,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketType::ConnAck.first_byte();
        // Session Present is 0 on a refusal (MQTT-3.2.2-6).
        let present =
            self.session_present && self.reason == ReasonCode::Success && version != Version::V3_1;
        if version.is_v5() {
            put_packet(first, out, |out| {
                out.extend_from_slice(&[u8::from(present), self.reason.as_u8()]);
                put_property_block(self.properties.raw(), out);
            });
        } else {
            let code = ConnectReturnCode::from_reason(self.reason).as_u8();
            out.extend_from_slice(&[first, 2, u8::from(present), code]);
        }
    }
}

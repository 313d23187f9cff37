//! SUBACK and UNSUBACK (MQTT 5.0 sections 3.9 and 3.11): a reason code for each filter, in order.

use std::fmt;
use std::iter::FusedIterator;
use std::num::NonZeroU16;

use super::reader::Reader;
use super::writer::{put_packet, put_property_block, put_u16};
use super::{DecodeError, Frame, PacketType, Properties, PropertyScope, ReasonCode, Version};

/// A SUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The identifier of the SUBSCRIBE.
    pub packet_id: NonZeroU16,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// What became of each filter.
    pub reasons: ReasonCodes<'a>,
}

impl<'a> SubAck<'a> {
    /// Decodes a SUBACK. The failure code of MQTT 3.1.1 is taken in MQTT 3.1 too, which has none.
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect(PacketType::SubAck, version)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() {
            Properties::read(PropertyScope::SubAck, &mut reader)?
        } else {
            Properties::EMPTY
        };
        let reasons = ReasonCodes::read(PacketType::SubAck, &mut reader)?;
        if !version.is_v5()
            && let Some(reason) = reasons.iter().find(|&reason| reason != v3(reason))
        {
            return Err(DecodeError::ReasonCodeNotAllowed {
                packet: PacketType::SubAck,
                code: reason.as_u8(),
            });
        }
        Ok(Self {
            packet_id,
            properties,
            reasons,
        })
    }

    /// Appends the packet. Before MQTT 5.0 every failure is written as 0x80.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(PacketType::SubAck.first_byte(), out, |out| {
            put_u16(self.packet_id.get(), out);
            if version.is_v5() {
                put_property_block(self.properties.raw(), out);
                out.extend(self.reasons.iter().map(ReasonCode::as_u8));
            } else {
                out.extend(self.reasons.iter().map(|reason| v3(reason).as_u8()));
            }
        });
    }
}

/// What a reason code becomes before MQTT 5.0 (MQTT-3.9.3-2 of 3.1.1).
const fn v3(reason: ReasonCode) -> ReasonCode {
    if reason.is_error() {
        ReasonCode::UnspecifiedError
    } else {
        reason
    }
}

/// An UNSUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The identifier of the UNSUBSCRIBE.
    pub packet_id: NonZeroU16,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// What became of each filter; empty before MQTT 5.0, which does not say.
    pub reasons: ReasonCodes<'a>,
}

impl<'a> UnsubAck<'a> {
    /// Decodes an UNSUBACK.
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect(PacketType::UnsubAck, version)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let (properties, reasons) = if version.is_v5() {
            let properties = Properties::read(PropertyScope::UnsubAck, &mut reader)?;
            (
                properties,
                ReasonCodes::read(PacketType::UnsubAck, &mut reader)?,
            )
        } else {
            reader.finish()?;
            (Properties::EMPTY, ReasonCodes::default())
        };
        Ok(Self {
            packet_id,
            properties,
            reasons,
        })
    }

    /// Appends the packet. Before MQTT 5.0 it is the packet identifier alone.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(PacketType::UnsubAck.first_byte(), out, |out| {
            put_u16(self.packet_id.get(), out);
            if version.is_v5() {
                put_property_block(self.properties.raw(), out);
                out.extend(self.reasons.iter().map(ReasonCode::as_u8));
            }
        });
    }
}

/// The reason codes of a SUBACK or UNSUBACK: a validated payload, or a list to send.
#[derive(Clone, Copy)]
pub struct ReasonCodes<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    Wire(&'a [u8]),
    List(&'a [ReasonCode]),
}

impl<'a> ReasonCodes<'a> {
    /// Codes to send. That the packet may carry them is not checked.
    pub const fn new(list: &'a [ReasonCode]) -> Self {
        Self(Repr::List(list))
    }

    /// Takes the rest of `packet`: at least one code, each of them allowed there.
    fn read(packet: PacketType, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::ReasonCodesEmpty { packet });
        }
        while !reader.is_empty() {
            reader.reason(packet)?;
        }
        Ok(Self(Repr::Wire(payload)))
    }

    /// The codes in the order of the filters.
    pub fn iter(&self) -> ReasonCodesIter<'a> {
        ReasonCodesIter(match self.0 {
            Repr::Wire(payload) => IterRepr::Wire(payload.iter()),
            Repr::List(list) => IterRepr::List(list.iter()),
        })
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        match self.0 {
            Repr::Wire(payload) => payload.len(),
            Repr::List(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for ReasonCodes<'_> {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl PartialEq for ReasonCodes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ReasonCodes<'_> {}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for ReasonCodes<'a> {
    type Item = ReasonCode;
    type IntoIter = ReasonCodesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Reason codes in their order.
#[derive(Clone, Debug)]
pub struct ReasonCodesIter<'a>(IterRepr<'a>);

#[derive(Clone, Debug)]
enum IterRepr<'a> {
    Wire(std::slice::Iter<'a, u8>),
    List(std::slice::Iter<'a, ReasonCode>),
}

impl Iterator for ReasonCodesIter<'_> {
    type Item = ReasonCode;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            // The payload was validated: every byte is a code.
            IterRepr::Wire(payload) => payload.next().copied().and_then(ReasonCode::from_u8),
            IterRepr::List(list) => list.next().copied(),
        }
    }
}

impl FusedIterator for ReasonCodesIter<'_> {}

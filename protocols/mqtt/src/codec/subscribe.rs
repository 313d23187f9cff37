//! SUBSCRIBE (MQTT 5.0 section 3.8).

use std::fmt;
use std::iter::FusedIterator;
use std::num::NonZeroU16;

use tidegate_bus::{QoS, RetainHandling, SubscriptionOptions};

use super::filters::{is_shared, read_filter};
use super::reader::Reader;
use super::writer::{put_packet, put_property_block, put_string, put_u16};
use super::{DecodeError, Frame, PacketType, Properties, PropertyScope, Version};

fn options_from_byte(version: Version, byte: u8) -> Result<SubscriptionOptions, DecodeError> {
    // Before MQTT 5.0 everything above the QoS is reserved (3.1.1: MQTT-3-8.3-4).
    let reserved = if version.is_v5() {
        0b1100_0000
    } else {
        0b1111_1100
    };
    if byte & reserved != 0 {
        return Err(DecodeError::SubscriptionOptionsReserved);
    }
    Ok(SubscriptionOptions {
        qos: QoS::from_u8(byte & 0b11).ok_or(DecodeError::SubscriptionQos3)?,
        no_local: byte & 0b100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling: RetainHandling::from_u8(byte >> 4 & 0b11)
            .ok_or(DecodeError::RetainHandling3)?,
    })
}

fn options_to_byte(options: SubscriptionOptions, version: Version) -> u8 {
    let qos = options.qos as u8;
    if !version.is_v5() {
        return qos;
    }
    qos | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
}

/// A SUBSCRIBE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Its identifier, which SUBACK repeats.
    pub packet_id: NonZeroU16,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// What is subscribed to; never empty in a decoded packet.
    pub filters: SubscribeFilters<'a>,
}

impl<'a> Subscribe<'a> {
    /// Decodes a SUBSCRIBE.
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect(PacketType::Subscribe, version)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() {
            Properties::read(PropertyScope::Subscribe, &mut reader)?
        } else {
            Properties::EMPTY
        };
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::SubscribeEmpty);
        }
        while !reader.is_empty() {
            let filter = read_filter(&mut reader)?;
            let options = options_from_byte(version, reader.u8()?)?;
            if options.no_local && is_shared(filter) {
                return Err(DecodeError::NoLocalOnShared);
            }
        }
        Ok(Self {
            packet_id,
            properties,
            filters: SubscribeFilters(Repr::Wire(payload)),
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(PacketType::Subscribe.first_byte(), out, |out| {
            put_u16(self.packet_id.get(), out);
            if version.is_v5() {
                put_property_block(self.properties.raw(), out);
            }
            for (filter, options) in self.filters {
                put_string(filter, out);
                out.push(options_to_byte(options, version));
            }
        });
    }
}

/// The filters of a SUBSCRIBE with their options: a validated payload, or a list to send.
#[derive(Clone, Copy)]
pub struct SubscribeFilters<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    Wire(&'a [u8]),
    List(&'a [(&'a str, SubscriptionOptions)]),
}

impl<'a> SubscribeFilters<'a> {
    /// Filters to send. They are not checked.
    pub const fn new(list: &'a [(&'a str, SubscriptionOptions)]) -> Self {
        Self(Repr::List(list))
    }

    /// Each filter as sent, in order.
    pub fn iter(&self) -> SubscribeFiltersIter<'a> {
        SubscribeFiltersIter(match self.0 {
            Repr::Wire(payload) => IterRepr::Wire(Reader::new(payload)),
            Repr::List(list) => IterRepr::List(list.iter()),
        })
    }
}

impl PartialEq for SubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscribeFilters<'_> {}

impl fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for SubscribeFilters<'a> {
    type Item = (&'a str, SubscriptionOptions);
    type IntoIter = SubscribeFiltersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The filters of a SUBSCRIBE in their order.
#[derive(Clone, Debug)]
pub struct SubscribeFiltersIter<'a>(IterRepr<'a>);

#[derive(Clone, Debug)]
enum IterRepr<'a> {
    Wire(Reader<'a>),
    List(std::slice::Iter<'a, (&'a str, SubscriptionOptions)>),
}

impl<'a> Iterator for SubscribeFiltersIter<'a> {
    type Item = (&'a str, SubscriptionOptions);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            // The payload was validated, so the only error is that it has ended. The options byte of
            // an older version means the same in MQTT 5.0.
            IterRepr::Wire(reader) => {
                let filter = reader.string().ok()?;
                let options = options_from_byte(Version::V5, reader.u8().ok()?);
                Some((filter, options.ok()?))
            }
            IterRepr::List(list) => list.next().copied(),
        }
    }
}

impl FusedIterator for SubscribeFiltersIter<'_> {}

//! UNSUBSCRIBE (MQTT 5.0 section 3.10).

use std::fmt;
use std::iter::FusedIterator;
use std::num::NonZeroU16;

use super::filters::read_filter;
use super::reader::Reader;
use super::writer::{put_packet, put_property_block, put_string, put_u16};
use super::{DecodeError, Frame, PacketType, Properties, PropertyScope, Version};

/// An UNSUBSCRIBE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Its identifier, which UNSUBACK repeats.
    pub packet_id: NonZeroU16,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// Which subscriptions end; never empty in a decoded packet.
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// Decodes an UNSUBSCRIBE.
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Self, DecodeError> {
        frame.expect(PacketType::Unsubscribe, version)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() {
            Properties::read(PropertyScope::Unsubscribe, &mut reader)?
        } else {
            Properties::EMPTY
        };
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::UnsubscribeEmpty);
        }
        while !reader.is_empty() {
            read_filter(&mut reader)?;
        }
        Ok(Self {
            packet_id,
            properties,
            filters: UnsubscribeFilters(Repr::Wire(payload)),
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(PacketType::Unsubscribe.first_byte(), out, |out| {
            put_u16(self.packet_id.get(), out);
            if version.is_v5() {
                put_property_block(self.properties.raw(), out);
            }
            for filter in self.filters {
                put_string(filter, out);
            }
        });
    }
}

/// The filters of an UNSUBSCRIBE: a validated payload, or a list to send.
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    Wire(&'a [u8]),
    List(&'a [&'a str]),
}

impl<'a> UnsubscribeFilters<'a> {
    /// Filters to send. They are not checked.
    pub const fn new(list: &'a [&'a str]) -> Self {
        Self(Repr::List(list))
    }

    /// Each filter as sent, in order.
    pub fn iter(&self) -> UnsubscribeFiltersIter<'a> {
        UnsubscribeFiltersIter(match self.0 {
            Repr::Wire(payload) => IterRepr::Wire(Reader::new(payload)),
            Repr::List(list) => IterRepr::List(list.iter()),
        })
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for UnsubscribeFilters<'a> {
    type Item = &'a str;
    type IntoIter = UnsubscribeFiltersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The filters of an UNSUBSCRIBE in their order.
#[derive(Clone, Debug)]
pub struct UnsubscribeFiltersIter<'a>(IterRepr<'a>);

#[derive(Clone, Debug)]
enum IterRepr<'a> {
    Wire(Reader<'a>),
    List(std::slice::Iter<'a, &'a str>),
}

impl<'a> Iterator for UnsubscribeFiltersIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            // The payload was validated, so the only error is that it has ended.
            IterRepr::Wire(reader) => reader.string().ok(),
            IterRepr::List(list) => list.next().copied(),
        }
    }
}

impl FusedIterator for UnsubscribeFiltersIter<'_> {}

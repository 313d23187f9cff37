//! Building a block of properties (MQTT 5.0 section 2.2.2).

use super::writer::{put_binary, put_string, put_u16, put_u32};
use super::{Properties, Property, varint};

/// An owned block of properties, written one after the other.
///
/// It does not know which packet it is for: that each property belongs there and comes once is the
/// caller's care, as is that strings hold no U+0000.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PropertyBlock {
    raw: Vec<u8>,
}

impl PropertyBlock {
    /// An empty block, which allocates nothing.
    pub const fn new() -> Self {
        Self { raw: Vec::new() }
    }

    /// Appends a property.
    pub fn push(&mut self, property: Property<'_>) -> &mut Self {
        let out = &mut self.raw;
        out.push(property.id() as u8);
        match property {
            Property::PayloadFormatIndicator(value) => out.push(value),
            Property::RequestProblemInformation(value)
            | Property::RequestResponseInformation(value)
            | Property::RetainAvailable(value)
            | Property::WildcardSubscriptionAvailable(value)
            | Property::SubscriptionIdentifierAvailable(value)
            | Property::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Property::MaximumQos(value) => out.push(value as u8),
            Property::ServerKeepAlive(value) | Property::TopicAliasMaximum(value) => {
                put_u16(value, out);
            }
            Property::ReceiveMaximum(value) | Property::TopicAlias(value) => {
                put_u16(value.get(), out);
            }
            Property::MessageExpiryInterval(value)
            | Property::SessionExpiryInterval(value)
            | Property::WillDelayInterval(value) => put_u32(value, out),
            Property::MaximumPacketSize(value) => put_u32(value.get(), out),
            Property::SubscriptionIdentifier(value) => varint::put(value, out),
            Property::ContentType(value)
            | Property::ResponseTopic(value)
            | Property::AssignedClientIdentifier(value)
            | Property::AuthenticationMethod(value)
            | Property::ResponseInformation(value)
            | Property::ServerReference(value)
            | Property::ReasonString(value) => put_string(value, out),
            Property::CorrelationData(value) | Property::AuthenticationData(value) => {
                put_binary(value, out);
            }
            Property::UserProperty(name, value) => {
                put_string(name, out);
                put_string(value, out);
            }
        }
        self
    }

    /// The block for a packet.
    pub const fn as_properties(&self) -> Properties<'_> {
        Properties::trusted(self.raw.as_slice())
    }

    /// The bytes of the block, without its length.
    pub const fn raw(&self) -> &[u8] {
        self.raw.as_slice()
    }

    /// Whether nothing was pushed.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Takes everything out and keeps the memory.
    pub fn clear(&mut self) {
        self.raw.clear();
    }
}

impl std::fmt::Debug for PropertyBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_properties().fmt(f)
    }
}

impl<'a> Extend<Property<'a>> for PropertyBlock {
    fn extend<I: IntoIterator<Item = Property<'a>>>(&mut self, properties: I) {
        for property in properties {
            self.push(property);
        }
    }
}

//! The properties of MQTT 5 (section 2.2.2.2), in the order in which they were on the wire.

use super::encode::{bytes, string, u16be, u32be, varint};
use super::reader::Reader;

/// One property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// 0x01 Payload Format Indicator.
    PayloadFormat(u8),
    /// 0x02 Message Expiry Interval, seconds.
    MessageExpiry(u32),
    /// 0x03 Content Type.
    ContentType(String),
    /// 0x08 Response Topic.
    ResponseTopic(String),
    /// 0x09 Correlation Data.
    CorrelationData(Vec<u8>),
    /// 0x0B Subscription Identifier.
    SubscriptionId(u32),
    /// 0x11 Session Expiry Interval, seconds.
    SessionExpiry(u32),
    /// 0x12 Assigned Client Identifier.
    AssignedClientId(String),
    /// 0x13 Server Keep Alive, seconds.
    ServerKeepAlive(u16),
    /// 0x15 Authentication Method.
    AuthenticationMethod(String),
    /// 0x16 Authentication Data.
    AuthenticationData(Vec<u8>),
    /// 0x17 Request Problem Information.
    RequestProblemInformation(u8),
    /// 0x18 Will Delay Interval, seconds.
    WillDelay(u32),
    /// 0x19 Request Response Information.
    RequestResponseInformation(u8),
    /// 0x1A Response Information.
    ResponseInformation(String),
    /// 0x1C Server Reference.
    ServerReference(String),
    /// 0x1F Reason String.
    ReasonString(String),
    /// 0x21 Receive Maximum.
    ReceiveMaximum(u16),
    /// 0x22 Topic Alias Maximum.
    TopicAliasMaximum(u16),
    /// 0x23 Topic Alias.
    TopicAlias(u16),
    /// 0x24 Maximum QoS.
    MaximumQos(u8),
    /// 0x25 Retain Available.
    RetainAvailable(u8),
    /// 0x26 User Property.
    User(String, String),
    /// 0x27 Maximum Packet Size, bytes.
    MaximumPacketSize(u32),
    /// 0x28 Wildcard Subscription Available.
    WildcardAvailable(u8),
    /// 0x29 Subscription Identifiers Available.
    SubscriptionIdsAvailable(u8),
    /// 0x2A Shared Subscription Available.
    SharedAvailable(u8),
}

impl Property {
    /// A user property.
    #[must_use]
    pub fn user(name: &str, value: &str) -> Self {
        Self::User(name.to_owned(), value.to_owned())
    }

    /// The property's identifier.
    #[must_use]
    pub fn id(&self) -> u8 {
        match self {
            Self::PayloadFormat(_) => 0x01,
            Self::MessageExpiry(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionId(_) => 0x0B,
            Self::SessionExpiry(_) => 0x11,
            Self::AssignedClientId(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblemInformation(_) => 0x17,
            Self::WillDelay(_) => 0x18,
            Self::RequestResponseInformation(_) => 0x19,
            Self::ResponseInformation(_) => 0x1A,
            Self::ServerReference(_) => 0x1C,
            Self::ReasonString(_) => 0x1F,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQos(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::User(..) => 0x26,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardAvailable(_) => 0x28,
            Self::SubscriptionIdsAvailable(_) => 0x29,
            Self::SharedAvailable(_) => 0x2A,
        }
    }

    /// Appends identifier and value.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.id());
        match self {
            Self::PayloadFormat(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::MaximumQos(value)
            | Self::RetainAvailable(value)
            | Self::WildcardAvailable(value)
            | Self::SubscriptionIdsAvailable(value)
            | Self::SharedAvailable(value) => out.push(*value),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => u16be(out, *value),
            Self::MessageExpiry(value)
            | Self::SessionExpiry(value)
            | Self::WillDelay(value)
            | Self::MaximumPacketSize(value) => u32be(out, *value),
            Self::SubscriptionId(value) => varint(out, *value),
            Self::ContentType(value)
            | Self::ResponseTopic(value)
            | Self::AssignedClientId(value)
            | Self::AuthenticationMethod(value)
            | Self::ResponseInformation(value)
            | Self::ServerReference(value)
            | Self::ReasonString(value) => string(out, value),
            Self::CorrelationData(value) | Self::AuthenticationData(value) => bytes(out, value),
            Self::User(name, value) => {
                string(out, name);
                string(out, value);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        Ok(match reader.u8()? {
            0x01 => Self::PayloadFormat(reader.u8()?),
            0x02 => Self::MessageExpiry(reader.u32()?),
            0x03 => Self::ContentType(reader.string()?),
            0x08 => Self::ResponseTopic(reader.string()?),
            0x09 => Self::CorrelationData(reader.bytes()?),
            0x0B => Self::SubscriptionId(reader.varint()?),
            0x11 => Self::SessionExpiry(reader.u32()?),
            0x12 => Self::AssignedClientId(reader.string()?),
            0x13 => Self::ServerKeepAlive(reader.u16()?),
            0x15 => Self::AuthenticationMethod(reader.string()?),
            0x16 => Self::AuthenticationData(reader.bytes()?),
            0x17 => Self::RequestProblemInformation(reader.u8()?),
            0x18 => Self::WillDelay(reader.u32()?),
            0x19 => Self::RequestResponseInformation(reader.u8()?),
            0x1A => Self::ResponseInformation(reader.string()?),
            0x1C => Self::ServerReference(reader.string()?),
            0x1F => Self::ReasonString(reader.string()?),
            0x21 => Self::ReceiveMaximum(reader.u16()?),
            0x22 => Self::TopicAliasMaximum(reader.u16()?),
            0x23 => Self::TopicAlias(reader.u16()?),
            0x24 => Self::MaximumQos(reader.u8()?),
            0x25 => Self::RetainAvailable(reader.u8()?),
            0x26 => Self::User(reader.string()?, reader.string()?),
            0x27 => Self::MaximumPacketSize(reader.u32()?),
            0x28 => Self::WildcardAvailable(reader.u8()?),
            0x29 => Self::SubscriptionIdsAvailable(reader.u8()?),
            0x2A => Self::SharedAvailable(reader.u8()?),
            id => return Err(format!("no property has the identifier {id:#04x}")),
        })
    }

    /// A whole property block: its length, then each property; only `allowed` identifiers, and each
    /// once unless the specification says otherwise.
    pub(super) fn block(reader: &mut Reader<'_>, allowed: &[u8]) -> Result<Vec<Self>, String> {
        let length = reader.varint()? as usize;
        let mut inner = Reader::new(reader.take(length)?);
        let mut properties: Vec<Self> = Vec::new();
        while !inner.is_empty() {
            let property = Self::decode(&mut inner)?;
            if !allowed.contains(&property.id()) {
                return Err(format!("{property:?} is not allowed in this packet"));
            }
            // 3.8.4: a PUBLISH carries one identifier for each subscription that matched.
            let repeats = matches!(property, Self::User(..) | Self::SubscriptionId(_));
            if !repeats && properties.iter().any(|other| other.id() == property.id()) {
                return Err(format!("{property:?} appears twice"));
            }
            properties.push(property);
        }
        Ok(properties)
    }
}

/// Encodes a property block with its length.
pub(super) fn encode_block(out: &mut Vec<u8>, properties: &[Property]) {
    let mut block = Vec::new();
    for property in properties {
        property.write(&mut block);
    }
    varint(out, block.len() as u32);
    out.extend_from_slice(&block);
}

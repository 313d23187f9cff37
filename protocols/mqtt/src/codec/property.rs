//! One property (MQTT 5.0 section 2.2.2.2): its identifier, its value and what values it takes.
//!
//! Which packet carries it, and how often, is in `properties`; writing it is in `property_block`.

use std::num::{NonZeroU16, NonZeroU32};

use tidegate_bus::QoS;

use super::DecodeError;
use super::reader::Reader;

/// The identifier of a property (section 2.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum PropertyId {
    PayloadFormatIndicator = 0x01,
    MessageExpiryInterval = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionIdentifier = 0x0B,
    SessionExpiryInterval = 0x11,
    AssignedClientIdentifier = 0x12,
    ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15,
    AuthenticationData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelayInterval = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22,
    TopicAlias = 0x23,
    MaximumQos = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardSubscriptionAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29,
    SharedSubscriptionAvailable = 0x2A,
}

impl PropertyId {
    /// The property of a number; `None` when the specification gives it no meaning.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0x01 => Self::PayloadFormatIndicator,
            0x02 => Self::MessageExpiryInterval,
            0x03 => Self::ContentType,
            0x08 => Self::ResponseTopic,
            0x09 => Self::CorrelationData,
            0x0B => Self::SubscriptionIdentifier,
            0x11 => Self::SessionExpiryInterval,
            0x12 => Self::AssignedClientIdentifier,
            0x13 => Self::ServerKeepAlive,
            0x15 => Self::AuthenticationMethod,
            0x16 => Self::AuthenticationData,
            0x17 => Self::RequestProblemInformation,
            0x18 => Self::WillDelayInterval,
            0x19 => Self::RequestResponseInformation,
            0x1A => Self::ResponseInformation,
            0x1C => Self::ServerReference,
            0x1F => Self::ReasonString,
            0x21 => Self::ReceiveMaximum,
            0x22 => Self::TopicAliasMaximum,
            0x23 => Self::TopicAlias,
            0x24 => Self::MaximumQos,
            0x25 => Self::RetainAvailable,
            0x26 => Self::UserProperty,
            0x27 => Self::MaximumPacketSize,
            0x28 => Self::WildcardSubscriptionAvailable,
            0x29 => Self::SubscriptionIdentifierAvailable,
            0x2A => Self::SharedSubscriptionAvailable,
            _ => return None,
        })
    }

    /// Reads an identifier: a variable byte integer, of which all that are defined take one byte.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = reader.varint()?;
        u8::try_from(number)
            .ok()
            .and_then(Self::from_u8)
            .ok_or(DecodeError::PropertyUnknown { number })
    }

    /// Passes over what follows the identifier in a block that was validated.
    #[inline]
    pub(super) fn skip_value(self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match self {
            Self::PayloadFormatIndicator
            | Self::RequestProblemInformation
            | Self::RequestResponseInformation
            | Self::MaximumQos
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifierAvailable
            | Self::SharedSubscriptionAvailable => {
                reader.take(1)?;
            }
            Self::ServerKeepAlive
            | Self::ReceiveMaximum
            | Self::TopicAliasMaximum
            | Self::TopicAlias => {
                reader.take(2)?;
            }
            Self::MessageExpiryInterval
            | Self::SessionExpiryInterval
            | Self::WillDelayInterval
            | Self::MaximumPacketSize => {
                reader.take(4)?;
            }
            Self::SubscriptionIdentifier => {
                reader.varint()?;
            }
            Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData
            | Self::AssignedClientIdentifier
            | Self::AuthenticationMethod
            | Self::AuthenticationData
            | Self::ResponseInformation
            | Self::ServerReference
            | Self::ReasonString => {
                reader.binary()?;
            }
            Self::UserProperty => {
                reader.binary()?;
                reader.binary()?;
            }
        }
        Ok(())
    }

    /// A set of this one.
    pub(super) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// One property with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// 1 when the payload is UTF-8 text, 0 when nothing is said.
    PayloadFormatIndicator(u8),
    /// Seconds after which the message is no longer delivered.
    MessageExpiryInterval(u32),
    /// What the payload is; a MIME type by custom.
    ContentType(&'a str),
    /// Where a response is published to: a topic name.
    ResponseTopic(&'a str),
    /// Marks the request that a response belongs to.
    CorrelationData(&'a [u8]),
    /// The subscription that a message matched, 1 to [`varint::MAX`](super::varint::MAX).
    SubscriptionIdentifier(u32),
    /// Seconds that the session outlives its connection; `u32::MAX` is forever.
    SessionExpiryInterval(u32),
    /// The client identifier that the server chose.
    AssignedClientIdentifier(&'a str),
    /// The keep alive that the server chose, in seconds.
    ServerKeepAlive(u16),
    /// How the client authenticates.
    AuthenticationMethod(&'a str),
    /// A step of that method.
    AuthenticationData(&'a [u8]),
    /// Whether Reason String and User Property may explain any packet.
    RequestProblemInformation(bool),
    /// Seconds between the end of the connection and the will.
    WillDelayInterval(u32),
    /// Whether CONNACK should carry Response Information.
    RequestResponseInformation(bool),
    /// What a client may build its response topics from.
    ResponseInformation(&'a str),
    /// Another server to use.
    ServerReference(&'a str),
    /// The reason in words, for people.
    ReasonString(&'a str),
    /// How many acknowledged publishes may be open at once.
    ReceiveMaximum(NonZeroU16),
    /// The highest topic alias taken; 0 is none.
    TopicAliasMaximum(u16),
    /// Stands for a topic name.
    TopicAlias(NonZeroU16),
    /// The highest quality of service taken: 0 or 1, since 2 is said by leaving it out.
    MaximumQos(QoS),
    /// Whether retained messages are supported.
    RetainAvailable(bool),
    /// A name and a value whose meaning is the application's.
    UserProperty(&'a str, &'a str),
    /// The largest packet taken.
    MaximumPacketSize(NonZeroU32),
    /// Whether wildcards in subscriptions are supported.
    WildcardSubscriptionAvailable(bool),
    /// Whether subscription identifiers are supported.
    SubscriptionIdentifierAvailable(bool),
    /// Whether shared subscriptions are supported.
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// Which property it is.
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => PropertyId::MessageExpiryInterval,
            Self::ContentType(_) => PropertyId::ContentType,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
            Self::CorrelationData(_) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(_) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(_) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(_) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(_) => PropertyId::ResponseInformation,
            Self::ServerReference(_) => PropertyId::ServerReference,
            Self::ReasonString(_) => PropertyId::ReasonString,
            Self::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(_) => PropertyId::TopicAlias,
            Self::MaximumQos(_) => PropertyId::MaximumQos,
            Self::RetainAvailable(_) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// Reads one property and checks its value.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let id = PropertyId::read(reader)?;
        Self::read_value(id, reader)
    }

    /// Reads what follows the identifier and checks it.
    #[inline]
    pub(super) fn read_value(id: PropertyId, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match id {
            PropertyId::PayloadFormatIndicator => {
                Self::PayloadFormatIndicator(u8::from(read_flag(id, reader)?))
            }
            PropertyId::MessageExpiryInterval => Self::MessageExpiryInterval(reader.u32()?),
            PropertyId::ContentType => Self::ContentType(reader.string()?),
            PropertyId::ResponseTopic => Self::ResponseTopic(read_response_topic(reader)?),
            PropertyId::CorrelationData => Self::CorrelationData(reader.binary()?),
            PropertyId::SubscriptionIdentifier => {
                Self::SubscriptionIdentifier(read_subscription_identifier(reader)?)
            }
            PropertyId::SessionExpiryInterval => Self::SessionExpiryInterval(reader.u32()?),
            PropertyId::AssignedClientIdentifier => {
                Self::AssignedClientIdentifier(reader.string()?)
            }
            PropertyId::ServerKeepAlive => Self::ServerKeepAlive(reader.u16()?),
            PropertyId::AuthenticationMethod => Self::AuthenticationMethod(reader.string()?),
            PropertyId::AuthenticationData => Self::AuthenticationData(reader.binary()?),
            PropertyId::RequestProblemInformation => {
                Self::RequestProblemInformation(read_flag(id, reader)?)
            }
            PropertyId::WillDelayInterval => Self::WillDelayInterval(reader.u32()?),
            PropertyId::RequestResponseInformation => {
                Self::RequestResponseInformation(read_flag(id, reader)?)
            }
            PropertyId::ResponseInformation => Self::ResponseInformation(reader.string()?),
            PropertyId::ServerReference => Self::ServerReference(reader.string()?),
            PropertyId::ReasonString => Self::ReasonString(reader.string()?),
            PropertyId::ReceiveMaximum => Self::ReceiveMaximum(
                NonZeroU16::new(reader.u16()?).ok_or(DecodeError::ReceiveMaximumZero)?,
            ),
            PropertyId::TopicAliasMaximum => Self::TopicAliasMaximum(reader.u16()?),
            PropertyId::TopicAlias => Self::TopicAlias(read_topic_alias(reader)?),
            PropertyId::MaximumQos => Self::MaximumQos(if read_flag(id, reader)? {
                QoS::AtLeastOnce
            } else {
                QoS::AtMostOnce
            }),
            PropertyId::RetainAvailable => Self::RetainAvailable(read_flag(id, reader)?),
            PropertyId::UserProperty => Self::UserProperty(reader.string()?, reader.string()?),
            PropertyId::MaximumPacketSize => Self::MaximumPacketSize(
                NonZeroU32::new(reader.u32()?).ok_or(DecodeError::MaximumPacketSizeZero)?,
            ),
            PropertyId::WildcardSubscriptionAvailable => {
                Self::WildcardSubscriptionAvailable(read_flag(id, reader)?)
            }
            PropertyId::SubscriptionIdentifierAvailable => {
                Self::SubscriptionIdentifierAvailable(read_flag(id, reader)?)
            }
            PropertyId::SharedSubscriptionAvailable => {
                Self::SharedSubscriptionAvailable(read_flag(id, reader)?)
            }
        })
    }
}

/// A byte that is 0 or 1.
#[inline]
fn read_flag(property: PropertyId, reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::PropertyFlagOutOfRange { property }),
    }
}

/// A topic name: what is published to it later must not be refused then.
#[inline]
fn read_response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let topic = reader.string()?;
    if topic.is_empty() {
        return Err(DecodeError::ResponseTopicEmpty);
    }
    if topic.contains(['+', '#']) {
        return Err(DecodeError::ResponseTopicWildcard);
    }
    Ok(topic)
}

/// A subscription identifier, which is not 0 (section 3.8.2.1.2).
#[inline]
fn read_subscription_identifier(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match reader.varint()? {
        0 => Err(DecodeError::SubscriptionIdentifierZero),
        identifier => Ok(identifier),
    }
}

/// A topic alias, which is not 0 (MQTT-3.3.2-8).
#[inline]
fn read_topic_alias(reader: &mut Reader<'_>) -> Result<NonZeroU16, DecodeError> {
    NonZeroU16::new(reader.u16()?).ok_or(DecodeError::TopicAliasZero)
}

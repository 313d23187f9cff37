//! Why a packet is refused: one variant a violation, each with its clause and its reason code.

use tidegate_bus::{TopicFilterError, TopicNameError};

use super::{PacketType, PropertyId, PropertyScope, ReasonCode};

/// A violation of the specification that one packet alone shows.
///
/// Clauses are those of MQTT 5.0, unless they end in `(3.1.1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet type is 0, or it is AUTH before MQTT 5.0.
    #[error("packet type {number} is reserved ({})", self.clause())]
    ReservedPacketType {
        /// The type.
        number: u8,
    },
    /// The lower half of the first byte is not what the packet type asks for.
    #[error("{packet} has reserved flags in its first byte ({})", self.clause())]
    ReservedFlags {
        /// The type.
        packet: PacketType,
    },
    /// Another packet was asked for. The first one of a client is CONNECT.
    #[error("{found} came in place of {expected} ({})", self.clause())]
    UnexpectedPacket {
        /// The type asked for.
        expected: PacketType,
        /// The type that came.
        found: PacketType,
    },
    /// The packet is larger than the receiver takes.
    #[error("the packet has {len} bytes and {maximum} are allowed ({})", self.clause())]
    PacketTooLarge {
        /// Length of the whole packet.
        len: u32,
        /// What is allowed.
        maximum: u32,
    },
    /// A variable byte integer is written with more bytes than it needs.
    #[error("a variable byte integer is longer than it needs to be ({})", self.clause())]
    VarintNotMinimal,
    /// A variable byte integer goes on after its fourth byte.
    #[error("a variable byte integer has more than four bytes ({})", self.clause())]
    VarintTooLong,
    /// A field runs past the end of the packet.
    #[error("the packet ends within a field ({})", self.clause())]
    UnexpectedEnd,
    /// Bytes follow the last field.
    #[error("bytes follow the last field of the packet ({})", self.clause())]
    TrailingBytes,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8 ({})", self.clause())]
    StringNotUtf8,
    /// A string holds U+0000.
    #[error("a string holds U+0000 ({})", self.clause())]
    StringNul,
    /// The packet identifier is 0.
    #[error("the packet identifier is 0 ({})", self.clause())]
    PacketIdZero,
    /// The reason code has no meaning in this packet.
    #[error("{packet} does not have reason code 0x{code:02x} ({})", self.clause())]
    ReasonCodeNotAllowed {
        /// The type.
        packet: PacketType,
        /// The code.
        code: u8,
    },
    /// A SUBACK or UNSUBACK says nothing about any filter.
    #[error("{packet} holds no reason code ({})", self.clause())]
    ReasonCodesEmpty {
        /// The type.
        packet: PacketType,
    },

    /// The Property Length is larger than the rest of the packet.
    #[error("the properties run past the end of the packet ({})", self.clause())]
    PropertyLengthPastPacket,
    /// A property is larger than the rest of the properties.
    #[error("a property runs past the end of the properties ({})", self.clause())]
    PropertyPastBlock,
    /// The identifier is not that of a property.
    #[error("property 0x{number:02x} does not exist ({})", self.clause())]
    PropertyUnknown {
        /// The identifier.
        number: u32,
    },
    /// The property belongs to other packets.
    #[error("the property {property:?} does not belong to {scope:?} ({})", self.clause())]
    PropertyNotAllowed {
        /// The property.
        property: PropertyId,
        /// Where it stood.
        scope: PropertyScope,
    },
    /// The property may occur once.
    #[error("the property {property:?} occurs twice ({})", self.clause())]
    PropertyDuplicate {
        /// The property.
        property: PropertyId,
    },
    /// The property is neither 0 nor 1.
    #[error("the property {property:?} is neither 0 nor 1 ({})", self.clause())]
    PropertyFlagOutOfRange {
        /// The property.
        property: PropertyId,
    },
    /// The Subscription Identifier is 0.
    #[error("the Subscription Identifier is 0 ({})", self.clause())]
    SubscriptionIdentifierZero,
    /// The Receive Maximum is 0.
    #[error("the Receive Maximum is 0 ({})", self.clause())]
    ReceiveMaximumZero,
    /// The Maximum Packet Size is 0.
    #[error("the Maximum Packet Size is 0 ({})", self.clause())]
    MaximumPacketSizeZero,
    /// The Topic Alias is 0.
    #[error("the Topic Alias is 0 ({})", self.clause())]
    TopicAliasZero,
    /// The Response Topic has no character.
    #[error("the Response Topic is empty ({})", self.clause())]
    ResponseTopicEmpty,
    /// The Response Topic holds `+` or `#`.
    #[error("the Response Topic holds a wildcard ({})", self.clause())]
    ResponseTopicWildcard,
    /// There is Authentication Data and no Authentication Method.
    #[error("there is Authentication Data and no Authentication Method ({})", self.clause())]
    AuthenticationDataWithoutMethod,
    /// AUTH does not name its method.
    #[error("AUTH has no Authentication Method ({})", self.clause())]
    AuthenticationMethodMissing,

    /// The packet is a CONNECT of a protocol name and level that are not served.
    #[error("protocol level {level} with this protocol name is not served ({})", self.clause())]
    UnsupportedProtocolVersion {
        /// The level, whatever the name.
        level: u8,
    },
    /// Bit 0 of the Connect Flags is set.
    #[error("the reserved bit of the Connect Flags is set ({})", self.clause())]
    ConnectReservedFlag,
    /// The Will QoS is above 0 and there is no will.
    #[error("there is a Will QoS and no will ({})", self.clause())]
    WillQosWithoutWill,
    /// Will Retain is set and there is no will.
    #[error("there is Will Retain and no will ({})", self.clause())]
    WillRetainWithoutWill,
    /// The Will QoS is 3.
    #[error("the Will QoS is 3 ({})", self.clause())]
    WillQos3,
    /// There is a password and no user name, which MQTT 5.0 allows and its forerunners do not.
    #[error("there is a password and no user name ({})", self.clause())]
    PasswordWithoutUserName,

    /// CONNACK has flags besides Session Present.
    #[error("CONNACK has reserved flags ({})", self.clause())]
    ConnAckReservedFlags,
    /// CONNACK refuses the connection and has Session Present.
    #[error("CONNACK refuses the connection and has Session Present ({})", self.clause())]
    SessionPresentOnRefusal,
    /// The return code of CONNACK is reserved.
    #[error("the return code {code} of CONNACK is reserved ({})", self.clause())]
    ConnectReturnCodeReserved {
        /// The code.
        code: u8,
    },

    /// The QoS of a PUBLISH is 3.
    #[error("the QoS of PUBLISH is 3 ({})", self.clause())]
    PublishQos3,
    /// A PUBLISH with QoS 0 says that it was sent before.
    #[error("PUBLISH has DUP and QoS 0 ({})", self.clause())]
    PublishDupQos0,
    /// The topic of a PUBLISH is empty and no alias stands for it.
    #[error("PUBLISH has neither topic nor Topic Alias ({})", self.clause())]
    TopicAndAliasMissing,
    /// The topic of a PUBLISH or of a will is not a topic name.
    #[error(transparent)]
    TopicName(TopicNameError),

    /// SUBSCRIBE has no filter.
    #[error("SUBSCRIBE has no topic filter ({})", self.clause())]
    SubscribeEmpty,
    /// UNSUBSCRIBE has no filter.
    #[error("UNSUBSCRIBE has no topic filter ({})", self.clause())]
    UnsubscribeEmpty,
    /// A filter is not a topic filter.
    #[error(transparent)]
    TopicFilter(TopicFilterError),
    /// Reserved bits of the Subscription Options are set.
    #[error("reserved bits of the Subscription Options are set ({})", self.clause())]
    SubscriptionOptionsReserved,
    /// The QoS asked for is 3.
    #[error("the QoS of a subscription is 3 ({})", self.clause())]
    SubscriptionQos3,
    /// The Retain Handling is 3.
    #[error("the Retain Handling is 3 ({})", self.clause())]
    RetainHandling3,
    /// No Local is set on a shared subscription.
    #[error("a shared subscription has No Local ({})", self.clause())]
    NoLocalOnShared,
}

impl DecodeError {
    /// The clause that is violated, or the section where the rule has no number.
    pub const fn clause(&self) -> &'static str {
        match self {
            Self::ReservedPacketType { .. } => "section 2.1.2",
            Self::ReservedFlags { packet } => match packet {
                PacketType::PubRel => "MQTT-3.6.1-1",
                PacketType::Subscribe => "MQTT-3.8.1-1",
                PacketType::Unsubscribe => "MQTT-3.10.1-1",
                PacketType::Disconnect => "MQTT-3.14.1-1",
                PacketType::Auth => "MQTT-3.15.1-1",
                _ => "MQTT-2.1.3-1",
            },
            Self::UnexpectedPacket { .. } => "MQTT-3.1.0-1",
            Self::PacketTooLarge { .. } => "section 3.1.2.11.4",
            Self::VarintNotMinimal => "MQTT-1.5.5-1",
            Self::VarintTooLong => "section 1.5.5",
            Self::UnexpectedEnd | Self::TrailingBytes => "section 2.1.4",
            Self::StringNotUtf8 => "MQTT-1.5.4-1",
            Self::StringNul => "MQTT-1.5.4-2",
            Self::PacketIdZero => "MQTT-2.2.1-3",
            Self::ReasonCodeNotAllowed { packet, .. } => match packet {
                PacketType::ConnAck => "MQTT-3.2.2-8",
                PacketType::PubAck => "MQTT-3.4.2-1",
                PacketType::PubRec => "MQTT-3.5.2-1",
                PacketType::PubRel => "MQTT-3.6.2-1",
                PacketType::PubComp => "MQTT-3.7.2-1",
                PacketType::SubAck => "MQTT-3.9.3-2",
                PacketType::UnsubAck => "MQTT-3.11.3-2",
                PacketType::Disconnect => "MQTT-3.14.2-1",
                PacketType::Auth => "MQTT-3.15.2-1",
                _ => "section 2.4",
            },
            Self::ReasonCodesEmpty { packet } => match packet {
                PacketType::UnsubAck => "MQTT-3.11.3-1",
                _ => "MQTT-3.9.3-1",
            },
            Self::PropertyLengthPastPacket => "section 2.2.2.1",
            Self::PropertyPastBlock
            | Self::PropertyUnknown { .. }
            | Self::PropertyNotAllowed { .. }
            | Self::PropertyDuplicate { .. } => "section 2.2.2.2",
            Self::PropertyFlagOutOfRange { property } => match property {
                PropertyId::PayloadFormatIndicator => "section 3.3.2.3.2",
                PropertyId::RequestResponseInformation => "section 3.1.2.11.6",
                PropertyId::RequestProblemInformation => "section 3.1.2.11.7",
                PropertyId::MaximumQos => "section 3.2.2.3.4",
                PropertyId::RetainAvailable => "section 3.2.2.3.5",
                PropertyId::WildcardSubscriptionAvailable => "section 3.2.2.3.11",
                PropertyId::SubscriptionIdentifierAvailable => "section 3.2.2.3.12",
                PropertyId::SharedSubscriptionAvailable => "section 3.2.2.3.13",
                _ => "section 2.2.2.2",
            },
            Self::SubscriptionIdentifierZero => "section 3.8.2.1.2",
            Self::ReceiveMaximumZero => "section 3.1.2.11.3",
            Self::MaximumPacketSizeZero => "section 3.1.2.11.4",
            Self::TopicAliasZero => "MQTT-3.3.2-8",
            Self::ResponseTopicEmpty => "MQTT-4.7.3-1",
            Self::ResponseTopicWildcard => "MQTT-3.3.2-14",
            Self::AuthenticationDataWithoutMethod => "section 3.1.2.11.10",
            Self::AuthenticationMethodMissing => "section 3.15.2.2.2",
            Self::UnsupportedProtocolVersion { .. } => "MQTT-3.1.2-2",
            Self::ConnectReservedFlag => "MQTT-3.1.2-3",
            Self::WillQosWithoutWill => "MQTT-3.1.2-11",
            Self::WillRetainWithoutWill => "MQTT-3.1.2-13",
            Self::WillQos3 => "MQTT-3.1.2-12",
            Self::PasswordWithoutUserName => "MQTT-3.1.2-22 (3.1.1)",
            Self::ConnAckReservedFlags => "MQTT-3.2.2-1",
            Self::SessionPresentOnRefusal => "MQTT-3.2.2-6",
            Self::ConnectReturnCodeReserved { .. } => "section 3.2.2.3 (3.1.1)",
            Self::PublishQos3 => "MQTT-3.3.1-4",
            Self::PublishDupQos0 => "MQTT-3.3.1-2",
            Self::TopicAndAliasMissing => "section 3.3.2.1",
            Self::TopicName(error) => match error {
                TopicNameError::Empty => "MQTT-4.7.3-1",
                TopicNameError::TooLong => "MQTT-4.7.3-3",
                TopicNameError::Wildcard => "MQTT-3.3.2-2",
                TopicNameError::Nul => "MQTT-4.7.3-2",
                TopicNameError::NotUtf8 => "MQTT-3.3.2-1",
                _ => "section 4.7",
            },
            Self::SubscribeEmpty => "MQTT-3.8.3-2",
            Self::UnsubscribeEmpty => "MQTT-3.10.3-2",
            Self::TopicFilter(error) => match error {
                TopicFilterError::Empty => "MQTT-4.7.3-1",
                TopicFilterError::TooLong => "MQTT-4.7.3-3",
                TopicFilterError::Nul => "MQTT-4.7.3-2",
                TopicFilterError::MultiLevelWildcard => "MQTT-4.7.1-1",
                TopicFilterError::SingleLevelWildcard => "MQTT-4.7.1-2",
                TopicFilterError::Share => "MQTT-4.8.2-1",
                _ => "section 4.7",
            },
            Self::SubscriptionOptionsReserved => "MQTT-3.8.3-5",
            Self::SubscriptionQos3 | Self::RetainHandling3 => "section 3.8.3.1",
            Self::NoLocalOnShared => "MQTT-3.8.3-4",
        }
    }

    /// The reason code for the CONNACK or DISCONNECT that answers (section 4.13.1).
    ///
    /// What cannot be parsed, and what the specification calls so, is Malformed Packet; what parses
    /// and must not be is Protocol Error, unless a code of its own says more.
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ReservedPacketType { .. }
            | Self::ReservedFlags { .. }
            | Self::VarintNotMinimal
            | Self::VarintTooLong
            | Self::UnexpectedEnd
            | Self::TrailingBytes
            | Self::StringNotUtf8
            | Self::StringNul
            | Self::PropertyLengthPastPacket
            | Self::PropertyPastBlock
            | Self::PropertyUnknown { .. }
            | Self::PropertyNotAllowed { .. }
            | Self::ConnectReservedFlag
            | Self::WillQosWithoutWill
            | Self::WillRetainWithoutWill
            | Self::WillQos3
            | Self::ConnAckReservedFlags
            | Self::PublishQos3
            | Self::SubscriptionOptionsReserved => ReasonCode::MalformedPacket,
            Self::UnexpectedPacket { .. }
            | Self::PacketIdZero
            | Self::ReasonCodeNotAllowed { .. }
            | Self::ReasonCodesEmpty { .. }
            | Self::PropertyDuplicate { .. }
            | Self::PropertyFlagOutOfRange { .. }
            | Self::SubscriptionIdentifierZero
            | Self::ReceiveMaximumZero
            | Self::MaximumPacketSizeZero
            | Self::ResponseTopicEmpty
            | Self::ResponseTopicWildcard
            | Self::AuthenticationDataWithoutMethod
            | Self::AuthenticationMethodMissing
            | Self::PasswordWithoutUserName
            | Self::SessionPresentOnRefusal
            | Self::ConnectReturnCodeReserved { .. }
            | Self::PublishDupQos0
            | Self::TopicAndAliasMissing
            | Self::SubscribeEmpty
            | Self::UnsubscribeEmpty
            | Self::SubscriptionQos3
            | Self::RetainHandling3
            | Self::NoLocalOnShared => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::UnsupportedProtocolVersion { .. } => ReasonCode::UnsupportedProtocolVersion,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::TopicName(TopicNameError::Nul | TopicNameError::NotUtf8)
            | Self::TopicFilter(TopicFilterError::Nul) => ReasonCode::MalformedPacket,
            Self::TopicName(_) => ReasonCode::TopicNameInvalid,
            Self::TopicFilter(_) => ReasonCode::TopicFilterInvalid,
        }
    }
}

//! A validated block of properties (MQTT 5.0 section 2.2.2): which packet carries which, and how
//! often. What PUBLISH needs besides is in `publish_properties`.

use std::fmt;
use std::iter::FusedIterator;
use std::num::{NonZeroU16, NonZeroU32};

use tidegate_bus::QoS;

use super::reader::Reader;
use super::{DecodeError, Property, PropertyId};

/// Which packet, or part of one, a block of properties belongs to (table 2-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropertyScope {
    /// CONNECT, its will apart.
    Connect,
    /// The will in the payload of CONNECT.
    Will,
    /// CONNACK.
    ConnAck,
    /// PUBLISH.
    Publish,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    Ack,
    /// SUBSCRIBE.
    Subscribe,
    /// SUBACK.
    SubAck,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// UNSUBACK.
    UnsubAck,
    /// DISCONNECT.
    Disconnect,
    /// AUTH.
    Auth,
}

impl PropertyScope {
    /// Whether the packet may carry the property.
    pub const fn allows(self, property: PropertyId) -> bool {
        self.allowed() & property.bit() != 0
    }

    const fn allowed(self) -> u64 {
        use PropertyId as P;
        const USER: u64 = P::UserProperty.bit();
        const REASON: u64 = P::ReasonString.bit() | USER;
        const AUTHENTICATION: u64 = P::AuthenticationMethod.bit() | P::AuthenticationData.bit();
        const LIMITS: u64 = P::SessionExpiryInterval.bit()
            | P::ReceiveMaximum.bit()
            | P::MaximumPacketSize.bit()
            | P::TopicAliasMaximum.bit();
        const MESSAGE: u64 = P::PayloadFormatIndicator.bit()
            | P::MessageExpiryInterval.bit()
            | P::ContentType.bit()
            | P::ResponseTopic.bit()
            | P::CorrelationData.bit()
            | USER;
        match self {
            Self::Connect => {
                LIMITS
                    | AUTHENTICATION
                    | USER
                    | P::RequestProblemInformation.bit()
                    | P::RequestResponseInformation.bit()
            }
            Self::Will => MESSAGE | P::WillDelayInterval.bit(),
            Self::ConnAck => {
                LIMITS
                    | AUTHENTICATION
                    | REASON
                    | P::AssignedClientIdentifier.bit()
                    | P::ServerKeepAlive.bit()
                    | P::ResponseInformation.bit()
                    | P::ServerReference.bit()
                    | P::MaximumQos.bit()
                    | P::RetainAvailable.bit()
                    | P::WildcardSubscriptionAvailable.bit()
                    | P::SubscriptionIdentifierAvailable.bit()
                    | P::SharedSubscriptionAvailable.bit()
            }
            Self::Publish => MESSAGE | P::TopicAlias.bit() | P::SubscriptionIdentifier.bit(),
            Self::Subscribe => P::SubscriptionIdentifier.bit() | USER,
            Self::Unsubscribe => USER,
            Self::Ack | Self::SubAck | Self::UnsubAck => REASON,
            Self::Disconnect => P::SessionExpiryInterval.bit() | P::ServerReference.bit() | REASON,
            Self::Auth => AUTHENTICATION | REASON,
        }
    }

    /// What may occur more than once: User Property everywhere, and in PUBLISH, which may match
    /// several subscriptions, Subscription Identifier.
    const fn repeatable(self) -> u64 {
        match self {
            Self::Publish => {
                PropertyId::UserProperty.bit() | PropertyId::SubscriptionIdentifier.bit()
            }
            _ => PropertyId::UserProperty.bit(),
        }
    }
}

/// Walks over a block that belongs to `scope`, refuses what must not be there and hands every property
/// to `each`. Returns the set of those found.
#[inline]
pub(super) fn walk<'a>(
    scope: PropertyScope,
    raw: &'a [u8],
    mut each: impl FnMut(Property<'a>),
) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(raw);
    let mut seen = 0;
    while !reader.is_empty() {
        let property = PropertyId::read(&mut reader).map_err(past_block)?;
        let bit = property.bit();
        if scope.allowed() & bit == 0 {
            return Err(DecodeError::PropertyNotAllowed { property, scope });
        }
        if seen & bit & !scope.repeatable() != 0 {
            return Err(DecodeError::PropertyDuplicate { property });
        }
        seen |= bit;
        each(Property::read_value(property, &mut reader).map_err(past_block)?);
    }
    Ok(seen)
}

/// A block that ends too early does so within the packet.
#[cold]
fn past_block(error: DecodeError) -> DecodeError {
    match error {
        DecodeError::UnexpectedEnd => DecodeError::PropertyPastBlock,
        error => error,
    }
}

/// A validated block of properties. Packets of MQTT 3.1 and 3.1.1 have an empty one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

/// The getters: each looks for one property from the front of the block.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident -> $variant:ident($type:ty);)*) => {
        impl<'a> Properties<'a> {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Option<$type> {
                    self.iter().find_map(|property| match property {
                        Property::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )*
        }
    };
}

getters! {
    /// See [`Property::PayloadFormatIndicator`].
    payload_format_indicator -> PayloadFormatIndicator(u8);
    /// See [`Property::MessageExpiryInterval`].
    message_expiry_interval -> MessageExpiryInterval(u32);
    /// See [`Property::ContentType`].
    content_type -> ContentType(&'a str);
    /// See [`Property::ResponseTopic`].
    response_topic -> ResponseTopic(&'a str);
    /// See [`Property::CorrelationData`].
    correlation_data -> CorrelationData(&'a [u8]);
    /// See [`Property::SubscriptionIdentifier`]; the first one.
    subscription_identifier -> SubscriptionIdentifier(u32);
    /// See [`Property::SessionExpiryInterval`].
    session_expiry_interval -> SessionExpiryInterval(u32);
    /// See [`Property::AssignedClientIdentifier`].
    assigned_client_identifier -> AssignedClientIdentifier(&'a str);
    /// See [`Property::ServerKeepAlive`].
    server_keep_alive -> ServerKeepAlive(u16);
    /// See [`Property::AuthenticationMethod`].
    authentication_method -> AuthenticationMethod(&'a str);
    /// See [`Property::AuthenticationData`].
    authentication_data -> AuthenticationData(&'a [u8]);
    /// See [`Property::RequestProblemInformation`]. Absent is `true` (section 3.1.2.11.7).
    request_problem_information -> RequestProblemInformation(bool);
    /// See [`Property::WillDelayInterval`].
    will_delay_interval -> WillDelayInterval(u32);
    /// See [`Property::RequestResponseInformation`].
    request_response_information -> RequestResponseInformation(bool);
    /// See [`Property::ResponseInformation`].
    response_information -> ResponseInformation(&'a str);
    /// See [`Property::ServerReference`].
    server_reference -> ServerReference(&'a str);
    /// See [`Property::ReasonString`].
    reason_string -> ReasonString(&'a str);
    /// See [`Property::ReceiveMaximum`]. Absent is 65,535.
    receive_maximum -> ReceiveMaximum(NonZeroU16);
    /// See [`Property::TopicAliasMaximum`]. Absent is 0.
    topic_alias_maximum -> TopicAliasMaximum(u16);
    /// See [`Property::TopicAlias`].
    topic_alias -> TopicAlias(NonZeroU16);
    /// See [`Property::MaximumQos`]. Absent is QoS 2.
    maximum_qos -> MaximumQos(QoS);
    /// See [`Property::RetainAvailable`]. Absent is `true`.
    retain_available -> RetainAvailable(bool);
    /// See [`Property::MaximumPacketSize`]. Absent is no limit.
    maximum_packet_size -> MaximumPacketSize(NonZeroU32);
    /// See [`Property::WildcardSubscriptionAvailable`]. Absent is `true`.
    wildcard_subscription_available -> WildcardSubscriptionAvailable(bool);
    /// See [`Property::SubscriptionIdentifierAvailable`]. Absent is `true`.
    subscription_identifier_available -> SubscriptionIdentifierAvailable(bool);
    /// See [`Property::SharedSubscriptionAvailable`]. Absent is `true`.
    shared_subscription_available -> SharedSubscriptionAvailable(bool);
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Self = Self { raw: &[] };

    /// Checks a block without its length against the rules of `scope`.
    pub fn parse(scope: PropertyScope, raw: &'a [u8]) -> Result<Self, DecodeError> {
        let seen = walk(scope, raw, |_| {})?;
        if seen & PropertyId::AuthenticationData.bit() != 0
            && seen & PropertyId::AuthenticationMethod.bit() == 0
        {
            return Err(DecodeError::AuthenticationDataWithoutMethod);
        }
        Ok(Self { raw })
    }

    /// Reads the block of a packet of MQTT 5.0, with its length.
    pub(super) fn read(scope: PropertyScope, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Self::parse(scope, reader.property_block()?)
    }

    /// Takes over a block whose bytes were written property by property.
    pub(super) const fn trusted(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The bytes of the block, without its length.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The properties in their order.
    pub const fn iter(&self) -> PropertiesIter<'a> {
        PropertiesIter {
            reader: Reader::new(self.raw),
        }
    }

    /// The user properties in their order, which is to be kept (MQTT-3.3.2-18).
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// What of a message's or a will's block goes to its receivers unchanged: everything but Topic
    /// Alias, Message Expiry Interval, Subscription Identifier and Will Delay Interval. Cleared and
    /// written is `scratch`, unless nothing is to be left out: then this is the block itself.
    pub fn forwardable<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if self.iter().all(|property| is_forwarded(property.id())) {
            return self.raw;
        }
        self.forwardable_copy(scratch)
    }

    /// As [`Self::forwardable`], without looking whether there is anything to leave out.
    pub(super) fn forwardable_copy<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        scratch.clear();
        // What is kept is copied in as few pieces as there are.
        let mut kept = 0;
        let mut at = 0;
        let mut reader = Reader::new(self.raw);
        while let Ok(id) = PropertyId::read(&mut reader)
            && id.skip_value(&mut reader).is_ok()
        {
            let end = self.raw.len() - reader.len();
            if !is_forwarded(id) {
                scratch.extend_from_slice(&self.raw[kept..at]);
                kept = end;
            }
            at = end;
        }
        scratch.extend_from_slice(&self.raw[kept..]);
        scratch
    }
}

/// Whether a property goes from a message to its receivers as it is.
const fn is_forwarded(property: PropertyId) -> bool {
    !matches!(
        property,
        PropertyId::TopicAlias
            | PropertyId::MessageExpiryInterval
            | PropertyId::SubscriptionIdentifier
            | PropertyId::WillDelayInterval
    )
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertiesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertiesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The properties of a block in their order.
#[derive(Clone, Debug)]
pub struct PropertiesIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for PropertiesIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        // The block was validated, so the only error is that it has ended.
        Property::read(&mut self.reader).ok()
    }
}

impl FusedIterator for PropertiesIter<'_> {}

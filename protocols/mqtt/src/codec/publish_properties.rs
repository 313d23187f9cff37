//! The properties of a PUBLISH (MQTT 5.0 section 3.3.2.3): one pass that validates the block and
//! picks out what delivery rewrites.

use std::num::NonZeroU16;

use super::properties::walk;
use super::{DecodeError, Properties, PropertiesIter, Property, PropertyScope};

/// A validated block of properties of a PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    block: Properties<'a>,
    topic_alias: Option<NonZeroU16>,
    message_expiry_interval: Option<u32>,
    has_subscription_identifier: bool,
}

impl<'a> PublishProperties<'a> {
    /// No properties.
    pub const EMPTY: Self = Self {
        block: Properties::EMPTY,
        topic_alias: None,
        message_expiry_interval: None,
        has_subscription_identifier: false,
    };

    /// Checks a block without its length.
    #[inline]
    pub fn parse(raw: &'a [u8]) -> Result<Self, DecodeError> {
        if raw.is_empty() {
            return Ok(Self::EMPTY);
        }
        Self::parse_some(raw)
    }

    /// Out of line: most messages have no properties.
    fn parse_some(raw: &'a [u8]) -> Result<Self, DecodeError> {
        let mut found = Self {
            block: Properties::trusted(raw),
            ..Self::EMPTY
        };
        walk(PropertyScope::Publish, raw, |property| match property {
            Property::TopicAlias(alias) => found.topic_alias = Some(alias),
            Property::MessageExpiryInterval(seconds) => {
                found.message_expiry_interval = Some(seconds);
            }
            Property::SubscriptionIdentifier(_) => found.has_subscription_identifier = true,
            _ => {}
        })?;
        Ok(found)
    }

    /// The topic alias, which is never 0 (MQTT-3.3.2-8).
    #[inline]
    pub const fn topic_alias(&self) -> Option<NonZeroU16> {
        self.topic_alias
    }

    /// Seconds after which the message is no longer delivered.
    #[inline]
    pub const fn message_expiry_interval(&self) -> Option<u32> {
        self.message_expiry_interval
    }

    /// Whether there are subscription identifiers, which no client may send (MQTT-3.3.4-6).
    #[inline]
    pub const fn has_subscription_identifier(&self) -> bool {
        self.has_subscription_identifier
    }

    /// The subscription identifiers in their order.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    /// The bytes of the block, without its length.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.block.raw()
    }

    /// The whole block with the getters of every property.
    #[inline]
    pub const fn as_properties(&self) -> Properties<'a> {
        self.block
    }

    /// The properties in their order.
    pub const fn iter(&self) -> PropertiesIter<'a> {
        self.block.iter()
    }

    /// The block without Topic Alias, Message Expiry Interval and Subscription Identifiers, the rest
    /// in its order and verbatim (MQTT-3.3.2-4, -15 to -18, -20). Cleared and written is `scratch`,
    /// unless nothing is to be left out: then this is the block itself.
    #[inline]
    pub fn forwardable<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        let whole = self.topic_alias.is_none()
            && self.message_expiry_interval.is_none()
            && !self.has_subscription_identifier;
        if whole {
            return self.block.raw();
        }
        self.block.forwardable_copy(scratch)
    }
}

impl<'a> IntoIterator for &PublishProperties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertiesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

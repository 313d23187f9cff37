//! Topic aliases, both ways (MQTT 5.0 sections 3.3.2.3.4 and 3.1.2.11.5). They belong to the
//! connection and are forgotten with it (MQTT-3.3.2-7).

use std::collections::HashMap;
use std::num::NonZeroU16;

use tidegate_bus::TopicName;

use crate::codec::ReasonCode;

/// What the client's aliases stand for. Made when the first one is used.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "one word in a connection that uses no alias"
)]
pub(crate) struct InboundAliases(Option<Box<Vec<Option<Box<str>>>>>);

impl InboundAliases {
    /// The topic of a PUBLISH. Sets the alias when there are both, looks it up when there is no
    /// topic.
    pub(crate) fn resolve<'a>(
        &'a mut self,
        topic: Option<TopicName<'a>>,
        alias: Option<NonZeroU16>,
        maximum: u16,
        longest: usize,
    ) -> Result<TopicName<'a>, ReasonCode> {
        let Some(alias) = alias else {
            // The codec lets neither be missing only when the other is there.
            return topic.ok_or(ReasonCode::ProtocolError);
        };
        // MQTT-3.3.2-9
        if alias.get() > maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let place = usize::from(alias.get()) - 1;
        match topic {
            Some(topic) => {
                let topics = self.0.get_or_insert_default();
                if topics.len() <= place {
                    topics.resize(place + 1, None);
                }
                // A topic that the bus refuses for its length is not kept, and neither is what the
                // alias stood for before.
                let short = topic.as_str().len() <= longest;
                topics[place] = short.then(|| topic.as_str().into());
                Ok(topic)
            }
            None => {
                let topics = self.0.as_deref().map(Vec::as_slice).unwrap_or_default();
                let text = topics.get(place).and_then(|t| t.as_deref());
                // It was a topic name when it was set.
                text.and_then(|t| TopicName::new(t).ok())
                    .ok_or(ReasonCode::ProtocolError)
            }
        }
    }
}

/// The aliases the gateway assigns: first come, first served, until the client's maximum is
/// reached; other topics go out in full.
#[derive(Debug)]
pub(crate) struct OutboundAliases {
    by_topic: HashMap<Box<str>, NonZeroU16, foldhash::fast::RandomState>,
    maximum: u16,
}

/// How a topic is written.
#[derive(Clone, Copy)]
pub(crate) enum Aliased {
    /// In full, without an alias.
    Full,
    /// In full, with an alias that stands for it from now on.
    New(NonZeroU16),
    /// As an alias alone.
    Known(NonZeroU16),
}

impl Aliased {
    /// The topic as the packet has it.
    pub(crate) const fn written(self, topic: &str) -> &str {
        match self {
            Self::Full | Self::New(_) => topic,
            Self::Known(_) => "",
        }
    }

    /// The alias as the packet has it.
    pub(crate) const fn alias(self) -> Option<NonZeroU16> {
        match self {
            Self::Full => None,
            Self::New(alias) | Self::Known(alias) => Some(alias),
        }
    }
}

impl OutboundAliases {
    pub(crate) fn new(maximum: u16) -> Self {
        Self {
            by_topic: HashMap::default(),
            maximum,
        }
    }

    /// What stands for `topic`, without setting anything.
    pub(crate) fn get(&self, topic: &str) -> Aliased {
        if let Some(alias) = self.by_topic.get(topic) {
            return Aliased::Known(*alias);
        }
        let next = u16::try_from(self.by_topic.len() + 1)
            .ok()
            .filter(|n| *n <= self.maximum);
        next.and_then(NonZeroU16::new)
            .map_or(Aliased::Full, Aliased::New)
    }

    /// The alias has been sent with its topic.
    pub(crate) fn set(&mut self, topic: &str, alias: NonZeroU16) {
        self.by_topic.insert(topic.into(), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_3_3_2_12_an_alias_may_be_set_anew() {
        let mut aliases = InboundAliases::default();
        let one = NonZeroU16::new(1);
        let (a, b) = (TopicName::new("a").unwrap(), TopicName::new("b").unwrap());
        assert_eq!(
            aliases.resolve(None, one, 2, 10),
            Err(ReasonCode::ProtocolError)
        );
        assert_eq!(aliases.resolve(Some(a), one, 2, 10), Ok(a));
        assert_eq!(aliases.resolve(None, one, 2, 10), Ok(a));
        assert_eq!(aliases.resolve(Some(b), one, 2, 10), Ok(b));
        assert_eq!(aliases.resolve(None, one, 2, 10), Ok(b));
        let long = "too long for it".to_owned();
        let long = TopicName::new(&long).unwrap();
        assert_eq!(aliases.resolve(Some(long), one, 2, 10), Ok(long));
        assert_eq!(
            aliases.resolve(None, one, 2, 10),
            Err(ReasonCode::ProtocolError),
            "the alias does not stand for its topic of before"
        );
        let three = NonZeroU16::new(3);
        assert_eq!(
            aliases.resolve(Some(a), three, 2, 10),
            Err(ReasonCode::TopicAliasInvalid)
        );
    }
}

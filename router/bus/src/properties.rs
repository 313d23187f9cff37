//! The properties that travel with a message, whoever sends it and whoever receives it.
//!
//! The block is kept as it came: Payload Format Indicator, Content Type, Response Topic,
//! Correlation Data and User Properties in the encoding of MQTT 5.0 section 2.2.2, in the order of
//! the publisher (MQTT-3.3.2-17, -18). That encoding is the bus's exchange format because every
//! adapter's metadata maps onto it and most messages need no re-encoding at all. What belongs to
//! one hop (topic alias, subscription identifiers, expiry) is not in it.

const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const USER_PROPERTY: u8 = 0x26;

/// One property of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageProperty<'a> {
    /// Whether the payload is UTF-8 text (MQTT 5.0 section 3.3.2.3.2).
    PayloadIsUtf8(bool),
    /// What the payload is (section 3.3.2.3.9).
    ContentType(&'a str),
    /// Where an answer is expected (section 3.3.2.3.5).
    ResponseTopic(&'a str),
    /// What an answer has to carry (section 3.3.2.3.6).
    CorrelationData(&'a [u8]),
    /// Name and value of the application's own (section 3.3.2.3.7).
    User(&'a str, &'a str),
}

/// A validated block of message properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// No property.
    pub const EMPTY: Self = Self(&[]);

    /// Wraps a block that the caller has validated: only the properties named above, each
    /// complete. An unsound block makes [`Self::iter`] end early and nothing else.
    pub const fn from_validated(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// The block as it is encoded.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The properties in the publisher's order.
    pub fn iter(self) -> impl Iterator<Item = MessageProperty<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || next_property(&mut rest))
    }
}

fn next_property<'a>(rest: &mut &'a [u8]) -> Option<MessageProperty<'a>> {
    let (&id, tail) = rest.split_first()?;
    *rest = tail;
    Some(match id {
        PAYLOAD_FORMAT_INDICATOR => {
            let (&value, tail) = rest.split_first()?;
            *rest = tail;
            MessageProperty::PayloadIsUtf8(value == 1)
        }
        CONTENT_TYPE => MessageProperty::ContentType(next_text(rest)?),
        RESPONSE_TOPIC => MessageProperty::ResponseTopic(next_text(rest)?),
        CORRELATION_DATA => MessageProperty::CorrelationData(next_bytes(rest)?),
        USER_PROPERTY => MessageProperty::User(next_text(rest)?, next_text(rest)?),
        _ => return None,
    })
}

fn next_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<2>()?;
    let (bytes, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = tail;
    Some(bytes)
}

fn next_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(next_bytes(rest)?).ok()
}

/// A value does not fit the 65,535 bytes of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a property value has at most 65,535 bytes (MQTT 5.0 section 1.5)")]
pub struct PropertyTooLong;

/// Builds a block for messages that do not come from an MQTT 5 client.
#[derive(Clone, Debug, Default)]
pub struct PropertiesBuilder(Vec<u8>);

impl PropertiesBuilder {
    /// An empty block.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends `property`.
    pub fn push(&mut self, property: MessageProperty<'_>) -> Result<(), PropertyTooLong> {
        let start = self.0.len();
        let done = match property {
            MessageProperty::PayloadIsUtf8(text) => {
                self.0.extend([PAYLOAD_FORMAT_INDICATOR, u8::from(text)]);
                Ok(())
            }
            MessageProperty::ContentType(v) => self.field(Some(CONTENT_TYPE), v.as_bytes()),
            MessageProperty::ResponseTopic(v) => self.field(Some(RESPONSE_TOPIC), v.as_bytes()),
            MessageProperty::CorrelationData(v) => self.field(Some(CORRELATION_DATA), v),
            MessageProperty::User(name, value) => self
                .field(Some(USER_PROPERTY), name.as_bytes())
                .and_then(|()| self.field(None, value.as_bytes())),
        };
        if done.is_err() {
            self.0.truncate(start);
        }
        done
    }

    fn field(&mut self, id: Option<u8>, value: &[u8]) -> Result<(), PropertyTooLong> {
        let length = u16::try_from(value.len()).map_err(|_| PropertyTooLong)?;
        self.0.extend(id);
        self.0.extend(length.to_be_bytes());
        self.0.extend(value);
        Ok(())
    }

    /// The block built so far.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_3_3_2_18_user_properties_keep_their_order() {
        let all = [
            MessageProperty::User("b", "2"),
            MessageProperty::PayloadIsUtf8(true),
            MessageProperty::User("a", "1"),
            MessageProperty::ContentType("text/plain"),
            MessageProperty::ResponseTopic("r/1"),
            MessageProperty::CorrelationData(&[0, 255]),
            MessageProperty::User("b", "2"),
        ];
        let mut builder = PropertiesBuilder::new();
        for property in all {
            builder.push(property).unwrap();
        }
        assert_eq!(builder.as_properties().iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_value_that_does_not_fit_leaves_the_block_as_it_was() {
        let long = "x".repeat(65_536);
        let mut builder = PropertiesBuilder::new();
        assert_eq!(
            builder.push(MessageProperty::User("n", &long)),
            Err(PropertyTooLong)
        );
        assert_eq!(builder.as_properties(), Properties::EMPTY);
    }

    #[test]
    fn an_unsound_block_ends_the_iteration() {
        for block in [
            &[0x26, 0, 1][..],
            &[0x03, 0, 2, 0xff, 0xfe],
            &[0x7f],
            &[0x01],
        ] {
            assert_eq!(Properties::from_validated(block).iter().next(), None);
        }
    }
}

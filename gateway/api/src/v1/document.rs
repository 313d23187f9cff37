//! A message as JSON, for whoever receives it. The keys are those that [`super::draft::Publication`] takes, so
//! that what was received can be published again.

use std::str;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use tidegate_bus::{Message, MessageProperty, Properties, QoS};
use utoipa::ToSchema;

use super::draft::Encoding;

/// One message for one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) message: &'a Message<'a>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// It was sent before, and may have been received.
    pub(crate) duplicate: bool,
    /// Seconds until it expires.
    pub(crate) expires_in: Option<u32>,
}

/// A message that was received, or that is retained.
///
/// For the description only; what is written is [`Received`].
#[derive(ToSchema)]
#[schema(as = Message)]
#[expect(dead_code, reason = "it is described, not made")]
pub(crate) struct Schema {
    /// What it was published to.
    topic: String,
    /// Its payload, written as `encoding` says.
    payload: String,
    /// `text` if the payload is UTF-8 without control characters other than tabs and ends of lines.
    encoding: Encoding,
    /// The guarantee of this delivery.
    #[schema(minimum = 0, maximum = 2)]
    qos: u8,
    /// Whether it was retained before the subscription was made.
    retain: bool,
    /// There and true when it was sent before and may have been received.
    duplicate: Option<bool>,
    /// What the payload is.
    content_type: Option<String>,
    /// Where an answer is expected.
    response_topic: Option<String>,
    /// What an answer has to carry, in base64.
    correlation_data: Option<String>,
    /// 1 if the publisher says that the payload is UTF-8 text, 0 if it says nothing of it.
    #[schema(minimum = 0, maximum = 1)]
    payload_format_indicator: Option<u8>,
    /// Seconds until it is no longer worth delivering.
    message_expiry_interval: Option<u32>,
    /// Names and values of the application's own, in their order.
    user_properties: Option<Vec<[String; 2]>>,
}

/// The properties of a message by name. Of one that occurs twice, which MQTT forbids, the last counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Named<'a> {
    pub(crate) content_type: Option<&'a str>,
    pub(crate) response_topic: Option<&'a str>,
    pub(crate) correlation_data: Option<&'a [u8]>,
    pub(crate) payload_is_utf8: Option<bool>,
    has_user: bool,
}

impl<'a> Named<'a> {
    pub(crate) fn of(properties: Properties<'a>) -> Self {
        let mut named = Self::default();
        for property in properties.iter() {
            match property {
                MessageProperty::ContentType(value) => named.content_type = Some(value),
                MessageProperty::ResponseTopic(value) => named.response_topic = Some(value),
                MessageProperty::CorrelationData(value) => named.correlation_data = Some(value),
                MessageProperty::PayloadIsUtf8(value) => named.payload_is_utf8 = Some(value),
                MessageProperty::User(..) => named.has_user = true,
            }
        }
        named
    }
}

impl Serialize for Received<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.message;
        let named = Named::of(message.properties);
        let mut out = serializer.serialize_struct("Message", 12)?;
        out.serialize_field("topic", message.topic.as_str())?;
        match text(message.payload) {
            Some(text) => {
                out.serialize_field("payload", text)?;
                out.serialize_field("encoding", &Encoding::Text)?;
            }
            None => {
                out.serialize_field("payload", &Base64(message.payload))?;
                out.serialize_field("encoding", &Encoding::Base64)?;
            }
        }
        out.serialize_field("qos", &(self.qos as u8))?;
        out.serialize_field("retain", &self.retain)?;
        if self.duplicate {
            out.serialize_field("duplicate", &true)?;
        }
        if let Some(value) = named.content_type {
            out.serialize_field("content_type", value)?;
        }
        if let Some(value) = named.response_topic {
            out.serialize_field("response_topic", value)?;
        }
        if let Some(value) = named.correlation_data {
            out.serialize_field("correlation_data", &Base64(value))?;
        }
        if let Some(value) = named.payload_is_utf8 {
            out.serialize_field("payload_format_indicator", &u8::from(value))?;
        }
        if let Some(value) = self.expires_in {
            out.serialize_field("message_expiry_interval", &value)?;
        }
        if named.has_user {
            out.serialize_field("user_properties", &User(message.properties))?;
        }
        out.end()
    }
}

/// The payload as text, if JSON carries it at no more than twice its size: an escaped control character takes six
/// bytes, and who sends many would make others hold them.
fn text(payload: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n' | b'\r');
    str::from_utf8(payload)
        .ok()
        .filter(|_| payload.iter().all(is_plain))
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

struct User<'a>(Properties<'a>);

impl Serialize for User<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().filter_map(|property| match property {
            MessageProperty::User(name, value) => Some((name, value)),
            _ => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_bus::{PropertiesBuilder, TopicName};

    fn written(payload: &[u8]) -> String {
        let message = Message::new(TopicName::new("t").unwrap(), payload);
        let received = Received {
            message: &message,
            qos: QoS::AtMostOnce,
            retain: false,
            duplicate: false,
            expires_in: None,
        };
        serde_json::to_string(&received).unwrap()
    }

    #[test]
    fn a_payload_is_text_where_it_is_and_base64_where_it_is_not() {
        for (payload, expected) in [
            (&b"a\tb\n"[..], r#""payload":"a\tb\n","encoding":"text""#),
            ("ü".as_bytes(), r#""payload":"ü","encoding":"text""#),
            (b"", r#""payload":"","encoding":"text""#),
            (b"\xff", r#""payload":"/w==","encoding":"base64""#),
            (b"\0", r#""payload":"AA==","encoding":"base64""#),
            (b"\x7f", r#""payload":"fw==","encoding":"base64""#),
        ] {
            let text = written(payload);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn no_payload_takes_more_than_twice_its_size() {
        for byte in 0..=255_u8 {
            let length = written(&[byte; 3_000]).len();
            assert!(length <= 2 * 3_000 + 100, "{byte}: {length}");
        }
    }

    #[test]
    fn what_was_received_can_be_published_again() {
        let mut properties = PropertiesBuilder::new();
        for property in [
            MessageProperty::PayloadIsUtf8(true),
            MessageProperty::ContentType("a/b"),
            MessageProperty::ResponseTopic("r"),
            MessageProperty::CorrelationData(&[0, 1]),
            MessageProperty::User("n", "1"),
            MessageProperty::User("n", "2"),
        ] {
            properties.push(property).unwrap();
        }
        let mut message = Message::new(TopicName::new("t").unwrap(), b"p");
        message.properties = properties.as_properties();
        let received = Received {
            message: &message,
            qos: QoS::ExactlyOnce,
            retain: true,
            duplicate: false,
            expires_in: Some(7),
        };
        let json = serde_json::to_string(&received).unwrap();
        let publication = serde_json::from_str(&json).unwrap();
        let draft = super::super::draft::Draft::of(publication).unwrap();
        let again = draft
            .message(tidegate_bus::Timestamp::from_millis(0))
            .unwrap();
        assert_eq!(again.properties, message.properties);
        assert_eq!(again.payload, b"p");
        assert_eq!((again.qos, again.retain), (QoS::ExactlyOnce, true));
    }
}

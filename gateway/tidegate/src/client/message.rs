//! A message as it arrived, and the two ways to print it.

use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use tidegate_bus::QoS;
use tidegate_mqtt::codec::{Property, Publish};

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) subscription_identifiers: Vec<u32>,
    pub(crate) properties: MessageProperties,
}

/// The properties that the publisher gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MessageProperties {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_format: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_expiry: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_topic: Option<String>,
    /// Base64, because it is any bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) correlation_data: Option<String>,
    /// Pairs in their order: names may repeat.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) user_properties: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topic_alias: Option<u16>,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    /// In place of `payload` when that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    qos: u8,
    retain: bool,
    dup: bool,
    properties: &'a MessageProperties,
    subscription_identifiers: &'a [u32],
    received: String,
}

impl Message {
    /// The message of a PUBLISH whose topic is `topic`, be it by alias.
    pub(crate) fn of(publish: &Publish<'_>, topic: &str) -> Self {
        let mut properties = MessageProperties::default();
        for property in &publish.properties {
            match property {
                Property::PayloadFormatIndicator(format) => {
                    properties.payload_format = Some(format);
                }
                Property::MessageExpiryInterval(seconds) => {
                    properties.message_expiry = Some(seconds);
                }
                Property::ContentType(text) => properties.content_type = Some(text.to_owned()),
                Property::ResponseTopic(text) => properties.response_topic = Some(text.to_owned()),
                Property::CorrelationData(data) => {
                    properties.correlation_data = Some(BASE64.encode(data));
                }
                Property::UserProperty(name, value) => {
                    let pair = (name.to_owned(), value.to_owned());
                    properties.user_properties.push(pair);
                }
                Property::TopicAlias(alias) => properties.topic_alias = Some(alias.get()),
                _ => {}
            }
        }
        Self {
            topic: topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            subscription_identifiers: publish.properties.subscription_identifiers().collect(),
            properties,
        }
    }

    /// The payload as it is and a line's end; with `topic` the topic and a space before it.
    pub(crate) fn write_text(&self, topic: bool, out: &mut impl Write) -> io::Result<()> {
        if topic {
            write!(out, "{} ", self.topic)?;
        }
        out.write_all(&self.payload)?;
        out.write_all(b"\n")
    }

    /// One line of JSON.
    pub(crate) fn write_json(&self, received: SystemTime, out: &mut impl Write) -> io::Result<()> {
        let text = std::str::from_utf8(&self.payload).ok();
        let line = Line {
            topic: &self.topic,
            payload: text,
            payload_base64: text.is_none().then(|| BASE64.encode(&self.payload)),
            qos: self.qos as u8,
            retain: self.retain,
            dup: self.dup,
            properties: &self.properties,
            subscription_identifiers: &self.subscription_identifiers,
            received: humantime::format_rfc3339_micros(received).to_string(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use tidegate_bus::TopicName;
    use tidegate_mqtt::codec::{PropertyBlock, PublishProperties};

    use super::*;

    fn message(payload: &[u8], properties: &[Property<'_>]) -> Message {
        let mut block = PropertyBlock::new();
        block.extend(properties.iter().copied());
        let publish = Publish {
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: Some(TopicName::new("a/b").unwrap()),
            packet_id: None,
            properties: PublishProperties::parse(block.raw()).unwrap(),
            payload,
        };
        Message::of(&publish, "a/b")
    }

    fn json(message: &Message) -> serde_json::Value {
        let mut out = Vec::new();
        let received = UNIX_EPOCH + Duration::from_micros(1_500_000);
        message.write_json(received, &mut out).unwrap();
        assert_eq!(out.last(), Some(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn json_has_everything_that_came() {
        let message = message(
            b"hi",
            &[
                Property::PayloadFormatIndicator(1),
                Property::MessageExpiryInterval(9),
                Property::ContentType("text/plain"),
                Property::ResponseTopic("answers"),
                Property::CorrelationData(&[0, 255]),
                Property::UserProperty("b", "1"),
                Property::UserProperty("a", "2"),
                Property::UserProperty("b", "3"),
                Property::SubscriptionIdentifier(7),
                Property::SubscriptionIdentifier(300),
            ],
        );
        assert_eq!(
            json(&message),
            serde_json::json!({
                "topic": "a/b", "payload": "hi", "qos": 1, "retain": true, "dup": true,
                "properties": {
                    "payload_format": 1, "message_expiry": 9, "content_type": "text/plain",
                    "response_topic": "answers", "correlation_data": "AP8=",
                    "user_properties": [["b", "1"], ["a", "2"], ["b", "3"]],
                },
                "subscription_identifiers": [7, 300],
                "received": "1970-01-01T00:00:01.500000Z",
            })
        );
    }

    #[test]
    fn a_payload_that_is_no_text_is_base64() {
        let json = json(&message(&[0xff, 0], &[]));
        assert_eq!(json["payload_base64"], "/wA=");
        assert_eq!(json.get("payload"), None);
        assert_eq!(json["properties"], serde_json::json!({}));
    }

    #[test]
    fn text_is_the_payload_and_with_verbose_the_topic() {
        let text = |topic| {
            let mut out = Vec::new();
            message(b"\xff!", &[]).write_text(topic, &mut out).unwrap();
            out
        };
        assert_eq!(text(false), b"\xff!\n");
        assert_eq!(text(true), b"a/b \xff!\n");
    }
}

//! A message that somebody wants published: read from JSON or from a raw body with a query, checked, and not
//! published yet.

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use tidegate_bus::{
    MAX_STRING_BYTES, Message, MessageProperty, PropertiesBuilder, QoS, Timestamp, TopicName,
    TopicNameError,
};
use utoipa::ToSchema;

use super::caller::sentence;
use super::problem::Problem;
use super::query::Query;
use super::reason::Reason;

/// Base64 as RFC 4648 section 4 has it; the padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What curl and forms say of a body when nobody has said anything.
const FORM: &str = "application/x-www-form-urlencoded";

/// How a payload is written in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    /// As it is: the payload is this text in UTF-8.
    #[default]
    Text,
    /// RFC 4648 section 4.
    Base64,
}

/// A message to be published, as JSON. Unknown keys are refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publication<'a> {
    /// What it is published to.
    #[serde(borrow)]
    #[schema(value_type = String, example = "greenhouse/4/temperature")]
    topic: Cow<'a, str>,
    /// The application's bytes; none when it is left out.
    #[serde(default, borrow)]
    #[schema(value_type = String, example = "21.5")]
    payload: Cow<'a, str>,
    /// How the payload is written here.
    #[serde(default)]
    encoding: Encoding,
    /// The guarantee: 0, 1 or 2.
    #[serde(default = "at_least_once")]
    #[schema(minimum = 0, maximum = 2, default = 1)]
    qos: u8,
    /// Whether it is kept for those who subscribe later, in place of the one before.
    #[serde(default)]
    retain: bool,
    /// What the payload is.
    #[schema(value_type = Option<String>)]
    content_type: Option<Cow<'a, str>>,
    /// Where an answer is expected.
    #[schema(value_type = Option<String>)]
    response_topic: Option<Cow<'a, str>>,
    /// What an answer has to carry, in base64.
    #[schema(value_type = Option<String>)]
    correlation_data: Option<Cow<'a, str>>,
    /// 1 if the payload is UTF-8 text, 0 if nothing is said of it.
    #[schema(minimum = 0, maximum = 1)]
    payload_format_indicator: Option<u8>,
    /// Seconds after which it is no longer worth delivering.
    message_expiry_interval: Option<u32>,
    /// Names and values of the application's own, in their order; a name may occur more than once.
    #[schema(value_type = Option<Vec<[String; 2]>>)]
    user_properties: Option<UserProperties>,
}

const fn at_least_once() -> u8 {
    1
}

/// User properties, put into the form that the bus takes as they are read.
#[derive(Debug)]
struct UserProperties(PropertiesBuilder);

impl<'de> Deserialize<'de> for UserProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = UserProperties;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of pairs [name, value]")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut pairs: A,
            ) -> Result<UserProperties, A::Error> {
                let mut builder = PropertiesBuilder::new();
                while let Some((name, value)) = pairs.next_element::<(String, String)>()? {
                    push_user(&mut builder, &name, &value).map_err(de::Error::custom)?;
                }
                Ok(UserProperties(builder))
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

/// A message that was checked as far as it can be before somebody asks to publish it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    topic: Cow<'a, str>,
    payload: Cow<'a, [u8]>,
    properties: PropertiesBuilder,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    expiry: Option<u32>,
}

impl<'a> Draft<'a> {
    /// Of one in JSON.
    pub(crate) fn of(publication: Publication<'a>) -> Result<Self, Problem> {
        let payload = match (publication.encoding, publication.payload) {
            (Encoding::Text, Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            (Encoding::Text, Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            (Encoding::Base64, text) => Cow::Owned(base64("payload", &text)?),
        };
        let mut properties = Described {
            content_type: publication.content_type.as_deref(),
            response_topic: publication.response_topic.as_deref(),
            correlation_data: publication.correlation_data.as_deref(),
            payload_format_indicator: publication.payload_format_indicator,
        }
        .build()?;
        if let Some(UserProperties(pairs)) = publication.user_properties {
            for property in pairs.as_properties().iter() {
                // It had room before.
                let _ = properties.push(property);
            }
        }
        Ok(Self {
            topic: topic(publication.topic)?,
            payload,
            properties,
            qos: qos(publication.qos)?,
            retain: publication.retain,
            expiry: publication.message_expiry_interval,
        })
    }

    /// Of a raw body: the rest is in the query, the content type in its header.
    pub(crate) fn raw(
        topic_name: String,
        payload: &'a [u8],
        query: &mut Query<'_>,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let said = query.text("content_type")?;
        let header = content_type(headers)?;
        let response_topic = query.topic("response_topic")?;
        let correlation_data = query.text("correlation_data")?;
        let mut properties = Described {
            content_type: said.as_deref().or(header),
            response_topic: response_topic.as_deref(),
            correlation_data: correlation_data.as_deref(),
            payload_format_indicator: query.number("payload_format_indicator")?,
        }
        .build()?;
        for pair in query.texts("user_property")? {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Problem::malformed("The parameter user_property is a name, = and a value.")
            })?;
            push_user(&mut properties, name, value).map_err(Problem::malformed)?;
        }
        Ok(Self {
            topic: topic(topic_name.into())?,
            payload: payload.into(),
            properties,
            qos: qos(query.number("qos")?.unwrap_or_else(at_least_once))?,
            retain: query.flag("retain")?,
            expiry: query.number("message_expiry_interval")?,
        })
    }

    /// Of nothing, which clears what is retained.
    pub(crate) fn clearing(topic_name: String, query: &mut Query<'_>) -> Result<Self, Problem> {
        Ok(Self {
            topic: topic(topic_name.into())?,
            payload: Cow::Borrowed(&[]),
            properties: PropertiesBuilder::new(),
            qos: qos(query.number("qos")?.unwrap_or_else(at_least_once))?,
            retain: true,
            expiry: None,
        })
    }

    /// The same, to be retained.
    pub(crate) fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Refuses what an MQTT packet of `maximum` bytes could not carry, so that the limit is one for all.
    pub(crate) fn check_size(&self, maximum: u32) -> Result<(), Problem> {
        let size = self.packet_bytes();
        if size <= u64::from(maximum) {
            return Ok(());
        }
        Err(Problem::with_reason(
            StatusCode::PAYLOAD_TOO_LARGE,
            Reason::PacketTooLarge,
            format!(
                "The message would be an MQTT packet of {size} bytes; {maximum} are the most \
                 (limits.max_packet_size)."
            ),
        ))
    }

    /// The bytes of the PUBLISH packet of MQTT 5.0 (section 3.3) that it would be.
    fn packet_bytes(&self) -> u64 {
        let expiry = if self.expiry.is_some() { 5 } else { 0 };
        let properties = self.properties.as_properties().as_bytes().len() as u64 + expiry;
        let identifier = if self.qos.is_acknowledged() { 2 } else { 0 };
        let topic = 2 + self.topic.len() as u64;
        let payload = self.payload.len() as u64;
        let rest = topic + identifier + length_of(properties) + properties + payload;
        1 + length_of(rest) + rest
    }

    /// As the bus takes it.
    pub(crate) fn message(&self, now: Timestamp) -> Result<Message<'_>, TopicNameError> {
        let mut message = Message::new(TopicName::new(&self.topic)?, &self.payload);
        message.properties = self.properties.as_properties();
        message.qos = self.qos;
        message.retain = self.retain;
        message.expires_at = self
            .expiry
            .map(|seconds| now.plus_seconds(u64::from(seconds)));
        Ok(message)
    }
}

/// Bytes of a Variable Byte Integer (MQTT 5.0 section 1.5.5).
const fn length_of(value: u64) -> u64 {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

/// The properties that occur once.
struct Described<'a> {
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a str>,
    payload_format_indicator: Option<u8>,
}

impl Described<'_> {
    fn build(self) -> Result<PropertiesBuilder, Problem> {
        let mut builder = PropertiesBuilder::new();
        let mut push = |name: &str, property| {
            builder.push(property).map_err(|error| {
                Problem::invalid(Reason::MalformedPacket, format!("{name}: {error}."))
            })
        };
        match self.payload_format_indicator {
            None => {}
            Some(value @ (0 | 1)) => {
                let property = MessageProperty::PayloadIsUtf8(value == 1);
                push("payload_format_indicator", property)?;
            }
            Some(_) => {
                return Err(Problem::malformed("payload_format_indicator is 0 or 1."));
            }
        }
        if let Some(value) = self.content_type {
            string("content_type", value)?;
            push("content_type", MessageProperty::ContentType(value))?;
        }
        if let Some(value) = self.response_topic {
            TopicName::new(value).map_err(|error| {
                let text = format!("response_topic: {error}.");
                Problem::invalid(Reason::TopicNameInvalid, text)
            })?;
            push("response_topic", MessageProperty::ResponseTopic(value))?;
        }
        if let Some(value) = self.correlation_data {
            let value = base64("correlation_data", value)?;
            push("correlation_data", MessageProperty::CorrelationData(&value))?;
        }
        Ok(builder)
    }
}

fn push_user(builder: &mut PropertiesBuilder, name: &str, value: &str) -> Result<(), String> {
    let says = |text: &str| format!("A user property {text}.");
    if name.contains('\0') || value.contains('\0') {
        return Err(says("holds U+0000 (MQTT-1.5.4-2)"));
    }
    builder
        .push(MessageProperty::User(name, value))
        .map_err(|error| says(&format!("does not fit: {error}")))
}

fn topic(text: Cow<'_, str>) -> Result<Cow<'_, str>, Problem> {
    match TopicName::new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Problem::invalid(Reason::TopicNameInvalid, sentence(&error))),
    }
}

fn qos(value: u8) -> Result<QoS, Problem> {
    QoS::from_u8(value).ok_or_else(|| Problem::malformed("qos is 0, 1 or 2."))
}

fn base64(name: &str, text: &str) -> Result<Vec<u8>, Problem> {
    BASE64
        .decode(text)
        .map_err(|error| Problem::malformed(format!("{name} is not base64: {error}.")))
}

/// What may stand in a string of MQTT (section 1.5.4).
fn string(name: &str, text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::malformed(format!(
            "{name} holds U+0000 (MQTT-1.5.4-2)."
        )));
    }
    if text.len() > MAX_STRING_BYTES {
        return Err(Problem::malformed(format!(
            "{name} has more than 65,535 bytes (MQTT 5.0 section 1.5.4)."
        )));
    }
    Ok(())
}

/// The content type that the header has, unless it is the one of those who say none.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| Problem::malformed("The Content-Type holds bytes that are not ASCII."))?;
    Ok(Some(text).filter(|text| !text.eq_ignore_ascii_case(FORM) && !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(json: &str) -> Result<Draft<'_>, String> {
        let publication = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Draft::of(publication).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn every_property_arrives_where_the_bus_looks_for_it() {
        let draft = draft(
            r#"{"topic":"t","payload":"AP8","encoding":"base64","qos":2,"retain":true,
                "content_type":"a/b","response_topic":"r","correlation_data":"AQ==",
                "payload_format_indicator":0,"message_expiry_interval":9,
                "user_properties":[["b","1"],["a","2"],["b","\u00e9"]]}"#,
        )
        .unwrap();
        let message = draft.message(Timestamp::from_millis(1_000)).unwrap();
        assert_eq!(message.payload, [0, 255]);
        assert_eq!((message.qos, message.retain), (QoS::ExactlyOnce, true));
        assert_eq!(message.expires_at, Some(Timestamp::from_millis(10_000)));
        let properties: Vec<_> = message.properties.iter().collect();
        assert_eq!(
            properties,
            [
                MessageProperty::PayloadIsUtf8(false),
                MessageProperty::ContentType("a/b"),
                MessageProperty::ResponseTopic("r"),
                MessageProperty::CorrelationData(&[1]),
                MessageProperty::User("b", "1"),
                MessageProperty::User("a", "2"),
                MessageProperty::User("b", "é"),
            ]
        );
    }

    #[test]
    fn mqtt_1_5_4_2_no_string_carries_u_0000_to_clients_that_must_refuse_it() {
        for json in [
            r#"{"topic":"t\u0000"}"#,
            r#"{"topic":"t","content_type":"\u0000"}"#,
            r#"{"topic":"t","response_topic":"\u0000"}"#,
            r#"{"topic":"t","user_properties":[["\u0000",""]]}"#,
            r#"{"topic":"t","user_properties":[["","\u0000"]]}"#,
        ] {
            assert!(draft(json).is_err(), "{json}");
        }
        assert!(draft(r#"{"topic":"t","payload":"\u0000"}"#).is_ok());
    }

    #[test]
    fn what_mqtt_does_not_allow_is_refused() {
        for json in [
            r#"{"topic":""}"#,
            r#"{"topic":"a/+"}"#,
            r##"{"topic":"#"}"##,
            r#"{"topic":"t","qos":3}"#,
            r#"{"topic":"t","response_topic":"a/+"}"#,
            r#"{"topic":"t","response_topic":""}"#,
            r#"{"topic":"t","payload_format_indicator":2}"#,
            r#"{"topic":"t","payload":"*","encoding":"base64"}"#,
            r#"{"topic":"t","correlation_data":"*"}"#,
            r#"{"topic":"t","message_expiry_interval":4294967296}"#,
            r#"{"topic":"t","user_properties":[["a"]]}"#,
            r#"{"topic":"t","user_properties":{"a":"b"}}"#,
            r#"{"topic":"t","encoding":"hex"}"#,
            r#"{"topic":"t","colour":"red"}"#,
            r#"{"topic":"t","topic":"u"}"#,
            r#"{"payload":"t"}"#,
        ] {
            assert!(draft(json).is_err(), "{json}");
        }
        let long = format!(r#"{{"topic":"t","content_type":"{}"}}"#, "x".repeat(65_536));
        assert!(draft(&long).is_err());
    }

    #[test]
    fn mqtt_3_3_the_size_is_that_of_the_packet() {
        let size = |json: &str| draft(json).unwrap().packet_bytes();
        // Fixed header 2, topic 2 + 1, property length 1, payload 1.
        assert_eq!(size(r#"{"topic":"t","qos":0,"payload":"p"}"#), 7);
        assert_eq!(size(r#"{"topic":"t","payload":"p"}"#), 9);
        assert_eq!(
            size(r#"{"topic":"t","payload":"p","message_expiry_interval":1}"#),
            14
        );
        let payload = "x".repeat(200);
        let json = format!(r#"{{"topic":"t","qos":0,"payload":"{payload}"}}"#);
        assert_eq!(size(&json), 1 + 2 + 3 + 1 + 200);
        let draft = draft(&json).unwrap();
        assert!(draft.check_size(207).is_ok());
        assert_eq!(
            draft.check_size(206).unwrap_err().status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
    }
}

//! A message as somebody asked for it, as somebody received it, and as it lies on the bus: all three are the same.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate_bus::{Message, MessageProperty, Timestamp};

/// A message, whoever says what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u64,
    pub(super) retain: bool,
    /// Seconds.
    pub(super) expiry: Option<u64>,
    /// By their keys in JSON; what is in base64 there, decoded.
    properties: BTreeMap<&'static str, Vec<u8>>,
    user: Vec<(String, String)>,
}

impl Said {
    /// One that was published.
    pub(super) fn of_message(message: &Message<'_>, now: Timestamp) -> Self {
        let mut said = Self {
            topic: message.topic.as_str().to_owned(),
            payload: message.payload.to_vec(),
            qos: message.qos as u64,
            retain: message.retain,
            expiry: message.expires_at.map(|at| at.seconds_left(now).into()),
            ..Self::default()
        };
        for property in message.properties.iter() {
            match property {
                MessageProperty::PayloadIsUtf8(is) => {
                    said.set("payload_format_indicator", vec![is.into()]);
                }
                MessageProperty::ContentType(text) => said.set("content_type", text.into()),
                MessageProperty::ResponseTopic(text) => said.set("response_topic", text.into()),
                MessageProperty::CorrelationData(data) => said.set("correlation_data", data.into()),
                MessageProperty::User(name, value) => {
                    said.user.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        said
    }

    fn set(&mut self, key: &'static str, value: Vec<u8>) {
        self.properties.insert(key, value);
    }

    /// One in JSON that was accepted, or received: everything in it is of its type.
    pub(super) fn of_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str();
        let mut said = Self {
            topic: text("topic").expect("a topic").to_owned(),
            qos: value["qos"].as_u64().unwrap_or(1),
            retain: value["retain"].as_bool().unwrap_or_default(),
            expiry: value["message_expiry_interval"].as_u64(),
            ..Self::default()
        };
        let payload = text("payload").unwrap_or_default();
        said.payload = match text("encoding") {
            Some("base64") => base64(payload),
            _ => payload.as_bytes().to_vec(),
        };
        if let Some(indicator) = value["payload_format_indicator"].as_u64() {
            said.set("payload_format_indicator", vec![indicator as u8]);
        }
        for key in ["content_type", "response_topic"] {
            if let Some(text) = text(key) {
                said.set(key, text.into());
            }
        }
        if let Some(data) = text("correlation_data") {
            said.set("correlation_data", base64(data));
        }
        for pair in value["user_properties"].as_array().into_iter().flatten() {
            let part = |at: usize| pair[at].as_str().expect("a text").to_owned();
            said.user.push((part(0), part(1)));
        }
        said
    }

    /// A raw body that was accepted, with its query, and the type that its header says.
    pub(super) fn of_raw(query: &str, content_type: Option<&str>, body: &[u8]) -> Self {
        let mut said = Self {
            payload: body.to_vec(),
            qos: 1,
            ..Self::default()
        };
        let said_type = content_type.filter(|text| !text.is_empty());
        let is_form = |text: &str| text.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if let Some(text) = said_type.filter(|text| !is_form(text)) {
            said.set("content_type", text.into());
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = form(value);
            match &*form(name) {
                "topic" => said.topic = topic(value),
                "qos" => said.qos = text.trim_start_matches('+').parse().expect("a QoS"),
                "retain" => said.retain = !matches!(value, "false" | "0"),
                "message_expiry_interval" => said.expiry = value.parse().ok(),
                "content_type" => said.set("content_type", text.into()),
                "response_topic" => said.set("response_topic", topic(value).into()),
                "correlation_data" => said.set("correlation_data", base64(&text)),
                "payload_format_indicator" => {
                    said.set(
                        "payload_format_indicator",
                        vec![value.parse().expect("0 or 1")],
                    );
                }
                "user_property" => {
                    let (name, value) = text.split_once('=').expect("a name and a value");
                    said.user.push((name.to_owned(), value.to_owned()));
                }
                _ => {}
            }
        }
        said
    }

    /// The same, retained on a topic that its path names.
    pub(super) fn retained(self, topic: String) -> Self {
        Self {
            topic,
            retain: true,
            ..self
        }
    }

    /// Whether a receiver is told the same, at whatever QoS.
    pub(super) fn is_received_as(&self, other: &Self) -> bool {
        let as_received = |said: &Self| Self {
            qos: 0,
            retain: false,
            ..said.clone()
        };
        as_received(self) == as_received(other)
    }
}

/// The value of a parameter, as forms have it.
pub(super) fn form(text: &str) -> String {
    decode(&text.replace('+', " "))
}

/// As [`form`], but a `+` that is a whole level is a wildcard, or part of a name that cannot be.
fn topic(text: &str) -> String {
    let levels = text.split('/').map(|level| match level {
        "+" => level.to_owned(),
        _ => level.replace('+', " "),
    });
    decode(&levels.collect::<Vec<_>>().join("/"))
}

pub(super) fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let mut digit = || (ahead.next()? as char).to_digit(16);
        match digit().zip(digit()).filter(|_| byte == b'%') {
            Some((high, low)) => {
                decoded.push((high << 4 | low) as u8);
                bytes = ahead;
            }
            None => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).expect("it was accepted")
}

/// RFC 4648 section 4, padded or not.
fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{text:?} was taken for base64"),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

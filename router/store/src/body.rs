//! A message on the disk.
//!
//! One byte for the version, the header in postcard, then the payload as it is.

use serde::{Deserialize, Serialize};
use tidegate_bus::{Message, Properties, PublisherKey, QoS, Timestamp, TopicName};

use crate::record::{Bytes, DecodeError, decode, encode};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    topic: &'a str,
    #[serde(borrow)]
    properties: Bytes<'a>,
    qos: u8,
    retain: bool,
    expires_at: Option<u64>,
    publisher: u64,
}

/// Appends the message to `out`.
pub(crate) fn encode_body(message: &Message<'_>, out: &mut Vec<u8>) {
    let header = Header {
        topic: message.topic.as_str(),
        properties: Bytes(message.properties.as_bytes()),
        qos: message.qos as u8,
        retain: message.retain,
        expires_at: message.expires_at.map(Timestamp::as_millis),
        publisher: message.publisher.to_bits(),
    };
    encode(VERSION, &header, out);
    out.extend_from_slice(message.payload);
}

/// The message in `bytes`.
pub(crate) fn decode_body(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let (header, payload): (Header<'_>, _) = decode(VERSION, bytes)?;
    let topic = TopicName::new(header.topic).map_err(|_| DecodeError::Malformed)?;
    let mut message = Message::new(topic, payload);
    message.properties = Properties::from_validated(header.properties.0);
    message.qos = QoS::from_u8(header.qos).ok_or(DecodeError::Malformed)?;
    message.retain = header.retain;
    message.expires_at = header.expires_at.map(Timestamp::from_millis);
    message.publisher = PublisherKey::from_bits(header.publisher);
    Ok(message)
}

//! How the bus's deliveries for the session of an observer lie in its outbox, until the listener turns them into
//! notifications.
//!
//! A notification needs an identifier, a token and a number, and none of them is known on the publisher's thread. So
//! what is written there is what the notification is made of:
//!
//! ```text
//! length of what follows (4) | QoS, or 3 for the second step of QoS 2 (1) | packet identifier, 0 for none (2)
//! expires at, 0 for never (8) | count of subscription identifiers (1), each (4)
//! length (2) and topic | length (4) and properties | payload
//! ```

use std::num::NonZeroU16;

use smallvec::SmallVec;
use tidegate_bus::{Encoder, Message, Outgoing, Properties, QoS, Timestamp, TooLarge, TopicName};

/// What stands where the QoS does for the second step of QoS 2.
const RELEASE: u8 = 3;

/// Most subscription identifiers of one delivery: an observation beyond that is not told of it.
const MOST_IDENTIFIERS: usize = u8::MAX as usize;

/// Identifiers of the subscriptions that a message has come through.
pub(crate) type Identifiers = SmallVec<[u32; 2]>;

/// What the bus has for the client.
#[derive(Debug)]
pub(crate) enum Delivery<'a> {
    Message {
        message: Message<'a>,
        packet_id: Option<NonZeroU16>,
        identifiers: Identifiers,
    },
    /// The engine has noted that a message of QoS 2 was received: what is left is to forget it.
    Release(NonZeroU16),
}

/// Writes deliveries.
#[derive(Debug)]
pub(crate) struct DeliveryEncoder;

impl Encoder for DeliveryEncoder {
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        let start = begin(out, outgoing.qos as u8, outgoing.packet_id);
        let expires_at = message.expires_at.map_or(0, Timestamp::as_millis);
        out.extend_from_slice(&expires_at.to_be_bytes());
        let identifiers = outgoing.subscription_identifiers;
        let identifiers = &identifiers[..identifiers.len().min(MOST_IDENTIFIERS)];
        out.push(identifiers.len() as u8);
        for identifier in identifiers {
            out.extend_from_slice(&identifier.to_be_bytes());
        }
        let topic = message.topic.as_str().as_bytes();
        // A topic is 65,535 bytes at most, a property block less than a packet of MQTT.
        out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        out.extend_from_slice(topic);
        let properties = message.properties.as_bytes();
        out.extend_from_slice(&(properties.len() as u32).to_be_bytes());
        out.extend_from_slice(properties);
        out.extend_from_slice(message.payload);
        end(out, start);
        Ok(())
    }

    fn release(&mut self, out: &mut Vec<u8>, packet_id: NonZeroU16) {
        let start = begin(out, RELEASE, Some(packet_id));
        end(out, start);
    }

    fn count_unacknowledged(&self, mut unsent: &[u8]) -> u64 {
        let mut count = 0;
        while let Some(delivery) = next(&mut unsent) {
            count += u64::from(is_unacknowledged(&delivery));
        }
        count
    }
}

/// Whether it is lost with its connection.
fn is_unacknowledged(delivery: &Delivery<'_>) -> bool {
    matches!(
        delivery,
        Delivery::Message {
            packet_id: None,
            ..
        }
    )
}

fn begin(out: &mut Vec<u8>, what: u8, packet_id: Option<NonZeroU16>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(what);
    out.extend_from_slice(&packet_id.map_or(0, NonZeroU16::get).to_be_bytes());
    start
}

fn end(out: &mut [u8], start: usize) {
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Takes the next delivery from the front of what the encoder has written; `None` at the end.
pub(crate) fn next<'a>(written: &mut &'a [u8]) -> Option<Delivery<'a>> {
    let mut all = *written;
    let len = u32::from_be_bytes(*take(&mut all)?) as usize;
    let (mut one, rest) = all.split_at_checked(len)?;
    *written = rest;
    let [what] = *take(&mut one)?;
    let packet_id = NonZeroU16::new(u16::from_be_bytes(*take(&mut one)?));
    if what == RELEASE {
        return packet_id.map(Delivery::Release);
    }
    let expires_at = u64::from_be_bytes(*take(&mut one)?);
    let [count] = *take(&mut one)?;
    let mut identifiers = Identifiers::new();
    for _ in 0..count {
        identifiers.push(u32::from_be_bytes(*take(&mut one)?));
    }
    let len = u16::from_be_bytes(*take(&mut one)?).into();
    let (topic, mut one) = one.split_at_checked(len)?;
    let len = u32::from_be_bytes(*take(&mut one)?) as usize;
    let (properties, payload) = one.split_at_checked(len)?;
    let mut message = Message::new(TopicName::from_bytes(topic).ok()?, payload);
    message.properties = Properties::from_validated(properties);
    message.qos = QoS::from_u8(what)?;
    message.expires_at = (expires_at > 0).then(|| Timestamp::from_millis(expires_at));
    Some(Delivery::Message {
        message,
        packet_id,
        identifiers,
    })
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_bus::{MessageProperty, Place, PropertiesBuilder};

    #[test]
    fn what_was_written_is_read_again_and_qos_0_is_counted() {
        let mut encoder = DeliveryEncoder;
        let mut out = Vec::new();
        let mut properties = PropertiesBuilder::new();
        properties
            .push(MessageProperty::ContentType("a/b"))
            .unwrap();
        let mut message = Message::new(TopicName::new("a/b").unwrap(), b"21.5");
        message.properties = properties.as_properties();
        message.expires_at = Some(Timestamp::from_millis(77));
        for (qos, packet_id, identifiers) in [
            (QoS::AtMostOnce, None, &[7][..]),
            (QoS::ExactlyOnce, NonZeroU16::new(9), &[7, 8, 9]),
        ] {
            let outgoing = Outgoing {
                qos,
                retain: false,
                dup: false,
                packet_id,
                subscription_identifiers: identifiers,
                channel: None,
                expires_in: Some(5),
                place: Place(0),
            };
            encoder.publish(&mut out, &message, &outgoing).unwrap();
        }
        encoder.release(&mut out, NonZeroU16::MAX);
        assert_eq!(encoder.count_unacknowledged(&out), 1);

        let mut rest = &out[..];
        for (qos, packet, subscriptions) in [
            (QoS::AtMostOnce, None, &[7][..]),
            (QoS::ExactlyOnce, NonZeroU16::new(9), &[7, 8, 9]),
        ] {
            let Some(Delivery::Message {
                message: read,
                packet_id,
                identifiers,
            }) = next(&mut rest)
            else {
                panic!("not a message");
            };
            assert_eq!(read.topic.as_str(), "a/b");
            assert_eq!(read.payload, b"21.5");
            assert_eq!(read.properties, message.properties);
            assert_eq!((read.qos, read.expires_at), (qos, message.expires_at));
            assert_eq!((packet_id, &identifiers[..]), (packet, subscriptions));
        }
        assert!(matches!(
            next(&mut rest),
            Some(Delivery::Release(NonZeroU16::MAX))
        ));
        assert!(next(&mut rest).is_none() && rest.is_empty());
        assert!(
            next(&mut &out[..out.len() - 8][..]).is_some(),
            "a part that is cut ends the list"
        );
    }
}

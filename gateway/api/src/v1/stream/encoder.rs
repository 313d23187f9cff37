//! A delivery as one event of a stream (the HTML standard, section 9.2). Runs under the session's lock on the
//! publisher's thread.
//!
//! ```text
//! id: 2a-17
//! event: message
//! data: {"topic":"greenhouse/4","payload":"21.5","encoding":"text","qos":1,"retain":false}
//!
//! ```
//!
//! JSON is written without an end of a line in it, so an event has one line of data, and an empty line is the end of
//! an event and nothing else.

use std::io::Write as _;
use std::num::NonZeroU16;

use tidegate_bus::{Encoder, Epoch, Message, Outgoing, Place, TooLarge};

use super::super::document::Received;
use super::position::Name;

/// What stands before an id.
const ID: &[u8] = b"id: ";

pub(super) struct EventEncoder {
    incarnation: u64,
    name: Name,
    /// Of the last acknowledged message.
    place: Place,
    /// Events at QoS 0 since.
    since: u64,
}

impl EventEncoder {
    pub(super) const fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            name: Name::new(None, incarnation, 0),
            place: Place(0),
            since: 0,
        }
    }
}

impl Encoder for EventEncoder {
    fn begin(&mut self, kept_as: Option<Epoch>, key: u64) {
        self.name = Name::new(kept_as, self.incarnation, key);
    }

    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        let start = out.len();
        let written = if outgoing.place > Place(0) {
            self.place = outgoing.place;
            self.since = 0;
            writeln!(out, "id: {}-{}", self.name, self.place.0)
        } else {
            self.since += 1;
            writeln!(out, "id: {}-{}.{}", self.name, self.place.0, self.since)
        };
        out.extend_from_slice(b"event: message\ndata: ");
        let received = Received {
            message,
            qos: outgoing.qos,
            retain: outgoing.retain,
            duplicate: outgoing.dup,
            expires_in: outgoing.expires_in,
        };
        let document = serde_json::to_writer(&mut *out, &received);
        // Memory takes every byte, and every message can be written as JSON.
        if written.is_err() || document.is_err() {
            out.truncate(start);
            return Err(TooLarge);
        }
        out.extend_from_slice(b"\n\n");
        Ok(())
    }

    fn release(&mut self, _out: &mut Vec<u8>, _packet_id: NonZeroU16) {
        // The second step of QoS 2 is done when the client says how far it has come.
    }

    fn count_unacknowledged(&self, unsent: &[u8]) -> u64 {
        written(unsent).zero
    }
}

/// What lies in bytes that the encoder has written, which begin with an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Messages at QoS 0.
    pub(super) zero: u64,
    /// Messages that are acknowledged.
    pub(super) acknowledged: u64,
    /// The place of the last of these.
    pub(super) last: Option<Place>,
}

pub(super) fn written(bytes: &[u8]) -> Written {
    let mut written = Written::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(id) = line.strip_prefix(ID) else {
            continue;
        };
        if id.contains(&b'.') {
            written.zero += 1;
            continue;
        }
        written.acknowledged += 1;
        let place = id.rsplit(|byte| *byte == b'-').next();
        let place = place.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        written.last = place.map(Place);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_bus::{QoS, TopicName};

    #[test]
    fn an_event_is_four_lines_whatever_is_in_it_and_its_id_says_how_far_it_is() {
        let mut encoder = EventEncoder::new(7);
        encoder.begin(Some(Epoch(0x2a)), 1);
        let mut out = Vec::new();
        let payload = "id: 9\n\ndata: \r\u{2028}";
        let message = Message::new(TopicName::new("t\n\nid: 1").unwrap(), payload.as_bytes());
        for (place, qos) in [(0, 0), (17, 1), (0, 0), (0, 0), (19, 2)] {
            let outgoing = Outgoing {
                qos: QoS::from_u8(qos).unwrap(),
                retain: false,
                dup: false,
                packet_id: NonZeroU16::new(u16::from(qos > 0)),
                subscription_identifiers: &[],
                channel: None,
                expires_in: None,
                place: Place(place),
            };
            encoder.publish(&mut out, &message, &outgoing).unwrap();
        }
        let text = String::from_utf8(out.clone()).unwrap();
        let events: Vec<&str> = text.split_terminator("\n\n").collect();
        let ids: Vec<&str> = events.iter().map(|e| e.lines().next().unwrap()).collect();
        assert_eq!(
            ids,
            [
                "id: 2a-0.1",
                "id: 2a-17",
                "id: 2a-17.1",
                "id: 2a-17.2",
                "id: 2a-19"
            ]
        );
        for event in &events {
            assert_eq!(event.lines().count(), 3);
            let data = event.split_once("\ndata: ").unwrap().1;
            let json: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(json["payload"], payload);
        }
        let all = Written {
            zero: 3,
            acknowledged: 2,
            last: Some(Place(19)),
        };
        assert_eq!(written(&out), all);
        assert_eq!(encoder.count_unacknowledged(&out), 3);
        assert_eq!(written(b""), Written::default());
    }
}

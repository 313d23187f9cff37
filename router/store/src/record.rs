//! Records on the disk: one byte for the version, then postcard.
//!
//! A field is never added to a version: a new one begins, and the old one is still read.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_bus::{
    QoS, QueueEntry, RetainHandling, Stage, SubscriptionIdentifiers, SubscriptionOptions,
    TopicFilter,
};

const VERSION: u8 = 1;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// It was written by a newer gateway, or its first byte is wrong.
    #[error("the version of the record is not known")]
    Version,
    /// It holds what cannot be.
    #[error("the record is malformed")]
    Malformed,
}

/// Bytes that are copied as a block and read without a copy.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// Appends a record to `out`.
pub(crate) fn encode<T: Serialize>(version: u8, record: &T, out: &mut Vec<u8>) {
    out.push(version);
    #[expect(
        clippy::expect_used,
        reason = "our records have lengths and no maps: postcard writes them into any vector"
    )]
    let written = postcard::to_extend(record, std::mem::take(out)).expect("records encode");
    *out = written;
}

/// The record in `bytes`, and what follows it.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    version: u8,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), DecodeError> {
    let (&found, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
    if found != version {
        return Err(DecodeError::Version);
    }
    postcard::take_from_bytes(rest).map_err(|_| DecodeError::Malformed)
}

/// Where the message of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BodyPlace {
    /// It follows the record.
    Here,
    /// In `bodies`, under this number.
    Shared(u64),
    /// The message is needed no more.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StageRecord {
    Queued,
    Sent(NonZeroU16),
    Received(NonZeroU16),
}

/// An entry of a queue.
#[derive(Serialize, Deserialize)]
pub(crate) struct EntryRecord<'a> {
    stage: StageRecord,
    qos: u8,
    retain: bool,
    identifiers: Identifiers,
    shared: Option<&'a str>,
    /// Bytes of topic, properties and payload.
    pub(crate) size: u32,
    /// Where the message is.
    pub(crate) body: BodyPlace,
}

struct Identifiers(SubscriptionIdentifiers);

impl Serialize for Identifiers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for identifier in &self.0 {
            list.serialize_element(identifier)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Identifiers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Identifiers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("subscription identifiers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Identifiers, A::Error> {
                let mut identifiers = SubscriptionIdentifiers::new();
                while let Some(identifier) = list.next_element()? {
                    identifiers.push(identifier);
                }
                Ok(Identifiers(identifiers))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl<'a> EntryRecord<'a> {
    /// The record of an entry whose message has this size.
    pub(crate) fn new(entry: &'a QueueEntry, stage: Stage, size: u32, body: BodyPlace) -> Self {
        Self {
            stage: stage_record(stage),
            qos: entry.qos as u8,
            retain: entry.retain,
            identifiers: Identifiers(entry.identifiers.clone()),
            shared: entry.shared.as_ref().map(TopicFilter::as_str),
            size,
            body,
        }
    }

    /// Appends the record to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode(VERSION, self, out);
    }

    /// The record in `bytes`, and the message behind it.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        decode(VERSION, bytes)
    }

    /// How far it has come.
    pub(crate) const fn stage(&self) -> Stage {
        match self.stage {
            StageRecord::Queued => Stage::Queued,
            StageRecord::Sent(id) => Stage::Sent(id),
            StageRecord::Received(id) => Stage::Received(id),
        }
    }

    /// Changes how far it has come.
    pub(crate) const fn set_stage(&mut self, stage: Stage) {
        self.stage = stage_record(stage);
    }

    /// The entry as the bus knows it.
    pub(crate) fn into_entry(self, place: u64) -> Result<QueueEntry, DecodeError> {
        let stage = self.stage();
        Ok(QueueEntry {
            place: tidegate_bus::Place(place),
            stage,
            qos: QoS::from_u8(self.qos).ok_or(DecodeError::Malformed)?,
            retain: self.retain,
            identifiers: self.identifiers.0,
            shared: match self.shared {
                None => None,
                Some(text) => Some(filter(text)?),
            },
        })
    }
}

const fn stage_record(stage: Stage) -> StageRecord {
    match stage {
        Stage::Queued => StageRecord::Queued,
        Stage::Sent(id) => StageRecord::Sent(id),
        Stage::Received(id) => StageRecord::Received(id),
    }
}

/// A filter that was kept.
pub(crate) fn filter(text: &str) -> Result<TopicFilter, DecodeError> {
    TopicFilter::new(text).map_err(|_| DecodeError::Malformed)
}

/// A subscription.
#[derive(Serialize, Deserialize)]
pub(crate) struct SubscriptionRecord<'a> {
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
    /// Under which identifier.
    pub(crate) identifier: Option<NonZeroU32>,
    /// Its retained messages had not all been sent.
    pub(crate) retained_owed: bool,
    /// To what, when that is too long for a key.
    pub(crate) filter: Option<&'a str>,
}

impl<'a> SubscriptionRecord<'a> {
    /// The record of a subscription.
    pub(crate) const fn new(
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
        retained_owed: bool,
        filter: Option<&'a str>,
    ) -> Self {
        Self {
            qos: options.qos as u8,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling as u8,
            identifier,
            retained_owed,
            filter,
        }
    }

    /// How.
    pub(crate) fn options(&self) -> Result<SubscriptionOptions, DecodeError> {
        Ok(SubscriptionOptions {
            qos: QoS::from_u8(self.qos).ok_or(DecodeError::Malformed)?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling: RetainHandling::from_u8(self.retain_handling)
                .ok_or(DecodeError::Malformed)?,
        })
    }

    /// Appends the record to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode(VERSION, self, out);
    }

    /// The record in `bytes`.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        decode(VERSION, bytes).map(|(record, _)| record)
    }
}

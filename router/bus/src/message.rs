//! A message on its way: borrowed from the publisher's read buffer while it is routed, copied once
//! into a [`StoredMessage`] when somebody must keep it.

use std::cell::{Cell, OnceCell, RefCell};
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use crate::budget::{Charge, MemoryBudget};
use crate::client_id::ClientId;
use crate::properties::Properties;
use crate::qos::QoS;
use crate::store::Ticket;
use crate::time::Timestamp;
use crate::topic::TopicName;

/// How many different encodings of one message are remembered while it fans out. Adapters agree on
/// who uses which slot; MQTT has one per (version, with or without packet identifier).
pub const ENCODING_SLOTS: usize = 4;

/// What an adapter appended to a receiver's buffer for this message, remembered so that the next
/// receiver of the same kind gets a copy of bytes instead of an encoding.
#[derive(Debug, Default)]
pub(crate) struct Encodings {
    bytes: RefCell<Vec<u8>>,
    slots: [Cell<(u32, u32)>; ENCODING_SLOTS],
}

impl Encodings {
    /// Forgets the encodings of the last message and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.get_mut().clear();
        for slot in &mut self.slots {
            slot.set((0, 0));
        }
    }
}

/// Who published, as a hash of the client identifier: enough for no-local and for shared groups that
/// hash the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PublisherKey(pub(crate) u64);

impl PublisherKey {
    /// A publisher that is no session of this bus: the gateway itself, or a service.
    pub const GATEWAY: Self = Self(0);

    /// The key of a client, the same for all its sessions and connections: no-local is about the
    /// client identifier (MQTT-3.8.3-3).
    pub fn of(client: &ClientId) -> Self {
        let hash = foldhash::quality::FixedState::default().hash_one(client.as_str());
        Self(hash.max(1))
    }

    /// As a number, to be kept.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The key that was kept as this number.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// A message being routed.
#[derive(Debug)]
pub struct Message<'a> {
    /// What it is published to.
    pub topic: TopicName<'a>,
    /// The application's bytes.
    pub payload: &'a [u8],
    /// What travels with it, in the publisher's order.
    pub properties: Properties<'a>,
    /// The guarantee it was published with.
    pub qos: QoS,
    /// Whether it was published to be retained; on a delivery, see [`crate::Outgoing::retain`].
    pub retain: bool,
    /// When it is no longer worth delivering (MQTT 5.0 section 3.3.2.3.3).
    pub expires_at: Option<Timestamp>,
    /// Who published it.
    pub publisher: PublisherKey,
    /// Which change of the retained tree this message is; 0 for one that is not retained. Changes
    /// of one topic are numbered in their order.
    pub(crate) retained_version: u64,
    /// Its publisher repeats it after a restart, at QoS 2, until it knows that it is kept.
    pub(crate) repeats: bool,
    pub(crate) encodings: Option<&'a Encodings>,
    pub(crate) stored: OnceCell<Option<Arc<StoredMessage>>>,
    /// The topic as the route cache holds it, so that a stored copy shares it.
    pub(crate) interned_topic: Option<&'a Arc<str>>,
}

impl<'a> Message<'a> {
    /// A message without properties, at QoS 0, not retained, without expiry.
    pub const fn new(topic: TopicName<'a>, payload: &'a [u8]) -> Self {
        Self {
            topic,
            payload,
            properties: Properties::EMPTY,
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            publisher: PublisherKey::GATEWAY,
            retained_version: 0,
            repeats: false,
            encodings: None,
            stored: OnceCell::new(),
            interned_topic: None,
        }
    }

    /// Appends to `out` what `encode` appends for this message, and remembers it under `slot`: the
    /// second receiver with the same slot gets a copy. Messages that were stored remember nothing.
    pub fn encode_once(&self, slot: usize, out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some((encodings, cell)) = self
            .encodings
            .and_then(|e| e.slots.get(slot).map(|cell| (e, cell)))
        else {
            return encode(out);
        };
        let (start, end) = cell.get();
        if end > start {
            out.extend_from_slice(&encodings.bytes.borrow()[start as usize..end as usize]);
            return;
        }
        let at = out.len();
        encode(out);
        let mut bytes = encodings.bytes.borrow_mut();
        let start = bytes.len();
        bytes.extend_from_slice(&out[at..]);
        cell.set((start as u32, bytes.len() as u32));
    }

    /// The copy that outlives the publisher's buffer, made once per publish whoever asks. `None`
    /// when the memory budget has no room for it.
    pub fn store(&self, budget: &Arc<MemoryBudget>) -> Option<Arc<StoredMessage>> {
        self.stored
            .get_or_init(|| StoredMessage::new(self, budget).map(Arc::new))
            .clone()
    }

    /// The copy that was made, if one was.
    pub(crate) fn stored(&self) -> Option<&Arc<StoredMessage>> {
        self.stored.get()?.as_ref()
    }

    /// Bytes of topic, properties and payload.
    pub const fn size(&self) -> usize {
        self.topic.as_str().len() + self.properties.as_bytes().len() + self.payload.len()
    }

    /// Whether the message is past its expiry.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A message that is kept: queued, in flight, retained or a will. One copy, however many wait.
#[derive(Debug)]
pub struct StoredMessage {
    topic: Arc<str>,
    /// Properties, then payload.
    body: Box<[u8]>,
    properties_len: u32,
    qos: QoS,
    retain: bool,
    expires_at: Option<Timestamp>,
    publisher: PublisherKey,
    retained_version: u64,
    /// When a durable engine has it; set once its publish was told.
    kept: OnceLock<Ticket>,
    /// Held for its drop only.
    _charge: Option<Charge>,
}

/// What one stored copy costs beside its bytes: the two allocations and their headers.
const STORED_OVERHEAD: usize = 128;

impl StoredMessage {
    /// Copies `message`, charged to `budget`; `None` when there is no room.
    pub fn new(message: &Message<'_>, budget: &Arc<MemoryBudget>) -> Option<Self> {
        let charge = budget.charge(message.size() + STORED_OVERHEAD)?;
        Some(Self::with_charge(message, Some(charge)))
    }

    /// Copies `message` without a charge, for what is bounded elsewhere: the retained tree
    /// has its own limits.
    pub fn uncharged(message: &Message<'_>) -> Self {
        Self::with_charge(message, None)
    }

    fn with_charge(message: &Message<'_>, charge: Option<Charge>) -> Self {
        let properties = message.properties.as_bytes();
        let mut body = Vec::with_capacity(properties.len() + message.payload.len());
        body.extend_from_slice(properties);
        body.extend_from_slice(message.payload);
        let topic = message.interned_topic.cloned();
        Self {
            topic: topic.unwrap_or_else(|| message.topic.as_str().into()),
            body: body.into_boxed_slice(),
            // A property block is bounded by the packet that carried it, below 256 MiB.
            properties_len: properties.len() as u32,
            qos: message.qos,
            retain: message.retain,
            expires_at: message.expires_at,
            publisher: message.publisher,
            retained_version: message.retained_version,
            kept: OnceLock::new(),
            _charge: charge,
        }
    }

    /// The message again, borrowed from this copy.
    pub fn as_message(&self) -> Message<'_> {
        let (properties, payload) = self.body.split_at(self.properties_len as usize);
        Message {
            topic: TopicName::trusted(&self.topic),
            payload,
            properties: Properties::from_validated(properties),
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            publisher: self.publisher,
            retained_version: self.retained_version,
            repeats: false,
            encodings: None,
            stored: OnceCell::new(),
            interned_topic: Some(&self.topic),
        }
    }

    /// As [`Self::as_message`]; further copies are this one.
    pub(crate) fn as_shared_message(self: &Arc<Self>) -> Message<'_> {
        let message = self.as_message();
        let _ = message.stored.set(Some(Arc::clone(self)));
        message
    }

    /// The topic as text.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The guarantee it was published with.
    pub const fn qos(&self) -> QoS {
        self.qos
    }

    /// The ticket of its publish; `None` while the engine has not been told.
    pub(crate) fn kept(&self) -> Option<&Ticket> {
        self.kept.get()
    }

    /// Its publish was told to the engine.
    pub(crate) fn set_kept(&self, ticket: &Ticket) {
        let _ = self.kept.set(ticket.clone());
    }

    /// Who published it.
    pub(crate) const fn publisher(&self) -> PublisherKey {
        self.publisher
    }

    /// See [`Message::retained_version`].
    pub(crate) const fn retained_version(&self) -> u64 {
        self.retained_version
    }

    /// When it is no longer worth delivering.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether the message is past its expiry.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Bytes of topic, properties and payload.
    pub fn size(&self) -> usize {
        self.topic.len() + self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_made_once_per_slot() {
        let encodings = Encodings::default();
        let mut message = Message::new(TopicName::new("t").unwrap(), b"p");
        message.encodings = Some(&encodings);
        let mut calls = 0;
        let mut out = vec![9];
        for _ in 0..3 {
            message.encode_once(1, &mut out, |out| {
                calls += 1;
                out.extend(b"abc");
            });
        }
        message.encode_once(2, &mut out, |out| out.push(7));
        assert_eq!((calls, out.as_slice()), (1, &b"\x09abcabcabc\x07"[..]));
    }

    #[test]
    fn the_stored_copy_is_made_once_and_gives_its_bytes_back() {
        let budget = Arc::new(MemoryBudget::new(1_000));
        let message = Message::new(TopicName::new("a/b").unwrap(), b"payload");
        let first = message.store(&budget).unwrap();
        let second = message.store(&budget).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.as_message().payload, b"payload");
        assert_eq!(budget.used(), 10 + STORED_OVERHEAD);
        drop((first, second, message));
        assert_eq!(budget.used(), 0);
    }
}

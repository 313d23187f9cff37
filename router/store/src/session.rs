//! A session on the disk, without its subscriptions and its queue.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_bus::{
    ClientId, Epoch, Place, Presence, StoredMessage, StoredSession, StoredWill, Timestamp,
};

use crate::body::{decode_body, encode_body};
use crate::record::{DecodeError, decode, encode};

const VERSION: u8 = 1;

/// Whether the client is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PresenceRecord {
    /// A connection is attached.
    Connected,
    /// It is away; milliseconds since the Unix epoch.
    Away {
        /// When the session ends.
        ends_at: u64,
        /// When its will is published.
        will_at: u64,
    },
}

/// A will.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WillRecord {
    delay: u32,
    expires_in: Option<u32>,
    /// The encoded message.
    body: Vec<u8>,
}

impl WillRecord {
    /// The record of a will.
    pub(crate) fn new(will: &StoredWill) -> Self {
        let mut body = Vec::with_capacity(will.message.size() + 32);
        encode_body(&will.message.as_message(), &mut body);
        Self {
            delay: will.delay,
            expires_in: will.expires_in,
            body,
        }
    }

    fn to_will(&self) -> Result<StoredWill, DecodeError> {
        Ok(StoredWill {
            message: Arc::new(StoredMessage::uncharged(&decode_body(&self.body)?)),
            delay: self.delay,
            expires_in: self.expires_in,
        })
    }
}

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    /// The epoch it was created under.
    pub(crate) session: u64,
    /// The newest epoch.
    pub(crate) epoch: u64,
    /// Seconds it has after a connection ends.
    pub(crate) expiry: u32,
    /// Whether the client is there.
    pub(crate) presence: PresenceRecord,
    /// The highest place when this was written.
    pub(crate) last_place: u64,
    /// The will, unless it was published.
    pub(crate) will: Option<WillRecord>,
}

impl SessionRecord {
    /// Appends the record to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode(VERSION, self, out);
    }

    /// The record in `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(VERSION, bytes).map(|(record, _)| record)
    }

    /// The session as the bus knows it, without what stands elsewhere. `alive` is the last sign of
    /// life. The second value says that there was a will that does not decode.
    pub(crate) fn to_session(&self, client: ClientId, alive: Timestamp) -> (StoredSession, bool) {
        let presence = match self.presence {
            PresenceRecord::Connected => Presence::Connected(alive),
            PresenceRecord::Away { ends_at, will_at } => Presence::Away {
                ends_at: Timestamp::from_millis(ends_at),
                will_at: Timestamp::from_millis(will_at),
            },
        };
        let mut session = StoredSession::new(client, Epoch(self.session), presence);
        session.epoch = Epoch(self.epoch);
        session.expiry = self.expiry;
        session.last_place = Place(self.last_place);
        let will = self.will.as_ref().map(WillRecord::to_will).transpose();
        let lost = will.is_err();
        session.will = will.ok().flatten();
        (session, lost)
    }
}

//! What the workload tells the engine, and what its messages hold.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A message: its number and the bytes of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Its number.
    pub number: u64,
    /// Bytes of its payload; at least eight.
    pub size: usize,
}

impl Body {
    /// The payload: the number, then what follows from it and does not compress.
    pub fn payload(self) -> Vec<u8> {
        let mut bytes = self.number.to_le_bytes().to_vec();
        let mut random = Random::new(self.number);
        while bytes.len() < self.size {
            bytes.extend(random.next().to_le_bytes());
        }
        bytes.truncate(self.size);
        bytes
    }

    /// The message that has this payload, in words.
    pub fn describe(payload: &[u8]) -> String {
        let number = payload.first_chunk::<8>().copied().map(u64::from_le_bytes);
        let size = payload.len();
        match number {
            Some(number) if Self { number, size }.payload() == payload => {
                Self { number, size }.text()
            }
            _ => format!("{size} bytes that nobody wrote"),
        }
    }

    /// In words.
    pub fn text(self) -> String {
        format!("message {} of {} bytes", self.number, self.size)
    }
}

/// A session that waits for a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Whose.
    pub client: String,
    /// Where the message stands.
    pub place: u64,
    /// Under which packet identifier it has left already.
    pub sent: Option<u16>,
}

/// One thing that is told. What is about a session is about the client's present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A connection was attached.
    Attach {
        /// Whose.
        client: String,
        /// Under which epoch.
        epoch: u64,
        /// The session is new.
        fresh: bool,
        /// Seconds it has.
        expiry: u32,
        /// What is owed when it ends.
        will: Option<Body>,
    },
    /// A connection has ended.
    Detach {
        /// Whose.
        client: String,
        /// When the session ends.
        ends_at: u64,
        /// When the will is due; `None`: it is forgotten.
        will_at: Option<u64>,
    },
    /// The will was published.
    WillPublished(String),
    /// The session has ended.
    End(String),
    /// A subscription was made.
    Subscribe(String, String, bool),
    /// Its retained messages were sent.
    RetainedSent(String, String),
    /// It was ended.
    Unsubscribe(String, String),
    /// A message was published.
    Publish {
        /// Which.
        body: Body,
        /// Who waits.
        to: Vec<Waiting>,
        /// Who published it at QoS 2, under which packet identifier.
        origin: Option<(String, u16)>,
    },
    /// What waited at a place has left under a packet identifier.
    Sent(String, u64, u16),
    /// It was received.
    Received(String, u64),
    /// It waits no more.
    Done(String, u64),
    /// A packet identifier was released.
    Released(String, u16),
    /// The retained message of a topic.
    Retain(String, Option<Body>),
}

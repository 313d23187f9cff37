//! An MQTT client made of bytes: every packet is built and parsed by hand, in all three versions, over
//! whatever carries them.
//!
//! It keeps no session and corrects nothing, so that a test can be right, wrong or silent at any
//! point. Every wait has a deadline; an expectation that is not met fails the test and names what came
//! instead. What the server sends is checked against the specification as it is decoded.

mod client;
mod connect;
mod decode;
mod encode;
mod packet;
mod property;
mod reader;
mod stream;

pub use client::{Client, Event, PATIENCE, patience, set_patience};
pub use encode::{auth, disconnect, frame};
pub use packet::{
    Ack, ConnAck, Connect, Packet, Publish, Reason, SubAck, Subscribe, Unsubscribe, Version, Will,
};
pub use property::Property;
pub use stream::Stream;

/// Subscription options of MQTT 5.0 section 3.8.3.1, to be combined with `|` and the QoS.
pub mod options {
    /// Do not send the client's own messages back to it.
    pub const NO_LOCAL: u8 = 0x04;
    /// Keep the RETAIN flag as it was published.
    pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
    /// Retained messages only if the subscription is new (retain handling 1).
    pub const RETAINED_IF_NEW: u8 = 0x10;
    /// No retained messages (retain handling 2).
    pub const NO_RETAINED: u8 = 0x20;
}

/// Reason codes of MQTT 5.0 section 2.4 that the suites name.
pub mod code {
    /// Disconnect, but publish the will.
    pub const WITH_WILL: u8 = 0x04;
    /// No matching subscribers.
    pub const NO_SUBSCRIBERS: u8 = 0x10;
    /// No subscription existed.
    pub const NO_SUBSCRIPTION: u8 = 0x11;
    /// Unspecified error.
    pub const UNSPECIFIED: u8 = 0x80;
    /// Malformed packet.
    pub const MALFORMED: u8 = 0x81;
    /// Protocol error.
    pub const PROTOCOL_ERROR: u8 = 0x82;
    /// Unsupported protocol version.
    pub const UNSUPPORTED_VERSION: u8 = 0x84;
    /// Client identifier not valid.
    pub const CLIENT_ID: u8 = 0x85;
    /// Server busy.
    pub const BUSY: u8 = 0x89;
    /// Server shutting down.
    pub const SHUTTING_DOWN: u8 = 0x8B;
    /// Bad authentication method.
    pub const AUTH_METHOD: u8 = 0x8C;
    /// Keep alive timeout.
    pub const KEEP_ALIVE: u8 = 0x8D;
    /// Session taken over.
    pub const TAKEN_OVER: u8 = 0x8E;
    /// Topic filter invalid.
    pub const FILTER_INVALID: u8 = 0x8F;
    /// Topic name invalid.
    pub const TOPIC_INVALID: u8 = 0x90;
    /// Packet identifier in use.
    pub const ID_IN_USE: u8 = 0x91;
    /// Packet identifier not found.
    pub const ID_NOT_FOUND: u8 = 0x92;
    /// Receive maximum exceeded.
    pub const RECEIVE_MAXIMUM: u8 = 0x93;
    /// Topic alias invalid.
    pub const ALIAS_INVALID: u8 = 0x94;
    /// Packet too large.
    pub const TOO_LARGE: u8 = 0x95;
    /// Quota exceeded.
    pub const QUOTA: u8 = 0x97;
    /// Connection rate exceeded.
    pub const CONNECTION_RATE: u8 = 0x9F;
}

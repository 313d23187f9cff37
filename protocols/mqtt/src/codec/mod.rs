//! The MQTT codec: bytes to packets and packets to bytes, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! It is sans-IO and stateless: [`split`] finds where a packet ends, [`decode`] checks it and lends
//! views into the caller's buffer, `encode` appends to a `Vec<u8>`. Decoding allocates nothing,
//! except that the filters of SUBSCRIBE and UNSUBSCRIBE are held against
//! [`tidegate_bus::TopicFilter`]. It is strict: whatever MQTT 5.0 chapters 1 to 3 call a Malformed
//! Packet, or a Protocol Error that one packet alone shows, is refused with a [`DecodeError`] that
//! names the clause.
//!
//! It is not the protocol: what depends on the connection belongs to the caller. That is the order of
//! packets, limits announced by the other side, what only one direction may send (a Subscription
//! Identifier in a PUBLISH from a client, MQTT-3.3.4-6; Session Expiry in a DISCONNECT from a server,
//! MQTT-3.14.2-2), what a topic alias stands for, and whether an empty client identifier is served
//! (MQTT-3.1.3-6 to -8).
//!
//! Encoding writes what it is given. The types rule out most nonsense; a string or binary value
//! longer than the 65,535 bytes of its length field is cut, so that the framing always holds.
//!
//! ```
//! use tidegate_mqtt::codec::{Packet, Split, Version, decode, split};
//!
//! let bytes = [0x30, 0x05, 0x00, 0x01, b't', b'h', b'i'];
//! let Split::Frame(frame) = split(&bytes, 1_024)? else {
//!     panic!("the packet is whole");
//! };
//! assert_eq!(frame.len, bytes.len());
//! let Packet::Publish(publish) = decode(Version::V3_1_1, frame)? else {
//!     panic!("it is a PUBLISH");
//! };
//! assert_eq!(publish.payload, b"hi");
//! # Ok::<(), tidegate_mqtt::codec::DecodeError>(())
//! ```

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod filters;
mod frame;
mod packet;
mod properties;
mod property;
mod property_block;
mod publish;
mod publish_header;
mod publish_properties;
mod reader;
mod reason;
mod suback;
mod subscribe;
mod unsubscribe;
pub mod varint;
mod version;
mod writer;

pub use ack::{Ack, AckType};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use filters::validate_filter;
pub use frame::{Frame, PacketType, Split, split};
pub use packet::{Packet, decode};
pub use properties::{Properties, PropertiesIter, PropertyScope};
pub use property::{Property, PropertyId};
pub use property_block::PropertyBlock;
pub use publish::Publish;
pub use publish_header::PublishHeader;
pub use publish_properties::PublishProperties;
pub use reason::{ConnectReturnCode, ReasonCode};
pub use suback::{ReasonCodes, ReasonCodesIter, SubAck, UnsubAck};
pub use subscribe::{Subscribe, SubscribeFilters, SubscribeFiltersIter};
pub use tidegate_bus::{RetainHandling, SubscriptionOptions};
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters, UnsubscribeFiltersIter};
pub use version::Version;

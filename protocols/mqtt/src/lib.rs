//! MQTT 3.1, 3.1.1 and 5.0: the codec and the connection over any byte stream.
//!
//! To follow a PUBLISH, read `lane.rs` (the bytes), [`codec`] (the packet), `protocol.rs`
//! (what it means), then `tidegate_bus` (who receives it) and `encoder.rs` (how it leaves).

mod adapter;
mod admission;
mod aliases;
pub mod codec;
mod connection;
mod counters;
mod encoder;
mod endpoint;
mod foreign;
mod handshake;
mod lane;
mod pending;
mod protocol;
mod pump;
mod settings;
mod side;
mod streams;
mod transport;

pub use adapter::Adapter;
pub use counters::MqttCounters;
pub use endpoint::{Endpoint, Peer, Place, Refused, Served};
pub use foreign::Foreign;
pub use settings::Settings;

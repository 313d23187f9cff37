//! The shared message bus: topics, subscriptions, sessions, retained messages and delivery.
//!
//! The bus names no protocol, no socket and no database. Adapters translate their protocol into its
//! verbs; durable engines and the federation implement its traits.

mod client_id;
mod qos;
mod settings;
mod topic;

pub use client_id::{ClientId, ClientIdError};
pub use qos::QoS;
pub use settings::{Settings, SharedStrategy, SlowConsumerPolicy};
pub use topic::{MAX_STRING_BYTES, TopicFilter, TopicFilterError, TopicName, TopicNameError};

//! The shared message bus: topics, subscriptions, sessions, retained messages and delivery.
//!
//! Adapters translate their protocol into the bus's verbs: [`Bus::claim`] and [`Bus::attach`]
//! connect a client; [`Attachment`] subscribes, publishes and acknowledges for it; a
//! [`Subscriber`] is delivered to. The bus names no protocol, no socket and no database; durable
//! engines implement [`Store`], the access chain [`Access`].
//!
//! To follow a message, read [`Attachment::publish`], then `bus.rs` (routing), `routes.rs` and
//! `index/` (who receives it), `session/delivery.rs` (what becomes of it at one receiver).

mod access;
mod attachment;
mod budget;
mod bus;
mod channel;
mod client_id;
mod counters;
mod drops;
mod housekeeping;
mod index;
mod mailbox;
mod message;
mod properties;
mod qos;
mod recovery;
mod registry;
mod retained;
mod routes;
mod session;
mod settings;
mod store;
mod subscriber;
mod subscription;
mod sys;
mod time;
mod timers;
mod topic;
mod will;
mod worker;

pub use access::{Access, AccessFuture, AllowAll, Credentials, Denial};
pub use attachment::{AttachRefusal, Attachment, ConnectRequest, Departure, SubscribeRefusal};
pub use budget::{Charge, MemoryBudget};
pub use bus::{Bus, FanOut, Progress, PublishRefusal, Published};
pub use channel::Channel;
pub use client_id::{ClientId, ClientIdError};
pub use counters::{Counter, Counters};
pub use drops::{ClientDrops, DropCounters, DropReason};
pub use mailbox::{CAPACITY as MAILBOX_CAPACITY, Effect, MAX_HOPS, Mailbox};
pub use message::{ENCODING_SLOTS, Message, PublisherKey, StoredMessage};
pub use properties::{MessageProperty, Properties, PropertiesBuilder, PropertyTooLong};
pub use qos::QoS;
pub use session::{
    Encoder, EndReason, Ended, Fenced, Inbound, Outgoing, Receive, Received, Released, Session,
    TooLarge,
};
pub use settings::{Settings, SharedStrategy, SlowConsumerPolicy};
pub use store::{
    Backlog, Claim, Completion, Epoch, MemoryStore, Origin, Place, Presence, Publication,
    QueueEntry, QueueReader, Recovery, Reference, SessionChange, Stage, Store, StoreError,
    StoreFuture, StoredSession, StoredSubscription, StoredWill, SubscriptionIdentifiers, Ticket,
};
pub use subscriber::{Delivery, DeliveryContext, Subscriber};
pub use subscription::{RetainHandling, Subscription, SubscriptionOptions};
pub use sys::SysTree;
pub use time::{Clock, SystemClock, Timestamp};
pub use topic::{MAX_STRING_BYTES, TopicFilter, TopicFilterError, TopicName, TopicNameError};
pub use will::Will;
pub use worker::Worker;

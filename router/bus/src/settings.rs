//! What an operator decides about the bus: limits, budgets and policies.

use std::time::Duration;

/// What happens to a message for a client whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SlowConsumerPolicy {
    /// The new message is dropped.
    #[default]
    DropNew,
    /// The oldest message that waits is dropped; messages in flight never are.
    DropOld,
    /// The client is disconnected (MQTT 5: 0x97 Quota exceeded) and the new message dropped.
    Disconnect,
}

/// How a shared group chooses the member that receives a message (MQTT 5.0 section 4.8.2 leaves it
/// to the server).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SharedStrategy {
    /// The member with the fewest messages in flight and queued; equal ones take turns.
    #[default]
    LeastInflight,
    /// Each member in turn.
    RoundRobin,
    /// Any member, evenly.
    Random,
    /// The same member until it leaves.
    Sticky,
    /// The same member for the same topic.
    HashTopic,
    /// The same member for the same publishing client.
    HashClient,
    /// Members on this node in turn; others only when there is none.
    LocalFirst,
}

/// Limits, budgets and policies of one bus.
///
/// Sizes are bytes, counts are messages unless said otherwise. All limits are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Most sessions at once, connected or not.
    pub max_sessions: usize,
    /// Longest client identifier, 1 to 65,535 bytes.
    pub max_client_id_bytes: usize,
    /// Longest topic name or filter, 1 to 65,535 bytes.
    pub max_topic_bytes: usize,
    /// Most levels of a topic name or filter, 1 to [`Settings::MAX_TOPIC_LEVELS`].
    pub max_topic_levels: usize,
    /// Most subscriptions of one client.
    pub max_subscriptions_per_client: usize,
    /// Most acknowledged messages in flight to one client, 1 to 65,535. A client's own Receive
    /// Maximum lowers it.
    pub max_inflight: u16,
    /// Most messages that wait for one client.
    pub max_queued_messages: usize,
    /// Most bytes that wait for one client, topic and properties included.
    pub max_queued_bytes: usize,
    /// Bytes of one client's queue that are kept in memory; what is beyond stays on disk, where the engine is
    /// durable and the session has an expiry.
    pub queue_memory_bytes: usize,
    /// Most encoded bytes that wait for one client's socket; past it messages queue.
    pub max_outbox_bytes: usize,
    /// The ceiling for everything that waits for clients, all of them together.
    pub max_memory_bytes: usize,
    /// Most retained messages.
    pub max_retained_messages: usize,
    /// Most bytes of retained messages, topic and properties included.
    pub max_retained_bytes: usize,
    /// Longest session expiry a client may ask for, and what "never" becomes.
    pub max_session_expiry: Duration,
    /// Whether QoS 0 messages wait for a client that is away (MQTT 5.0 section 4.1 leaves it open).
    pub queue_qos0_while_offline: bool,
    /// What happens when a client's queue is full.
    pub slow_consumer_policy: SlowConsumerPolicy,
    /// How shared groups choose.
    pub shared_strategy: SharedStrategy,
    /// Receivers that one publish serves at once before it continues in slices.
    pub fanout_slice: usize,
    /// Most bytes of one worker's cache of topics and their receivers.
    pub route_cache_bytes: usize,
}

impl Settings {
    /// The highest limit on topic levels. Tries are walked one level deeper at a time, on a stack
    /// that a client must not be able to exhaust.
    pub const MAX_TOPIC_LEVELS: usize = 256;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_sessions: 1_000_000,
            max_client_id_bytes: 1_024,
            max_topic_bytes: 4_096,
            max_topic_levels: 32,
            max_subscriptions_per_client: 1_000,
            max_inflight: 1_024,
            max_queued_messages: 10_000,
            max_queued_bytes: 32 << 20,
            queue_memory_bytes: 1 << 20,
            max_outbox_bytes: 1 << 20,
            max_memory_bytes: 1 << 30,
            max_retained_messages: 1_000_000,
            max_retained_bytes: 512 << 20,
            max_session_expiry: Duration::from_secs(30 * 24 * 3600),
            queue_qos0_while_offline: false,
            slow_consumer_policy: SlowConsumerPolicy::default(),
            shared_strategy: SharedStrategy::default(),
            fanout_slice: 1_024,
            route_cache_bytes: 32 << 20,
        }
    }
}

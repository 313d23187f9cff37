//! `[sessions]`: how long a client's session outlives its connection and what happens to messages
//! that it cannot take.

use std::ops::RangeInclusive;
use std::time::Duration;

use tidegate_bus::{SharedStrategy, SlowConsumerPolicy, TopicName};

use super::reader::Section;
use super::values::Words;

/// MQTT counts expiry in seconds of 32 bits; a hundred years leave the last value its meaning,
/// "never".
const EXPIRY: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(100 * 365 * 24 * 3600);

const POLICIES: &Words<SlowConsumerPolicy> = &[
    ("drop_new", SlowConsumerPolicy::DropNew),
    ("drop_old", SlowConsumerPolicy::DropOld),
    ("disconnect", SlowConsumerPolicy::Disconnect),
];

const STRATEGIES: &Words<SharedStrategy> = &[
    ("least_inflight", SharedStrategy::LeastInflight),
    ("round_robin", SharedStrategy::RoundRobin),
    ("random", SharedStrategy::Random),
    ("sticky", SharedStrategy::Sticky),
    ("hash_topic", SharedStrategy::HashTopic),
    ("hash_client", SharedStrategy::HashClient),
    ("local_first", SharedStrategy::LocalFirst),
];

pub(crate) fn read(
    section: &mut Section<'_>,
    bus: &mut tidegate_bus::Settings,
    mqtt: &mut tidegate_mqtt::Settings,
) {
    bus.max_session_expiry = section.seconds("max_expiry", bus.max_session_expiry, EXPIRY);
    mqtt.v3_session_expiry = section.seconds("v3_expiry", mqtt.v3_session_expiry, EXPIRY);
    bus.queue_qos0_while_offline =
        section.boolean("queue_qos0_while_offline", bus.queue_qos0_while_offline);
    bus.slow_consumer_policy =
        section.choice("slow_consumer_policy", bus.slow_consumer_policy, POLICIES);
    bus.shared_strategy = section.choice("shared_strategy", bus.shared_strategy, STRATEGIES);
    mqtt.response_information = section.text(
        "response_information",
        &mqtt.response_information,
        check_topic_or_empty,
    );
}

/// Nothing, or the beginning of a topic name.
fn check_topic_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    TopicName::new(text)
        .map(|_| ())
        .map_err(|error| format!("must be empty or a topic name; {error}"))
}

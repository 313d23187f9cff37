//! `[limits]`: how much of everything a client, and all of them together, may take.

use std::time::Duration;

use super::reader::Section;

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The largest MQTT packet there can be: the longest Remaining Length and its fixed header.
pub(super) const LARGEST_PACKET: u64 = 268_435_455 + 5;

/// What one byte or two can number, on the wire.
pub(super) const U16: u64 = u16::MAX as u64;

/// More connections than one machine can hold.
pub(super) const MAX_CONNECTIONS: u64 = 10_000_000;

pub(crate) fn read(
    section: &mut Section<'_>,
    bus: &mut tidegate_bus::Settings,
    mqtt: &mut tidegate_mqtt::Settings,
) {
    read_connections(section, mqtt);
    read_packets(section, bus, mqtt);
    read_queues(section, bus);
    bus.max_sessions = section.count("max_sessions", bus.max_sessions, 1..=100_000_000);
    bus.fanout_slice = section.count("fanout_slice", bus.fanout_slice, 1..=1_000_000);
    bus.route_cache_bytes = section.size("route_cache_size", bus.route_cache_bytes, 0..=GIB);
    mqtt.shutdown_disconnects_per_second = section.count(
        "shutdown_disconnects_per_second",
        mqtt.shutdown_disconnects_per_second,
        0..=10_000_000,
    );
    mqtt.shutdown_timeout = section.duration(
        "shutdown_timeout",
        mqtt.shutdown_timeout,
        Duration::from_secs(1)..=Duration::from_secs(3600),
    );
}

fn read_connections(section: &mut Section<'_>, mqtt: &mut tidegate_mqtt::Settings) {
    mqtt.max_connections = section.count("max_connections", mqtt.max_connections, 1..=10_000_000);
    mqtt.max_connections_per_ip = section.count(
        "max_connections_per_ip",
        mqtt.max_connections_per_ip,
        1..=10_000_000,
    );
    mqtt.max_connect_rate =
        section.count("max_connect_rate", mqtt.max_connect_rate, 0..=10_000_000);
    mqtt.connect_timeout = section.duration(
        "connect_timeout",
        mqtt.connect_timeout,
        Duration::from_millis(10)..=Duration::from_secs(3600),
    );
    let keep_alive = section.seconds(
        "max_keep_alive",
        Duration::from_secs(mqtt.max_keep_alive.into()),
        Duration::ZERO..=Duration::from_secs(U16),
    );
    mqtt.max_keep_alive = u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX);
}

fn read_packets(
    section: &mut Section<'_>,
    bus: &mut tidegate_bus::Settings,
    mqtt: &mut tidegate_mqtt::Settings,
) {
    mqtt.max_packet_bytes = section.size(
        "max_packet_size",
        mqtt.max_packet_bytes,
        64..=LARGEST_PACKET,
    );
    bus.max_client_id_bytes = section.size("max_client_id_size", bus.max_client_id_bytes, 1..=U16);
    bus.max_topic_bytes = section.size("max_topic_size", bus.max_topic_bytes, 1..=U16);
    bus.max_topic_levels = section.count(
        "max_topic_levels",
        bus.max_topic_levels,
        1..=tidegate_bus::Settings::MAX_TOPIC_LEVELS as u64,
    );
    bus.max_subscriptions_per_client = section.count(
        "max_subscriptions_per_client",
        bus.max_subscriptions_per_client,
        1..=10_000_000,
    );
    mqtt.receive_maximum = section.count("receive_maximum", mqtt.receive_maximum, 1..=U16);
    mqtt.topic_alias_maximum =
        section.count("topic_alias_maximum", mqtt.topic_alias_maximum, 0..=U16);
    mqtt.topic_alias_maximum_outbound = section.count(
        "topic_alias_maximum_outbound",
        mqtt.topic_alias_maximum_outbound,
        0..=U16,
    );
}

fn read_queues(section: &mut Section<'_>, bus: &mut tidegate_bus::Settings) {
    bus.max_inflight = section.count("max_inflight", bus.max_inflight, 1..=U16);
    bus.max_queued_messages = section.count(
        "max_queued_messages",
        bus.max_queued_messages,
        1..=1_000_000_000,
    );
    bus.max_queued_bytes = section.size("max_queued_size", bus.max_queued_bytes, KIB..=TIB);
    bus.max_outbox_bytes = section.size("max_outbox_size", bus.max_outbox_bytes, KIB..=GIB);
    bus.max_memory_bytes = section.size("max_memory", bus.max_memory_bytes, 64 * KIB..=64 * TIB);
    bus.max_retained_messages = section.count(
        "max_retained_messages",
        bus.max_retained_messages,
        0..=1_000_000_000,
    );
    bus.max_retained_bytes = section.size("max_retained_size", bus.max_retained_bytes, 0..=TIB);
}

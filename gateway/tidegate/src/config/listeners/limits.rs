//! What a listener may have otherwise than `[limits]` says.

use std::time::Duration;

use super::super::limits::{LARGEST_PACKET, MAX_CONNECTIONS, U16};
use super::super::reader::Section;

/// `mqtt` with what this listener has otherwise.
pub(super) fn read(
    section: &mut Section<'_>,
    mqtt: &tidegate_mqtt::Settings,
) -> tidegate_mqtt::Settings {
    let mut own = read_connections(section, mqtt);
    let keep_alive = Duration::ZERO..=Duration::from_secs(U16);
    let keep_alive = section.optional_seconds("max_keep_alive", keep_alive);
    set(
        &mut own.max_keep_alive,
        keep_alive.and_then(|time| u16::try_from(time.as_secs()).ok()),
    );
    set(
        &mut own.max_packet_bytes,
        section.optional_size("max_packet_size", 64..=LARGEST_PACKET),
    );
    set(
        &mut own.receive_maximum,
        section.optional_count("receive_maximum", 1..=U16),
    );
    set(
        &mut own.topic_alias_maximum,
        section.optional_count("topic_alias_maximum", 0..=U16),
    );
    own
}

/// The part of it that is about connections, whatever is spoken there.
pub(super) fn read_connections(
    section: &mut Section<'_>,
    mqtt: &tidegate_mqtt::Settings,
) -> tidegate_mqtt::Settings {
    let mut own = mqtt.clone();
    let connections = 1..=MAX_CONNECTIONS;
    set(
        &mut own.max_connections,
        section.optional_count("max_connections", connections.clone()),
    );
    set(
        &mut own.max_connections_per_ip,
        section.optional_count("max_connections_per_ip", connections),
    );
    set(
        &mut own.max_connect_rate,
        section.optional_count("max_connect_rate", 0..=MAX_CONNECTIONS),
    );
    set(
        &mut own.connect_timeout,
        section.optional_duration(
            "connect_timeout",
            Duration::from_millis(10)..=Duration::from_secs(3600),
        ),
    );
    own
}

fn set<T>(value: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *value = said;
    }
}

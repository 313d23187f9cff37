//! `[listeners.NAME.coap]`.

use std::time::Duration;

use tidegate_coap::{Settings, Unverified};

use super::super::limits::LARGEST_PACKET;
use super::super::reader::Section;

const MOST: u64 = 10_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Over datagrams. A body may be as large as a packet of MQTT, unless the listener says otherwise: what the one publishes the other
/// receives. A session that does not say how long it lives lives as long as one of MQTT 3.1.1, which cannot say it.
/// Where an address is proved before a client is heard (DTLS), nothing is asked about others.
pub(super) fn read(
    section: &mut Section<'_>,
    mqtt: &tidegate_mqtt::Settings,
    is_proved: bool,
) -> Settings {
    let mut settings = Settings::default();
    let packet = mqtt.max_packet_bytes as usize;
    settings.session_expiry = mqtt.v3_session_expiry;
    settings.max_body_bytes = section.size("max_body_size", packet, 64..=LARGEST_PACKET);
    settings.block_bytes = section.choice(
        "block_size",
        settings.block_bytes,
        &[
            ("64", 64),
            ("128", 128),
            ("256", 256),
            ("512", 512),
            ("1024", 1_024),
        ],
    );
    settings.max_exchanges = section.count("max_exchanges", settings.max_exchanges, 1..=MOST);
    settings.max_endpoints = section.count("max_endpoints", settings.max_endpoints, 1..=MOST);
    read_tables(section, &mut settings);
    // At least once a day (RFC 7641 section 4.5).
    settings.confirm_interval = section.duration(
        "confirm_interval",
        settings.confirm_interval,
        Duration::from_secs(1)..=DAY,
    );
    if is_proved {
        settings.unverified = Unverified::All;
        return settings;
    }
    settings.unverified = section.choice(
        "unverified",
        Unverified::default(),
        &[
            ("ping", Unverified::Ping),
            ("blocks", Unverified::Blocks),
            ("echo", Unverified::Echo),
            ("all", Unverified::All),
        ],
    );
    settings
}

/// Over streams: how many there may be, and how long each may take to begin, is said as for all connections.
pub(super) fn read_stream(section: &mut Section<'_>, mqtt: &tidegate_mqtt::Settings) -> Settings {
    let mut settings = Settings::default();
    let packet = mqtt.max_packet_bytes as usize;
    settings.max_body_bytes = section.size("max_body_size", packet, 64..=LARGEST_PACKET);
    read_tables(section, &mut settings);
    settings.ping_interval = section.duration(
        "ping_interval",
        settings.ping_interval,
        Duration::from_secs(1)..=DAY,
    );
    settings.ping_timeout = section.duration(
        "ping_timeout",
        settings.ping_timeout,
        Duration::from_secs(1)..=Duration::from_secs(3600),
    );
    settings.csm_timeout = mqtt.connect_timeout;
    settings
}

fn read_tables(section: &mut Section<'_>, settings: &mut Settings) {
    settings.max_observations =
        section.count("max_observations", settings.max_observations, 1..=MOST);
    settings.max_observations_per_endpoint = section.count(
        "max_observations_per_endpoint",
        settings.max_observations_per_endpoint,
        1..=MOST,
    );
    settings.max_waiting = section.count("max_waiting", settings.max_waiting, 1..=1_000_000);
    settings.max_transfers = section.count("max_transfers", settings.max_transfers, 1..=1_000_000);
    settings.max_transfers_per_endpoint = section.count(
        "max_transfers_per_endpoint",
        settings.max_transfers_per_endpoint,
        1..=1_000_000,
    );
}

//! `[http]`: the HTTP side, and messages over it.

use std::time::Duration;

use tidegate_api::{ApiSettings, Settings};

use super::limits::MAX_CONNECTIONS;
use super::reader::{Found, Section};

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// The settings with the origin of their address; those of `api` in place.
pub(super) fn read(section: &mut Section<'_>, api: &mut ApiSettings) -> Option<Found<Settings>> {
    let default = Settings::default();
    let enabled = section.boolean("enabled", true);
    let bind = section.address("bind", default.bind);
    let settings = Settings {
        bind: bind.value,
        allowed_hosts: section.list("allowed_hosts"),
        allowed_origins: section.list("allowed_origins"),
        max_connections: section.count(
            "max_connections",
            default.max_connections,
            1..=MAX_CONNECTIONS,
        ),
        ..default
    };
    api.max_body_bytes = section.size("max_body", api.max_body_bytes, KIB..=GIB);
    let streams = section.count("max_streams", api.max_streams, 0..=MAX_CONNECTIONS);
    // One connection is left for health checks.
    api.max_streams = streams.min(settings.max_connections.saturating_sub(1));
    api.stream_keep_alive = section.duration(
        "stream_keep_alive",
        api.stream_keep_alive,
        Duration::from_secs(1)..=Duration::from_secs(3600),
    );
    enabled.then_some(Found {
        value: settings,
        origin: bind.origin,
    })
}

//! `[listeners.NAME.quic]`.

use std::time::Duration;

use tidegate_quic::{NodeId, Retry, Settings};
use tidegate_tls::Resumption;

use super::super::reader::Section;
use super::TlsListener;

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, PartialEq)]
enum Validate {
    Always,
    UnderLoad,
    Never,
}

/// `tls` has the limits of handshakes, and hears how many sessions are remembered for early data.
pub(super) fn read(section: &mut Section<'_>, tls: &mut TlsListener) -> Settings {
    let remembered = section.count("early_data_sessions", 10_000, 1..=10_000_000);
    if let Resumption::EarlyData { sessions } = &mut tls.settings.resumption {
        *sessions = remembered;
    }
    let default = Settings::default();
    let second = Duration::from_secs(1);
    let idle_timeout = section.duration("idle_timeout", default.idle_timeout, second..=HOUR);
    let keep_alive_interval = section.duration(
        "keep_alive_interval",
        default.keep_alive_interval,
        Duration::ZERO..=HOUR,
    );
    let validate = section.choice(
        "retry",
        Validate::UnderLoad,
        &[
            ("always", Validate::Always),
            ("under_load", Validate::UnderLoad),
            ("never", Validate::Never),
        ],
    );
    let max_handshakes = tls.accept.max_handshakes;
    Settings {
        idle_timeout,
        keep_alive_interval,
        handshake_timeout: tls.accept.handshake_timeout,
        max_handshakes,
        retry: match validate {
            Validate::Always => Retry::Always,
            Validate::UnderLoad => Retry::Above((max_handshakes / 8).max(1)),
            Validate::Never => Retry::Never,
        },
        max_streams: section.count("max_streams", default.max_streams, 0..=1_024),
        stream_receive_window: section.size(
            "stream_receive_window",
            default.stream_receive_window,
            16 * KIB..=GIB,
        ),
        receive_window: section.size("receive_window", default.receive_window, 16 * KIB..=GIB),
        send_window: section.size("send_window", default.send_window, 16 * KIB..=GIB),
        migration: section.boolean("migration", default.migration),
        node_id: section
            .optional_text("node_id", |text| {
                text.parse::<NodeId>()
                    .map(|_| ())
                    .map_err(ToOwned::to_owned)
            })
            // Checked in the line before.
            .and_then(|text| text.parse().ok()),
    }
}

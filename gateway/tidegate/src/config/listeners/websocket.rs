//! `[listeners.NAME.websocket]`.

use std::time::Duration;

use super::super::reader::Section;
use super::super::units::show_size;

/// The largest message there may be: WebSocket holds none in memory, so this is for the operator.
const MAX: u64 = 1 << 40;

pub(super) fn read(section: &mut Section<'_>, max_packet: u64) -> tidegate_websocket::Settings {
    let default = tidegate_websocket::Settings::default();
    let path = section.text("path", &default.path, |path| {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
        if path.starts_with('/') && path.bytes().all(plain) {
            Ok(())
        } else {
            Err("must be a path such as \"/mqtt\", without a query".to_owned())
        }
    });
    let allowed_hosts = section.list("allowed_hosts");
    let allowed_origins = section.list("allowed_origins");
    let handshake_timeout = section.duration(
        "handshake_timeout",
        default.handshake_timeout,
        Duration::from_millis(10)..=Duration::from_secs(3600),
    );
    let max_frame_bytes = limit(
        section,
        "max_frame_size",
        default.max_frame_bytes,
        max_packet,
    );
    let max_message_bytes = limit(
        section,
        "max_message_size",
        default.max_message_bytes,
        max_packet,
    );
    tidegate_websocket::Settings {
        path,
        allowed_hosts,
        allowed_origins,
        handshake_timeout,
        max_frame_bytes,
        max_message_bytes,
    }
}

/// A limit below the largest packet would refuse packets that the listener announces to take: clients
/// put a packet into one frame.
/// So what nobody has said is never below it.
fn limit(section: &mut Section<'_>, key: &str, default: u64, max_packet: u64) -> u64 {
    let limit = section.read_size(key, default.max(max_packet), 64..=MAX);
    if limit.value < max_packet {
        let path = section.path().to_owned();
        let (limit_shown, packet) = (show_size(limit.value), show_size(max_packet));
        section.problem(
            limit.origin,
            format!(
                "{path}.{key} = {limit_shown}: is less than the listener's max_packet_size \
                 ({packet}), so the largest packets could not come in one frame"
            ),
        );
    }
    limit.value
}

//! Any bytes as packets of MQTT 5.0.

use tidegate_mqtt::codec::Version;

/// Checks what the codec makes of a stream of MQTT 5.0.
pub fn run(data: &[u8]) {
    crate::codec::check(Version::V5, data);
}

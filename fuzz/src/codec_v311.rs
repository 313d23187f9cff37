//! Any bytes as packets of MQTT 3.1.1.

use tidegate_mqtt::codec::Version;

/// Checks what the codec makes of a stream of MQTT 3.1.1.
pub fn run(data: &[u8]) {
    crate::codec::check(Version::V3_1_1, data);
}

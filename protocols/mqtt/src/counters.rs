//! What the MQTT adapter counts beside the bus.

use tidegate_bus::Counter;

/// The numbers of one adapter, over all its listeners.
#[derive(Debug, Default)]
pub struct MqttCounters {
    /// Connections accepted by the operating system.
    pub accepted: Counter,
    /// Connections refused because there are as many as may be, over all or from one address.
    pub refused_limit: Counter,
    /// Connections refused because they came too fast.
    pub refused_rate: Counter,
    /// Connections refused by the access decision.
    pub refused_access: Counter,
    /// Connections closed because no whole CONNECT came in time.
    pub connect_timeouts: Counter,
    /// Connections closed because of a malformed packet or a breach of the protocol.
    pub protocol_errors: Counter,
}

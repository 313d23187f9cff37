//! Quality of service: how hard a message is tried (MQTT 5.0 section 4.3).

/// The delivery guarantee of a message or the most a subscription asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// Sent once, never acknowledged, lost when the receiver cannot take it.
    #[default]
    AtMostOnce = 0,
    /// Acknowledged; may arrive more than once.
    AtLeastOnce = 1,
    /// Acknowledged in two steps; arrives once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level for its number on the wire; `None` above 2 (MQTT-3.3.1-4).
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Whether a receiver acknowledges messages of this level.
    pub const fn is_acknowledged(self) -> bool {
        !matches!(self, Self::AtMostOnce)
    }
}

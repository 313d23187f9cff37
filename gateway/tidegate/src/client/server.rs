//! What the gateway said about itself in CONNACK.

use std::num::{NonZeroU16, NonZeroU32};

use tidegate_bus::QoS;
use tidegate_mqtt::codec::{ConnAck, Property};

/// The largest packet there can be.
const LARGEST_PACKET: u32 = 268_435_455 + 5;

/// The gateway's limits and gifts (MQTT 5.0 section 3.2.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) session_present: bool,
    pub(crate) assigned_id: Option<String>,
    pub(crate) keep_alive: Option<u16>,
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_packet_size: u32,
    pub(crate) maximum_qos: QoS,
    pub(crate) retain_available: bool,
    pub(crate) topic_alias_maximum: u16,
}

impl Server {
    /// What the packet says; what it leaves out has the specification's default.
    pub(crate) fn of(connack: &ConnAck<'_>) -> Self {
        let mut server = Self {
            session_present: connack.session_present,
            assigned_id: None,
            keep_alive: None,
            receive_maximum: u16::MAX,
            maximum_packet_size: LARGEST_PACKET,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            topic_alias_maximum: 0,
        };
        for property in connack.properties {
            match property {
                Property::AssignedClientIdentifier(id) => server.assigned_id = Some(id.to_owned()),
                Property::ServerKeepAlive(seconds) => server.keep_alive = Some(seconds),
                Property::ReceiveMaximum(maximum) => {
                    server.receive_maximum = NonZeroU16::get(maximum);
                }
                Property::MaximumPacketSize(maximum) => {
                    server.maximum_packet_size = NonZeroU32::get(maximum).min(LARGEST_PACKET);
                }
                Property::MaximumQos(maximum) => server.maximum_qos = maximum,
                Property::RetainAvailable(available) => server.retain_available = available,
                Property::TopicAliasMaximum(maximum) => server.topic_alias_maximum = maximum,
                _ => {}
            }
        }
        server
    }
}

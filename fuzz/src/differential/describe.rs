//! A packet as lines of text that do not show how it was written: properties in the order of their
//! numbers, and those left out that say what their absence says.

use tidegate_mqtt::codec::{Ack, Packet, PacketType, Properties, Property};

pub(super) fn describe(packet: &Packet<'_>) -> Vec<String> {
    let mut lines = vec![packet.packet_type().to_string()];
    let of = packet.packet_type();
    match packet {
        Packet::Connect(connect) => {
            lines.push(format!(
                "{:?} clean start {} keep alive {} id {:?} user {:?} password {:02x?}",
                connect.version,
                connect.clean_start,
                connect.keep_alive,
                connect.client_id,
                connect.user_name,
                connect.password
            ));
            properties(of, connect.properties, &mut lines);
            if let Some(will) = &connect.will {
                lines.push(format!(
                    "will {:?} retain {} {:?} {:02x?}",
                    will.qos, will.retain, will.topic, will.payload
                ));
                properties(of, will.properties, &mut lines);
            }
        }
        Packet::ConnAck(connack) => {
            lines.push(format!("{} {:?}", connack.session_present, connack.reason));
            properties(of, connack.properties, &mut lines);
        }
        Packet::Publish(publish) => {
            lines.push(format!(
                "dup {} {:?} retain {} {:?} {:?} {:02x?}",
                publish.dup,
                publish.qos,
                publish.retain,
                publish.topic,
                publish.packet_id,
                publish.payload
            ));
            properties(of, publish.properties.as_properties(), &mut lines);
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            acknowledgement(of, ack, &mut lines);
        }
        Packet::Subscribe(subscribe) => {
            lines.push(format!("{} {:?}", subscribe.packet_id, subscribe.filters));
            properties(of, subscribe.properties, &mut lines);
        }
        Packet::SubAck(suback) => {
            lines.push(format!("{} {:?}", suback.packet_id, suback.reasons));
            properties(of, suback.properties, &mut lines);
        }
        Packet::Unsubscribe(unsubscribe) => {
            lines.push(format!(
                "{} {:?}",
                unsubscribe.packet_id, unsubscribe.filters
            ));
            properties(of, unsubscribe.properties, &mut lines);
        }
        Packet::UnsubAck(unsuback) => {
            lines.push(format!("{} {:?}", unsuback.packet_id, unsuback.reasons));
            properties(of, unsuback.properties, &mut lines);
        }
        Packet::Disconnect(disconnect) => {
            lines.push(format!("{:?}", disconnect.reason));
            properties(of, disconnect.properties, &mut lines);
        }
        Packet::Auth(auth) => {
            lines.push(format!("{:?}", auth.reason));
            properties(of, auth.properties, &mut lines);
        }
        Packet::PingReq | Packet::PingResp => {}
    }
    lines
}

fn acknowledgement(of: PacketType, ack: &Ack<'_>, lines: &mut Vec<String>) {
    lines.push(format!("{} {:?}", ack.packet_id, ack.reason));
    properties(of, ack.properties, lines);
}

fn properties(of: PacketType, properties: Properties<'_>, lines: &mut Vec<String>) {
    let mut kept: Vec<Property<'_>> = properties
        .iter()
        .filter(|property| !says_nothing(of, property))
        .collect();
    // User properties keep their order among themselves (MQTT-3.3.2-18).
    kept.sort_by_key(Property::id);
    lines.extend(kept.iter().map(|property| format!("{property:?}")));
}

/// Whether the property has the value that its absence stands for (sections 3.1.2.11, 3.2.2.3 and
/// 3.3.2.3). A Session Expiry Interval of 0 says something in DISCONNECT and in CONNACK.
fn says_nothing(of: PacketType, property: &Property<'_>) -> bool {
    match property {
        Property::SessionExpiryInterval(seconds) => *seconds == 0 && of == PacketType::Connect,
        Property::ReceiveMaximum(maximum) => maximum.get() == u16::MAX,
        Property::TopicAliasMaximum(maximum) => *maximum == 0,
        Property::RequestResponseInformation(wanted) => !wanted,
        Property::RequestProblemInformation(wanted) => *wanted,
        Property::WillDelayInterval(seconds) => *seconds == 0,
        Property::PayloadFormatIndicator(format) => *format == 0,
        Property::MaximumQos(qos) => *qos as u8 == 2,
        Property::RetainAvailable(available)
        | Property::WildcardSubscriptionAvailable(available)
        | Property::SubscriptionIdentifierAvailable(available)
        | Property::SharedSubscriptionAvailable(available) => *available,
        _ => false,
    }
}

//! The bytes of a client's packets, and what a client reads from those of the gateway.

use tidegate_mqtt::codec::{self, Packet, Properties, Property, PublishProperties, Split};

use tidegate_model::{AckKind, ClientPacket, Connect, Delivered, Publish, ServerPacket, Version};

/// Appends the packet as a client of `version` writes it.
pub(super) fn encode(version: Version, packet: &ClientPacket, out: &mut Vec<u8>) {
    let v5 = version == Version::V5;
    let mut body = Vec::new();
    let first = match packet {
        ClientPacket::Connect(connect) => {
            put_connect(connect, &mut body);
            0x10
        }
        ClientPacket::Publish(publish) => {
            put_publish(v5, publish, &mut body);
            let dup = u8::from(publish.dup && publish.qos > 0);
            0x30 | dup << 3 | publish.qos << 1 | u8::from(publish.retain)
        }
        ClientPacket::Ack { kind, id, code } => {
            body.extend(id.to_be_bytes());
            if v5 && *code != 0 {
                body.push(*code);
            }
            match kind {
                AckKind::PubAck => 0x40,
                AckKind::PubRec => 0x50,
                AckKind::PubRel => 0x62,
                AckKind::PubComp => 0x70,
            }
        }
        ClientPacket::Subscribe {
            id,
            filters,
            identifier,
        } => {
            body.extend(id.to_be_bytes());
            if v5 {
                let mut properties = Vec::new();
                if let Some(identifier) = identifier {
                    properties.push(0x0b);
                    put_varint(*identifier, &mut properties);
                }
                put_properties(&properties, &mut body);
            }
            for filter in filters {
                put_text(filter.filter.as_bytes(), &mut body);
                body.push(if v5 {
                    filter.qos
                        | u8::from(filter.no_local) << 2
                        | u8::from(filter.retain_as_published) << 3
                        | filter.retain_handling << 4
                } else {
                    filter.qos
                });
            }
            0x82
        }
        ClientPacket::Unsubscribe { id, filters } => {
            body.extend(id.to_be_bytes());
            if v5 {
                body.push(0);
            }
            for filter in filters {
                put_text(filter.as_bytes(), &mut body);
            }
            0xa2
        }
        ClientPacket::PingReq => 0xc0,
        ClientPacket::Disconnect { code, expiry } => {
            if v5 && (*code != 0 || expiry.is_some()) {
                body.push(*code);
                let mut properties = Vec::new();
                if let Some(expiry) = expiry {
                    properties.push(0x11);
                    properties.extend(expiry.to_be_bytes());
                }
                put_properties(&properties, &mut body);
            }
            0xe0
        }
        ClientPacket::Auth => 0xf0,
        ClientPacket::Broken { bytes, .. } => return out.extend(bytes),
    };
    out.push(first);
    put_varint(body.len() as u32, out);
    out.extend(body);
}

fn put_connect(connect: &Connect, body: &mut Vec<u8>) {
    let v5 = connect.version == Version::V5;
    let (name, level) = match connect.version {
        Version::V3_1 => ("MQIsdp", 3),
        Version::V3_1_1 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    put_text(name.as_bytes(), body);
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 1 << 2 | will.qos << 3 | u8::from(will.retain) << 5;
    }
    body.extend([level, flags]);
    body.extend(connect.keep_alive.to_be_bytes());
    if v5 {
        let mut properties = Vec::new();
        if let Some(expiry) = connect.expiry {
            properties.push(0x11);
            properties.extend(expiry.to_be_bytes());
        }
        if let Some(maximum) = connect.receive_maximum {
            properties.push(0x21);
            properties.extend(maximum.to_be_bytes());
        }
        if connect.topic_alias_maximum > 0 {
            properties.push(0x22);
            properties.extend(connect.topic_alias_maximum.to_be_bytes());
        }
        put_properties(&properties, body);
    }
    put_text(connect.client.as_bytes(), body);
    if let Some(will) = &connect.will {
        if v5 {
            let mut properties = Vec::new();
            if will.delay > 0 {
                properties.push(0x18);
                properties.extend(will.delay.to_be_bytes());
            }
            if let Some(expiry) = will.expiry {
                properties.push(0x02);
                properties.extend(expiry.to_be_bytes());
            }
            put_properties(&properties, body);
        }
        put_text(will.topic.as_bytes(), body);
        put_text(&will.payload, body);
    }
}

fn put_publish(v5: bool, publish: &Publish, body: &mut Vec<u8>) {
    put_text(publish.topic.as_bytes(), body);
    if publish.qos > 0 {
        body.extend(publish.id.to_be_bytes());
    }
    if v5 {
        let mut properties = Vec::new();
        if let Some(expiry) = publish.expiry {
            properties.push(0x02);
            properties.extend(expiry.to_be_bytes());
        }
        if let Some(tag) = publish.tag {
            properties.push(0x26);
            put_text(b"tag", &mut properties);
            put_text(tag.to_string().as_bytes(), &mut properties);
        }
        if let Some(alias) = publish.alias {
            properties.push(0x23);
            properties.extend(alias.to_be_bytes());
        }
        put_properties(&properties, body);
    }
    body.extend(&publish.payload);
}

fn put_text(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

fn put_properties(properties: &[u8], out: &mut Vec<u8>) {
    put_varint(properties.len() as u32, out);
    out.extend(properties);
}

fn put_varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes the first packet of the gateway from `bytes`, if it is whole.
pub(super) fn take(version: Version, bytes: &mut Vec<u8>) -> Option<ServerPacket> {
    let (packet, len) = match codec::split(bytes, u32::MAX) {
        Ok(Split::Incomplete { .. }) => return None,
        Ok(Split::Frame(frame)) => {
            let packet = match codec::decode(of(version), frame) {
                Ok(packet) => seen(&packet),
                Err(error) => ServerPacket::Unexpected(format!("{error}: {frame:02x?}")),
            };
            (packet, frame.len)
        }
        Err(error) => (
            ServerPacket::Unexpected(format!("{error}: {bytes:02x?}")),
            bytes.len(),
        ),
    };
    bytes.drain(..len);
    Some(packet)
}

fn of(version: Version) -> codec::Version {
    match version {
        Version::V3_1 => codec::Version::V3_1,
        Version::V3_1_1 => codec::Version::V3_1_1,
        Version::V5 => codec::Version::V5,
    }
}

fn seen(packet: &Packet<'_>) -> ServerPacket {
    let ack = |kind, ack: &codec::Ack<'_>| ServerPacket::Ack {
        kind,
        id: ack.packet_id.get(),
        codes: vec![ack.reason.as_u8()],
    };
    match packet {
        Packet::ConnAck(connack) => ServerPacket::ConnAck {
            present: connack.session_present,
            code: connack.reason.as_u8(),
        },
        Packet::Publish(publish) => {
            let (identifiers, tag) = identifiers_and_tag(&publish.properties);
            ServerPacket::Publish(Delivered {
                topic: publish.topic.map_or("", |topic| topic.as_str()).to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                id: publish.packet_id.map_or(0, std::num::NonZeroU16::get),
                alias: publish.properties.topic_alias().map(Into::into),
                expiry: publish.properties.message_expiry_interval(),
                tag,
                identifiers,
            })
        }
        Packet::PubAck(packet) => ack(AckKind::PubAck, packet),
        Packet::PubRec(packet) => ack(AckKind::PubRec, packet),
        Packet::PubRel(packet) => ack(AckKind::PubRel, packet),
        Packet::PubComp(packet) => ack(AckKind::PubComp, packet),
        Packet::SubAck(packet) => ServerPacket::SubAck {
            id: packet.packet_id.get(),
            codes: packet
                .reasons
                .iter()
                .map(codec::ReasonCode::as_u8)
                .collect(),
        },
        Packet::UnsubAck(packet) => ServerPacket::UnsubAck {
            id: packet.packet_id.get(),
            codes: packet
                .reasons
                .iter()
                .map(codec::ReasonCode::as_u8)
                .collect(),
        },
        Packet::PingResp => ServerPacket::PingResp,
        // MQTT-3.14.2-2: no session expiry from a server.
        Packet::Disconnect(packet) if has_no_expiry(&packet.properties) => {
            ServerPacket::Disconnect {
                code: packet.reason.as_u8(),
            }
        }
        other => ServerPacket::Unexpected(format!("{other:?}")),
    }
}

fn has_no_expiry(properties: &Properties<'_>) -> bool {
    properties.session_expiry_interval().is_none()
}

fn identifiers_and_tag(properties: &PublishProperties<'_>) -> (Vec<u32>, Option<u8>) {
    let mut identifiers = Vec::new();
    let mut tag = None;
    for property in properties {
        match property {
            Property::SubscriptionIdentifier(identifier) => identifiers.push(identifier),
            Property::UserProperty("tag", value) => tag = value.parse().ok(),
            _ => {}
        }
    }
    (identifiers, tag)
}

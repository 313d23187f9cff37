//! Reads the packets of a server, strictly: what the specification forbids is an error of the server.

use super::packet::{Ack, ConnAck, Packet, Publish, Reason, SubAck, Version};
use super::property::Property;
use super::reader::Reader;

/// Properties that each packet may carry (MQTT 5.0 table 2-4), as a server sends it.
const CONNACK: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2A,
];
const PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
const ACK: &[u8] = &[0x1F, 0x26];
/// Without 0x11: MQTT-3.14.2-2 forbids the server to send a session expiry.
const DISCONNECT: &[u8] = &[0x1C, 0x1F, 0x26];
const AUTH: &[u8] = &[0x15, 0x16, 0x1F, 0x26];

/// The length of the first packet in `bytes`, once it is all there.
pub(super) fn complete(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut length = 0;
    for position in 0..4 {
        let Some(byte) = bytes.get(1 + position) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            if position > 0 && *byte == 0 {
                return Err("a remaining length longer than it needs to be".into());
            }
            let whole = 2 + position + length;
            return Ok((bytes.len() >= whole).then_some(whole));
        }
    }
    Err("a remaining length of more than four bytes".into())
}

/// Decodes one whole packet.
pub(super) fn packet(bytes: &[u8], version: Version) -> Result<Packet, String> {
    let header = 1
        + bytes[1..]
            .iter()
            .take_while(|byte| **byte & 0x80 != 0)
            .count()
        + 1;
    let (first, mut reader) = (bytes[0], Reader::new(&bytes[header..]));
    let v5 = version == Version::V5;
    let kind = first >> 4;
    let flags = first & 0x0F;
    let expected = if kind == 6 { 2 } else { 0 };
    // MQTT 3.1 section 3.6: a PUBREL that is sent again has DUP.
    let again = version == Version::V31 && kind == 6 && flags == 0x0A;
    if kind != 3 && flags != expected && !again {
        return Err(format!("flags {flags:#x} in packet type {kind}"));
    }
    let packet = match kind {
        2 => Packet::ConnAck(connack(&mut reader, v5)?),
        3 => Packet::Publish(publish(flags, &mut reader, v5)?),
        4 => Packet::PubAck(ack(&mut reader, v5)?),
        5 => Packet::PubRec(ack(&mut reader, v5)?),
        6 => Packet::PubRel(ack(&mut reader, v5)?),
        7 => Packet::PubComp(ack(&mut reader, v5)?),
        9 => Packet::SubAck(suback(&mut reader, v5)?),
        11 => Packet::UnsubAck(suback(&mut reader, v5)?),
        13 => Packet::PingResp,
        14 if v5 => Packet::Disconnect(reason(&mut reader, DISCONNECT)?),
        15 if v5 => Packet::Auth(reason(&mut reader, AUTH)?),
        _ => return Err(format!("a server does not send packet type {kind}")),
    };
    reader.end()?;
    Ok(packet)
}

fn connack(reader: &mut Reader<'_>, v5: bool) -> Result<ConnAck, String> {
    let flags = reader.u8()?;
    if flags > 1 {
        return Err(format!("CONNACK flags {flags:#x}"));
    }
    let code = reader.u8()?;
    if flags == 1 && code != 0 {
        return Err(format!(
            "session present with code {code:#04x} (MQTT-3.2.2-6)"
        ));
    }
    // A v5 client that is refused for its version may get the two bytes of MQTT 3.1.1.
    let has_properties = v5 && !(code == 1 && reader.is_empty());
    let properties = if has_properties {
        Property::block(reader, CONNACK)?
    } else {
        Vec::new()
    };
    Ok(ConnAck {
        session_present: flags == 1,
        code,
        properties,
    })
}

fn publish(flags: u8, reader: &mut Reader<'_>, v5: bool) -> Result<Publish, String> {
    let qos = flags >> 1 & 3;
    let dup = flags & 8 != 0;
    if qos == 3 || (qos == 0 && dup) {
        return Err(format!("PUBLISH flags {flags:#x}"));
    }
    let topic = reader.string()?;
    if topic.contains(['#', '+']) {
        return Err(format!("a wildcard in the topic name {topic:?}"));
    }
    let id = if qos > 0 { reader.u16()? } else { 0 };
    if qos > 0 && id == 0 {
        return Err("packet identifier 0".into());
    }
    let properties = if v5 {
        Property::block(reader, PUBLISH)?
    } else {
        Vec::new()
    };
    let alias = properties
        .iter()
        .any(|property| matches!(property, Property::TopicAlias(_)));
    if topic.is_empty() && !alias {
        return Err("neither topic nor alias".into());
    }
    let payload = reader.remainder();
    Ok(Publish {
        dup,
        qos,
        retain: flags & 1 != 0,
        topic,
        id,
        properties,
        payload,
    })
}

fn ack(reader: &mut Reader<'_>, v5: bool) -> Result<Ack, String> {
    let id = reader.u16()?;
    if id == 0 {
        return Err("packet identifier 0".into());
    }
    let code = if v5 && !reader.is_empty() {
        reader.u8()?
    } else {
        0
    };
    let properties = if v5 && !reader.is_empty() {
        Property::block(reader, ACK)?
    } else {
        Vec::new()
    };
    Ok(Ack {
        id,
        code,
        properties,
    })
}

fn suback(reader: &mut Reader<'_>, v5: bool) -> Result<SubAck, String> {
    let id = reader.u16()?;
    let properties = if v5 {
        Property::block(reader, ACK)?
    } else {
        Vec::new()
    };
    Ok(SubAck {
        id,
        codes: reader.remainder(),
        properties,
    })
}

fn reason(reader: &mut Reader<'_>, allowed: &[u8]) -> Result<Reason, String> {
    let code = if reader.is_empty() { 0 } else { reader.u8()? };
    let properties = if reader.is_empty() {
        Vec::new()
    } else {
        Property::block(reader, allowed)?
    };
    Ok(Reason { code, properties })
}

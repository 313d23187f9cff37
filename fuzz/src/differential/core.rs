//! What `mqtt-protocol-core` makes of a packet. Its parsers take the body alone; the fixed header is
//! read by what is around them, which is not looked at here.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use tidegate_mqtt::codec::{PacketType, Split, Version, split};

use super::Theirs;

/// `None` where there is nothing to compare.
pub(super) fn decode(version: Version, bytes: &[u8]) -> Option<Theirs> {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else {
        return None;
    };
    let body = frame.body;
    let flags = frame.first & 0x0f;
    macro_rules! through {
        ($packet:ty) => {
            whole(body, <$packet>::parse(body), |packet| {
                packet.to_continuous_buffer()
            })
        };
    }
    Some(match (version, frame.packet_type()?) {
        (Version::V5, PacketType::Connect) => through!(v5_0::Connect),
        (Version::V5, PacketType::ConnAck) => through!(v5_0::Connack),
        (Version::V5, PacketType::Publish) => {
            let parsed = v5_0::Publish::parse(flags, Arc::from(body));
            whole(body, parsed, v5_0::Publish::to_continuous_buffer)
        }
        (Version::V5, PacketType::PubAck) => through!(v5_0::Puback),
        (Version::V5, PacketType::PubRec) => through!(v5_0::Pubrec),
        (Version::V5, PacketType::PubRel) => through!(v5_0::Pubrel),
        (Version::V5, PacketType::PubComp) => through!(v5_0::Pubcomp),
        (Version::V5, PacketType::Subscribe) => through!(v5_0::Subscribe),
        (Version::V5, PacketType::SubAck) => through!(v5_0::Suback),
        (Version::V5, PacketType::Unsubscribe) => through!(v5_0::Unsubscribe),
        (Version::V5, PacketType::UnsubAck) => through!(v5_0::Unsuback),
        (Version::V5, PacketType::PingReq) => through!(v5_0::Pingreq),
        (Version::V5, PacketType::PingResp) => through!(v5_0::Pingresp),
        (Version::V5, PacketType::Disconnect) => through!(v5_0::Disconnect),
        (Version::V5, PacketType::Auth) => through!(v5_0::Auth),
        (_, PacketType::Auth) => return None,
        (_, PacketType::Connect) => through!(v3_1_1::Connect),
        (_, PacketType::ConnAck) => through!(v3_1_1::Connack),
        (_, PacketType::Publish) => {
            let parsed = v3_1_1::Publish::parse(flags, Arc::from(body));
            whole(body, parsed, v3_1_1::Publish::to_continuous_buffer)
        }
        (_, PacketType::PubAck) => through!(v3_1_1::Puback),
        (_, PacketType::PubRec) => through!(v3_1_1::Pubrec),
        (_, PacketType::PubRel) => through!(v3_1_1::Pubrel),
        (_, PacketType::PubComp) => through!(v3_1_1::Pubcomp),
        (_, PacketType::Subscribe) => through!(v3_1_1::Subscribe),
        (_, PacketType::SubAck) => through!(v3_1_1::Suback),
        (_, PacketType::Unsubscribe) => through!(v3_1_1::Unsubscribe),
        (_, PacketType::UnsubAck) => through!(v3_1_1::Unsuback),
        (_, PacketType::PingReq) => through!(v3_1_1::Pingreq),
        (_, PacketType::PingResp) => through!(v3_1_1::Pingresp),
        (_, PacketType::Disconnect) => through!(v3_1_1::Disconnect),
    })
}

/// A packet is what takes the whole body.
fn whole<P>(
    body: &[u8],
    parsed: Result<(P, usize), MqttError>,
    write: impl Fn(&P) -> Vec<u8>,
) -> Theirs {
    match parsed {
        Err(error) => Theirs::Refuses(format!("{error:?}")),
        Ok((_, taken)) if taken != body.len() => Theirs::Refuses("bytes behind the end".to_owned()),
        Ok((packet, _)) => Theirs::Accepts(Some(write(&packet))),
    }
}

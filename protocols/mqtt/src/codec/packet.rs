//! Any packet, and the way in and out for callers that take every kind.

use super::{
    Ack, AckType, Auth, ConnAck, Connect, DecodeError, Disconnect, Frame, PacketType, Publish,
    SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
};

/// A packet of any type, borrowed from the buffer that it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNECT (section 3.1).
    Connect(Connect<'a>),
    /// CONNACK (section 3.2).
    ConnAck(ConnAck<'a>),
    /// PUBLISH (section 3.3).
    Publish(Publish<'a>),
    /// PUBACK (section 3.4).
    PubAck(Ack<'a>),
    /// PUBREC (section 3.5).
    PubRec(Ack<'a>),
    /// PUBREL (section 3.6).
    PubRel(Ack<'a>),
    /// PUBCOMP (section 3.7).
    PubComp(Ack<'a>),
    /// SUBSCRIBE (section 3.8).
    Subscribe(Subscribe<'a>),
    /// SUBACK (section 3.9).
    SubAck(SubAck<'a>),
    /// UNSUBSCRIBE (section 3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK (section 3.11).
    UnsubAck(UnsubAck<'a>),
    /// PINGREQ (section 3.12).
    PingReq,
    /// PINGRESP (section 3.13).
    PingResp,
    /// DISCONNECT (section 3.14).
    Disconnect(Disconnect<'a>),
    /// AUTH (section 3.15).
    Auth(Auth<'a>),
}

/// Decodes a packet of a connection that speaks `version`. A CONNECT says its version itself.
#[inline]
pub fn decode<'a>(version: Version, frame: Frame<'a>) -> Result<Packet<'a>, DecodeError> {
    let Some(packet_type) = frame.packet_type() else {
        return Err(DecodeError::ReservedPacketType { number: 0 });
    };
    if packet_type == PacketType::Publish {
        return Publish::decode(version, frame).map(Packet::Publish);
    }
    decode_other(version, packet_type, frame)
}

/// Everything but PUBLISH, out of line so that the hot path stays small.
fn decode_other<'a>(
    version: Version,
    packet_type: PacketType,
    frame: Frame<'a>,
) -> Result<Packet<'a>, DecodeError> {
    match packet_type {
        PacketType::Connect => Connect::decode(frame).map(Packet::Connect),
        PacketType::ConnAck => ConnAck::decode(version, frame).map(Packet::ConnAck),
        PacketType::Publish => Publish::decode(version, frame).map(Packet::Publish),
        PacketType::PubAck => Ack::decode(AckType::PubAck, version, frame).map(Packet::PubAck),
        PacketType::PubRec => Ack::decode(AckType::PubRec, version, frame).map(Packet::PubRec),
        PacketType::PubRel => Ack::decode(AckType::PubRel, version, frame).map(Packet::PubRel),
        PacketType::PubComp => Ack::decode(AckType::PubComp, version, frame).map(Packet::PubComp),
        PacketType::Subscribe => Subscribe::decode(version, frame).map(Packet::Subscribe),
        PacketType::SubAck => SubAck::decode(version, frame).map(Packet::SubAck),
        PacketType::Unsubscribe => Unsubscribe::decode(version, frame).map(Packet::Unsubscribe),
        PacketType::UnsubAck => UnsubAck::decode(version, frame).map(Packet::UnsubAck),
        PacketType::PingReq => decode_empty(version, packet_type, frame, Packet::PingReq),
        PacketType::PingResp => decode_empty(version, packet_type, frame, Packet::PingResp),
        PacketType::Disconnect => Disconnect::decode(version, frame).map(Packet::Disconnect),
        PacketType::Auth => Auth::decode(version, frame).map(Packet::Auth),
    }
}

fn decode_empty<'a>(
    version: Version,
    packet_type: PacketType,
    frame: Frame<'_>,
    packet: Packet<'a>,
) -> Result<Packet<'a>, DecodeError> {
    frame.expect(packet_type, version)?;
    if frame.body.is_empty() {
        Ok(packet)
    } else {
        Err(DecodeError::TrailingBytes)
    }
}

impl Packet<'_> {
    /// The type of the packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet as `version` writes it. A CONNECT is written as the version it names.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(AckType::PubAck, version, out),
            Self::PubRec(packet) => packet.encode(AckType::PubRec, version, out),
            Self::PubRel(packet) => packet.encode(AckType::PubRel, version, out),
            Self::PubComp(packet) => packet.encode(AckType::PubComp, version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq => out.extend_from_slice(&[PacketType::PingReq.first_byte(), 0]),
            Self::PingResp => out.extend_from_slice(&[PacketType::PingResp.first_byte(), 0]),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }
}

//! The fixed header and where a packet ends (MQTT 5.0 section 2.1). Nothing here knows the version or
//! looks into the body.

use super::{DecodeError, Version, varint};

/// What kind of packet (MQTT 5.0 section 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT.
    Connect = 1,
    /// CONNACK.
    ConnAck = 2,
    /// PUBLISH.
    Publish = 3,
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
    /// SUBSCRIBE.
    Subscribe = 8,
    /// SUBACK.
    SubAck = 9,
    /// UNSUBSCRIBE.
    Unsubscribe = 10,
    /// UNSUBACK.
    UnsubAck = 11,
    /// PINGREQ.
    PingReq = 12,
    /// PINGRESP.
    PingResp = 13,
    /// DISCONNECT.
    Disconnect = 14,
    /// AUTH, in MQTT 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// The type in the upper half of a packet's first byte; `None` for the reserved type 0.
    #[inline]
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The name in the specification's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The flags in the lower half of the first byte (MQTT-2.1.3-1), PUBLISH apart.
    pub(super) const fn required_flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// The first byte of a packet of this type, PUBLISH apart.
    pub(super) const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.required_flags()
    }
}

impl std::fmt::Display for PacketType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The flag in a first byte that says that a packet is sent again.
const DUP: u8 = 0b1000;

/// One whole packet, not yet looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The first byte: type and flags.
    pub first: u8,
    /// What follows the fixed header.
    pub body: &'a [u8],
    /// Length of the whole packet, fixed header included.
    pub len: usize,
}

impl Frame<'_> {
    /// The type of the packet. Frames from [`split`] always have one.
    #[inline]
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::from_first_byte(self.first)
    }

    /// Checks that the packet is an `expected` one with exactly the flags that `version` asks for.
    ///
    /// Sections 3.6, 3.8 and 3.10 of MQTT 3.1 let a PUBREL, SUBSCRIBE or UNSUBSCRIBE that is sent
    /// again carry DUP. It tells the receiver nothing, so it is let through and forgotten.
    pub(super) fn expect(&self, expected: PacketType, version: Version) -> Result<(), DecodeError> {
        self.expect_type(expected)?;
        let required = expected.required_flags();
        let mut flags = self.first & 0x0f;
        if version == Version::V3_1 && required != 0 {
            flags &= !DUP;
        }
        if flags != required {
            return Err(DecodeError::ReservedFlags { packet: expected });
        }
        Ok(())
    }

    /// Checks that the packet is an `expected` one, whatever its flags.
    #[inline]
    pub(super) fn expect_type(&self, expected: PacketType) -> Result<(), DecodeError> {
        if self.first >> 4 == expected as u8 {
            return Ok(());
        }
        let found = self
            .packet_type()
            .ok_or(DecodeError::ReservedPacketType { number: 0 })?;
        Err(DecodeError::UnexpectedPacket { expected, found })
    }
}

/// What [`split`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// The buffer begins with this packet.
    Frame(Frame<'a>),
    /// The packet that the buffer begins with has not wholly arrived.
    Incomplete {
        /// Length of the whole packet, once its fixed header has arrived.
        needed: Option<usize>,
    },
}

/// Finds the packet that `buffer` begins with.
///
/// Refused at the first byte are the reserved type and flags that no version allows; as soon as the
/// length is known, a packet of more than `maximum_packet_size` bytes, fixed header included. A
/// Remaining Length is taken in its shortest form only (MQTT-1.5.5-1).
///
/// The version is not known here, so two things are left to [`decode`](super::decode): the DUP flag,
/// which MQTT 3.1 lets a PUBREL, SUBSCRIBE or UNSUBSCRIBE that is sent again carry and which later
/// versions refuse, and AUTH, whose type is reserved before MQTT 5.0.
#[inline]
pub fn split(buffer: &[u8], maximum_packet_size: u32) -> Result<Split<'_>, DecodeError> {
    let Some((&first, after)) = buffer.split_first() else {
        return Ok(Split::Incomplete { needed: None });
    };
    check_first_byte(first)?;
    let Some((remaining, width)) = varint::decode(after)? else {
        return Ok(Split::Incomplete { needed: None });
    };
    // At most 5 + 268,435,455: no overflow, and it fits both types.
    let len = 1 + width as u32 + remaining;
    if len > maximum_packet_size {
        return Err(DecodeError::PacketTooLarge {
            len,
            maximum: maximum_packet_size,
        });
    }
    let len = len as usize;
    match buffer.get(1 + width..len) {
        Some(body) => Ok(Split::Frame(Frame { first, body, len })),
        None => Ok(Split::Incomplete { needed: Some(len) }),
    }
}

/// Refuses what no version of the protocol allows in a first byte.
#[inline]
fn check_first_byte(first: u8) -> Result<(), DecodeError> {
    let Some(packet) = PacketType::from_first_byte(first) else {
        return Err(DecodeError::ReservedPacketType { number: first >> 4 });
    };
    let flags = first & 0x0f;
    match packet {
        PacketType::Publish if flags & 0b0110 == 0b0110 => Err(DecodeError::PublishQos3),
        PacketType::Publish => Ok(()),
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe
            if flags & !DUP == packet.required_flags() =>
        {
            Ok(())
        }
        _ if flags == packet.required_flags() => Ok(()),
        _ => Err(DecodeError::ReservedFlags { packet }),
    }
}

//! What a server sends, read where it lies in the buffer: nothing is copied.
//!
//! Not a decoder that judges: of what the load does not need it looks at lengths only. MQTT 3.1.1 and
//! 5.0, sections 2 and 3.

use anyhow::{Result, bail};

use crate::order::Version;

/// Types of packets, without flags.
pub(super) mod kind {
    pub(crate) const CONNACK: u8 = 0x20;
    pub(crate) const PUBLISH: u8 = 0x30;
    pub(crate) const PUBACK: u8 = 0x40;
    pub(crate) const PUBREC: u8 = 0x50;
    pub(crate) const PUBREL: u8 = 0x60;
    pub(crate) const PUBCOMP: u8 = 0x70;
    pub(crate) const SUBACK: u8 = 0x90;
    pub(crate) const UNSUBACK: u8 = 0xB0;
    pub(crate) const PINGRESP: u8 = 0xD0;
    pub(crate) const DISCONNECT: u8 = 0xE0;
}

/// A packet.
#[derive(Clone, Copy)]
pub(super) struct Packet<'a> {
    /// Type and flags.
    pub(super) first: u8,
    /// What follows the Remaining Length.
    pub(super) body: &'a [u8],
    /// Bytes of all of it.
    pub(super) length: usize,
}

/// The packet at the beginning of `bytes`, if it is whole.
#[inline]
pub(super) fn packet(bytes: &[u8]) -> Result<Option<Packet<'_>>> {
    let mut length = 0;
    for at in 1..5 {
        let Some(&byte) = bytes.get(at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte < 0x80 {
            let start = at + 1;
            let length = start + length;
            let whole = bytes.get(start..length).map(|body| Packet {
                first: bytes[0],
                body,
                length,
            });
            return Ok(whole);
        }
    }
    bail!("the broker sent a Remaining Length of more than four bytes");
}

/// A PUBLISH.
pub(super) struct Delivery<'a> {
    pub(super) qos: u8,
    /// 0 at QoS 0.
    pub(super) packet_id: u16,
    /// Bytes of properties; none in MQTT 3.1.1.
    pub(super) properties: usize,
    pub(super) payload: &'a [u8],
}

impl Delivery<'_> {
    /// Whether it has the QoS that was published and granted, and no less of properties than was
    /// published: a broker that does less is not compared with those that do it all.
    #[inline]
    pub(super) fn check(&self, qos: u8, properties: usize) -> Result<()> {
        if self.qos != qos {
            bail!("the broker delivered QoS {} instead of {qos}", self.qos);
        }
        if self.properties < properties {
            bail!("the broker delivered a message without its properties");
        }
        Ok(())
    }
}

impl<'a> Packet<'a> {
    /// Type without flags.
    #[inline]
    pub(super) fn kind(&self) -> u8 {
        self.first & 0xF0
    }

    /// What a PUBLISH says.
    #[inline]
    pub(super) fn delivery(&self, version: Version) -> Result<Delivery<'a>> {
        match self.try_delivery(version) {
            Some(delivery) => Ok(delivery),
            None => bail!("the broker sent a PUBLISH that is cut short"),
        }
    }

    #[inline]
    fn try_delivery(&self, version: Version) -> Option<Delivery<'a>> {
        let qos = self.first >> 1 & 3;
        let (topic, rest) = self.body.split_first_chunk::<2>()?;
        let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic))..)?;
        let mut packet_id = 0;
        if qos > 0 {
            let (id, after) = rest.split_first_chunk::<2>()?;
            packet_id = u16::from_be_bytes(*id);
            rest = after;
        }
        let mut properties = 0;
        if version == Version::V5 {
            (properties, rest) = varint(rest)?;
            rest = rest.get(properties..)?;
        }
        Some(Delivery {
            qos,
            packet_id,
            properties,
            payload: rest,
        })
    }

    /// The packet identifier and the reason code of an acknowledgement.
    #[inline]
    pub(super) fn acknowledgement(&self) -> Result<(u16, u8)> {
        let Some((id, rest)) = self.body.split_first_chunk::<2>() else {
            bail!("the broker sent an acknowledgement without a packet identifier");
        };
        let code = rest.first().copied().unwrap_or(0);
        Ok((u16::from_be_bytes(*id), code))
    }

    /// The codes of a SUBACK or UNSUBACK; none of the latter in MQTT 3.1.1.
    pub(super) fn codes(&self, version: Version) -> Result<&'a [u8]> {
        let codes = self.body.get(2..).and_then(|rest| match version {
            Version::V3 => Some(rest),
            Version::V5 => after_properties(rest),
        });
        match codes {
            Some(codes) => Ok(codes),
            None => bail!("the broker sent an acknowledgement that is cut short"),
        }
    }

    /// A packet's name and code, for a message of what came instead.
    pub(super) fn name(&self) -> String {
        let name = match self.kind() {
            kind::CONNACK => "CONNACK",
            kind::PUBLISH => "PUBLISH",
            kind::PUBACK => "PUBACK",
            kind::PUBREC => "PUBREC",
            kind::PUBREL => "PUBREL",
            kind::PUBCOMP => "PUBCOMP",
            kind::SUBACK => "SUBACK",
            kind::UNSUBACK => "UNSUBACK",
            kind::PINGRESP => "PINGRESP",
            kind::DISCONNECT => {
                let code = self.body.first().copied().unwrap_or(0);
                return format!("DISCONNECT with code {code:#04x}");
            }
            other => return format!("a packet of type {}", other >> 4),
        };
        name.to_owned()
    }
}

/// What follows a block of properties.
#[inline]
fn after_properties(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = varint(bytes)?;
    rest.get(length..)
}

/// A Variable Byte Integer and what follows it.
#[inline]
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for at in 0..4 {
        let byte = *bytes.get(at)?;
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte < 0x80 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// What a CONNACK says that the load must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    /// The return code or reason code; 0 lets the client in.
    pub(super) code: u8,
    /// Publishes of QoS 1 and 2 that may be open.
    pub(super) receive_maximum: u16,
    /// The highest QoS of a publish.
    pub(super) maximum_qos: u8,
    /// Bytes of the largest packet.
    pub(super) maximum_packet: u32,
    /// Seconds of keep alive that the server wants instead.
    pub(super) keep_alive: Option<u16>,
    /// Whether there was a session, and it goes on.
    pub(super) session_present: bool,
}

impl Default for Welcome {
    /// What holds where nothing is said.
    fn default() -> Self {
        Self {
            code: 0,
            receive_maximum: u16::MAX,
            maximum_qos: 2,
            maximum_packet: u32::MAX,
            keep_alive: None,
            session_present: false,
        }
    }
}

impl Welcome {
    /// From the body of a CONNACK.
    pub(super) fn parse(body: &[u8], version: Version) -> Option<Self> {
        let mut welcome = Self {
            code: *body.get(1)?,
            session_present: body[0] & 1 == 1,
            ..Self::default()
        };
        if version == Version::V5 && body.len() > 2 {
            let (length, rest) = varint(&body[2..])?;
            let mut rest = rest.get(..length)?;
            while let Some((&id, after)) = rest.split_first() {
                rest = welcome.property(id, after)?;
            }
        }
        Some(welcome)
    }

    /// Takes a property (MQTT 5.0 section 3.2.2.3) and returns what follows it.
    fn property<'a>(&mut self, id: u8, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let two = || bytes.first_chunk().map(|two| u16::from_be_bytes(*two));
        let four = || bytes.first_chunk().map(|four| u32::from_be_bytes(*four));
        let length = match id {
            0x13 => {
                self.keep_alive = Some(two()?);
                2
            }
            0x21 => {
                self.receive_maximum = two()?;
                2
            }
            0x22 => 2,
            0x24 => {
                self.maximum_qos = *bytes.first()?;
                1
            }
            0x25 | 0x28..=0x2A => 1,
            0x11 => 4,
            0x27 => {
                self.maximum_packet = four()?;
                4
            }
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => 2 + usize::from(two()?),
            0x26 => {
                let name = 2 + usize::from(two()?);
                let value = bytes.get(name..)?.first_chunk()?;
                name + 2 + usize::from(u16::from_be_bytes(*value))
            }
            _ => return None,
        };
        bytes.get(length..)
    }
}

#[cfg(test)]
mod tests {
    use super::{Welcome, packet};
    use crate::order::Version;

    #[test]
    fn a_packet_that_is_cut_anywhere_is_none_yet() {
        let mut bytes = vec![0x30, 0x81, 0x01];
        bytes.extend([0; 129]);
        bytes.extend([0xD0, 0]);
        for length in 0..132 {
            assert!(packet(&bytes[..length]).unwrap().is_none(), "{length}");
        }
        let whole = packet(&bytes).unwrap().unwrap();
        assert_eq!((whole.body.len(), whole.length), (129, 132));
        assert!(packet(&[0x30, 0x80, 0x80, 0x80, 0x80]).is_err());
    }

    #[test]
    fn a_connack_tells_its_limits_among_other_properties() {
        let properties = [
            &[0x12, 0, 2, b'i', b'd'][..],
            &[0x21, 0, 20],
            &[0x26, 0, 1, b'n', 0, 1, b'v'],
            &[0x27, 0, 0, 4, 0],
            &[0x24, 1, 0x2A, 1, 0x13, 0, 60],
        ];
        let properties = properties.concat();
        let mut body = vec![1, 0, properties.len() as u8];
        body.extend(properties);
        let expected = Welcome {
            code: 0,
            receive_maximum: 20,
            maximum_qos: 1,
            maximum_packet: 1024,
            keep_alive: Some(60),
            session_present: true,
        };
        assert_eq!(Welcome::parse(&body, Version::V5), Some(expected));
        body.pop();
        assert_eq!(Welcome::parse(&body, Version::V5), None);
        let refused = Welcome {
            code: 5,
            ..Welcome::default()
        };
        assert_eq!(Welcome::parse(&[0, 5], Version::V3), Some(refused));
    }
}

//! CONNECT (MQTT 5.0 section 3.1), the packet that says which version the others are in.

use tidegate_bus::{QoS, TopicName};

use super::reader::Reader;
use super::writer::{put_binary, put_packet, put_property_block, put_string, put_u16};
use super::{DecodeError, Frame, PacketType, Properties, PropertyScope, Version};

const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// A CONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version of this packet and of all that follow.
    pub version: Version,
    /// Whether to begin without the session that the server may have; Clean Session before 5.0.
    pub clean_start: bool,
    /// The longest pause between two packets of the client, in seconds; 0 is no limit.
    pub keep_alive: u16,
    /// The client identifier. It may be empty: what follows from that differs between the versions
    /// (MQTT-3.1.3-6; 3.1.1: MQTT-3.1.3-8; 3.1 has 1 to 23 characters) and is the caller's to decide.
    pub client_id: &'a str,
    /// The message to publish when the connection is lost.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The password; any bytes.
    pub password: Option<&'a [u8]>,
    /// The properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

/// The message to publish when the connection is lost (section 3.1.3.2 and following).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The QoS it is published with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Where to.
    pub topic: TopicName<'a>,
    /// The application message.
    pub payload: &'a [u8],
    /// Its properties; empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> Connect<'a> {
    /// Decodes a CONNECT of any version.
    ///
    /// A protocol name and level that are none of [`Version`] give
    /// [`DecodeError::UnsupportedProtocolVersion`]: nothing after them can be read then.
    pub fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        // No version gives CONNECT any flags.
        frame.expect(PacketType::Connect, Version::V5)?;
        let mut reader = Reader::new(frame.body);
        let name = reader.string()?;
        let level = reader.u8()?;
        let version = Version::from_name_and_level(name, level)
            .ok_or(DecodeError::UnsupportedProtocolVersion { level })?;
        let flags = reader.u8()?;
        let will_qos = check_flags(version, flags)?;
        let keep_alive = reader.u16()?;
        let properties = if version.is_v5() {
            Properties::read(PropertyScope::Connect, &mut reader)?
        } else {
            Properties::EMPTY
        };
        let client_id = reader.string()?;
        let will = if flags & WILL != 0 {
            Some(Will::read(
                version,
                will_qos,
                flags & WILL_RETAIN != 0,
                &mut reader,
            )?)
        } else {
            None
        };
        let user_name = if has_field(version, flags & USER_NAME, &reader) {
            Some(reader.string()?)
        } else {
            None
        };
        let password = if has_field(version, flags & PASSWORD, &reader) {
            Some(reader.binary()?)
        } else {
            None
        };
        reader.finish()?;
        Ok(Self {
            version,
            clean_start: flags & CLEAN_START != 0,
            keep_alive,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    }

    /// Appends the packet as [`Self::version`] writes it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(PacketType::Connect.first_byte(), out, |out| {
            put_string(self.version.name(), out);
            out.extend_from_slice(&[self.version.level(), self.flags()]);
            put_u16(self.keep_alive, out);
            if self.version.is_v5() {
                put_property_block(self.properties.raw(), out);
            }
            put_string(self.client_id, out);
            if let Some(will) = &self.will {
                if self.version.is_v5() {
                    put_property_block(will.properties.raw(), out);
                }
                put_string(will.topic.as_str(), out);
                put_binary(will.payload, out);
            }
            if let Some(user_name) = self.user_name {
                put_string(user_name, out);
            }
            if let Some(password) = self.password {
                put_binary(password, out);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.user_name.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

impl<'a> Will<'a> {
    fn read(
        version: Version,
        qos: QoS,
        retain: bool,
        reader: &mut Reader<'a>,
    ) -> Result<Self, DecodeError> {
        let properties = if version.is_v5() {
            Properties::read(PropertyScope::Will, reader)?
        } else {
            Properties::EMPTY
        };
        let topic = TopicName::from_bytes(reader.binary()?).map_err(DecodeError::TopicName)?;
        Ok(Self {
            qos,
            retain,
            topic,
            payload: reader.binary()?,
            properties,
        })
    }
}

/// Checks the Connect Flags and returns the QoS of the will; 0 when there is none.
fn check_flags(version: Version, flags: u8) -> Result<QoS, DecodeError> {
    if flags & RESERVED != 0 {
        return Err(DecodeError::ConnectReservedFlag);
    }
    if !version.is_v5() && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    let qos = flags >> 3 & 0b11;
    if flags & WILL == 0 {
        // Without a will MQTT 3.1 disregards its QoS and its retain flag.
        if version != Version::V3_1 {
            if qos != 0 {
                return Err(DecodeError::WillQosWithoutWill);
            }
            if flags & WILL_RETAIN != 0 {
                return Err(DecodeError::WillRetainWithoutWill);
            }
        }
        return Ok(QoS::AtMostOnce);
    }
    QoS::from_u8(qos).ok_or(DecodeError::WillQos3)
}

/// Whether the field of a set flag is to be read. In MQTT 3.1 the Remaining Length takes precedence
/// over the flags of user name and password: the field may be missing at the end of the packet.
fn has_field(version: Version, flag: u8, reader: &Reader<'_>) -> bool {
    flag != 0 && !(version == Version::V3_1 && reader.is_empty())
}

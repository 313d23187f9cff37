//! Writes the packets of a client.

use super::packet::{Ack, Connect, Publish, Subscribe, Unsubscribe, Version};
use super::property::{Property, encode_block};

pub(super) fn u16be(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn u32be(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    u16be(out, value.len() as u16);
    out.extend_from_slice(value);
}

pub(super) fn string(out: &mut Vec<u8>, value: &str) {
    bytes(out, value.as_bytes());
}

pub(super) fn varint(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// A packet from its first byte and its body.
#[must_use]
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    varint(&mut out, body.len() as u32);
    out.extend_from_slice(body);
    out
}

impl Connect {
    /// The packet's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        string(
            &mut body,
            if self.version == Version::V31 {
                "MQIsdp"
            } else {
                "MQTT"
            },
        );
        body.push(self.version.level());
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.user_name.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        body.push(flags);
        u16be(&mut body, self.keep_alive);
        let v5 = self.version == Version::V5;
        if v5 {
            encode_block(&mut body, &self.properties);
        }
        string(&mut body, &self.client_id);
        if let Some(will) = &self.will {
            if v5 {
                encode_block(&mut body, &will.properties);
            }
            string(&mut body, &will.topic);
            bytes(&mut body, &will.payload);
        }
        if let Some(name) = &self.user_name {
            string(&mut body, name);
        }
        if let Some(password) = &self.password {
            bytes(&mut body, password);
        }
        frame(0x10, &body)
    }
}

impl Publish {
    /// The packet's bytes.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        string(&mut body, &self.topic);
        if self.qos > 0 {
            u16be(&mut body, self.id);
        }
        if version == Version::V5 {
            encode_block(&mut body, &self.properties);
        }
        body.extend_from_slice(&self.payload);
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        frame(first, &body)
    }
}

impl Ack {
    /// The bytes of the acknowledgement whose first byte is `first`, as short as may be.
    #[must_use]
    pub fn encode(&self, first: u8, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        u16be(&mut body, self.id);
        if version == Version::V5 && (self.code != 0 || !self.properties.is_empty()) {
            body.push(self.code);
            if !self.properties.is_empty() {
                encode_block(&mut body, &self.properties);
            }
        }
        frame(first, &body)
    }
}

impl Subscribe {
    /// The packet's bytes.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        u16be(&mut body, self.id);
        if version == Version::V5 {
            encode_block(&mut body, &self.properties);
        }
        for (filter, options) in &self.filters {
            string(&mut body, filter);
            body.push(*options);
        }
        frame(0x82, &body)
    }
}

impl Unsubscribe {
    /// The packet's bytes.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        u16be(&mut body, self.id);
        if version == Version::V5 {
            encode_block(&mut body, &[]);
        }
        for filter in &self.filters {
            string(&mut body, filter);
        }
        frame(0xA2, &body)
    }
}

/// A DISCONNECT of MQTT 5 with a reason code and properties.
#[must_use]
pub fn disconnect(code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![code];
    if !properties.is_empty() {
        encode_block(&mut body, properties);
    }
    frame(0xE0, &body)
}

/// An AUTH packet.
#[must_use]
pub fn auth(code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![code];
    encode_block(&mut body, properties);
    frame(0xF0, &body)
}

//! A packet as a proxy sees it: its bytes, with just enough structure to spoil one thing of it.
//!
//! Offsets are looked for in what a test or a server has sent, which need not be well-formed: what is
//! not there is not changed.

use std::ops::Range;

use tidegate_tests::wire::{Property, Version, frame};

use crate::fault::packet;

/// A packet on its way through a proxy.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) version: Version,
    /// First byte of the fixed header: type and flags.
    pub(crate) first: u8,
    /// Variable header and payload.
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// Cuts the first packet off `bytes`; `None` while it is not whole. An error if it cannot be one.
    pub(crate) fn cut(bytes: &mut Vec<u8>, version: Version) -> Result<Option<Self>, ()> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (mut length, mut shift, mut position) = (0_usize, 0, 1);
        loop {
            let Some(&byte) = bytes.get(position) else {
                return Ok(None);
            };
            length |= usize::from(byte & 0x7F) << shift;
            (shift, position) = (shift + 7, position + 1);
            if byte & 0x80 == 0 {
                // Longer than it need be: written again it would be another packet.
                if byte == 0 && position > 2 {
                    return Err(());
                }
                break;
            }
            if shift > 21 {
                return Err(());
            }
        }
        if bytes.len() < position + length {
            return Ok(None);
        }
        let body = bytes[position..position + length].to_vec();
        bytes.drain(..position + length);
        Ok(Some(Self {
            version,
            first,
            body,
        }))
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        frame(self.first, &self.body)
    }

    /// Its type: the first byte without flags.
    pub(crate) fn kind(&self) -> u8 {
        self.first & 0xF0
    }

    /// The QoS of a PUBLISH.
    pub(crate) fn qos(&self) -> u8 {
        self.first >> 1 & 3
    }

    /// The two bytes at `position` as a number; 0 if they are not there.
    pub(crate) fn u16_at(&self, position: usize) -> u16 {
        let byte = |position| self.body.get(position).copied().unwrap_or(0);
        u16::from_be_bytes([byte(position), byte(position + 1)])
    }

    /// The topic name of a PUBLISH.
    pub(crate) fn topic(&self) -> &[u8] {
        let end = 2 + usize::from(self.u16_at(0));
        self.body.get(2..end).unwrap_or_default()
    }

    /// Where the packet identifier is, if the packet has one.
    fn id_position(&self) -> Option<usize> {
        match self.kind() {
            packet::PUBLISH if self.qos() == 0 => None,
            packet::PUBLISH => Some(2 + usize::from(self.u16_at(0))),
            packet::PUBACK
            | packet::PUBREC
            | packet::PUBREL
            | packet::PUBCOMP
            | packet::SUBSCRIBE
            | packet::SUBACK
            | packet::UNSUBSCRIBE
            | packet::UNSUBACK => Some(0),
            _ => None,
        }
    }

    /// The packet identifier; 0 if there is none.
    pub(crate) fn id(&self) -> u16 {
        self.id_position()
            .map_or(0, |position| self.u16_at(position))
    }

    /// Gives it another packet identifier.
    pub(crate) fn set_id(&mut self, id: u16) {
        let Some(position) = self.id_position() else {
            return;
        };
        if let Some(bytes) = self.body.get_mut(position..position + 2) {
            bytes.copy_from_slice(&id.to_be_bytes());
        }
    }

    /// Where the property length of MQTT 5 begins, if there is one.
    fn properties_position(&self) -> Option<usize> {
        if self.version != Version::V5 {
            return None;
        }
        let position = match self.kind() {
            // Protocol name, level, flags, keep alive.
            packet::CONNECT => 2 + usize::from(self.u16_at(0)) + 4,
            packet::CONNACK => 2,
            packet::PUBLISH => 2 + usize::from(self.u16_at(0)) + 2 * usize::from(self.qos() > 0),
            packet::PUBACK | packet::PUBREC | packet::PUBREL | packet::PUBCOMP => 3,
            packet::SUBSCRIBE | packet::SUBACK | packet::UNSUBSCRIBE | packet::UNSUBACK => 2,
            packet::DISCONNECT | packet::AUTH => 1,
            _ => return None,
        };
        (position < self.body.len()).then_some(position)
    }

    /// The range of the properties, without their length, and where the length begins.
    fn properties(&self) -> Option<(usize, Range<usize>)> {
        let start = self.properties_position()?;
        let (mut length, mut shift, mut position) = (0_usize, 0, start);
        loop {
            let byte = *self.body.get(position)?;
            length |= usize::from(byte & 0x7F) << shift;
            (shift, position) = (shift + 7, position + 1);
            if byte & 0x80 == 0 || shift > 21 {
                break;
            }
        }
        let range = position..position + length;
        (range.end <= self.body.len()).then_some((start, range))
    }

    fn set_properties(&mut self, block: &[u8]) {
        let Some((start, range)) = self.properties() else {
            return;
        };
        // The length's encoding is that of a packet's remaining length.
        let encoded = frame(0, block);
        self.body
            .splice(start..range.end, encoded[1..].iter().copied());
    }

    /// Where each property is: its identifier and its bytes within the block.
    fn each_property(block: &[u8]) -> Vec<(u8, Range<usize>)> {
        let mut found = Vec::new();
        let mut start = 0;
        while let Some(&id) = block.get(start) {
            let u16_at = |position: usize| {
                let bytes = block.get(position..position + 2);
                bytes.map_or(0, |bytes| {
                    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
                })
            };
            let value = start + 1;
            let length = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => 1,
                0x13 | 0x21..=0x23 => 2,
                0x02 | 0x11 | 0x18 | 0x27 => 4,
                0x0B => {
                    let more = block[value..].iter().take_while(|byte| **byte >= 0x80);
                    1 + more.count()
                }
                0x26 => {
                    let name = 2 + u16_at(value);
                    name + 2 + u16_at(value + name)
                }
                _ => 2 + u16_at(value),
            };
            let end = value + length;
            if end > block.len() {
                break;
            }
            found.push((id, start..end));
            start = end;
        }
        found
    }

    /// Whether it has a property of this identifier.
    pub(crate) fn has_property(&self, id: u8) -> bool {
        self.properties().is_some_and(|(_, range)| {
            let found = Self::each_property(&self.body[range]);
            found.iter().any(|(found, _)| *found == id)
        })
    }

    /// Takes away every property of this identifier.
    pub(crate) fn remove_property(&mut self, id: u8) {
        let Some((_, range)) = self.properties() else {
            return;
        };
        let block = self.body[range].to_vec();
        let kept: Vec<u8> = Self::each_property(&block)
            .into_iter()
            .filter(|(found, _)| *found != id)
            .flat_map(|(_, range)| block[range].to_vec())
            .collect();
        self.set_properties(&kept);
    }

    /// Adds a property behind the others. An acknowledgement, DISCONNECT or AUTH in a short form is
    /// brought into the long one first.
    pub(crate) fn add_property(&mut self, property: &Property) {
        match self.kind() {
            packet::PUBACK | packet::PUBREC | packet::PUBREL | packet::PUBCOMP => {
                self.body.resize(self.body.len().max(4), 0);
            }
            packet::DISCONNECT | packet::AUTH => {
                self.body.resize(self.body.len().max(2), 0);
            }
            _ => {}
        }
        let Some((_, range)) = self.properties() else {
            return;
        };
        let mut block = self.body[range].to_vec();
        property.write(&mut block);
        self.set_properties(&block);
    }

    /// Gives a property another value, where it has it at all.
    pub(crate) fn set_property(&mut self, property: &Property) {
        if self.has_property(property.id()) {
            self.remove_property(property.id());
            self.add_property(property);
        }
    }

    /// Gives it another reason code (in CONNACK before MQTT 5.0: return code), where it has one code.
    pub(crate) fn set_code(&mut self, code: u8) {
        let position = match self.kind() {
            packet::CONNACK => 1,
            packet::PUBACK | packet::PUBREC | packet::PUBREL | packet::PUBCOMP => 2,
            packet::DISCONNECT | packet::AUTH => 0,
            _ => return,
        };
        self.body.resize(self.body.len().max(position + 1), 0);
        self.body[position] = code;
    }

    /// Gives a SUBACK or UNSUBACK these codes.
    pub(crate) fn set_codes(&mut self, codes: &[u8]) {
        let start = match (self.kind(), self.properties()) {
            (packet::SUBACK | packet::UNSUBACK, Some((_, range))) => range.end,
            (packet::SUBACK | packet::UNSUBACK, None) => 2,
            _ => return,
        };
        self.body.truncate(start);
        self.body.extend_from_slice(codes);
    }

    /// The codes of a SUBACK or UNSUBACK, or the payload of a PUBLISH: what is behind the properties.
    pub(crate) fn payload(&self) -> &[u8] {
        let start = match self.properties() {
            Some((_, range)) => range.end,
            None => match self.kind() {
                packet::PUBLISH => {
                    2 + usize::from(self.u16_at(0)) + 2 * usize::from(self.qos() > 0)
                }
                _ => 2,
            },
        };
        self.body.get(start..).unwrap_or_default()
    }

    /// Gives a PUBLISH another payload.
    pub(crate) fn set_payload(&mut self, payload: &[u8]) {
        let length = self.body.len() - self.payload().len();
        self.body.truncate(length);
        self.body.extend_from_slice(payload);
    }

    /// Gives a PUBLISH another topic name.
    pub(crate) fn set_topic(&mut self, topic: &str) {
        let end = 2 + self.topic().len();
        let mut name = (topic.len() as u16).to_be_bytes().to_vec();
        name.extend_from_slice(topic.as_bytes());
        self.body.splice(..end, name);
    }

    /// Gives a PUBLISH another QoS; a packet identifier appears or goes as it must.
    pub(crate) fn set_qos(&mut self, qos: u8) {
        let position = 2 + self.topic().len();
        if self.qos() == 0 && qos > 0 {
            self.body.splice(position..position, [0, 77]);
        } else if self.qos() > 0 && qos == 0 {
            self.body.drain(position..position + 2);
        }
        self.first = self.first & !6 | qos << 1;
    }
}

//! A publisher: its messages are made once, for each topic, and sent again and again with another packet
//! identifier, sequence number and time.

use std::io::IoSlice;

use anyhow::Result;
use tidegate_tests::wire::{Property, Publish};

use super::connection::Connection;
use super::opening::wire_version;
use super::window::Window;
use crate::order::{Traffic, Version};

/// Bytes of a payload that tell the message: publisher, sequence number, time.
pub(super) const STAMP: usize = 4 + 8 + 8;
/// The most bytes of one write.
const WRITE: usize = 128 * 1024;
/// The most messages of one write when the filler is not copied.
const SLICED: usize = 32;
/// Bytes of filler from which on it is not copied.
const LARGE: usize = 1024;

/// What a message says of itself.
pub(super) struct Stamp {
    pub(super) publisher: u32,
    pub(super) sequence: u64,
    pub(super) time: u64,
}

impl Stamp {
    /// Into a payload, the time left out.
    pub(super) fn write(payload: &mut [u8], publisher: u32, sequence: u64) {
        payload[..4].copy_from_slice(&publisher.to_be_bytes());
        payload[4..12].copy_from_slice(&sequence.to_be_bytes());
    }

    /// From a payload.
    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let time = rest.first_chunk()?;
        Some(Self {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u64::from_be_bytes(*sequence),
            time: u64::from_be_bytes(*time),
        })
    }
}

/// A message's bytes up to the end of its stamp, and where to write into them.
struct Head {
    bytes: Box<[u8]>,
    /// Where the packet identifier is, if it has one.
    packet_id: Option<usize>,
}

pub(super) struct Publisher {
    heads: Box<[Head]>,
    /// The topic whose turn it is.
    turn: usize,
    filler: Box<[u8]>,
    /// Bytes of the properties of a message.
    properties: usize,
    /// Messages of one write.
    batch: u32,
}

impl Publisher {
    pub(super) fn new(number: u32, traffic: &Traffic) -> Self {
        let payload = traffic.payload as usize;
        let mut filled = vec![b'.'; payload];
        Stamp::write(&mut filled, number, 0);
        let properties = match traffic.version {
            Version::V5 if traffic.properties => properties(number),
            Version::V3 | Version::V5 => Vec::new(),
        };
        let heads = (0..traffic.topics).map(|topic| {
            let mut publish = Publish::new(&topic_name(number, topic), &filled).qos(traffic.qos);
            publish.properties.clone_from(&properties);
            let mut bytes = publish.encode(wire_version(traffic.version));
            bytes.truncate(bytes.len() - payload + STAMP);
            let length_of_length = bytes[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
            let id = 1 + length_of_length + 2 + publish.topic.len();
            Head {
                bytes: bytes.into_boxed_slice(),
                packet_id: (traffic.qos > 0).then_some(id),
            }
        });
        let heads: Box<[Head]> = heads.collect();
        let filler = vec![b'.'; payload - STAMP].into_boxed_slice();
        let longest = heads.iter().map(|head| head.bytes.len()).max().unwrap_or(0);
        let batch = WRITE / (longest + filler.len());
        let most = if filler.len() < LARGE { WRITE } else { SLICED };
        let mut block = Vec::new();
        for property in &properties {
            property.write(&mut block);
        }
        Self {
            heads,
            turn: 0,
            // Fits: not more than bytes of a write.
            batch: batch.clamp(1, most) as u32,
            filler,
            properties: block.len(),
        }
    }

    /// Bytes of the properties of a message.
    pub(super) fn properties(&self) -> usize {
        self.properties
    }

    /// Bytes of its largest packet.
    pub(super) fn largest(&self) -> usize {
        let heads = self.heads.iter().map(|head| head.bytes.len()).max();
        heads.unwrap_or(0) + self.filler.len()
    }

    /// Bytes of a message of its first topic, without what only the wire needs: its packet identifier.
    pub(super) fn kept(&self) -> usize {
        let head = &self.heads[0];
        head.bytes.len() + self.filler.len() - if head.packet_id.is_some() { 2 } else { 0 }
    }

    /// Sends so many messages, each with the time that `time` gives for its sequence number, as far as
    /// the socket takes them.
    pub(super) fn publish(
        &mut self,
        connection: &mut Connection,
        window: &mut Window,
        mut count: u32,
        scratch: &mut Vec<u8>,
        time: impl Fn(u64) -> u64,
    ) -> Result<()> {
        while count > 0 && !connection.is_blocked() {
            let batch = count.min(self.batch);
            count -= batch;
            scratch.clear();
            let first = self.turn;
            let copied = self.filler.len() < LARGE;
            for _ in 0..batch {
                let sequence = window.send();
                let packet_id = window.packet_id(sequence);
                let head = &self.heads[self.turn];
                let start = scratch.len();
                scratch.extend_from_slice(&head.bytes);
                let message = &mut scratch[start..];
                if let Some(at) = head.packet_id {
                    message[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
                }
                let stamp = message.len() - STAMP + 4;
                message[stamp..stamp + 8].copy_from_slice(&sequence.to_be_bytes());
                message[stamp + 8..].copy_from_slice(&time(sequence).to_be_bytes());
                if copied {
                    scratch.extend_from_slice(&self.filler);
                }
                self.turn += 1;
                if self.turn == self.heads.len() {
                    self.turn = 0;
                }
            }
            if copied {
                connection.send(scratch)?;
            } else {
                self.send_sliced(connection, scratch, first, batch)?;
            }
        }
        Ok(())
    }

    /// Sends heads that lie one behind the other, each with the filler.
    fn send_sliced(
        &self,
        connection: &mut Connection,
        mut heads: &[u8],
        first: usize,
        count: u32,
    ) -> Result<()> {
        let mut slices = [IoSlice::new(&[]); 2 * SLICED];
        let slices = &mut slices[..2 * count as usize];
        for (index, pair) in slices.chunks_exact_mut(2).enumerate() {
            let length = self.heads[(first + index) % self.heads.len()].bytes.len();
            let (head, rest) = heads.split_at(length);
            pair[0] = IoSlice::new(head);
            pair[1] = IoSlice::new(&self.filler);
            heads = rest;
        }
        connection.send_all(slices)
    }
}

/// The topic of a publisher.
pub(super) fn topic_name(publisher: u32, topic: u32) -> String {
    format!("bench/{publisher}/{topic}")
}

/// What a telemetry client says with each message.
fn properties(number: u32) -> Vec<Property> {
    vec![
        Property::MessageExpiry(3_600),
        Property::ContentType("application/json".to_owned()),
        Property::user("device", &format!("sensor-{number}")),
        Property::user("schema", "telemetry/2"),
    ]
}

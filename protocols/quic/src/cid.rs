//! Connection identifiers that name the node which gave them, so that a load balancer finds it wherever the
//! client has moved to.
//!
//! The layout is that of the plaintext algorithm of QUIC-LB (draft-ietf-quic-load-balancers-21, section 5.2
//! without a key): an octet with three bits of configuration and five random ones, the node identifier, and
//! random octets.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::rand;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// Random octets behind the node identifier: as many as connections of one node can be told apart with, and
/// can be guessed with little hope.
const NONCE: usize = 8;
/// Octets of a node identifier at the most, which leaves room for the nonce in 20 octets (RFC 9000 section
/// 17.2).
const LONGEST: usize = 8;
/// The bits of the first octet that are random.
const RANDOM_BITS: u8 = 0x1F;

/// What connection identifiers say of the node: 1 to 8 octets, and the number of the configuration that a load
/// balancer reads them by (0 to 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    octets: [u8; LONGEST],
    len: usize,
    configuration: u8,
}

impl NodeId {
    /// `None` unless there are 1 to 8 octets and the configuration is 0 to 6; 7 is for identifiers that no
    /// load balancer can read.
    #[must_use]
    pub fn new(octets: &[u8], configuration: u8) -> Option<Self> {
        if octets.is_empty() || octets.len() > LONGEST || configuration > 6 {
            return None;
        }
        let mut all = [0; LONGEST];
        all[..octets.len()].copy_from_slice(octets);
        Some(Self {
            octets: all,
            len: octets.len(),
            configuration,
        })
    }

    fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// Hexadecimal digits, two an octet; configuration 0.
impl FromStr for NodeId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be 1 to 8 octets in hexadecimal, such as \"0a01\"";
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(WRONG);
        }
        let octets: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        octets.and_then(|octets| Self::new(&octets, 0)).ok_or(WRONG)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for octet in self.octets() {
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({}:{self})", self.configuration)
    }
}

/// Makes connection identifiers of one node.
pub(crate) struct Generator(pub(crate) NodeId);

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 1 + LONGEST + NONCE];
        let id = &mut id[..self.cid_len()];
        // Without randomness nothing of TLS works either; then identifiers are only harder to tell apart.
        let _ = rand::fill(id);
        let node = self.0.octets();
        id[0] = self.0.configuration << 5 | id[0] & RANDOM_BITS;
        id[1..=node.len()].copy_from_slice(node);
        ConnectionId::new(id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let node = self.0.octets();
        let own = id.len() == self.cid_len()
            && id[0] >> 5 == self.0.configuration
            && id[1..].starts_with(node);
        if own { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        1 + self.0.len + NONCE
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quic_lb_5_2_an_identifier_names_its_node_and_differs_otherwise() {
        let node: NodeId = "0a01ff".parse().unwrap();
        let mut generator = Generator(node);
        let (one, other) = (generator.generate_cid(), generator.generate_cid());
        for id in [one, other] {
            assert_eq!(id.len(), 12);
            assert_eq!(id[0] >> 5, 0);
            assert_eq!(id[1..4], [0x0A, 0x01, 0xFF]);
            generator.validate(&id).unwrap();
        }
        assert_ne!(one[4..], other[4..]);
        let mut elsewhere = Generator(NodeId::new(&[0x0A, 0x01, 0xFE], 0).unwrap());
        assert!(generator.validate(&elsewhere.generate_cid()).is_err());
        let mut rotated = Generator(NodeId::new(&[0x0A, 0x01, 0xFF], 3).unwrap());
        let id = rotated.generate_cid();
        assert_eq!(id[0] >> 5, 3);
        assert!(generator.validate(&id).is_err());
    }

    #[test]
    fn a_node_identifier_is_hexadecimal() {
        for text in ["00", "0a01", "0123456789abcdef"] {
            assert_eq!(text.parse::<NodeId>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0g", "0123456789abcdef01", "0x", "é0"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
        assert!(NodeId::new(&[1], 7).is_none());
    }
}

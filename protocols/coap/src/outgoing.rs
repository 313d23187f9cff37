//! Datagrams that are to be sent, one behind the other in one buffer.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Between whom datagrams go: an answer leaves from the address that was spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The endpoint.
    pub remote: SocketAddr,
    /// The address of ours, where it is known.
    pub local: Option<IpAddr>,
}

/// Datagrams to send.
#[derive(Debug, Default)]
pub struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    datagrams: Vec<(Path, Range<usize>)>,
}

impl Outgoing {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Appends a datagram.
    pub fn push(&mut self, path: Path, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.finish(path, start);
    }

    /// The datagrams in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Path, &[u8])> {
        self.datagrams
            .iter()
            .map(|(path, range)| (*path, &self.bytes[range.clone()]))
    }

    /// Forgets them and keeps the memory, within reason.
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.bytes.clear();
        self.bytes.shrink_to(256 << 10);
        self.datagrams.shrink_to(1_024);
    }

    /// Forgets the datagrams to an address.
    pub(crate) fn forget(&mut self, remote: SocketAddr) {
        self.datagrams.retain(|(path, _)| path.remote != remote);
    }

    /// What was appended since `start` is a datagram.
    pub(crate) fn finish(&mut self, path: Path, start: usize) {
        self.datagrams.push((path, start..self.bytes.len()));
    }
}

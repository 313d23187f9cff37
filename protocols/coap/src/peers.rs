//! The endpoints of one listener, by their places and by their addresses.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};

use hashbrown::HashTable;
use slab::Slab;

use crate::peer::Peer;

/// All endpoints that are kept.
#[derive(Default)]
pub(crate) struct Peers {
    /// In boxes: a table that grows would hold room for as many again.
    by_place: Slab<Box<Peer>>,
    /// Places only: the addresses are in the endpoints.
    by_address: HashTable<u32>,
    hasher: RandomState,
}

impl Peers {
    pub(crate) fn len(&self) -> usize {
        self.by_place.len()
    }

    pub(crate) fn contains(&self, place: usize) -> bool {
        self.by_place.contains(place)
    }

    /// The place of the endpoint at an address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<usize> {
        let hash = self.hasher.hash_one(address);
        let is_there = |place: &u32| self.by_place[*place as usize].path.remote == address;
        let place = self.by_address.find(hash, is_there)?;
        Some(*place as usize)
    }

    /// Keeps an endpoint whose address is that of no other. There are at most as many as `coap.max_endpoints`, for which
    /// 32 bits are enough.
    pub(crate) fn insert(&mut self, peer: Peer) -> usize {
        let hash = self.hasher.hash_one(peer.path.remote);
        let place = self.by_place.insert(Box::new(peer));
        let (by_place, hasher) = (&self.by_place, &self.hasher);
        let rehash = |place: &u32| hasher.hash_one(by_place[*place as usize].path.remote);
        self.by_address.insert_unique(hash, place as u32, rehash);
        place
    }

    pub(crate) fn remove(&mut self, place: usize) -> Box<Peer> {
        let peer = self.by_place.remove(place);
        let hash = self.hasher.hash_one(peer.path.remote);
        let is_it = |other: &u32| *other == place as u32;
        if let Ok(entry) = self.by_address.find_entry(hash, is_it) {
            entry.remove();
        }
        peer
    }
}

impl Index<usize> for Peers {
    type Output = Peer;

    fn index(&self, place: usize) -> &Peer {
        &self.by_place[place]
    }
}

impl IndexMut<usize> for Peers {
    fn index_mut(&mut self, place: usize) -> &mut Peer {
        &mut self.by_place[place]
    }
}

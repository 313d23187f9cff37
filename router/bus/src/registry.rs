//! Which client has which session.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use std::hash::BuildHasher;

use crate::client_id::ClientId;
use crate::drops::ClientDrops;
use crate::session::Session;

const SHARDS: usize = 64;

pub(crate) type Sessions = HashMap<ClientId, Arc<Session>, RandomState>;

/// All sessions, by client identifier. A shard's lock makes coming and going of one client one
/// thing at a time; sessions are locked under it, never the other way around.
pub(crate) struct Registry {
    shards: Box<[Mutex<Sessions>]>,
    hasher: RandomState,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn lock(&self, client: &ClientId) -> MutexGuard<'_, Sessions> {
        self.shards[self.hasher.hash_one(client) as usize % SHARDS].lock()
    }

    pub(crate) fn get(&self, client: &ClientId) -> Option<Arc<Session>> {
        self.lock(client).get(client).cloned()
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Session>)) {
        for shard in &self.shards {
            shard.lock().values().for_each(&mut visit);
        }
    }
}

/// Most clients whose drops are remembered after their session has ended.
const REMEMBERED: usize = 10_000;

/// What clients whose sessions have ended lost, the latest of them.
#[derive(Default)]
pub(crate) struct PastDrops(Mutex<(HashMap<ClientId, ClientDrops>, VecDeque<ClientId>)>);

impl PastDrops {
    pub(crate) fn add(&self, client: &ClientId, drops: &ClientDrops) {
        let (by_client, order) = &mut *self.0.lock();
        if let Some(known) = by_client.get_mut(client) {
            known.merge(drops);
            return;
        }
        if order.len() >= REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            by_client.remove(&oldest);
        }
        order.push_back(client.clone());
        by_client.insert(client.clone(), drops.clone());
    }

    pub(crate) fn get(&self, client: &ClientId) -> ClientDrops {
        self.0.lock().0.get(client).cloned().unwrap_or_default()
    }
}

//! A worker's cache: topic → receivers.
//!
//! Each entry carries the generations of the shards it was looked up in; a hit costs a hash and two
//! loads. The cache holds two halves: new and used entries go to the young one; when that has taken
//! half of the byte budget, or ten seconds have passed, it becomes the old one and what was old is
//! forgotten. So the cache is bounded, keeps what is in use, and lets go of subscribers that have
//! ended.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::index::{Generation, Index, Targets};
use crate::time::Timestamp;
use crate::topic::TopicName;

/// How long a topic that is not published to stays, at most twice.
const TURN_MILLIS: u64 = 10_000;

/// What an entry costs beside its topic and targets, about.
const ENTRY_OVERHEAD: usize = 128;

/// One topic and who receives it.
pub(crate) struct Route {
    pub(crate) topic: Arc<str>,
    shard: usize,
    generation: Generation,
    pub(crate) targets: Arc<Targets>,
}

impl Route {
    fn size(&self) -> usize {
        self.topic.len() + self.targets.size() + ENTRY_OVERHEAD
    }

    #[inline]
    fn is_fresh(&self, index: &Index) -> bool {
        index.generation(self.shard) == self.generation
    }
}

#[derive(Default)]
struct Half {
    /// Topic → place in `routes`.
    places: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    routes: Vec<Route>,
    bytes: usize,
}

impl Half {
    /// Adds or replaces the route of its topic and tells its place.
    fn insert(&mut self, route: Route) -> usize {
        self.bytes += route.size();
        if let Some(&place) = self.places.get(&route.topic) {
            let place = place as usize;
            self.bytes -= self.routes[place].size();
            self.routes[place] = route;
            return place;
        }
        let place = self.routes.len();
        // Bounded far below 2^32 by the byte budget.
        self.places.insert(Arc::clone(&route.topic), place as u32);
        self.routes.push(route);
        place
    }
}

pub(crate) struct Routes {
    young: Half,
    old: Half,
    budget: usize,
    turned_at: Timestamp,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl Routes {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            young: Half::default(),
            old: Half::default(),
            budget,
            turned_at: Timestamp::default(),
            hits: 0,
            misses: 0,
        }
    }

    /// The receivers of `topic`.
    #[inline]
    pub(crate) fn get(&mut self, index: &Index, topic: TopicName<'_>) -> &Route {
        let known = self
            .young
            .places
            .get(topic.as_str())
            .map(|&place| place as usize);
        let place = match known {
            Some(place) if self.young.routes[place].is_fresh(index) => {
                self.hits += 1;
                place
            }
            _ => self.refresh(index, topic),
        };
        &self.young.routes[place]
    }

    #[cold]
    fn refresh(&mut self, index: &Index, topic: TopicName<'_>) -> usize {
        let text = topic.as_str();
        if let Some(&place) = self.old.places.get(text) {
            let route = &self.old.routes[place as usize];
            if route.is_fresh(index) {
                self.hits += 1;
                let route = Route {
                    topic: Arc::clone(&route.topic),
                    targets: Arc::clone(&route.targets),
                    ..*route
                };
                return self.remember(route);
            }
        }
        self.misses += 1;
        let shard = index.shard_of_topic(topic);
        // Loaded before the walk: a change in between makes the entry stale, never wrong.
        let generation = index.generation(shard);
        let targets = Arc::new(index.lookup(topic));
        self.remember(Route {
            topic: text.into(),
            shard,
            generation,
            targets,
        })
    }

    fn remember(&mut self, route: Route) -> usize {
        if self.young.bytes > self.budget / 2 {
            self.turn();
        }
        self.young.insert(route)
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }

    /// Lets go of what has not been used for a while.
    pub(crate) fn maintain(&mut self, now: Timestamp) {
        if now.millis_since(self.turned_at) >= TURN_MILLIS {
            self.turned_at = now;
            self.turn();
        }
    }
}

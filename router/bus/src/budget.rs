//! The ceiling for everything that waits for clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of bytes with a ceiling. Shared by all sessions of a bus.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    limit: usize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// Takes `bytes` out of the budget; `false` and nothing taken when they do not fit.
    pub fn reserve(&self, bytes: usize) -> bool {
        // Taken first and given back when too much: under contention a request that would just
        // fit may be refused, but the ceiling holds.
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Takes `bytes` also beyond the ceiling: for what is bounded by other means.
    pub fn reserve_anyway(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether `bytes` would fit now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.limit
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The ceiling in bytes.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Reserves `bytes` until the returned value is dropped.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        self.reserve(bytes).then(|| Charge {
            budget: Arc::clone(self),
            bytes,
        })
    }
}

/// Bytes reserved in a [`MemoryBudget`], given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Charge {
    /// Changes the reservation to `bytes`; `false` and unchanged when they do not fit.
    pub fn resize(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            if !self.budget.reserve(bytes - self.bytes) {
                return false;
            }
        } else {
            self.budget.release(self.bytes - bytes);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_holds_and_everything_comes_back() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut charge = budget.charge(60).unwrap();
        assert!(budget.charge(41).is_none());
        assert!(!charge.resize(101));
        assert!(charge.resize(100));
        assert_eq!(budget.used(), 100);
        assert!(charge.resize(1));
        drop(charge);
        assert_eq!(budget.used(), 0);
    }
}

//! Who may hold a connection: how many at once, from one address, and how fast new ones come. There
//! is one count of all connections and one of each listener's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::codec::ReasonCode;
use crate::settings::Settings;

/// Most connections at once that are read only to be refused with a reason; beyond that they are
/// closed without one, so that refusing costs no more than serving.
const MAX_REFUSALS: usize = 256;

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many connections as there may be.
    Connections,
    /// As many from this address as there may be.
    ConnectionsPerIp,
    /// They come too fast.
    Rate,
}

impl Refusal {
    pub(crate) const fn reason(self) -> ReasonCode {
        match self {
            Self::Connections => ReasonCode::ServerBusy,
            Self::ConnectionsPerIp => ReasonCode::QuotaExceeded,
            Self::Rate => ReasonCode::ConnectionRateExceeded,
        }
    }
}

/// The counts of one listener, or of all together.
#[derive(Debug)]
pub(crate) struct Admission {
    open: AtomicUsize,
    refusing: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    rate: Mutex<Rate>,
    all_closed: Notify,
    max_connections: usize,
    max_per_ip: usize,
}

/// A bucket that holds one second's worth of connections.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    tokens: f64,
    refilled: Instant,
}

impl Admission {
    pub(crate) fn new(settings: &Settings) -> Self {
        let per_second = f64::from(settings.max_connect_rate);
        Self {
            open: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            by_ip: Mutex::default(),
            rate: Mutex::new(Rate {
                per_second,
                tokens: per_second,
                refilled: Instant::now(),
            }),
            all_closed: Notify::new(),
            max_connections: settings.max_connections,
            max_per_ip: settings.max_connections_per_ip,
        }
    }

    /// Counts a connection in, whoever it is from. It counts until [`leave`](Self::leave).
    pub(crate) fn enter(&self) -> Result<(), Refusal> {
        if !self.rate.lock().take(Instant::now()) {
            return Err(Refusal::Rate);
        }
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max_connections {
            self.leave();
            return Err(Refusal::Connections);
        }
        Ok(())
    }

    /// Counts a connection among those from `ip`. It counts until [`leave_for`](Self::leave_for).
    pub(crate) fn enter_for(&self, ip: IpAddr) -> Result<(), Refusal> {
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        if *count >= self.max_per_ip {
            return Err(Refusal::ConnectionsPerIp);
        }
        *count += 1;
        Ok(())
    }

    pub(crate) fn leave_for(&self, ip: IpAddr) {
        let mut by_ip = self.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&ip);
            }
        }
    }

    pub(crate) fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_closed.notify_waiters();
        }
    }

    /// Whether there is room for less than twice so many connections, or the next takes from the last half of
    /// those that may come within a second.
    pub(crate) fn is_scarce(&self, places: usize) -> bool {
        let room = self.max_connections.saturating_sub(self.open());
        room < places.saturating_mul(2) || self.rate.lock().is_scarce(Instant::now())
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_closed(&self) {
        loop {
            let notified = self.all_closed.notified();
            if self.open() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Rate {
    fn take(&mut self, now: Instant) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        self.refill(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    fn is_scarce(&mut self, now: Instant) -> bool {
        if self.per_second == 0.0 {
            return false;
        }
        self.refill(now);
        self.tokens - 1.0 < self.full() / 2.0
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.full());
    }

    fn full(&self) -> f64 {
        self.per_second.max(1.0)
    }
}

/// A place among those who are told why they are refused.
#[derive(Debug)]
pub(crate) struct Told(Arc<Admission>);

impl Told {
    /// `None`: there are as many as there may be.
    pub(crate) fn new(admission: &Arc<Admission>) -> Option<Self> {
        if admission.refusing.fetch_add(1, Ordering::Relaxed) >= MAX_REFUSALS {
            admission.refusing.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::clone(admission)))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn admission(change: impl FnOnce(&mut Settings)) -> Arc<Admission> {
        let mut settings = Settings::default();
        change(&mut settings);
        Arc::new(Admission::new(&settings))
    }

    fn from(admission: &Admission, last: u8) -> Result<(), Refusal> {
        admission.enter()?;
        let counted = admission.enter_for([127, 0, 0, last].into());
        counted.inspect_err(|_| admission.leave())
    }

    #[test]
    fn the_total_and_the_share_of_one_address_are_bounded_and_given_back() {
        let admission = admission(|s| {
            s.max_connections = 3;
            s.max_connections_per_ip = 2;
        });
        from(&admission, 1).unwrap();
        from(&admission, 1).unwrap();
        assert_eq!(from(&admission, 1).unwrap_err(), Refusal::ConnectionsPerIp);
        from(&admission, 2).unwrap();
        assert_eq!(from(&admission, 3).unwrap_err(), Refusal::Connections);
        admission.leave_for([127, 0, 0, 1].into());
        admission.leave();
        assert!(from(&admission, 1).is_ok());
        assert_eq!(admission.open(), 3);
    }

    #[test]
    fn refusals_with_a_reason_are_bounded_too() {
        let admission = admission(|s| s.max_connections = 0);
        let told: Vec<_> = (0..MAX_REFUSALS)
            .map(|_| Told::new(&admission).unwrap())
            .collect();
        assert!(Told::new(&admission).is_none());
        drop(told);
        assert!(Told::new(&admission).is_some());
    }

    #[test]
    fn what_is_left_is_scarce_before_it_is_gone() {
        let admission = admission(|s| s.max_connections = 4);
        assert!(!admission.is_scarce(2));
        assert!(admission.is_scarce(3));
        from(&admission, 1).unwrap();
        assert!(admission.is_scarce(2));
        assert!(!admission.is_scarce(1));
        let start = Instant::now();
        for (per_second, free) in [(0.0, 100), (1.0, 0), (10.0, 5)] {
            let mut rate = Rate {
                per_second,
                tokens: per_second,
                refilled: start,
            };
            let taken = (0..100).take_while(|_| !rate.is_scarce(start) && rate.take(start));
            assert_eq!(taken.count(), free, "{per_second} a second");
        }
    }

    #[test]
    fn the_rate_lets_a_burst_of_one_second_pass() {
        let start = Instant::now();
        let mut rate = Rate {
            per_second: 10.0,
            tokens: 10.0,
            refilled: start,
        };
        assert_eq!((0..20).filter(|_| rate.take(start)).count(), 10);
        assert!(rate.take(start + Duration::from_millis(150)));
        assert!(!rate.take(start + Duration::from_millis(150)));
    }
}

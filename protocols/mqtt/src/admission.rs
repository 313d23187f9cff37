//! Who may hold a connection: how many at once, from one address, and how fast new ones come.

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

/// The counts of all listeners together.
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

    /// Counts a connection in. `Err`: it may be read to be told why it is refused; `None` inside:
    /// not even that.
    pub(crate) fn admit(
        self: &Arc<Self>,
        ip: IpAddr,
    ) -> Result<Admitted, (Refusal, Option<Refused>)> {
        let refuse = |refusal| Err((refusal, Refused::new(self)));
        if !self.rate.lock().take(Instant::now()) {
            return refuse(Refusal::Rate);
        }
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max_connections {
            self.leave();
            return refuse(Refusal::Connections);
        }
        {
            let mut by_ip = self.by_ip.lock();
            let count = by_ip.entry(ip).or_default();
            if *count < self.max_per_ip {
                *count += 1;
                return Ok(Admitted {
                    admission: Arc::clone(self),
                    ip,
                });
            }
        }
        self.leave();
        refuse(Refusal::ConnectionsPerIp)
    }

    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_closed.notify_waiters();
        }
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
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second.max(1.0));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// A place among the connections; given back on drop.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        {
            let mut by_ip = self.admission.by_ip.lock();
            if let Some(count) = by_ip.get_mut(&self.ip) {
                *count -= 1;
                if *count == 0 {
                    by_ip.remove(&self.ip);
                }
            }
        }
        self.admission.leave();
    }
}

/// A place among those who are told why they are refused.
#[derive(Debug)]
pub(crate) struct Refused(Arc<Admission>);

impl Refused {
    fn new(admission: &Arc<Admission>) -> Option<Self> {
        if admission.refusing.fetch_add(1, Ordering::Relaxed) >= MAX_REFUSALS {
            admission.refusing.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::clone(admission)))
    }
}

impl Drop for Refused {
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

    fn ip(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[test]
    fn the_total_and_the_share_of_one_address_are_bounded_and_given_back() {
        let admission = admission(|s| {
            s.max_connections = 3;
            s.max_connections_per_ip = 2;
        });
        let first = admission.admit(ip(1)).unwrap();
        let _second = admission.admit(ip(1)).unwrap();
        assert_eq!(
            admission.admit(ip(1)).unwrap_err().0,
            Refusal::ConnectionsPerIp
        );
        let _third = admission.admit(ip(2)).unwrap();
        assert_eq!(admission.admit(ip(3)).unwrap_err().0, Refusal::Connections);
        drop(first);
        assert!(admission.admit(ip(1)).is_ok());
        assert_eq!(admission.open(), 2);
    }

    #[test]
    fn refusals_with_a_reason_are_bounded_too() {
        let admission = admission(|s| s.max_connections = 0);
        let told: Vec<_> = (0..MAX_REFUSALS)
            .map(|_| admission.admit(ip(1)).unwrap_err().1.unwrap())
            .collect();
        assert!(admission.admit(ip(1)).unwrap_err().1.is_none());
        drop(told);
        assert!(admission.admit(ip(1)).unwrap_err().1.is_some());
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

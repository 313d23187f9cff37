//! What the bus has to do at some time: sessions and wills that fall due, keep alives to look at.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use parking_lot::Mutex;

use crate::session::Session;
use crate::store::Epoch;
use crate::time::Timestamp;

/// Times are rounded up to this many milliseconds.
const TICK_MILLIS: u64 = 250;

/// A timer is looked at after this long at the latest, and set again when it is not due. So what is
/// left of sessions and connections that ended meanwhile is held for a minute, not for the days that
/// a session may last; a client that comes and goes without end leaves nothing that grows.
const LONGEST: Duration = Duration::from_secs(60);

/// What may be due. The epoch tells whether the client has been back since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    SessionExpiry,
    Will,
    KeepAlive,
}

#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) due: Due,
    pub(crate) session: Weak<Session>,
    pub(crate) epoch: Epoch,
}

/// Timers by tick. A connection has one for its keep alive, looked at once per keep alive, however
/// much it sends.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<BTreeMap<u64, Vec<Timer>>>);

impl Timers {
    pub(crate) fn schedule(&self, now: Timestamp, at: Timestamp, timer: Timer) {
        let at = at.min(now.plus(LONGEST));
        let tick = at.as_millis().div_ceil(TICK_MILLIS);
        self.0.lock().entry(tick).or_default().push(timer);
    }

    /// Takes what is due by `now`.
    pub(crate) fn take_due(&self, now: Timestamp) -> Vec<Timer> {
        let mut timers = self.0.lock();
        let later = timers.split_off(&(now.as_millis() / TICK_MILLIS + 1));
        let due = std::mem::replace(&mut *timers, later);
        due.into_values().flatten().collect()
    }
}

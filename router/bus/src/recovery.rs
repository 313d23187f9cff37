//! Taking up what a durable engine has kept.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::drops::DropReason;
use crate::message::Message;
use crate::session::Session;
use crate::store::{Presence, Recovery, StoreError, StoredSession};
use crate::subscriber::Subscriber;
use crate::time::Timestamp;
use crate::timers::Due;
use crate::worker::Worker;

impl Bus {
    /// Takes up everything the engine has kept. Once, before the first client is let in.
    ///
    /// Sessions whose time has passed meanwhile end with the next [`Bus::tick`], and wills that are due are
    /// published then.
    pub fn recover(self: &Arc<Self>) -> Result<(), StoreError> {
        let crashed = self.batch(|worker| {
            let mut recovering = Recovering {
                bus: self,
                worker,
                crashed: Vec::new(),
            };
            self.store().recover(&mut recovering)?;
            Ok(recovering.crashed)
        })?;
        // Told, so that their time does not begin anew with the next crash.
        for session in crashed {
            session.lock().note_absence();
        }
        Ok(())
    }

    /// Makes the session that was kept, with its client away: in the index and with its timers, but not
    /// in the registry.
    pub(crate) fn take_up(&self, now: Timestamp, kept: StoredSession) -> Arc<Session> {
        let delay = kept.will.as_ref().map_or(0, |will| u64::from(will.delay));
        let (ends_at, will_at) = match kept.presence {
            Presence::Away { ends_at, will_at } => (ends_at, will_at),
            Presence::Connected(until) => {
                let ends_at = until.plus_seconds(u64::from(kept.expiry));
                (ends_at, until.plus_seconds(delay).min(ends_at))
            }
        };
        let has_will = kept.will.is_some();
        let epoch = kept.epoch;
        let key = self.new_subscriber_key();
        let shared = Arc::clone(self.shared_arc());
        let session = Arc::new(Session::restore(key, kept, shared, ends_at, will_at));
        for subscription in session.subscriptions() {
            let subscriber: Arc<dyn Subscriber> = Arc::clone(&session) as _;
            self.add_subscription(subscriber, subscription);
        }
        // At the next tick at the earliest: nobody is published to before all sessions are there.
        let later = now.plus(Duration::from_millis(1));
        self.schedule(now, ends_at.max(later), Due::SessionExpiry, &session, epoch);
        if has_will {
            self.schedule(now, will_at.max(later), Due::Will, &session, epoch);
        }
        session
    }
}

struct Recovering<'a> {
    bus: &'a Arc<Bus>,
    worker: &'a Worker,
    /// Sessions whose clients were there when the process ended.
    crashed: Vec<Arc<Session>>,
}

impl Recovery for Recovering<'_> {
    fn retained(&mut self, mut message: Message<'_>) {
        message.retain = true;
        let bus = self.bus;
        if bus
            .retained
            .restore(&mut message, bus.shared_state())
            .is_err()
        {
            // Limits have been lowered since.
            bus.refuse(DropReason::RetainedFull);
        }
    }

    fn session(&mut self, session: StoredSession) {
        let bus = self.bus;
        let client = session.client.clone();
        let crashed = matches!(session.presence, Presence::Connected(_));
        let session = bus.take_up(self.worker.now(), session);
        if crashed {
            self.crashed.push(Arc::clone(&session));
        }
        bus.registry.lock(&client).insert(client.clone(), session);
        bus.counters().sessions.add(1);
    }
}

//! What the bus does as time goes by. Called by its host some times a second.

use std::sync::Arc;

use crate::bus::Bus;
use crate::session::{EndReason, Session};
use crate::store::Epoch;
use crate::time::Timestamp;
use crate::timers::Due;
use crate::worker::Worker;

impl Bus {
    /// Ends sessions whose time is over, publishes wills that are due, ends connections that have
    /// been silent for too long, and forgets retained messages that have expired.
    pub fn tick(&self) {
        self.batch(|worker| {
            let now = worker.now();
            for timer in self.timers.take_due(now) {
                let Some(session) = timer.session.upgrade() else {
                    continue;
                };
                match timer.due {
                    Due::SessionExpiry => self.expire_session(worker, &session, timer.epoch),
                    Due::Will => self.publish_due_will(worker, &session, timer.epoch),
                    Due::KeepAlive => self.check_keep_alive(&session, timer.epoch, now),
                }
            }
            self.purge_retained(now);
        });
    }

    fn expire_session(&self, worker: &mut Worker, session: &Arc<Session>, epoch: Epoch) {
        let leftovers = {
            let mut sessions = self.registry.lock(session.id());
            let mut state = session.lock();
            // The client has been back since.
            if state.epoch != epoch || state.link.is_some() || state.ended {
                return;
            }
            let now = worker.now();
            if state.ends_at > now {
                self.schedule(now, state.ends_at, Due::SessionExpiry, session, epoch);
                return;
            }
            let leftovers = state.end(self.shared_state());
            sessions.remove(session.id());
            leftovers
        };
        self.counters().sessions.sub(1);
        self.counters().sessions_expired.add(1);
        self.settle(worker, session, leftovers);
        self.forget(session, epoch);
    }

    fn publish_due_will(&self, worker: &mut Worker, session: &Arc<Session>, epoch: Epoch) {
        let will = {
            let mut state = session.lock();
            if state.epoch != epoch || state.link.is_some() {
                return;
            }
            let now = worker.now();
            if state.will_at > now && state.will.is_some() {
                self.schedule(now, state.will_at, Due::Will, session, epoch);
                return;
            }
            state.will.take()
        };
        if let Some(will) = will {
            self.publish_will(worker, &will);
            self.will_is_published(session, epoch);
        }
    }

    fn check_keep_alive(&self, session: &Arc<Session>, epoch: Epoch, now: Timestamp) {
        let patience = {
            let Ok(state) = session.lock_as(epoch) else {
                return;
            };
            state.link.as_ref().map_or(0, |link| link.patience_millis())
        };
        let patience = std::time::Duration::from_millis(patience);
        let deadline = session.last_heard().plus(patience);
        if deadline <= now {
            session.end(EndReason::KeepAliveTimeout);
        } else {
            self.schedule(now, deadline, Due::KeepAlive, session, epoch);
        }
    }
}

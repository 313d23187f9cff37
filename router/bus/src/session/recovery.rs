//! A session that an engine gives back, after a restart or from elsewhere.

use std::sync::Arc;

use super::durable::{Durable, flight_of};
use super::{Session, Shared};
use crate::store::{Epoch, Place, SessionChange, Stage, StoredSession, StoredWill};
use crate::subscription::{Subscription, SubscriptionOptions};
use crate::time::Timestamp;
use crate::will::Will;

impl Session {
    /// The session that was kept as `stored`, with its client away until `ends_at`. Its subscriptions are
    /// not in the index yet, and its messages stay where they are until the client returns.
    pub(crate) fn restore(
        key: u64,
        stored: StoredSession,
        shared: Arc<Shared>,
        ends_at: Timestamp,
        will_at: Timestamp,
    ) -> Self {
        let session = Self::new(key, stored.client, shared);
        {
            let mut state = session.lock();
            let mut durable = Durable::new(session.id.clone(), stored.session);
            state.epoch = stored.epoch;
            state.expiry = stored.expiry;
            state.ends_at = ends_at;
            state.will_at = will_at;
            state.will = stored.will.map(|will| Box::new(will_of(will)));
            state.sequence = stored.last_place.0;
            let mut subscriptions = Vec::with_capacity(stored.subscriptions.len());
            for kept in stored.subscriptions {
                if kept.retained_owed {
                    durable.owe_retained(kept.filter.clone());
                }
                let subscription = Subscription::new(kept.filter, kept.options, kept.identifier);
                subscriptions.push(Arc::new(subscription));
            }
            subscriptions.sort_by(|a, b| a.filter().cmp(b.filter()));
            for entry in &stored.in_flight {
                let (Stage::Sent(id) | Stage::Received(id)) = entry.stage else {
                    continue;
                };
                let through = entry.shared.as_ref().map(|filter| {
                    let standing = super::find_arc(&subscriptions, filter);
                    standing.unwrap_or_else(|| {
                        // The subscription was ended with the message on its way.
                        let options = SubscriptionOptions::with_qos(entry.qos);
                        Arc::new(Subscription::new(filter.clone(), options, None))
                    })
                });
                state.inflight.restore(id, flight_of(entry, through));
                if matches!(entry.stage, Stage::Sent(_)) {
                    durable.unloaded.get_or_insert(entry.place);
                }
            }
            state.inflight.relink();
            for id in stored.received {
                // Of an earlier connection, whichever it was.
                state.receiving.insert(id.into(), false, Epoch::default());
            }
            durable.tail = stored.queued;
            state.subscriptions = subscriptions;
            state.durable = Some(Box::new(durable));
        }
        session
    }
}

fn will_of(stored: StoredWill) -> Will {
    Will {
        message: stored.message,
        expires_in: stored.expires_in,
        delay: stored.delay,
    }
}

impl super::State {
    /// Tells the engine until when the client may come back.
    pub(crate) fn note_absence(&mut self) {
        let (ends_at, will_at) = (self.ends_at, self.will_at);
        let will_at = self.will.is_some().then_some(will_at);
        if let Some(durable) = &mut self.durable {
            durable.note(SessionChange::Detached { ends_at, will_at });
        }
    }

    /// The first exchange from `from` on whose message is on disk only.
    pub(super) fn first_unloaded(&mut self, from: Place) -> Option<Place> {
        self.inflight
            .iter_mut()
            .filter(|f| f.message.is_none() && f.step != super::inflight::Step::Complete)
            .map(|flight| Place(flight.sequence))
            .filter(|place| *place >= from)
            .min()
    }
}

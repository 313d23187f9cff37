//! Reading back what waits on disk only: the end of a long queue, and what was in flight before a
//! restart.
//!
//! One page at a time, asked for by the connection when its queue in memory runs low, so that a client
//! with a million messages starts at once and is served at the pace of its window. Entries on disk
//! only stand behind those in memory; while there are any, new ones join them (`docs/design/store.md`).

use std::ops::ControlFlow;
use std::sync::Arc;

use super::inflight::Step;
use super::queue::{ITEM_OVERHEAD, Item};
use super::{EndReason, Locked, Session};
use crate::budget::MemoryBudget;
use crate::drops::DropReason;
use crate::message::{Message, StoredMessage};
use crate::store::{Backlog, Epoch, Place, QueueEntry, QueueReader, SessionChange, Stage};
use crate::store::{StoreError, Ticket};
use crate::subscriber::Subscriber;
use crate::subscription::{Subscription, SubscriptionOptions};

/// Bytes that are read at once.
const PAGE_BYTES: usize = 256 << 10;

/// Entries that are read at once.
const PAGE_ENTRIES: usize = 1_024;

/// The next page is asked for when fewer entries than this are left in memory.
const LOW: usize = PAGE_ENTRIES / 2;

/// A page to be asked for.
#[derive(Clone, Copy)]
pub(super) struct PageRequest {
    session: Epoch,
    from: Place,
    /// The end of what was on disk only when it was asked for.
    last: Place,
    /// The engine has been told of everything before this.
    told_before: Place,
}

impl super::State {
    /// The page to ask for now, if one is missing.
    pub(super) fn next_page(&mut self) -> Option<PageRequest> {
        self.link.as_ref()?;
        let low = self
            .queue
            .as_ref()
            .is_none_or(|queue| queue.acknowledged_entries() < LOW);
        let durable = self.durable.as_deref_mut()?;
        if durable.reading {
            return None;
        }
        let told_before = durable.first_untold().unwrap_or(Place(u64::MAX));
        let waits = durable.has_tail() && durable.tail.first < told_before;
        let from = match durable.unloaded {
            // Something that waits may stand before it: Sent is told of later ones first when publishers
            // race.
            Some(place) if waits => place.min(durable.tail.first),
            Some(place) => place,
            None if waits && low => durable.tail.first,
            None => return None,
        };
        durable.reading = true;
        Some(PageRequest {
            session: durable.session,
            from,
            last: durable.tail.last,
            told_before,
        })
    }
}

impl Session {
    /// Asks for a page. The session's lock must not be held: the engine may answer at once.
    pub(super) fn ask_for(self: &Arc<Self>, request: PageRequest) {
        let page = Page {
            session: Arc::clone(self),
            last: request.last,
            told_before: request.told_before,
            entries: Vec::new(),
            bytes: 0,
        };
        let store = &self.shared.store;
        store.read(&self.id, request.session, request.from, Box::new(page));
    }
}

/// A page on its way from the engine to the session.
struct Page {
    session: Arc<Session>,
    last: Place,
    told_before: Place,
    entries: Vec<(QueueEntry, Option<Arc<StoredMessage>>)>,
    bytes: usize,
}

impl Page {
    fn keep(&self, message: &Message<'_>, budget: &Arc<MemoryBudget>) -> Option<StoredMessage> {
        match StoredMessage::new(message, budget) {
            Some(stored) => Some(stored),
            // One at a time goes on also when memory is short: what waits for the client is what
            // has to leave.
            None if self.entries.is_empty() => Some(StoredMessage::uncharged(message)),
            None => None,
        }
    }
}

impl QueueReader for Page {
    fn entry(&mut self, entry: QueueEntry, message: Option<Message<'_>>) -> ControlFlow<()> {
        let mut kept = None;
        if let Some(message) = message {
            self.bytes += message.size();
            let Some(stored) = self.keep(&message, &self.session.shared.budget) else {
                return ControlFlow::Break(());
            };
            stored.set_kept(&Ticket::ready());
            kept = Some(Arc::new(stored));
        }
        self.entries.push((entry, kept));
        if self.bytes >= PAGE_BYTES || self.entries.len() >= PAGE_ENTRIES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn end(self: Box<Self>, result: Result<bool, StoreError>) {
        let session = Arc::clone(&self.session);
        session.lock().take_page(*self, result.ok());
        session.flush();
    }
}

impl Locked<'_> {
    /// `whole`: nothing follows; `None`: the engine could not read it.
    fn take_page(&mut self, page: Page, whole: Option<bool>) {
        let Some(durable) = self.durable.as_deref_mut() else {
            return;
        };
        durable.reading = false;
        let Some(whole) = whole else {
            self.end_connection(EndReason::StoreFailed);
            return;
        };
        if self.ended {
            return;
        }
        let mut next = Place(0);
        // What has joined the tail since the page was asked for may stand behind one that the engine had not been
        // told of when it was read, as may what stood behind one then.
        let certain_before = page.told_before.min(Place(page.last.0 + 1));
        for (entry, message) in page.entries {
            next = Place(entry.place.0 + 1);
            match entry.stage {
                Stage::Received(_) => {}
                Stage::Sent(id) => self.load_flight(id, entry.place, message),
                Stage::Queued if entry.place >= certain_before => {}
                Stage::Queued => self.load_queued(entry, message),
            }
        }
        // Nothing has joined the tail since it was asked for: what was not found is not there.
        let settled = whole
            && page.told_before == Place(u64::MAX)
            && self
                .durable
                .as_ref()
                .is_some_and(|d| d.tail.last == page.last);
        if settled {
            self.end_tail();
        } else if let Some(durable) = self.durable.as_deref_mut()
            && durable.has_tail()
        {
            durable.tail.first = durable.tail.first.max(next.min(certain_before));
        }
        let lost_before = if whole { Place(u64::MAX) } else { next };
        self.give_up_before(lost_before);
        let unloaded = self.first_unloaded(Place(0));
        if let Some(durable) = self.durable.as_deref_mut() {
            durable.unloaded = unloaded;
        }
        if let Some(link) = &mut self.link {
            link.scheduled = true;
        }
    }

    fn load_flight(
        &mut self,
        id: std::num::NonZeroU16,
        place: Place,
        message: Option<Arc<StoredMessage>>,
    ) {
        if let Some(flight) = self.inflight.get_mut(id)
            && flight.sequence == place.0
            && flight.step != Step::Complete
            && flight.message.is_none()
        {
            flight.message = message;
        }
    }

    fn load_queued(&mut self, entry: QueueEntry, message: Option<Arc<StoredMessage>>) {
        let place = entry.place.0;
        let Some(durable) = self.durable.as_deref_mut() else {
            return;
        };
        // Read on the way to it, and in memory already.
        if !durable.has_tail()
            || entry.place < durable.tail.first
            || entry.place > durable.tail.last
        {
            return;
        }
        durable.tail.messages -= 1;
        durable.tail.first = Place(place + 1);
        let Some(message) = message else {
            durable.note(SessionChange::Done(entry.place));
            self.drop_one(DropReason::StoreFailed);
            return;
        };
        durable.tail.bytes = durable.tail.bytes.saturating_sub(message.size() as u64);
        let shared = entry.shared.map(|filter| {
            super::find_arc(&self.subscriptions, &filter).unwrap_or_else(|| {
                let options = SubscriptionOptions::with_qos(entry.qos);
                Arc::new(Subscription::new(filter, options, None))
            })
        });
        let mut identifiers = entry.identifiers;
        if shared.is_none() {
            self.add_channels(message.as_message().topic, &mut identifiers);
        }
        // Charged with the page, beyond the ceiling by one page at most.
        self.session.shared.budget.reserve_anyway(ITEM_OVERHEAD);
        let item = Item {
            message,
            qos: entry.qos,
            retain: entry.retain,
            identifiers,
            shared,
        };
        self.queue.get_or_insert_default().push_back_in(place, item);
    }

    /// Nothing is on disk only any more. What should have been and was not found was refused to its
    /// publisher.
    fn end_tail(&mut self) {
        if let Some(durable) = self.durable.as_deref_mut() {
            durable.tail = Backlog::EMPTY;
        }
    }

    /// Closes exchanges before `place` whose message the engine does not have: they would block the others
    /// for ever. The engine has reported what it could not read.
    fn give_up_before(&mut self, place: Place) {
        while let Some(lost) = self.first_unloaded(Place(0)).filter(|lost| *lost < place) {
            let id = self.inflight.at_place(lost.0);
            let Some(id) = id else {
                return;
            };
            let Some(flight) = self.inflight.remove(id) else {
                return;
            };
            self.note_closed(id, flight);
            self.drop_one(DropReason::StoreFailed);
        }
    }

    fn drop_one(&mut self, reason: DropReason) {
        let shared = Arc::clone(&self.session.shared);
        self.drop_messages(&shared, reason, 1);
    }
}

//! Acknowledgements that wait for the store.
//!
//! They leave in the order of the packets they answer (MQTT-4.6.0-2 to -4): one whose ticket is
//! complete waits for the ones before it. Everything else the connection sends passes them by.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::task::{Poll, Waker};

use tidegate_bus::{StoreError, Ticket};

use crate::codec::{AckType, ReasonCode};

/// An acknowledgement to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingAck {
    pub(crate) kind: AckType,
    pub(crate) packet_id: NonZeroU16,
    pub(crate) reason: ReasonCode,
}

#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "one word in a connection that waits for nothing"
)]
pub(crate) struct PendingAcks(Option<Box<VecDeque<(PendingAck, Ticket)>>>);

impl PendingAcks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many acknowledgements of this kind wait.
    pub(crate) fn count(&self, kind: AckType) -> usize {
        self.0.as_ref().map_or(0, |acks| {
            acks.iter().filter(|(ack, _)| ack.kind == kind).count()
        })
    }

    pub(crate) fn push(&mut self, ack: PendingAck, ticket: Ticket) {
        self.0.get_or_insert_default().push_back((ack, ticket));
    }

    /// The next one that may go, with what the store says of it; `waker` is woken when another may.
    pub(crate) fn next(&mut self, waker: &Waker) -> Option<(PendingAck, Result<(), StoreError>)> {
        let acks = self.0.as_mut()?;
        let Some((ack, ticket)) = acks.front() else {
            self.0 = None;
            return None;
        };
        let Poll::Ready(result) = ticket.poll(waker) else {
            return None;
        };
        let ack = *ack;
        acks.pop_front();
        if acks.is_empty() {
            self.0 = None;
        }
        Some((ack, result))
    }
}

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
pub(crate) struct PendingAcks(Waiting<PendingAck>);

impl PendingAcks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many acknowledgements of this kind wait.
    pub(crate) fn count(&self, kind: AckType) -> usize {
        let acks = self.0.0.iter().flat_map(|line| &line.waiting);
        acks.filter(|(ack, _)| ack.kind == kind).count()
    }

    pub(crate) fn push(&mut self, ack: PendingAck, ticket: Ticket) {
        self.0.push(ack, ticket);
    }

    /// The next one that may go, with what the store says of it; `waker` is woken when another may.
    pub(crate) fn next(&mut self, waker: &Waker) -> Option<(PendingAck, Result<(), StoreError>)> {
        self.0.next(waker)
    }
}

/// SUBACKs and UNSUBACKs, encoded, that wait for the store. They wait for nothing but their own tickets.
#[derive(Debug, Default)]
pub(crate) struct PendingAnswers(Waiting<Vec<u8>>);

impl PendingAnswers {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, packet: Vec<u8>, ticket: Ticket) {
        self.0.push(packet, ticket);
    }

    /// The next one that may go, with what the store says of it; `waker` is woken when another may.
    pub(crate) fn next(&mut self, waker: &Waker) -> Option<(Vec<u8>, Result<(), StoreError>)> {
        self.0.next(waker)
    }
}

/// What waits for the store, in order.
#[derive(Debug)]
struct Waiting<T>(Option<Box<Line<T>>>);

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<(T, Ticket)>,
    /// The ticket that the waker was left with: mostly that of all that wait.
    registered: Ticket,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Waiting<T> {
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |line| line.waiting.len())
    }

    fn push(&mut self, what: T, ticket: Ticket) {
        let line = self.0.get_or_insert_with(|| {
            Box::new(Line {
                waiting: VecDeque::new(),
                registered: Ticket::ready(),
            })
        });
        line.waiting.push_back((what, ticket));
    }

    fn next(&mut self, waker: &Waker) -> Option<(T, Result<(), StoreError>)> {
        let line = self.0.as_mut()?;
        let (_, ticket) = line.waiting.front()?;
        let result = if ticket.is_same(&line.registered) {
            ticket.result()?
        } else {
            match ticket.poll(waker) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    line.registered = ticket.clone();
                    return None;
                }
            }
        };
        let (what, _) = line.waiting.pop_front()?;
        if line.waiting.is_empty() {
            self.0 = None;
        }
        Some((what, result))
    }
}

//! Answers that wait for the store. They go as soon as they may; everything else passes them by.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use tidegate_bus::{StoreError, Ticket};

use crate::codec::{Block, Code, Token};

/// What is said when a ticket is complete.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    Answer {
        token: Token,
        no_response: u32,
        code: Code,
        block1: Option<Block>,
    },
    /// A pong that says that everything before its ping was dealt with (RFC 8323 section 5.4.1).
    Pong(Token),
}

/// What waits, in its order: an engine keeps many changes at a time, and in theirs.
#[derive(Debug, Default)]
pub(super) struct Pending(Option<Box<Line>>);

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<(Waiting, Ticket)>,
    /// The ticket that the waker was left with: mostly that of all that wait.
    registered: Ticket,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |line| line.waiting.len())
    }

    pub(super) fn push(&mut self, what: Waiting, ticket: Ticket) {
        let line = self.0.get_or_insert_default();
        line.waiting.push_back((what, ticket));
    }

    /// The next that may go, with what the store says of it; otherwise `waker` is woken when one may.
    pub(super) fn next(&mut self, waker: &Waker) -> Option<(Waiting, Result<(), StoreError>)> {
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

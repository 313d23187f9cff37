//! Who has received what: lost, duplicated and out of order.
//!
//! Each receiver has a stream of each publisher whose messages it must receive, and knows the sequence
//! number that comes next. What is passed over is waited for no longer, so that a loss does not hold the
//! publisher up, but is lost only if it never comes. A group that shares a subscription has one such
//! account for all its members, because any of them may receive a message.

use anyhow::{Result, bail};

use super::missing::Missing;
use super::window::Window;
use crate::order::Shape;

pub(super) struct Ledger {
    shape: Shape,
    publishers: usize,
    /// By publisher.
    windows: Vec<Window>,
    /// The first sequence number of each publisher that counts.
    counts_from: Vec<u64>,
    /// By receiver and publisher; with [`Shape::Pairs`] by receiver.
    streams: Vec<Stream>,
    /// Of a group, by publisher: what was waited for too long.
    overdue: Vec<Missing>,
    deliveries: u64,
    duplicated: u64,
    out_of_order: u64,
}

#[derive(Default)]
struct Stream {
    /// One more than the highest sequence number that has come.
    next: u64,
    /// What was passed over; not kept for each member of a group.
    missing: Missing,
}

impl Ledger {
    /// For so many publishers, which are still to be added, and receivers.
    pub(super) fn new(shape: Shape, publishers: u32, receivers: u32) -> Self {
        let (publishers, receivers) = (publishers as usize, receivers as usize);
        let streams = match shape {
            Shape::Pairs => receivers,
            Shape::All | Shape::Shared => receivers * publishers,
        };
        Self {
            shape,
            publishers,
            windows: Vec::with_capacity(publishers),
            counts_from: vec![u64::MAX; publishers],
            streams: (0..streams).map(|_| Stream::default()).collect(),
            overdue: (0..publishers).map(|_| Missing::default()).collect(),
            deliveries: 0,
            duplicated: 0,
            out_of_order: 0,
        }
    }

    /// Adds the next publisher.
    pub(super) fn add_publisher(&mut self, window: Window) {
        self.windows.push(window);
    }

    /// The messages of a publisher that are on their way.
    #[inline]
    pub(super) fn window(&mut self, publisher: usize) -> &mut Window {
        &mut self.windows[publisher]
    }

    /// Deliveries so far.
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// What is on its way counts, and what is sent from now on.
    pub(super) fn count_from_now(&mut self) {
        self.counts_from = self.windows.iter().map(Window::oldest).collect();
    }

    /// A receiver has a message.
    #[inline]
    pub(super) fn delivered(
        &mut self,
        receiver: usize,
        publisher: usize,
        sequence: u64,
    ) -> Result<()> {
        if publisher >= self.publishers || sequence >= self.windows[publisher].next() {
            bail!("the broker delivered a message that nobody has sent");
        }
        let stream = match self.shape {
            Shape::Pairs if publisher != receiver => {
                bail!("the broker delivered a message to whom it is not for")
            }
            Shape::Pairs => receiver,
            Shape::All | Shape::Shared => receiver * self.publishers + publisher,
        };
        self.deliveries += 1;
        if self.shape == Shape::Shared {
            self.delivered_to_member(stream, publisher, sequence);
            return Ok(());
        }
        let (stream, window) = (&mut self.streams[stream], &mut self.windows[publisher]);
        if sequence < stream.next {
            let counts = u64::from(sequence >= self.counts_from[publisher]);
            if stream.missing.remove(sequence) {
                self.out_of_order += counts;
            } else {
                self.duplicated += counts;
            }
            return Ok(());
        }
        if sequence > stream.next {
            for passed in stream.next..sequence {
                window.delivered(passed);
            }
            stream.missing.add(stream.next..sequence);
        }
        stream.next = sequence + 1;
        window.delivered(sequence);
        Ok(())
    }

    #[inline]
    fn delivered_to_member(&mut self, stream: usize, publisher: usize, sequence: u64) {
        let counts = u64::from(sequence >= self.counts_from[publisher]);
        let is_first =
            self.windows[publisher].delivered(sequence) || self.overdue[publisher].remove(sequence);
        if !is_first {
            self.duplicated += counts;
            return;
        }
        let stream = &mut self.streams[stream];
        if sequence < stream.next {
            self.out_of_order += counts;
        } else {
            stream.next = sequence + 1;
        }
    }

    /// Waits no longer for what a publisher sent before this sequence number.
    pub(super) fn give_up(&mut self, publisher: usize, sequence: u64) {
        let (shape, overdue) = (self.shape, &mut self.overdue[publisher]);
        self.windows[publisher].give_up(sequence, |missed| {
            // Of other shapes each receiver knows by itself.
            if shape == Shape::Shared {
                overdue.add(missed..missed + 1);
            }
        });
    }

    /// Messages on their way.
    pub(super) fn open(&self) -> u64 {
        self.windows
            .iter()
            .map(|window| u64::from(window.open()))
            .sum()
    }

    /// Publishes that the broker has not acknowledged to the end.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.windows.iter().map(Window::unacknowledged).sum()
    }

    /// Deliveries that have not come, of what counts.
    pub(super) fn lost(&self) -> u64 {
        let publishers = 0..self.publishers;
        if self.shape == Shape::Shared {
            let lost = publishers.map(|publisher| {
                let from = self.counts_from[publisher];
                self.overdue[publisher].count_from(from)
                    + self.windows[publisher].undelivered_from(from)
            });
            return lost.sum();
        }
        let streams = self.streams.iter().enumerate();
        let lost = streams.map(|(index, stream)| {
            // Of pairs the receiver's number is the publisher's, and there are as many.
            let publisher = index % self.publishers;
            let from = self.counts_from[publisher];
            let sent = self.windows[publisher].next();
            stream.missing.count_from(from) + sent.saturating_sub(stream.next.max(from))
        });
        lost.sum()
    }

    /// Deliveries that came more than once, of what counts.
    pub(super) fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Deliveries that came after a later one, of what counts.
    pub(super) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;
    use crate::load::window::Window;
    use crate::order::Shape;

    /// One publisher that has sent so many messages, all of which count.
    fn sent(shape: Shape, receivers: u32, messages: u64) -> Ledger {
        let mut ledger = Ledger::new(shape, 1, receivers);
        let each = if shape == Shape::All { receivers } else { 1 };
        ledger.add_publisher(Window::new(64, each, 0));
        ledger.count_from_now();
        for _ in 0..messages {
            ledger.window(0).send();
        }
        ledger
    }

    fn counts(ledger: &Ledger) -> (u64, u64, u64) {
        (ledger.lost(), ledger.duplicated(), ledger.out_of_order())
    }

    #[test]
    fn what_is_passed_over_holds_nobody_up_and_is_lost_until_it_comes() {
        let mut ledger = sent(Shape::Pairs, 1, 5);
        for sequence in [0, 4] {
            ledger.delivered(0, 0, sequence).unwrap();
        }
        assert_eq!(ledger.open(), 0);
        assert_eq!(counts(&ledger), (3, 0, 0));
        ledger.delivered(0, 0, 2).unwrap();
        assert_eq!(counts(&ledger), (2, 0, 1));
        ledger.delivered(0, 0, 2).unwrap();
        assert_eq!(counts(&ledger), (2, 1, 1));
        assert_eq!(ledger.deliveries(), 4);
    }

    #[test]
    fn each_of_all_receivers_has_an_account_of_its_own() {
        let mut ledger = sent(Shape::All, 2, 3);
        for (receiver, sequence) in [(0, 0), (0, 1), (1, 0), (0, 2), (1, 2)] {
            ledger.delivered(receiver, 0, sequence).unwrap();
        }
        assert_eq!((ledger.open(), counts(&ledger)), (0, (1, 0, 0)));
    }

    #[test]
    fn members_of_a_group_have_one_account_and_an_order_each() {
        let mut ledger = sent(Shape::Shared, 2, 5);
        for (member, sequence) in [(0, 1), (1, 0), (1, 3), (0, 1)] {
            ledger.delivered(member, 0, sequence).unwrap();
        }
        assert_eq!((ledger.open(), counts(&ledger)), (2, (2, 1, 0)));
        ledger.give_up(0, 5);
        assert_eq!((ledger.open(), counts(&ledger)), (0, (2, 1, 0)));
        ledger.delivered(1, 0, 2).unwrap();
        assert_eq!(counts(&ledger), (1, 1, 1));
        ledger.delivered(0, 0, 2).unwrap();
        assert_eq!(counts(&ledger), (1, 2, 1));
    }

    #[test]
    fn what_was_over_before_the_count_does_not_count() {
        let mut ledger = sent(Shape::Pairs, 1, 4);
        ledger.delivered(0, 0, 2).unwrap();
        ledger.count_from_now();
        assert_eq!(counts(&ledger), (1, 0, 0));
        for late in [1, 1, 3] {
            ledger.delivered(0, 0, late).unwrap();
        }
        assert_eq!(counts(&ledger), (0, 0, 0));
    }

    #[test]
    fn messages_that_nobody_sent_or_that_are_for_others_are_an_error() {
        let mut ledger = sent(Shape::Pairs, 2, 1);
        assert!(ledger.delivered(0, 0, 1).is_err());
        assert!(ledger.delivered(0, 1, 0).is_err());
        assert!(ledger.delivered(1, 0, 0).is_err());
    }
}

//! The messages of one publisher that are on their way.
//!
//! A ring in which each message has a slot from when it is sent until every receiver has it and, with
//! QoS 1 and 2, its publisher has the last acknowledgement. The slot is also its packet identifier, so
//! none is used again before its exchange has ended (MQTT-2.2.1-3).

/// How often a ring holds the window, so that one message that lags does not stop the others at once.
const SPARE: u32 = 4;

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Receivers that do not have it yet.
    receivers: u32,
    acknowledgement: Acknowledgement,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Acknowledgement {
    /// Nothing is to come.
    #[default]
    Done,
    /// PUBACK.
    Puback,
    /// PUBREC.
    Pubrec,
    /// PUBCOMP.
    Pubcomp,
}

impl Slot {
    fn is_done(self) -> bool {
        self.receivers == 0 && self.acknowledgement == Acknowledgement::Done
    }
}

pub(super) struct Window {
    slots: Box<[Slot]>,
    mask: u64,
    /// The oldest message whose slot is taken.
    oldest: u64,
    /// The message that is sent next.
    next: u64,
    /// Messages on their way.
    open: u32,
    /// The most of them.
    limit: u32,
    receivers: u32,
    acknowledgement: Acknowledgement,
}

impl Window {
    /// The most messages, because packet identifiers must be enough.
    pub(super) const MOST: u32 = 1 << 15;

    /// For at most `limit` messages of this QoS on their way to so many receivers each.
    pub(super) fn new(limit: u32, receivers: u32, qos: u8) -> Self {
        let size = limit.saturating_mul(SPARE).clamp(64, Self::MOST);
        let size = size.next_power_of_two();
        Self {
            slots: vec![Slot::default(); size as usize].into_boxed_slice(),
            mask: u64::from(size) - 1,
            oldest: 0,
            next: 0,
            open: 0,
            limit: limit.clamp(1, size),
            receivers,
            acknowledgement: match qos {
                0 => Acknowledgement::Done,
                1 => Acknowledgement::Puback,
                _ => Acknowledgement::Pubrec,
            },
        }
    }

    /// How many messages may be sent now.
    #[inline]
    pub(super) fn room(&self) -> u32 {
        // Both below the ring's size.
        let free = self.slots.len() as u32 - (self.next - self.oldest) as u32;
        free.min(self.limit.saturating_sub(self.open))
    }

    /// Messages on their way.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// The oldest message on its way; the one that is sent next if none is.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The message that is sent next.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Sends a message, for which there must be room; its sequence number.
    #[inline]
    pub(super) fn send(&mut self) -> u64 {
        let sequence = self.next;
        self.slots[(sequence & self.mask) as usize] = Slot {
            receivers: self.receivers,
            acknowledgement: self.acknowledgement,
        };
        self.next += 1;
        self.open += 1;
        sequence
    }

    /// The packet identifier of a message.
    #[inline]
    pub(super) fn packet_id(&self, sequence: u64) -> u16 {
        // At most `Self::MOST` slots.
        (sequence & self.mask) as u16 + 1
    }

    /// A receiver has a message; whether one was still waited for.
    #[inline]
    pub(super) fn delivered(&mut self, sequence: u64) -> bool {
        if sequence < self.oldest || sequence >= self.next {
            return false;
        }
        let slot = &mut self.slots[(sequence & self.mask) as usize];
        if slot.receivers == 0 {
            return false;
        }
        slot.receivers -= 1;
        self.settle(sequence);
        true
    }

    /// PUBACK, PUBCOMP, or a PUBREC that refuses: the exchange is over.
    #[inline]
    pub(super) fn acknowledged(&mut self, packet_id: u16) {
        self.acknowledge(packet_id, Acknowledgement::Done);
    }

    /// PUBREC.
    #[inline]
    pub(super) fn received(&mut self, packet_id: u16) {
        self.acknowledge(packet_id, Acknowledgement::Pubcomp);
    }

    /// An acknowledgement that nobody waits for changes nothing.
    #[inline]
    fn acknowledge(&mut self, packet_id: u16, next: Acknowledgement) {
        let index = u64::from(packet_id.wrapping_sub(1));
        if index > self.mask {
            return;
        }
        let sequence = self.oldest + (index.wrapping_sub(self.oldest) & self.mask);
        if sequence >= self.next {
            return;
        }
        let slot = &mut self.slots[index as usize];
        if slot.acknowledgement == Acknowledgement::Done {
            return;
        }
        slot.acknowledgement = next;
        self.settle(sequence);
    }

    #[inline]
    fn settle(&mut self, sequence: u64) {
        let slot = self.slots[(sequence & self.mask) as usize];
        if !slot.is_done() {
            return;
        }
        self.open -= 1;
        while self.oldest < self.next && self.slots[(self.oldest & self.mask) as usize].is_done() {
            self.oldest += 1;
        }
    }

    /// Waits no longer for the receivers of what was sent before `sequence`; `missed` is told what some
    /// receiver does not have. What is not acknowledged keeps its packet identifier and its room, because
    /// the server counts it against its Receive Maximum (MQTT 5.0 section 4.9).
    pub(super) fn give_up(&mut self, sequence: u64, mut missed: impl FnMut(u64)) {
        for sequence in self.oldest..sequence.min(self.next) {
            let slot = &mut self.slots[(sequence & self.mask) as usize];
            if slot.receivers == 0 {
                continue;
            }
            missed(sequence);
            slot.receivers = 0;
            self.settle(sequence);
        }
    }

    /// Messages whose exchange is open.
    pub(super) fn unacknowledged(&self) -> u64 {
        let open = (self.oldest..self.next).filter(|sequence| {
            let slot = self.slots[(sequence & self.mask) as usize];
            slot.acknowledgement != Acknowledgement::Done
        });
        open.count() as u64
    }

    /// Messages from `sequence` on that no receiver has.
    pub(super) fn undelivered_from(&self, sequence: u64) -> u64 {
        let waited = (self.oldest.max(sequence)..self.next)
            .filter(|sequence| self.slots[(sequence & self.mask) as usize].receivers > 0);
        waited.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn a_message_takes_room_until_all_receivers_have_it_and_its_exchange_is_over() {
        let mut window = Window::new(2, 3, 2);
        let first = window.send();
        let second = window.send();
        assert_eq!(window.room(), 0);
        let id = window.packet_id(first);
        window.received(id);
        window.acknowledged(id);
        for _ in 0..2 {
            assert!(window.delivered(first));
        }
        assert_eq!(window.room(), 0, "a receiver waits");
        assert!(window.delivered(first));
        assert!(!window.delivered(first), "nobody waits any more");
        assert_eq!(window.room(), 1);
        for _ in 0..3 {
            assert!(window.delivered(second));
        }
        assert_eq!(window.room(), 1, "the exchange is open");
        window.acknowledged(window.packet_id(second));
        assert_eq!((window.room(), window.open()), (2, 0));
    }

    #[test]
    fn acknowledgements_that_nobody_waits_for_change_nothing() {
        let mut window = Window::new(4, 1, 1);
        for stray in [0, 1, 2, 64, 65, u16::MAX] {
            window.acknowledged(stray);
        }
        let sent = window.send();
        window.acknowledged(window.packet_id(sent) + 1);
        assert_eq!(window.open(), 1);
        window.acknowledged(window.packet_id(sent));
        window.acknowledged(window.packet_id(sent));
        assert!(window.delivered(sent));
        assert_eq!((window.open(), window.oldest()), (0, 1));
    }

    #[test]
    fn packet_identifiers_differ_until_their_exchange_is_over() {
        let mut window = Window::new(4, 1, 1);
        let stuck = window.send();
        let id = window.packet_id(stuck);
        assert!(window.delivered(stuck));
        let mut sent = 0;
        while window.room() > 0 {
            let sequence = window.send();
            assert_ne!(window.packet_id(sequence), id);
            assert!(window.delivered(sequence));
            window.acknowledged(window.packet_id(sequence));
            sent += 1;
        }
        assert!(sent > 4, "one message that lags stopped the others at once");
        window.acknowledged(id);
        assert_eq!((window.room(), window.open()), (4, 0));
    }

    #[test]
    fn what_is_given_up_takes_no_room_unless_its_exchange_is_open() {
        let mut window = Window::new(4, 1, 1);
        let unacknowledged = window.send();
        let undelivered = window.send();
        let young = window.send();
        assert!(window.delivered(unacknowledged));
        window.acknowledged(window.packet_id(undelivered));
        let mut missed = Vec::new();
        window.give_up(young, |sequence| missed.push(sequence));
        assert_eq!(missed, [undelivered]);
        assert_eq!((window.open(), window.room()), (2, 2));
        assert_eq!(window.unacknowledged(), 2);
        assert_eq!(window.oldest(), unacknowledged);
        assert!(!window.delivered(undelivered), "it comes too late");
        window.acknowledged(window.packet_id(unacknowledged));
        assert_eq!((window.open(), window.oldest()), (1, young));
        assert_eq!(window.undelivered_from(0), 1);
    }
}

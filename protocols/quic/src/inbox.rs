//! What has come for a connection and is not handled yet.
//!
//! The socket is read by one task for all connections, which must not wait for any of them: what a connection does
//! with a datagram, to decrypt it or even to shake hands, is its own task's work. What comes faster than that is
//! handled waits here, up to a limit, and is lost beyond it, as in a socket's buffer that is full. The client sends
//! again what mattered.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use quinn_proto::ConnectionEvent;

/// Datagrams that wait for one connection at the most: so many come in three milliseconds at a gigabit per second.
const MOST_DATAGRAMS: usize = 256;
/// Bytes that they take at the most, with what is kept beside each. As many datagrams as large as a client may send
/// take less; of larger ones fewer wait.
const MOST_BYTES: usize = 512 << 10;
/// Bytes that wait for all connections of a server together.
const MOST_BYTES_OF_ALL: usize = 32 << 20;
/// Datagrams that may wait for a connection even so: those who flood do not keep the others from being heard.
const EVEN_SO: usize = 4;

/// Bytes that wait for all connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicUsize);

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As much waits for its connection as may.
    Connection,
    /// As much waits for all connections of the server as may.
    Server,
}

/// What has come for a connection, in order. While nothing has it holds no memory.
pub(crate) struct Inbox<E = ConnectionEvent>(Mutex<Content<E>>);

struct Content<E> {
    /// With the bytes that each takes.
    events: VecDeque<(E, usize)>,
    bytes: usize,
}

impl<E> Default for Content<E> {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<E> Default for Inbox<E> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<E> Inbox<E> {
    /// Adds a datagram of so many bytes, and tells whether it is the only one: then the connection is to be woken.
    pub(crate) fn put(&self, event: E, bytes: usize, waiting: &Waiting) -> Result<bool, Full> {
        let bytes = bytes + size_of::<(E, usize)>();
        let mut content = self.0.lock();
        let there = content.events.len();
        if there >= MOST_DATAGRAMS || content.bytes + bytes > MOST_BYTES {
            return Err(Full::Connection);
        }
        if there >= EVEN_SO && waiting.0.load(Relaxed) + bytes > MOST_BYTES_OF_ALL {
            return Err(Full::Server);
        }
        waiting.0.fetch_add(bytes, Relaxed);
        content.bytes += bytes;
        content.events.push_back((event, bytes));
        Ok(there == 0)
    }

    /// Takes no more than so many, and tells whether there are others.
    pub(crate) fn take(
        &self,
        most: usize,
        waiting: &Waiting,
    ) -> (impl Iterator<Item = E> + use<E>, bool) {
        let mut content = self.0.lock();
        let taken = if content.events.len() <= most {
            mem::take(&mut *content)
        } else {
            let events: VecDeque<_> = content.events.drain(..most).collect();
            let bytes = events.iter().map(|(_, bytes)| bytes).sum();
            content.bytes -= bytes;
            Content { events, bytes }
        };
        let are_others = !content.events.is_empty();
        drop(content);
        if taken.bytes > 0 {
            waiting.0.fetch_sub(taken.bytes, Relaxed);
        }
        (taken.events.into_iter().map(|(event, _)| event), are_others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these sizes there is room for, and why not for more.
    fn fill(inbox: &Inbox<usize>, bytes: usize, waiting: &Waiting) -> (usize, Full) {
        for number in 0.. {
            match inbox.put(number, bytes, waiting) {
                Ok(is_first) => assert_eq!(is_first, number == 0),
                Err(full) => return (number, full),
            }
        }
        unreachable!("there is always room")
    }

    fn take(inbox: &Inbox<usize>, most: usize, waiting: &Waiting) -> (Vec<usize>, bool) {
        let (events, are_others) = inbox.take(most, waiting);
        (events.collect(), are_others)
    }

    #[test]
    fn of_one_connection_so_many_datagrams_wait_and_come_in_order() {
        let (inbox, waiting) = (Inbox::default(), Waiting::default());
        let all = fill(&inbox, 1_472, &waiting);
        assert_eq!(all, (MOST_DATAGRAMS, Full::Connection));
        let (first, are_others) = take(&inbox, 10, &waiting);
        assert_eq!((first, are_others), ((0..10).collect(), true));
        // As many more as were taken.
        assert_eq!(inbox.put(MOST_DATAGRAMS, 0, &waiting), Ok(false));
        let (rest, are_others) = take(&inbox, MOST_DATAGRAMS, &waiting);
        assert_eq!((rest, are_others), ((10..=MOST_DATAGRAMS).collect(), false));
        assert_eq!(waiting.0.into_inner(), 0);
        // Nothing is held.
        assert_eq!(inbox.0.into_inner().events.capacity(), 0);
    }

    #[test]
    fn of_one_connection_no_more_bytes_wait_however_large_its_datagrams() {
        let (inbox, waiting) = (Inbox::default(), Waiting::default());
        let (number, full) = fill(&inbox, 65_000, &waiting);
        assert_eq!((number, full), (8, Full::Connection));
        take(&inbox, 1, &waiting);
        assert_eq!(inbox.put(9, 65_000, &waiting), Ok(false));
    }

    #[test]
    fn of_all_connections_so_many_bytes_wait_and_whoever_comes_late_is_heard_all_the_same() {
        let waiting = Waiting::default();
        let inboxes: Vec<Inbox<usize>> = (0..1_000).map(|_| Inbox::default()).collect();
        let filled: Vec<_> = inboxes
            .iter()
            .map(|inbox| fill(inbox, 1_472, &waiting))
            .collect();
        let whole = filled
            .iter()
            .take_while(|(_, full)| *full == Full::Connection)
            .count();
        assert!(whole > 50, "{whole} have as much as they may");
        // Of the one in between there is a part.
        for late in &filled[whole + 1..] {
            assert_eq!(*late, (EVEN_SO, Full::Server));
        }
        let each = 1_472 + size_of::<(usize, usize)>();
        let bound = MOST_BYTES_OF_ALL + inboxes.len() * EVEN_SO * each;
        assert!(waiting.0.load(Relaxed) <= bound);
        for inbox in &inboxes {
            take(inbox, MOST_DATAGRAMS, &waiting);
        }
        assert_eq!(waiting.0.into_inner(), 0);
    }
}

//! Who waits for what of a connection.

use std::mem;
use std::task::Waker;

use quinn_proto::StreamId;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// The end of the handshake.
    Confirmed,
    /// A further stream of the client.
    Opened,
    /// Something to read, or the end.
    Readable(StreamId),
    /// Room to write, or that the client has stopped the stream.
    Writable(StreamId),
    /// That the client has everything, or has stopped the stream.
    Finished(StreamId),
}

/// Who waits for what, in order. A connection has a few, one with a thousand streams has a thousand, and who was
/// woken will mostly wait for the same again: so places stay until their stream is gone.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<(Wait, Option<Waker>)>);

impl Waiters {
    pub(crate) fn add(&mut self, wait: Wait, waker: &Waker) {
        match self.find(wait) {
            Ok(at) => match &mut self.0[at].1 {
                Some(there) if there.will_wake(waker) => {}
                place => *place = Some(waker.clone()),
            },
            Err(at) => self.0.insert(at, (wait, Some(waker.clone()))),
        }
    }

    pub(crate) fn take(&mut self, wait: Wait) -> Option<Waker> {
        let at = self.find(wait).ok()?;
        self.0[at].1.take()
    }

    /// Nobody waits for anything of this stream any more.
    pub(crate) fn forget(&mut self, id: StreamId) {
        for wait in [Wait::Readable(id), Wait::Writable(id), Wait::Finished(id)] {
            if let Ok(at) = self.find(wait) {
                self.0.remove(at);
            }
        }
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waker> {
        mem::take(&mut self.0)
            .into_iter()
            .filter_map(|(_, waker)| waker)
    }

    fn find(&self, wait: Wait) -> Result<usize, usize> {
        self.0.binary_search_by_key(&wait, |(wait, _)| *wait)
    }
}

/// Who is to be woken once the connection is not locked any more. It is nearly always one task, which then is woken
/// once.
#[derive(Debug, Default)]
pub(crate) struct Woken(Option<Waker>);

impl Woken {
    pub(crate) fn add(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else {
            return;
        };
        match &self.0 {
            Some(there) if there.will_wake(&waker) => {}
            _ => {
                if let Some(other) = self.0.replace(waker) {
                    other.wake();
                }
            }
        }
    }

    pub(crate) fn wake(self) {
        if let Some(waker) = self.0 {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Wake;

    use quinn_proto::{Dir, Side};

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn stream(index: u64) -> StreamId {
        StreamId::new(Side::Client, Dir::Bi, index)
    }

    #[test]
    fn who_waits_is_woken_for_that_and_once() {
        let tasks: [Arc<Task>; 2] = Default::default();
        let wakers = tasks.each_ref().map(|task| Waker::from(Arc::clone(task)));
        let mut waiters = Waiters::default();
        waiters.add(Wait::Opened, &wakers[0]);
        // In any order, and each the last time for whom.
        for index in [3, 1, 2] {
            waiters.add(Wait::Readable(stream(index)), &wakers[1]);
            waiters.add(Wait::Readable(stream(index)), &wakers[0]);
            waiters.add(Wait::Writable(stream(index)), &wakers[1]);
        }
        for wait in [Wait::Confirmed, Wait::Finished(stream(1))] {
            assert!(waiters.take(wait).is_none(), "{wait:?}");
        }
        let readable = waiters.take(Wait::Readable(stream(2))).unwrap();
        assert!(readable.will_wake(&wakers[0]));
        assert!(waiters.take(Wait::Readable(stream(2))).is_none());
        waiters.forget(stream(1));
        assert!(waiters.take(Wait::Writable(stream(1))).is_none());
        // Opened, two of stream 3, and to write on stream 2.
        assert_eq!(waiters.take_all().count(), 4);
    }

    #[test]
    fn one_task_is_woken_once_and_each_at_least() {
        let tasks: [Arc<Task>; 2] = Default::default();
        let wakers = tasks.each_ref().map(|task| Waker::from(Arc::clone(task)));
        let mut woken = Woken::default();
        for _ in 0..3 {
            woken.add(Some(wakers[0].clone()));
        }
        woken.add(None);
        assert_eq!(tasks[0].0.load(Relaxed), 0);
        woken.add(Some(wakers[1].clone()));
        woken.wake();
        for task in &tasks {
            assert_eq!(task.0.load(Relaxed), 1);
        }
    }
}

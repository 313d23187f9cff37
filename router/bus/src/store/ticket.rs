//! The promise that a change is kept.

use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::StoreError;

#[derive(Debug, Default)]
struct State {
    result: Option<Result<(), StoreError>>,
    wakers: Vec<Waker>,
}

/// The promise that a change is kept. A ready one costs nothing; one that waits may be shared by all
/// changes that an engine keeps at once.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Option<Arc<Mutex<State>>>);

impl Ticket {
    /// The change is kept already.
    pub const fn ready() -> Self {
        Self(None)
    }

    /// The change was refused at once.
    pub fn failed(error: StoreError) -> Self {
        Self(Some(Arc::new(Mutex::new(State {
            result: Some(Err(error)),
            wakers: Vec::new(),
        }))))
    }

    /// A ticket and the means to complete it.
    pub fn pending() -> (Self, Completion) {
        let state = Arc::new(Mutex::new(State::default()));
        (Self(Some(Arc::clone(&state))), Completion(state))
    }

    /// The result when there is one; otherwise `waker` is woken when there is.
    pub fn poll(&self, waker: &Waker) -> Poll<Result<(), StoreError>> {
        let Some(state) = &self.0 else {
            return Poll::Ready(Ok(()));
        };
        let mut state = state.lock();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        if !state.wakers.last().is_some_and(|w| w.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        Poll::Pending
    }

    /// The result when there is one.
    pub fn result(&self) -> Option<Result<(), StoreError>> {
        match &self.0 {
            None => Some(Ok(())),
            Some(state) => state.lock().result.clone(),
        }
    }

    /// Whether both complete at once, as one.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

/// Completes a [`Ticket`]. Dropped without a word, the ticket fails: nothing waits for ever.
#[derive(Debug)]
pub struct Completion(Arc<Mutex<State>>);

impl Completion {
    /// Whether anybody holds the ticket: otherwise nothing waits for the change, and it may be kept in its own
    /// time.
    pub fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Completes the ticket and wakes who waits for it.
    pub fn complete(self, result: Result<(), StoreError>) {
        self.finish(result);
    }

    fn finish(&self, result: Result<(), StoreError>) {
        let wakers = {
            let mut state = self.0.lock();
            if state.result.is_some() {
                return;
            }
            state.result = Some(result);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.finish(Err(StoreError::Failed(
            "the store ended before the change was kept".into(),
        )));
    }
}

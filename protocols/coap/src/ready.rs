//! How observations that have something to say reach the task that serves their listener, or their connection.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What waits for the task of a listener or of a connection: after [`Ready::wait`] that of a listener calls
/// [`crate::Server::wake`]. Publishers' threads add to it.
#[derive(Debug, Default)]
pub struct Ready {
    /// Places of observations; one may stand here after its end.
    observations: Mutex<Vec<usize>>,
    /// Places of sessions, the same way.
    sessions: Mutex<Vec<usize>>,
    notify: Notify,
    /// The task, where it is one that is woken and does not wait.
    task: Option<Waker>,
}

impl Ready {
    /// Wakes `task`.
    pub(crate) fn of_task(task: Waker) -> Self {
        Self {
            task: Some(task),
            ..Self::default()
        }
    }

    /// The observation at this place has something to say.
    pub(crate) fn add(&self, place: usize) {
        self.add_to(&self.observations, place);
    }

    /// The session at this place has something for its client, or has ended.
    pub(crate) fn add_session(&self, place: usize) {
        self.add_to(&self.sessions, place);
    }

    fn add_to(&self, places: &Mutex<Vec<usize>>, place: usize) {
        let mut places = places.lock();
        places.push(place);
        let first = places.len() == 1;
        drop(places);
        if first {
            match &self.task {
                Some(task) => task.wake_by_ref(),
                None => self.notify.notify_one(),
            }
        }
    }

    /// Moves the places of observations to `out`, which is empty.
    pub(crate) fn take(&self, out: &mut Vec<usize>) {
        std::mem::swap(&mut *self.observations.lock(), out);
    }

    /// Moves the places of sessions to `out`, which is empty.
    pub(crate) fn take_sessions(&self, out: &mut Vec<usize>) {
        std::mem::swap(&mut *self.sessions.lock(), out);
    }

    /// Completes when there is something, or when what the listener waits for has moved.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.notify.notify_one();
    }
}

//! What keeps a connection going: it takes what has come from the inbox, sends what is to be sent, and minds the
//! one timer. A task for each connection, so that the work of many is spread over all processors, and whoever makes
//! much of it waits for its turn like the others.
//!
//! It holds nothing while the connection rests: datagrams are made in a buffer of the thread, and kept only where the
//! socket takes no more.
//!
//! The timer is moved only to an earlier time. Most of what it is for, an acknowledgement that does not come or an
//! idle connection, is put off with every packet: so it goes off in vain now and then, which costs less than to move
//! it each time.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn_proto::{ConnectionError, ConnectionEvent, ConnectionHandle, EndpointEvent, Transmit};
use tokio::time::Sleep;

use crate::endpoint::Shared;
use crate::link::{Link, State};

/// Datagrams that are handled before others have their turn.
const MOST_HANDLED: usize = 32;
/// Datagrams that are made at once and sent in one call (GSO). More save little, and all are made before the first
/// leaves.
const MOST_AT_ONCE: usize = 10;
/// Datagrams that are sent before others have their turn.
const MOST_SENT: usize = 20;

thread_local! {
    /// Where datagrams are made.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

struct Driver {
    endpoint: Arc<Shared>,
    link: Arc<Link>,
    handle: ConnectionHandle,
    unsent: Option<Box<Unsent>>,
    /// When the timer goes off.
    armed: Option<Instant>,
}

/// What the socket did not take.
struct Unsent {
    transmit: Transmit,
    contents: Vec<u8>,
    writable: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What is to be done after a round.
struct Round {
    events: Vec<EndpointEvent>,
    deadline: Option<Instant>,
    is_drained: bool,
    /// There is more to send, and nothing that it waits for.
    is_unfinished: bool,
}

impl Round {
    fn of(state: &mut State, is_unfinished: bool) -> Self {
        // To send may end a connection, too: one whose keys are used up.
        state.tell();
        Self {
            events: std::iter::from_fn(|| state.quic.poll_endpoint_events()).collect(),
            deadline: state.quic.poll_timeout(),
            is_drained: state.quic.is_drained(),
            is_unfinished,
        }
    }
}

/// Keeps a connection going until nothing more is said or heard of it.
pub(crate) async fn drive(endpoint: Arc<Shared>, link: Arc<Link>, handle: ConnectionHandle) {
    let mut driver = Driver {
        endpoint,
        link,
        handle,
        unsent: None,
        armed: None,
    };
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| driver.poll(cx, timer.as_mut())).await;
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<()> {
        // First: who comes later wakes this again.
        self.link.driven_by(cx.waker());
        let (came, are_others) = self.link.inbox.take(MOST_HANDLED, &self.endpoint.waiting);
        let mut round = self.round(came, cx);
        loop {
            let is_drained = round.is_drained;
            let answers = self.endpoint.handle_events(self.handle, round.events);
            if is_drained {
                return Poll::Ready(());
            }
            if answers.is_empty() {
                break;
            }
            round = self.round(answers, cx);
        }
        // While the socket takes nothing, nothing is due: it wakes this when it does.
        let is_due = self.unsent.is_none() && self.is_due(round.deadline, cx, timer);
        if are_others || round.is_unfinished || is_due {
            // Behind the others.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn round(
        &mut self,
        came: impl IntoIterator<Item = ConnectionEvent>,
        cx: &mut Context<'_>,
    ) -> Round {
        let now = Instant::now();
        self.link.work(|state| {
            for event in came {
                state.quic.handle_event(event);
            }
            state.tell();
        });
        let mut buffer = BUFFER.take();
        let mut round = self.send(&mut buffer, now, cx);
        // Only after what has come was answered: a client that has moved is spoken to at its new address first, before
        // a timer goes off that was set for the old one. quinn-proto takes that for granted.
        if self.unsent.is_none() && round.deadline.is_some_and(|due| due <= now) {
            self.link.work(|state| {
                state.quic.handle_timeout(now);
                state.tell();
            });
            let after = self.send(&mut buffer, now, cx);
            round.events.extend(after.events);
            round = Round {
                events: round.events,
                is_unfinished: round.is_unfinished || after.is_unfinished,
                ..after
            };
        }
        BUFFER.set(buffer);
        round
    }

    /// Sends what there is. The connection is not locked while the system sends.
    fn send(&mut self, buffer: &mut Vec<u8>, now: Instant, cx: &mut Context<'_>) -> Round {
        let socket = &self.endpoint.socket;
        let most = socket.most_segments().min(MOST_AT_ONCE);
        let mut sent = 0;
        loop {
            if let Some(unsent) = &mut self.unsent {
                if unsent.writable.as_mut().poll(cx).is_pending() {
                    return self.link.work(|state| Round::of(state, false));
                }
                if socket.send(&unsent.transmit, &unsent.contents) {
                    self.unsent = None;
                } else {
                    unsent.writable = writable(&self.endpoint);
                }
                continue;
            }
            if sent >= MOST_SENT {
                return self.link.work(|state| Round::of(state, true));
            }
            buffer.clear();
            let made = self.link.work(|state| {
                state.is_called = false;
                let made = state.quic.poll_transmit(now, most, buffer);
                made.ok_or_else(|| Round::of(state, false))
            });
            let transmit = match made {
                Ok(transmit) => transmit,
                Err(round) => return round,
            };
            let datagrams = |segment| transmit.size.div_ceil(segment);
            sent += transmit.segment_size.map_or(1, datagrams);
            if !socket.send(&transmit, buffer) {
                self.unsent = Some(Box::new(Unsent {
                    transmit,
                    contents: buffer.clone(),
                    writable: writable(&self.endpoint),
                }));
            }
        }
    }

    /// Whether this time has come; if not, the task is woken when it does, or earlier.
    fn is_due(
        &mut self,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
    ) -> bool {
        let Some(deadline) = deadline else {
            return false;
        };
        loop {
            if self.armed.is_none_or(|armed| armed > deadline) {
                timer.as_mut().reset(deadline.into());
                self.armed = Some(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.armed = None;
            if deadline <= Instant::now() {
                return true;
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The first two do something only where the task is gone before the connection has ended.
        self.link
            .work(|state| state.end(ConnectionError::LocallyClosed));
        self.endpoint.forget(self.handle, &self.link);
        drop(self.link.inbox.take(usize::MAX, &self.endpoint.waiting));
    }
}

fn writable(endpoint: &Arc<Shared>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let endpoint = Arc::clone(endpoint);
    Box::pin(async move { endpoint.socket.writable().await })
}

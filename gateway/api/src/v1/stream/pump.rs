//! One event stream: what the session has for its client, as the body of an answer.
//!
//! hyper asks for a piece of the body when the socket has taken most of what it had; so it is asked for as fast as
//! the client reads, and what the client does not read stays in the session, within the limits and under the budget
//! that hold for a connection of MQTT.
//!
//! # When a message is acknowledged
//!
//! A client of Server-Sent Events says nothing while it receives. It says how far it has come when it comes back:
//! `Last-Event-ID` is the id of the last event that it has taken in. From this follow two kinds of streams.
//!
//! ```text
//! kept session (an expiry was asked for)
//!
//!             attach: everything up to Last-Event-ID is acknowledged
//!                │
//!                ▼           written, in flight < window
//!          ┌─▶ flowing ──────────────────────────────────▶ the message is in flight, and stays so
//!          │     │  in flight = window
//!          │     ▼
//!          │   the stream ends: `event: end`, reason "window"
//!          │     │
//!          └─────┘ the client comes back with Last-Event-ID
//!
//! session that ends with the stream
//!
//!          flowing ── hyper takes the event, and asks for more ──▶ acknowledged
//! ```
//!
//! *Kept.* Nothing is acknowledged because it was written: bytes in a socket are not bytes that were read. At most a
//! window of messages (Receive Maximum) is in flight; then the stream ends, and the client's return with
//! `Last-Event-ID`, which browsers make by themselves, acknowledges them. What was not acknowledged is sent again,
//! marked as a duplicate. So a message at QoS 1 or 2 reaches a client that names its last event at least once, whatever
//! breaks in between; and exactly once if the client keeps the id together with what it has made of the message.
//! A client that comes back without `Last-Event-ID` gets everything in flight again.
//!
//! *Not kept.* There is nothing to come back to. Acknowledging is flow control only: a message is in flight until hyper
//! has room for the next piece. What is in flight or queued when the stream ends is lost and counted
//! (`session_ended`, `connection_closed`); what lies in the buffers of hyper (64 KiB and a piece) and of the kernel is
//! not known to be lost, as over any protocol.
//!
//! # Ends
//!
//! A stream that the gateway ends has a last event that says why, and after how long it is worth to come back. What
//! was encoded before goes out before it. A client that takes nothing for `stream_write_timeout` is cut off by the
//! server ([`crate::connection::Connection::stalled`]), since nothing can be said to it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame};
use tidegate_bus::{Attachment, Departure, EndReason, Ended, Place};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::super::core::{Core, Visit};
use super::super::counters::StreamEnd;
use super::encoder::written;
use crate::connection::Connection;

/// After how many milliseconds a client comes back that was not told otherwise.
pub(super) const RETRY_MILLIS: u32 = 2_000;

/// The same after a window: at once.
const RETRY_WINDOW_MILLIS: u32 = 1;

/// The same after another connection has taken the session: if both came back at once, neither would have it for
/// long.
const RETRY_TAKEN_MILLIS: u32 = 30_000;

type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct EventStream {
    core: Arc<Core>,
    connection: Arc<Connection>,
    attachment: Option<Attachment>,
    /// What goes out first.
    first: Option<Bytes>,
    /// The session outlives the stream.
    kept: bool,
    /// Messages that may be in flight.
    window: u64,
    /// Messages in flight of a kept session, as far as they were written here.
    in_flight: u64,
    /// What hyper has taken, and acknowledges by asking for more.
    taken: Option<Place>,
    keep_alive: Pin<Box<Sleep>>,
    /// Completes when the gateway drains; `None` when it has.
    closing: Option<Closing>,
    waker: Option<Waker>,
    /// Why it has ended, as the client was told.
    end: Option<StreamEnd>,
    /// Its place among the streams.
    place: Option<OwnedSemaphorePermit>,
    /// The drain waits until it is dropped.
    _visit: Visit,
}

/// What a stream is made of.
pub(super) struct Parts {
    pub(super) visit: Visit,
    pub(super) connection: Arc<Connection>,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) attachment: Attachment,
    pub(super) kept: bool,
    pub(super) window: u16,
    pub(super) first: Bytes,
}

impl EventStream {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            visit,
            connection,
            place,
            attachment,
            kept,
            window,
            first,
        } = parts;
        let core = Arc::clone(&visit.core);
        core.counters.streams.add(1);
        core.counters.streams_opened.add(1);
        connection.asked(patience(&core));
        connection.set_streaming(true);
        let mut closing = visit.closing.clone();
        Self {
            keep_alive: Box::pin(tokio::time::sleep(core.settings.stream_keep_alive)),
            core,
            connection,
            attachment: Some(attachment),
            first: Some(first),
            kept,
            window: u64::from(window),
            in_flight: 0,
            taken: None,
            closing: Some(Box::pin(async move {
                // The sender lives as long as the API does.
                let _ = closing.wait_for(|closing| *closing).await;
            })),
            waker: None,
            end: None,
            place: Some(place),
            _visit: visit,
        }
    }

    /// The next piece; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        self.connection.asked(patience(&self.core));
        let Some(attachment) = &self.attachment else {
            return Poll::Ready(None);
        };
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing = None;
            attachment.session().end(EndReason::ServerShuttingDown);
        }
        let bus = Arc::clone(&self.core.bus);
        let now = bus.now();
        if let Some(place) = self.taken.take() {
            // One that was replaced meanwhile hears of it below.
            let _ = attachment.acknowledge_through(now, place);
        }
        if !self
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            attachment.set_waker(cx.waker().clone());
            self.waker = Some(cx.waker().clone());
        }
        let mut out = Vec::new();
        let mut taken = attachment.take_output(&mut out, now);
        while out.is_empty() && taken == Ok(true) {
            taken = attachment.take_output(&mut out, now);
        }
        if !out.is_empty() {
            let piece = written(&out);
            self.core
                .counters
                .events
                .add(piece.zero + piece.acknowledged);
            if self.kept {
                self.in_flight += piece.acknowledged;
            } else {
                self.taken = piece.last;
            }
        }
        if let Err(Ended(reason)) = taken {
            self.end_with(&mut out, reason.into());
        } else if self.kept && self.in_flight >= self.window {
            self.end_with(&mut out, StreamEnd::Window);
        }
        let keep_alive = Instant::now() + self.core.settings.stream_keep_alive;
        if out.is_empty() {
            if self.keep_alive.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            out.extend_from_slice(b":\n\n");
        }
        self.keep_alive.as_mut().reset(keep_alive);
        bus.counters().bytes_sent.add(out.len() as u64);
        Poll::Ready(Some(out))
    }

    /// Says why the stream ends, and gives the session back.
    fn end_with(&mut self, out: &mut Vec<u8>, end: StreamEnd) {
        let retry = match end {
            StreamEnd::Window => RETRY_WINDOW_MILLIS,
            StreamEnd::TakenOver => RETRY_TAKEN_MILLIS,
            _ => RETRY_MILLIS,
        };
        let name = end.as_str();
        let last = format!("retry: {retry}\nevent: end\ndata: {{\"reason\":\"{name}\"}}\n\n");
        out.extend_from_slice(last.as_bytes());
        self.end = Some(end);
        self.give_back();
    }

    fn give_back(&mut self) {
        let Some(attachment) = self.attachment.take() else {
            return;
        };
        let client_id = attachment.session().id();
        let reason = self.end.map(StreamEnd::as_str);
        tracing::debug!(%client_id, reason, "An event stream has ended.");
        let bus = &self.core.bus;
        bus.batch(|worker| attachment.detach(worker, Departure::Normal, None));
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.poll_piece(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece.into()))))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let end = match self.end {
            Some(end) => end,
            None if self.connection.is_given_up() => StreamEnd::Slow,
            None => StreamEnd::Client,
        };
        self.end = Some(end);
        self.give_back();
        self.connection.set_streaming(false);
        self.place = None;
        let counters = &self.core.counters;
        counters.streams.sub(1);
        counters.count_end(end);
    }
}

/// How long hyper may not ask for more: a comment goes out in between, for which it has to.
fn patience(core: &Core) -> Duration {
    core.settings.stream_keep_alive + core.settings.stream_write_timeout
}

//! One connection after its first message: one hand-written future that, whenever it is woken, reads what has come,
//! hands every whole message to the [`Protocol`] in one batch, and writes answers and notifications. It holds no buffer
//! while nothing moves.
//!
//! Nothing more is read while as much as may be is still to be written: a client that asks without reading waits for
//! itself. What it is to be told waits on the bus, as much as may, and nobody else waits for it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tidegate_bus::{Charge, DropReason, MemoryBudget};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tracing::debug;

use super::ending::Ending;
use super::observing::REGISTERED;
use super::protocol::{Flow, MAX_UNSENT, Protocol};
use super::scratch::{Scratch, Work, with_scratch};
use crate::codec::{Split, Token, number, split, uint};

/// How long a connection that is over may take to read the last message and close.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Most bytes that are read and thrown away after the last message was sent.
const LINGER_BYTES: usize = 1 << 20;

/// Rounds of reading and writing before other connections of the thread have their turn.
const ROUNDS: usize = 8;

/// Of an incomplete message, most bytes that are put before those of the next read; a longer one stays where it is and
/// grows.
const MOST_MOVED: usize = 8 << 10;

/// Bytes a connection may hold without a charge on the memory budget.
const UNCHARGED: usize = 16 << 10;

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Something moved; there may be more.
    Moved,
    /// Nothing to do until woken.
    Idle,
}

/// A connected client.
pub(super) struct Connection<S> {
    stream: S,
    protocol: Protocol,
    has_waker: bool,
    /// What has come and is not handled yet.
    partial: Vec<u8>,
    /// `partial` may hold whole messages.
    ready: bool,
    /// The last batch was long.
    is_exhausted: bool,
    /// Being written: whole messages, of which `written` bytes are gone.
    current: Vec<u8>,
    written: usize,
    needs_flush: bool,
    /// The client has not taken what was to be written last.
    is_stuck: bool,
    charge: Option<Charge>,
}

impl<S> Future for &mut Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let connection = &mut **self.get_mut();
        if !connection.has_waker {
            connection.protocol.beat.set_waker(cx.waker());
            connection.has_waker = true;
        }
        let now = Instant::now();
        with_scratch(|scratch| {
            for _ in 0..ROUNDS {
                match connection.round(cx, scratch, now) {
                    Err(ending) => return Poll::Ready(ending),
                    Ok(Round::Idle) => return Poll::Pending,
                    Ok(Round::Moved) => {}
                }
                if std::mem::take(&mut connection.is_exhausted) {
                    break;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// `rest` is what came behind the first message.
    pub(super) fn new(stream: S, protocol: Protocol, rest: Vec<u8>) -> Self {
        Self {
            stream,
            protocol,
            has_waker: false,
            partial: rest,
            ready: true,
            is_exhausted: false,
            current: Vec::new(),
            written: 0,
            needs_flush: false,
            is_stuck: false,
            charge: None,
        }
    }

    fn round(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        now: Instant,
    ) -> Result<Round, Ending> {
        let read = self.read(cx, scratch, now)?;
        let was_waiting = !self.protocol.takes_requests();
        self.protocol.advance(cx, &mut scratch.work.body, now)?;
        let written = self.write(cx, &mut scratch.work.body, now)?;
        if let Some(ending) = self.protocol.is_done() {
            // What is still to be written has its time at the end.
            return Err(ending);
        }
        let holds =
            self.partial.capacity() + self.current.capacity() + self.protocol.out.capacity();
        if !hold(&mut self.charge, self.protocol.endpoint.bus.memory(), holds) {
            return Err(Ending::refused(
                "all that waits takes as much memory as it may",
            ));
        }
        // Whoever waited for a decision, or for the store, may go on.
        let goes_on = was_waiting && self.protocol.takes_requests();
        Ok(match (read, written) {
            (Round::Idle, Round::Idle) if !goes_on => Round::Idle,
            _ => Round::Moved,
        })
    }

    // ---- reading ----------------------------------------------------------------------------

    fn may_read(&self) -> bool {
        let unsent = self.current.len() - self.written + self.protocol.out.len();
        unsent < MAX_UNSENT && self.protocol.takes_requests()
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        now: Instant,
    ) -> Result<Round, Ending> {
        if !self.may_read() {
            return Ok(Round::Idle);
        }
        if self.ready {
            self.ready = false;
            let bytes = std::mem::take(&mut self.partial);
            if !bytes.is_empty() {
                let done = self.handle(cx, &bytes, &mut scratch.work, now)?;
                self.keep_rest(bytes, done);
                return Ok(Round::Moved);
            }
        }
        let Scratch { read, work } = scratch;
        let kept = self.partial.len();
        let room = if kept <= MOST_MOVED { kept } else { 0 };
        let mut buffer = ReadBuf::new(&mut read[room..]);
        let count = match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(Round::Idle),
            Poll::Ready(Err(error)) => return Err(Ending::Lost(Some(error))),
            Poll::Ready(Ok(())) => buffer.filled().len(),
        };
        if count == 0 {
            return Err(Ending::Lost(None));
        }
        self.protocol.heard(now);
        let counters = self.protocol.endpoint.bus.counters();
        counters.bytes_received.add(count as u64);
        if kept == room {
            read[..room].copy_from_slice(&self.partial);
            self.partial = Vec::new();
            let bytes = &read[..room + count];
            let done = self.handle(cx, bytes, work, now)?;
            self.partial.extend_from_slice(&bytes[done..]);
        } else {
            self.partial.extend_from_slice(&read[..count]);
            let bytes = std::mem::take(&mut self.partial);
            let done = self.handle(cx, &bytes, work, now)?;
            self.keep_rest(bytes, done);
        }
        Ok(Round::Moved)
    }

    fn keep_rest(&mut self, mut bytes: Vec<u8>, done: usize) {
        if done == 0 {
            self.partial = bytes;
        } else if done < bytes.len() {
            self.partial = bytes.split_off(done);
        }
    }

    /// Handles every whole message in `bytes` as one batch and tells how far it came.
    fn handle(
        &mut self,
        cx: &Context<'_>,
        bytes: &[u8],
        work: &mut Work,
        now: Instant,
    ) -> Result<usize, Ending> {
        let endpoint = Arc::clone(&self.protocol.endpoint);
        let most = endpoint.max_message_bytes();
        let (mut at, mut messages) = (0, 0);
        let handled = endpoint.bus.batch(|worker| {
            loop {
                let frame = match split(&bytes[at..], most)? {
                    Split::Frame(frame) => frame,
                    Split::Incomplete(_) => return Ok(()),
                };
                let flow = self
                    .protocol
                    .on_frame(worker, &frame, cx.waker(), work, now)?;
                if flow == Flow::Next {
                    at += frame.len;
                    messages += 1;
                }
                // A small message may have many receivers, or a large answer: others have their turn now.
                self.is_exhausted = worker.is_exhausted();
                if !self.may_read() || self.is_exhausted {
                    self.ready = true;
                    return Ok(());
                }
            }
        });
        endpoint.bus.counters().packets_received.add(messages);
        handled.map(|()| at)
    }

    // ---- writing ----------------------------------------------------------------------------

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Result<Round, Ending> {
        let lost = |error| Ending::Lost(Some(error));
        let mut round = Round::Idle;
        loop {
            while self.written < self.current.len() {
                let unsent = &self.current[self.written..];
                match Pin::new(&mut self.stream).poll_write(cx, unsent) {
                    Poll::Pending => {
                        self.is_stuck = true;
                        return Ok(round);
                    }
                    Poll::Ready(Ok(0)) => return Err(lost(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Err(error)) => return Err(lost(error)),
                    Poll::Ready(Ok(written)) => {
                        self.written += written;
                        self.needs_flush = true;
                        round = Round::Moved;
                        let counters = self.protocol.endpoint.bus.counters();
                        counters.bytes_sent.add(written as u64);
                        if std::mem::take(&mut self.is_stuck) {
                            self.protocol.reads(now);
                        }
                    }
                }
            }
            self.written = 0;
            self.current.clear();
            std::mem::swap(&mut self.current, &mut self.protocol.out);
            self.protocol.notify(&mut self.current, scratch, now);
            if self.current.is_empty() {
                self.current = Vec::new();
                self.protocol.out = Vec::new();
                break;
            }
        }
        if self.needs_flush
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed.map_err(lost)?;
            self.needs_flush = false;
        }
        Ok(round)
    }

    // ---- the end ----------------------------------------------------------------------------

    /// Says what there is to say, closes, and counts what was lost.
    pub(super) async fn close(self: Box<Self>, ending: Ending) {
        let Self {
            mut stream,
            mut protocol,
            mut current,
            mut written,
            ..
        } = *self;
        debug!(peer = %protocol.address(), %ending, "A connection ended.");
        let of_sessions = protocol.tokens_of_sessions();
        protocol.end();
        let endpoint = Arc::clone(&protocol.endpoint);
        endpoint.metrics.closed[ending.closed() as usize].add(1);
        current.append(&mut protocol.out);
        ending.last_word(protocol.limits, &mut current);
        let is_lost = matches!(ending, Ending::Lost(_));
        if !is_lost {
            let writing = async {
                while written < current.len() {
                    match stream.write(&current[written..]).await {
                        Ok(count) if count > 0 => written += count,
                        _ => break,
                    }
                }
            };
            // It is over either way.
            let _ = tokio::time::timeout(LINGER, writing).await;
        }
        if is_lost || written == current.len() {
            finish(&mut stream, &[]).await;
        }
        let lost = unsent_notifications(&current, written, &of_sessions);
        endpoint
            .bus
            .count_dropped(DropReason::ConnectionClosed, lost);
    }
}

/// Holds `bytes` of the budget from now on, where they are worth it; `false` when it has no room.
fn hold(charge: &mut Option<Charge>, budget: &Arc<MemoryBudget>, bytes: usize) -> bool {
    if bytes <= UNCHARGED {
        *charge = None;
        return true;
    }
    match charge {
        Some(charge) => charge.resize(bytes),
        None => {
            *charge = budget.charge(bytes);
            charge.is_some()
        }
    }
}

/// Notifications among messages of which `written` bytes were sent: those of which the last byte was not, and that are
/// lost with that. Those with a token `of_sessions` are told again.
fn unsent_notifications(mut messages: &[u8], mut written: usize, of_sessions: &[Token]) -> u64 {
    let mut lost = 0;
    while let Ok(Split::Frame(frame)) = split(messages, usize::MAX) {
        let observe = frame.options.first(number::OBSERVE);
        let number = observe.and_then(|value| uint(value, 3));
        if written < frame.len
            && number.is_some_and(|number| number != REGISTERED)
            && !of_sessions.contains(&frame.token)
        {
            lost += 1;
        }
        written = written.saturating_sub(frame.len);
        messages = &messages[frame.len..];
    }
    lost
}

/// Sends the last bytes and closes so that they arrive: a socket that is closed with bytes unread resets the connection,
/// and the reset overtakes what was sent.
pub(super) async fn finish<S>(stream: &mut S, last: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        if !last.is_empty() {
            stream.write_all(last).await?;
        }
        stream.shutdown().await?;
        let mut thrown_away = vec![0; 4_096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = stream.read(&mut thrown_away).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        io::Result::Ok(())
    };
    // It is over either way.
    let _ = tokio::time::timeout(LINGER, closing).await;
}

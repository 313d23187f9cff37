//! A connected client: one hand-written future that does three things whenever it is woken.
//!
//! It reads what has come and hands every complete packet to the [`Protocol`] in one batch; answers; takes what the
//! bus has encoded for the client and writes it. It holds no buffer while nothing moves.
//!
//! Reading goes on while writing is stuck, so that a client that writes without reading, or two that
//! publish to each other, cannot lock up; only when too many of its own answers wait unread is it read no
//! further.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tidegate_bus::{DropReason, Ended, Session};
use tokio::io::AsyncWrite;
use tracing::debug;

use crate::codec::ReasonCode;
use crate::connection::{Held, LINGER, finish};
use crate::encoder::count_qos0;
use crate::endpoint::Endpoint;
use crate::lane::{Input, Lane, Round};
use crate::protocol::{Ending, Protocol};
use crate::side::Side;
use crate::streams::Streams;
use crate::transport::Transport;

/// Rounds of reading and writing before other connections of the thread have their turn.
const ROUNDS: usize = 8;

/// A connected client.
pub(crate) struct Pump<T: Transport> {
    endpoint: Arc<Endpoint>,
    protocol: Protocol,
    has_waker: bool,
    /// The stream that the connection has begun on.
    first: Lane<T>,
    /// Those that the client has opened since.
    further: Option<Box<Streams<T::Stream>>>,
    held: Held,
}

impl<T: Transport> Future for &mut Pump<T> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let pump = &mut **self.get_mut();
        if !pump.has_waker {
            // A task keeps its waker for life.
            pump.protocol.attachment.set_waker(cx.waker().clone());
            pump.has_waker = true;
        }
        for _ in 0..ROUNDS {
            let round = pump.round(cx);
            match round {
                Err(ending) => {
                    pump.hear_out(&ending, cx);
                    return Poll::Ready(ending);
                }
                Ok(Round::Idle) => return Poll::Pending,
                Ok(Round::Moved) => {}
            }
            let mut exhausted = std::mem::take(&mut pump.first.input.exhausted);
            if let Some(further) = &mut pump.further {
                exhausted |= further.take_exhausted();
            }
            if exhausted {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: Transport> Pump<T> {
    /// `reply` is CONNACK, `rest` what came behind CONNECT.
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        stream: T,
        protocol: Protocol,
        reply: Vec<u8>,
        rest: Vec<u8>,
    ) -> Self {
        let side = Side {
            replies: reply,
            ..Side::default()
        };
        let mut first = Lane::new(stream, side);
        first.input = Input {
            partial: rest,
            ready: true,
            exhausted: false,
        };
        Self {
            endpoint,
            protocol,
            has_waker: false,
            first,
            further: None,
            held: Held::default(),
        }
    }

    fn round(&mut self, cx: &mut Context<'_>) -> Result<Round, Ending> {
        let mut round = self.first.read(&self.endpoint, &mut self.protocol, cx)?;
        self.protocol.poll_acks(cx.waker(), &mut self.first.side)?;
        self.accept(cx)?;
        let mut holds = self.first.holds();
        if self.further.is_some() {
            round = round.or(self.serve_streams(cx)?);
            holds += self.further.as_ref().map_or(0, |further| further.holds());
        } else {
            round = round.or(self.write(cx)?);
        }
        if !self.held.resize(self.endpoint.bus.memory(), holds) {
            return Err(memory_is_full());
        }
        Ok(round)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<Round, Ending> {
        let mut round = Round::Idle;
        let counters = self.endpoint.bus.counters();
        loop {
            match self.first.poll_write(counters, cx, &mut round) {
                Poll::Pending => {
                    self.check_end()?;
                    return Ok(round);
                }
                Poll::Ready(written) => written.map_err(|error| Ending::Lost(Some(error)))?,
            }
            let now = self.endpoint.bus.now();
            self.protocol
                .attachment
                .take_output(&mut self.first.output.current, now)
                .map_err(|Ended(reason)| Ending::Bus(reason))?;
            if self.first.output.current.is_empty() {
                self.first.rest();
                break;
            }
        }
        let flushed = self.first.flush(cx);
        flushed.map_err(|error| Ending::Lost(Some(error)))?;
        Ok(round)
    }

    /// A client that does not read is ended like any other.
    fn check_end(&self) -> Result<(), Ending> {
        match self.protocol.attachment.ended() {
            Some(Ended(reason)) => Err(Ending::Bus(reason)),
            None => Ok(()),
        }
    }

    // ---- further streams --------------------------------------------------------------------

    #[inline]
    fn accept(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        while let Poll::Ready(stream) = self.first.stream.poll_stream(cx) {
            let channel = self.protocol.attachment.open_channel()?;
            self.further.get_or_insert_default().add(channel, stream);
        }
        Ok(())
    }

    /// One round of writing to all streams and of reading from all but the first.
    fn serve_streams(&mut self, cx: &mut Context<'_>) -> Result<Round, Ending> {
        let Self {
            endpoint,
            protocol,
            first,
            further,
            ..
        } = self;
        let Some(further) = further else {
            return Ok(Round::Idle);
        };
        let mut round = Round::Idle;
        while !further.is_full(&first.output.current) {
            let now = endpoint.bus.now();
            let taken = protocol.attachment.take_output(further.taken(), now);
            let nothing = further.taken().is_empty();
            further.part();
            // What was encoded before such an end goes out before the last packet.
            taken.map_err(|Ended(reason)| Ending::Bus(reason))?;
            if nothing {
                break;
            }
            round = Round::Moved;
        }
        round = round.or(further.round(endpoint, protocol, cx)?);
        let dropped = std::mem::take(&mut further.dropped);
        if dropped > 0 {
            let session = protocol.attachment.session();
            endpoint
                .bus
                .count_unsent(session, DropReason::OutboxFull, dropped);
        }
        loop {
            let written = first.poll_write(endpoint.bus.counters(), cx, &mut round);
            let Poll::Ready(written) = written else {
                self.check_end()?;
                return Ok(round);
            };
            written.map_err(|error| Ending::Lost(Some(error)))?;
            further.take_first(&mut first.output.current);
            if first.output.current.is_empty() {
                first.rest();
                break;
            }
        }
        let flushed = first.flush(cx);
        flushed.map_err(|error| Ending::Lost(Some(error)))?;
        self.check_end()?;
        Ok(round)
    }

    // ---- the end ----------------------------------------------------------------------------

    /// A client that leaves is heard to its last packet: what came on other streams before its DISCONNECT, and is
    /// not read yet, was sent before it.
    fn hear_out(&mut self, ending: &Ending, cx: &mut Context<'_>) {
        let leaves = matches!(ending, Ending::Client { .. } | Ending::Lost(None));
        if let Some(further) = self.further.as_mut().filter(|_| leaves) {
            further.hear_out(&self.endpoint, &mut self.protocol, cx);
        }
    }

    /// Gives the session back, says what there is to say, closes, and counts what was lost.
    pub(crate) async fn close(self: Box<Self>, ending: Ending) {
        let Self {
            endpoint,
            mut protocol,
            first,
            mut further,
            ..
        } = *self;
        let Lane {
            mut stream,
            mut side,
            mut output,
            ..
        } = first;
        let session = Arc::clone(protocol.attachment.session());
        match &ending {
            Ending::Violation { reason, text } => {
                endpoint.counters().protocol_errors.add(1);
                debug!(client_id = %session.id(), ?reason, text, "A client broke the protocol.");
            }
            Ending::Lost(Some(error)) if error.kind() == io::ErrorKind::InvalidData => {
                endpoint.counters().protocol_errors.add(1);
                debug!(client_id = %session.id(), %error, "A client broke the protocol under MQTT.");
            }
            ending => debug!(client_id = %session.id(), ?ending, "A connection ended."),
        }
        let lost = matches!(ending, Ending::Lost(_));
        if let Some(further) = &mut further {
            further.finish_fan_outs(&endpoint, &mut protocol);
            further.take_first(&mut output.current);
        }
        endpoint.bus.batch(|worker| {
            protocol.finish_fan_out(worker, &mut side);
            output.current.append(&mut side.replies);
            protocol.close(worker, &ending, &mut output.current);
        });
        let mut written = output.written;
        if !lost {
            if let Some(further) = &mut further {
                // Before the client hears of the end, and closes the connection.
                let counters = endpoint.bus.counters();
                let finishing = std::future::poll_fn(|cx| further.poll_finish(counters, cx));
                let _ = tokio::time::timeout(LINGER, finishing).await;
            }
            let writing = write_rest(&mut stream, &output.current, &mut written);
            let _ = tokio::time::timeout(LINGER, writing).await;
        }
        // Also after reading has failed: what carries the bytes may have a word to say about it, as
        // WebSocket and TLS do. On a socket that is gone it ends at once.
        if lost || written == output.current.len() {
            finish(&mut stream, &[]).await;
        }
        let mut unsent = count_qos0(&output.current, written);
        unsent += further.map_or(0, |further| further.count_unsent());
        endpoint
            .bus
            .count_unsent(&session, DropReason::ConnectionClosed, unsent);
        log_drops(&endpoint, &session);
    }
}

fn memory_is_full() -> Ending {
    Ending::violation(
        ReasonCode::QuotaExceeded,
        "all that waits takes as much memory as it may",
    )
}

/// What the client has lost so far, this connection and those before, for whoever looks for one
/// client's messages.
fn log_drops(endpoint: &Endpoint, session: &Session) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let drops = endpoint.bus.client_drops(session.id());
    let by_reason: Vec<String> = drops
        .iter()
        .map(|(reason, count)| format!("{}={count}", reason.as_str()))
        .collect();
    if !by_reason.is_empty() {
        let drops = by_reason.join(" ");
        debug!(client_id = %session.id(), drops, "Messages for a client were dropped.");
    }
}

async fn write_rest<S>(stream: &mut S, bytes: &[u8], written: &mut usize) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    while *written < bytes.len() {
        let n = std::future::poll_fn(|cx| {
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, &bytes[*written..]));
            Poll::Ready(n)
        })
        .await?;
        if n == 0 {
            return Ok(());
        }
        *written += n;
    }
    Ok(())
}

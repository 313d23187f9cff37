//! One MQTT connection over any byte stream, from its first byte to its last.
//!
//! Until CONNECT it is an ordinary task with a time limit. After that it is one hand-written future,
//! [`Pump`], that does three things whenever it is woken: read what has come and hand every complete
//! packet to the [`Protocol`] in one batch; answer; take what the bus has encoded for the client and
//! write it. It holds no buffer while nothing moves: bytes are read into a buffer of the thread, and
//! only an incomplete packet is kept.
//!
//! Reading goes on while writing is stuck, so that a client that writes without reading, or two that
//! publish to each other, cannot lock up; only when [`MAX_REPLIES`] of its own answers wait unread
//! is it read no further.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidegate_bus::{Charge, Counters, Ended, MemoryBudget, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tracing::debug;

use crate::codec::{Ack, AckType, Frame, PacketType, ReasonCode, Split, split};
use crate::encoder::count_qos0;
use crate::endpoint::{Endpoint, Peer, Served};
use crate::foreign::Foreign;
use crate::handshake::{self, Accepted, Rejected};
use crate::protocol::{Ending, Flow, Protocol};

/// Bytes read at once, into a buffer of the thread. Of large messages it holds many, so that few are
/// cut and kept for the next read.
const READ_BYTES: usize = 256 << 10;

/// Of an incomplete packet, most bytes that are put before those of the next read; a longer one stays
/// where it is and grows.
const MOST_MOVED: usize = 32 << 10;

/// Most bytes of answers (acknowledgements, PINGRESP, SUBACK) that wait behind a stuck write.
const MAX_REPLIES: usize = 64 << 10;

/// Rounds of reading and writing before other connections of the thread have their turn.
const ROUNDS: usize = 8;

/// How long a connection that is over may take to read the last packet and close.
const LINGER: Duration = Duration::from_secs(2);

/// Most bytes that are read and thrown away after the last packet was sent.
const LINGER_BYTES: usize = 1 << 20;

struct Scratch {
    read: Box<[u8]>,
    work: Work,
}

/// What a batch needs while it is handled.
#[derive(Default)]
struct Work {
    properties: Vec<u8>,
    /// Of PUBACKs that came one after the other and are not handled yet.
    acknowledged: Vec<NonZeroU16>,
}

/// Most PUBACKs that are handled under one lock.
const MOST_ACKNOWLEDGED: usize = 64;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| {
        Box::new(Scratch {
            read: vec![0; READ_BYTES].into_boxed_slice(),
            work: Work::default(),
        })
    });
    let result = work(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

/// Serves a connection until it ends.
///
/// What waits while the connection is idle is a small task and, in a box, the [`Pump`]; everything
/// else is boxed while it runs. That is why this is no `async fn`, which would keep room for its
/// arguments.
pub(crate) fn serve<S>(
    endpoint: Arc<Endpoint>,
    stream: S,
    peer: Peer,
) -> impl Future<Output = Served> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let establishing = Box::pin(establish(endpoint, stream, peer));
    async move {
        let mut pump = match establishing.await {
            Ok(pump) => pump,
            Err(served) => return served,
        };
        let ending = (&mut *pump).await;
        Box::pin(pump.close(ending)).await;
        Served::Ended
    }
}

/// Waits for CONNECT and lets the client in. `Err`: the connection is over.
async fn establish<S>(
    endpoint: Arc<Endpoint>,
    mut stream: S,
    peer: Peer,
) -> Result<Box<Pump<S>>, Served>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connecting = connect(&endpoint, &mut stream, &peer);
    let connecting = tokio::time::timeout(endpoint.settings.connect_timeout, connecting);
    let connected = tokio::select! {
        connected = connecting => connected,
        () = endpoint.adapter.closing() => {
            last_word(&mut stream).await;
            return Err(Served::Ended);
        }
    };
    let (accepted, rest) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(rejected)) => {
            debug!(peer = peer.address.map(tracing::field::display), reason = ?rejected.reason, text = rejected.text, "A connection was refused.");
            finish(&mut stream, &rejected.reply).await;
            return Err(match rejected.foreign {
                Some(foreign) => Served::Foreign(foreign, peer.address),
                None => Served::Ended,
            });
        }
        Err(_elapsed) => {
            endpoint.counters().connect_timeouts.add(1);
            debug!(
                peer = peer.address.map(tracing::field::display),
                "No CONNECT came in time."
            );
            last_word(&mut stream).await;
            return Err(Served::Ended);
        }
    };
    let Accepted {
        attachment,
        terms,
        reply,
    } = accepted;
    debug!(
        client_id = %attachment.session().id(),
        peer = peer.address.map(tracing::field::display),
        certificate_name = peer.certificate_name,
        "A client connected."
    );
    let protocol = Protocol::new(attachment, Arc::clone(&endpoint.settings), terms);
    Ok(Box::new(Pump {
        endpoint,
        stream,
        protocol,
        has_waker: false,
        input: Input {
            partial: rest,
            ready: true,
            exhausted: false,
        },
        output: Output {
            replies: reply,
            ..Output::default()
        },
        held: Held::default(),
    }))
}

/// Reads CONNECT only to answer why the connection is not served.
pub(crate) async fn refuse<S>(endpoint: &Endpoint, mut stream: S, reason: ReasonCode)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = async {
        let mut buffer = Vec::new();
        let rejected = match read_connect(endpoint, &mut stream, &mut buffer).await {
            Ok(len) => with_frame(&buffer[..len], |frame| handshake::refuse(frame, reason)),
            Err(rejected) => rejected,
        };
        finish(&mut stream, &rejected.reply).await;
    };
    let _ = tokio::time::timeout(LINGER, answer).await;
}

/// Reads CONNECT and lets the client in. Gives back what was read beyond it.
async fn connect<S>(
    endpoint: &Endpoint,
    stream: &mut S,
    peer: &Peer,
) -> Result<(Accepted, Vec<u8>), Rejected>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = Vec::new();
    let read = read_connect(endpoint, stream, &mut buffer).await;
    let len = read.map_err(|rejected| Rejected {
        foreign: Foreign::of(&buffer),
        ..rejected
    })?;
    let accepted = match split(&buffer[..len], u32::MAX) {
        Ok(Split::Frame(frame)) => endpoint.handshake(frame, peer).await?,
        // `read_connect` has found a whole frame of this length.
        _ => return Err(Rejected::silent(ReasonCode::MalformedPacket, "no packet")),
    };
    endpoint.bus.counters().packets_received.add(1);
    let rest = buffer.split_off(len);
    Ok((accepted, rest))
}

fn with_frame(bytes: &[u8], work: impl FnOnce(Frame<'_>) -> Rejected) -> Rejected {
    match split(bytes, u32::MAX) {
        Ok(Split::Frame(frame)) => work(frame),
        _ => Rejected::silent(ReasonCode::MalformedPacket, "no packet"),
    }
}

/// Reads until `buffer` begins with a whole CONNECT packet and tells its length.
async fn read_connect<S>(
    endpoint: &Endpoint,
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Result<usize, Rejected>
where
    S: AsyncRead + Unpin,
{
    let mut held = Held::default();
    loop {
        let found = split(buffer, endpoint.settings.max_packet_bytes).map_err(|error| {
            endpoint.counters().protocol_errors.add(1);
            Rejected::silent(error.reason_code(), error.to_string())
        })?;
        // MQTT-3.1.0-1. Told from the first byte, before the rest of another packet is waited for.
        let first = buffer.first().map(|byte| byte >> 4);
        if first.is_some_and(|kind| kind != PacketType::Connect as u8) {
            endpoint.counters().protocol_errors.add(1);
            let text = "the first packet is CONNECT (MQTT-3.1.0-1)";
            return Err(Rejected::silent(ReasonCode::ProtocolError, text));
        }
        if let Split::Frame(frame) = found {
            return Ok(frame.len);
        }
        let read = match stream.read_buf(buffer).await {
            Ok(0) => {
                let text = "the connection was lost";
                return Err(Rejected::silent(ReasonCode::UnspecifiedError, text));
            }
            Ok(read) => read,
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    endpoint.counters().protocol_errors.add(1);
                }
                let text = error.to_string();
                return Err(Rejected::silent(ReasonCode::UnspecifiedError, text));
            }
        };
        endpoint.bus.counters().bytes_received.add(read as u64);
        if !held.resize(endpoint.bus.memory(), buffer.capacity()) {
            let text = "all that waits takes as much memory as it may";
            return Err(Rejected::silent(ReasonCode::QuotaExceeded, text));
        }
    }
}

/// Closes a connection to which nothing was said. What carries the bytes may have to say that it is
/// over, as WebSocket and TLS do.
async fn last_word<S>(stream: &mut S)
where
    S: AsyncWrite + Unpin,
{
    // It is over either way.
    let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
}

/// Sends the last bytes and closes so that they arrive: a socket that is closed with bytes unread
/// resets the connection, and the reset overtakes what was sent.
async fn finish<S>(stream: &mut S, last: &[u8])
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

/// Bytes a connection may hold without a charge on the memory budget: what a packet of ordinary size
/// that was read in part, or answers to a batch, take for a moment.
const UNCHARGED: usize = 16 << 10;

/// What a connection holds of the memory budget, for a large packet that is still coming or answers
/// that are not read.
#[derive(Default)]
struct Held(Option<Charge>);

impl Held {
    /// Holds `bytes` from now on; `false` when the budget has no room.
    fn resize(&mut self, budget: &Arc<MemoryBudget>, bytes: usize) -> bool {
        if bytes <= UNCHARGED {
            self.0 = None;
            return true;
        }
        match &mut self.0 {
            Some(charge) => charge.resize(bytes),
            None => {
                self.0 = budget.charge(bytes);
                self.0.is_some()
            }
        }
    }
}

fn memory_is_full() -> Ending {
    Ending::violation(
        ReasonCode::QuotaExceeded,
        "all that waits takes as much memory as it may",
    )
}

/// Bytes that came and are not handled yet.
struct Input {
    partial: Vec<u8>,
    /// `partial` may hold whole packets.
    ready: bool,
    /// The last batch was long.
    exhausted: bool,
}

/// Bytes on their way to the client.
#[derive(Default)]
struct Output {
    /// Being written. Whole packets, of which `written` bytes are gone.
    current: Vec<u8>,
    written: usize,
    /// The protocol's own answers, next.
    replies: Vec<u8>,
    needs_flush: bool,
}

/// What a round of reading or writing came to.
enum Round {
    /// Something moved; there may be more.
    Moved,
    /// Nothing to do until woken.
    Idle,
}

/// A connected client.
struct Pump<S> {
    endpoint: Arc<Endpoint>,
    stream: S,
    protocol: Protocol,
    has_waker: bool,
    input: Input,
    output: Output,
    held: Held,
}

impl<S> Future for &mut Pump<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
                Err(ending) => return Poll::Ready(ending),
                Ok(Round::Idle) => return Poll::Pending,
                Ok(Round::Moved) => {}
            }
            if std::mem::take(&mut pump.input.exhausted) {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> Pump<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn round(&mut self, cx: &mut Context<'_>) -> Result<Round, Ending> {
        let read = self.read(cx)?;
        self.protocol
            .poll_acks(cx.waker(), &mut self.output.replies)?;
        let wrote = self.write(cx)?;
        let holds = self.input.partial.capacity() + self.output.replies.capacity();
        if !self.held.resize(self.endpoint.bus.memory(), holds) {
            return Err(memory_is_full());
        }
        match (read, wrote) {
            (Round::Idle, Round::Idle) => Ok(Round::Idle),
            _ => Ok(Round::Moved),
        }
    }

    // ---- reading ----------------------------------------------------------------------------

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Round, Ending> {
        if self.protocol.is_busy() {
            let (protocol, replies) = (&mut self.protocol, &mut self.output.replies);
            let bus = &self.endpoint.bus;
            bus.batch(|worker| protocol.continue_fan_out(worker, replies))?;
            return Ok(Round::Moved);
        }
        if self.output.replies.len() >= MAX_REPLIES {
            return Ok(Round::Idle);
        }
        if self.input.ready {
            self.input.ready = false;
            let bytes = std::mem::take(&mut self.input.partial);
            if !bytes.is_empty() {
                let done = with_scratch(|scratch| self.handle(&bytes, &mut scratch.work))?;
                self.keep_rest(bytes, done);
                return Ok(Round::Moved);
            }
        }
        with_scratch(|scratch| self.read_stream(cx, scratch))
    }

    fn read_stream(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Result<Round, Ending> {
        let kept = self.input.partial.len();
        // A short rest of the last read is put before the new bytes; a long one, of a large packet,
        // stays where it is and grows as bytes come.
        let room = if kept <= MOST_MOVED { kept } else { 0 };
        let mut buffer = ReadBuf::new(&mut scratch.read[room..]);
        let read = match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(Round::Idle),
            Poll::Ready(Err(error)) => return Err(Ending::Lost(Some(error))),
            Poll::Ready(Ok(())) => buffer.filled().len(),
        };
        if read == 0 {
            return Err(Ending::Lost(None));
        }
        self.counters().bytes_received.add(read as u64);
        if kept == room {
            scratch.read[..room].copy_from_slice(&self.input.partial);
            self.input.partial = Vec::new();
            let bytes = &scratch.read[..room + read];
            let done = self.handle(bytes, &mut scratch.work)?;
            self.input.partial.extend_from_slice(&bytes[done..]);
        } else {
            self.input.partial.extend_from_slice(&scratch.read[..read]);
            let bytes = std::mem::take(&mut self.input.partial);
            let done = self.handle(&bytes, &mut scratch.work)?;
            self.keep_rest(bytes, done);
        }
        Ok(Round::Moved)
    }

    fn keep_rest(&mut self, mut bytes: Vec<u8>, done: usize) {
        if done == 0 {
            self.input.partial = bytes;
        } else if done < bytes.len() {
            self.input.partial = bytes.split_off(done);
        }
    }

    /// Handles every complete packet in `bytes` as one batch and tells how far it came.
    fn handle(&mut self, bytes: &[u8], work: &mut Work) -> Result<usize, Ending> {
        let Self {
            endpoint,
            protocol,
            output,
            input,
            ..
        } = self;
        let maximum = endpoint.settings.max_packet_bytes;
        let Work {
            properties,
            acknowledged,
        } = work;
        let mut at = 0;
        let mut packets = 0;
        let handled = endpoint.bus.batch(|worker| {
            let end = loop {
                let frame = match split(&bytes[at..], maximum) {
                    Ok(Split::Frame(frame)) => frame,
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(Ending::from(error)),
                };
                at += frame.len;
                packets += 1;
                if let Some(packet_id) = Ack::plain(AckType::PubAck, frame) {
                    acknowledged.push(packet_id);
                    if acknowledged.len() >= MOST_ACKNOWLEDGED {
                        protocol.on_pubacks(worker, acknowledged)?;
                    }
                    continue;
                }
                protocol.on_pubacks(worker, acknowledged)?;
                if protocol.on_frame(worker, frame, properties, &mut output.replies)? == Flow::Busy
                {
                    input.ready = true;
                    break Ok(());
                }
                if worker.is_exhausted() {
                    // A small packet may have many receivers: others have their turn now.
                    input.ready = true;
                    input.exhausted = true;
                    break Ok(());
                }
            };
            protocol.on_pubacks(worker, acknowledged)?;
            if packets > 0 {
                protocol.attachment.heard(worker.now());
            }
            end
        });
        endpoint.bus.counters().packets_received.add(packets);
        handled.map(|()| at)
    }

    // ---- writing ----------------------------------------------------------------------------

    fn write(&mut self, cx: &mut Context<'_>) -> Result<Round, Ending> {
        let mut moved = false;
        loop {
            while self.output.written < self.output.current.len() {
                let unsent = &self.output.current[self.output.written..];
                match Pin::new(&mut self.stream).poll_write(cx, unsent) {
                    Poll::Pending => {
                        // A client that does not read is ended like any other.
                        return match self.protocol.attachment.ended() {
                            Some(Ended(reason)) => Err(Ending::Bus(reason)),
                            None if moved => Ok(Round::Moved),
                            None => Ok(Round::Idle),
                        };
                    }
                    Poll::Ready(Ok(0)) => return Err(Ending::Lost(None)),
                    Poll::Ready(Err(error)) => return Err(Ending::Lost(Some(error))),
                    Poll::Ready(Ok(written)) => {
                        self.output.written += written;
                        self.output.needs_flush = true;
                        self.counters().bytes_sent.add(written as u64);
                        moved = true;
                    }
                }
            }
            self.output.written = 0;
            self.output.current.clear();
            std::mem::swap(&mut self.output.current, &mut self.output.replies);
            let now = self.endpoint.bus.now();
            self.protocol
                .attachment
                .take_output(&mut self.output.current, now)
                .map_err(|Ended(reason)| Ending::Bus(reason))?;
            if self.output.current.is_empty() {
                // Nothing moves: no buffer is held.
                self.output.current = Vec::new();
                self.output.replies = Vec::new();
                break;
            }
        }
        if self.output.needs_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Err(error)) => return Err(Ending::Lost(Some(error))),
                Poll::Ready(Ok(())) => self.output.needs_flush = false,
            }
        }
        Ok(if moved { Round::Moved } else { Round::Idle })
    }

    fn counters(&self) -> &Counters {
        self.endpoint.bus.counters()
    }

    // ---- the end ----------------------------------------------------------------------------

    /// Gives the session back, says what there is to say, closes, and counts what was lost.
    async fn close(self: Box<Self>, ending: Ending) {
        let Self {
            endpoint,
            mut stream,
            protocol,
            mut output,
            ..
        } = *self;
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
        output.current.append(&mut output.replies);
        let lost = matches!(ending, Ending::Lost(_));
        endpoint
            .bus
            .batch(|worker| protocol.close(worker, &ending, &mut output.current));
        let mut written = output.written;
        if !lost {
            let writing = write_rest(&mut stream, &output.current, &mut written);
            let _ = tokio::time::timeout(LINGER, writing).await;
        }
        // Also after reading has failed: what carries the bytes may have a word to say about it, as
        // WebSocket and TLS do. On a socket that is gone it ends at once.
        if lost || written == output.current.len() {
            finish(&mut stream, &[]).await;
        }
        let unsent = count_qos0(&output.current, written);
        endpoint.bus.count_unsent(&session, unsent);
        log_drops(&endpoint, &session);
    }
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

//! One stream of a connection after CONNECT: bytes in, bytes out.
//!
//! Nothing is held while nothing moves: bytes are read into a buffer of the thread, and only an incomplete packet
//! is kept.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate_bus::Counters;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::{Ack, AckType, Split, split};
use crate::endpoint::Endpoint;
use crate::protocol::{Ending, Flow, Protocol};
use crate::side::Side;

/// Bytes read at once, into a buffer of the thread. Of large messages it holds many, so that few are
/// cut and kept for the next read.
const READ_BYTES: usize = 256 << 10;

/// Of an incomplete packet, most bytes that are put before those of the next read; a longer one stays
/// where it is and grows.
const MOST_MOVED: usize = 32 << 10;

/// Most bytes of answers (acknowledgements, PINGRESP, SUBACK) that wait behind a stuck write.
const MAX_REPLIES: usize = 64 << 10;

/// Most answers that wait for the store before nothing more is read, those of one batch on top: while the disk fails
/// or is slow, a client cannot fill the memory with what it asks for. It is far more than one sync takes.
const MAX_WAITING: usize = 8_192;

/// Most PUBACKs that are handled under one lock.
const MOST_ACKNOWLEDGED: usize = 64;

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

/// What a round of reading or writing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Something moved; there may be more.
    Moved,
    /// Nothing to do until woken.
    Idle,
}

impl Round {
    pub(crate) const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Idle, Self::Idle) => Self::Idle,
            _ => Self::Moved,
        }
    }
}

/// One stream of a connection.
pub(crate) struct Lane<S> {
    pub(crate) stream: S,
    /// What the protocol keeps of it.
    pub(crate) side: Side,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

/// Bytes that came and are not handled yet.
#[derive(Default)]
pub(crate) struct Input {
    pub(crate) partial: Vec<u8>,
    /// `partial` may hold whole packets.
    pub(crate) ready: bool,
    /// The last batch was long.
    pub(crate) exhausted: bool,
}

impl Input {
    fn keep_rest(&mut self, mut bytes: Vec<u8>, done: usize) {
        if done == 0 {
            self.partial = bytes;
        } else if done < bytes.len() {
            self.partial = bytes.split_off(done);
        }
    }
}

/// Bytes on their way to the client.
#[derive(Default)]
pub(crate) struct Output {
    /// Being written. Whole packets, of which `written` bytes are gone.
    pub(crate) current: Vec<u8>,
    pub(crate) written: usize,
    pub(crate) needs_flush: bool,
}

impl<S> Lane<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) fn new(stream: S, side: Side) -> Self {
        Self {
            stream,
            side,
            input: Input::default(),
            output: Output::default(),
        }
    }

    /// Bytes that its buffers hold beside those that are encoded for it.
    pub(crate) fn holds(&self) -> usize {
        self.input.partial.capacity() + self.side.replies.capacity()
    }

    /// Reads what has come and hands every complete packet to the protocol in one batch. [`Ending::Lost`]: the
    /// stream has ended.
    pub(crate) fn read(
        &mut self,
        endpoint: &Endpoint,
        protocol: &mut Protocol,
        cx: &mut Context<'_>,
    ) -> Result<Round, Ending> {
        if self.side.is_busy() {
            let side = &mut self.side;
            endpoint
                .bus
                .batch(|worker| protocol.continue_fan_out(worker, side))?;
            return Ok(Round::Moved);
        }
        if self.side.replies.len() >= MAX_REPLIES || self.side.waiting() >= MAX_WAITING {
            return Ok(Round::Idle);
        }
        if self.input.ready {
            self.input.ready = false;
            let bytes = std::mem::take(&mut self.input.partial);
            if !bytes.is_empty() {
                let done = with_scratch(|scratch| {
                    self.handle(endpoint, protocol, &bytes, &mut scratch.work)
                })?;
                self.input.keep_rest(bytes, done);
                return Ok(Round::Moved);
            }
        }
        with_scratch(|scratch| self.read_stream(endpoint, protocol, cx, scratch))
    }

    fn read_stream(
        &mut self,
        endpoint: &Endpoint,
        protocol: &mut Protocol,
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
        endpoint.bus.counters().bytes_received.add(read as u64);
        if kept == room {
            scratch.read[..room].copy_from_slice(&self.input.partial);
            self.input.partial = Vec::new();
            let bytes = &scratch.read[..room + read];
            let done = self.handle(endpoint, protocol, bytes, &mut scratch.work)?;
            self.input.partial.extend_from_slice(&bytes[done..]);
        } else {
            self.input.partial.extend_from_slice(&scratch.read[..read]);
            let bytes = std::mem::take(&mut self.input.partial);
            let done = self.handle(endpoint, protocol, &bytes, &mut scratch.work)?;
            self.input.keep_rest(bytes, done);
        }
        Ok(Round::Moved)
    }

    /// Handles every complete packet in `bytes` as one batch and tells how far it came.
    fn handle(
        &mut self,
        endpoint: &Endpoint,
        protocol: &mut Protocol,
        bytes: &[u8],
        work: &mut Work,
    ) -> Result<usize, Ending> {
        let Self { side, input, .. } = self;
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
                if protocol.on_frame(worker, frame, properties, side)? == Flow::Busy {
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

    /// Writes what is left of the bytes on their way. `Ready`: all are gone.
    pub(crate) fn poll_write(
        &mut self,
        counters: &Counters,
        cx: &mut Context<'_>,
        round: &mut Round,
    ) -> Poll<io::Result<()>> {
        let output = &mut self.output;
        while output.written < output.current.len() {
            let unsent = &output.current[output.written..];
            match Pin::new(&mut self.stream).poll_write(cx, unsent) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(written)) => {
                    output.written += written;
                    output.needs_flush = true;
                    counters.bytes_sent.add(written as u64);
                    *round = Round::Moved;
                }
            }
        }
        output.written = 0;
        output.current.clear();
        std::mem::swap(&mut output.current, &mut self.side.replies);
        Poll::Ready(Ok(()))
    }

    /// Nothing moves: no buffer is held.
    pub(crate) fn rest(&mut self) {
        self.output.current = Vec::new();
        self.side.replies = Vec::new();
    }

    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.output.needs_flush
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed?;
            self.output.needs_flush = false;
        }
        Ok(())
    }
}

//! The streams of a connection beside the one it has begun on (MQTT over QUIC, multi-stream mode).
//!
//! What the bus has encoded for the client comes as one sequence; each packet of it that belongs to another stream
//! than the first says so. Here the sequence is parted. Each stream is written at its own pace: a client that
//! does not read one of them receives on the others.
//!
//! # States of a stream
//!
//! ```text
//!            the client has finished it        everything is written         acknowledged
//!   open ─────────────────────────────▶ ended ──────────────────────▶ finished ─────────▶ (gone)
//!    │                                    │                               │
//!    └──── reset or stopped by the client, or the gateway cannot write ───┴──────────────▶ (lost)
//! ```
//!
//! - *open*: packets come, answers and deliveries go.
//! - *ended*: nothing comes any more. Answers that are owed are written, new deliveries go to the first stream.
//! - *lost*: answers that are owed are dropped. Acknowledged messages that were sent on it are sent again on the
//!   first stream, with DUP; those at QoS 0 that were not begun go there, too.
//!
//! Invariant: neither ends the connection; only a packet that breaks the protocol does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate_bus::{Channel, Counters};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::encoder::{count_qos0, packets};
use crate::endpoint::Endpoint;
use crate::lane::{Lane, Round};
use crate::protocol::{Ending, Protocol};
use crate::side::Side;

/// Bytes that wait for one stream before messages at QoS 0 for it are dropped. What is acknowledged waits up to
/// twice as many; then nothing more is taken from the bus, whatever stream it is for.
const MOST_AHEAD: usize = 256 << 10;

/// Reads from one stream after the client has said that it leaves: of what has come more is never there, of what
/// still comes not all.
const MOST_HEARD: usize = 64;

/// Further streams of one connection.
pub(crate) struct Streams<S> {
    streams: Vec<Stream<S>>,
    /// For the first stream.
    first: Vec<u8>,
    taken: Vec<u8>,
    /// Messages at QoS 0 that were dropped, because their stream stands still.
    pub(crate) dropped: u64,
}

struct Stream<S> {
    channel: Channel,
    lane: Lane<S>,
    /// What comes after `lane.output`.
    waiting: Vec<u8>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Ended,
    Finished,
}

/// How a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The client has everything.
    Complete,
    /// It may not.
    Lost,
}

impl<S> Default for Streams<S> {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            first: Vec::new(),
            taken: Vec::new(),
            dropped: 0,
        }
    }
}

impl<S> Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn ahead(&self) -> usize {
        self.lane.output.current.len() + self.waiting.len()
    }

    /// One round: reads, answers, writes. An error is the connection's.
    fn round(
        &mut self,
        endpoint: &Endpoint,
        protocol: &mut Protocol,
        cx: &mut Context<'_>,
    ) -> Result<(Round, Option<Over>), Ending> {
        let mut round = Round::Idle;
        if self.phase == Phase::Open || self.lane.side.is_busy() || self.lane.input.ready {
            match self.lane.read(endpoint, protocol, cx) {
                Ok(moved) => round = moved,
                // The rest of a packet that was cut says nothing.
                Err(Ending::Lost(None)) if self.phase == Phase::Open => {
                    self.phase = Phase::Ended;
                    protocol.end_stream(&self.lane.side)?;
                    round = Round::Moved;
                }
                Err(Ending::Lost(None)) => {}
                Err(Ending::Lost(Some(_))) => return Ok((Round::Moved, Some(Over::Lost))),
                Err(ending) => return Err(ending),
            }
        }
        protocol.poll_acks(cx.waker(), &mut self.lane.side)?;
        let over = match self.poll_write(endpoint.bus.counters(), cx, &mut round) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => Some(Over::Complete),
            Poll::Ready(Err(_)) => Some(Over::Lost),
        };
        Ok((round, over))
    }

    /// Writes what there is, and the end when nothing comes any more. `Ready`: the stream is over.
    fn poll_write(
        &mut self,
        counters: &Counters,
        cx: &mut Context<'_>,
        round: &mut Round,
    ) -> Poll<io::Result<()>> {
        if self.phase != Phase::Finished {
            loop {
                std::task::ready!(self.lane.poll_write(counters, cx, round))?;
                self.lane.output.current.append(&mut self.waiting);
                if self.lane.output.current.is_empty() {
                    break;
                }
            }
            self.waiting = Vec::new();
            self.lane.rest();
            self.lane.flush(cx)?;
            let side = &self.lane.side;
            if self.phase == Phase::Open || side.is_busy() || side.waiting() > 0 {
                return Poll::Pending;
            }
            self.phase = Phase::Finished;
        }
        Pin::new(&mut self.lane.stream).poll_shutdown(cx)
    }

    /// Takes out what was not begun to be written and is not sent again: the whole messages at QoS 0. One that was
    /// cut is counted.
    fn unsent_qos0(&self) -> (Vec<u8>, u64) {
        let mut whole = Vec::new();
        let mut cut = 0;
        let output = &self.lane.output;
        let mut begin = 0;
        for packet in packets(&output.current) {
            if begin >= output.written && packet.is_qos0() {
                whole.extend_from_slice(packet.bytes);
            }
            let is_cut = begin < output.written && packet.next > output.written;
            cut += u64::from(is_cut && packet.is_qos0());
            begin = packet.next;
        }
        for packet in packets(&self.waiting) {
            if packet.is_qos0() {
                whole.extend_from_slice(packet.bytes);
            }
        }
        (whole, cut)
    }
}

impl<S> Streams<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// One more.
    pub(crate) fn add(&mut self, channel: Channel, stream: S) {
        let side = Side {
            channel: Some(channel),
            ..Side::default()
        };
        self.streams.push(Stream {
            channel,
            lane: Lane::new(stream, side),
            waiting: Vec::new(),
            phase: Phase::Open,
        });
    }

    /// One round of every stream. An error is the connection's.
    pub(crate) fn round(
        &mut self,
        endpoint: &Endpoint,
        protocol: &mut Protocol,
        cx: &mut Context<'_>,
    ) -> Result<Round, Ending> {
        let mut round = Round::Idle;
        let mut at = 0;
        while let Some(stream) = self.streams.get_mut(at) {
            let (moved, over) = stream.round(endpoint, protocol, cx)?;
            round = round.or(moved);
            let Some(over) = over else {
                at += 1;
                continue;
            };
            round = Round::Moved;
            self.close(at, over, endpoint, protocol)?;
        }
        Ok(round)
    }

    fn close(
        &mut self,
        at: usize,
        over: Over,
        endpoint: &Endpoint,
        protocol: &mut Protocol,
    ) -> Result<(), Ending> {
        let Self { streams, taken, .. } = self;
        let side = &mut streams[at].lane.side;
        endpoint
            .bus
            .batch(|worker| protocol.finish_fan_out(worker, side));
        protocol.end_stream(side)?;
        protocol.close_stream(side, over == Over::Lost, taken)?;
        self.part();
        let stream = self.streams.swap_remove(at);
        if over == Over::Lost {
            let (mut unsent, cut) = stream.unsent_qos0();
            self.first.append(&mut unsent);
            self.dropped += cut;
        }
        Ok(())
    }

    /// Whether a last batch was long, and others should have their turn.
    pub(crate) fn take_exhausted(&mut self) -> bool {
        let mut exhausted = false;
        for stream in &mut self.streams {
            exhausted |= std::mem::take(&mut stream.lane.input.exhausted);
        }
        exhausted
    }

    /// Whether a stream stands still with so much that nothing more is taken for any.
    pub(crate) fn is_full(&self, first: &[u8]) -> bool {
        let streams = self.streams.iter().map(Stream::ahead);
        let first = first.len() + self.first.len();
        streams.chain([first]).any(|ahead| ahead >= 2 * MOST_AHEAD)
    }

    /// Where the next packets from the bus go, until [`Self::part`].
    pub(crate) const fn taken(&mut self) -> &mut Vec<u8> {
        &mut self.taken
    }

    /// Parts what was taken from the bus among the streams.
    pub(crate) fn part(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        let mut last = 0;
        for packet in packets(&taken) {
            let mut ahead = self.first.len();
            let mut waiting = &mut self.first;
            if let Some(channel) = packet.channel {
                // Mostly as the one before.
                if self.streams.get(last).is_none_or(|s| s.channel != channel) {
                    let found = self.streams.iter().position(|s| s.channel == channel);
                    last = found.unwrap_or(usize::MAX);
                }
                let stream = self.streams.get_mut(last);
                // One that is finished takes nothing more.
                if let Some(stream) = stream.filter(|stream| stream.phase != Phase::Finished) {
                    ahead = stream.ahead();
                    waiting = &mut stream.waiting;
                }
            }
            if ahead >= MOST_AHEAD && packet.is_qos0() {
                self.dropped += 1;
                continue;
            }
            waiting.extend_from_slice(packet.bytes);
        }
    }

    /// Appends what is for the first stream.
    pub(crate) fn take_first(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.first);
    }

    /// Bytes that its buffers hold.
    pub(crate) fn holds(&self) -> usize {
        let streams = self.streams.iter().map(|stream| {
            let lane = &stream.lane;
            lane.holds() + lane.output.current.capacity() + stream.waiting.capacity()
        });
        streams.sum::<usize>() + self.first.capacity()
    }

    /// The connection ends: handles what has come already.
    pub(crate) fn hear_out(
        &mut self,
        endpoint: &Endpoint,
        protocol: &mut Protocol,
        cx: &mut Context<'_>,
    ) {
        for stream in &mut self.streams {
            if stream.phase != Phase::Open {
                continue;
            }
            for _ in 0..MOST_HEARD {
                // An error is a second end.
                if stream.lane.read(endpoint, protocol, cx).ok() != Some(Round::Moved) {
                    break;
                }
            }
        }
    }

    /// The connection ends: what was accepted is served to the last receiver.
    pub(crate) fn finish_fan_outs(&mut self, endpoint: &Endpoint, protocol: &mut Protocol) {
        for stream in &mut self.streams {
            let side = &mut stream.lane.side;
            if side.is_busy() {
                endpoint
                    .bus
                    .batch(|worker| protocol.finish_fan_out(worker, side));
            }
        }
    }

    /// The connection ends: writes what is left, and the end of each stream.
    pub(crate) fn poll_finish(&mut self, counters: &Counters, cx: &mut Context<'_>) -> Poll<()> {
        let mut pending = false;
        for stream in &mut self.streams {
            if stream.phase == Phase::Open {
                stream.phase = Phase::Ended;
            }
            // Answers that still wait for the store have nobody to wait for them.
            stream.lane.side.acks = crate::pending::PendingAcks::default();
            stream.lane.side.answers = crate::pending::PendingAnswers::default();
            let mut round = Round::Idle;
            pending |= stream.poll_write(counters, cx, &mut round).is_pending();
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Messages at QoS 0 that were taken and not written.
    pub(crate) fn count_unsent(&self) -> u64 {
        let streams = self.streams.iter().map(|stream| {
            let output = &stream.lane.output;
            count_qos0(&output.current, output.written) + count_qos0(&stream.waiting, 0)
        });
        streams.sum::<u64>() + count_qos0(&self.first, 0)
    }
}

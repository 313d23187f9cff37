//! A WebSocket as a stream of bytes.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::control::Rare;
use crate::decoder::{Decoder, Limits, State};
use crate::violation::Violation;
use crate::writer::Writer;

/// Reads from the inner stream that may bring no payload before others have their turn: a flood of
/// pings or of empty frames is read like anything else, but not all of it at once.
const ROUNDS: usize = 4;

/// The close code of a connection that has done what it was for (RFC 6455 section 7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

/// The stream inside binary frames, once the upgrade is done.
///
/// **Reading** gives the payload of the client's data frames, one after the other, wherever they and
/// their messages end. Pings are answered on the way. After the client's close frame it is at its
/// end. When the client breaks the protocol, reading fails once with
/// [`InvalidData`](io::ErrorKind::InvalidData) and the [`Violation`]; after that the client's bytes
/// can still be read to be thrown away, as zeros, so that a caller can wait for it to close.
///
/// **Writing** makes one binary frame of each call, at most 64 KiB of it. The first byte of a frame
/// fixes its length: when the inner stream has taken only part of it, the bytes offered next are the
/// rest of that frame.
///
/// **Shutting down** sends the close frame, 1000 or what answers the client's, and shuts the inner
/// stream down. Inside a frame there is no room for a close frame; then the inner stream is shut down
/// without. There is no wait for the client's close frame: read until the end for that.
///
/// Reading and writing wake one task, the one that polled last: it is for a task that does both, not
/// for two halves in two tasks.
pub struct WebSocket<S> {
    inner: S,
    decoder: Decoder,
    writer: Writer,
    /// The close frame is on its way or the inner stream has failed: nothing more is sent.
    closing: bool,
    /// A control frame was written and may lie in a buffer of the inner stream.
    needs_flush: bool,
    rare: Option<Box<Rare>>,
}

impl<S> WebSocket<S> {
    pub(crate) fn new(inner: S, limits: Limits, early: Vec<u8>) -> Self {
        Self {
            inner,
            decoder: Decoder::new(limits),
            writer: Writer::default(),
            closing: false,
            needs_flush: false,
            rare: Rare::early(early),
        }
    }

    /// The stream that carries the frames.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// How the client broke the protocol, if it did.
    pub const fn violation(&self) -> Option<Violation> {
        match self.decoder.state() {
            State::Failing(violation) | State::Failed(violation) => Some(violation),
            State::Open | State::Closed(_) => None,
        }
    }

    /// Gives the memory of the rare state back when nothing of it is needed.
    fn tidy(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_idle()) {
            self.rare = None;
        }
    }
}

impl<S> WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Writes the control frames that wait. Ready when there is none, or when it is not their turn
    /// because a data frame is open.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writer.is_open() {
            return Poll::Ready(Ok(()));
        }
        let pongs = !self.closing;
        while let Some(unsent) = self.rare.as_mut().and_then(|rare| rare.unsent(pongs)) {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            if let Some(rare) = &mut self.rare {
                rare.sent(sent);
            }
        }
        self.tidy();
        Poll::Ready(Ok(()))
    }

    /// Moves the control frames on from the reading side, which alone is polled while there is
    /// nothing to write. What came from the client is still to be read when they cannot be sent.
    fn answer(&mut self, cx: &mut Context<'_>) {
        if self.closing || (self.rare.is_none() && !self.needs_flush) {
            return;
        }
        let answered = self.poll_control(cx).map(|sent| {
            sent?;
            if self.needs_flush
                && let Poll::Ready(flushed) = Pin::new(&mut self.inner).poll_flush(cx)
            {
                self.needs_flush = false;
                flushed?;
            }
            io::Result::Ok(())
        });
        if let Poll::Ready(Err(_)) = answered {
            self.closing = true;
            self.needs_flush = false;
        }
    }

    /// Reads raw bytes, those that came with the upgrade first. Gives back how many.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let start = buf.filled().len();
        if let Some(rare) = &mut self.rare {
            buf.put_slice(rare.take_early(buf.remaining()));
        }
        if buf.filled().len() == start {
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        }
        Poll::Ready(Ok(buf.filled().len() - start))
    }
}

impl<S> AsyncRead for WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let start = buf.filled().len();
        for _ in 0..ROUNDS {
            match this.decoder.state() {
                State::Open | State::Failed(_) => {}
                State::Closed(_) => return Poll::Ready(Ok(())),
                State::Failing(violation) => {
                    this.decoder.report(violation);
                    let error = io::Error::new(io::ErrorKind::InvalidData, violation);
                    return Poll::Ready(Err(error));
                }
            }
            this.answer(cx);
            let read = ready!(this.poll_raw(cx, buf))?;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            let raw = &mut buf.filled_mut()[start..];
            if let State::Failed(_) = this.decoder.state() {
                raw.fill(0);
                return Poll::Ready(Ok(()));
            }
            let payload = this.decoder.decode(raw, &mut this.rare);
            buf.set_filled(start + payload);
            this.tidy();
            if payload > 0 {
                // A caller that has what it wants may not read again soon.
                this.answer(cx);
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> AsyncWrite for WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.closing || (!this.writer.is_open() && this.decoder.state() != State::Open) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !this.writer.is_open() {
            ready!(this.poll_control(cx))?;
            this.writer.begin(buf.len());
        }
        let payload = &buf[..this.writer.clip(buf.len())];
        loop {
            let header = this.writer.header();
            let inner = Pin::new(&mut this.inner);
            let written = if header.is_empty() {
                inner.poll_write(cx, payload)
            } else {
                let frame = [IoSlice::new(header), IoSlice::new(payload)];
                inner.poll_write_vectored(cx, &frame)
            };
            match written {
                Poll::Ready(Ok(sent)) if sent > 0 => {
                    let sent = this.writer.sent(sent);
                    if sent > 0 {
                        return Poll::Ready(Ok(sent));
                    }
                }
                nothing => {
                    this.writer.take_back();
                    return nothing;
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_control(cx))?;
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        this.needs_flush = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            let code = match this.decoder.state() {
                State::Open => Some(NORMAL_CLOSURE),
                State::Closed(code) => code,
                State::Failing(violation) | State::Failed(violation) => {
                    Some(violation.close_code())
                }
            };
            this.rare.get_or_insert_default().close(code);
        }
        // Inside a data frame it is not its turn and never will be.
        // What cannot be said is left out; that nothing more will come is said all the same, and what is
        // under the frames may have a last word of its own, as TLS does after an error.
        let _ = ready!(this.poll_control(cx));
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("state", &self.decoder.state())
            .finish_non_exhaustive()
    }
}

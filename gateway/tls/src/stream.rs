//! A TLS connection as a stream of bytes.
//!
//! What TLS is doing and what is kept for it is [`Session`]'s; the socket and whoever waits for it are
//! here.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::scratch::with_scratch;
use crate::session::{Session, State};

/// Most bytes that are taken by one write: one record (RFC 8446, 5.1). They are encrypted at once, and
/// what the socket does not take of that is all that ever waits. More at a time is no faster.
pub(crate) const MAX_PLAINTEXT: usize = 16 << 10;

/// A TLS connection of a client.
///
/// It holds no buffers while nothing moves: it reads and writes by way of buffers of the thread, and
/// keeps an incomplete record (about 18 KiB at most), plaintext that its reader had no room for (less
/// than 64 KiB; none if the reader offers that much), and ciphertext that the socket did not take
/// (about 16 KiB at most), each only as long as there is any.
///
/// **Reading** ends with the client's `close_notify`. A connection that ends without one has been
/// cut, perhaps by somebody else: [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) (RFC 8446, 6.1). If
/// the client breaks the protocol, it is sent an alert, and reading fails once with
/// [`InvalidData`](io::ErrorKind::InvalidData) and the [`rustls::Error`]; after that the client's
/// bytes can still be read to be thrown away, as zeros, so that a caller can wait for it to close.
///
/// **Writing** makes one record of each call, 16 KiB at most, also if they come in several pieces. It
/// takes nothing while earlier ciphertext waits for the socket. Flush to wait for that; reading moves it
/// on too.
///
/// **Shutting down** sends `close_notify` and shuts the socket down for writing. There is no wait for
/// the client's: read until the end for that.
///
/// Reading and writing wake one task, the one that polled last: it is for a task that does both, not
/// for two halves in two tasks.
pub struct Stream {
    tcp: TcpStream,
    session: Session,
    /// Nothing is encrypted any more: `close_notify` is on its way, or writing has failed.
    closing: bool,
}

impl Stream {
    /// A connection that has not shaken hands.
    pub(crate) fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tcp,
            session: Session::new(config)?,
            closing: false,
        })
    }

    /// Shakes hands. After an error the alert is written, if there is one and there was room for it.
    /// Nothing is lost when this is dropped before it completes: call it again to go on.
    pub(crate) async fn shake_hands(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    /// Whether the client has made us answer its first message.
    pub(crate) fn has_answered(&self) -> bool {
        self.session.has_answered()
    }

    /// Waits until the handshake can go on: the client has sent something, or has taken what waits for
    /// it.
    pub(crate) async fn moves(&self) -> io::Result<()> {
        let interest = if self.session.has_outgoing() {
            Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        self.tcp.ready(interest).await.map(drop)
    }

    /// The socket.
    #[must_use]
    pub const fn get_ref(&self) -> &TcpStream {
        &self.tcp
    }

    /// What the handshake agreed on.
    pub(crate) fn common(&self) -> &CommonState {
        self.session.common()
    }

    pub(crate) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let sent = self.poll_drain(cx);
            if let Some(error) = self.session.take_failure() {
                return Poll::Ready(Err(invalid(*error)));
            }
            if self.session.has_failed() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            // A client reads what it is sent before it sends more.
            ready!(sent)?;
            if !self.session.common().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            // What comes behind the handshake is kept for the first read.
            if ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads from the socket and processes it. Returns how many bytes were read.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        with_scratch(|scratch| {
            let held = self.session.held();
            // There is room: what is held is less than the buffer.
            let mut raw = ReadBuf::new(&mut scratch.incoming[held..]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut raw))?;
            let read = raw.filled().len();
            if read > 0 {
                let bytes = &mut scratch.incoming[..held + read];
                self.session.receive(bytes, reader);
            }
            Poll::Ready(Ok(read))
        })
    }

    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.outgoing().is_empty() {
            let rest = self.session.outgoing().rest();
            let sent = match ready!(Pin::new(&mut self.tcp).poll_write(cx, rest)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                sent => sent,
            };
            match sent {
                Ok(sent) => self.session.outgoing().consume(sent),
                Err(error) => return Poll::Ready(Err(self.broken(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what waits on from the reading side, which alone is polled while there is nothing to
    /// write. What came from the client is still to be read when it cannot be sent.
    fn push(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll_drain(cx);
    }

    /// The socket does not take anything any more, so there is nothing to keep.
    fn broken(&mut self, error: io::Error) -> io::Error {
        self.closing = true;
        self.session.outgoing().clear();
        error
    }

    fn is_closed_for_writing(&self) -> bool {
        self.closing || self.session.has_failed()
    }

    /// Encrypts all of `plaintext` and writes what the socket takes. Nothing waits before.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        plaintext: &[u8],
        ciphertext: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let Ok(length) = self.session.encrypt(plaintext, ciphertext) else {
            self.closing = true;
            self.push(cx);
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the keys have encrypted as much as is safe",
            ));
        };
        let mut rest = &ciphertext[..length];
        while !rest.is_empty() {
            match Pin::new(&mut self.tcp).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(self.broken(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => rest = &rest[sent..],
                Poll::Ready(Err(error)) => return Err(self.broken(error)),
                Poll::Pending => {
                    self.session.outgoing().push(rest);
                    break;
                }
            }
        }
        Ok(plaintext.len())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if reader.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.push(cx);
        let start = reader.filled().len();
        // Rounds without plaintext have an end: rustls refuses a client that sends nothing else, and
        // of bytes of one record only so many are read before tokio wants others to have a turn.
        loop {
            let plaintext = this.session.plaintext();
            if !plaintext.is_empty() {
                let rest = plaintext.rest();
                let count = rest.len().min(reader.remaining());
                reader.put_slice(&rest[..count]);
                plaintext.consume(count);
            }
            if reader.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = this.session.take_failure() {
                return Poll::Ready(Err(invalid(*error)));
            }
            match this.session.state() {
                State::Open | State::Failing(_) => {}
                State::PeerClosed => return Poll::Ready(Ok(())),
                State::Failed => {
                    ready!(Pin::new(&mut this.tcp).poll_read(cx, reader))?;
                    reader.filled_mut()[start..].fill(0);
                    return Poll::Ready(Ok(()));
                }
            }
            if ready!(this.poll_receive(cx, reader))? == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection ended without close_notify",
                )));
            }
            // An alert, perhaps: a caller that has what it wants may not read again soon.
            this.push(cx);
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plaintext: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if plaintext.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.is_closed_for_writing() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain(cx))?;
        let plaintext = &plaintext[..plaintext.len().min(MAX_PLAINTEXT)];
        Poll::Ready(with_scratch(|scratch| {
            this.send(cx, plaintext, &mut scratch.outgoing)
        }))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut full = pieces.iter().filter(|piece| !piece.is_empty());
        let (first, second) = (full.next(), full.next());
        if second.is_none() {
            return self.poll_write(cx, first.map_or(&[], |piece| piece));
        }
        let this = self.get_mut();
        if this.is_closed_for_writing() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain(cx))?;
        Poll::Ready(with_scratch(|scratch| {
            let gathered = &mut scratch.gathered;
            gathered.clear();
            for piece in pieces {
                let room = MAX_PLAINTEXT - gathered.len();
                gathered.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            this.send(cx, gathered, &mut scratch.outgoing)
        }))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            this.session.close();
        }
        ready!(this.poll_drain(cx))?;
        match ready!(Pin::new(&mut this.tcp).poll_shutdown(cx)) {
            // The client was first.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("tcp", &self.tcp)
            .field("state", self.session.state())
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

/// A breach of the protocol, by either side's account.
fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

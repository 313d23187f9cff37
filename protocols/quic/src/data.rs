//! The streams of a connection beside the control stream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::{Connection, ConnectionError, RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::code;
use crate::metrics::Observed;

type Accepting =
    Pin<Box<dyn Future<Output = Result<(SendStream, RecvStream), ConnectionError>> + Send>>;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// The streams that a client opens beside the control stream.
pub struct DataStreams {
    connection: Connection,
    observed: Arc<Observed>,
    /// `None` once the connection is lost.
    accepting: Option<Accepting>,
}

impl std::fmt::Debug for DataStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataStreams").finish_non_exhaustive()
    }
}

impl DataStreams {
    pub(crate) fn new(connection: Connection, observed: Arc<Observed>) -> Self {
        let accepting = Some(accept(&connection));
        Self {
            connection,
            observed,
            accepting,
        }
    }

    /// The next one. After the connection was lost there is none, which is for the control stream to tell.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<DataStream> {
        let Some(accepting) = &mut self.accepting else {
            return Poll::Pending;
        };
        let accepted = ready!(accepting.as_mut().poll(cx));
        let Ok((send, receive)) = accepted else {
            self.accepting = None;
            return Poll::Pending;
        };
        self.accepting = Some(accept(&self.connection));
        self.observed.stream();
        Poll::Ready(DataStream::new(send, receive))
    }
}

fn accept(connection: &Connection) -> Accepting {
    let connection = connection.clone();
    Box::pin(async move { connection.accept_bi().await })
}

/// One stream of a connection; the control stream is made of one, too.
///
/// Its shutdown completes when the client has everything that was written, and fails when it will not have: it has
/// stopped the stream, or the connection is lost. Dropped before, it is reset.
pub struct DataStream {
    send: SendStream,
    receive: RecvStream,
    shutdown: Shutdown,
}

enum Shutdown {
    /// Not yet.
    Open,
    /// Waits until the client has everything.
    Waiting(Stopped),
    /// Done.
    Closed,
}

impl std::fmt::Debug for DataStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataStream")
            .field("id", &self.send.id())
            .finish_non_exhaustive()
    }
}

impl DataStream {
    pub(crate) const fn new(send: SendStream, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            shutdown: Shutdown::Open,
        }
    }

    /// Is left as it is.
    pub(crate) fn forget(&mut self) {
        self.shutdown = Shutdown::Closed;
    }
}

impl AsyncRead for DataStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.get_mut().receive), cx, buffer)
    }
}

impl AsyncWrite for DataStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().send), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        loop {
            match &mut stream.shutdown {
                Shutdown::Closed => return Poll::Ready(Ok(())),
                Shutdown::Open => {
                    // One that was reset is found to be stopped.
                    let _ = stream.send.finish();
                    stream.shutdown = Shutdown::Waiting(Box::pin(stream.send.stopped()));
                }
                Shutdown::Waiting(stopped) => {
                    let stopped = ready!(stopped.as_mut().poll(cx));
                    stream.shutdown = Shutdown::Closed;
                    return Poll::Ready(match stopped {
                        Ok(None) => Ok(()),
                        Ok(Some(_)) => Err(io::ErrorKind::ConnectionReset.into()),
                        Err(error) => Err(error.into()),
                    });
                }
            }
        }
    }
}

impl Drop for DataStream {
    fn drop(&mut self) {
        if !matches!(self.shutdown, Shutdown::Closed) {
            // One that is closed already is what is wanted.
            let _ = self.send.reset(code::NORMAL);
        }
    }
}

//! The streams of a client's connection, which is quinn's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use quinn::{Connection, RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::code;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// A bidirectional stream as one byte stream. It is the control stream of its connection: shut down, the
/// connection is closed once the gateway has everything that was written.
#[derive(Debug)]
pub struct ClientStream {
    connection: Connection,
    stream: ClientDataStream,
    /// The connection is closed, or is not this stream's to close.
    over: bool,
}

impl ClientStream {
    pub(crate) const fn new(connection: Connection, send: SendStream, receive: RecvStream) -> Self {
        Self {
            connection,
            stream: ClientDataStream::new(send, receive),
            over: false,
        }
    }

    /// Does nothing about the end of the connection any more.
    pub(crate) fn forget(mut self) {
        self.over = true;
        self.stream.forget();
    }

    /// Opens the control stream.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub async fn open(connection: Connection) -> io::Result<Self> {
        let (send, receive) = connection.open_bi().await?;
        Ok(Self::new(connection, send, receive))
    }

    /// Opens another stream. The gateway looks at it after CONNACK.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub async fn open_data(&self) -> io::Result<ClientDataStream> {
        let (send, receive) = self.connection.open_bi().await?;
        Ok(ClientDataStream::new(send, receive))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let control = self.get_mut();
        if control.over {
            // Nobody is there any more, and whoever has closed need not hear how.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut control.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let control = self.get_mut();
        if !control.over {
            // Acknowledged, stopped by the gateway, or lost: nothing more can be done in any case.
            let _ = ready!(Pin::new(&mut control.stream).poll_shutdown(cx));
            control.connection.close(code::NORMAL, &[]);
            control.over = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if !self.over {
            self.connection.close(code::NORMAL, &[]);
        }
    }
}

/// One stream of a connection; the control stream is made of one, too.
///
/// Its shutdown completes when the gateway has everything that was written, and fails when it will not have: it has
/// stopped the stream, or the connection is lost. Dropped before, it is reset.
pub struct ClientDataStream {
    send: SendStream,
    receive: RecvStream,
    shutdown: Shutdown,
}

enum Shutdown {
    /// Not yet.
    Open,
    /// Waits until the gateway has everything.
    Waiting(Stopped),
    /// Done.
    Closed,
}

impl std::fmt::Debug for ClientDataStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientDataStream")
            .field("id", &self.send.id())
            .finish_non_exhaustive()
    }
}

impl ClientDataStream {
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

impl AsyncRead for ClientDataStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.get_mut().receive), cx, buffer)
    }
}

impl AsyncWrite for ClientDataStream {
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

impl Drop for ClientDataStream {
    fn drop(&mut self) {
        if !matches!(self.shutdown, Shutdown::Closed) {
            // One that is closed already is what is wanted.
            let _ = self.send.reset(code::NORMAL);
        }
    }
}

//! A bidirectional stream as one byte stream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::{Connection, RecvStream, SendStream, StoppedError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::data::DataStream;
use crate::error::code;
use crate::metrics::Observed;

pub(crate) type Stopped =
    Pin<Box<dyn Future<Output = Result<Option<quinn::VarInt>, StoppedError>> + Send + Sync>>;

/// A bidirectional stream as one byte stream. It is the control stream of its connection: shut down, the
/// connection is closed once the client has everything that was written.
#[derive(Debug)]
pub struct Stream {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    shutdown: Shutdown,
    /// Looked at for the last time when the stream is gone, and with it the connection.
    observed: Option<Arc<Observed>>,
}

enum Shutdown {
    /// Not yet.
    Open,
    /// Waits until the client has everything.
    Waiting(Stopped),
    /// Done.
    Closed,
}

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Waiting(_) => "Waiting",
            Self::Closed => "Closed",
        })
    }
}

impl Stream {
    pub(crate) const fn new(connection: Connection, send: SendStream, receive: RecvStream) -> Self {
        Self {
            connection,
            send,
            receive,
            shutdown: Shutdown::Open,
            observed: None,
        }
    }

    /// Does nothing about the end of the connection any more.
    pub(crate) fn forget(mut self) {
        self.shutdown = Shutdown::Closed;
    }

    pub(crate) fn observed(mut self, observed: Arc<Observed>) -> Self {
        self.observed = Some(observed);
        self
    }

    /// The client's side of a connection: opens the control stream.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub async fn open(connection: Connection) -> io::Result<Self> {
        let (send, receive) = connection.open_bi().await?;
        Ok(Self::new(connection, send, receive))
    }

    /// The client's side of a connection: opens another stream. The gateway looks at it after CONNACK.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub async fn open_data(&self) -> io::Result<DataStream> {
        let (send, receive) = self.connection.open_bi().await?;
        Ok(DataStream::new(send, receive))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if matches!(stream.shutdown, Shutdown::Closed) {
            // Nobody is there any more, and whoever has closed need not hear how.
            return Poll::Ready(Ok(()));
        }
        AsyncRead::poll_read(Pin::new(&mut stream.receive), cx, buffer)
    }
}

impl AsyncWrite for Stream {
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
                    // One that was finished or reset is what is wanted.
                    let _ = stream.send.finish();
                    stream.shutdown = Shutdown::Waiting(Box::pin(stream.send.stopped()));
                }
                Shutdown::Waiting(stopped) => {
                    // Acknowledged, stopped by the client, or lost: nothing more can be done in any case.
                    if stopped.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    stream.connection.close(code::NORMAL, &[]);
                    stream.shutdown = Shutdown::Closed;
                }
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !matches!(self.shutdown, Shutdown::Closed) {
            self.connection.close(code::NORMAL, &[]);
        }
    }
}

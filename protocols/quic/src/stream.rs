//! The control stream of a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::{Connection, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::data::DataStream;
use crate::error::code;
use crate::metrics::Observed;

/// A bidirectional stream as one byte stream. It is the control stream of its connection: shut down, the
/// connection is closed once the client has everything that was written.
#[derive(Debug)]
pub struct Stream {
    connection: Connection,
    stream: DataStream,
    /// The connection is closed, or is not this stream's to close.
    over: bool,
    /// Looked at for the last time when the stream is gone, and with it the connection.
    observed: Option<Arc<Observed>>,
}

impl Stream {
    pub(crate) const fn new(connection: Connection, send: SendStream, receive: RecvStream) -> Self {
        Self {
            connection,
            stream: DataStream::new(send, receive),
            over: false,
            observed: None,
        }
    }

    /// Does nothing about the end of the connection any more.
    pub(crate) fn forget(mut self) {
        self.over = true;
        self.stream.forget();
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
        let control = self.get_mut();
        if control.over {
            // Nobody is there any more, and whoever has closed need not hear how.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut control.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
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
            // Acknowledged, stopped by the client, or lost: nothing more can be done in any case.
            let _ = ready!(Pin::new(&mut control.stream).poll_shutdown(cx));
            control.connection.close(code::NORMAL, &[]);
            control.over = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.over {
            self.connection.close(code::NORMAL, &[]);
        }
    }
}

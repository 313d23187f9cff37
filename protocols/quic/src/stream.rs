//! The control stream of a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::data::DataStream;
use crate::error::code;
use crate::metrics::Observed;

/// A bidirectional stream as one byte stream. It is the control stream of its connection: shut down, the
/// connection is closed once the client has everything that was written.
#[derive(Debug)]
pub struct Stream {
    stream: DataStream,
    /// The connection is closed.
    over: bool,
    /// Looked at for the last time when the stream is gone, and with it the connection.
    _observed: Arc<Observed>,
}

impl Stream {
    pub(crate) const fn new(stream: DataStream, observed: Arc<Observed>) -> Self {
        Self {
            stream,
            over: false,
            _observed: observed,
        }
    }

    fn close(&mut self) {
        self.stream.connection().close(code::NORMAL, &[]);
        self.over = true;
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
            control.close();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.over {
            self.close();
        }
    }
}

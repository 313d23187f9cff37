//! What carries a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What carries a connection: the byte stream that it begins on and that its end is spoken on, and, where the
/// protocol below has them, further streams that the client opens.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// A further stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// The next further stream that the client has opened.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Self::Stream>;
}

/// The stream a connection begins on, and where the further ones come from.
pub(crate) struct Carrier<S, F> {
    pub(crate) first: S,
    pub(crate) next: F,
}

impl<S, F, N> Transport for Carrier<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: FnMut(&mut Context<'_>) -> Poll<N> + Unpin + Send,
    N: AsyncRead + AsyncWrite + Unpin + Send,
{
    type Stream = N;

    #[inline]
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<N> {
        (self.next)(cx)
    }
}

impl<S, F> AsyncRead for Carrier<S, F>
where
    S: AsyncRead + Unpin,
    F: Unpin,
{
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.first).poll_read(cx, buffer)
    }
}

impl<S, F> AsyncWrite for Carrier<S, F>
where
    S: AsyncWrite + Unpin,
    F: Unpin,
{
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.first).poll_write(cx, bytes)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.first).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.first).poll_shutdown(cx)
    }
}

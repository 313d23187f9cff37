//! The streams of a connection beside the control stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn_proto::StreamId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::link::Owner;
use crate::metrics::Observed;

/// The streams that a client opens beside the control stream.
#[derive(Debug)]
pub struct DataStreams {
    connection: Arc<Owner>,
    observed: Arc<Observed>,
    is_lost: bool,
}

impl DataStreams {
    pub(crate) const fn new(connection: Arc<Owner>, observed: Arc<Observed>) -> Self {
        Self {
            connection,
            observed,
            is_lost: false,
        }
    }

    /// The next one. After the connection was lost there is none, which is for the control stream to tell.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<DataStream> {
        if self.is_lost {
            return Poll::Pending;
        }
        let Ok(id) = ready!(self.connection.poll_accept(cx)) else {
            self.is_lost = true;
            return Poll::Pending;
        };
        self.observed.stream();
        Poll::Ready(DataStream::new(Arc::clone(&self.connection), id))
    }
}

/// One stream of a connection; the control stream is made of one, too.
///
/// Its shutdown completes when the client has everything that was written, and fails when it will not have: it has
/// stopped the stream, or the connection is lost. Dropped before, it is reset.
#[derive(Debug)]
pub struct DataStream {
    connection: Arc<Owner>,
    id: StreamId,
    /// Nothing more comes.
    is_read: bool,
    shutdown: Shutdown,
}

#[derive(Debug)]
enum Shutdown {
    /// Not yet.
    Open,
    /// Waits until the client has everything.
    Waiting,
    /// Done.
    Closed,
}

impl DataStream {
    pub(crate) const fn new(connection: Arc<Owner>, id: StreamId) -> Self {
        Self {
            connection,
            id,
            is_read: false,
            shutdown: Shutdown::Open,
        }
    }

    pub(crate) const fn connection(&self) -> &Arc<Owner> {
        &self.connection
    }
}

impl AsyncRead for DataStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if stream.is_read || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(stream.connection.poll_read(stream.id, cx, buffer));
        // An error is the end as well.
        stream.is_read = !matches!(read, Ok(false));
        Poll::Ready(read.map(|_end| ()))
    }
}

impl AsyncWrite for DataStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.poll_write(self.id, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        match stream.shutdown {
            Shutdown::Closed => return Poll::Ready(Ok(())),
            Shutdown::Open => {
                stream.connection.finish(stream.id);
                stream.shutdown = Shutdown::Waiting;
            }
            Shutdown::Waiting => {}
        }
        let finished = ready!(stream.connection.poll_finished(stream.id, cx));
        stream.shutdown = Shutdown::Closed;
        Poll::Ready(finished)
    }
}

impl Drop for DataStream {
    fn drop(&mut self) {
        self.connection.abandon(self.id, self.is_read);
    }
}

//! A byte stream in memory. The client's end is looked at, the gateway's end is awaited.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

struct State {
    to_gateway: Vec<u8>,
    taken: usize,
    client_closed: bool,
    from_gateway: Vec<u8>,
    /// Bytes that the gateway may be ahead of what the client takes.
    window: usize,
    gateway_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

/// The client's end.
pub(crate) struct Client(Arc<Mutex<State>>);

/// The gateway's end.
pub(crate) struct Gateway(Arc<Mutex<State>>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream whose client takes everything at once.
pub(crate) fn pipe() -> (Client, Gateway) {
    narrow_pipe(usize::MAX)
}

/// A stream on which so many bytes wait for the client at the most.
pub(crate) fn narrow_pipe(window: usize) -> (Client, Gateway) {
    let state = Arc::new(Mutex::new(State {
        to_gateway: Vec::new(),
        taken: 0,
        client_closed: false,
        from_gateway: Vec::new(),
        window,
        gateway_closed: false,
        reader: None,
        writer: None,
    }));
    (Client(Arc::clone(&state)), Gateway(state))
}

impl Client {
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut state = lock(&self.0);
        state.to_gateway.extend_from_slice(bytes);
        state.wake();
    }

    /// Whether the gateway has read everything.
    pub(crate) fn is_drained(&self) -> bool {
        lock(&self.0).to_gateway.is_empty()
    }

    /// Takes what the gateway has written.
    pub(crate) fn receive(&self, into: &mut Vec<u8>) {
        let mut state = lock(&self.0);
        into.append(&mut state.from_gateway);
        if let Some(waker) = state.writer.take() {
            waker.wake();
        }
    }

    /// Whether the gateway has closed the stream.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0).gateway_closed
    }

    pub(crate) fn close(&self) {
        let mut state = lock(&self.0);
        state.client_closed = true;
        state.wake();
    }
}

impl AsyncRead for Gateway {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        let unread = &state.to_gateway[state.taken..];
        if unread.is_empty() {
            if state.client_closed {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = unread.len().min(buf.remaining());
        buf.put_slice(&unread[..len]);
        state.taken += len;
        if state.taken == state.to_gateway.len() {
            state.to_gateway.clear();
            state.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gateway {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        if state.client_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = state.window - state.from_gateway.len();
        if room == 0 && !buf.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = buf.len().min(room);
        state.from_gateway.extend_from_slice(&buf[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).gateway_closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        lock(&self.0).gateway_closed = true;
    }
}

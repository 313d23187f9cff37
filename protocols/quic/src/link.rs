//! A connection as its driver and its streams share it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use quinn_proto::{
    ConnectionError, Dir, Event, PathStats, ReadError, StreamEvent, StreamId, VarInt, WriteError,
};
use rustls::pki_types::CertificateDer;
use tokio::io::ReadBuf;

use crate::crypto::Handshake;
use crate::error::code;
use crate::inbox::Inbox;
use crate::waiters::{Wait, Waiters, Woken};

/// A connection. Its lock is held for what this connection has to do and for nothing else: nobody is woken and nothing
/// is sent meanwhile.
pub(crate) struct Link {
    pub(crate) inbox: Inbox,
    /// Wakes the driver. Before it there is none, and the driver begins with what is there.
    driver: OnceLock<Waker>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) quic: quinn_proto::Connection,
    /// The driver was woken since it last looked whether there is something to send.
    pub(crate) is_called: bool,
    is_confirmed: bool,
    over: Option<ConnectionError>,
    waiters: Waiters,
    woken: Woken,
}

/// Somebody for whom the connection is there. When the last one is gone it is closed.
pub(crate) struct Owner(Arc<Link>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close(code::NORMAL, &[]);
    }
}

impl Deref for Owner {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(quic: quinn_proto::Connection) -> Arc<Self> {
        Arc::new(Self {
            inbox: Inbox::default(),
            driver: OnceLock::new(),
            state: Mutex::new(State {
                quic,
                is_called: false,
                is_confirmed: false,
                over: None,
                waiters: Waiters::default(),
                woken: Woken::default(),
            }),
        })
    }

    /// To be asked for once: what it gives counts as everybody.
    pub(crate) fn owner(self: Arc<Self>) -> Arc<Owner> {
        Arc::new(Owner(self))
    }

    /// Works on the connection, then wakes whom that concerns.
    pub(crate) fn work<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let was_called = state.is_called;
        let result = work(&mut state);
        let calls = state.is_called && !was_called;
        let woken = mem::take(&mut state.woken);
        drop(state);
        woken.wake();
        if calls {
            self.wake();
        }
        result
    }

    /// The driver is the task of this waker, as long as it lives.
    pub(crate) fn driven_by(&self, waker: &Waker) {
        self.driver.get_or_init(|| waker.clone());
    }

    /// Wakes the driver.
    pub(crate) fn wake(&self) {
        if let Some(driver) = self.driver.get() {
            driver.wake_by_ref();
        }
    }

    pub(crate) fn close(&self, code: VarInt, reason: &[u8]) {
        self.work(|state| {
            if state.over.is_some() {
                return;
            }
            let reason = reason.to_vec().into();
            state.quic.close(Instant::now(), code, reason);
            state.end(ConnectionError::LocallyClosed);
            state.is_called = true;
        });
    }

    /// Waits until the handshake is confirmed.
    pub(crate) async fn confirmed(&self) -> Result<(), ConnectionError> {
        poll_fn(|cx| {
            self.work(|state| match &state.over {
                _ if state.is_confirmed => Poll::Ready(Ok(())),
                Some(over) => Poll::Ready(Err(over.clone())),
                None => state.wait(Wait::Confirmed, cx),
            })
        })
        .await
    }

    /// What its handshake has come to.
    pub(crate) fn handshake(&self) -> Handshake {
        let told = self.work(|state| state.quic.crypto_session().handshake_data());
        let told = told.and_then(|told| told.downcast().ok());
        // It is always told.
        told.map_or(Handshake::NOTHING, |handshake| *handshake)
    }

    /// The certificates that the client has shown.
    pub(crate) fn certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        let identity = self.work(|state| state.quic.crypto_session().peer_identity())?;
        identity.downcast().ok().map(|certificates| *certificates)
    }

    /// Where the client is now.
    pub(crate) fn address(&self) -> SocketAddr {
        self.work(|state| state.quic.remote_address())
    }

    pub(crate) fn path(&self) -> PathStats {
        self.work(|state| state.quic.stats().path)
    }

    /// The next stream that the client opens.
    pub(crate) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamId, ConnectionError>> {
        self.work(|state| {
            if let Some(id) = state.quic.streams().accept(Dir::Bi) {
                // Perhaps it may open one more now.
                state.is_called = true;
                return Poll::Ready(Ok(id));
            }
            match &state.over {
                Some(over) => Poll::Ready(Err(over.clone())),
                None => state.wait(Wait::Opened, cx),
            }
        })
    }

    /// Reads what there is, into a buffer with room. Whether that was the end: then the stream is not to be read again.
    pub(crate) fn poll_read(
        &self,
        id: StreamId,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        self.work(|state| {
            let before = buffer.filled().len();
            let mut stream = state.quic.recv_stream(id);
            let mut chunks = stream.read(true).map_err(|_closed| reset())?;
            let ended = loop {
                match chunks.next(buffer.remaining()) {
                    Ok(Some(chunk)) => buffer.put_slice(&chunk.bytes),
                    Ok(None) => break Some(Ok(true)),
                    Err(ReadError::Blocked) => break None,
                    Err(ReadError::Reset(_code)) => break Some(Err(reset())),
                }
                if buffer.remaining() == 0 {
                    break None;
                }
            };
            state.is_called |= chunks.finalize().should_transmit();
            match (ended, &state.over) {
                (Some(ended), _) => Poll::Ready(ended),
                _ if buffer.filled().len() > before => Poll::Ready(Ok(false)),
                (None, Some(over)) => Poll::Ready(Err(lost(over))),
                (None, None) => state.wait(Wait::Readable(id), cx),
            }
        })
    }

    pub(crate) fn poll_write(
        &self,
        id: StreamId,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.work(|state| {
            if let Some(over) = &state.over {
                return Poll::Ready(Err(lost(over)));
            }
            match state.quic.send_stream(id).write(bytes) {
                Ok(written) => {
                    state.is_called = true;
                    Poll::Ready(Ok(written))
                }
                Err(WriteError::Blocked) => state.wait(Wait::Writable(id), cx),
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => Poll::Ready(Err(reset())),
            }
        })
    }

    /// Nothing more is written.
    pub(crate) fn finish(&self, id: StreamId) {
        self.work(|state| {
            // What the client has stopped needs no end.
            let finished = state.quic.send_stream(id).finish();
            state.is_called |= finished.is_ok();
        });
    }

    /// Waits until the client has everything that was written.
    pub(crate) fn poll_finished(&self, id: StreamId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.work(|state| match state.quic.send_stream(id).stopped() {
            // It is forgotten then.
            Err(_closed) => Poll::Ready(Ok(())),
            Ok(Some(_code)) => Poll::Ready(Err(reset())),
            Ok(None) => match &state.over {
                Some(over) => Poll::Ready(Err(lost(over))),
                None => state.wait(Wait::Finished(id), cx),
            },
        })
    }

    /// Nobody writes or reads this stream any more: what is not complete by now is not completed.
    pub(crate) fn abandon(&self, id: StreamId, is_read: bool) {
        self.work(|state| {
            state.waiters.forget(id);
            if state.over.is_some() {
                return;
            }
            let mut stream = state.quic.send_stream(id);
            // A client that has stopped it gets its own code back (RFC 9000 section 3.5).
            let asked = stream.stopped().ok().flatten();
            let mut said = stream.reset(asked.unwrap_or(code::NORMAL)).is_ok();
            if !is_read {
                said |= state.quic.recv_stream(id).stop(code::NORMAL).is_ok();
            }
            state.is_called |= said;
        });
    }
}

impl State {
    fn wait<T>(&mut self, wait: Wait, cx: &Context<'_>) -> Poll<T> {
        self.waiters.add(wait, cx.waker());
        Poll::Pending
    }

    /// Notes what has happened, and whom to wake for it.
    pub(crate) fn tell(&mut self) {
        while let Some(event) = self.quic.poll() {
            match event {
                Event::Connected => {
                    self.is_confirmed = true;
                    self.happened(Wait::Confirmed);
                }
                Event::ConnectionLost { reason } => self.end(reason),
                Event::Stream(StreamEvent::Opened { .. }) => self.happened(Wait::Opened),
                Event::Stream(StreamEvent::Readable { id }) => self.happened(Wait::Readable(id)),
                Event::Stream(StreamEvent::Writable { id }) => self.happened(Wait::Writable(id)),
                Event::Stream(StreamEvent::Finished { id }) => self.happened(Wait::Finished(id)),
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    self.happened(Wait::Writable(id));
                    self.happened(Wait::Finished(id));
                }
                // Of streams that are opened here, and of datagrams beside streams: there are none.
                Event::HandshakeDataReady
                | Event::Stream(StreamEvent::Available { .. })
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
    }

    fn happened(&mut self, wait: Wait) {
        self.woken.add(self.waiters.take(wait));
    }

    /// Nothing more can be said or heard.
    pub(crate) fn end(&mut self, reason: ConnectionError) {
        self.over.get_or_insert(reason);
        for waker in self.waiters.take_all() {
            self.woken.add(Some(waker));
        }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn lost(over: &ConnectionError) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, over.clone())
}

//! From a connected socket to a TLS stream, bounded in time and number.
//!
//! A handshake has one of so many turns while there is something to do for it. One whose client lets it
//! wait gives its turn to the next, and queues for another when the client has moved: turns bound the
//! work of handshakes, and whoever begins many and ends none keeps nobody out. What handshakes hold is
//! bounded by their number, which is that of connections: at most 16 KiB before the client has said
//! hello, and 64 KiB after that.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::{CommonState, HandshakeKind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::counters::InProgress;
use crate::identity::Current;
use crate::resolver::Noting;
use crate::{Counters, Foreign, HandshakeError, Identity, Peer, Stage, Stream};

/// RFC 8446, 5.1: "If a TLS implementation receives an unexpected record type, it MUST terminate the
/// connection with an `unexpected_message` alert." A record of type alert, fatal, 10.
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// After a refusal: how long and how much is read so that the alert is not lost. A socket closed with
/// unread bytes sends a reset, which may overtake what was written.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// How long a handshake that has been answered keeps its turn while its client lets it wait: longer than
/// the way there and back over most networks, much shorter than anybody waits for a turn. Those that
/// have come so far need not queue behind all that begin. Before the answer there is no patience: the
/// client has done nothing for its turn yet.
const PATIENCE: Duration = Duration::from_millis(250);

/// Limits of a listener's handshakes.
#[derive(Debug, Clone, Copy)]
pub struct AcceptSettings {
    /// How long a client may take to send its first byte and get its turn, and then again for the
    /// handshake itself.
    pub handshake_timeout: Duration,
    /// How many handshakes may be under way at once. Further ones wait in order of arrival. Those whose
    /// client lets them wait do not count.
    pub max_handshakes: usize,
}

/// Shakes hands for one listener. Shared by all its connections.
#[derive(Debug)]
pub struct Acceptor {
    identity: Arc<Identity>,
    handshake_timeout: Duration,
    turns: Semaphore,
    counters: Counters,
}

/// One of the handshakes under way.
struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    _in_progress: InProgress<'a>,
}

impl Acceptor {
    /// An acceptor that shows `identity` as it is at the time of each handshake.
    #[must_use]
    pub fn new(identity: Arc<Identity>, settings: AcceptSettings) -> Self {
        Self {
            identity,
            handshake_timeout: settings.handshake_timeout,
            turns: Semaphore::new(settings.max_handshakes.clamp(1, Semaphore::MAX_PERMITS)),
            counters: Counters::default(),
        }
    }

    /// What became of the handshakes.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The certificates that are shown.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Shakes hands. Until the client has sent something it holds neither a turn nor any state of
    /// TLS.
    ///
    /// # Errors
    ///
    /// Why there is no connection. The client has then been told by an alert, where there was anything
    /// to tell and a way to do it, and the socket is closed.
    pub async fn accept(&self, stream: TcpStream) -> Result<(Stream, Peer), HandshakeError> {
        let result = match self.first_turn(&stream).await {
            // Boxed: a handshake's state is some kilobytes and would otherwise be part of the
            // caller's task for as long as the connection lives.
            Ok(turn) => Box::pin(self.shake_hands(stream, turn)).await,
            Err(error) => {
                if matches!(error, HandshakeError::NotTls(_)) {
                    linger(stream, &UNEXPECTED_MESSAGE).await;
                }
                Err(error)
            }
        };
        match &result {
            Ok((_, peer)) => self.counters.completed(peer.resumed),
            Err(error) => {
                let timeout = matches!(error, HandshakeError::Timeout { .. });
                self.counters.failure(timeout);
            }
        }
        result
    }

    /// Waits for the first bytes, which must be TLS and stay where they are, and then for a turn.
    async fn first_turn(&self, stream: &TcpStream) -> Result<Turn<'_>, HandshakeError> {
        let limit = self.handshake_timeout;
        let mut stage = Stage::FirstBytes;
        let waiting = async {
            let mut first = [0; 16];
            let peeked = stream.peek(&mut first).await;
            match peeked.map_err(HandshakeError::from_io)? {
                0 => return Err(HandshakeError::Lost),
                length => match Foreign::recognize(&first[..length]) {
                    Some(foreign) => return Err(HandshakeError::NotTls(foreign)),
                    None => stage = Stage::Turn,
                },
            }
            self.turn().await.map_err(HandshakeError::from_io)
        };
        let turn = timeout(limit, waiting).await;
        turn.unwrap_or_else(|_| Err(HandshakeError::Timeout { stage, limit }))
    }

    async fn turn(&self) -> io::Result<Turn<'_>> {
        // The semaphore is never closed.
        let permit = self.turns.acquire().await.map_err(io::Error::other)?;
        Ok(Turn {
            _permit: permit,
            _in_progress: self.counters.begin(),
        })
    }

    /// Shakes hands, with a turn while there is something to do. `stage` says what it waits for.
    async fn take_turns(
        &self,
        stream: &mut Stream,
        first: Turn<'_>,
        stage: &mut Stage,
    ) -> io::Result<()> {
        let mut turn = first;
        loop {
            if let Some(done) = now(pin!(stream.shake_hands())).await {
                return done;
            }
            // At the end it may be this side that has not got round to it: a processor that is busy is
            // no reason to queue again.
            if stream.has_answered() {
                if let Ok(done) = timeout(PATIENCE, stream.shake_hands()).await {
                    return done;
                }
                if let Some(moved) = now(pin!(stream.moves())).await {
                    moved?;
                    continue;
                }
            }
            drop(turn);
            stream.moves().await?;
            *stage = Stage::Turn;
            turn = self.turn().await?;
            *stage = Stage::Handshake;
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        turn: Turn<'_>,
    ) -> Result<(Stream, Peer), HandshakeError> {
        let limit = self.handshake_timeout;
        let current = self.identity.current();
        let (config, server_name) = Noting::server_name(&current.config);
        let mut stream = Stream::new(stream, config).map_err(HandshakeError::Refused)?;
        let mut stage = Stage::Handshake;
        let handshake = timeout(limit, self.take_turns(&mut stream, turn, &mut stage)).await;
        match handshake {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                // The alert is already written, if there is one.
                linger(stream.into_tcp(), &[]).await;
                return Err(HandshakeError::from_io(error));
            }
            Err(_) => return Err(HandshakeError::Timeout { stage, limit }),
        }

        let connection = stream.common();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        // As of now, which is not always as of the beginning of the handshake.
        let latest = self.identity.current();
        let verdict = if resumed || !Arc::ptr_eq(&current, &latest) {
            still_holds(&latest, connection)
        } else {
            Ok(())
        };
        match verdict.and_then(|()| Peer::of(connection, server_name.take(), resumed)) {
            Ok(peer) => Ok((stream, peer)),
            Err(error) => {
                close(stream).await;
                Err(HandshakeError::RefusedAfterwards(error))
            }
        }
    }
}

/// What is ready at once, without waiting.
async fn now<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Checks the client's certificate as if it had been shown now. A ticket says that it was good when the
/// ticket was made (rustls checks no more); since then it may have expired, or its revocation list. And
/// while a handshake went on, other authorities or lists may have come into use.
fn still_holds(current: &Current, connection: &CommonState) -> Result<(), rustls::Error> {
    current.trusts(connection.peer_certificates())
}

/// Says `close_notify` and closes.
async fn close(mut stream: Stream) {
    if timeout(LINGER_TIME, stream.shutdown()).await.is_ok() {
        linger(stream.into_tcp(), &[]).await;
    }
}

/// Closes such that what was written, and these last words, arrive: says that nothing more will come,
/// then reads until the client has closed too, within limits.
async fn linger(mut stream: TcpStream, last_words: &[u8]) {
    let reading = async {
        stream.write_all(last_words).await?;
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        while left > 0 {
            stream.readable().await?;
            // Not alive across an await, so not part of the future.
            let mut buffer = [0; 4096];
            match stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let _ = timeout(LINGER_TIME, reading).await;
}

//! One MQTT connection over any byte stream: from its first byte to CONNACK, and its last ones. What lies between
//! is in [`crate::pump`].
//!
//! Until CONNECT it is an ordinary task with a time limit. After that it is one hand-written future.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidegate_bus::{Charge, MemoryBudget};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::debug;

use crate::codec::{Frame, PacketType, ReasonCode, Split, split};
use crate::endpoint::{Endpoint, Peer, Served};
use crate::foreign::Foreign;
use crate::handshake::{self, Accepted, Rejected};
use crate::protocol::Protocol;
use crate::pump::Pump;
use crate::transport::Transport;

/// How long a connection that is over may take to read the last packet and close.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// Most bytes that are read and thrown away after the last packet was sent.
const LINGER_BYTES: usize = 1 << 20;

/// Serves a connection until it ends.
///
/// What waits while the connection is idle is a small task and, in a box, the [`Pump`]; everything
/// else is boxed while it runs. That is why this is no `async fn`, which would keep room for its
/// arguments.
pub(crate) fn serve<S>(
    endpoint: Arc<Endpoint>,
    stream: S,
    peer: Peer,
) -> impl Future<Output = Served> + Send
where
    S: Transport,
{
    let establishing = Box::pin(establish(endpoint, stream, peer));
    async move {
        let mut pump = match establishing.await {
            Ok(pump) => pump,
            Err(served) => return served,
        };
        let ending = (&mut *pump).await;
        Box::pin(pump.close(ending)).await;
        Served::Ended
    }
}

/// Waits for CONNECT and lets the client in. `Err`: the connection is over.
async fn establish<S>(
    endpoint: Arc<Endpoint>,
    mut stream: S,
    peer: Peer,
) -> Result<Box<Pump<S>>, Served>
where
    S: Transport,
{
    let connecting = connect(&endpoint, &mut stream, &peer);
    let connecting = tokio::time::timeout(endpoint.settings.connect_timeout, connecting);
    let connected = tokio::select! {
        connected = connecting => connected,
        () = endpoint.adapter.closing() => {
            last_word(&mut stream).await;
            return Err(Served::Ended);
        }
    };
    let (accepted, rest) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(rejected)) => {
            debug!(peer = peer.address.map(tracing::field::display), reason = ?rejected.reason, text = rejected.text, "A connection was refused.");
            finish(&mut stream, &rejected.reply).await;
            return Err(match rejected.foreign {
                Some(foreign) => Served::Foreign(foreign, peer.address),
                None => Served::Ended,
            });
        }
        Err(_elapsed) => {
            endpoint.counters().connect_timeouts.add(1);
            debug!(
                peer = peer.address.map(tracing::field::display),
                "No CONNECT came in time."
            );
            last_word(&mut stream).await;
            return Err(Served::Ended);
        }
    };
    let Accepted {
        attachment,
        terms,
        reply,
    } = accepted;
    debug!(
        client_id = %attachment.session().id(),
        peer = peer.address.map(tracing::field::display),
        certificate_name = peer.certificate_name,
        "A client connected."
    );
    let protocol = Protocol::new(attachment, Arc::clone(&endpoint.settings), terms);
    Ok(Box::new(Pump::new(endpoint, stream, protocol, reply, rest)))
}

/// Reads CONNECT only to answer why the connection is not served.
pub(crate) async fn refuse<S>(endpoint: &Endpoint, mut stream: S, reason: ReasonCode)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = async {
        let mut buffer = Vec::new();
        let rejected = match read_connect(endpoint, &mut stream, &mut buffer).await {
            Ok(len) => with_frame(&buffer[..len], |frame| handshake::refuse(frame, reason)),
            Err(rejected) => rejected,
        };
        finish(&mut stream, &rejected.reply).await;
    };
    let _ = tokio::time::timeout(LINGER, answer).await;
}

/// Reads CONNECT and lets the client in. Gives back what was read beyond it.
async fn connect<S>(
    endpoint: &Endpoint,
    stream: &mut S,
    peer: &Peer,
) -> Result<(Accepted, Vec<u8>), Rejected>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = Vec::new();
    let read = read_connect(endpoint, stream, &mut buffer).await;
    let len = read.map_err(|rejected| Rejected {
        foreign: Foreign::of(&buffer),
        ..rejected
    })?;
    let accepted = match split(&buffer[..len], u32::MAX) {
        Ok(Split::Frame(frame)) => endpoint.handshake(frame, peer).await?,
        // `read_connect` has found a whole frame of this length.
        _ => return Err(Rejected::silent(ReasonCode::MalformedPacket, "no packet")),
    };
    endpoint.bus.counters().packets_received.add(1);
    let rest = buffer.split_off(len);
    Ok((accepted, rest))
}

fn with_frame(bytes: &[u8], work: impl FnOnce(Frame<'_>) -> Rejected) -> Rejected {
    match split(bytes, u32::MAX) {
        Ok(Split::Frame(frame)) => work(frame),
        _ => Rejected::silent(ReasonCode::MalformedPacket, "no packet"),
    }
}

/// Reads until `buffer` begins with a whole CONNECT packet and tells its length.
async fn read_connect<S>(
    endpoint: &Endpoint,
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Result<usize, Rejected>
where
    S: AsyncRead + Unpin,
{
    let mut held = Held::default();
    loop {
        let found = split(buffer, endpoint.settings.max_packet_bytes).map_err(|error| {
            endpoint.counters().protocol_errors.add(1);
            Rejected::silent(error.reason_code(), error.to_string())
        })?;
        // MQTT-3.1.0-1. Told from the first byte, before the rest of another packet is waited for.
        let first = buffer.first().map(|byte| byte >> 4);
        if first.is_some_and(|kind| kind != PacketType::Connect as u8) {
            endpoint.counters().protocol_errors.add(1);
            let text = "the first packet is CONNECT (MQTT-3.1.0-1)";
            return Err(Rejected::silent(ReasonCode::ProtocolError, text));
        }
        if let Split::Frame(frame) = found {
            return Ok(frame.len);
        }
        let read = match stream.read_buf(buffer).await {
            Ok(0) => {
                let text = "the connection was lost";
                return Err(Rejected::silent(ReasonCode::UnspecifiedError, text));
            }
            Ok(read) => read,
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    endpoint.counters().protocol_errors.add(1);
                }
                let text = error.to_string();
                return Err(Rejected::silent(ReasonCode::UnspecifiedError, text));
            }
        };
        endpoint.bus.counters().bytes_received.add(read as u64);
        if !held.resize(endpoint.bus.memory(), buffer.capacity()) {
            let text = "all that waits takes as much memory as it may";
            return Err(Rejected::silent(ReasonCode::QuotaExceeded, text));
        }
    }
}

/// Closes a connection to which nothing was said. What carries the bytes may have to say that it is
/// over, as WebSocket and TLS do.
async fn last_word<S>(stream: &mut S)
where
    S: AsyncWrite + Unpin,
{
    // It is over either way.
    let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
}

/// Sends the last bytes and closes so that they arrive: a socket that is closed with bytes unread
/// resets the connection, and the reset overtakes what was sent.
pub(crate) async fn finish<S>(stream: &mut S, last: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        if !last.is_empty() {
            stream.write_all(last).await?;
        }
        stream.shutdown().await?;
        let mut thrown_away = vec![0; 4_096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = stream.read(&mut thrown_away).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        io::Result::Ok(())
    };
    // It is over either way.
    let _ = tokio::time::timeout(LINGER, closing).await;
}

/// Bytes a connection may hold without a charge on the memory budget: what a packet of ordinary size
/// that was read in part, or answers to a batch, take for a moment.
const UNCHARGED: usize = 16 << 10;

/// What a connection holds of the memory budget, for a large packet that is still coming or answers
/// that are not read.
#[derive(Default)]
pub(crate) struct Held(Option<Charge>);

impl Held {
    /// Holds `bytes` from now on; `false` when the budget has no room.
    pub(crate) fn resize(&mut self, budget: &Arc<MemoryBudget>, bytes: usize) -> bool {
        if bytes <= UNCHARGED {
            self.0 = None;
            return true;
        }
        match &mut self.0 {
            Some(charge) => charge.resize(bytes),
            None => {
                self.0 = budget.charge(bytes);
                self.0.is_some()
            }
        }
    }
}

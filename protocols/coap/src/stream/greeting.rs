//! The first messages of a connection: each end says what it can do, before it says anything else (RFC 8323
//! section 5.3).

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::debug;

use super::connection::{Connection, finish};
use super::ending::{Ending, release};
use super::endpoint::{Endpoint, Peer, Served};
use super::limits::Limits;
use super::protocol::Protocol;
use crate::codec::{BASE_MESSAGE_SIZE, Code, Csm, Signal, Split, Token, split};

/// Seconds after which a client may come again that is not served now.
const HOLD_OFF: u32 = 30;

/// Reads the first message of a client, and says the gateway's. `Err`: the connection is over.
pub(super) async fn establish<S>(
    endpoint: Arc<Endpoint>,
    mut stream: S,
    peer: Peer,
) -> Result<Box<Connection<S>>, Served>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut bytes = Vec::new();
    let timeout = endpoint.settings.csm_timeout;
    let greeting = tokio::time::timeout(timeout, greet(&endpoint, &mut stream, &mut bytes));
    let greeted = tokio::select! {
        greeted = greeting => {
            greeted.unwrap_or(Err(Ending::Silent("no CSM came in time (RFC 8323 section 5.3)")))
        }
        () = endpoint.pulses.closing() => Err(Ending::ShutDown),
    };
    let limits = match greeted {
        Ok(limits) => limits,
        Err(ending) => {
            debug!(peer = %peer.address, %ending, "A connection ended before it began.");
            endpoint.metrics.closed[ending.closed() as usize].add(1);
            let mut last = Vec::new();
            ending.last_word(Limits::default(), &mut last);
            if matches!(ending, Ending::ShutDown) {
                release(None, &mut last);
            }
            finish(&mut stream, &last).await;
            let refused = matches!(ending, Ending::Refused { option: None, .. });
            return Err(match foreign(&bytes).filter(|_| refused) {
                Some(what) => Served::Foreign(what),
                None => Served::Ended,
            });
        }
    };
    debug!(
        peer = %peer.address,
        certificate_name = peer.certificate_name.as_deref(),
        "A client connected."
    );
    let beat = endpoint.pulses.enter(Instant::now());
    let protocol = Protocol::new(endpoint, beat, peer, limits);
    Ok(Box::new(Connection::new(stream, protocol, bytes)))
}

/// Leaves in `bytes` what came behind the first message, or, where it was none, that.
async fn greet<S>(
    endpoint: &Endpoint,
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> Result<Limits, Ending>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |error| Ending::Lost(Some(error));
    let own = say_csm(endpoint);
    stream.write_all(&own).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let counters = endpoint.bus.counters();
    counters.bytes_sent.add(own.len() as u64);
    loop {
        // Nobody needs more to say what it can do; a request that comes first is refused before it is here.
        if let Some((csm, len)) = first(bytes)? {
            bytes.drain(..len);
            counters.packets_received.add(1);
            let mut limits = Limits::default();
            limits.learn(csm);
            return Ok(limits);
        }
        let read = stream.read_buf(bytes).await.map_err(lost)?;
        if read == 0 {
            return Err(Ending::Lost(None));
        }
        counters.bytes_received.add(read as u64);
    }
}

/// The first message, if it is here.
fn first(bytes: &[u8]) -> Result<Option<(Csm, usize)>, Ending> {
    let none = || Ending::refused("the first message is a CSM (RFC 8323 section 5.3)");
    match split(bytes, BASE_MESSAGE_SIZE as usize).map_err(|_| none())? {
        Split::Incomplete(_) => Ok(None),
        Split::Frame(frame) if frame.code == Code::CSM => match Signal::read(&frame)? {
            Signal::Csm(csm) => Ok(Some((csm, frame.len))),
            _ => Err(none()),
        },
        Split::Frame(_) => Err(none()),
    }
}

fn say_csm(endpoint: &Endpoint) -> Vec<u8> {
    let mut out = Vec::new();
    let csm = Csm {
        max_message_size: Some(u32::try_from(endpoint.max_message_bytes()).unwrap_or(u32::MAX)),
        block_wise: true,
    };
    Signal::Csm(csm).write(Token::default(), &mut out);
    out
}

/// Says to a client that it is not served now.
pub(super) async fn refuse<S>(endpoint: &Endpoint, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut last = say_csm(endpoint);
    release(Some(HOLD_OFF), &mut last);
    finish(&mut stream, &last).await;
}

/// What somebody speaks who does not speak CoAP.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const METHODS: [&[u8]; 7] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"CONNECT ",
    ];
    const PROXY: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];
    // A handshake record (RFC 8446 section 5.1); as CoAP it would be a PUT before anything else.
    if bytes.starts_with(&[0x16, 0x03]) {
        Some("TLS")
    } else if METHODS.iter().any(|method| bytes.starts_with(method)) {
        Some("HTTP")
    } else if PROXY.iter().any(|header| bytes.starts_with(header)) {
        Some("the PROXY protocol")
    } else {
        None
    }
}

//! A client made of bytes, and a wire that does what a test says.

#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tidegate_websocket::{Settings, UpgradeError, Upgrader, WebSocket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;
pub const FIN: u8 = 0x80;

/// The fields of a good request, with the example key of RFC 6455 section 1.3.
pub const FIELDS: [(&str, &str); 6] = [
    ("Host", "localhost:8083"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Protocol", "mqtt"),
];

pub fn head(line: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(n, v)| format!("{n}: {v}\r\n"))
        .collect();
    format!("{line}\r\n{fields}\r\n")
}

pub fn good_request() -> String {
    head("GET /mqtt HTTP/1.1", &FIELDS)
}

/// A good request but for one field, which has these values now, each in a line.
pub fn request_with(name: &str, values: &[&str]) -> String {
    let mut fields: Vec<_> = FIELDS.into_iter().filter(|(n, _)| *n != name).collect();
    fields.extend(values.iter().map(|value| (name, *value)));
    head("GET /mqtt HTTP/1.1", &fields)
}

/// A frame with this first byte, masked as a client masks.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(p, k)| p ^ k));
    bytes
}

/// The header of a client's frame of so many bytes.
pub fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..126 => bytes.push(0x80 | len as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes
}

pub fn binary(payload: &[u8]) -> Vec<u8> {
    frame(FIN | BINARY, payload)
}

/// A frame of the gateway: not masked.
pub fn answer(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(len as u8),
        len => {
            bytes.push(126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

pub fn close_body(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason].concat()
}

/// Payload that is not the same anywhere.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8)
        .collect()
}

/// What a client hears that sends these bytes and waits for the end, and what the gateway says.
pub async fn refused(settings: Settings, request: &[u8]) -> (UpgradeError, String) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(request).await.unwrap();
    let upgrader = Upgrader::new(settings);
    // If it is not refused after all it ends here, and the client is not left waiting.
    let upgrading = async { upgrader.upgrade(server, LOOPBACK).await.err() };
    let hearing = async {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        drop(client);
        heard
    };
    let (outcome, heard) = tokio::join!(upgrading, hearing);
    (
        outcome.expect("a refusal"),
        String::from_utf8(heard).unwrap(),
    )
}

/// A client behind its upgrade, and the gateway's side of it.
pub async fn connected_with(settings: Settings) -> (DuplexStream, WebSocket<DuplexStream>) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(good_request().as_bytes()).await.unwrap();
    let socket = Upgrader::new(settings)
        .upgrade(server, LOOPBACK)
        .await
        .unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    (client, socket)
}

pub async fn connected() -> (DuplexStream, WebSocket<DuplexStream>) {
    connected_with(Settings::default()).await
}

pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads as much as is expected, within a limit.
pub async fn expect(stream: &mut (impl AsyncRead + Unpin), bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    let reading = stream.read_exact(&mut read);
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read, bytes);
}

// ---- a wire under control ------------------------------------------------------------------------

#[derive(Default)]
pub struct WireState {
    /// What each read of the gateway brings, at most.
    pub input: VecDeque<Vec<u8>>,
    /// Nothing more will come: a read at the end of the input finds the end.
    pub ended: bool,
    pub output: Vec<u8>,
    /// How many bytes each coming write takes; `None` is a write that has to wait. Without an entry
    /// a write takes everything.
    pub writes: VecDeque<Option<usize>>,
    /// Writes fail.
    pub broken: bool,
    pub vectored: bool,
    /// A flush has to wait.
    pub stuck_flush: bool,
    pub flushed: usize,
    pub shut: bool,
    pub reads: usize,
    pub waker: Option<Waker>,
}

/// One end of a connection that behaves as a test has it.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<WireState>>);

impl Wire {
    pub fn with<R>(&self, work: impl FnOnce(&mut WireState) -> R) -> R {
        work(&mut self.0.lock().unwrap())
    }

    pub fn send(&self, bytes: impl Into<Vec<u8>>) {
        self.with(|wire| wire.input.push_back(bytes.into()));
    }

    pub fn end(&self) {
        self.with(|wire| wire.ended = true);
    }

    /// Takes what the gateway has written.
    pub fn sent(&self) -> Vec<u8> {
        self.with(|wire| std::mem::take(&mut wire.output))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|wire| {
            wire.reads += 1;
            let Some(mut chunk) = wire.input.pop_front() else {
                if wire.ended {
                    return Poll::Ready(Ok(()));
                }
                wire.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let rest = chunk.split_off(chunk.len().min(buf.remaining()));
            buf.put_slice(&chunk);
            if !rest.is_empty() {
                wire.input.push_front(rest);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|wire| {
            if wire.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let mut room = match wire.writes.pop_front() {
                None => usize::MAX,
                Some(Some(room)) => room,
                Some(None) => {
                    wire.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            };
            let mut written = 0;
            for buf in bufs.iter().take(if wire.vectored { bufs.len() } else { 1 }) {
                let len = buf.len().min(room);
                wire.output.extend_from_slice(&buf[..len]);
                written += len;
                room -= len;
            }
            Poll::Ready(Ok(written))
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.with(|wire| wire.vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|wire| {
            if wire.stuck_flush {
                return Poll::Pending;
            }
            wire.flushed += 1;
            Poll::Ready(Ok(()))
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|wire| wire.shut = true);
        Poll::Ready(Ok(()))
    }
}

/// A socket on a wire, behind its upgrade.
pub fn wired_with(settings: Settings) -> (Wire, WebSocket<Wire>) {
    let wire = Wire(Arc::default());
    wire.send(good_request());
    wire.with(|wire| wire.vectored = true);
    let socket = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async {
            let upgrader = Upgrader::new(settings);
            upgrader.upgrade(wire.clone(), LOOPBACK).await.unwrap()
        });
    wire.with(|wire| {
        wire.output.clear();
        (wire.flushed, wire.reads) = (0, 0);
    });
    (wire, socket)
}

pub fn wired() -> (Wire, WebSocket<Wire>) {
    wired_with(Settings::default())
}

/// A waker that counts.
#[derive(Default)]
pub struct Woken(pub AtomicUsize);

impl Woken {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn poll_read(
    socket: &mut WebSocket<Wire>,
    cx: &mut Context<'_>,
    room: usize,
) -> Poll<io::Result<Vec<u8>>> {
    let mut bytes = vec![0; room];
    let mut buf = ReadBuf::new(&mut bytes);
    Pin::new(socket)
        .poll_read(cx, &mut buf)
        .map_ok(|()| buf.filled().to_vec())
}

/// One poll with a waker that nobody hears.
pub fn read_once(socket: &mut WebSocket<Wire>, room: usize) -> Poll<io::Result<Vec<u8>>> {
    poll_read(socket, &mut Context::from_waker(Waker::noop()), room)
}

pub fn write_once(socket: &mut WebSocket<Wire>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(socket).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
}

pub fn flush_once(socket: &mut WebSocket<Wire>) -> Poll<io::Result<()>> {
    Pin::new(socket).poll_flush(&mut Context::from_waker(Waker::noop()))
}

pub fn shut_down_once(socket: &mut WebSocket<Wire>) -> Poll<io::Result<()>> {
    Pin::new(socket).poll_shutdown(&mut Context::from_waker(Waker::noop()))
}

/// What a conversation came to on the gateway's side.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The stream was at its end.
    Closed,
    /// Reading failed, with this close code for the client.
    Failed(u16),
}

/// Reads until the end or an error with a buffer of `room` bytes. A flood makes the socket ask for
/// another turn; it has it.
pub fn read_all(socket: &mut WebSocket<Wire>, room: usize) -> (Vec<u8>, End) {
    let mut payload = Vec::new();
    loop {
        match read_once(socket, room) {
            Poll::Pending => {}
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => return (payload, End::Closed),
            Poll::Ready(Ok(bytes)) => payload.extend(bytes),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                let violation = socket.violation().unwrap();
                return (payload, End::Failed(violation.close_code()));
            }
        }
    }
}
